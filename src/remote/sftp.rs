//! A file behind SFTP.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use ssh2::ErrorCode;

use super::Access;
use super::origin::{Origin, Taker};
use crate::error::{Context as _, Error, Kind, Result};
use crate::progress::Cancel;
use crate::ssh::{Configuration, Connection, Jump, Operator, Patience, Route, Stop};

/// libssh2 asks for a buffer in pieces without waiting for each: a large one keeps a long line full.
const BUFFER: usize = 4 << 20;

/// A file on an SFTP server; dropped in this order.
pub(super) struct SftpFile {
    file: ssh2::File,
    _sftp: ssh2::Sftp,
    connection: Connection,
    path: PathBuf,
}

impl Drop for SftpFile {
    fn drop(&mut self) {
        // Handles ask the server to close them when they are dropped: with the line cut, that ends at once.
        self.connection.abandon();
    }
}

impl SftpFile {
    /// Connects and opens the file.
    pub(super) fn open(host: &Jump, path: &Path, access: &Access, cancel: &Cancel) -> Result<Self> {
        let operator = Operator::current()?;
        let configuration = Configuration::read(&operator, &access.ssh_configuration)?;
        let route = Route::plan(&configuration, host, &access.wishes)?;
        let connection = Connection::open(&route, Patience::default(), cancel)?;
        let sftp = connection.drive(ssh2::Session::sftp).map_err(|stop| {
            stop.into_error(Kind::Refused, format!("`{}` does not offer SFTP", connection.place()))
                .hint("the server needs the subsystem `sftp` for this user")
        })?;
        let file = connection.drive(|_| sftp.open(path)).map_err(|stop| failure(stop, "open", path))?;
        Ok(Self { file, _sftp: sftp, connection, path: path.to_owned() })
    }
}

fn failure(stop: Stop, what: &str, path: &Path) -> Error {
    let kind = match &stop {
        Stop::Answer { code: Some(ErrorCode::SFTP(2 | 10)), .. } => Kind::NotFound,
        Stop::Answer { code: Some(ErrorCode::SFTP(3)), .. } => Kind::Refused,
        Stop::Answer { .. } | Stop::Link(_) => Kind::Failed,
    };
    stop.into_error(kind, format!("cannot {what} `{}` there", path.display()))
}

impl Origin for SftpFile {
    fn stream(&mut self, from: u64, taker: &mut dyn Taker) -> Result<()> {
        let found = self.connection.drive(|_| self.file.stat()).map_err(|stop| failure(stop, "look at", &self.path))?;
        if !found.is_file() {
            return Err(Error::new(Kind::Conflict, format!("`{}` is not a regular file there", self.path.display())));
        }
        taker.begin(from, found.size)?;
        self.file.seek(SeekFrom::Start(from)).context(|| format!("cannot seek in `{}`", self.path.display()))?;
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = self
                .connection
                .drive(|_| self.file.read(&mut buffer))
                .map_err(|stop| failure(stop, "read", &self.path))?;
            if count == 0 || !taker.take(&buffer[..count])? {
                return Ok(());
            }
        }
    }
}
