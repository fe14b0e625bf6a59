//! From a place to the file there.

use super::location::Location;
use super::origin::Origin;
use super::{Access, file, web};
use crate::error::Result;
use crate::progress::Cancel;

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
