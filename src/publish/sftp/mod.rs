//! A folder behind SFTP as a place to publish to.
//!
//! What servers do differently is met by looking, not by believing codes: an exclusive create that fails says only
//! "failure", and so does a full disk.

mod hash;
mod window;
mod write;

use std::path::PathBuf;

use sha2::Digest as _;
use ssh2::{ErrorCode, File, OpenFlags, OpenType, RenameFlags};

use super::access::MAKE_FOLDER;
use super::content::Content;
use super::name::{Entry, RemoteName, Temporary};
use super::remote::{RemoteStore, Space, Tier, Written};
use super::target::Folder;
use crate::error::{Error, Kind, Result};
use crate::progress::{Cancel, Progress};
use crate::ssh::{Connection, Patience, Route, SessionError, Stop};
use crate::vocab::Digest;

const NO_SUCH_FILE: [ErrorCode; 2] = [ErrorCode::SFTP(2), ErrorCode::SFTP(10)];
const DENIED: [ErrorCode; 2] = [ErrorCode::SFTP(3), ErrorCode::SFTP(12)];
const UNSUPPORTED: ErrorCode = ErrorCode::SFTP(8);
const NO_SPACE: [ErrorCode; 2] = [ErrorCode::SFTP(14), ErrorCode::SFTP(15)];

/// A folder on an SFTP server.
pub(super) struct Sftp {
    route: Route,
    folder: Folder,
    place: String,
    cancel: Cancel,
    open: Option<Open>,
    /// Whether the server runs the program that hashes, once that is known.
    runs_programs: Option<bool>,
}

/// What lives on one connection; dropped in this order.
struct Open {
    part: Option<(PathBuf, File)>,
    sftp: ssh2::Sftp,
    connection: Connection,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Handles ask the server to close them when they are dropped: with the line cut, that ends at once.
        self.connection.abandon();
    }
}

impl Open {
    /// One request and its answer.
    fn ask<T, E: SessionError>(&self, mut step: impl FnMut(&ssh2::Sftp) -> Result<T, E>) -> Result<T, Stop> {
        self.connection.drive(|_| step(&self.sftp))
    }
}

impl Sftp {
    /// Connects to the folder, which must be there.
    pub(super) fn open(route: Route, folder: Folder, place: String, cancel: &Cancel) -> Result<Self> {
        let mut sftp = Self { route, folder, place, cancel: cancel.clone(), open: None, runs_programs: None };
        sftp.connect()?;
        Ok(sftp)
    }

