//! Entries of a tree that nobody trusts: every path is looked up below the tree's root, whatever links lie on the way.

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Kind, Result};

/// The most bytes of a file of a tree that is read whole.
const LIMIT: u64 = 16 << 20;

/// The root of a tree under work.
#[derive(Debug)]
pub(super) struct Inside {
    root: OwnedFd,
}

/// A folder of the tree and the name of an entry in it, which may not be there.
pub(super) struct Place {
    /// The folder.
    pub(super) folder: OwnedFd,
    /// The entry's name.
    pub(super) name: Vec<u8>,
}

impl Inside {
    /// The tree at this path.
    pub(super) fn open(tree: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, tree, flags, Mode::empty())
            .context(|| format!("cannot open `{}`", tree.display()))?;
        Ok(Self { root })
    }

    /// An entry, links followed inside the tree; none where nothing is.
    pub(super) fn find(&self, path: &str, flags: OFlags) -> Result<Option<OwnedFd>> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error).context(|| format!("cannot open the image's `{path}`")),
        }
    }

    /// A folder, links followed; an error where there is none.
    pub(super) fn folder(&self, path: &str) -> Result<OwnedFd> {
        self.find(path, OFlags::RDONLY | OFlags::DIRECTORY)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("the image has no folder `{path}`"))
                .hint("make it with a step of its own first (`mkdir`)")
        })
    }

    /// Where an entry is or will be: its folder, which must be there, and its own name, which no link is followed for.
    pub(super) fn place(&self, path: &str) -> Result<Place> {
        let trimmed = path.trim_end_matches('/');
        let (folder, name) = trimmed.rsplit_once('/').unwrap_or(("", trimmed));
        if matches!(name, "" | "." | "..") {
            return Err(Error::new(Kind::Usage, format!("`{path}` names no entry of the image")));
        }
        let folder = self.folder(if folder.is_empty() { "/" } else { folder })?;
        Ok(Place { folder, name: name.as_bytes().to_vec() })
    }

    /// Where writing to a path ends: links are followed, also one whose end is not there yet.
    pub(super) fn end_of(&self, path: &str) -> Result<Place> {
        let mut path = path.to_owned();
        for _ in 0..40 {
            let place = self.place(&path)?;
            match rustix::fs::readlinkat(&place.folder, place.name.as_slice(), Vec::new()) {
                Ok(target) => {
                    let target = String::from_utf8(target.into_bytes()).map_err(|error| {
                        Error::new(Kind::Unsupported, format!("the image's `{path}` leads to a name that is no UTF-8"))
                            .caused_by(error)
                    })?;
                    let above = path.trim_end_matches('/').rsplit_once('/').map_or("", |(above, _)| above).to_owned();
                    path = if target.starts_with('/') { target } else { format!("{above}/{target}") };
                }
                Err(_) => return Ok(place),
            }
        }
        Err(Error::new(Kind::Corrupt, format!("the image's links at `{path}` lead nowhere")))
    }

    /// Makes a folder and those above it.
    pub(super) fn make_folders(&self, path: &str) -> Result<()> {
        let mut walked = String::new();
        for name in path.split('/').filter(|name| !name.is_empty() && *name != ".") {
            walked.push('/');
            walked.push_str(name);
            if self.find(&walked, OFlags::PATH | OFlags::DIRECTORY)?.is_some() {
                continue;
            }
            let place = self.end_of(&walked)?;
            match rustix::fs::mkdirat(&place.folder, place.name.as_slice(), Mode::from_raw_mode(0o755)) {
                Ok(()) => set_mode(&place, 0o755)?,
                Err(Errno::EXIST) => {
                    return Err(Error::new(
                        Kind::Conflict,
                        format!("the image's `{walked}` is there and is no folder"),
                    ));
                }
                Err(error) => return Err(error).context(|| format!("cannot make the image's folder `{walked}`")),
            }
        }
        Ok(())
    }

    /// A file's content; none where there is none.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        // Only what is surely a file is opened: opening a device may already do something.
        let Some(place) = self.find(path, OFlags::PATH)? else { return Ok(None) };
        let wrong = || format!("cannot read the image's `{path}`");
        let state = rustix::fs::fstat(&place).context(wrong)?;
        if FileType::from_raw_mode(state.st_mode) != FileType::RegularFile {
            return Err(Error::new(Kind::Conflict, format!("the image's `{path}` is no file")));
        }
        if state.st_size.cast_unsigned() > LIMIT {
            return Err(Error::new(Kind::Limit, format!("the image's `{path}` is larger than {LIMIT} bytes")));
        }
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place));
        let file =
            rustix::fs::openat(CWD, own.as_str(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(wrong)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::fs::File::from(file), &mut bytes).context(wrong)?;
        Ok(Some(bytes))
    }

    /// Writes a file, instead of what was there; links are followed. A file that was there keeps owner and mode unless a
    /// mode is given.
    pub(super) fn write(&self, path: &str, mode: Option<u32>, content: &[u8]) -> Result<()> {
        let place = self.end_of(path)?;
        let wrong = || format!("cannot write the image's `{path}`");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let before = rustix::fs::statat(&place.folder, place.name.as_slice(), AtFlags::SYMLINK_NOFOLLOW);
        if before.is_ok_and(|state| FileType::from_raw_mode(state.st_mode) != FileType::RegularFile) {
            return Err(Error::new(Kind::Conflict, format!("the image's `{path}` is no file")));
        }
        let file = rustix::fs::openat(&place.folder, place.name.as_slice(), flags, Mode::from_raw_mode(0o644))
            .context(wrong)?;
        rustix::fs::ftruncate(&file, 0).context(wrong)?;
        if before.is_err() || mode.is_some() {
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode.unwrap_or(0o644))).context(wrong)?;
        }
        std::fs::File::from(file).write_all(content).context(wrong)
    }

    /// Sets the mode of an entry, links followed.
    pub(super) fn change_mode(&self, path: &str, mode: u32) -> Result<()> {
        let Some(fd) = self.find(path, OFlags::PATH)? else {
            return Err(Error::new(Kind::NotFound, format!("the image has no `{path}`")));
        };
        let own = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        rustix::fs::chmodat(CWD, own.as_str(), Mode::from_raw_mode(mode), AtFlags::empty())
            .context(|| format!("cannot set the mode of the image's `{path}`"))
    }

    /// Removes an entry and all in it; whether there was one.
    pub(super) fn remove(&self, path: &str) -> Result<bool> {
        let place = match self.place(path) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            other => other?,
        };
        remove_at(place.folder.as_fd(), &place.name).context(|| format!("cannot remove the image's `{path}`"))
    }
}

