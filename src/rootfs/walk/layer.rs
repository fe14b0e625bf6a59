//! Reading the virtual tar: which entry is at an offset, its header, its file's bytes, the zeros between.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;

use super::inode::{self, Inode};
use super::scan::changed;
use super::tree::{Content, Id, Tree};
use crate::error::{Context as _, Error, Result};
use crate::rootfs::entry::{Entry, EntryKind, shown};
use crate::rootfs::tar::SparseMap;
use crate::rootfs::{ReadAt, beneath, tar};

/// A read of no more than this that begins in a header ends before the next file's content: whoever reads little at a
/// time is looking for headers, and would have every small file opened just to skip it.
const HEADER_LOOKUP: usize = 64 * 1024;

/// A directory read as an uncompressed tar; see the module.
pub struct DirectoryLayer {
    root: OwnedFd,
    tree: Tree,
    /// Where the entries end and the end blocks begin.
    end: u64,
    cursor: Mutex<Option<Cursor>>,
}

impl std::fmt::Debug for DirectoryLayer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("DirectoryLayer")
            .field("entries", &self.tree.len())
            .field("size", &self.size())
            .finish_non_exhaustive()
    }
}

/// An entry of the archive, and where its file's bytes stand in it.
#[derive(Clone, Debug)]
pub struct Placed {
    /// What it is.
    pub entry: Entry,
    /// Which parts of a sparse file are stored.
    pub sparse: Option<SparseMap>,
    /// Where what is stored of its file begins: the parts of a sparse file stand one behind the other.
    pub data: u64,
}

impl Placed {
    /// The bytes that are stored: `(position in the file, offset in the archive, length)`.
    pub fn runs(&self) -> Vec<(u64, u64, u64)> {
        match (&self.entry.kind, &self.sparse) {
            (EntryKind::File { .. }, Some(map)) => {
                let mut place = self.data;
                let run = |(position, length): &(u64, u64)| {
                    place += length;
                    (*position, place - length, *length)
                };
                map.segments().iter().map(run).collect()
            }
            (EntryKind::File { size }, None) => vec![(0, self.data, *size)],
            _ => Vec::new(),
        }
    }
}

/// The entry read last: readers mostly go on where they stopped.
struct Cursor {
    id: Id,
    start: u64,
    header: Vec<u8>,
    /// The content's bytes in the archive: where each run begins there, where in the file, and how long it is.
    runs: Vec<(u64, u64, u64)>,
    content_end: u64,
    /// Where the next entry begins.
    next: u64,
    file: Option<File>,
}

impl DirectoryLayer {
    pub(super) fn new(root: OwnedFd, tree: Tree, end: u64) -> Self {
        Self { root, tree, end, cursor: Mutex::new(None) }
    }

