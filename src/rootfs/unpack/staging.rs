//! The folder a tree is built in, beside the place it is for.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::remove::remove_tree;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::rootfs::{XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};

/// A locked folder `.NAME.castoff-PID` that becomes `NAME`, or is removed when dropped before.
#[derive(Debug)]
pub(super) struct Staging {
    directory: OwnedFd,
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Staging {
    /// A new empty folder beside `target`.
    pub(super) fn beside(target: &Path) -> Result<Self> {
        let target = host::fs::absolute(target)?;
        let Some(name) = target.file_name() else {
            return Err(Error::new(Kind::Usage, format!("`{}` cannot be unpacked into", target.display()))
                .hint("name a new folder in it"));
        };
        require_empty(&target)?;
        let parent = host::fs::parent(&target);
        // The name is cut so that what is added still fits.
        let mut prefix = b".".to_vec();
        prefix.extend_from_slice(&name.as_bytes()[..name.len().min(200)]);
        prefix.extend_from_slice(b".castoff-");
        sweep(parent, &prefix)?;
        prefix.extend_from_slice(std::process::id().to_string().as_bytes());
        let wrong = |path: &Path| format!("cannot make the folder `{}`", path.display());
        for serial in 0..1000 {
            let mut name = prefix.clone();
            if serial > 0 {
                name.extend_from_slice(format!("-{serial}").as_bytes());
            }
            let path = parent.join(OsString::from_vec(name));
            match rustix::fs::mkdir(&path, Mode::RWXU) {
                Err(Errno::EXIST) => continue,
                other => other.context(|| wrong(&path))?,
            }
            let Some(directory) = claim(&path).context(|| wrong(&path))? else { continue };
            // A default ACL of the parent folder became this folder's two; having none is no error.
            for name in [XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT] {
                match rustix::fs::fremovexattr(&directory, name) {
                    Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                    Err(error) => return Err(error).context(|| wrong(&path)),
                }
            }
            rustix::fs::fchmod(&directory, Mode::RWXU).context(|| wrong(&path))?;
            host::fault::point("unpack.staging.made");
            return Ok(Self { directory, path, target, published: false });
        }
        Err(Error::new(Kind::Conflict, wrong(&target)).hint("remove the folders `.NAME.castoff-…` beside it"))
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Syncs the tree and renames it to its place.
    pub(super) fn publish(&mut self) -> Result<()> {
        rustix::fs::syncfs(&self.directory).context(|| format!("cannot sync `{}`", self.path.display()))?;
        host::fault::point("unpack.staging.before-rename");
        // A rename replaces an empty directory and nothing else.
        host::fs::rename(&self.path, &self.target)?;
        self.published = true;
        host::fault::point("unpack.staging.after-rename");
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // The unpacking is already failing with its own error; the next one sweeps what stays.
            let _swept_later = remove_tree(&self.path);
        }
    }
}

/// Locks a folder this process has just made; none if a sweep took it away meanwhile.
fn claim(path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(directory) => directory,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error),
    }
    Ok((rustix::fs::fstat(&directory)?.st_nlink > 0).then_some(directory))
}

fn require_empty(target: &Path) -> Result<()> {
    let Some(metadata) = host::fs::link_metadata(target)? else { return Ok(()) };
    let what = if !metadata.is_dir() {
        "is not a directory"
    } else if !host::fs::list(target)?.is_empty() {
        "is not empty"
    } else if is_mount_point(target, &metadata)? {
        "is a mount point, which nothing can be renamed to"
    } else {
        return Ok(());
    };
    Err(Error::new(Kind::Conflict, format!("`{}` {what}", target.display()))
        .hint("name a folder that is empty or does not exist"))
}

fn is_mount_point(target: &Path, metadata: &std::fs::Metadata) -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let parent = host::fs::metadata(host::fs::parent(target))?;
    Ok(parent.is_some_and(|parent| parent.dev() != metadata.dev()))
}

/// Removes the folders `PREFIX….castoff-…` that killed unpackings left behind.
pub(super) fn sweep(parent: &Path, prefix: &[u8]) -> Result<()> {
    for name in host::fs::list(parent)? {
        let mark = b".castoff-";
        let is_ours = name.as_bytes().windows(mark.len()).any(|part| part == mark);
        if !is_ours || !name.as_bytes().starts_with(prefix) {
            continue;
        }
        let path = parent.join(&name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Another user's leftover, or no folder: not ours to remove.
        let Ok(directory) = rustix::fs::open(&path, flags, Mode::empty()) else { continue };
        if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            remove_tree(&path)?;
        }
    }
    Ok(())
}
