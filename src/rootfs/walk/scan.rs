//! The walk itself: every directory listed, sorted and visited, with a bounded number of open descriptors.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::inode::{self, Inode, Reach, XattrReader};
use super::tree::{Id, New, Tree};
use super::{WalkOptions, WalkReport, mounts};
use crate::error::{Context as _, Error, Kind, Result};
use crate::progress::Stage;
use crate::rootfs::entry::{Entry, EntryKind, shown};
use crate::rootfs::tar::{self, SparseMap};
use crate::rootfs::{Limits, beneath, xattrs};

/// How many directories of the path under way are kept open; those above are opened again on the way back.
const OPEN_DIRECTORIES: usize = 32;

/// A directory whose entries are being visited.
struct Level {
    id: Id,
    /// Its length in the path under way.
    path_length: usize,
    directory: Option<OwnedFd>,
    device: u64,
    inode: u64,
    names: Names,
}

/// Sorted names of a directory, in one allocation.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    /// Start and length of each.
    spans: Vec<(u32, u16)>,
    next: usize,
}

impl Names {
    fn next(&mut self) -> Option<&[u8]> {
        let (start, length) = *self.spans.get(self.next)?;
        self.next += 1;
        Some(&self.bytes[start as usize..][..length.into()])
    }
}

/// The names of one inode that are still to come.
struct Link {
    first: Id,
    left: u64,
}

pub(super) struct Scan<'a> {
    root: BorrowedFd<'a>,
    options: &'a WalkOptions,
    limits: Limits,
    pub(super) tree: Tree,
    pub(super) report: WalkReport,
    /// Where the next header begins.
    pub(super) offset: u64,
    path: Vec<u8>,
    levels: Vec<Level>,
    links: HashMap<(u64, u64), Link>,
    reader: XattrReader,
    listing: Vec<u8>,
}

/// Why an entry is left out of the tree.
fn is_denied(error: Errno) -> bool {
    matches!(error, Errno::ACCESS | Errno::PERM)
}

