//! Making the entries of a tree one by one, whatever their order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::metadata::{self, Place};
use super::staging::Staging;
use super::{Content, UnpackOptions, UnpackReport};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::rootfs::entry::{Entry, EntryKind, shown};
use crate::rootfs::{Timestamp, beneath};

/// The zero bytes that become a hole when a whole block of the file holds nothing else.
const HOLE: usize = 16 * 1024;
const BUFFER: usize = 256 * 1024;

/// An unpacking under way; dropped before [`Unpacker::finish`] it leaves nothing behind.
#[derive(Debug)]
pub struct Unpacker {
    staging: Staging,
    options: UnpackOptions,
    report: UnpackReport,
    /// Directories that are there, with the metadata they get at the end.
    directories: BTreeMap<Vec<u8>, Entry>,
    /// Those of them that no entry has named yet.
    implied: BTreeSet<Vec<u8>>,
    /// Hard links whose target has not come yet: path and target.
    waiting: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Devices that could not be made, and links to them.
    skipped: BTreeSet<Vec<u8>>,
    /// The directory used last.
    parent: Option<(Vec<u8>, OwnedFd)>,
    buffer: Box<[u8]>,
}

impl Unpacker {
    /// An unpacking into `target`, which must be empty or not exist; sweeps what killed ones left beside it.
    pub fn new(target: &Path, options: UnpackOptions) -> Result<Self> {
        Ok(Self {
            staging: Staging::beside(target)?,
            options,
            report: UnpackReport::default(),
            directories: BTreeMap::new(),
            implied: BTreeSet::new(),
            waiting: BTreeMap::new(),
            skipped: BTreeSet::new(),
            parent: None,
            buffer: vec![0; BUFFER].into_boxed_slice(),
        })
    }

    /// Makes an entry; one that came before under the same path gives way. Only files have content.
    pub fn add(&mut self, entry: &Entry, content: Option<&Content<'_>>) -> Result<()> {
        self.place(entry, content).context(|| format!("cannot unpack `{}`", shown(&entry.path)))
    }

    fn place(&mut self, entry: &Entry, content: Option<&Content<'_>>) -> Result<()> {
        if entry.path.len() > beneath::LONGEST_PATH {
            return Err(Error::new(Kind::Limit, format!("the path is longer than {} bytes", beneath::LONGEST_PATH)));
        }
        // Whatever waited or was left out under this path gives way as well.
        self.waiting.remove(&entry.path);
        self.skipped.remove(&entry.path);
        match &entry.kind {
            EntryKind::Directory => self.directory(entry)?,
            EntryKind::Hardlink { target } => {
                if !self.link(target, &entry.path, entry.mtime)? {
                    self.make_way(&entry.path)?;
                    self.waiting.insert(entry.path.clone(), target.clone());
                }
            }
            EntryKind::File { size } => self.file(entry, *size, content)?,
            EntryKind::Symlink { target } => {
                let make = |at: &OwnedFd, name: &[u8]| rustix::fs::symlinkat(target.as_slice(), at, name);
                self.fresh(&entry.path, entry.mtime, make, "cannot make the symbolic link")?;
                self.dress(entry)?;
            }
            EntryKind::CharDevice { major, minor } => self.node(entry, FileType::CharacterDevice, (*major, *minor))?,
            EntryKind::BlockDevice { major, minor } => self.node(entry, FileType::BlockDevice, (*major, *minor))?,
            EntryKind::Fifo => self.node(entry, FileType::Fifo, (0, 0))?,
        }
        self.report.entries += 1;
        Ok(())
    }

    /// Makes something new at the path; what an earlier entry made there gives way.
    fn fresh<T>(
        &mut self,
        path: &[u8],
        time: Timestamp,
        make: impl Fn(&OwnedFd, &[u8]) -> Result<T, Errno>,
        wrong: &str,
    ) -> Result<T> {
        let name =
            file_name(path).ok_or_else(|| Error::new(Kind::Corrupt, "the root of a tree must be a directory"))?;
        match make(self.parent_of(path, time)?, name) {
            Err(Errno::EXIST) => {
                self.make_way(path)?;
                make(self.parent_of(path, time)?, name).context(|| wrong)
            }
            other => other.context(|| wrong),
        }
    }

    /// The directory of an entry, made where the archive has not said it.
    fn parent_of(&mut self, path: &[u8], time: Timestamp) -> Result<&OwnedFd> {
        let parent = split(path).0;
        if self.parent.as_ref().is_none_or(|(known, _)| known != parent) {
            let fd = match self.open_directory(parent) {
                Err(Errno::NOENT) => {
                    self.imply(parent, time)?;
                    self.open_directory(parent)
                }
                other => other,
            };
            let fd = fd.map_err(|error| not_a_directory(parent, error))?;
            self.parent = Some((parent.to_vec(), fd));
        }
        self.parent
            .as_ref()
            .map(|(_, fd)| fd)
            .ok_or_else(|| Error::new(Kind::Failed, "there is no directory to unpack into"))
    }

