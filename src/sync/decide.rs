//! What is to be done about an image, before anything is done. Pure.

use super::record::Record;
use crate::error::{Error, Kind, Result};
use crate::manifest::Manifest;
use crate::vocab::ReleaseNumber;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing, for this reason.
    Nothing(String),
    /// `current` is to lead to a tree that is there.
    Switch(ReleaseNumber, String),
    /// The served release is to be fetched and unpacked.
    Install,
}

/// The decision, given what is served, what is remembered, and what trees are there.
pub(super) fn decide(
    manifest: &Manifest,
    record: &Record,
    current: Option<ReleaseNumber>,
    kept: &[ReleaseNumber],
) -> Result<Decision> {
    let served = manifest.version;
    let wanted = record.pin.unwrap_or(served);
    let pinned = if record.pin.is_some() { format!("pinned to release {wanted}, ") } else { String::new() };
    if !kept.contains(&wanted) {
        if wanted == served {
            return Ok(Decision::Install);
        }
        return Err(Error::new(
            Kind::NotFound,
            format!("pinned to release {wanted}, which is not here; release {served} is served"),
        )
        .hint("`sync.unpin`, or pin a release that `sync.status` lists"));
    }
    if wanted == served
        && let Some(known) = record.releases.get(&served)
        && known.diff_id != manifest.diff_id
    {
        return Err(Error::new(Kind::Refused, format!("release {served} has changed its content"))
            .caused_by(format!("is {} here, {} is served", known.diff_id, manifest.diff_id))
            .hint("a release never changes: two publishers used one number, or the signing key is in other hands"));
    }
    if current == Some(wanted) {
        return Ok(Decision::Nothing(format!("{pinned}release {wanted} is current")));
    }
    Ok(Decision::Switch(wanted, format!("{pinned}release {wanted} was here already")))
}
