//! Temporary files that nobody will give a name to.

use crate::error::Result;
use crate::publish::{RemoteName, Temporary, open};
use crate::release::Setup;
use crate::release::freight::Freight;
use crate::release::journal::{Journal, Subject};
use crate::release::state::{Phase, State};
use crate::release::story::Story;
use crate::vocab::{Flavour, OsImage, ReleaseNumber};

/// Removes, at every target, the temporary files of a number that is given up, or of content it was planned for and is
/// not given to.
pub(super) fn take_back(
    setup: &Setup,
    image: &OsImage,
    flavour: &Flavour,
    number: ReleaseNumber,
    journal: &Journal,
) -> Result<()> {
    let story = Story(journal.records());
    let Some(Freight::New(archived)) = story.freight()? else { return Ok(()) };
    let parcels = archived.parcels(image, flavour, number)?;
    for target in &setup.targets {
        let mut left = Vec::new();
        for parcel in &parcels {
            let name: RemoteName = parcel.name.as_str().parse()?;
            let subject = Subject { target: target.name.clone(), file: name.to_string() };
            let begun = story.last_about(&subject, State::Uploading, Phase::Intent).is_some();
            if begun && story.last_about(&subject, State::Named, Phase::Done).is_none() {
                left.push(Temporary::of(&name, &parcel.sha256));
            }
        }
        if left.is_empty() {
            continue;
        }
        let mut place = open(&target.target, &target.access, &setup.operator, &setup.cancel)?;
        for temporary in left {
            if place.remove_temporary(&temporary)? {
                setup.progress.line(format!("{}: removed `{temporary}`, which nobody needs", place.place()));
            }
        }
    }
    Ok(())
}
