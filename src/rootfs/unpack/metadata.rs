//! Owner, mode, xattrs and time of one entry, in the order the kernel wants them.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::{UnpackOptions, UnpackReport};
use crate::error::{Context as _, Error, Kind, Result};
use crate::rootfs::acl::{Acl, EMPTY_DEFAULT};
use crate::rootfs::beneath;
use crate::rootfs::entry::{Entry, EntryKind, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, shown};
use crate::rootfs::xattrs;

/// How the inode is reached.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// An `O_PATH` descriptor of what is not opened: a link, a device, a pipe.
    Handle(BorrowedFd<'a>),
}

impl Place<'_> {
    fn chown(self, uid: u32, gid: u32) -> Result<(), Errno> {
        let (owner, group) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Place::Open(fd) => rustix::fs::fchown(fd, owner, group),
            Place::Handle(fd) => rustix::fs::chownat(fd, "", owner, group, AtFlags::EMPTY_PATH),
        }
    }

    fn chmod(self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        match self {
            Place::Open(fd) => rustix::fs::fchmod(fd, mode),
            Place::Handle(fd) => rustix::fs::chmod(beneath::magic_path(fd), mode),
        }
    }

    fn set_xattr(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Place::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Place::Handle(fd) => rustix::fs::setxattr(beneath::magic_path(fd), name, value, XattrFlags::empty()),
        }
    }

    fn set_times(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Place::Open(fd) => rustix::fs::futimens(fd, times),
            // An empty path is understood here since Linux 5.8 only.
            Place::Handle(fd) => {
                rustix::fs::utimensat(rustix::fs::CWD, beneath::magic_path(fd), times, AtFlags::empty())
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Place::Open(fd) | Place::Handle(fd) => *fd,
        }
    }
}

/// Sets all metadata of an entry whose content is in place.
pub(super) fn set(place: Place<'_>, entry: &Entry, options: UnpackOptions, report: &mut UnpackReport) -> Result<()> {
    // chown first: it clears setuid bits and capabilities.
    let owned = set_owner(place, entry, options, report)?;
    if !matches!(entry.kind, EntryKind::Symlink { .. }) {
        // Bits that lend an owner's rights would lend those of whoever unpacks.
        let mode = if owned { entry.mode & 0o7777 } else { entry.mode & 0o1777 };
        place.chmod(mode).context(|| format!("cannot set the mode {mode:04o}"))?;
    }
    for (name, value) in &entry.xattrs {
        set_xattr(place, entry, (name, value), options, report)?;
    }
    // Times last: everything above moves them.
    let time = Timespec { tv_sec: entry.mtime.seconds, tv_nsec: entry.mtime.nanoseconds.into() };
    place
        .set_times(&Timestamps { last_access: time, last_modification: time })
        .context(|| "cannot set the time of modification")?;
    if !(0..1 << 31).contains(&entry.mtime.seconds) {
        let stat = rustix::fs::fstat(place.fd()).context(|| "cannot look at what was made")?;
        if stat.st_mtime != entry.mtime.seconds {
            let what = format!("{} became {}", entry.mtime.seconds, stat.st_mtime);
            report.times_clamped.add(&entry.path, what);
        }
    }
    Ok(())
}

/// Sets owner and group; whether they are now what the entry says.
fn set_owner(place: Place<'_>, entry: &Entry, options: UnpackOptions, report: &mut UnpackReport) -> Result<bool> {
    let id = |id: u64| {
        u32::try_from(id).ok().filter(|id| *id != u32::MAX).ok_or_else(|| {
            Error::new(Kind::Unsupported, format!("{id} is not an id this system has for users and groups"))
        })
    };
    let (uid, gid) = (id(entry.uid)?, id(entry.gid)?);
    match place.chown(uid, gid) {
        Ok(()) => Ok(true),
        // EINVAL: the id has no place in this user namespace.
        Err(Errno::PERM | Errno::INVAL) if options.ignore_ownership => {
            report.ownership_ignored.add(&entry.path, format!("{uid}:{gid}"));
            Ok(false)
        }
        Err(error) => Err(error)
            .context(|| format!("cannot give it to the owner {uid}:{gid}"))
            .map_err(|error| error.hint("run as root, or let the owners be ignored, which the report then says")),
    }
}

fn set_xattr(
    place: Place<'_>,
    entry: &Entry,
    (name, value): (&[u8], &[u8]),
    options: UnpackOptions,
    report: &mut UnpackReport,
) -> Result<()> {
    if let Some(reason) = xattrs::held_back(name) {
        report.xattrs_held_back.add(name, reason);
        return Ok(());
    }
    if says_nothing(name, value) {
        return Ok(());
    }
    match place.set_xattr(name, value) {
        Ok(()) => Ok(()),
        Err(error @ (Errno::PERM | Errno::INVAL)) if options.ignore_ownership => {
            report.xattrs_skipped.add(&entry.path, format!("xattr {}: {error}", shown(name)));
            Ok(())
        }
        Err(Errno::OPNOTSUPP) => {
            Err(Error::new(Kind::Unsupported, format!("the file system cannot hold the xattr {}", shown(name)))
                .hint("unpack on a file system with ACLs and extended attributes, such as ext4, xfs or btrfs"))
        }
        Err(error) => Err(error).context(|| format!("cannot set the xattr {}", shown(name))),
    }
}

/// ACL records that only keep engines from inheriting: nothing is inherited here.
fn says_nothing(name: &[u8], value: &[u8]) -> bool {
    (name == XATTR_ACL_DEFAULT && value == EMPTY_DEFAULT)
        || (name == XATTR_ACL_ACCESS && Acl::from_xattr(value).is_ok_and(|acl| acl.is_minimal()))
}
