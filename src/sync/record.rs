//! What a host remembers of an image: `STATE/sync/images/IMAGE/FLAVOUR/record.json`, replaced as a whole and synced.
//!
//! ```json
//! {
//!   "format": 1,
//!   "highest": {"version": 25, "sha256": "sha256:…"},
//!   "pin": null,
//!   "releases": {"25": {"diff_id": "sha256:…", "sha256": "sha256:…", "at": 1795224960}},
//!   "last": {"at": 1795224960, "result": true, "why": "release 25 is current"}
//! }
//! ```
//!
//! A release is recorded before its tree is made; a tree that is there is whole.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::host;
use crate::manifest::Highest;
use crate::vocab::{DiffId, Digest, ReleaseNumber};

const FORMAT: u32 = 1;
const LIMIT: u64 = 1 << 20;

/// What a host remembers of an image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    format: u32,
    /// The highest release seen under a good signature: nothing below it is followed.
    pub(super) highest: Option<Seen>,
    /// The release that an operator wants, whatever is served.
    pub(super) pin: Option<ReleaseNumber>,
    /// What the trees are.
    #[serde(default)]
    pub(super) releases: BTreeMap<ReleaseNumber, Kept>,
    /// How the last run ended.
    pub(super) last: Option<Last>,
}

/// A release that was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    version: ReleaseNumber,
    sha256: Digest,
}

/// A release that has a tree, or is about to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) diff_id: DiffId,
    pub(super) sha256: Digest,
    /// When it was begun: seconds since 1970.
    pub(super) at: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Last {
    /// When: seconds since 1970.
    pub(super) at: u64,
    pub(super) result: bool,
    pub(super) why: String,
}

impl From<Highest> for Seen {
    fn from(highest: Highest) -> Self {
        Self { version: highest.version, sha256: highest.sha256 }
    }
}

impl From<Seen> for Highest {
    fn from(seen: Seen) -> Self {
        Self { version: seen.version, sha256: seen.sha256 }
    }
}

impl Seen {
    pub(super) fn version(self) -> ReleaseNumber {
        self.version
    }
}

impl Default for Record {
    fn default() -> Self {
        Self { format: FORMAT, highest: None, pin: None, releases: BTreeMap::new(), last: None }
    }
}

impl Record {
    /// The record at this path; a new one where nothing is. A damaged one is an error: without it a rollback would pass.
    pub(super) fn read(path: &Path) -> Result<Self> {
        if !host::fs::exists(path)? {
            return Ok(Self::default());
        }
        let wrong = |cause: String| {
            Error::new(Kind::Corrupt, format!("the record `{}` is damaged", path.display())).caused_by(cause).hint(
                "it keeps an older release from being taken for a new one: look at `sync.status` of another host, then remove it",
            )
        };
        let bytes = host::fs::read_at_most(path, LIMIT)?;
        let record: Self = serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        if record.format != FORMAT {
            return Err(wrong(format!("it has format {}, this castoff knows format {FORMAT}", record.format)));
        }
        Ok(record)
    }

    /// Replaces the record durably, if it says something new.
    pub(super) fn write(&self, path: &Path, before: &Self) -> Result<()> {
        if self == before && host::fs::exists(path)? {
            return Ok(());
        }
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::new(Kind::Failed, "cannot write a record as JSON").caused_by(error))?;
        bytes.push(b'\n');
        host::fs::write_atomic(path, 0o600, &bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_and_a_damaged_one_is_no_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let mut record = Record::read(&path).unwrap();
        assert_eq!(record, Record::default());
        let sha256 = Digest::of(b"x");
        let version = ReleaseNumber::new(25).unwrap();
        record.highest = Some(Seen { version, sha256 });
        record.releases.insert(version, Kept { diff_id: DiffId(sha256), sha256, at: 7 });
        record.write(&path, &Record::default()).unwrap();
        assert_eq!(Record::read(&path).unwrap(), record);
        for bad in ["", "{}", "{\"format\": 2, \"highest\": null, \"pin\": null, \"last\": null}", "[]"] {
            host::fs::write_atomic(&path, 0o600, bad.as_bytes()).unwrap();
            assert_eq!(Record::read(&path).unwrap_err().kind(), Kind::Corrupt, "{bad}");
        }
    }
}