    fn connect(&mut self) -> Result<()> {
        self.open = None;
        let connection = Connection::open(&self.route, Patience::default(), &self.cancel)?;
        let sftp = connection.drive(ssh2::Session::sftp).map_err(|stop| {
            stop.into_error(Kind::Refused, format!("`{}` does not offer SFTP", connection.place()))
                .hint("the server needs the subsystem `sftp` for this user")
        })?;
        let open = Open { part: None, sftp, connection };
        let folder = PathBuf::from(self.folder.text());
        match open.ask(|sftp| sftp.stat(&folder)) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Err(Error::new(Kind::Conflict, format!("{} is not a folder", self.place))),
            Err(Stop::Answer { code: Some(code), .. }) if NO_SUCH_FILE.contains(&code) => {
                let message = format!("there is no folder {}", self.place);
                return Err(Error::new(Kind::NotFound, message).hint(MAKE_FOLDER));
            }
            Err(stop) => return Err(self.failure(stop, "cannot look at the folder")),
        }
        self.open = Some(open);
        Ok(())
    }

    /// What lives on the connection; a lost one is not made anew behind the caller's back.
    fn opened(&mut self) -> Result<&mut Open> {
        match &mut self.open {
            Some(open) => Ok(open),
            None => Err(Error::new(Kind::Unavailable, format!("the connection to {} is closed", self.place))),
        }
    }

    fn failure(&self, stop: Stop, what: &str) -> Error {
        let message = format!("{what} at {}", self.place);
        let kind = match &stop {
            Stop::Answer { code: Some(code), .. } if NO_SUCH_FILE.contains(code) => Kind::NotFound,
            Stop::Answer { code: Some(code), .. } if DENIED.contains(code) => Kind::Refused,
            Stop::Answer { code: Some(code), .. } if NO_SPACE.contains(code) => Kind::NoSpace,
            Stop::Answer { .. } | Stop::Link(_) => Kind::Failed,
        };
        stop.into_error(kind, message)
    }

    /// The failure; after a lost link everything that lived on it is let go.
    fn failed(&mut self, stop: Stop, what: &str) -> Error {
        let error = self.failure(stop, what);
        if matches!(error.kind(), Kind::Unavailable | Kind::Interrupted) {
            self.open = None;
        }
        error
    }

    fn path(&self, entry: Entry<'_>) -> PathBuf {
        self.folder.join(entry.text())
    }

    /// Opens the temporary file, made if it is not there. "Exists" comes as a bare failure, so looking decides.
    fn open_part(&mut self, temporary: &Temporary) -> Result<()> {
        let path = self.path(temporary.into());
        if self.opened()?.part.as_ref().is_some_and(|(open, _)| *open == path) {
            return Ok(());
        }
        let exclusive = OpenFlags::WRITE | OpenFlags::CREATE | OpenFlags::EXCLUSIVE;
        let made = self.opened()?.ask(|sftp| sftp.open_mode(&path, exclusive, 0o644, OpenType::File));
        let file = match made {
            Ok(file) => file,
            Err(stop @ Stop::Link(_)) => return Err(self.failed(stop, "cannot make the temporary file")),
            Err(stop) => {
                if self.size_of(temporary.into())?.is_none() {
                    return Err(self.failed(stop, "cannot make the temporary file"));
                }
                self.opened()?
                    .ask(|sftp| sftp.open_mode(&path, OpenFlags::WRITE, 0o644, OpenType::File))
                    .map_err(|stop| self.failed(stop, "cannot open the temporary file"))?
            }
        };
        self.opened()?.part = Some((path, file));
        Ok(())
    }
}

impl Sftp {
    /// Removes a file; whether there was one.
    fn unlink(&mut self, entry: Entry<'_>) -> Result<bool> {
        let path = self.path(entry);
        let open = self.opened()?;
        open.part = None;
        match open.ask(|sftp| sftp.unlink(&path)) {
            Ok(()) => Ok(true),
            Err(Stop::Answer { code: Some(code), .. }) if NO_SUCH_FILE.contains(&code) => Ok(false),
            Err(stop) => Err(self.failed(stop, &format!("cannot remove `{}`", entry.text()))),
        }
    }
}

impl RemoteStore for Sftp {
    fn place(&self) -> &str {
        &self.place
    }

    fn size_of(&mut self, entry: Entry<'_>) -> Result<Option<u64>> {
        let path = self.path(entry);
        match self.opened()?.ask(|sftp| sftp.lstat(&path)) {
            Ok(found) if found.is_file() => match found.size {
                Some(size) => Ok(Some(size)),
                None => Err(Error::new(Kind::Unsupported, format!("{} does not tell the sizes of files", self.place))),
            },
            Ok(_) => {
                Err(Error::new(Kind::Conflict, format!("`{}` at {} is not a regular file", entry.text(), self.place)))
            }
            Err(Stop::Answer { code: Some(code), .. }) if NO_SUCH_FILE.contains(&code) => Ok(None),
            Err(stop) => Err(self.failed(stop, &format!("cannot look at `{}`", entry.text()))),
        }
    }

    fn begin(&mut self, temporary: &Temporary) -> Result<u64> {
        // A handle that is open may belong to a file that has got its final name since.
        self.opened()?.part = None;
        self.open_part(temporary)?;
        Ok(self.size_of(temporary.into())?.unwrap_or(0))
    }

