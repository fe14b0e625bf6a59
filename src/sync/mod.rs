//! The host side of releases: signed manifests are followed, few bytes are moved, trees appear whole or not at all.
//!
//! For each image and flavour: read the signed manifest, judge it, choose the cheapest way from what is held to the bare tar,
//! fetch, verify before and after, unpack beside, move `current`. Every step leaves a state from which the same call, made
//! again, finishes; what readers find behind `current` is a whole release at every moment.
//!
//! ```text
//! FOLDER/IMAGE/FLAVOUR/            sync.folder, made with mode 0700: setuid files of images are in it
//!   current -> N                   moved by rename
//!   N/                             the tree of release N; appears by rename, goes away under another name
//!   .N.castoff-new/                a whole tree, not verified yet
//!   ..N.castoff-new.castoff-PID/   half a tree, swept when its process is dead
//! STATE/sync/
//!   tars/HEX.tar.zst               bare tars by their diff ID: what patches are applied to
//!   images/IMAGE/FLAVOUR/
//!     lock                         flock: one process at a time
//!     record.json                  the highest release seen, the pin, what the trees are; see `record`
//!     parts/HEX.part, parts/HEX    files under way; see room `remote`
//!     .castoff-PID-N.tmp           the bare tar under way
//! ```
//!
//! Knows no terminal and no schedule. Nothing of a manifest is believed before its signature.

mod cache;
mod decide;
mod followed;
mod home;
mod image;
mod obtain;
mod options;
mod place;
pub mod push;
mod record;
mod report;
mod source;
mod trust;
mod unfold;
mod verbs;

use std::time::Instant;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::progress::{Cancel, Progress};
use crate::vocab::Value;
use options::Options;
use report::Report;
use source::Manifests;

pub use followed::Followed;
pub use verbs::{pin, rollback, status, unpin};

/// What a run may use.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// castoff's configuration.
    pub config: &'a Config,
    /// Who hears of progress.
    pub progress: &'a Progress,
    /// Who may stop it.
    pub cancel: &'a Cancel,
}

/// Brings the named images, or all that are configured, to what is served; with `test`, only says what would be done.
///
/// The result has a report for each; one that fails stops no other. An error means that nothing could be done for any.
pub fn run(words: &[String], test: bool, surroundings: &Surroundings<'_>) -> Result<Value> {
    let begun = Instant::now();
    let options = Options::new(surroundings)?;
    let images = options.select(words)?;
    let mut manifests = Manifests::open(&options, &images)?;
    let mut reports = Vec::new();
    for followed in images {
        let mut report = Report::new(&followed, test);
        let result = image::synchronise(&options, &followed, &mut manifests, &mut report);
        let interrupted = result.as_ref().is_err_and(|error| error.kind() == Kind::Interrupted);
        reports.push((followed.to_string(), report.close(result)));
        if interrupted {
            break;
        }
    }
    let fine = reports.iter().all(|(_, report)| report.get("result") != Some(&Value::Bool(false)));
    Ok(Value::map([
        ("result", Value::from(fine)),
        ("images", Value::map(reports)),
        ("seconds", Value::from(begun.elapsed().as_secs_f64())),
    ]))
}

/// What a person is told who asks for work that another process does already.
fn busy(followed: &Followed) -> Error {
    Error::new(Kind::Conflict, format!("`{followed}` is being synchronised by another process"))
        .hint("wait for it; it holds the lock as long as it lives")
}
