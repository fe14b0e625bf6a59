//! What a journal tells, taken together. Every word of it is looked up in the world before it is acted on.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::freight::Freight;
use super::journal::{Record, Subject};
use super::state::{Phase, State};
use crate::error::{Error, Kind, Result};

/// The member of a note that says whether the release is to end when all files have their names.
pub(super) const ONLY_UPLOAD: &str = "only_upload";

/// The member of an end that says whether the claim was left standing.
pub(super) const LEFT_CLAIM: &str = "claim_stands";

/// What was planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// Who claims the number, should it be claimed.
    pub claimant: String,
    /// When it was planned, in seconds since 1970.
    pub at: u64,
}

/// What was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed {
    /// The manifest's bytes.
    pub manifest: String,
    /// Their OpenSSH signature.
    pub signature: String,
    /// Their minisign signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minisignature: Option<String>,
}

/// The records of one release.
#[derive(Clone, Copy, Debug)]
pub struct Story<'a>(pub &'a [Record]);

impl<'a> Story<'a> {
    /// The newest record of this state and moment.
    pub fn last(self, state: State, phase: Phase) -> Option<&'a Record> {
        self.0.iter().rev().find(|record| record.state == state && record.phase == phase)
    }

    /// The newest record about this file and target.
    pub fn last_about(self, subject: &Subject, state: State, phase: Phase) -> Option<&'a Record> {
        let mut records = self.0.iter().rev();
        records.find(|record| (record.state, record.phase, record.subject.as_ref()) == (state, phase, Some(subject)))
    }

    fn payload<T: DeserializeOwned>(self, state: State) -> Result<Option<T>> {
        let Some(record) = self.last(state, Phase::Done) else { return Ok(None) };
        serde_json::from_value(record.payload.clone()).map(Some).map_err(|error| {
            Error::new(Kind::Corrupt, format!("the journal's record {} cannot be understood", record.seq))
                .caused_by(error)
                .hint("was it written by a newer castoff?")
        })
    }

    /// What was planned, if anything.
    pub fn planned(self) -> Result<Option<Planned>> {
        self.payload(State::Planned)
    }

    /// What is released, if that is known.
    pub fn freight(self) -> Result<Option<Freight>> {
        self.payload(State::Archived)
    }

    /// What was signed, if anything.
    pub fn signed(self) -> Result<Option<Signed>> {
        self.payload(State::Signed)
    }

    /// The offset below which all bytes of the file have arrived at the target.
    pub fn safe(self, subject: &Subject) -> u64 {
        self.last_about(subject, State::Uploading, Phase::Note).and_then(|record| record.payload.as_u64()).unwrap_or(0)
    }

    /// How it ended, if it did.
    pub fn ended(self) -> Option<State> {
        let last = self.0.last()?;
        (last.state.closes() && last.phase == Phase::Done).then_some(last.state)
    }

    /// Whether it is to end when all files have their names, and not to be announced.
    pub fn is_held(self) -> bool {
        let held = self.last(State::Planned, Phase::Note);
        held.and_then(|record| record.payload.get(ONLY_UPLOAD)?.as_bool()).unwrap_or(false)
    }

    /// Whether all files have their names, and it waits to be announced.
    pub fn waits(self) -> bool {
        self.is_held()
            && self.0.last().is_some_and(|record| (record.state, record.phase) == (State::Named, Phase::Note))
    }

    /// Whether it was announced and is being withdrawn.
    pub fn is_being_withdrawn(self) -> bool {
        self.0.last().is_some_and(|record| (record.state, record.phase) == (State::Withdrawn, Phase::Intent))
    }

    /// Whether a claim of the number was left standing when it was given up.
    pub fn has_left_claim(self) -> bool {
        let last = self.0.last().filter(|record| record.state == State::Abandoned);
        last.and_then(|record| record.payload.get(LEFT_CLAIM)?.as_bool()).unwrap_or(false)
    }

    /// Whether a final name may have been given to what is released.
    pub fn may_be_named(self) -> bool {
        self.last(State::Named, Phase::Intent).is_some() || self.last(State::Pushed, Phase::Intent).is_some()
    }
}
