//! A container as one tree: its folder with the root filesystem in it, or the root filesystem alone.
//!
//! Two walks in one order: the folder's entries keep the host's ids, those of the root filesystem become the
//! container's own, since a released image must not depend on the ids of the host it was made on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::flavour::Root;
use super::names::{self, Names};
use super::roots::Roots;
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::rootfs::walk::{DirectoryLayer, Placed, WalkOptions, WalkReport};
use crate::rootfs::{Entry, EntryKind, Limits, ReadAt as _, Timestamp};
use crate::vocab::Value;

/// An entry of a tree, in the order of its paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Item {
    part: usize,
    number: u32,
}

/// A walked directory at its place in the tree.
#[derive(Clone)]
struct Part {
    walked: Arc<Walked>,
    prefix: &'static [u8],
}

impl Part {
    /// The entry with its path in the whole tree.
    fn placed_below(&self, mut entry: Entry) -> Entry {
        if !self.prefix.is_empty() {
            entry.path = below(self.prefix, &entry.path);
            if let EntryKind::Hardlink { target } = &mut entry.kind {
                *target = below(self.prefix, target);
            }
        }
        entry
    }
}

struct Walked {
    layer: DirectoryLayer,
    report: WalkReport,
    /// The first names of inodes that have several.
    first_names: BTreeMap<Vec<u8>, u32>,
    /// Their numbers.
    linked: BTreeSet<u32>,
}

impl Walked {
    fn new((layer, report): (DirectoryLayer, WalkReport)) -> Arc<Self> {
        let entries = || (0..layer.count()).map(|number| (number, layer.entry(number)));
        let targets: BTreeSet<Vec<u8>> = entries()
            .filter_map(|(_, entry)| match entry.kind {
                EntryKind::Hardlink { target } => Some(target),
                _ => None,
            })
            .collect();
        let first =
            entries().filter(|(_, entry)| targets.contains(&entry.path)).map(|(number, entry)| (entry.path, number));
        let first_names: BTreeMap<Vec<u8>, u32> = if targets.is_empty() { BTreeMap::new() } else { first.collect() };
        let linked = first_names.values().copied().collect();
        Arc::new(Self { layer, report, first_names, linked })
    }
}

/// A container's files, walked: what each is, and how its content is read.
pub struct Tree {
    root: Root,
    parts: Vec<Part>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Tree").field("root", &self.root).field("entries", &self.count()).finish_non_exhaustive()
    }
}

impl Tree {
    /// Walks a container from this root on.
    pub fn walk(roots: &Roots, root: Root, limits: Limits, progress: &Progress) -> Result<Self> {
        let mut parts = Vec::new();
        if root == Root::Container {
            let leave_out: BTreeSet<Vec<u8>> = roots.inside().into_iter().collect();
            let options = WalkOptions { leave_out, ..WalkOptions::default() };
            let walked = Walked::new(DirectoryLayer::open(&roots.folder, &options, limits, progress)?);
            parts.push(Part { walked, prefix: b"" });
        }
        let options = WalkOptions { idmap: roots.idmap.clone(), ..WalkOptions::default() };
        let walked = Walked::new(DirectoryLayer::open(&roots.rootfs, &options, limits, progress)?);
        parts.push(Part { walked, prefix: root.prefix() });
        let tree = Self { root, parts };
        tree.refuse_gaps()?;
        Ok(tree)
    }

    /// What cannot be read cannot be released: an image that lacks something must not pass for a whole one.
    fn refuse_gaps(&self) -> Result<()> {
        for Walked { report, .. } in self.parts.iter().map(|part| &*part.walked) {
            let gaps = [
                (&report.unreadable, Kind::Refused, "cannot be read", "run castoff as root"),
                (&report.vanished, Kind::Conflict, "vanished while it was read", "stop what writes into the container"),
            ];
            for (findings, kind, why, hint) in gaps {
                if let Some(first) = findings.lines().first() {
                    let rest = findings.total - 1;
                    let more = if rest == 0 { String::new() } else { format!(" (and {rest} more)") };
                    return Err(Error::new(kind, format!("`{first}` {why}{more}")).hint(hint));
                }
            }
        }
        Ok(())
    }

    /// The root filesystem of a container's tree as a tree of its own.
    pub(super) fn seen_from(&self, root: Root) -> Self {
        let mut parts = self.parts.clone();
        if root == Root::Rootfs
            && let Some(rootfs) = parts.pop()
        {
            parts = vec![Part { prefix: b"", ..rootfs }];
        }
        Self { root, parts }
    }

    /// Where its paths begin.
    pub fn root(&self) -> Root {
        self.root
    }

    /// How many entries it has.
    pub fn count(&self) -> u64 {
        self.parts.iter().map(|part| u64::from(part.walked.layer.count())).sum()
    }

