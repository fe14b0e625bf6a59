//! Everything about one inode, read through a descriptor of it and never through a name that could be swapped.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::{Hash as _, Hasher as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::rootfs::beneath;
use crate::rootfs::entry::Timestamp;

/// The most bytes the kernel gives for a list of names or for one value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 65536;

/// An inode held by an `O_PATH` descriptor: nothing was opened, so no device, pipe or automount was touched.
pub(super) struct Inode {
    handle: OwnedFd,
    pub(super) stat: Stat,
}

impl Inode {
    /// What `name` in `directory` is.
    pub(super) fn look(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Self, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Self::of(rustix::fs::openat(directory, name, flags, Mode::empty())?)
    }

    /// The inode of a descriptor opened with `O_PATH`.
    pub(super) fn of(handle: OwnedFd) -> Result<Self, Errno> {
        let stat = rustix::fs::fstat(&handle)?;
        Ok(Self { handle, stat })
    }

    pub(super) fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Opens the inode for reading, leaving its access time alone where that is allowed.
    pub(super) fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = match self.file_type() {
            FileType::Directory => OFlags::RDONLY | OFlags::DIRECTORY,
            _ => OFlags::RDONLY,
        };
        // O_NOATIME is for owners and CAP_FOWNER only.
        match beneath::reopen(self.handle.as_fd(), flags | OFlags::NOATIME) {
            Err(Errno::PERM) => beneath::reopen(self.handle.as_fd(), flags),
            other => other,
        }
    }

    /// Where a symbolic link points.
    pub(super) fn target(&self) -> Result<Vec<u8>, Errno> {
        Ok(rustix::fs::readlinkat(&self.handle, "", Vec::new())?.into_bytes())
    }

    pub(super) fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

pub(super) fn mtime(stat: &Stat) -> Timestamp {
    Timestamp { seconds: stat.st_mtime, nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default() }
}

pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// What differs when a file was replaced or written since: the kernel moves ctime with every change.
pub(super) fn fingerprint(stat: &Stat) -> u64 {
    let mut hasher = DefaultHasher::new();
    (stat.st_dev, stat.st_ino, stat.st_size).hash(&mut hasher);
    (stat.st_mtime, stat.st_mtime_nsec, stat.st_ctime, stat.st_ctime_nsec).hash(&mut hasher);
    hasher.finish()
}

/// What was read of an inode's xattrs.
#[derive(Default)]
pub(super) struct Xattrs {
    pub(super) read: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) unread: Vec<Unread>,
}

/// An xattr that could not be read, and why.
pub(super) struct Unread {
    pub(super) name: Vec<u8>,
    pub(super) error: Errno,
}

/// Reads extended attributes; owns the buffers for it.
pub(super) struct XattrReader {
    names: Vec<u8>,
    value: Vec<u8>,
}

/// How an inode's xattrs are reached.
#[derive(Clone, Copy)]
pub(super) enum Reach<'a> {
    /// Through a descriptor open for reading.
    Open(BorrowedFd<'a>),
    /// Through `/proc/self/fd`, for what cannot or must not be opened.
    Handle(BorrowedFd<'a>),
}

impl XattrReader {
    pub(super) fn new() -> Self {
        Self { names: vec![0; XATTR_MAX], value: vec![0; XATTR_MAX] }
    }

    /// All xattrs `wanted` by name, and those that could not be read.
    pub(super) fn read(&mut self, inode: Reach<'_>, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<Xattrs, Errno> {
        let Self { names, value: buffer } = self;
        let length = match inode {
            Reach::Open(fd) => rustix::fs::flistxattr(fd, names.as_mut_slice()),
            Reach::Handle(fd) => rustix::fs::listxattr(beneath::magic_path(fd), names.as_mut_slice()),
        };
        let mut found = Xattrs::default();
        let length = match length {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP) => 0,
            Err(error) => return Err(error),
        };
        for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if !wanted(name) {
                continue;
            }
            let value = match inode {
                Reach::Open(fd) => rustix::fs::fgetxattr(fd, name, buffer.as_mut_slice()),
                Reach::Handle(fd) => rustix::fs::getxattr(beneath::magic_path(fd), name, buffer.as_mut_slice()),
            };
            match value {
                Ok(length) => {
                    found.read.insert(name.to_vec(), buffer[..length].to_vec());
                }
                // Removed since it was listed: the tree does not have it.
                Err(Errno::NODATA) => {}
                Err(error) => found.unread.push(Unread { name: name.to_vec(), error }),
            }
        }
        Ok(found)
    }
}

/// Where a sparse file holds data: `(offset, length)`, ascending; none where holes save too little to matter.
pub(super) fn data_segments(file: &File, stat: &Stat) -> Result<Option<Vec<(u64, u64)>>, Errno> {
    let size = size(stat);
    let allocated = u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512);
    if allocated.saturating_add(WORTHWHILE) > size {
        return Ok(None);
    }
    let mut segments: Vec<(u64, u64)> = Vec::new();
    let (mut position, mut shortest_hole) = (0, SHORTEST_HOLE);
    while position < size {
        let from = match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(position)) {
            Ok(data) => data,
            // No data from here to the end.
            Err(Errno::NXIO) => break,
            // A file system without holes to tell of.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(error) => return Err(error),
        };
        let end = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(from))?.min(size);
        if end <= from {
            break;
        }
        add_segment(&mut segments, (from, end - from), shortest_hole);
        if segments.len() > MOST_SEGMENTS {
            // A map this long costs more than the holes it saves: count the shorter holes as data.
            shortest_hole *= 4;
            for segment in std::mem::take(&mut segments) {
                add_segment(&mut segments, segment, shortest_hole);
            }
        }
        position = end;
    }
    let data: u64 = segments.iter().map(|(_, length)| length).sum();
    let saved = size - data;
    if saved < WORTHWHILE || saved < size / 8 {
        return Ok(None);
    }
    if segments.last().is_none_or(|(start, length)| start + length < size) {
        // GNU tar learns from a last, empty part how far a hole at the end reaches.
        segments.push((size, 0));
    }
    Ok(Some(segments))
}

/// Holes that save less than this in all are written out as zeros: plain members are copied fastest everywhere.
const WORTHWHILE: u64 = 64 * 1024;
const SHORTEST_HOLE: u64 = 4096;
const MOST_SEGMENTS: usize = 10_000;

fn add_segment(segments: &mut Vec<(u64, u64)>, (start, length): (u64, u64), shortest_hole: u64) {
    match segments.last_mut() {
        Some((before, reach)) if start - (*before + *reach) < shortest_hole => *reach = start + length - *before,
        _ => segments.push((start, length)),
    }
}
