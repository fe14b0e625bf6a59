//! One output layer: its exact size before a byte of it is written, and its bytes.
//!
//! What is untouched is copied as raw blocks, neighbours in one piece; everything else gets new header blocks before
//! its raw content. Both the size and the bytes come from the same decision (`Plan::cast`), taken again each time.

use std::io::{Read as _, Write};
use std::sync::Arc;

use crate::error::{Error, Kind, Result, from_io};
use crate::rootfs::acl::Acl;
use crate::rootfs::tar::{self, Change, Member, SparseMap, TextAcls};
use crate::rootfs::{Entry, EntryKind, Timestamp};

use super::metadata::Metadata;
use super::order::{Part, WHITEOUT};
use super::plan::{Layers, Plan};
use super::report::shown;
use super::tree::{Inode, NONE, ROOT, flag};

/// How much is read and written at once.
const BUFFER: usize = 512 << 10;

/// A range of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    layer: u16,
    start: u64,
    end: u64,
}

/// How an item is written: new header blocks, if any, and then a range of a layer or the bytes of a sparse file.
struct Cast {
    head: Vec<u8>,
    range: Range,
    expanded: Option<Box<Member>>,
}

impl Cast {
    fn new(head: Vec<u8>, range: Range) -> Self {
        Self { head, range, expanded: None }
    }

    /// How many bytes a sparse file has in full.
    fn expanded_bytes(&self) -> Option<u64> {
        self.expanded.as_ref().and_then(|member| member.sparse.as_ref()).map(SparseMap::real_size)
    }

    fn size(&self) -> u64 {
        let expanded = self.expanded_bytes().map_or(0, |size| size + tar::content_padding(size));
        self.head.len() as u64 + (self.range.end - self.range.start) + expanded
    }
}

/// One layer of the result.
pub struct OutputLayer {
    plan: Arc<Plan>,
    part: Part,
    items: Vec<u32>,
    size: u64,
}

impl std::fmt::Debug for OutputLayer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (items, size) = (self.items.len(), self.size);
        formatter.debug_struct("OutputLayer").field("items", &items).field("size", &size).finish_non_exhaustive()
    }
}

/// What an output holds besides bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) guards: u64,
    pub(super) whiteouts: u64,
    pub(super) expanded: u64,
    pub(super) expanded_bytes: u64,
}

impl OutputLayer {
    pub(super) fn plan(plan: &Arc<Plan>, part: Part, layers: Layers<'_>) -> Result<(Self, Tally)> {
        let items = plan.order(part);
        let mut tally = Tally::default();
        let mut size = tar::END.len() as u64;
        for item in &items {
            let cast = plan.cast(layers, *item, part)?;
            size += cast.size();
            if let Some(bytes) = cast.expanded_bytes() {
                tally.expanded += 1;
                tally.expanded_bytes += bytes;
            }
            if item & WHITEOUT != 0 {
                tally.whiteouts += 1;
            } else if part != Part::Content
                && plan
                    .tree
                    .inode_of(*item)
                    .is_some_and(|inode| inode.flags & flag::GUARD != 0 && inode.carrier == *item)
            {
                tally.guards += 1;
            }
        }
        Ok((Self { plan: Arc::clone(plan), part, items, size }, tally))
    }

    /// How many bytes [`Self::write`] writes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// How many entries it has.
    pub fn entries(&self) -> usize {
        self.items.len()
    }

    /// Writes the layer: an uncompressed tar. `layers` are those that were scanned.
    pub fn write(&self, layers: &[Arc<dyn crate::rootfs::ReadAt>], out: &mut dyn Write) -> Result<()> {
        let mut copier = Copier { layers, out, buffer: vec![0; BUFFER], pending: None, written: 0 };
        for item in &self.items {
            let cast = self.plan.cast(layers, *item, self.part)?;
            copier.bytes(&cast.head)?;
            copier.range(cast.range)?;
            if let Some(member) = &cast.expanded {
                let layer = self.plan.tree.inode_of(*item).map_or(0, |inode| inode.layer);
                copier.expanded(layer, member)?;
            }
        }
        copier.bytes(&tar::END)?;
        if copier.written != self.size {
            return Err(Error::new(
                Kind::Corrupt,
                format!("the merged layer came out as {} bytes instead of {}", copier.written, self.size),
            )
            .hint("a source changed while it was read"));
        }
        Ok(())
    }
}

