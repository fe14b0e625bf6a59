//! Claims of numbers: made once for a release, given back when its number is not used, or needed no longer.

use serde_json::json;

use crate::error::{Kind, Result};
use crate::publish::git::Claim;
use crate::release::Setup;
use crate::release::journal::Journal;
use crate::release::state::{Phase, State};
use crate::release::story::{LEFT_CLAIM, Planned, Story};
use crate::vocab::{Flavour, OsImage, ReleaseNumber};

/// The claim of a number, the same in every run of its release.
pub(super) fn claim(image: &OsImage, flavour: &Flavour, number: ReleaseNumber, journal: &Journal) -> Result<Claim> {
    let planned = Story(journal.records()).planned()?;
    let Planned { claimant, at } = planned.unwrap_or(Planned { claimant: String::new(), at: 0 });
    Ok(Claim { image: image.clone(), flavour: flavour.clone(), number, claimant, at })
}

/// Gives the claim of a number back that is not going to be used.
pub(super) fn give_back(setup: &Setup, claim: &Claim, journal: &Journal) -> Result<()> {
    if Story(journal.records()).last(State::Reserved, Phase::Intent).is_none() {
        return Ok(());
    }
    match setup.git.drop_claim(claim) {
        // Then it never was ours.
        Err(error) if error.kind() == Kind::Conflict => Ok(()),
        other => other,
    }
}

/// Closes the journal of a number that is given up.
pub(super) fn abandon(journal: &mut Journal, why: &str, claim_stands: bool) -> Result<()> {
    let said = if claim_stands { json!({ "why": why, LEFT_CLAIM: true }) } else { json!({ "why": why }) };
    journal.append(State::Abandoned, Phase::Done, &said)
}

/// Gives the claims back that kept others from names we had used, now that a higher number is announced.
pub(super) fn give_left_claims_back(setup: &Setup, own: &Claim) -> Result<()> {
    let Claim { image, flavour, number: highest, .. } = own;
    for number in setup.journals.numbers(image, flavour)?.into_iter().filter(|number| number < highest) {
        if Story(&setup.journals.read(image, flavour, number)?).has_left_claim() {
            let mut journal = setup.journals.open(image, flavour, number)?;
            give_back(setup, &claim(image, flavour, number, &journal)?, &journal)?;
            abandon(&mut journal, "a higher number is announced, the claim is given back", false)?;
        }
    }
    Ok(())
}
