//! What a tree must have for the time a command runs in it, and must not keep: places to mount on, and a
//! `policy-rc.d` that lets packages start no services.
//!
//! Made before, taken away after, unless the command made something else of them; the folders they were in get their
//! times back. Nothing here follows a link out of the tree.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::wire::Bind;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// invoke-rc.d asks it; 101 means `forbidden by policy`. Nobody else's has these words, so that one which a command writes
/// stays.
const POLICY: &[u8] = b"#!/bin/sh\n# castoff: while an image is built no service starts\nexit 101\n";

/// The longest chain of links followed to the resolver's configuration (the kernel's own limit).
const LINKS: usize = 40;

/// The stand-ins of one run; dropping them takes them away.
#[derive(Debug)]
pub(super) struct StandIns {
    root: OwnedFd,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    folder: OwnedFd,
    name: Vec<u8>,
    /// None: a folder.
    content: Option<&'static [u8]>,
    /// The folder's mtime before, and as making this left it.
    times: (Moment, Moment),
}

type Moment = (i64, u64);

impl StandIns {
    /// Makes what the tree lacks.
    pub(super) fn make(tree: &std::path::Path, resolver: bool, binds: &[(Bind, bool)]) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(tree, flags, Mode::empty()).context(|| format!("cannot open `{}`", tree.display()))?;
        let mut stand_ins = Self { root, made: Vec::new() };
        for name in ["proc", "sys", "dev"] {
            stand_ins.folder(name)?;
        }
        if resolver {
            stand_ins.resolver()?;
        }
        for (bind, is_folder) in binds {
            stand_ins.place(&bind.to, *is_folder)?;
        }
        if let Some(sbin) = stand_ins.open_folder("usr/sbin")? {
            stand_ins.put(sbin, b"policy-rc.d", Some(POLICY), 0o755)?;
        }
        Ok(stand_ins)
    }

    /// A folder of the tree, links inside the tree followed; none where there is none.
    fn open_folder(&self, path: impl rustix::path::Arg) -> Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error).context(|| "cannot look into the tree"),
        }
    }

    fn folder(&mut self, name: &str) -> Result<()> {
        match rustix::fs::statat(&self.root, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(state) if FileType::from_raw_mode(state.st_mode) == FileType::Directory => Ok(()),
            Ok(_) => Err(Error::new(Kind::Refused, format!("the tree's `/{name}` is not a folder"))
                .hint("a command cannot run in this tree: it is not a root filesystem")),
            Err(Errno::NOENT) => {
                let root = self.root.try_clone().context(|| "cannot open the tree again")?;
                self.put(root, name.as_bytes(), None, 0o755)
            }
            Err(error) => Err(error).context(|| format!("cannot look at the tree's `/{name}`")),
        }
    }

    /// Makes sure that following `etc/resolv.conf` inside the tree ends at a file. It is often a link to a file that
    /// a service writes under `/run`.
    fn resolver(&mut self) -> Result<()> {
        let mut path = b"etc/resolv.conf".to_vec();
        for _ in 0..LINKS {
            let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
            let (before, name) = path.split_at(at);
            let (before, name) = (before.to_vec(), name.to_vec());
            let folder = match self.open_folder(if before.is_empty() { b".".as_slice() } else { &before })? {
                Some(folder) => folder,
                None => self.folders(&before)?,
            };
            match rustix::fs::readlinkat(&folder, name.as_slice(), Vec::new()) {
                Ok(target) => {
                    let target = target.into_bytes();
                    path = if target.starts_with(b"/") { target } else { [before, target].concat() };
                }
                Err(Errno::NOENT) => return self.put(folder, &name, Some(b""), 0o644),
                // Not a link: it is there.
                Err(Errno::INVAL) => return Ok(()),
                Err(error) => return Err(error).context(|| "cannot look at the tree's `/etc/resolv.conf`"),
            }
        }
        Err(leads_nowhere())
    }

    /// Makes sure that there is something at the path to mount on.
    fn place(&mut self, path: &[u8], is_folder: bool) -> Result<()> {
        if is_folder {
            return self.folders(path).map(drop);
        }
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let at = path.iter().rposition(|byte| *byte == b'/').map_or(0, |at| at + 1);
        let (folder, name) = path.split_at(at);
        let folder = self.folders(folder)?;
        self.put(folder, name, Some(b""), 0o644)
    }

    /// The folder at this path, with those above it, made where they are missing.
    fn folders(&mut self, path: &[u8]) -> Result<OwnedFd> {
        let mut walked: Vec<u8> = Vec::new();
        let mut folder = self.root.try_clone().context(|| "cannot open the tree again")?;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".") {
            walked.extend_from_slice(name);
            folder = if let Some(folder) = self.open_folder(walked.as_slice())? {
                folder
            } else {
                self.put(folder, name, None, 0o755)?;
                self.open_folder(walked.as_slice())?.ok_or_else(leads_nowhere)?
            };
            walked.push(b'/');
        }
        Ok(folder)
    }

    /// Makes one entry, unless it is there already.
    fn put(&mut self, folder: OwnedFd, name: &[u8], content: Option<&'static [u8]>, mode: u32) -> Result<()> {
        let doing = || format!("cannot make `{}` in the tree", String::from_utf8_lossy(name));
        let before = mtime(&folder).context(doing)?;
        let outcome = match content {
            None => rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(mode)),
            Some(content) => write_new(&folder, name, mode, content),
        };
        match outcome {
            Ok(()) => {
                let times = (before, mtime(&folder).context(doing)?);
                self.made.push(Made { folder, name: name.to_owned(), content, times });
                Ok(())
            }
            Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error).context(doing),
        }
    }

    /// Takes everything away again.
    pub(super) fn take_away(mut self) -> Result<()> {
        self.clear()
    }

    fn clear(&mut self) -> Result<()> {
        while let Some(made) = self.made.pop() {
            made.take_away()
                .context(|| format!("cannot take `{}` out of the tree again", String::from_utf8_lossy(&made.name)))?;
        }
        Ok(())
    }
}