/// Writes ranges of layers, neighbours in one piece.
struct Copier<'a> {
    layers: Layers<'a>,
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    pending: Option<Range>,
    written: u64,
}

impl Copier<'_> {
    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.flush()?;
        self.written += bytes.len() as u64;
        self.out.write_all(bytes).map_err(|error| from_io(error, || "the merged layer cannot be written".to_owned()))
    }

    fn range(&mut self, range: Range) -> Result<()> {
        if range.start == range.end {
            return Ok(());
        }
        if let Some(pending) = &mut self.pending
            && pending.layer == range.layer
            && pending.end == range.start
        {
            pending.end = range.end;
            return Ok(());
        }
        self.flush()?;
        self.pending = Some(range);
        Ok(())
    }

    /// Writes a sparse file's bytes, zeros among them, and the padding.
    fn expanded(&mut self, layer: u16, member: &Member) -> Result<()> {
        self.flush()?;
        let mut content = tar::content(&*self.layers[layer as usize], member);
        loop {
            let count = content
                .read(&mut self.buffer)
                .map_err(|error| from_io(error, || format!("layer {} cannot be read", layer + 1)))?;
            if count == 0 {
                break;
            }
            self.written += count as u64;
            self.out
                .write_all(&self.buffer[..count])
                .map_err(|error| from_io(error, || "the merged layer cannot be written".to_owned()))?;
        }
        let padding = tar::content_padding(content.size());
        self.bytes(&tar::END[..usize::try_from(padding).unwrap_or_default()])
    }

    fn flush(&mut self) -> Result<()> {
        let Some(Range { layer, mut start, end }) = self.pending.take() else { return Ok(()) };
        while start < end {
            let count = usize::try_from(end - start).unwrap_or(usize::MAX).min(self.buffer.len());
            let buffer = &mut self.buffer[..count];
            self.layers[layer as usize]
                .read_exact_at(buffer, start)
                .map_err(|error| from_io(error, || format!("layer {} cannot be read at byte {start}", layer + 1)))?;
            self.out
                .write_all(buffer)
                .map_err(|error| from_io(error, || "the merged layer cannot be written".to_owned()))?;
            start += count as u64;
            self.written += count as u64;
        }
        Ok(())
    }
}

impl Plan {
    /// How an item is written.
    fn cast(&self, layers: Layers<'_>, item: u32, part: Part) -> Result<Cast> {
        if item & WHITEOUT != 0 {
            return Ok(Cast::new(self.whiteout(item & !WHITEOUT), NOTHING));
        }
        let id = self.tree.node(item).inode;
        let inode = *self.tree.inode(id);
        if inode.flags & flag::SYNTHESISED != 0 {
            return Ok(Cast::new(self.synthesised(item, &inode, part), NOTHING));
        }
        if item != inode.carrier {
            return self.cast_link(layers, item, part);
        }
        let whole = Range { layer: inode.layer, start: inode.header, end: inode.header + inode.length };
        let original = self.tree.node(item).link == NONE;
        let copied = flag::VERBATIM | if self.options.keep_sparse { 0 } else { flag::SPARSE };
        if inode.flags & copied == flag::VERBATIM && original && !self.is_special(id) {
            return Ok(Cast::new(Vec::new(), whole));
        }
        let member = self.member(layers, &inode)?;
        let metadata = self.written(id, &member, part)?;
        let path = if original { member.entry.path.clone() } else { self.tree.path(item) };
        match self.change(&member, path, None, &metadata)? {
            None => Ok(Cast::new(Vec::new(), whole)),
            Some(change) => {
                let head = tar::rewrite(&*layers[inode.layer as usize], &member, &change)?;
                if change.expand {
                    return Ok(Cast { head, range: NOTHING, expanded: Some(Box::new(member)) });
                }
                Ok(Cast::new(head, Range { start: member.span.data, ..whole }))
            }
        }
    }

