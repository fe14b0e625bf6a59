//! Files to their targets, each file and target with states of its own.

use serde_json::json;

use super::{Attempt, Begun, Placed};
use crate::error::{Context as _, Error, Kind, Result};
use crate::manifest::Manifest;
use crate::publish::{Content, RemoteName, RemoteStore, Temporary, Upload, open};
use crate::release::freight::{Archived, Freight, Parcel};
use crate::release::journal::Subject;
use crate::release::state::{Phase, State};
use crate::release::story::{Signed, Story};
use crate::release::{ReleaseTarget, Standing, lock, places};

/// How often a lost connection is made anew with nothing gained in between.
const RETRIES: u32 = 4;

impl Begun<'_> {
    /// Every file at every target under its final name. A target that fails does not keep the others from theirs.
    pub(super) fn placed(
        &mut self,
        freight: &Freight,
        signed: &Signed,
    ) -> Result<Result<(Vec<Placed>, Manifest), Attempt>> {
        let manifest = Manifest::parse(signed.manifest.as_bytes())?;
        let mut placed = Vec::new();
        let mut failures: Vec<Error> = Vec::new();
        for target in &self.setup.targets {
            let result = match freight {
                Freight::New(archived) => self.uploaded(target, archived),
                Freight::Again(old) => self.still_there(target, old),
            };
            let doing = || format!("{} is not at the target `{}`", self.what(), target.name);
            match result.context(doing) {
                Ok(files) => placed.extend(files),
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) if error.kind() == Kind::Conflict => return self.met_others(error).map(Err),
                Err(error) => failures.push(error),
            }
        }
        let mut failures = failures.into_iter();
        let Some(first) = failures.next() else { return Ok(Ok((placed, manifest))) };
        for other in failures {
            self.setup.progress.warn(other.render());
        }
        Err(first)
    }

    /// Something else stands under a final name. If another publisher announced it, the next number is ours; if not, an
    /// operator has to know.
    fn met_others(&mut self, error: Error) -> Result<Attempt> {
        let standing = Standing::read(self.setup, &self.image, &self.flavour)?;
        match standing.highest() {
            Some(highest) if highest >= self.number => Ok(Attempt::Taken(highest, error.to_string())),
            _ => {
                super::begin::abandon(&mut self.journal, "other content stands under its names")?;
                Err(error.hint("nobody announced what stands there; the next run takes the next number"))
            }
        }
    }

    fn uploaded(&mut self, target: &ReleaseTarget, archived: &Archived) -> Result<Vec<Placed>> {
        let _slot = lock::slot(self.setup, &target.target)?;
        let setup = self.setup;
        let mut store = open(&target.target, &target.access, &setup.operator, &setup.cancel)?;
        let parcels = archived.parcels(&self.image, &self.flavour, self.number)?;
        parcels.iter().map(|parcel| self.upload(target, parcel, store.as_mut())).collect()
    }

    fn upload(&mut self, target: &ReleaseTarget, file: &Parcel, store: &mut dyn RemoteStore) -> Result<Placed> {
        let setup = self.setup;
        let name: RemoteName = file.name.as_str().parse()?;
        let subject = Subject { target: target.name.clone(), file: name.to_string() };
        let content = Content::open(&file.path, file.size, file.sha256)?;
        let upload = Upload {
            content: &content,
            name: &name,
            minimum: target.minimum,
            retries: RETRIES,
            progress: &setup.progress,
            cancel: &setup.cancel,
        };
        let placed = |tier, sent, repeated| Placed {
            target: target.name.clone(),
            place: target.target.to_string(),
            file: subject.file.clone(),
            tier,
            sent,
            repeated,
        };
        if let Some(tier) = upload.served(store)? {
            if Story(self.journal.records()).last_about(&subject, State::Named, Phase::Done).is_none() {
                let said = json!({ "verified": tier.to_string(), "already_there": true });
                self.journal.append_about(&subject, State::Named, Phase::Done, &said)?;
            }
            return Ok(placed(tier, None, false));
        }
        let safe = Story(self.journal.records()).safe(&subject);
        let journal = &mut self.journal;
        journal.append_about(&subject, State::Uploading, Phase::Intent, &json!({ "place": store.place() }))?;
        let mut note = |offset| journal.append_about(&subject, State::Uploading, Phase::Note, &offset);
        let mut sent = upload.send(store, safe, &mut note)?;
        self.journal.append_about(&subject, State::Uploaded, Phase::Done, &json!({ "size": file.size }))?;
        let journal = &mut self.journal;
        let mut note = |offset| journal.append_about(&subject, State::Uploading, Phase::Note, &offset);
        let (tier, again) = upload.make_sure(store, &mut note)?;
        if let Some(again) = again {
            sent.sent += again.sent;
            sent.reconnected += again.reconnected;
        }
        let said = json!({ "verified": tier.to_string() });
        self.journal.append_about(&subject, State::Verified, Phase::Done, &said)?;
        self.journal.append_about(&subject, State::Named, Phase::Intent, &said)?;
        upload.give_name(store)?;
        self.journal.append_about(&subject, State::Named, Phase::Done, &said)?;
        Ok(placed(tier, Some(sent), again.is_some()))
    }

    /// What an older release put there, looked at as closely as if it had just been sent.
    fn still_there(&mut self, target: &ReleaseTarget, old: &Manifest) -> Result<Vec<Placed>> {
        let setup = self.setup;
        let mut store = open(&target.target, &target.access, &setup.operator, &setup.cancel)?;
        let mut placed = Vec::new();
        for file in old.files() {
            let tier = places::confirm(store.as_mut(), file, target.minimum, &setup.progress)?;
            let name = file.name;
            let subject = Subject { target: target.name.clone(), file: name.to_string() };
            let said = json!({ "verified": tier.to_string(), "already_there": true });
            self.journal.append_about(&subject, State::Named, Phase::Done, &said)?;
            placed.push(Placed {
                target: target.name.clone(),
                place: target.target.to_string(),
                file: name.to_string(),
                tier,
                sent: None,
                repeated: false,
            });
        }
        Ok(placed)
    }

    /// Removes the temporary files of content that this number was planned for and never given to.
    pub(super) fn take_parts_back(&mut self, old: &Freight) -> Result<()> {
        let Freight::New(archived) = old else { return Ok(()) };
        let story = Story(self.journal.records());
        let parcels = archived.parcels(&self.image, &self.flavour, self.number)?;
        for target in &self.setup.targets {
            let mut files = Vec::new();
            for parcel in &parcels {
                let subject = Subject { target: target.name.clone(), file: parcel.name.to_string() };
                if story.last_about(&subject, State::Uploading, Phase::Intent).is_some() {
                    files.push(Temporary::of(&parcel.name.as_str().parse()?, &parcel.sha256));
                }
            }
            if files.is_empty() {
                continue;
            }
            let mut store = open(&target.target, &target.access, &self.setup.operator, &self.setup.cancel)?;
            for temporary in files {
                if store.remove_temporary(&temporary)? {
                    self.setup.progress.line(format!("{}: removed `{temporary}`, which nobody needs", store.place()));
                }
            }
        }
        Ok(())
    }
}
