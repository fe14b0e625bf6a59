//! The daemon's own unix socket: made with its final permissions, never doubled, removed at the end.
//!
//! ```text
//! FOLDER/castoff.sock         the socket
//! FOLDER/castoff.sock.lock    held (`flock`) by the daemon that owns the socket; stays behind, empty
//! ```

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::Mode;

use crate::config::Config;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;

/// How many connections may wait in the kernel; it takes less where `net.core.somaxconn` is less.
pub(super) const BACKLOG: i32 = 4096;

/// How long a daemon that was told to end may still listen.
const MOMENT: Duration = Duration::from_millis(500);

/// The socket this daemon made; removed when [`OwnSocket::remove`] is called.
#[derive(Debug)]
pub(super) struct OwnSocket {
    path: PathBuf,
    device: u64,
    inode: u64,
    _lock: host::fs::Lock,
}

/// Makes the configured socket. Waits for an earlier daemon that is about to end; refuses beside one that listens.
pub(super) fn open(config: &Config) -> Result<(UnixListener, OwnSocket)> {
    let path = config.daemon.socket.clone().ok_or_else(|| {
        Error::new(Kind::Usage, "no place for the daemon's socket: `XDG_RUNTIME_DIR` is not set")
            .hint("set `socket` or `CASTOFF_SOCKET` to a path in a folder of yours")
    })?;
    let folder = host::fs::parent(&path);
    host::fs::create_dir_all(folder, 0o755)?;
    trusted(folder)?;
    let lock = lock(&path, config.daemon.drain)?;
    if let Some(found) = host::fs::link_metadata(&path)? {
        if !found.file_type().is_socket() {
            return Err(Error::new(Kind::Conflict, format!("`{}` exists and is no socket", path.display()))
                .hint("remove it, or set `socket` to another path"));
        }
        if listens(&path)? {
            return Err(Error::new(Kind::Conflict, format!("another program listens at `{}`", path.display())));
        }
    }
    let listener = bind(&path, config)?;
    let made = host::fs::link_metadata(&path)?
        .ok_or_else(|| Error::new(Kind::Conflict, format!("somebody removed `{}`", path.display())))?;
    Ok((listener, OwnSocket { path, device: made.dev(), inode: made.ino(), _lock: lock }))
}

impl OwnSocket {
    /// Removes the socket, if it is still the one this daemon made.
    pub(super) fn remove(&self) -> Result<()> {
        let ours = host::fs::link_metadata(&self.path)?
            .is_some_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if ours {
            host::fs::remove_file(&self.path)?;
        }
        Ok(())
    }
}

/// Binds under another name and moves the socket into place once its owner and mode are right, so that nobody can
/// connect in between, and a dead daemon's socket is replaced in one step.
fn bind(path: &Path, config: &Config) -> Result<UnixListener> {
    let draft = host::fs::parent(path).join(format!(".{}.sock", std::process::id()));
    host::fs::remove_file(&draft)?;
    let umask = rustix::process::umask(Mode::from_raw_mode(0o177));
    let bound = UnixListener::bind(&draft);
    rustix::process::umask(umask);
    let listener = bound.context(|| format!("cannot make a socket in `{}`", host::fs::parent(path).display()))?;
    let ready = || -> Result<()> {
        if let Some(group) = &config.daemon.socket_group {
            let gid = group_id(group)?;
            nix::unistd::chown(&draft, None, Some(gid))
                .map_err(std::io::Error::from)
                .context(|| format!("cannot give `{}` to group `{group}`", path.display()))?;
        }
        let mode = Mode::from_raw_mode(config.daemon.socket_mode);
        rustix::fs::chmod(&draft, mode).context(|| format!("cannot set the mode of `{}`", path.display()))?;
        rustix::net::listen(&listener, BACKLOG).context(|| format!("cannot listen at `{}`", path.display()))?;
        host::fs::rename(&draft, path)
    };
    if let Err(error) = ready() {
        host::fs::remove_file(&draft)?;
        return Err(error);
    }
    Ok(listener)
}

fn group_id(name: &str) -> Result<nix::unistd::Gid> {
    let found = nix::unistd::Group::from_name(name)
        .map_err(std::io::Error::from)
        .context(|| format!("cannot look up group `{name}`"))?;
    found.map(|group| group.gid).ok_or_else(|| {
        Error::new(Kind::NotFound, format!("there is no group `{name}`"))
            .hint(format!("`groupadd --system {name}` makes it; `socket_group` names it"))
    })
}

/// A folder in which nobody but root and this user can put or replace files: who could would be taken for the daemon.
fn trusted(folder: &Path) -> Result<()> {
    let found = host::fs::metadata(folder)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no folder `{}`", folder.display())))?;
    let own = rustix::process::geteuid().as_raw();
    let open_to_others = found.mode() & 0o022 != 0 && found.mode() & 0o1000 == 0;
    if (found.uid() != 0 && found.uid() != own) || open_to_others {
        return Err(Error::new(Kind::Refused, format!("others may replace files in `{}`", folder.display()))
            .hint("the socket's folder must belong to root or the daemon's user, and be writable for nobody else"));
    }
    Ok(())
}

/// The lock of the socket. An earlier daemon holds it until its last request is answered.
fn lock(path: &Path, patience: Duration) -> Result<host::fs::Lock> {
    let mut name = OsString::from(path);
    name.push(".lock");
    let began = Instant::now();
    loop {
        if let Some(lock) = host::fs::Lock::try_exclusive(Path::new(&name))? {
            return Ok(lock);
        }
        // One that was just told to end listens for a moment more.
        let lives = began.elapsed() > MOMENT && listens(path)?;
        if lives || began.elapsed() > patience + Duration::from_secs(2) {
            return Err(Error::new(Kind::Conflict, format!("another castoff daemon owns `{}`", path.display()))
                .hint("stop it first, or set `socket` to another path"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether anybody accepts connections at the path.
fn listens(path: &Path) -> Result<bool> {
    match UnixStream::connect(path) {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(false),
        Err(error) => Err(error).context(|| format!("cannot tell whether anybody listens at `{}`", path.display())),
    }
}
