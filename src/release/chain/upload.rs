//! Files to their targets, each file and target with states of its own.

use serde_json::json;

use super::{Attempt, Begun, Placed};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs::Lock;
use crate::manifest::Manifest;
use crate::publish::{Content, RemoteName, RemoteStore, Upload, open};
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
            let doing = format!("{} is not at the target `{}`", self.what(), target.name);
            let reached = self.reach(target).context(|| doing.clone());
            let (_slot, mut store) = match reached {
                Ok(reached) => reached,
                Err(error) if error.kind() == Kind::Interrupted => return Err(error),
                Err(error) => {
                    failures.push(error);
                    continue;
                }
            };
            let result = match freight {
                Freight::New(archived) => self.uploaded(target, archived, store.as_mut()),
                Freight::Again(old) => self.still_there(target, old, store.as_mut()),
            };
            match result.context(|| doing) {
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
                self.give_up("other content stands under its names", false)?;
                Err(error.hint("nobody announced what stands there; the next run takes the next number"))
            }
        }
    }

    /// Connects to the target, once it is our turn.
    fn reach(&self, target: &ReleaseTarget) -> Result<(Option<Lock>, Box<dyn RemoteStore>)> {
        let slot = lock::slot(self.setup, &target.target)?;
        let store = open(&target.target, &target.access, &self.setup.operator, &self.setup.cancel)?;
        Ok((slot, store))
    }

    fn uploaded(
        &mut self,
        target: &ReleaseTarget,
        archived: &Archived,
        store: &mut dyn RemoteStore,
    ) -> Result<Vec<Placed>> {
        let parcels = archived.parcels(&self.image, &self.flavour, self.number)?;
        parcels.iter().map(|parcel| self.upload(target, parcel, store)).collect()
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
    fn still_there(
        &mut self,
        target: &ReleaseTarget,
        old: &Manifest,
        store: &mut dyn RemoteStore,
    ) -> Result<Vec<Placed>> {
        let mut placed = Vec::new();
        for file in old.files() {
            let tier = places::confirm(store, file, target.minimum, &self.setup.progress)?;
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
}
