//! Opening what lies below a directory, without ever leaving it: no `..`, no symbolic link, no magic link of `/proc`.

use std::ffi::CString;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// The longest path the kernel takes in one call: `PATH_MAX` less its final NUL.
pub(super) const LONGEST_PATH: usize = 4095;

/// Opens `path` (normalised; empty for the directory itself) below `root`; a symbolic link in it is `ELOOP`, one at its
/// end is opened itself under `O_PATH | O_NOFOLLOW`.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let path: &[u8] = if path.is_empty() { b"." } else { path };
    let rules = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), rules) {
            // A rename somewhere in the system made the kernel unsure; it asks to be asked again.
            Err(Errno::AGAIN) => {}
            // Linux before 5.6, or a seccomp filter that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return step_by_step(root, path, flags),
            other => return other,
        }
    }
}

/// The same one component at a time: none of them is followed where it is a link.
fn step_by_step(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let mut place: Option<OwnedFd> = None;
    let mut components = path.split(|byte| *byte == b'/').peekable();
    while let Some(component) = components.next() {
        if component == b".." {
            return Err(Errno::XDEV);
        }
        let last = components.peek().is_none();
        let flags = if last { flags } else { OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC };
        let from = place.as_ref().map_or(root, |fd| std::os::fd::AsFd::as_fd(fd));
        place = Some(rustix::fs::openat(from, component, flags, Mode::empty()).map_err(|error| match error {
            // A link where a directory must be; openat2 says ELOOP.
            Errno::NOTDIR if !last => Errno::LOOP,
            other => other,
        })?);
    }
    place.ok_or(Errno::NOENT)
}

/// The path by which this process reaches the very inode of an open descriptor, whatever its name is by now.
pub(super) fn magic_path(fd: BorrowedFd<'_>) -> CString {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// Opens the inode of an `O_PATH` descriptor anew, for reading or writing.
pub(super) fn reopen(fd: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    rustix::fs::open(magic_path(fd), flags | OFlags::CLOEXEC, Mode::empty())
}