impl<'a> Scan<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, options: &'a WalkOptions, limits: Limits) -> Self {
        Self {
            root,
            options,
            limits,
            tree: Tree::default(),
            report: WalkReport::default(),
            offset: 0,
            path: Vec::new(),
            levels: Vec::new(),
            links: HashMap::new(),
            reader: XattrReader::new(),
            listing: Vec::with_capacity(64 * 1024),
        }
    }

    /// Visits everything.
    pub(super) fn run(&mut self, root: &Inode, stage: &mut Stage) -> Result<()> {
        let directory = root.open().context(|| "cannot list the root of the tree")?;
        self.enter(root, directory, 0)?;
        while let Some(level) = self.levels.last_mut() {
            self.path.truncate(level.path_length);
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            self.visit()?;
            stage.advance(1);
        }
        Ok(())
    }

    /// Takes in the entry at the path under way.
    fn visit(&mut self) -> Result<()> {
        if self.options.leave_out.contains(&self.path) {
            return Ok(());
        }
        let longest = self.limits.path_bytes.min(beneath::LONGEST_PATH);
        if self.path.len() > longest {
            return Err(Error::new(
                Kind::Limit,
                format!(
                    "the path of {} bytes that begins with `{}` is longer than {longest}",
                    self.path.len(),
                    shown(&self.path[..64.min(longest)])
                ),
            ));
        }
        let inode = match self.look() {
            Ok(inode) => inode,
            Err(error) if error.kind() == Kind::NotFound => {
                self.report.vanished.add(&self.path, "");
                return Ok(());
            }
            Err(error) if error.kind() == Kind::Refused => {
                self.report.unreadable.add(&self.path, "permission denied");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        match inode.file_type() {
            FileType::Socket => {
                self.report.sockets.add(&self.path, "");
                Ok(())
            }
            FileType::Directory => self.directory(&inode),
            _ => self.leaf(&inode),
        }
    }

    /// The inode at the path under way, through its directory's descriptor.
    fn look(&mut self) -> Result<Inode> {
        let Some(level) = self.levels.last_mut() else {
            return Err(Error::new(Kind::Failed, "the walk has no directory"));
        };
        let wrong = |path: &[u8]| format!("cannot look at `{}`", shown(path));
        let directory = match &mut level.directory {
            Some(directory) => directory,
            closed @ None => {
                let path = &self.path[..level.path_length];
                let again =
                    beneath::open(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY).context(|| wrong(path))?;
                let stat = rustix::fs::fstat(&again).context(|| wrong(path))?;
                if (stat.st_dev, stat.st_ino) != (level.device, level.inode) {
                    return Err(changed(path, "another directory stands in its place"));
                }
                closed.insert(again)
            }
        };
        let name = &self.path[level.path_length + usize::from(level.path_length > 0)..];
        Inode::look(directory.as_fd(), name).context(|| wrong(&self.path))
    }

    fn directory(&mut self, inode: &Inode) -> Result<()> {
        let parent = self.levels.last().map_or((0, inode.stat.st_dev), |level| (level.id, level.device));
        if inode.stat.st_dev != parent.1 {
            let pseudo = mounts::pseudo(inode.handle(), &inode.stat)
                .context(|| format!("cannot look at `{}`", shown(&self.path)))?;
            let what = match pseudo {
                Some(name) => Some(format!("{name}, left out")),
                None if self.options.one_file_system => Some("another file system, left out".to_owned()),
                None => None,
            };
            self.report
                .mounts
                .add(&self.path, what.clone().unwrap_or_else(|| "another file system, walked".to_owned()));
            if what.is_some() {
                return self.mount_point(inode, parent.0);
            }
        }
        match inode.open() {
            Ok(directory) => self.enter(inode, directory, parent.0),
            Err(error) if is_denied(error) => {
                self.report.unreadable.add(&self.path, "permission denied, with all that is in it");
                Ok(())
            }
            Err(Errno::NOENT) => {
                self.report.vanished.add(&self.path, "");
                Ok(())
            }
            Err(error) => Err(error).context(|| format!("cannot open `{}`", shown(&self.path))),
        }
    }

    /// An empty directory in place of a file system that is left out. What it covers cannot be seen; owner and time are
    /// its parent's, since those of the mounted file system change with every boot.
    fn mount_point(&mut self, inode: &Inode, parent: Id) -> Result<()> {
        let mut entry = self.tree.entry(parent);
        entry.path = self.path.clone();
        entry.mode = inode.stat.st_mode & 0o777;
        entry.xattrs.clear();
        self.push(&entry, New { entry: &entry, parent, first: None, sparse: None, fingerprint: 0, offset: 0 })?;
        Ok(())
    }

    /// Takes in a directory and makes its entries the next to be visited.
    fn enter(&mut self, inode: &Inode, directory: OwnedFd, parent: Id) -> Result<()> {
        let mut entry = self.entry(inode, EntryKind::Directory);
        self.xattrs(&mut entry, Reach::Open(directory.as_fd()))?;
        self.shift(&mut entry)?;
        let new = New { entry: &entry, parent, first: None, sparse: None, fingerprint: 0, offset: 0 };
        let id = self.push(&entry, new)?;
        let names = self.list(&directory)?;
        if let Some(above) = self.levels.len().checked_sub(OPEN_DIRECTORIES) {
            self.levels[above].directory = None;
        }
        self.levels.push(Level {
            id,
            path_length: self.path.len(),
            directory: Some(directory),
            device: inode.stat.st_dev,
            inode: inode.stat.st_ino,
            names,
        });
        Ok(())
    }

    fn list(&mut self, directory: &OwnedFd) -> Result<Names> {
        let mut names = Names::default();
        let mut listing = RawDir::new(directory, self.listing.spare_capacity_mut());
        while let Some(item) = listing.next() {
            let item = item.context(|| format!("cannot list `{}`", shown(&self.path)))?;
            let name = item.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                let start = u32::try_from(names.bytes.len());
                let (Ok(start), Ok(length)) = (start, u16::try_from(name.len())) else {
                    return Err(Error::new(Kind::Limit, format!("the names in `{}` are too many", shown(&self.path))));
                };
                names.spans.push((start, length));
                names.bytes.extend_from_slice(name);
            }
        }
        let bytes = &names.bytes;
        let name = |(start, length): &(u32, u16)| &bytes[*start as usize..][..usize::from(*length)];
        names.spans.sort_unstable_by(|left, right| name(left).cmp(name(right)));
        // A file system may list a name twice while it is being renamed.
        names.spans.dedup_by(|left, right| name(left) == name(right));
        Ok(names)
    }

    /// Takes in anything but a directory.
    fn leaf(&mut self, inode: &Inode) -> Result<()> {
        let parent = self.levels.last().map_or(0, |level| level.id);
        if let Some(first) = self.known_link(&inode.stat) {
            let mut entry = self.tree.entry(first);
            entry.kind = EntryKind::Hardlink { target: std::mem::replace(&mut entry.path, self.path.clone()) };
            // The inode's metadata stands with its first name.
            entry.xattrs.clear();
            self.push(
                &entry,
                New { entry: &entry, parent, first: Some(first), sparse: None, fingerprint: 0, offset: 0 },
            )?;
            self.report.hard_links += 1;
            return Ok(());
        }
        let stat = &inode.stat;
        let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
        let wrong = |path: &[u8]| format!("cannot read `{}`", shown(path));
        let kind = match inode.file_type() {
            FileType::RegularFile => return self.file(inode, parent),
            FileType::Symlink => EntryKind::Symlink { target: inode.target().context(|| wrong(&self.path))? },
            FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
            FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
            FileType::Fifo => EntryKind::Fifo,
            FileType::Directory | FileType::Socket | FileType::Unknown => {
                return Err(Error::new(Kind::Unsupported, format!("`{}` is of an unknown type", shown(&self.path))));
            }
        };
        let mut entry = self.entry(inode, kind);
        self.xattrs(&mut entry, Reach::Handle(inode.handle()))?;
        self.add(entry, inode, parent, None)
    }

    fn file(&mut self, inode: &Inode, parent: Id) -> Result<()> {
        let file = match inode.open() {
            Ok(file) => File::from(file),
            Err(error) if is_denied(error) => {
                self.report.unreadable.add(&self.path, "permission denied");
                return Ok(());
            }
            Err(error) => return Err(error).context(|| format!("cannot open `{}`", shown(&self.path))),
        };
        let size = inode::size(&inode.stat);
        let mut entry = self.entry(inode, EntryKind::File { size });
        self.xattrs(&mut entry, Reach::Open(file.as_fd()))?;
        let wrong = || format!("cannot find the holes of `{}`", shown(&self.path));
        let segments = inode::data_segments(&file, &inode.stat).context(wrong)?;
        let sparse = segments.map(|segments| SparseMap::new(segments, size)).transpose().context(wrong)?;
        self.report.content_bytes += size;
        self.report.sparse_files += u64::from(sparse.is_some());
        self.add(entry, inode, parent, sparse)
    }

    fn add(&mut self, mut entry: Entry, inode: &Inode, parent: Id, sparse: Option<SparseMap>) -> Result<()> {
        self.shift(&mut entry)?;
        let fingerprint = inode::fingerprint(&inode.stat);
        let id = self.push(&entry, New { entry: &entry, parent, first: None, sparse, fingerprint, offset: 0 })?;
        let stat = &inode.stat;
        if stat.st_nlink > 1 {
            #[allow(clippy::useless_conversion, reason = "it has 32 bits on some machines")]
            let left = u64::from(stat.st_nlink) - 1;
            self.links.insert((stat.st_dev, stat.st_ino), Link { first: id, left });
        }
        Ok(())
    }

    /// The first entry of this inode, if it was met before; forgets inodes whose last name this is.
    fn known_link(&mut self, stat: &Stat) -> Option<Id> {
        if stat.st_nlink < 2 {
            return None;
        }
        let key = (stat.st_dev, stat.st_ino);
        let link = self.links.get_mut(&key)?;
        link.left -= 1;
        let (first, left) = (link.first, link.left);
        if left == 0 {
            self.links.remove(&key);
        }
        Some(first)
    }

    fn entry(&self, inode: &Inode, kind: EntryKind) -> Entry {
        let stat = &inode.stat;
        Entry {
            path: self.path.clone(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid.into(),
            gid: stat.st_gid.into(),
            mtime: inode::mtime(stat),
            xattrs: std::collections::BTreeMap::new(),
        }
    }

    fn xattrs(&mut self, entry: &mut Entry, reach: Reach<'_>) -> Result<()> {
        let held_back = &mut self.report.xattrs_held_back;
        let wanted = |name: &[u8]| match xattrs::held_back(name) {
            None => true,
            Some(reason) => {
                held_back.add(name, reason);
                false
            }
        };
        let found = self
            .reader
            .read(reach, wanted)
            .context(|| format!("cannot list the xattrs of `{}`", shown(&entry.path)))?;
        for item in found.unread {
            if !is_denied(item.error) && item.error != Errno::OPNOTSUPP {
                return Err(item.error).context(|| {
                    format!("cannot read the xattr {} of `{}`", String::from_utf8_lossy(&item.name), shown(&entry.path))
                });
            }
            self.report.unreadable.add(&entry.path, format!("xattr {}: {}", shown(&item.name), item.error));
        }
        entry.xattrs = found.read;
        Ok(())
    }

    fn shift(&self, entry: &mut Entry) -> Result<()> {
        self.options.idmap.as_ref().map_or(Ok(()), |map| map.shift(entry))
    }

    /// Gives the entry its place in the archive.
    fn push(&mut self, entry: &Entry, mut new: New<'_>) -> Result<Id> {
        if u64::from(self.tree.len()) >= self.limits.entries.min(u64::from(u32::MAX) - 1) {
            return Err(Error::new(Kind::Limit, format!("the tree has more than {} entries", self.tree.len())));
        }
        new.offset = self.offset;
        let header = tar::encode(entry, new.sparse.as_ref(), false);
        let content = match (&entry.kind, &new.sparse) {
            // The map is at the end of the header blocks.
            (EntryKind::File { .. }, Some(sparse)) => sparse.stored() - sparse.map_bytes(),
            (EntryKind::File { size }, None) => *size,
            _ => 0,
        };
        self.offset += header.len() as u64 + content + tar::content_padding(content);
        self.report.entries += 1;
        Ok(self.tree.push(new))
    }
}

/// The tree moved under the walk.
pub(super) fn changed(path: &[u8], how: &str) -> Error {
    Error::new(Kind::Conflict, format!("`{}` changed while it was read: {how}", shown(path)))
        .hint("stop what writes into the tree, or read a snapshot of it")
}
