//! One layer's entries, in their order, applied to the tree: marks, implied parents, duplicates, hard links.
//!
//! Marks (`.wh.NAME`, `.wh..wh..opq`) act on lower layers only, wherever they stand among their siblings. A path that
//! leads through something that is no directory makes it one, as engines do. A hard link means what its target is at
//! that point of the layer; a target that comes later in the same layer is waited for.

use crate::error::{Error, Kind, Result};
use crate::rootfs::acl::{Acl, EMPTY_DEFAULT};
use crate::rootfs::tar::Member;
use crate::rootfs::{EntryKind, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};

use super::report::{FlattenReport, LayerSummary, shown};
use super::tree::{Form, Inode, Link, NONE, ROOT, Tree, components, flag};

const MARK: &[u8] = b".wh.";
const METADATA: &[u8] = b".wh..wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// The most bytes of paths that hard links may wait for.
const WAITING: usize = 64 << 20;

/// Whether names that begin with `.wh.` delete, or are names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// An image's layer: they delete.
    Layer,
    /// A root filesystem: engines would take them for deletions, so they are refused.
    Tree,
}

/// A hard link whose target has not come yet. Until then its name stands for a placeholder, so that whatever comes
/// behind it replaces it as it would replace anything.
struct Waiting {
    node: u32,
    placeholder: u32,
    target: Vec<u8>,
    link: Link,
}

/// One layer under application.
pub(super) struct Application<'a> {
    pub(super) tree: &'a mut Tree,
    pub(super) report: &'a mut FlattenReport,
    pub(super) summary: LayerSummary,
    layer: u16,
    source: Source,
    /// Whether the layer lies above the base, so that what it changes is new.
    above: bool,
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    /// Directories that it used as parents.
    used: Vec<u32>,
    /// Directories that it deleted.
    deleted: Vec<u32>,
}

impl<'a> Application<'a> {
    pub(super) fn new(tree: &'a mut Tree, report: &'a mut FlattenReport, layer: u16, source: Source) -> Self {
        Self {
            tree,
            report,
            summary: LayerSummary::default(),
            layer,
            source,
            above: false,
            waiting: Vec::new(),
            waiting_bytes: 0,
            used: Vec::new(),
            deleted: Vec::new(),
        }
    }

    /// The same for a layer above the base.
    pub(super) fn above(mut self, above: bool) -> Self {
        self.above = above;
        self
    }

    /// Applies the next entry.
    pub(super) fn apply(&mut self, member: &Member) -> Result<()> {
        self.summary.entries += 1;
        let path = &member.entry.path;
        if let Some(at) = components(path).position(|name| name.starts_with(MARK)) {
            return self.mark(path, at);
        }
        match &member.entry.kind {
            EntryKind::Hardlink { target } => self.hard_link(member, target),
            EntryKind::Directory => self.place(member, Form::Directory),
            EntryKind::Symlink { .. } => self.place(member, Form::Symlink),
            EntryKind::File { .. } | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo => {
                self.place(member, Form::Other)
            }
        }
    }

    /// A path whose component number `at` begins with `.wh.`.
    fn mark(&mut self, path: &[u8], at: usize) -> Result<()> {
        if self.source == Source::Tree {
            return Err(Error::new(
                Kind::Refused,
                format!("`{}` has a name that engines take for a deletion", shown(path)),
            )
            .hint("an image layer cannot hold names that begin with `.wh.`: rename or remove the file"));
        }
        let names: Vec<&[u8]> = components(path).collect();
        let (parent, name) = (&names[..at], names[at]);
        let last = at + 1 == names.len();
        if name.starts_with(METADATA) && !(last && name == OPAQUE) {
            self.summary.metadata += 1;
            return Ok(());
        }
        let hidden = &name[MARK.len()..];
        if !last || matches!(hidden, b"" | b"." | b"..") {
            return Err(Error::new(
                Kind::Corrupt,
                format!("the whiteout `{}` names nothing that can be deleted", shown(path)),
            ));
        }
        let opaque = name == OPAQUE;
        if opaque {
            self.summary.opaques += 1;
        } else {
            self.summary.whiteouts += 1;
        }
        let Some(parent) = self.tree.find(&parent.join(&b'/')).filter(|parent| self.tree.is_directory(*parent)) else {
            return Ok(());
        };
        self.touch(parent);
        if opaque {
            return self.tree.purge(parent, self.layer);
        }
        let Some(node) = self.tree.child(parent, hidden).filter(|node| self.tree.alive(*node)) else { return Ok(()) };
        if self.tree.is_directory(node) {
            self.deleted.push(node);
            self.tree.purge(node, self.layer)?;
        }
        self.tree.forget_lower(node, self.layer)
    }

