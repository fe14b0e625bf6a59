//! The beginning: the lock, the branch as it is now, what earlier runs left, the number.

use serde_json::json;

use super::{Attempt, Begun};
use crate::error::{Kind, Result};
use crate::host::{clock, process, random};
use crate::manifest::{Manifest, Paths};
use crate::publish::git::Claim;
use crate::release::freight::Freight;
use crate::release::journal::Journal;
use crate::release::state::{Phase, State};
use crate::release::story::{Planned, Story};
use crate::release::{Setup, Standing, lock};
use crate::vocab::{Flavour, OsImage, ReleaseNumber};

impl<'a> Begun<'a> {
    /// Takes the lock, fetches the branch, ends what earlier runs left, and chooses the number: an earlier run's that can
    /// go on, else the one after the highest that the branch, the journals and this host's own version file know.
    pub fn begin(setup: &'a Setup, image: &OsImage, flavour: &Flavour, local: Option<ReleaseNumber>) -> Result<Self> {
        let lock = lock::lock(setup.state(), image, flavour)?;
        let standing = Standing::read(setup, image, flavour)?;
        let mut going_on: Option<ReleaseNumber> = None;
        for number in setup.journals.open_numbers(image, flavour)? {
            if standing.highest().is_none_or(|highest| highest < number) {
                if let Some(older) = going_on.replace(number) {
                    let mut journal = setup.journals.open(image, flavour, older)?;
                    abandon(&mut journal, "a later run took another number")?;
                }
                continue;
            }
            let journal = setup.journals.open(image, flavour, number)?;
            let standing = standing.clone();
            let mut begun = Parts { setup, image, flavour, standing, journal, number };
            begun.settle()?;
        }
        let number = match going_on {
            Some(number) => number,
            None => {
                let known = setup.journals.numbers(image, flavour)?.pop();
                match standing.highest().max(known).max(local) {
                    Some(highest) => highest.next()?,
                    None => ReleaseNumber::FIRST,
                }
            }
        };
        let journal = planned(setup, image, flavour, number)?;
        let (image, flavour) = (image.clone(), flavour.clone());
        Ok(Self { setup, image, flavour, standing, journal, number, _lock: lock })
    }

    /// Gives the number up and goes on with the next one that is free.
    pub(super) fn next_number(&mut self, highest: ReleaseNumber, why: &str) -> Result<()> {
        self.setup.progress.warn(format!("{} is given up: {why}", self.what()));
        // A claim stays where it is all that keeps others from names that we have used.
        if highest > self.number || !Story(self.journal.records()).may_be_named() {
            give_back(self.setup, &self.claim()?, &self.journal)?;
        }
        abandon(&mut self.journal, why)?;
        self.standing = Standing::read(self.setup, &self.image, &self.flavour)?;
        let known = self.setup.journals.numbers(&self.image, &self.flavour)?.pop();
        let highest = self.standing.highest().max(known).max(Some(highest)).unwrap_or(highest);
        self.number = highest.next()?;
        self.journal = planned(self.setup, &self.image, &self.flavour, self.number)?;
        Ok(())
    }

    /// The claim of the number, the same in every run of this release.
    pub(super) fn claim(&self) -> Result<Claim> {
        claim(&self.image, &self.flavour, self.number, &self.journal)
    }
}

/// An open journal of a number that the branch has reached or passed.
struct Parts<'a> {
    setup: &'a Setup,
    image: &'a OsImage,
    flavour: &'a Flavour,
    standing: Standing,
    journal: Journal,
    number: ReleaseNumber,
}

impl Parts<'_> {
    /// Closes the journal as what it came to: announced by a run that could not say so any more, or overtaken.
    fn settle(&mut self) -> Result<()> {
        let story = Story(self.journal.records());
        let claim = claim(self.image, self.flavour, self.number, &self.journal)?;
        let commit = match story.freight()? {
            Some(freight) if story.last(State::Pushed, Phase::Intent).is_some() => self.announced(&freight)?,
            _ => None,
        };
        let Some(commit) = commit else {
            give_back(self.setup, &claim, &self.journal)?;
            return abandon(&mut self.journal, "the branch is past it");
        };
        if story.last(State::Pushed, Phase::Done).is_none() {
            self.journal.append(State::Pushed, Phase::Done, &json!({ "commit": commit }))?;
        }
        super::announce::finish(self.setup, &mut self.journal, &claim).map(drop)
    }

    /// The commit of the branch that announces this, if there is one.
    fn announced(&self, freight: &Freight) -> Result<Option<String>> {
        let is_ours = |manifest: &Manifest| -> Result<bool> {
            Ok(manifest.version == self.number && freight.digests().contains(&manifest.archive()?.sha256))
        };
        if let (Some(manifest), Some(commit)) = (&self.standing.manifest, &self.standing.commit)
            && is_ours(manifest)?
        {
            return Ok(Some(commit.clone()));
        }
        let path = Paths::new(self.image, self.flavour).manifest;
        for version in self.setup.git.history(&path, usize::MAX)? {
            if is_ours(&Manifest::parse(version.text.as_bytes())?)? {
                return Ok(Some(version.commit));
            }
        }
        Ok(None)
    }
}

pub(super) fn claim(image: &OsImage, flavour: &Flavour, number: ReleaseNumber, journal: &Journal) -> Result<Claim> {
    let planned = Story(journal.records()).planned()?;
    let Planned { claimant, at } = planned.unwrap_or(Planned { claimant: String::new(), at: 0 });
    Ok(Claim { image: image.clone(), flavour: flavour.clone(), number, claimant, at })
}

/// The journal of this number, which says that it is planned.
fn planned(setup: &Setup, image: &OsImage, flavour: &Flavour, number: ReleaseNumber) -> Result<Journal> {
    let mut journal = setup.journals.open(image, flavour, number)?;
    if Story(journal.records()).planned()?.is_none() {
        let random = random::bytes::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let claimant = format!("{} {random}", process::host_name()?);
        journal.append(State::Planned, Phase::Done, &Planned { claimant, at: clock::now().as_secs() })?;
    }
    Ok(journal)
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

pub(super) fn abandon(journal: &mut Journal, why: &str) -> Result<()> {
    journal.append(State::Abandoned, Phase::Done, &json!({ "why": why }))
}

impl Attempt {
    /// The number is taken, and this is why.
    pub(super) fn taken(highest: ReleaseNumber, why: impl Into<String>) -> Self {
        Self::Taken(highest, why.into())
    }
}
