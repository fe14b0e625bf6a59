//! Records: which layers the inputs of an identity gave.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{FILE_MODE, Trees};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{clock, fault, fs};
use crate::vocab::Digest;

/// What the inputs of an identity gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The inputs, by name.
    pub inputs: BTreeMap<String, String>,
    /// The layers of each tree, the lowest first.
    pub layers: BTreeMap<String, Vec<Digest>>,
    /// What comes after it: what the next step's identity is made of.
    pub after: Digest,
    /// The time that nothing in the trees is younger than, in seconds since 1970.
    pub epoch: i64,
    /// When it was made, in seconds since 1970.
    pub made: i64,
    /// What a person calls it.
    pub what: String,
    /// Whether its packages came from archives that nobody knows, so that it grows old.
    #[serde(default)]
    pub ages: bool,
    /// The boot since which it may not be on the disk; nothing once it surely is.
    #[serde(default)]
    pub boot: Option<String>,
}

/// The most bytes a record may have.
const LIMIT: u64 = 16 << 20;

impl Record {
    /// The digest of all its trees.
    pub fn trees(&self) -> Digest {
        let mut text = String::from("castoff trees 1\n");
        for (name, layers) in &self.layers {
            text.push_str(name);
            for layer in layers {
                text.push(' ');
                text.push_str(&layer.to_string());
            }
            text.push('\n');
        }
        Digest::of(text.as_bytes())
    }
}

impl Trees {
    /// The record of an identity, if it counts and all its layers are there.
    pub fn record(&self, identity: Digest) -> Result<Option<Record>> {
        let path = self.record_path(identity);
        if !fs::exists(&path)? {
            return Ok(None);
        }
        // A record is a hint: one that cannot be read is none, and the next one replaces it.
        let Ok(record) = serde_json::from_slice::<Record>(&fs::read_at_most(&path, LIMIT)?) else { return Ok(None) };
        if record.boot.as_ref().is_some_and(|boot| *boot != self.boot) {
            return Ok(None);
        }
        for layer in record.layers.values().flatten() {
            if !fs::exists(&self.layer(*layer))? {
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    /// Records what an identity gave; it counts until the machine stops, and for ever once [`Self::settle`] was called.
    pub fn keep(&self, identity: Digest, record: &Record) -> Result<()> {
        let _lock = self.shared()?;
        let record = Record { boot: Some(self.boot.clone()), ..record.clone() };
        self.write_record(identity, &record)?;
        fault::point("trees.record.kept");
        Ok(())
    }

    /// Makes sure that these results outlive the machine's power.
    pub fn settle(&self, identities: &[Digest]) -> Result<()> {
        let mut loose = Vec::new();
        for identity in identities {
            if let Some(record) = self.record(*identity)?.filter(|record| record.boot.is_some()) {
                loose.push((*identity, record));
            }
        }
        if loose.is_empty() {
            return Ok(());
        }
        let folder = fs::open(self.root())?;
        rustix::fs::syncfs(&folder)
            .context(|| format!("cannot sync the file system of `{}`", self.root().display()))?;
        let _lock = self.shared()?;
        for (identity, record) in loose {
            record.layers.values().flatten().try_for_each(|layer| self.settle_layer(*layer))?;
            self.write_record(identity, &Record { boot: None, ..record })?;
        }
        fs::sync_dir(&self.path("records"))
    }

    /// The inputs of what was made last in this place of a plan.
    pub fn last(&self, slot: &str) -> Result<Option<BTreeMap<String, String>>> {
        let path = self.slot_path(slot);
        if !fs::exists(&path)? {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&fs::read_at_most(&path, LIMIT)?).ok())
    }

    /// Notes the inputs of what was made in this place of a plan.
    pub fn note_last(&self, slot: &str, inputs: &BTreeMap<String, String>) -> Result<()> {
        fs::write_unsynced(&self.slot_path(slot), FILE_MODE, &encode(inputs)?)
    }

    /// Marks a record as used now.
    pub(super) fn touch(&self, identity: Digest) -> Result<()> {
        fs::touch(&self.record_path(identity))
    }

    /// Every record with its identity and its last use, in seconds since 1970.
    pub(super) fn records(&self) -> Result<Vec<(Digest, Option<Record>, i64)>> {
        let mut found = Vec::new();
        for name in fs::list(&self.path("records"))? {
            let Some(hex) = name.to_str().and_then(|name| name.strip_suffix(".json")) else { continue };
            let Ok(identity) = format!("sha256:{hex}").parse::<Digest>() else { continue };
            let path = self.record_path(identity);
            let Some(metadata) = fs::link_metadata(&path)? else { continue };
            let used = std::os::unix::fs::MetadataExt::mtime(&metadata);
            found.push((identity, self.record(identity)?, used));
        }
        Ok(found)
    }

    pub(super) fn record_path(&self, identity: Digest) -> PathBuf {
        self.path("records").join(format!("{}.json", identity.hex()))
    }

    fn slot_path(&self, slot: &str) -> PathBuf {
        self.path("slots").join(Digest::of(slot.as_bytes()).hex())
    }

    fn write_record(&self, identity: Digest, record: &Record) -> Result<()> {
        fs::write_unsynced(&self.record_path(identity), FILE_MODE, &encode(record)?)
    }
}

pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::new(Kind::Failed, "cannot write down a record").caused_by(error))
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    i64::try_from(clock::now().as_secs()).unwrap_or(i64::MAX)
}
