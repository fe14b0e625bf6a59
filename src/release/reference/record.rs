//! What the last copy was made of: `STATE/release/reference/IMAGE.json`. Lost, it costs one copy more.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::vocab::{Digest, ReleaseNumber};

const LIMIT: u64 = 64 << 10;

/// What was copied, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Made {
    /// The container it was copied from.
    pub(super) source: String,
    /// What was copied.
    pub(super) from: Digest,
    /// What the script and the version made of it.
    pub(super) to: Digest,
    /// Whether the script was to run.
    pub(super) snapshot: bool,
    /// The release it was marked with.
    pub(super) version: Option<ReleaseNumber>,
}

/// What is remembered; nothing where that cannot be understood.
pub(super) fn read(path: &Path) -> Result<Option<Made>> {
    if !fs::exists(path)? {
        return Ok(None);
    }
    Ok(serde_json::from_slice(&fs::read_at_most(path, LIMIT)?).ok())
}

/// Remembers it.
pub(super) fn write(path: &Path, made: &Made) -> Result<()> {
    let bytes = serde_json::to_vec(made)
        .map_err(|error| Error::new(Kind::Failed, "cannot write a record as JSON").caused_by(error))?;
    fs::write_atomic(path, 0o600, &bytes)
}