    /// Every entry, in the order of the archive.
    pub fn entries(&self) -> impl Iterator<Item = Entry> + '_ {
        (0..self.tree.len()).map(|id| self.tree.entry(id))
    }

    /// How many entries there are.
    pub fn count(&self) -> u32 {
        self.tree.len()
    }

    /// The entry of this number, from 0 on in the order of the archive.
    pub fn entry(&self, number: u32) -> Entry {
        self.tree.entry(number)
    }

    /// The same, with where its file's bytes stand.
    pub fn placed(&self, number: u32) -> Placed {
        let entry = self.tree.entry(number);
        let sparse = match self.tree.content(number) {
            Content::Sparse(map) => Some(map.clone()),
            Content::None | Content::Whole(_) => None,
        };
        let data = self.tree.offset(number) + tar::encode(&entry, sparse.as_ref(), false).len() as u64;
        Placed { entry, sparse, data }
    }

    /// Opens the file of an entry, and gives it to `use_it`; an error if it is not what was walked, before or after.
    pub fn with_file<T>(&self, number: u32, use_it: impl FnOnce(&File) -> T) -> Result<T> {
        let file = self.open_content(number)?;
        let used = use_it(&file);
        self.check_unchanged(number, &file)?;
        Ok(used)
    }

    fn cursor_at(&self, id: Id) -> Cursor {
        let start = self.tree.offset(id);
        let entry = self.tree.entry(id);
        let (header, mut runs) = match self.tree.content(id) {
            Content::None => (tar::encode(&entry, None, false), Vec::new()),
            Content::Whole(size) => (tar::encode(&entry, None, false), vec![(0, 0, size)]),
            Content::Sparse(map) => (
                tar::encode(&entry, Some(map), false),
                map.segments().iter().map(|(position, length)| (0, *position, *length)).collect(),
            ),
        };
        let mut place = start + header.len() as u64;
        for (begin, _, length) in &mut runs {
            *begin = place;
            place += *length;
        }
        let next = if id + 1 < self.tree.len() { self.tree.offset(id + 1) } else { self.end };
        Cursor { id, start, header, runs, content_end: place, next, file: None }
    }

    /// Moves the cursor to the entry at `offset`.
    fn seek<'c>(&self, cursor: &'c mut Option<Cursor>, offset: u64) -> Option<&'c mut Cursor> {
        let stands = cursor.as_ref().is_some_and(|cursor| (cursor.start..cursor.next).contains(&offset));
        if !stands {
            let id = match cursor {
                Some(cursor) if cursor.next == offset => cursor.id + 1,
                _ => self.tree.at(offset)?,
            };
            *cursor = Some(self.cursor_at(id));
        }
        cursor.as_mut()
    }

    /// Opens the file of an entry, if it still is the one that was walked.
    fn open_content(&self, id: Id) -> Result<File> {
        let path = self.tree.path(id);
        let wrong = || format!("cannot open `{}`", shown(&path));
        let gone = |error: rustix::io::Errno| match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => {
                changed(&path, "it is gone")
            }
            other => Err::<(), _>(other).context(wrong).map_or_else(|error| error, |()| changed(&path, "it is gone")),
        };
        let handle = beneath::open(self.root.as_fd(), &path, OFlags::PATH).map_err(gone)?;
        let inode = Inode::of(handle).context(wrong)?;
        if inode::fingerprint(&inode.stat) != self.tree.fingerprint(id) {
            return Err(changed(&path, "it was written, replaced, or its metadata changed"));
        }
        Ok(File::from(inode.open().context(wrong)?))
    }

    fn check_unchanged(&self, id: Id, file: &File) -> Result<()> {
        let stat = rustix::fs::fstat(file).context(|| format!("cannot look at `{}`", shown(&self.tree.path(id))))?;
        if inode::fingerprint(&stat) == self.tree.fingerprint(id) {
            return Ok(());
        }
        Err(changed(&self.tree.path(id), "it was written meanwhile"))
    }

    /// Reads content at `offset` of the archive, at most to the end of the run that holds it.
    fn read_content(&self, cursor: &mut Cursor, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let behind = cursor.runs.partition_point(|(begin, ..)| *begin <= offset);
        let Some((begin, position, length)) = behind.checked_sub(1).map(|place| cursor.runs[place]) else {
            return Ok(0);
        };
        let file = match &mut cursor.file {
            Some(file) => file,
            closed @ None => closed.insert(self.open_content(cursor.id)?),
        };
        let within = offset - begin;
        let want = usize::try_from(length - within).unwrap_or(usize::MAX).min(buffer.len());
        let wrong = || format!("cannot read `{}`", shown(&self.tree.path(cursor.id)));
        let count = loop {
            match file.read_at(&mut buffer[..want], position + within) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.context(wrong)?,
            }
        };
        if count == 0 {
            return Err(changed(&self.tree.path(cursor.id), "it is shorter than it was"));
        }
        if offset + count as u64 == cursor.content_end {
            self.check_unchanged(cursor.id, file)?;
        }
        Ok(count)
    }

    fn read(&self, buffer: &mut [u8], offset: u64) -> Result<usize, Error> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let lookup = buffer.len() <= HEADER_LOOKUP;
        let mut filled = 0;
        while filled < buffer.len() {
            let (rest, place) = (&mut buffer[filled..], offset + filled as u64);
            if place >= self.end {
                let left = usize::try_from(self.size().saturating_sub(place)).unwrap_or_default();
                let count = left.min(rest.len());
                rest[..count].fill(0);
                return Ok(filled + count);
            }
            let Some(cursor) = self.seek(&mut cursor, place) else { break };
            let within = usize::try_from(place - cursor.start).unwrap_or(usize::MAX);
            filled += if let Some(header) = cursor.header.get(within..).filter(|header| !header.is_empty()) {
                let count = header.len().min(rest.len());
                rest[..count].copy_from_slice(&header[..count]);
                count
            } else if place < cursor.content_end {
                if lookup && filled > 0 {
                    break;
                }
                self.read_content(cursor, rest, place)?
            } else {
                let count = usize::try_from(cursor.next - place).unwrap_or(usize::MAX).min(rest.len());
                rest[..count].fill(0);
                count
            };
        }
        Ok(filled)
    }
}

impl ReadAt for DirectoryLayer {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(self.read(buffer, offset)?)
    }

    fn size(&self) -> u64 {
        self.end + tar::END.len() as u64
    }
}