/// Sets the mode of what was just made, whatever the umask is.
pub(super) fn set_mode(place: &Place, mode: u32) -> Result<()> {
    rustix::fs::chmodat(&place.folder, place.name.as_slice(), Mode::from_raw_mode(mode), AtFlags::empty())
        .context(|| format!("cannot set the mode of `{}`", String::from_utf8_lossy(&place.name)))
}

/// Sets the owner of an entry itself.
pub(super) fn set_owner(place: &Place, owner: (u32, u32)) -> Result<()> {
    rustix::fs::chownat(
        &place.folder,
        place.name.as_slice(),
        Some(Uid::from_raw(owner.0)),
        Some(Gid::from_raw(owner.1)),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .context(|| format!("cannot give `{}` to {}:{}", String::from_utf8_lossy(&place.name), owner.0, owner.1))
    .map_err(|error| error.hint("an ordinary user's builds know only as many ids as /etc/subuid and /etc/subgid give"))
}

/// Removes an entry of a folder with all that is in it; whether there was one.
pub(super) fn remove_at(folder: BorrowedFd<'_>, name: &[u8]) -> Result<bool> {
    let wrong = || format!("cannot remove `{}`", String::from_utf8_lossy(name));
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) => return Ok(true),
        Err(Errno::NOENT) => return Ok(false),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error).context(wrong),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let inner = rustix::fs::openat(folder, name, flags, Mode::empty()).context(wrong)?;
    for entry in names_in(&inner)? {
        remove_at(inner.as_fd(), &entry)?;
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR).context(wrong)?;
    Ok(true)
}

/// The names in a folder, sorted.
pub(super) fn names_in(folder: &OwnedFd) -> Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder).context(|| "cannot list a folder of the image")? {
        let entry = entry.context(|| "cannot list a folder of the image")?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}
