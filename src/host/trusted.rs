//! Reading files that others may write to: no device, no pipe, no planted link, no half-written text.
//!
//! The rule for every path, walked from `/` one name at a time:
//!
//! 1. Only a regular file that not everybody may write is read, and only up to a limit.
//! 2. No folder on the way may be writable by everybody, unless it is sticky (`/tmp`); what lies directly in a sticky one must
//!    belong to root or to this user.
//! 3. A link is followed wherever it leads. One that belongs to neither root nor this user may lead only to what belongs to
//!    the link's owner: nobody makes root read what they could not read themselves.
//!
//! So a checkout may be a link, and a release may be swapped by renaming a link over another.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Context as _, Error, Kind, Result};

/// As many links as the kernel itself would follow (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// How often a file that changes under the reader is read again.
const MOST_TRIES: u64 = 20;

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    device: u64,
    inode: u64,
    mode: u32,
    owner: u32,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        #[expect(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "sizes and nanoseconds are neither"
        )]
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            mode: stat.st_mode,
            owner: stat.st_uid,
            size: stat.st_size as u64,
            modified: (stat.st_mtime, stat.st_mtime_nsec as u32),
            changed: (stat.st_ctime, stat.st_ctime_nsec as u32),
        }
    }

    /// Whether it is a folder.
    pub fn is_dir(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }

    /// Whether a change after `now` is sure to show: time stamps are taken from a clock that ticks every few milliseconds,
    /// on some file systems every two seconds, and two changes within one tick look alike.
    pub fn is_settled(&self, now: Duration) -> bool {
        let (seconds, nanoseconds) = self.changed;
        let Ok(seconds) = u64::try_from(seconds) else { return true };
        let tick = if nanoseconds == 0 { Duration::from_secs(2) } else { Duration::from_millis(50) };
        Duration::new(seconds, nanoseconds) + tick < now
    }
}

/// The identity of what is at the path, links followed; none where nothing is.
pub fn identity(path: &Path) -> Result<Option<Identity>> {
    match rustix::fs::stat(path) {
        Ok(stat) => Ok(Some(Identity::of(&stat))),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error).context(|| format!("cannot look at `{}`", path.display())),
    }
}

/// The text of a file and the identity it had, by the rule above; none where nothing is.
pub fn read(path: &Path, limit: u64) -> Result<Option<(String, Identity)>> {
    for round in 0..MOST_TRIES {
        let Some(opened) = open(path)? else { return Ok(None) };
        let wrong = || format!("cannot read `{}`", path.display());
        let look = |file: &File| rustix::fs::fstat(file).map(|stat| Identity::of(&stat)).context(wrong);
        let file = File::from(opened);
        let before = look(&file)?;
        let mut bytes = Vec::with_capacity(usize::try_from(before.size.min(limit)).unwrap_or(0) + 1);
        (&file).take(limit + 1).read_to_end(&mut bytes).context(wrong)?;
        if bytes.len() as u64 > limit {
            return Err(Error::new(Kind::Limit, format!("`{}` is larger than {limit} bytes", path.display())));
        }
        super::fault::point("host.trusted.read");
        if look(&file)? == before && bytes.len() as u64 == before.size {
            let text = String::from_utf8(bytes).map_err(|error| {
                let at = error.utf8_error().valid_up_to();
                let line = error.as_bytes()[..at].split(|byte| *byte == b'\n').count();
                Error::new(Kind::Usage, format!("`{}` is not UTF-8, line {line}", path.display()))
            })?;
            return Ok(Some((text, before)));
        }
        std::thread::sleep(Duration::from_millis(round.min(5)));
    }
    Err(Error::new(Kind::Unavailable, format!("`{}` is changing all the time", path.display()))
        .hint("write it elsewhere and rename it into place"))
}

/// The names in a folder, sorted, and the identity it had; none where no folder is.
pub fn list(path: &Path) -> Result<Option<(Vec<OsString>, Identity)>> {
    let Some(before) = identity(path)?.filter(Identity::is_dir) else { return Ok(None) };
    Ok(Some((super::fs::list(path)?, before)))
}

/// A regular file opened by the rule; none where nothing is.
fn open(path: &Path) -> Result<Option<OwnedFd>> {
    for _ in 0..MOST_TRIES {
        if let Looked::Found(found) = look(path)? {
            return Ok(found);
        }
    }
    Err(Error::new(Kind::Unavailable, format!("`{}` is changing all the time", path.display())))
}

/// What one look at a path gave.
enum Looked {
    /// This, or nothing.
    Found(Option<OwnedFd>),
    /// A link came into the file's place meanwhile: to take that for nothing would be an answer without the file.
    Replaced,
}

fn look(path: &Path) -> Result<Looked> {
    let mut walk = Walk::new(path)?;
    while let Some(name) = walk.ahead.pop() {
        if !walk.step(&name)? {
            return Ok(Looked::Found(None));
        }
    }
    let Some(found) = walk.found.take() else { return Err(walk.refuse(Kind::Usage, "is a folder, not a file")) };
    walk.judge_file(&found)?;
    // Non-blocking, should the file have become a pipe meanwhile; the name is not looked up again.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let opened = rustix::fs::openat(&walk.folder, &found.name, flags, Mode::empty());
    let opened = match opened {
        Err(Errno::NOENT) => return Ok(Looked::Found(None)),
        Err(Errno::LOOP) => return Ok(Looked::Replaced),
        other => other.context(|| format!("cannot open `{}`", path.display()))?,
    };
    let now = rustix::fs::fstat(&opened).context(|| format!("cannot look at `{}`", path.display()))?;
    walk.judge_file(&Found { name: found.name, stat: now })?;
    Ok(Looked::Found(Some(opened)))
}

