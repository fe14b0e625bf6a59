//! A snapshot that is an overlay: the container below, what the script changes above, seen by one thread alone.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, UnmountFlags};

use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// Runs the work in a thread with a mount namespace of its own: whatever is mounted there goes with the thread.
pub(super) fn isolated<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).spawn_scoped(scope, || {
            nix::sched::unshare(CloneFlags::CLONE_NEWNS)
                .map_err(std::io::Error::from)
                .context(|| "cannot leave the host's mount namespace")?;
            rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
                .context(|| "cannot keep mounts to this thread")?;
            work()
        });
        let thread = thread.context(|| "cannot start a thread for the snapshot")?;
        // Who was told to stop unwinds; that goes on here.
        thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}

/// An overlay that is mounted for as long as this value lives.
#[derive(Debug)]
pub(super) struct Mounted {
    place: PathBuf,
}

impl Mounted {
    pub(super) fn place(&self) -> &Path {
        &self.place
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The namespace ends with the thread and takes the mount along; this is for the folder's sake.
        if let Err(error) = rustix::mount::unmount(&self.place, UnmountFlags::DETACH) {
            tracing::warn!("cannot unmount `{}`: {error}", self.place.display());
        }
    }
}

/// Mounts an overlay over `lower` at `folder/merged`.
pub(super) fn mount(lower: &Path, folder: &Path) -> Result<Mounted> {
    let place = folder.join("merged");
    let mut opened = Vec::new();
    for name in ["upper", "work", "merged"] {
        fs::create_dir_all(&folder.join(name), 0o700)?;
    }
    // The root of what is seen is the upper folder: it must look as the lower one does.
    let upper = directory(&folder.join("upper"))?;
    dress(lower, &upper)?;
    opened.push(("lowerdir", directory(lower)?));
    opened.push(("upperdir", upper));
    opened.push(("workdir", directory(&folder.join("work"))?));
    let wrong = || format!("cannot mount an overlay over `{}`", lower.display());
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).context(wrong)?;
    for (key, opened) in &opened {
        // Through the descriptor no colon, comma or link in a path can mean anything.
        let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
        rustix::mount::fsconfig_set_string(context.as_fd(), *key, path).context(wrong)?;
    }
    // `index` keeps hard links together when one name of them is written.
    for (key, value) in [("index", "on"), ("redirect_dir", "on"), ("metacopy", "off")] {
        rustix::mount::fsconfig_set_string(context.as_fd(), key, value).context(wrong)?;
    }
    rustix::mount::fsconfig_create(context.as_fd()).context(wrong)?;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
        .context(wrong)?;
    rustix::mount::move_mount(mount.as_fd(), "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .context(wrong)?;
    Ok(Mounted { place })
}

fn directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .context(|| format!("cannot open `{}`", path.display()))
}

/// Gives the upper folder what the lower one has: owner, mode, ACLs and other xattrs, time.
fn dress(lower: &Path, upper: &OwnedFd) -> Result<()> {
    let wrong = || format!("cannot give a snapshot the looks of `{}`", lower.display());
    let lower = directory(lower)?;
    let stat = rustix::fs::fstat(&lower).context(wrong)?;
    let (uid, gid) = (rustix::fs::Uid::from_raw(stat.st_uid), rustix::fs::Gid::from_raw(stat.st_gid));
    rustix::fs::fchown(upper, Some(uid), Some(gid)).context(wrong)?;
    rustix::fs::fchmod(upper, Mode::from_raw_mode(stat.st_mode & 0o7777)).context(wrong)?;
    let mut names = vec![0; 65536];
    let length = match rustix::fs::flistxattr(&lower, names.as_mut_slice()) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error).context(wrong),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let length = rustix::fs::fgetxattr(&lower, name, value.as_mut_slice()).context(wrong)?;
        match rustix::fs::fsetxattr(upper, name, &value[..length], rustix::fs::XattrFlags::empty()) {
            Ok(()) => {}
            Err(error) => {
                let error = std::io::Error::from(error);
                return Err(Error::new(Kind::Unsupported, wrong()).caused_by(error));
            }
        }
    }
    let nanoseconds = i64::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let moment = rustix::fs::Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps { last_access: moment, last_modification: moment };
    rustix::fs::futimens(upper, &times).context(wrong)
}
