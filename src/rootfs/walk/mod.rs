//! A directory as a layer: a virtual tar of everything below it, read when it is asked for.
//!
//! The walk notes every entry once (about 64 bytes and its name each) and with that the exact size of the archive;
//! headers are encoded and files read only when somebody reads there. Everything comes from the inode itself, through
//! descriptors below the root's: no symbolic link is followed, none can lead out. A file that is no longer what it was
//! when its size was promised is an error that names it. Entries stand in the order of their names, each directory
//! before what is in it; what could not be read, or is not kept in archives, is in the [`WalkReport`].

mod inode;
mod layer;
mod mounts;
mod scan;
mod tree;

use std::collections::BTreeSet;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Kind, Result};
use crate::progress::{Progress, Unit};
use crate::rootfs::Limits;
use crate::rootfs::findings::Findings;
use crate::rootfs::idmap::IdMap;
use crate::rootfs::xattrs::HeldBack;
use crate::vocab::Value;

pub use layer::{DirectoryLayer, Placed};

/// How a directory is walked.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// The id map of the container whose root this is: owners become those inside it.
    pub idmap: Option<IdMap>,
    /// Leave out whatever is mounted below the root; views into the kernel (proc, sysfs, …) always are.
    pub one_file_system: bool,
    /// Normalised paths that are not looked at, with all that is below them.
    pub leave_out: BTreeSet<Vec<u8>>,
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub struct WalkReport {
    /// Entries taken in, the root among them.
    pub entries: u64,
    /// Bytes of all files, holes included, each inode once.
    pub content_bytes: u64,
    /// Further names of inodes already taken in.
    pub hard_links: u64,
    /// Files whose holes are kept.
    pub sparse_files: u64,
    /// What this user may not read, left out: files, directories with all below them, single xattrs.
    pub unreadable: Findings,
    /// What was listed but gone when it was looked at.
    pub vanished: Findings,
    /// Sockets, left out: only the process that made one can give it meaning.
    pub sockets: Findings,
    /// Other file systems mounted below the root, and whether they were walked.
    pub mounts: Findings,
    /// Extended attributes that belong to the host and not to the tree, left out.
    pub xattrs_held_back: HeldBack,
}

impl WalkReport {
    /// The report as a value; what there is nothing of is not in it.
    pub fn to_value(&self) -> Value {
        let mut value = Value::map([
            ("entries", self.entries),
            ("content_bytes", self.content_bytes),
            ("hard_links", self.hard_links),
            ("sparse_files", self.sparse_files),
        ]);
        if let Value::Map(members) = &mut value {
            for (name, findings) in [
                ("unreadable", &self.unreadable),
                ("vanished", &self.vanished),
                ("sockets", &self.sockets),
                ("mounts", &self.mounts),
            ] {
                if !findings.is_empty() {
                    members.insert(name.into(), findings.to_value());
                }
            }
            if !self.xattrs_held_back.is_empty() {
                members.insert("xattrs_held_back".into(), self.xattrs_held_back.to_value());
            }
        }
        value
    }
}

impl DirectoryLayer {
    /// Walks the directory and gives it as a layer.
    pub fn open(root: &Path, options: &WalkOptions, limits: Limits, progress: &Progress) -> Result<(Self, WalkReport)> {
        let wrong = || format!("cannot walk `{}`", root.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle: OwnedFd = match rustix::fs::open(root, flags, Mode::empty()) {
            Err(Errno::NOTDIR) => {
                return Err(Error::new(Kind::Usage, format!("`{}` is not a directory", root.display()))
                    .hint("a root filesystem in an archive is `tar:FILE`"));
            }
            other => other.context(wrong)?,
        };
        let inode = inode::Inode::of(handle.try_clone().context(wrong)?).context(wrong)?;
        let mut stage = progress.stage(format!("reading {}", root.display()), None, Unit::Items);
        let mut scan = scan::Scan::new(handle.as_fd(), options, limits);
        scan.run(&inode, &mut stage).context(wrong)?;
        let (mut tree, report, end) = (scan.tree, scan.report, scan.offset);
        tree.shrink();
        Ok((Self::new(handle, tree, end), report))
    }
}