struct Found {
    name: OsString,
    stat: Stat,
}

struct Walk<'path> {
    path: &'path Path,
    /// Where the walk stands.
    folder: OwnedFd,
    shown: PathBuf,
    /// Whether everybody may write to that folder, which then is sticky.
    anybody: bool,
    /// The names to come, the next one last.
    ahead: Vec<OsString>,
    links: usize,
    /// The owners of the links on the way, but for root and this user.
    link_owners: Vec<u32>,
    /// What is not a folder, at the end of the way.
    found: Option<Found>,
}

impl<'path> Walk<'path> {
    fn new(path: &'path Path) -> Result<Self> {
        let absolute = super::fs::absolute(path)?;
        let mut walk = Self {
            path,
            folder: root()?,
            shown: PathBuf::from("/"),
            anybody: false,
            ahead: Vec::new(),
            links: 0,
            link_owners: Vec::new(),
            found: None,
        };
        walk.push(&absolute);
        Ok(walk)
    }

    /// Puts the names of a path before those to come.
    fn push(&mut self, path: &Path) {
        let names = path.components().filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        });
        let names: Vec<OsString> = names.collect();
        self.ahead.extend(names.into_iter().rev());
    }

    /// Goes one name further; false where nothing is.
    fn step(&mut self, name: &OsString) -> Result<bool> {
        if self.found.is_some() {
            // A file where a folder is needed.
            return Ok(false);
        }
        let wrong = |path: &Path| format!("cannot open `{}`", path.display());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let next = match rustix::fs::openat(&self.folder, name, flags, Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(false),
            Err(error) => return Err(error).context(|| wrong(self.path)),
        };
        let stat = rustix::fs::fstat(&next).context(|| wrong(self.path))?;
        let here = self.shown.join(name);
        if self.anybody && name != ".." && !is_ours(stat.st_uid) {
            self.shown = here;
            return Err(self.refuse(Kind::Refused, "lies in a folder for everybody and belongs to somebody else"));
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                self.shown = here;
                self.follow(&next, &stat)?;
            }
            FileType::Directory => {
                self.shown = here;
                self.enter(next, &stat)?;
            }
            _ => self.found = Some(Found { name: name.clone(), stat }),
        }
        Ok(true)
    }

    fn follow(&mut self, link: &OwnedFd, stat: &Stat) -> Result<()> {
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(self.refuse(Kind::Refused, "is one link too many"));
        }
        if !is_ours(stat.st_uid) {
            self.link_owners.push(stat.st_uid);
        }
        let target = rustix::fs::readlinkat(link, "", Vec::new());
        let target = target.context(|| format!("cannot follow `{}`", self.shown.display()))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            self.folder = root()?;
            self.shown = PathBuf::from("/");
            self.anybody = false;
        } else {
            self.shown.pop();
        }
        self.push(&target);
        Ok(())
    }

    fn enter(&mut self, folder: OwnedFd, stat: &Stat) -> Result<()> {
        self.folder = folder;
        self.anybody = stat.st_mode & 0o002 != 0;
        if self.anybody && stat.st_mode & 0o1000 == 0 {
            return Err(self.refuse(Kind::Refused, "is a folder that everybody may write to"));
        }
        Ok(())
    }

    fn judge_file(&self, found: &Found) -> Result<()> {
        let refuse =
            |kind, why: &str| Err(Self { shown: self.shown.join(&found.name), ..self.blank()? }.refuse(kind, why));
        let stat = &found.stat;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Fifo => return refuse(Kind::Refused, "is a pipe, not a file"),
            FileType::Socket => return refuse(Kind::Refused, "is a socket, not a file"),
            FileType::BlockDevice | FileType::CharacterDevice => {
                return refuse(Kind::Refused, "is a device, not a file");
            }
            FileType::Directory | FileType::Symlink | FileType::Unknown => {
                return refuse(Kind::Refused, "is not a regular file");
            }
        }
        if stat.st_mode & 0o002 != 0 {
            return refuse(Kind::Refused, "is a file that everybody may write to");
        }
        if self.link_owners.iter().any(|owner| *owner != stat.st_uid) {
            return refuse(Kind::Refused, "is reached through a link of somebody it does not belong to");
        }
        Ok(())
    }

    /// The same path with nothing on the way, to tell a refusal from.
    fn blank(&self) -> Result<Self> {
        Self::new(self.path)
    }

    fn refuse(&self, kind: Kind, why: &str) -> Error {
        let (asked, shown) = (self.path.display().to_string(), self.shown.display().to_string());
        let through = if asked == shown { String::new() } else { format!("cannot read `{asked}`: ") };
        let error = Error::new(kind, format!("{through}`{shown}` {why}"));
        match why {
            "is a folder that everybody may write to" | "is a file that everybody may write to" => {
                error.hint(format!("`chmod o-w {shown}` after a look at what is in it"))
            }
            "is reached through a link of somebody it does not belong to" => {
                error.hint("make the link root's own (`chown -h root LINK`), or put the file in its place")
            }
            _ => error,
        }
    }
}

fn root() -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open("/", flags, Mode::empty()).context(|| "cannot open `/`")
}

/// Whether the owner is root or this user.
fn is_ours(owner: u32) -> bool {
    owner == 0 || owner == rustix::process::geteuid().as_raw()
}
