//! A tree of entries in little memory: about 64 bytes and the name for each, and what is rare only where it is.

use std::collections::BTreeMap;

use indexmap::IndexSet;

use crate::rootfs::entry::{Entry, EntryKind, Timestamp};
use crate::rootfs::tar::SparseMap;

/// The number of an entry in a [`Tree`], in the order they stand in the archive; the root is 0.
pub(super) type Id = u32;

/// Says that a record has nothing in a table.
const NOTHING: u32 = u32::MAX;

/// What is stored of an entry; `detail` is an index or a number as `kind` says.
struct Record {
    /// Where its header begins in the virtual archive.
    offset: u64,
    size: u64,
    seconds: i64,
    fingerprint: u64,
    nanoseconds: u32,
    uid: u32,
    gid: u32,
    parent: Id,
    name: u32,
    xattrs: u32,
    /// File: its sparse map. Symlink: its target. Hard link: the entry it is another name of.
    detail: u32,
    mode: u16,
    kind: RecordKind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RecordKind {
    File,
    Directory,
    Symlink,
    Hardlink,
    CharDevice,
    BlockDevice,
    Fifo,
}

/// What the archive holds of an entry besides its metadata.
pub(super) enum Content<'a> {
    /// Nothing.
    None,
    /// A file's bytes, all of them.
    Whole(u64),
    /// A file's bytes without its holes.
    Sparse(&'a SparseMap),
}

/// The entries of a walked directory.
#[derive(Default)]
pub(super) struct Tree {
    records: Vec<Record>,
    /// Every name behind two bytes with its length.
    names: Vec<u8>,
    targets: Vec<Box<[u8]>>,
    maps: Vec<SparseMap>,
    xattrs: IndexSet<Box<[u8]>>,
}

/// What an entry is added with.
pub(super) struct New<'a> {
    pub(super) entry: &'a Entry,
    pub(super) parent: Id,
    /// For a hard link: the entry it is a further name of.
    pub(super) first: Option<Id>,
    pub(super) sparse: Option<SparseMap>,
    pub(super) fingerprint: u64,
    pub(super) offset: u64,
}

fn index(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(NOTHING)
}

impl Tree {
    pub(super) fn len(&self) -> u32 {
        index(self.records.len())
    }

    /// Adds the entry behind all others. Ids fit 32 bits, as Linux has them.
    pub(super) fn push(&mut self, new: New<'_>) -> Id {
        let entry = new.entry;
        let name = entry.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let (kind, size, detail) = match &entry.kind {
            EntryKind::File { size } => (RecordKind::File, *size, self.keep_map(new.sparse)),
            EntryKind::Directory => (RecordKind::Directory, 0, NOTHING),
            EntryKind::Symlink { target } => {
                self.targets.push(target.clone().into_boxed_slice());
                (RecordKind::Symlink, 0, index(self.targets.len() - 1))
            }
            EntryKind::Hardlink { .. } => (RecordKind::Hardlink, 0, new.first.unwrap_or_default()),
            EntryKind::CharDevice { major, minor } => (RecordKind::CharDevice, device(*major, *minor), NOTHING),
            EntryKind::BlockDevice { major, minor } => (RecordKind::BlockDevice, device(*major, *minor), NOTHING),
            EntryKind::Fifo => (RecordKind::Fifo, 0, NOTHING),
        };
        let record = Record {
            offset: new.offset,
            size,
            seconds: entry.mtime.seconds,
            fingerprint: new.fingerprint,
            nanoseconds: entry.mtime.nanoseconds,
            uid: u32::try_from(entry.uid).unwrap_or(NOTHING),
            gid: u32::try_from(entry.gid).unwrap_or(NOTHING),
            parent: new.parent,
            name: index(self.names.len()),
            xattrs: self.keep_xattrs(&entry.xattrs),
            detail,
            mode: (entry.mode & 0o7777) as u16,
            kind,
        };
        self.names.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
        self.names.extend_from_slice(name);
        self.records.push(record);
        self.len() - 1
    }