    /// The directory that holds this path, made where nothing is and where something else stands in the way.
    fn parent(&mut self, names: &[&[u8]]) -> Result<u32> {
        let mut at = ROOT;
        for name in names {
            let node = self.tree.slot(at, name)?;
            if !self.tree.alive(node) {
                self.tree.synthesise(node, self.layer)?;
            } else if !self.tree.is_directory(node) {
                let (tree, layer) = (&*self.tree, self.layer);
                self.report.warn(|| {
                    format!(
                        "`{}` is no directory, but layer {} has entries below it: a directory takes its place, as in engines",
                        shown(&tree.path(node)),
                        layer + 1
                    )
                });
                self.tree.synthesise(node, self.layer)?;
            }
            at = node;
        }
        self.touch(at);
        Ok(at)
    }

    /// Notes that this layer uses a directory and all above it.
    fn touch(&mut self, directory: u32) {
        let mut at = directory;
        while at != ROOT && self.tree.node(at).touched != self.layer + 1 {
            self.tree.node_mut(at).touched = self.layer + 1;
            self.used.push(at);
            at = self.tree.node(at).parent;
        }
    }

    /// The node for an entry at this path, its parents made.
    fn slot(&mut self, path: &[u8]) -> Result<u32> {
        let names: Vec<&[u8]> = components(path).collect();
        let Some((name, parents)) = names.split_last() else { return Ok(ROOT) };
        let parent = self.parent(parents)?;
        self.tree.slot(parent, name)
    }

    fn place(&mut self, member: &Member, form: Form) -> Result<()> {
        let node = self.slot(&member.entry.path)?;
        if node == ROOT && form != Form::Directory {
            return Err(Error::new(Kind::Corrupt, "the entry of `/` is no directory"));
        }
        let inode = self.tree.add_inode(Inode {
            header: member.span.header,
            length: member.span.end() - member.span.header,
            links: NONE,
            carrier: NONE,
            layer: self.layer,
            flags: flags(member)?,
            form,
        })?;
        if node == ROOT {
            let root = self.tree.node_mut(ROOT);
            root.inode = inode;
            root.layer = self.layer;
            return Ok(());
        }
        self.tree.set(node, inode, NONE, self.layer);
        Ok(())
    }

    fn hard_link(&mut self, member: &Member, target: &[u8]) -> Result<()> {
        let path = &member.entry.path;
        let link = Link {
            header: member.span.header,
            length: member.span.end() - member.span.header,
            previous: NONE,
            layer: self.layer,
            flags: flags(member)?,
        };
        if let Some(found) = self.target(path, target)? {
            if self.tree.node(found).layer < self.layer {
                self.report.warn(|| {
                    format!(
                        "the hard link `{}` points to `{}` of a lower layer, which engines refuse",
                        shown(path),
                        shown(target)
                    )
                });
            }
            return self.attach(path, found, link, true);
        }
        self.waiting_bytes += target.len() + size_of::<Waiting>();
        if self.waiting_bytes > WAITING {
            return Err(Error::new(Kind::Limit, "too many hard links come before what they point to"));
        }
        let node = self.slot(path)?;
        let placeholder = self.tree.add_inode(Inode {
            header: link.header,
            length: 0,
            links: NONE,
            carrier: NONE,
            layer: self.layer,
            flags: flag::PLACEHOLDER,
            form: Form::Other,
        })?;
        self.tree.set(node, placeholder, NONE, self.layer);
        self.waiting.push(Waiting { node, placeholder, target: target.to_vec(), link });
        Ok(())
    }