impl Drop for StandIns {
    fn drop(&mut self) {
        // Only after a failure, which matters more; the tree of a failed run is not used.
        let _failed_already = self.clear();
    }
}

impl Made {
    fn take_away(&self) -> Result<(), Errno> {
        let now = mtime(&self.folder)?;
        let name = self.name.as_slice();
        let removed = match self.content {
            None => rustix::fs::unlinkat(&self.folder, name, AtFlags::REMOVEDIR),
            Some(content) if is_still(&self.folder, name, content)? => {
                rustix::fs::unlinkat(&self.folder, name, AtFlags::empty())
            }
            Some(_) => Ok(()),
        };
        match removed {
            // The command removed it, or put something into it: then it is the command's.
            Ok(()) | Err(Errno::NOENT | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            Err(error) => return Err(error),
        }
        let (before, made) = self.times;
        let (seconds, nanoseconds) = if now == made { before } else { now };
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds.cast_signed() },
        };
        // Through `.`, since a descriptor of a bare path cannot be the object itself.
        rustix::fs::utimensat(&self.folder, ".", &times, AtFlags::empty())
    }
}

fn leads_nowhere() -> Error {
    Error::new(Kind::Corrupt, "the tree's `/etc/resolv.conf` is a link that leads nowhere")
}

fn mtime(folder: impl AsFd) -> Result<Moment, Errno> {
    let state = rustix::fs::statat(folder, ".", AtFlags::empty())?;
    Ok((state.st_mtime, state.st_mtime_nsec))
}

fn write_new(folder: &OwnedFd, name: &[u8], mode: u32, content: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(mode))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    let mut rest = content;
    while !rest.is_empty() {
        let count = rustix::io::write(&file, rest)?;
        rest = &rest[count..];
    }
    Ok(())
}

/// Whether the entry is still the file that was made.
fn is_still(folder: &OwnedFd, name: &[u8], content: &[u8]) -> Result<bool, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(false),
        Err(error) => return Err(error),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(false);
    }
    let mut bytes = vec![0; content.len() + 1];
    let count = rustix::io::read(&file, &mut bytes[..])?;
    Ok(&bytes[..count] == content)
}

/// The host's resolver configuration, if it has one.
pub(super) fn host_resolver() -> Result<Option<Vec<u8>>> {
    let path = std::path::Path::new("/etc/resolv.conf");
    if fs::metadata(path)?.is_none() {
        return Ok(None);
    }
    fs::read_at_most(path, 1 << 20).map(Some)
}
