//! The tar of what a flavour takes: every byte of it follows from the tree, and from nothing else.
//!
//! Entries in the order of their paths, numeric owners without names, whole seconds no later than a limit, neither
//! access nor change times. ACLs are binary records, which container engines restore, and text records, which GNU tar
//! restores. Below a directory with a default ACL every entry says that it has none of its own, since whoever unpacks
//! would otherwise let the kernel hand the directory's down.

use crate::error::Result;
use crate::release::chosen::{Chosen, Pick};
use crate::release::tree::Tree;
use crate::rootfs::acl::{Acl, EMPTY_DEFAULT};
use crate::rootfs::tar::{self, SparseMap};
use crate::rootfs::{Canonical, Entry, EntryKind, Timestamp, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};
use crate::vocab::Digest;

/// How much is read and written at once.
const BUFFER: usize = 512 << 10;

/// A text that goes in besides what the tree has.
pub(super) struct Extra {
    pub(super) entry: Entry,
    pub(super) text: Vec<u8>,
}

/// What is to be written.
pub(super) struct Tarball<'a> {
    tree: &'a Tree,
    /// No time in the archive is later than this second.
    limit: i64,
    members: Vec<Member<'a>>,
}

#[derive(Clone, Copy)]
enum Member<'a> {
    Picked(Pick),
    Extra(&'a Extra),
}

/// A member as it is written.
struct Written {
    /// As the tree has it, with the time that is written.
    entry: Entry,
    head: Vec<u8>,
    runs: Vec<(u64, u64, u64)>,
    sparse: Option<SparseMap>,
}

impl Written {
    fn stored(&self) -> u64 {
        self.runs.iter().map(|(_, _, length)| length).sum()
    }
}

/// Takes what is written.
pub(super) type Out<'a> = dyn FnMut(&[u8]) -> Result<()> + 'a;

