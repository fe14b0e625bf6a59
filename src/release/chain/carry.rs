//! Carrying a release out: the steps in their order, again under the next number where the number is taken.

use serde_json::json;

use super::{Attempt, Begun, Ending, MOST_NUMBERS, Options, Outcome, parts};
use crate::error::{Error, Kind, Result};
use crate::publish::Content;
use crate::release::freight::{Archived, Freight};
use crate::release::state::{Phase, State};
use crate::release::story::{ONLY_UPLOAD, Story};

impl Begun<'_> {
    /// Releases this, from wherever an earlier run came to.
    pub fn carry_out(mut self, freight: &Freight, options: Options) -> Result<Outcome> {
        if !options.force
            && let Some(current) = &self.standing.manifest
            && current.tree == freight.tree()
        {
            return self.unchanged();
        }
        for _ in 0..MOST_NUMBERS {
            match self.attempt(freight, options)? {
                Attempt::Ended(outcome) => return Ok(*outcome),
                Attempt::Taken(highest, why) => self.next_number(highest, &why)?,
            }
        }
        Err(Error::new(Kind::Conflict, format!("{MOST_NUMBERS} numbers in a row were taken by somebody else"))
            .hint("who else releases this image? `release.reserve` keeps publishers apart"))
    }

    /// Ends because what would be released is announced already.
    pub fn unchanged(self) -> Result<Outcome> {
        let outcome = self.outcome(Ending::Unchanged, Vec::new(), self.standing.manifest.clone());
        let number = outcome.manifest.as_ref().map_or(outcome.number, |current| current.version);
        // Under its own number, which is not that of what is announced.
        self.put_away()?;
        Ok(Outcome { number, ..outcome })
    }

    /// Ends without anything released: a journal of a number that nobody saw is no journal.
    pub fn put_away(mut self) -> Result<()> {
        let seen = [State::Reserved, State::Uploading, State::Named, State::Pushed];
        if seen.iter().any(|state| Story(self.journal.records()).last(*state, Phase::Intent).is_some()) {
            return self.give_up("what it was to release is announced already", true);
        }
        self.journal.discard()
    }

    fn attempt(&mut self, freight: &Freight, options: Options) -> Result<Attempt> {
        if let Some(taken) = self.archived(freight)? {
            return Ok(taken);
        }
        if options.only_upload != Story(self.journal.records()).is_held() {
            // Whoever goes on with this after a crash must not announce what was only to be uploaded.
            self.journal.append(State::Planned, Phase::Note, &json!({ ONLY_UPLOAD: options.only_upload }))?;
        }
        let signed = self.signed(freight)?;
        if let Some(taken) = self.reserved()? {
            return Ok(taken);
        }
        let (placed, manifest) = match self.placed(freight, &signed)? {
            Ok(placed) => placed,
            Err(taken) => return Ok(taken),
        };
        if options.only_upload {
            self.journal.append(State::Named, Phase::Note, &"held")?;
            return Ok(Attempt::Ended(Box::new(self.outcome(Ending::Uploaded, placed, Some(manifest)))));
        }
        self.fetchable(&manifest)?;
        let commit = match self.pushed(&signed)? {
            Ok(commit) => commit,
            Err(taken) => return Ok(taken),
        };
        let claim = self.claim()?;
        let left = super::announce::finish(self.setup, &mut self.journal, &claim)?;
        self.setup.journals.trim(&self.image, &self.flavour)?;
        let ending = Ending::Released { commit, left };
        Ok(Attempt::Ended(Box::new(self.outcome(ending, placed, Some(manifest)))))
    }

    /// Makes sure that the files are what they should be, and that this number is theirs.
    fn archived(&mut self, freight: &Freight) -> Result<Option<Attempt>> {
        if let Freight::New(archived) = freight {
            self.check(archived)?;
        }
        let story = Story(self.journal.records());
        let known = story.freight()?;
        match &known {
            Some(known) if known == freight => return Ok(None),
            Some(known) if known.digests() != freight.digests() => {
                if story.may_be_named() {
                    let why = "other content may stand under its names";
                    return Ok(Some(Attempt::taken(self.number, why)));
                }
                parts::take_back(self.setup, &self.image, &self.flavour, self.number, &self.journal)?;
            }
            _ => {}
        }
        self.journal.append(State::Archived, Phase::Done, freight)?;
        Ok(None)
    }

    /// Reads the files again: what the disk or the memory made of them since is not released.
    fn check(&self, archived: &Archived) -> Result<()> {
        for parcel in archived.parcels(&self.image, &self.flavour, self.number)? {
            Content::open(&parcel.path, parcel.size, parcel.sha256)?.check(&self.setup.progress, &self.setup.cancel)?;
        }
        Ok(())
    }
}