    fn keep_map(&mut self, sparse: Option<SparseMap>) -> u32 {
        sparse.map_or(NOTHING, |sparse| {
            self.maps.push(sparse);
            index(self.maps.len() - 1)
        })
    }

    /// Equal sets are kept once: trees have many entries and few different ACLs.
    fn keep_xattrs(&mut self, xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> u32 {
        if xattrs.is_empty() {
            return NOTHING;
        }
        let mut bytes = Vec::new();
        for part in xattrs.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(&index(part.len()).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        index(self.xattrs.insert_full(bytes.into_boxed_slice()).0)
    }

    fn xattrs(&self, record: &Record) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut rest: &[u8] = self.xattrs.get_index(record.xattrs as usize).map_or(&[], |bytes| bytes);
        let mut part = || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let (part, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = behind;
            Some(part.to_vec())
        };
        std::iter::from_fn(|| Some((part()?, part()?))).collect()
    }

    fn name(&self, record: &Record) -> &[u8] {
        let start = record.name as usize;
        let length = u16::from_le_bytes([self.names[start], self.names[start + 1]]);
        &self.names[start + 2..][..length.into()]
    }

    /// The normalised path of an entry.
    pub(super) fn path(&self, mut id: Id) -> Vec<u8> {
        let mut parts = Vec::new();
        while id != 0 {
            let record = &self.records[id as usize];
            parts.push(self.name(record));
            id = record.parent;
        }
        parts.reverse();
        parts.join(&b'/')
    }

    /// The whole entry again.
    pub(super) fn entry(&self, id: Id) -> Entry {
        let record = &self.records[id as usize];
        let (major, minor) = ((record.size >> 32) as u32, (record.size & 0xffff_ffff) as u32);
        let kind = match record.kind {
            RecordKind::File => EntryKind::File { size: record.size },
            RecordKind::Directory => EntryKind::Directory,
            RecordKind::Symlink => EntryKind::Symlink { target: self.targets[record.detail as usize].to_vec() },
            RecordKind::Hardlink => EntryKind::Hardlink { target: self.path(record.detail) },
            RecordKind::CharDevice => EntryKind::CharDevice { major, minor },
            RecordKind::BlockDevice => EntryKind::BlockDevice { major, minor },
            RecordKind::Fifo => EntryKind::Fifo,
        };
        Entry {
            path: self.path(id),
            kind,
            mode: record.mode.into(),
            uid: record.uid.into(),
            gid: record.gid.into(),
            mtime: Timestamp { seconds: record.seconds, nanoseconds: record.nanoseconds },
            xattrs: self.xattrs(record),
        }
    }

    pub(super) fn content(&self, id: Id) -> Content<'_> {
        let record = &self.records[id as usize];
        match (record.kind, self.maps.get(record.detail as usize)) {
            (RecordKind::File, Some(map)) => Content::Sparse(map),
            (RecordKind::File, None) => Content::Whole(record.size),
            _ => Content::None,
        }
    }

    pub(super) fn fingerprint(&self, id: Id) -> u64 {
        self.records[id as usize].fingerprint
    }

    pub(super) fn offset(&self, id: Id) -> u64 {
        self.records[id as usize].offset
    }

    /// Gives back what was reserved for more.
    pub(super) fn shrink(&mut self) {
        self.records.shrink_to_fit();
        self.names.shrink_to_fit();
        self.xattrs.shrink_to_fit();
    }

    /// The entry whose header or content is at `offset`.
    pub(super) fn at(&self, offset: u64) -> Option<Id> {
        let behind = self.records.partition_point(|record| record.offset <= offset);
        behind.checked_sub(1).map(index)
    }
}

fn device(major: u32, minor: u32) -> u64 {
    u64::from(major) << 32 | u64::from(minor)
}