impl<'a> Tarball<'a> {
    pub(super) fn new(tree: &'a Tree, chosen: &Chosen, extras: &'a [Extra], limit: i64) -> Self {
        let picked = chosen.picks.iter().map(|pick| (tree.entry(pick.item).path, Member::Picked(*pick)));
        let extra = extras.iter().map(|extra| (extra.entry.path.clone(), Member::Extra(extra)));
        let mut members: Vec<(Vec<u8>, Member<'a>)> = picked.chain(extra).collect();
        members
            .sort_by(|(left, _), (right, _)| left.split(|byte| *byte == b'/').cmp(right.split(|byte| *byte == b'/')));
        // The root's empty path has one empty component and comes first.
        Self { tree, limit, members: members.into_iter().map(|(_, member)| member).collect() }
    }

    /// The exact number of bytes that [`Tarball::write`] writes.
    pub(super) fn size(&self) -> u64 {
        let mut parents = Parents::default();
        let sizes = self.members.iter().map(|member| {
            let written = self.written(*member, &mut parents);
            let stored = match member {
                Member::Picked(_) => written.stored(),
                Member::Extra(extra) => extra.text.len() as u64,
            };
            written.head.len() as u64 + stored + tar::content_padding(stored)
        });
        sizes.sum::<u64>() + tar::END.len() as u64
    }

    /// Writes the tar; the canonical digest of the tree in it.
    pub(super) fn write(&self, out: &mut Out<'_>) -> Result<Digest> {
        let mut parents = Parents::default();
        let mut buffer = vec![0; BUFFER];
        let mut canonical = Canonical::new();
        for member in &self.members {
            let written = self.written(*member, &mut parents);
            out(&written.head)?;
            canonical.begin(&written.entry);
            let stored = match member {
                Member::Extra(extra) => {
                    out(&extra.text)?;
                    canonical.content(&extra.text);
                    extra.text.len() as u64
                }
                Member::Picked(pick) => {
                    self.content(*pick, &written, &mut buffer, &mut canonical, out)?;
                    written.stored()
                }
            };
            canonical.end(&written.entry);
            out(&tar::END[..usize::try_from(tar::content_padding(stored)).unwrap_or_default()])?;
        }
        out(&tar::END)?;
        Ok(canonical.digest())
    }

    /// The canonical digest of the tree without a tar of it.
    pub(super) fn digest(&self, glance: &mut dyn FnMut(u64)) -> Result<Digest> {
        self.write(&mut |bytes| {
            glance(bytes.len() as u64);
            Ok(())
        })
    }

    fn content(
        &self,
        pick: Pick,
        written: &Written,
        buffer: &mut [u8],
        canonical: &mut Canonical,
        out: &mut Out<'_>,
    ) -> Result<()> {
        let mut place = 0;
        for (position, offset, length) in &written.runs {
            canonical.zeros(position - place);
            let mut done = 0;
            while done < *length {
                let count = usize::try_from(length - done).unwrap_or(BUFFER).min(BUFFER);
                self.tree.read(pick.inode, &mut buffer[..count], offset + done)?;
                canonical.content(&buffer[..count]);
                out(&buffer[..count])?;
                done += count as u64;
            }
            place = position + length;
        }
        if let (EntryKind::File { size }, Some(_)) = (&written.entry.kind, &written.sparse) {
            canonical.zeros(size - place);
        }
        Ok(())
    }

    fn written(&self, member: Member<'_>, parents: &mut Parents) -> Written {
        let (entry, runs, sparse) = match member {
            Member::Extra(extra) => (extra.entry.clone(), Vec::new(), None),
            Member::Picked(pick) => self.picked(pick),
        };
        let mut entry = entry;
        entry.mtime = Timestamp { seconds: entry.mtime.seconds.min(self.limit), nanoseconds: 0 };
        let says_more = entry.xattrs.contains_key(XATTR_ACL_ACCESS) || entry.xattrs.contains_key(XATTR_ACL_DEFAULT);
        let mut guarded = entry.clone();
        if parents.hand_down(&entry) {
            guard(&mut guarded);
        }
        let head = tar::encode(&guarded, sparse.as_ref(), says_more);
        Written { entry, head, runs, sparse }
    }

    /// An entry with its inode's metadata: engines apply those of the last name to it.
    fn picked(&self, pick: Pick) -> (Entry, Vec<(u64, u64, u64)>, Option<SparseMap>) {
        let path = self.tree.entry(pick.item).path;
        let mut placed = self.tree.placed(pick.inode);
        placed.entry.path = path;
        if let Some(target) = pick.link_to {
            placed.entry.kind = EntryKind::Hardlink { target: self.tree.entry(target).path };
            return (placed.entry, Vec::new(), None);
        }
        let runs = placed.runs();
        (placed.entry, runs, placed.sparse)
    }
}

/// The directories on the way to the entry at hand, and which of them hand an ACL down.
#[derive(Default)]
struct Parents(Vec<(Vec<u8>, bool)>);

impl Parents {
    /// Whether the entry's directory hands an ACL down; a directory becomes one of those on the way.
    fn hand_down(&mut self, entry: &Entry) -> bool {
        let parent = match entry.path.iter().rposition(|byte| *byte == b'/') {
            Some(at) => Some(&entry.path[..at]),
            None if entry.path.is_empty() => None,
            None => Some(&entry.path[..0]),
        };
        while self.0.last().is_some_and(|(path, _)| !is_above(path, &entry.path)) {
            self.0.pop();
        }
        let handed = self.0.last().is_some_and(|(path, hands)| *hands && Some(path.as_slice()) == parent);
        if entry.kind == EntryKind::Directory {
            let hands = entry.xattrs.get(XATTR_ACL_DEFAULT).is_some_and(|value| **value != EMPTY_DEFAULT);
            self.0.push((entry.path.clone(), hands));
        }
        handed
    }
}

fn is_above(folder: &[u8], path: &[u8]) -> bool {
    folder.is_empty() && !path.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}

/// Says what the kernel would otherwise make up.
fn guard(entry: &mut Entry) {
    if matches!(entry.kind, EntryKind::Symlink { .. }) {
        return;
    }
    let mode = entry.mode;
    entry.xattrs.entry(XATTR_ACL_ACCESS.to_vec()).or_insert_with(|| Acl::from_mode(mode).to_xattr());
    if entry.kind == EntryKind::Directory {
        entry.xattrs.entry(XATTR_ACL_DEFAULT.to_vec()).or_insert_with(|| EMPTY_DEFAULT.to_vec());
    }
}
