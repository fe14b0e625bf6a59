//! What a place must be able to do to be fetched from.

use super::location::Location;
use super::{Access, file, web};
use crate::error::Result;
use crate::progress::Cancel;

/// A file on the far side.
pub(super) trait Origin {
    /// Gives the file's bytes from an offset on; a place that cannot begin there begins at 0, and says so.
    ///
    /// Returns when there are no more or no more are wanted; that all have come is for the taker to know.
    fn stream(&mut self, from: u64, taker: &mut dyn Taker) -> Result<()>;
}

/// Who takes the bytes.
pub(super) trait Taker {
    /// The bytes begin at this offset; the whole file has `total`, if the place tells.
    fn begin(&mut self, at: u64, total: Option<u64>) -> Result<()>;

    /// The next bytes; false when no more are wanted.
    fn take(&mut self, bytes: &[u8]) -> Result<bool>;
}

/// The file at this place; not all of them connect at once.
pub(super) fn open(place: &Location, access: &Access, cancel: &Cancel) -> Result<Box<dyn Origin>> {
    match place {
        Location::File(path) => Ok(Box::new(file::LocalFile::open(path)?)),
        Location::Web(url) => Ok(Box::new(web::WebFile::new(url, access, cancel))),
        Location::Sftp { host, path } => sftp(host, path, access, cancel),
    }
}

#[cfg(feature = "sftp")]
fn sftp(host: &crate::ssh::Jump, path: &std::path::Path, access: &Access, cancel: &Cancel) -> Result<Box<dyn Origin>> {
    Ok(Box::new(super::sftp::SftpFile::open(host, path, access, cancel)?))
}

#[cfg(not(feature = "sftp"))]
fn sftp(host: &crate::ssh::Jump, _: &std::path::Path, _: &Access, _: &Cancel) -> Result<Box<dyn Origin>> {
    use crate::error::{Error, Kind};
    Err(Error::new(Kind::Unsupported, format!("this castoff cannot fetch from `{}` over SFTP", host.host))
        .hint("it was built without the feature `sftp`"))
}
