//! The beginning: the lock, the branch as it is now, what earlier runs left, the number.

use serde_json::json;

use super::claims::{abandon, claim, give_back};
use super::{Attempt, Begun, parts};
use crate::error::Result;
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
                    let mut left = Left::of(setup, image, flavour, older)?;
                    left.give_up("a later run took another number")?;
                }
                continue;
            }
            Left::of(setup, image, flavour, number)?.settle(&standing)?;
        }
        let number = if let Some(number) = going_on {
            number
        } else {
            let known = setup.journals.numbers(image, flavour)?.pop();
            let highest = standing.highest().max(known).max(local);
            highest.map_or(Ok(ReleaseNumber::FIRST), ReleaseNumber::next)?
        };
        let journal = planned(setup, image, flavour, number)?;
        let (image, flavour) = (image.clone(), flavour.clone());
        Ok(Self { setup, image, flavour, standing, journal, number, _lock: lock })
    }

    /// Gives the number up and goes on with the next one that is free.
    pub(super) fn next_number(&mut self, highest: ReleaseNumber, why: &str) -> Result<()> {
        self.setup.progress.warn(format!("{} is given up: {why}", self.what()));
        self.give_up(why, highest > self.number)?;
        self.standing = Standing::read(self.setup, &self.image, &self.flavour)?;
        let known = self.setup.journals.numbers(&self.image, &self.flavour)?.pop();
        let highest = self.standing.highest().max(known).max(Some(highest)).unwrap_or(highest);
        self.number = highest.next()?;
        self.journal = planned(self.setup, &self.image, &self.flavour, self.number)?;
        Ok(())
    }

    /// Closes the journal of a number that will not be ours: its temporary files are removed, and its claim is given
    /// back, unless that is all that keeps others from names that we have used.
    pub(super) fn give_up(&mut self, why: &str, overtaken: bool) -> Result<()> {
        let stands = !overtaken && Story(self.journal.records()).may_be_named();
        parts::take_back(self.setup, &self.image, &self.flavour, self.number, &self.journal)?;
        let claimed = Story(self.journal.records()).last(State::Reserved, Phase::Intent).is_some();
        if claimed && !stands {
            give_back(self.setup, &self.claim()?, &self.journal)?;
        }
        abandon(&mut self.journal, why, claimed && stands)
    }

    /// The claim of the number, the same in every run of this release.
    pub(super) fn claim(&self) -> Result<Claim> {
        claim(&self.image, &self.flavour, self.number, &self.journal)
    }
}

/// What an earlier run left: an open journal of a number that is not gone on with.
struct Left<'a> {
    setup: &'a Setup,
    image: &'a OsImage,
    flavour: &'a Flavour,
    journal: Journal,
    number: ReleaseNumber,
}

impl<'a> Left<'a> {
    fn of(setup: &'a Setup, image: &'a OsImage, flavour: &'a Flavour, number: ReleaseNumber) -> Result<Self> {
        Ok(Self { setup, image, flavour, journal: setup.journals.open(image, flavour, number)?, number })
    }

    /// Closes it as what it came to: announced by a run that could not say so any more, or overtaken.
    fn settle(&mut self, standing: &Standing) -> Result<()> {
        let story = Story(self.journal.records());
        let commit = match story.freight()? {
            Some(freight) if story.last(State::Pushed, Phase::Intent).is_some() => {
                self.announced(&freight, standing)?
            }
            _ => None,
        };
        let Some(commit) = commit else { return self.give_up("the branch is past it") };
        if story.last(State::Pushed, Phase::Done).is_none() {
            self.journal.append(State::Pushed, Phase::Done, &json!({ "commit": commit }))?;
        }
        let claim = claim(self.image, self.flavour, self.number, &self.journal)?;
        super::announce::finish(self.setup, &mut self.journal, &claim).map(drop)
    }

    fn give_up(&mut self, why: &str) -> Result<()> {
        parts::take_back(self.setup, self.image, self.flavour, self.number, &self.journal)?;
        let claim = claim(self.image, self.flavour, self.number, &self.journal)?;
        give_back(self.setup, &claim, &self.journal)?;
        abandon(&mut self.journal, why, false)
    }

    /// The commit of the branch that announces this, if there is one. A manifest that cannot be read is not ours.
    fn announced(&self, freight: &Freight, standing: &Standing) -> Result<Option<String>> {
        let is_ours = |manifest: &Manifest| -> Result<bool> {
            Ok(manifest.version == self.number && freight.digests().contains(&manifest.archive()?.sha256))
        };
        if let (Some(manifest), Some(commit)) = (&standing.manifest, &standing.commit)
            && is_ours(manifest)?
        {
            return Ok(Some(commit.clone()));
        }
        let path = Paths::new(self.image, self.flavour).manifest;
        for version in self.setup.git.history(&path, usize::MAX)? {
            if let Ok(manifest) = Manifest::parse(version.text.as_bytes())
                && is_ours(&manifest)?
            {
                return Ok(Some(version.commit));
            }
        }
        Ok(None)
    }
}

/// The journal of this number, which says that it is planned.
fn planned(setup: &Setup, image: &OsImage, flavour: &Flavour, number: ReleaseNumber) -> Result<Journal> {
    let mut journal = setup.journals.open(image, flavour, number)?;
    if Story(journal.records()).planned()?.is_none() {
        let random = u64::from_be_bytes(random::bytes::<8>()?);
        let claimant = format!("{} {random:016x}", process::host_name()?);
        journal.append(State::Planned, Phase::Done, &Planned { claimant, at: clock::now().as_secs() })?;
    }
    Ok(journal)
}

impl Attempt {
    /// The number is taken, and this is why.
    pub(super) fn taken(highest: ReleaseNumber, why: impl Into<String>) -> Self {
        Self::Taken(highest, why.into())
    }
}
