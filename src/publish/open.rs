//! From a target to a store that is ready: the way there, who we are, how far the far side is trusted.

use super::access::Access;
use super::directory::Directory;
use super::http::Web;
use super::remote::RemoteStore;
use super::target::Target;
use crate::error::Result;
use crate::progress::Cancel;
use crate::ssh::Operator;

/// Connects to the target, whose folder must be there. A place that does not answer is [`crate::error::Kind::Unavailable`]
/// and not tried again.
pub fn open(target: &Target, access: &Access, operator: &Operator, cancel: &Cancel) -> Result<Box<dyn RemoteStore>> {
    let place = target.to_string();
    match target {
        Target::Directory(folder) => Ok(Box::new(Directory::open(folder, place, cancel)?)),
        Target::Web(folder) => Ok(Box::new(Web::open(folder, access, place, cancel)?)),
        Target::Sftp { host, folder } => sftp(host, folder, access, operator, &place, cancel),
    }
}

/// Connects to a target that is only read: of a web server nothing is asked but HEAD and GET.
pub fn open_for_reading(
    target: &Target,
    access: &Access,
    operator: &Operator,
    cancel: &Cancel,
) -> Result<Box<dyn RemoteStore>> {
    match target {
        Target::Web(folder) => Ok(Box::new(Web::open_for_reading(folder, access, target.to_string(), cancel)?)),
        Target::Directory(_) | Target::Sftp { .. } => open(target, access, operator, cancel),
    }
}

#[cfg(feature = "sftp")]
fn sftp(
    host: &crate::ssh::Jump,
    folder: &super::target::Folder,
    access: &Access,
    operator: &Operator,
    place: &str,
    cancel: &Cancel,
) -> Result<Box<dyn RemoteStore>> {
    let configuration = crate::ssh::Configuration::read(operator, &access.ssh_configuration)?;
    let route = crate::ssh::Route::plan(&configuration, host, &access.wishes)?;
    Ok(Box::new(super::sftp::Sftp::open(route, folder.clone(), place.to_owned(), cancel)?))
}

#[cfg(not(feature = "sftp"))]
fn sftp(
    _: &crate::ssh::Jump,
    _: &super::target::Folder,
    _: &Access,
    _: &Operator,
    place: &str,
    _: &Cancel,
) -> Result<Box<dyn RemoteStore>> {
    use crate::error::{Error, Kind};
    Err(Error::new(Kind::Unsupported, format!("this castoff cannot publish to {place}"))
        .hint("it was built without the feature `sftp`"))
}
