//! Taking a release back: the branch announces none, and remembers that the number was used.
//!
//! ```text
//! versions/IMG-FLAVOR_withdrawn.txt     the number that was withdrawn last; the next release has a higher one
//! ```
//!
//! The files stay where they are until they are pruned: somebody may be fetching them.

use std::collections::BTreeMap;

use serde_json::json;

use super::state::{Phase, State};
use super::{Journal, Setup, Standing, Story, lock};
use crate::error::{Error, Kind, Result};
use crate::manifest::{Paths, version_file};
use crate::publish::git::{Published, Replacement};
use crate::vocab::{Flavour, OsImage, ReleaseNumber};

/// The release that a run which was cut off was to withdraw, if it still is the one that is announced.
pub fn being_withdrawn(setup: &Setup, image: &OsImage, flavour: &Flavour) -> Result<Option<ReleaseNumber>> {
    for number in setup.journals.open_numbers(image, flavour)? {
        if Story(&setup.journals.read(image, flavour, number)?).is_being_withdrawn() {
            let standing = Standing::read(setup, image, flavour)?;
            return Ok((standing.highest() == Some(number)).then_some(number));
        }
    }
    Ok(None)
}

/// Withdraws the release that is announced, which must be this one; the commit. With `dry` nothing is changed.
pub fn withdraw(
    setup: &Setup,
    image: &OsImage,
    flavour: &Flavour,
    number: ReleaseNumber,
    dry: bool,
) -> Result<Option<String>> {
    let _lock = if dry { None } else { Some(lock::lock(setup.state(), image, flavour)?) };
    let standing = Standing::read(setup, image, flavour)?;
    if standing.withdrawn == Some(number) && standing.version.is_none() && standing.manifest.is_none() {
        // By a run that may not have come to its end.
        if !dry {
            finish(setup, &mut setup.journals.open(image, flavour, number)?, standing.commit.as_deref())?;
        }
        return Ok(standing.commit);
    }
    let announced = standing.version.max(standing.manifest.as_ref().map(|manifest| manifest.version));
    if announced != Some(number) {
        let told = announced.map_or_else(|| "none".to_owned(), |number| format!("release {number}"));
        return Err(Error::new(
            Kind::Conflict,
            format!("release {number} of `{image}/{flavour}` is not the one that is announced: {told} is"),
        )
        .hint("only what is announced can be withdrawn"));
    }
    if dry {
        return Ok(None);
    }
    let paths = Paths::new(image, flavour);
    let withdrawn = paths.withdrawn.clone();
    let mut changes: BTreeMap<String, Option<Vec<u8>>> =
        [paths.manifest, paths.signature, paths.minisignature, paths.version, paths.md5]
            .into_iter()
            .map(|path| (path, None))
            .collect();
    changes.insert(withdrawn, Some(version_file(number)));
    let subject = format!("withdraw release {image}/{flavour}/{number}");
    let replacement = Replacement { subject, changes, expected: standing.expected() };
    let mut journal = setup.journals.open(image, flavour, number)?;
    journal.append(State::Withdrawn, Phase::Intent, &())?;
    let commit = match setup.git.replace(&replacement)? {
        Published::New { commit, .. } | Published::Already { commit } => commit,
        Published::Conflict { highest } => {
            return Err(Error::new(Kind::Conflict, format!("release {highest} was announced meanwhile")));
        }
    };
    finish(setup, &mut journal, Some(&commit))?;
    Ok(Some(commit))
}

/// What is left once the branch announces nothing: those who read files of a checkout are told, the journal is closed.
fn finish(setup: &Setup, journal: &mut Journal, commit: Option<&str>) -> Result<()> {
    if let Some(checkout) = &setup.checkout {
        setup.git.fast_forward(checkout)?;
    }
    if Story(journal.records()).ended() == Some(State::Withdrawn) {
        return Ok(());
    }
    journal.append(State::Withdrawn, Phase::Done, &json!({ "commit": commit }))
}