    /// A further name of something: with all of its metadata, since engines apply those of the last name.
    fn cast_link(&self, layers: Layers<'_>, item: u32, part: Part) -> Result<Cast> {
        let node = *self.tree.node(item);
        let inode = *self.tree.inode(node.inode);
        let carrier = self.member(layers, &inode)?;
        let metadata = self.written(node.inode, &carrier, part)?;
        let target = self.tree.path(inode.carrier);
        let Some(link) = self.tree.links.get(node.link as usize).copied() else {
            // The content came with this name and is carried by another: no header says that this one is a link.
            let entry = metadata.entry(self.tree.path(item), EntryKind::Hardlink { target });
            return Ok(Cast::new(tar::encode(&entry, None, self.options.text_acls), NOTHING));
        };
        let member = self.link(layers, &link)?;
        let path = member.entry.path.clone();
        match self.change(&member, path, Some(target), &metadata)? {
            None => {
                let range = Range { layer: link.layer, start: link.header, end: link.header + link.length };
                Ok(Cast::new(Vec::new(), range))
            }
            Some(change) => {
                let head = tar::rewrite(&*layers[link.layer as usize], &member, &change)?;
                Ok(Cast::new(head, NOTHING))
            }
        }
    }

    /// The metadata that stand in an output.
    fn written(&self, inode: u32, member: &Member, part: Part) -> Result<Metadata> {
        let mut metadata = self.metadata(inode, member)?;
        let Inode { flags, form, .. } = *self.tree.inode(inode);
        if part == Part::Content && flags & flag::EXTENDED != 0 {
            return metadata.plain(&member.entry.path);
        }
        if part != Part::Content && flags & flag::GUARD != 0 {
            metadata.guard(form);
        }
        Ok(metadata)
    }

    /// What must be changed in a header; nothing if its raw blocks say it all.
    fn change(
        &self,
        member: &Member,
        path: Vec<u8>,
        target: Option<Vec<u8>>,
        wanted: &Metadata,
    ) -> Result<Option<Change>> {
        let entry = &member.entry;
        let mut into = wanted.clone().entry(path, entry.kind.clone());
        if let (EntryKind::Hardlink { target: old }, Some(target)) = (&mut into.kind, target) {
            *old = target;
        }
        let mut change = Change::between(entry, &into).ok_or_else(|| {
            Error::new(Kind::Conflict, format!("`{}` is not what it was when it was scanned", shown(&entry.path)))
                .hint("a source changed while it was read")
        })?;
        let texts = self.texts(wanted, &entry.path)?;
        change.expand = member.sparse.is_some() && !self.options.keep_sparse;
        if member.verbatim && change == Change::default() && member.text_acls == texts {
            return Ok(None);
        }
        change.text_acls = Some(texts.unwrap_or_default());
        Ok(Some(change))
    }

    /// The ACLs as text, if they are asked for: those that say something.
    fn texts(&self, wanted: &Metadata, path: &[u8]) -> Result<Option<TextAcls>> {
        if !self.options.text_acls {
            return Ok(None);
        }
        let (access, default) = wanted.acls(path)?;
        let text = |acl: Option<Acl>| acl.map(|acl| acl.to_text().into_bytes());
        let texts = TextAcls { access: text(access), default: text(default) };
        Ok((texts != TextAcls::default()).then_some(texts))
    }

    fn synthesised(&self, node: u32, inode: &Inode, part: Part) -> Vec<u8> {
        let mut metadata = Metadata::synthesised();
        if part != Part::Content && inode.flags & flag::GUARD != 0 {
            metadata.guard(inode.form);
        }
        tar::encode(&metadata.entry(self.tree.path(node), EntryKind::Directory), None, false)
    }

    fn whiteout(&self, node: u32) -> Vec<u8> {
        let mut path = self.tree.path(self.tree.node(node).parent);
        if self.tree.node(node).parent != ROOT {
            path.push(b'/');
        }
        path.extend_from_slice(b".wh.");
        path.extend_from_slice(self.tree.name(node));
        let kind = EntryKind::File { size: 0 };
        let (mtime, xattrs) = (Timestamp::default(), std::collections::BTreeMap::new());
        tar::encode(&Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime, xattrs }, None, false)
    }
}

/// No bytes of any layer.
const NOTHING: Range = Range { layer: 0, start: 0, end: 0 };