    fn open_directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        beneath::open(self.staging.root(), path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Makes the directories of a path that no entry has made yet.
    fn imply(&mut self, path: &[u8], mtime: Timestamp) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end).chain([path.len()]);
        for part in ends.map(|end| &path[..end]) {
            if self.directories.contains_key(part) {
                continue;
            }
            let (parent, name) = split(part);
            let at = self.open_directory(parent).map_err(|error| not_a_directory(parent, error))?;
            match rustix::fs::mkdirat(at, name, Mode::RWXU) {
                Err(Errno::EXIST) => return Err(not_a_directory(part, Errno::NOTDIR)),
                other => other.context(|| format!("cannot make the directory `{}`", shown(part)))?,
            }
            let kind = EntryKind::Directory;
            let entry =
                Entry { path: part.to_vec(), kind, mode: 0o755, uid: 0, gid: 0, mtime, xattrs: BTreeMap::new() };
            self.directories.insert(part.to_vec(), entry);
            self.implied.insert(part.to_vec());
        }
        Ok(())
    }

    fn directory(&mut self, entry: &Entry) -> Result<()> {
        if !entry.path.is_empty() && !self.directories.contains_key(&entry.path) {
            let make = |at: &OwnedFd, name: &[u8]| rustix::fs::mkdirat(at, name, Mode::RWXU);
            self.fresh(&entry.path, entry.mtime, make, "cannot make the directory")?;
        }
        self.implied.remove(&entry.path);
        self.directories.insert(entry.path.clone(), entry.clone());
        Ok(())
    }

    /// Removes what an earlier entry of the same path made.
    fn make_way(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = split(path);
        let at = match self.open_directory(parent) {
            Ok(at) => at,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(not_a_directory(parent, error)),
        };
        let is_directory = self.directories.contains_key(path);
        let flags = if is_directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match rustix::fs::unlinkat(&at, name, flags) {
            Ok(()) | Err(Errno::NOENT) => {
                self.directories.remove(path);
                self.implied.remove(path);
                self.parent = None;
                Ok(())
            }
            Err(Errno::NOTEMPTY) => {
                Err(Error::new(Kind::Corrupt, "the archive has it as a directory with entries and as something else"))
            }
            Err(error) => Err(error).context(|| "cannot replace what an earlier entry made"),
        }
    }

    fn file(&mut self, entry: &Entry, size: u64, content: Option<&Content<'_>>) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = |at: &OwnedFd, name: &[u8]| rustix::fs::openat(at, name, flags, Mode::RUSR | Mode::WUSR);
        let file: File = self.fresh(&entry.path, entry.mtime, make, "cannot create the file")?.into();
        self.write(&file, size, content)?;
        self.report.content_bytes += size;
        metadata::set(Place::Open(file.as_fd()), entry, self.options, &mut self.report)
    }

    fn write(&mut self, file: &File, size: u64, content: Option<&Content<'_>>) -> Result<()> {
        let mut written = 0;
        let Some(content) = content.filter(|_| size > 0) else {
            return file.set_len(size).context(|| "cannot give the file its length");
        };
        if let Some(twin) = content.twin
            && rustix::fs::ioctl_ficlone(file, twin).is_ok()
        {
            self.report.shared += 1;
            return Ok(());
        }
        for (position, offset, length) in &content.runs {
            let mut done = 0;
            while done < *length {
                let want = usize::try_from(length - done).unwrap_or(BUFFER).min(BUFFER);
                let chunk = &mut self.buffer[..want];
                content.source.read_exact_at(chunk, offset + done).map_err(|error| {
                    crate::error::from_io(error, || "cannot read its content from the archive".to_owned())
                })?;
                if let Some(end) = write_data(file, chunk, position + done)? {
                    written = end;
                }
                done += want as u64;
            }
        }
        if written == size {
            return Ok(());
        }
        file.set_len(size).context(|| "cannot give the file its length")
    }

    fn node(&mut self, entry: &Entry, kind: FileType, (major, minor): (u32, u32)) -> Result<()> {
        let device = rustix::fs::makedev(major, minor);
        let made =
            |at: &OwnedFd, name: &[u8]| match rustix::fs::mknodat(at, name, kind, Mode::RUSR | Mode::WUSR, device) {
                Err(Errno::PERM) if kind != FileType::Fifo => Ok(false),
                other => other.map(|()| true),
            };
        if self.fresh(&entry.path, entry.mtime, made, "cannot make the device or pipe")? {
            return self.dress(entry);
        }
        self.skip(&entry.path, "only root may make devices");
        Ok(())
    }

    fn skip(&mut self, path: &[u8], why: &str) {
        self.report.devices_skipped.add(path, why);
        self.skipped.insert(path.to_vec());
    }

    /// Sets the metadata of what was just made and is not to be opened.
    fn dress(&mut self, entry: &Entry) -> Result<()> {
        let handle =
            beneath::open(self.staging.root(), &entry.path, OFlags::PATH).context(|| "cannot look at what was made")?;
        metadata::set(Place::Handle(handle.as_fd()), entry, self.options, &mut self.report)
    }

    /// Makes `path` a further name of `target`; false where `target` is not there yet.
    fn link(&mut self, target: &[u8], path: &[u8], time: Timestamp) -> Result<bool> {
        if self.skipped.contains(target) {
            self.skip(path, "a further name of a device that was left out");
            return Ok(true);
        }
        if self.directories.contains_key(target) || file_name(target).is_none() {
            return Err(Error::new(Kind::Corrupt, format!("a hard link to the directory `{}`", shown(target))));
        }
        if target == path {
            return Err(Error::new(Kind::Corrupt, "a hard link to itself"));
        }
        let (target_parent, target_name) = split(target);
        let from = match self.open_directory(target_parent) {
            Ok(from) => from,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(not_a_directory(target_parent, error)),
        };
        let make = |at: &OwnedFd, name: &[u8]| match rustix::fs::linkat(&from, target_name, at, name, AtFlags::empty())
        {
            // Only the target can be missing: the directory it is made in is open.
            Err(Errno::NOENT) => Ok(false),
            other => other.map(|()| true),
        };
        self.fresh(path, time, make, &format!("cannot link it to `{}`", shown(target)))
    }

    /// Makes the links that came before their targets, each after the one it waits for.
    fn finish_links(&mut self) -> Result<()> {
        while let Some(first) = self.waiting.pop_first() {
            let mut chain = vec![first];
            while let Some((_, target)) = chain.last()
                && let Some(next) = self.waiting.remove_entry(target)
            {
                chain.push(next);
            }
            while let Some((path, target)) = chain.pop() {
                let made = self.link(&target, &path, Timestamp::default());
                if !made.context(|| format!("cannot unpack `{}`", shown(&path)))? {
                    return Err(Error::new(
                        Kind::Corrupt,
                        format!(
                            "`{}` is a hard link to `{}`, which is not in the archive",
                            shown(&path),
                            shown(&target)
                        ),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Sets what could not be set before, syncs everything, and puts the tree in its place.
    pub fn finish(mut self) -> Result<UnpackReport> {
        self.finish_links()?;
        self.parent = None;
        let mut directories = std::mem::take(&mut self.directories);
        if !directories.contains_key(&b""[..]) {
            let now = Timestamp { seconds: host::clock::now().as_secs().cast_signed(), nanoseconds: 0 };
            directories.insert(Vec::new(), implied_directory(b"", now));
            self.implied.insert(Vec::new());
        }
        for path in &self.implied {
            self.report.implied_parents.add(path, "");
        }
        // Backwards, a directory comes behind all that is in it: closing it cannot shut anybody out.
        for (path, entry) in directories.iter().rev() {
            let wrong = || format!("cannot finish the directory `{}`", shown(path));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            let directory = beneath::open(self.staging.root(), path, flags).context(wrong)?;
            metadata::set(Place::Open(directory.as_fd()), entry, self.options, &mut self.report).context(wrong)?;
        }
        self.staging.publish()?;
        self.report.entries -= self.report.devices_skipped.total;
        Ok(self.report)
    }
}

/// What a directory gets that no entry names: it belongs to whoever unpacks.
fn implied_directory(path: &[u8], mtime: Timestamp) -> Entry {
    Entry {
        path: path.to_vec(),
        kind: EntryKind::Directory,
        mode: 0o755,
        uid: rustix::process::geteuid().as_raw().into(),
        gid: rustix::process::getegid().as_raw().into(),
        mtime,
        xattrs: BTreeMap::new(),
    }
}

/// The directory and the name of a normalised path.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&path[..0], path),
    }
}

/// The last component of a normalised path; none for the root.
fn file_name(path: &[u8]) -> Option<&[u8]> {
    Some(split(path).1).filter(|name| !matches!(*name, b"" | b"." | b".."))
}

fn not_a_directory(path: &[u8], error: Errno) -> Error {
    match error {
        Errno::LOOP | Errno::NOTDIR => Error::new(
            Kind::Refused,
            format!("`{}` is not a directory in the archive, and links in it are not followed", shown(path)),
        ),
        other => {
            let error = io::Error::from(other);
            let message = format!("cannot reach the directory `{}`", shown(path));
            Error::new(crate::error::kind_of_io(&error), message).caused_by(error)
        }
    }
}

/// Writes what is not zero; where the last written byte ends, none where all were zero.
fn write_data(file: &File, chunk: &[u8], position: u64) -> Result<Option<u64>> {
    let mut end = None;
    let is_zero = |block: &&[u8]| block.iter().all(|byte| *byte == 0);
    let mut place = 0;
    while place < chunk.len() {
        let blocks = chunk[place..].chunks(HOLE);
        let zeros: usize = blocks.clone().take_while(is_zero).map(<[u8]>::len).sum();
        place += zeros;
        let data: usize = chunk[place..].chunks(HOLE).take_while(|block| !is_zero(block)).map(<[u8]>::len).sum();
        if data > 0 {
            file.write_all_at(&chunk[place..place + data], position + place as u64)
                .context(|| "cannot write the file")?;
            place += data;
            end = Some(position + place as u64);
        }
    }
    Ok(end)
}
