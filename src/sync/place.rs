//! Where manifests are read.

use crate::error::{Context as _, Result};
use crate::publish::git::GitAddress;
use crate::remote::Location;

/// Where manifests are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A branch of a repository.
    Git(GitAddress, String),
    /// A folder with `versions/` in it: its address without the last `/`.
    Folder(String),
}

impl Source {
    /// The source that `sync.source` names.
    pub(super) fn parse(text: &str, branch: &str) -> Result<Self> {
        if let Some(address) = text.strip_prefix("git:") {
            return Ok(Self::Git(address.parse()?, branch.to_owned()));
        }
        let base = text.trim_end_matches('/');
        format!("{base}/x").parse::<Location>().context(|| "`sync.source` cannot be understood").map_err(|error| {
            error.hint(
                "it is `git:` and a repository's address, or a folder's `https://`, `sftp://` or `file:///` address",
            )
        })?;
        Ok(Self::Folder(base.to_owned()))
    }

    /// The address of the folder.
    pub(super) fn base(&self) -> Option<&str> {
        match self {
            Self::Git(..) => None,
            Self::Folder(base) => Some(base),
        }
    }
}