    /// What a hard link points to, if it is there.
    fn target(&self, path: &[u8], target: &[u8]) -> Result<Option<u32>> {
        let problem = |problem: &str| {
            Error::new(
                Kind::Corrupt,
                format!("the hard link `{}` points to `{}`, {problem}", shown(path), shown(target)),
            )
        };
        if path.is_empty() {
            return Err(problem("but `/` cannot be a link"));
        }
        match self.tree.find(target) {
            Some(found) if self.tree.is_directory(found) => Err(problem("a directory")),
            found => {
                let placeholder =
                    |node: &u32| self.tree.inode_of(*node).is_some_and(|inode| inode.flags & flag::PLACEHOLDER != 0);
                Ok(found.filter(|node| !placeholder(node)))
            }
        }
    }

    /// Makes `path` a name of what `target` is. What the link's header says of mode, owner and time is taken over if
    /// it came after the content, as engines do.
    fn attach(&mut self, path: &[u8], target: u32, mut link: Link, after: bool) -> Result<()> {
        let inode = self.tree.node(target).inode;
        let node = self.slot(path)?;
        link.previous = self.tree.inode(inode).links;
        let number = self.tree.add_link(link)?;
        if after {
            self.tree.inode_mut(inode).links = number;
        }
        if self.above {
            self.tree.inode_mut(inode).flags |= flag::CHANGED;
        }
        // A name that links to itself stays what it is.
        let own = *self.tree.node(node);
        let keep = if own.inode == inode { own.link } else { number };
        self.tree.set(node, inode, keep, self.layer);
        Ok(())
    }

    /// Ends the layer: resolves the links that waited, counts what it left to lower layers.
    pub(super) fn end(mut self) -> Result<LayerSummary> {
        for waiting in std::mem::take(&mut self.waiting) {
            let Waiting { node, placeholder, target, link } = waiting;
            if self.tree.node(node).inode != placeholder {
                continue;
            }
            let path = self.tree.path(node);
            let Some(found) = self.target(&path, &target)? else {
                let (path, target, layer) = (shown(&path), shown(&target), self.layer + 1);
                return Err(Error::new(
                    Kind::Corrupt,
                    format!("the hard link `{path}` points to `{target}`, which is neither in layer {layer} nor below"),
                ));
            };
            self.attach(&path, found, link, false)?;
        }
        let lower = |node: &&u32| self.tree.alive(**node) && self.tree.node(**node).layer < self.layer;
        self.summary.implied_parents = self.used.iter().filter(lower).count() as u64;
        for node in &self.deleted {
            if self.tree.alive(*node) && self.tree.is_directory(*node) {
                let (tree, layer) = (&*self.tree, self.layer);
                self.report.warn(|| {
                    format!(
                        "layer {} deletes `{}` and makes it anew: its lower content is gone, though engines let it reappear",
                        layer + 1,
                        shown(&tree.path(*node))
                    )
                });
            }
        }
        Ok(self.summary)
    }
}

/// What is to be known of a header without reading it again.
fn flags(member: &Member) -> Result<u16> {
    let entry = &member.entry;
    let mut flags = if member.verbatim { flag::VERBATIM } else { 0 };
    for name in [XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT] {
        let Some(value) = entry.xattrs.get(name) else { continue };
        flags |= flag::ACL;
        if !value.is_empty() && *value != EMPTY_DEFAULT {
            Acl::from_xattr(value).map_err(|error| {
                let name = String::from_utf8_lossy(name);
                Error::new(Kind::Corrupt, format!("`{}` of `{}` is no ACL", name, shown(&entry.path))).caused_by(error)
            })?;
        }
    }
    if let Some(text) = &member.text_acls {
        flags |= flag::ACL;
        let missing = |name, text: &Option<Vec<u8>>| text.is_some() && !entry.xattrs.contains_key(name);
        if missing(XATTR_ACL_ACCESS, &text.access) || missing(XATTR_ACL_DEFAULT, &text.default) {
            flags |= flag::TEXT;
        }
    }
    if member.sparse.is_some() {
        flags |= flag::SPARSE;
    }
    if entry.kind == (EntryKind::CharDevice { major: 0, minor: 0 }) {
        flags |= flag::ZERO_DEVICE;
    }
    Ok(flags)
}
