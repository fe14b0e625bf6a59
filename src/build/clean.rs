//! What a step leaves that says when and where it ran, and no more: taken away before its result is kept.

use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Timespec, Timestamps};

use super::inside::{names_in, remove_at};
use crate::error::{Context as _, Result};
use crate::host::clock;

/// Logs and caches of package tools: rebuilt when they are needed, different at each run.
const TRACES: [&str; 9] = [
    "var/log/dpkg.log",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
    "var/log/apt/history.log",
    "var/log/apt/term.log",
    "var/log/apt/eipp.log.xz",
    "var/cache/apt/pkgcache.bin",
    "var/cache/apt/srcpkgcache.bin",
    "var/cache/ldconfig/aux-cache",
];

/// Folders whose content castoff's own use of apt leaves.
const DOWNLOADS: [&str; 2] = ["var/lib/apt/lists", "var/cache/apt/archives"];

/// What of the build host gets into a tree that is bootstrapped on it.
const OF_THE_HOST: [&str; 4] =
    ["etc/resolv.conf", "etc/hostname", "etc/apt/apt.conf.d/99mmdebstrap", "etc/dpkg/dpkg.cfg.d/99mmdebstrap"];

/// How much is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// Logs and caches.
    Traces,
    /// Those, and what apt downloaded for castoff.
    Downloads,
    /// Those, devices, and what came from the build host.
    Bootstrap,
    /// Devices in `/dev` alone, which not everybody can make: the rest is its owner's.
    Devices,
    /// Nothing but times: what was asked for by name is what was asked for.
    Times,
}

/// Cleans what a step changed. `below` is the tree before, where what changed is a whole tree of its own and not a layer
/// in whose gaps that tree comes to light: what was there then is there again. Nothing stays younger than `epoch`.
pub(super) fn clean(changes: &Path, below: Option<&Path>, extent: Extent, epoch: Option<i64>) -> Result<()> {
    let root = folder_at(CWD, changes)?;
    let before = below.map(|below| folder_at(CWD, below)).transpose()?;
    let before = before.as_ref();
    if !matches!(extent, Extent::Devices | Extent::Times) {
        TRACES.iter().try_for_each(|path| drop_file(&root, before, path))?;
    }
    if matches!(extent, Extent::Downloads | Extent::Bootstrap) {
        DOWNLOADS.iter().try_for_each(|path| empty(&root, before, path))?;
    }
    if matches!(extent, Extent::Bootstrap | Extent::Devices) {
        empty(&root, None, "dev")?;
    }
    if extent == Extent::Bootstrap {
        OF_THE_HOST.iter().try_for_each(|path| drop_file(&root, None, path))?;
    }
    epoch.map_or(Ok(()), |epoch| clamp(&root, epoch))
}

fn folder_at(at: impl std::os::fd::AsFd, path: impl rustix::path::Arg + Copy) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, path, flags, Mode::empty()).context(|| "cannot open a folder of the image")
}

/// A folder below, no link followed; none where there is none.
fn below(root: &OwnedFd, path: &str) -> Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = rustix::fs::ResolveFlags::BENEATH | rustix::fs::ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(folder) => Ok(Some(folder)),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => Ok(None),
        Err(error) => Err(error).context(|| format!("cannot open the image's `/{path}`")),
    }
}

/// Removes a file, and nothing that is another kind: a whiteout, a folder, a link are somebody's wish.
fn drop_file(root: &OwnedFd, before: Option<&OwnedFd>, path: &str) -> Result<()> {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    let Some(folder) = below(root, folder)? else { return Ok(()) };
    match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(state) if FileType::from_raw_mode(state.st_mode) == FileType::RegularFile => {
            match before.map(|before| old_file(before, path)).transpose()?.flatten() {
                Some(old) => put_back(&folder, name, old),
                None => remove_at(folder.as_fd(), name.as_bytes()).map(|_| ()),
            }
        }
        Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error).context(|| format!("cannot look at the image's `/{path}`")),
    }
}

