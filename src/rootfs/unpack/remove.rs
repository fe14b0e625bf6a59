//! Removing a tree whatever is in it: deeper than the stack or the descriptor limit, with modes that shut out its owner.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir};
use rustix::io::Errno;

use crate::error::{Context as _, Result};
use crate::rootfs::beneath;

/// Removes the directory and all that is in it.
pub(super) fn remove_tree(top: &Path) -> Result<()> {
    let wrong = || format!("cannot remove the folder `{}`", top.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(top, flags, Mode::empty()).context(wrong)?;
    let mut path: Vec<u8> = Vec::new();
    let mut levels = vec![clear(root.as_fd(), &path).context(wrong)?];
    while let Some(level) = levels.last_mut() {
        if let Some(name) = level.pop() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            levels.push(clear(root.as_fd(), &path).context(wrong)?);
            continue;
        }
        levels.pop();
        if levels.is_empty() {
            break;
        }
        let slash = path.iter().rposition(|byte| *byte == b'/');
        let name = path.split_off(slash.map_or(0, |slash| slash + 1));
        path.truncate(slash.unwrap_or(0));
        let parent = beneath::open(root.as_fd(), &path, OFlags::PATH | OFlags::DIRECTORY).context(wrong)?;
        rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).context(wrong)?;
    }
    rustix::fs::rmdir(top).context(wrong)
}

/// Removes all but directories from a directory; the names of those.
fn clear(root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Vec<u8>>, Errno> {
    let directory = open_for_removal(root, path)?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let (mut directories, mut others) = (Vec::new(), Vec::new());
    let mut listing = RawDir::new(&directory, buffer.spare_capacity_mut());
    while let Some(item) = listing.next() {
        let item = item?;
        let name = item.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match item.file_type() {
            FileType::Directory => directories.push(name.to_vec()),
            _ => others.push(name.to_vec()),
        }
    }
    for name in others {
        match rustix::fs::unlinkat(&directory, name.as_slice(), AtFlags::empty()) {
            Err(Errno::ISDIR) => directories.push(name),
            other => other?,
        }
    }
    Ok(directories)
}

/// Opens a directory for listing and unlinking, if need be by giving its owner the right to.
fn open_for_removal(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let handle = beneath::open(root, path, OFlags::PATH | OFlags::DIRECTORY)?;
    let stat = rustix::fs::fstat(&handle)?;
    if stat.st_mode & 0o700 != 0o700 && stat.st_uid == rustix::process::geteuid().as_raw() {
        rustix::fs::chmod(beneath::magic_path(handle.as_fd()), Mode::RWXU)?;
    }
    beneath::reopen(handle.as_fd(), OFlags::RDONLY | OFlags::DIRECTORY)
}
