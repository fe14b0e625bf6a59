//! What is asked of an engine and what it answers, in castoff's words. Pure.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};
use crate::vocab::{DiffId, Digest, EngineImage};

/// Which engine answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineVersion {
    /// The engine's release, for example `20.10.24+dfsg1`.
    pub engine: String,
    /// The API version spoken, the lower of the engine's and ours.
    pub api: String,
    /// The engine's operating system.
    pub os: String,
    /// The engine's architecture, as Go names it.
    pub architecture: String,
}

/// What the engine says about one image.
#[derive(Clone, Debug)]
pub struct EngineImageInfo {
    /// Its ID: the digest of its configuration, or of its manifest in an engine with the containerd image store.
    pub id: Digest,
    /// Its names (`repository:tag`).
    pub repo_tags: Vec<String>,
    /// The layers, bottom first.
    pub diff_ids: Vec<DiffId>,
    /// The engine's view of the container configuration (`Config`): for reports, not the image's own bytes.
    pub config: serde_json::Value,
    /// Bytes, as the engine counts them.
    pub size: u64,
    /// Operating system.
    pub os: String,
    /// Architecture, as Go names it.
    pub architecture: String,
    /// The engine's storage driver, if it says.
    pub graph_driver: Option<String>,
    /// The folders of the layers on the engine's host, top first, where the driver is `overlay2`.
    pub layer_dirs: Vec<PathBuf>,
}

/// One line of the engine's list of images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineImageSummary {
    /// Its ID.
    pub id: Digest,
    /// Its names; empty where the image has none.
    pub repo_tags: Vec<String>,
    /// Bytes, as the engine counts them.
    pub size: u64,
    /// Seconds since 1970.
    pub created: i64,
}

/// What an upload became.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The IDs the engine reported, resolved through the names where it reported names.
    pub ids: Vec<Digest>,
    /// The names the engine set, because the archive carried them.
    pub names: Vec<String>,
    /// Bytes sent.
    pub bytes: u64,
}

impl Loaded {
    /// The ID, when exactly one image was loaded.
    pub fn only(&self) -> Result<Digest> {
        match self.ids.as_slice() {
            [id] => Ok(*id),
            ids => Err(Error::new(
                Kind::Failed,
                format!("the Docker engine reports {} loaded images where one was expected", ids.len()),
            )),
        }
    }
}

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// Images and layers that are gone.
    pub deleted: Vec<String>,
}

/// A container to make.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Its image.
    pub image: EngineImage,
    /// Entry point and arguments, instead of the image's.
    pub command: Vec<String>,
    /// Whether it has the engine's default network.
    pub network: bool,
    /// Capabilities beyond the engine's default ones, without `CAP_`.
    pub capabilities: Vec<String>,
    /// Variables beside the image's own.
    pub environment: BTreeMap<String, String>,
}

/// How a command in a container or sandbox ended.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandReport {
    /// Its exit code; 128 + the signal's number where a signal ended it.
    pub exit: i64,
    /// The last lines it printed.
    pub tail: Vec<String>,
    /// How long it ran.
    pub seconds: f64,
}

/// A refresh: a script run as root in a container of an image.
#[derive(Clone, Debug)]
pub struct RefreshSpec {
    /// The image to start from.
    pub image: EngineImage,
    /// A script of the caller's, copied in for the run and removed after it; none: `command` stands alone.
    pub script: Option<Vec<u8>>,
    /// The command; the script's path in the container is appended to it. May be empty when there is a script.
    pub command: Vec<String>,
    /// Whether the container has the engine's default network.
    pub network: bool,
    /// Capabilities beyond the engine's default ones, without `CAP_`.
    pub capabilities: Vec<String>,
    /// Variables beside the image's own.
    pub environment: BTreeMap<String, String>,
}

/// A refreshed container, frozen, while its tree is read.
#[derive(Clone, Debug, PartialEq)]
pub struct Refreshed {
    /// The merged tree on this host, without the engine's own mounts and stubs; valid until the reader returns.
    pub root: PathBuf,
    /// Paths (without a leading `/`) the engine had made in the tree and castoff took away again.
    pub stubs: Vec<String>,
    /// Folders of the image that are volumes: what the script wrote there is not part of the tree.
    pub volumes: Vec<String>,
    /// How the script ended; its exit code is 0.
    pub command: CommandReport,
}