    fn space(&mut self, temporary: &Temporary) -> Result<Option<Space>> {
        self.open_part(temporary)?;
        let open = self.opened()?;
        let Some((_, file)) = &mut open.part else { return Ok(None) };
        match open.connection.drive(|_| file.statvfs()) {
            // Free for us: what is kept for root is not.
            Ok(found) => Ok(Some(Space {
                available: found.f_bavail.saturating_mul(found.f_frsize),
                total: Some(found.f_blocks.saturating_mul(found.f_frsize)),
            })),
            Err(Stop::Answer { .. }) => Ok(None),
            Err(stop) => Err(self.failed(stop, "cannot ask for free space")),
        }
    }

    fn resume_write(
        &mut self,
        temporary: &Temporary,
        content: &Content,
        from: u64,
        told: &mut dyn FnMut(Written) -> Result<()>,
    ) -> Result<()> {
        self.open_part(temporary)?;
        let too_long = self.size_of(temporary.into())?.is_some_and(|size| size > content.size());
        let open = self.opened()?;
        let Some((_, file)) = &mut open.part else {
            return Err(Error::new(Kind::Failed, format!("`{temporary}` is not open")));
        };
        let result = write::write(&open.connection, file, content, from, too_long, told);
        result.map_err(|failure| match failure {
            write::Failure::Own(error) => {
                // Half a window is on its way: the handle and what it remembers of it are of no use any more.
                self.open = None;
                error
            }
            write::Failure::Remote(stop) => {
                // After a refused write this handle would say yes to a close, whatever was lost.
                if let Some(open) = &mut self.open {
                    open.part = None;
                }
                self.failed(stop, &format!("cannot write `{temporary}`"))
            }
        })
    }

    fn sync(&mut self, temporary: &Temporary) -> Result<bool> {
        self.open_part(temporary)?;
        let open = self.opened()?;
        let Some((_, mut file)) = open.part.take() else { return Ok(false) };
        let synced = match open.connection.drive_long(|_| file.fsync()) {
            Ok(()) => true,
            // Only "unsupported" is no news; a disk that fails to sync has lost bytes.
            Err(Stop::Answer { code: Some(code), .. }) if code == UNSUPPORTED => false,
            Err(stop) => return Err(self.failed(stop, &format!("cannot make `{temporary}` durable"))),
        };
        let closed = open.connection.drive_long(|_| file.close());
        closed.map_err(|stop| self.failed(stop, &format!("cannot close `{temporary}`")))?;
        Ok(synced)
    }

    fn hash(&mut self, entry: Entry<'_>, size: u64, tier: Tier, progress: &Progress) -> Result<Option<Digest>> {
        match tier {
            Tier::RemoteHash => self.remote_hash(entry, size, progress),
            Tier::ReadBack => {
                let mut hash = sha2::Sha256::new();
                self.read_back(entry, size, progress, &mut |bytes| {
                    hash.update(bytes);
                    Ok(())
                })?;
                Ok(Some(Digest::from_bytes(hash.finalize().into())))
            }
            Tier::Size => Ok(None),
        }
    }

    fn rename_noclobber(&mut self, temporary: &Temporary, name: &RemoteName) -> Result<()> {
        let (from, to) = (self.path(temporary.into()), self.path(name.into()));
        self.opened()?.part = None;
        // Version 3 of the protocol knows no flags; OpenSSH then refuses to overwrite.
        self.opened()?
            .ask(|sftp| sftp.rename(&from, &to, Some(RenameFlags::empty())))
            .map_err(|stop| self.failed(stop, &format!("cannot rename `{temporary}` to `{name}`")))
    }

    fn remove_temporary(&mut self, temporary: &Temporary) -> Result<bool> {
        self.unlink(temporary.into())
    }

    fn remove(&mut self, name: &RemoteName) -> Result<bool> {
        self.unlink(name.into())
    }

    fn read(
        &mut self,
        entry: Entry<'_>,
        size: u64,
        progress: &Progress,
        taker: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        self.read_back(entry, size, progress, taker)
    }

    fn reconnect(&mut self) -> Result<()> {
        self.connect()
    }
}