    /// Bytes of all files, holes included.
    pub fn content_bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.walked.report.content_bytes).sum()
    }

    /// What the walks of folder and root filesystem found by the way.
    pub fn report(&self) -> Value {
        Value::map(self.parts.iter().map(|part| {
            let name = if self.root == Root::Container && part.prefix.is_empty() { "folder" } else { "rootfs" };
            (name, part.walked.report.to_value())
        }))
    }

    /// Whether anything in it would look different through an overlay: marks of overlayfs, other file systems.
    pub(super) fn resists_overlay(&self) -> Option<&'static str> {
        let report = &self.parts.last()?.walked.report;
        if !report.mounts.is_empty() {
            return Some("file systems are mounted in it");
        }
        if report.xattrs_held_back.lines().iter().any(|line| line.contains(".overlay.")) {
            return Some("it has marks of overlayfs");
        }
        let whiteout = EntryKind::CharDevice { major: 0, minor: 0 };
        self.items()
            .any(|item| self.entry(item).kind == whiteout)
            .then_some("it has devices 0:0, whiteouts to overlayfs")
    }

    /// Every entry in the order of paths, a directory before what is in it.
    pub fn items(&self) -> impl Iterator<Item = Item> + '_ {
        // Of the folder, what sorts before `rootfs`, then the root filesystem, then the rest.
        let cut = match self.parts.as_slice() {
            [folder, _] => (0..folder.walked.layer.count())
                .find(|number| {
                    folder.walked.layer.entry(*number).path.split(|byte| *byte == b'/').next() > Some(b"rootfs")
                })
                .unwrap_or(folder.walked.layer.count()),
            _ => 0,
        };
        let last = self.parts.len() - 1;
        let all = |part: usize, range: std::ops::Range<u32>| range.map(move |number| Item { part, number });
        let rest = if last == 0 { 0..0 } else { cut..self.parts[0].walked.layer.count() };
        all(0, 0..cut).chain(all(last, 0..self.parts[last].walked.layer.count())).chain(all(0, rest))
    }

    /// What an entry is, with its path in this tree.
    pub fn entry(&self, item: Item) -> Entry {
        let part = &self.parts[item.part];
        part.placed_below(part.walked.layer.entry(item.number))
    }

    /// The entry that holds an entry's inode: another one where this is a further name.
    pub(super) fn inode(&self, item: Item) -> Item {
        let part = &self.parts[item.part].walked;
        match part.layer.entry(item.number).kind {
            // Names come in order, and the first one holds the inode.
            EntryKind::Hardlink { target } => {
                let number = part.first_names.get(&target).copied().unwrap_or(item.number);
                Item { number, ..item }
            }
            _ => item,
        }
    }

    /// Whether an entry's inode has several names in the tree.
    pub(super) fn has_names(&self, item: Item) -> bool {
        let part = &self.parts[item.part].walked;
        part.linked.contains(&item.number) || self.inode(item) != item
    }

    /// What an entry is, with where its file's bytes are, for [`Tree::read`].
    pub(super) fn placed(&self, item: Item) -> Placed {
        let part = &self.parts[item.part];
        let placed = part.walked.layer.placed(item.number);
        Placed { entry: part.placed_below(placed.entry), ..placed }
    }

    /// Fills the buffer with an entry's stored bytes.
    pub(super) fn read(&self, item: Item, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.parts[item.part]
            .walked
            .layer
            .read_exact_at(buffer, offset)
            .map_err(|error| crate::error::from_io(error, || "cannot read from the tree".to_owned()))
    }

    /// The content of a small file; none when it has more bytes than `limit`.
    pub(super) fn small_file(&self, item: Item, limit: u64) -> Result<Option<Vec<u8>>> {
        let placed = self.placed(item);
        let EntryKind::File { size } = placed.entry.kind else { return Ok(None) };
        if size > limit {
            return Ok(None);
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        for (position, offset, length) in placed.runs() {
            let start = usize::try_from(position).unwrap_or_default();
            let end = start + usize::try_from(length).unwrap_or_default();
            self.read(item, &mut bytes[start..end], offset)?;
        }
        Ok(Some(bytes))
    }

    /// The names of the tree, for patterns.
    pub(super) fn names(&self) -> Names {
        let mut names = Names::new();
        for item in self.items() {
            let entry = self.entry(item);
            let what = match &entry.kind {
                EntryKind::Directory => names::Entry::Directory,
                EntryKind::Symlink { target } => names::Entry::Link(target),
                _ => names::Entry::Other,
            };
            names.add(&entry.path, &what);
        }
        names.set_chroot(self.root.prefix());
        names
    }

    /// Whether what both say of every entry is the same, times to the nanosecond.
    pub(super) fn says_what(&self, other: &Self) -> std::result::Result<(), Vec<u8>> {
        let mut others = other.items();
        for item in self.items() {
            let own = self.entry(item);
            match others.next() {
                Some(found) if other.entry(found) == own => {}
                _ => return Err(own.path),
            }
        }
        others.next().map_or(Ok(()), |more| Err(other.entry(more).path))
    }

    /// The walked directories, the root filesystem last.
    pub(super) fn layers(&self) -> impl Iterator<Item = (&'static [u8], &DirectoryLayer)> {
        self.parts.iter().map(|part| (part.prefix, &part.walked.layer))
    }
}

fn below(prefix: &[u8], path: &[u8]) -> Vec<u8> {
    if path.is_empty() { prefix.to_vec() } else { [prefix, b"/", path].concat() }
}

/// The newest whole second of a file or link: what a tree is dated by.
pub(super) fn dates(entry: &Entry) -> Option<i64> {
    let Timestamp { seconds, .. } = entry.mtime;
    matches!(entry.kind, EntryKind::File { .. } | EntryKind::Symlink { .. }).then_some(seconds)
}
