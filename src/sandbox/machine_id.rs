//! The machine's id of a tree, which packages make when they are installed and no two machines may share.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Context as _, Result};

/// systemd's and dbus's, each in its folder.
const PLACES: [(&str, &str); 2] = [("etc", "machine-id"), ("var/lib/dbus", "machine-id")];

/// What it was before a command ran.
#[derive(Debug)]
pub(super) struct MachineId {
    root: OwnedFd,
    before: Vec<Option<Vec<u8>>>,
}

impl MachineId {
    pub(super) fn note(tree: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(tree, flags, Mode::empty()).context(|| format!("cannot open `{}`", tree.display()))?;
        let before = PLACES.iter().map(|(folder, name)| content(&root, folder, name)).collect::<Result<_>>()?;
        Ok(Self { root, before })
    }

    /// Makes it what it was. What is no regular file is left as the command made it.
    pub(super) fn put_back(self) -> Result<()> {
        for ((folder, name), before) in PLACES.iter().zip(&self.before) {
            let wrong = || format!("cannot put the tree's `/{folder}/{name}` back");
            let now = content(&self.root, folder, name)?;
            // Emptied it is made anew at the next start, and was somebody's wish.
            let is_wish = |now: &[u8]| now.trim_ascii().is_empty() || now.trim_ascii() == b"uninitialized";
            if now.is_none() || now == *before || now.as_deref().is_some_and(is_wish) {
                continue;
            }
            let Some(folder) = open_folder(&self.root, folder)? else { continue };
            match before {
                None => rustix::fs::unlinkat(&folder, *name, AtFlags::empty()).context(wrong)?,
                Some(bytes) => {
                    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let file = rustix::fs::openat(&folder, *name, flags, Mode::empty()).context(wrong)?;
                    File::from(file).write_all(bytes).context(wrong)?;
                }
            }
        }
        Ok(())
    }
}

fn open_folder(root: impl AsFd, folder: &str) -> Result<Option<OwnedFd>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(root, folder, flags, Mode::empty(), resolve) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error).context(|| format!("cannot open the tree's `/{folder}`")),
    }
}

/// The first bytes of a regular file, more of which no id has; none where there is no such file.
fn content(root: impl AsFd, folder: &str, name: &str) -> Result<Option<Vec<u8>>> {
    let wrong = || format!("cannot read the tree's `/{folder}/{name}`");
    let Some(folder) = open_folder(root, folder)? else { return Ok(None) };
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(error) => return Err(error).context(wrong),
    };
    if FileType::from_raw_mode(rustix::fs::fstat(&file).context(wrong)?.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut bytes = vec![0; 4096];
    let count = rustix::io::read(&file, &mut bytes[..]).context(wrong)?;
    bytes.truncate(count);
    Ok(Some(bytes))
}
