//! From a manifest to the branch's tip, and what is tidied up behind it.

use serde_json::json;

use super::{Attempt, Begun};
use crate::error::{Error, Kind, Result};
use crate::host::clock;
use crate::manifest::{Manifest, Moment};
use crate::publish::git::{Claim, Claimed, Published, Release};
use crate::release::freight::Freight;
use crate::release::journal::Journal;
use crate::release::state::{Phase, State};
use crate::release::story::{Signed, Story};
use crate::release::{Setup, places};
use crate::vocab::Digest;

impl Begun<'_> {
    /// The signed manifest: the one of an earlier run where that still is what it should be.
    pub(super) fn signed(&mut self, freight: &Freight) -> Result<Signed> {
        let signing = self.setup.signing()?;
        if let Some(signed) = Story(self.journal.records()).signed()?
            && self.fits(&signed, freight)?
            && signing.judge(signed.manifest.as_bytes(), signed.signature.as_bytes()).is_ok()
        {
            return Ok(signed);
        }
        let manifest = self.manifest(freight, None)?;
        let bytes = manifest.to_bytes()?;
        let digest = Digest::of(&bytes);
        let text = String::from_utf8(bytes)
            .map_err(|error| Error::new(Kind::Failed, "the manifest is not UTF-8").caused_by(error))?;
        self.journal.append(State::Signed, Phase::Intent, &json!({ "manifest": digest }))?;
        let comment = format!("{}/{}/{}", self.image, self.flavour, self.number);
        let signed = signing.sign(text, &comment, &self.setup.cancel)?;
        signing.judge(signed.manifest.as_bytes(), signed.signature.as_bytes()).map_err(|error| {
            Error::new(Kind::Refused, "the signing key is not one whose signatures are believed")
                .caused_by(error)
                .hint("list its public half in `release.allowed_signers`, for `release.principal`")
        })?;
        self.journal.append(State::Signed, Phase::Done, &signed)?;
        Ok(signed)
    }

    /// The manifest of what is released now, at the moment of an earlier one if there is one.
    fn manifest(&self, freight: &Freight, earlier: Option<&Manifest>) -> Result<Manifest> {
        let mut manifest = freight.manifest(&self.image, &self.flavour, self.number)?;
        manifest.urls = self.setup.public_url.iter().cloned().collect();
        if let Some(earlier) = earlier {
            (manifest.created, manifest.expires) = (earlier.created, earlier.expires);
            return Ok(manifest);
        }
        // In order where a clock was put back.
        let after = self.standing.manifest.as_ref().map_or(0, |current| current.created.0.saturating_add(1));
        let created = clock::now().as_secs().max(after);
        manifest.created = Moment(created);
        manifest.expires = Moment(created.saturating_add(self.setup.expires.as_secs()));
        Ok(manifest)
    }

    fn fits(&self, signed: &Signed, freight: &Freight) -> Result<bool> {
        let earlier = Manifest::parse(signed.manifest.as_bytes())?;
        // What was signed long ago may have expired since, or another release may have come between.
        let after = self.standing.manifest.as_ref().map_or(0, |current| current.created.0);
        if earlier.created.0 <= after || earlier.expires.0 <= clock::now().as_secs() {
            return Ok(false);
        }
        Ok(self.manifest(freight, Some(&earlier))? == earlier)
    }

    /// Claims the number, where publishers are to be kept apart.
    pub(super) fn reserved(&mut self) -> Result<Option<Attempt>> {
        if !self.setup.reserve {
            return Ok(None);
        }
        let claim = self.claim()?;
        self.journal.append(State::Reserved, Phase::Intent, &json!({ "claimant": claim.claimant }))?;
        match self.setup.git.claim(&claim)? {
            Claimed::Ours => self.journal.append(State::Reserved, Phase::Done, &())?,
            Claimed::Theirs(who) => {
                return Ok(Some(Attempt::taken(self.number, format!("it is claimed: {}", who.trim()))));
            }
        }
        Ok(None)
    }

    /// Waits until the files are where hosts will look for them.
    pub(super) fn fetchable(&mut self, manifest: &Manifest) -> Result<()> {
        let Some(address) = &self.setup.public_url else { return Ok(()) };
        for file in manifest.files() {
            places::wait_for(self.setup, address, file)?;
        }
        self.journal.append(State::Fetchable, Phase::Done, &json!({ "address": address.to_string() }))
    }

    /// Announces the release; the commit that shows it.
    pub(super) fn pushed(&mut self, signed: &Signed) -> Result<Result<String, Attempt>> {
        let bytes = signed.manifest.as_bytes();
        let believed = self.setup.signing()?.believe(bytes, &signed.signature)?;
        let release = Release::new(&believed, signed.minisignature.as_deref())?;
        self.journal.append(State::Committed, Phase::Done, &json!({ "manifest": Digest::of(bytes) }))?;
        self.journal.append(State::Pushed, Phase::Intent, &json!({ "subject": release.subject() }))?;
        let (commit, tries) = match self.setup.git.publish(&release)? {
            Published::New { commit, tries } => (commit, tries),
            Published::Already { commit } => (commit, 0),
            Published::Conflict { highest } => {
                return Ok(Err(Attempt::taken(highest, format!("release {highest} is announced already"))));
            }
        };
        self.journal.append(State::Pushed, Phase::Done, &json!({ "commit": commit, "tries": tries }))?;
        Ok(Ok(commit))
    }
}

/// What is left once the branch shows the release. What fails here fails no release: it is told, the journal stays open,
/// and the next run does it.
pub(super) fn finish(setup: &Setup, journal: &mut Journal, claim: &Claim) -> Result<Vec<String>> {
    let mut left = Vec::new();
    journal.append(State::Done, Phase::Intent, &())?;
    if let Some(checkout) = &setup.checkout
        && let Err(error) = setup.git.fast_forward(checkout)
    {
        left.push(error.context_line(&format!("the checkout `{}` is behind", checkout.display())));
    }
    if Story(journal.records()).last(State::Reserved, Phase::Done).is_some()
        && let Err(error) = setup.git.drop_claim(claim)
    {
        left.push(error.context_line("the claim of the number stands"));
    }
    if let Err(error) = super::claims::give_left_claims_back(setup, claim) {
        left.push(error.context_line("the claim of a number that was given up stands"));
    }
    for line in &left {
        setup.progress.warn(line.clone());
    }
    if left.is_empty() {
        journal.append(State::Done, Phase::Done, &())?;
    }
    Ok(left)
}

/// One line for a report.
trait ContextLine {
    fn context_line(&self, what: &str) -> String;
}

impl ContextLine for Error {
    fn context_line(&self, what: &str) -> String {
        format!("{what}: {}", self.render().replace('\n', " "))
    }
}