/// A regular file of the tree before.
fn old_file(before: &OwnedFd, path: &str) -> Result<Option<std::fs::File>> {
    let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
    let Some(folder) = below(before, folder)? else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(state) if FileType::from_raw_mode(state.st_mode) == FileType::RegularFile => {
            let file = rustix::fs::openat(&folder, name, flags, Mode::empty());
            file.map(|file| Some(file.into())).context(|| format!("cannot open the image's `/{path}`"))
        }
        _ => Ok(None),
    }
}

fn put_back(folder: &OwnedFd, name: &str, mut old: std::fs::File) -> Result<()> {
    let wrong = || format!("cannot put the image's `{name}` back");
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty()).context(wrong)?;
    let mut file = std::fs::File::from(file);
    std::io::copy(&mut old, &mut file).context(wrong)?;
    let metadata = old.metadata().context(wrong)?;
    file.set_permissions(metadata.permissions()).context(wrong)?;
    file.set_modified(metadata.modified().context(wrong)?).context(wrong)
}

/// Removes what is in a folder, but for what was in it before.
fn empty(root: &OwnedFd, before: Option<&OwnedFd>, path: &str) -> Result<()> {
    let Some(folder) = below(root, path)? else { return Ok(()) };
    let old = match before.map(|before| below(before, path)).transpose()?.flatten() {
        Some(old) => names_in(&old)?,
        None => Vec::new(),
    };
    for name in names_in(&folder)?.into_iter().filter(|name| old.binary_search(name).is_err()) {
        remove_at(folder.as_fd(), &name)?;
    }
    Ok(())
}

/// Sets every time that is younger than `epoch` back to it, in whole seconds; a folder after what is in it.
fn clamp(folder: &OwnedFd, epoch: i64) -> Result<()> {
    for name in names_in(folder)? {
        let wrong = || format!("cannot set the times of `{}`", String::from_utf8_lossy(&name));
        let state = rustix::fs::statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW).context(wrong)?;
        if FileType::from_raw_mode(state.st_mode) == FileType::Directory {
            clamp(&folder_at(folder, name.as_slice())?, epoch)?;
            continue;
        }
        if is_younger(&state, epoch) {
            rustix::fs::utimensat(folder, name.as_slice(), &times(epoch), AtFlags::SYMLINK_NOFOLLOW).context(wrong)?;
        }
    }
    let state = rustix::fs::fstat(folder).context(|| "cannot look at a folder of the image")?;
    if is_younger(&state, epoch) {
        rustix::fs::futimens(folder, &times(epoch)).context(|| "cannot set the times of a folder of the image")?;
    }
    Ok(())
}

fn is_younger(state: &rustix::fs::Stat, epoch: i64) -> bool {
    (state.st_mtime, state.st_mtime_nsec) > (epoch, 0)
}

fn times(epoch: i64) -> Timestamps {
    let time = Timespec { tv_sec: epoch, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// The youngest time in a tree that is not yet to come, in seconds since 1970; that of its root is often the moment it was
/// unpacked. After a time to come everything that a step writes would keep the moment of the build.
pub(super) fn youngest(tree: &Path) -> Result<i64> {
    fn of(folder: &OwnedFd, now: i64) -> Result<i64> {
        let mut found = 0;
        for name in names_in(folder)? {
            let state = rustix::fs::statat(folder, name.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                .context(|| "cannot look at an entry of the image")?;
            if state.st_mtime <= now {
                found = found.max(state.st_mtime);
            }
            if FileType::from_raw_mode(state.st_mode) == FileType::Directory {
                found = found.max(of(&folder_at(folder, name.as_slice())?, now)?);
            }
        }
        Ok(found)
    }
    of(&folder_at(CWD, tree)?, clock::now().as_secs().cast_signed())
}
