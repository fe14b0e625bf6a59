//! The states of a release, in their order, and the two moments at which each is written down.

use serde::{Deserialize, Serialize};

/// How far a release is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The branch was fetched, and the number chosen.
    Planned,
    /// The files are whole on this host.
    Archived,
    /// The manifest is signed.
    Signed,
    /// The number is claimed on the git server.
    Reserved,
    /// A file is under way to a target.
    Uploading,
    /// All of its bytes are there, under its temporary name.
    Uploaded,
    /// What is there was compared.
    Verified,
    /// It has its final name.
    Named,
    /// It can be fetched from where hosts fetch it.
    Fetchable,
    /// What the commit holds is fixed.
    Committed,
    /// The branch shows it: the release is true.
    Pushed,
    /// Nothing is left to do.
    Done,
    /// Given up: the number is not used, or not by this release.
    Abandoned,
    /// Announced once, and not any more.
    Withdrawn,
}

impl State {
    /// Every state, in order.
    pub const ALL: [Self; 14] = [
        Self::Planned,
        Self::Archived,
        Self::Signed,
        Self::Reserved,
        Self::Uploading,
        Self::Uploaded,
        Self::Verified,
        Self::Named,
        Self::Fetchable,
        Self::Committed,
        Self::Pushed,
        Self::Done,
        Self::Abandoned,
        Self::Withdrawn,
    ];

    /// Its word in journals and reports.
    pub fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Archived => "archived",
            Self::Signed => "signed",
            Self::Reserved => "reserved",
            Self::Uploading => "uploading",
            Self::Uploaded => "uploaded",
            Self::Verified => "verified",
            Self::Named => "named",
            Self::Fetchable => "fetchable",
            Self::Committed => "committed",
            Self::Pushed => "pushed",
            Self::Done => "done",
            Self::Abandoned => "abandoned",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Whether nothing follows.
    pub fn closes(self) -> bool {
        matches!(self, Self::Done | Self::Abandoned | Self::Withdrawn)
    }
}

/// Which moment of a state a record is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The effect is about to be caused.
    Intent,
    /// Something to remember on the way.
    Note,
    /// The state was reached, and proved.
    Done,
}

impl Phase {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Note => "note",
            Self::Done => "done",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::State;

    #[test]
    fn a_state_is_written_as_its_word() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
        assert!(State::ALL.is_sorted());
    }
}
