//! What the world outside a plan is at the moment, as values: the plan itself looks at nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::vocab::Digest;

/// All that identities need and a plan does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The files and folders of the host that a plan brings in.
    pub files: BTreeMap<PathBuf, FileFact>,
    /// The archives that packages come from, by the digest of their [`super::Sources`].
    pub archives: BTreeMap<Digest, ArchiveFact>,
    /// The images that plans begin with, by reference.
    pub images: BTreeMap<String, Digest>,
    /// The versions of the host's programs, by name.
    pub tools: BTreeMap<String, String>,
    /// `SOURCE_DATE_EPOCH`, where the caller sets it.
    pub epoch: Option<i64>,
}

/// What a file or folder of the host is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFact {
    /// The digest of all of it: names, types, modes, owners and bytes.
    pub digest: Digest,
    /// The name it has where it is copied to.
    pub name: String,
    /// For a disk image: how large the disk is.
    pub disk_size: Option<u64>,
}

/// What an archive of packages is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveFact {
    /// The digest of each `InRelease`, by its address.
    pub releases: BTreeMap<String, Digest>,
    /// The newest `Date` among them, in seconds since 1970.
    pub date: i64,
    /// When they were fetched, in seconds since 1970; no part of any identity.
    pub fetched: i64,
}
