//! What castoff's worker is told to do, in a namespace of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bring::Surveys;
use crate::plan::{Facts, Plan, PlanName};
use crate::vocab::Digest;

/// An order.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Build plans.
    Build(Box<Work>),
    /// Open a shell in the tree of a failed step.
    Shell(Shell),
    /// Remove what nobody needs.
    Collect(Collect),
    /// Read all trees.
    Verify(Verify),
}

/// Plans to be built.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Work {
    /// The store of trees.
    pub(super) trees: PathBuf,
    pub(super) plans: Vec<Plan>,
    pub(super) space: String,
    /// The wanted ones and what they build on.
    pub(super) wanted: BTreeSet<PlanName>,
    /// Those whose results are wanted as files.
    pub(super) targets: BTreeSet<PlanName>,
    pub(super) force: bool,
    pub(super) facts: Facts,
    pub(super) surveys: Surveys,
    /// Bases that came as tars, by plan.
    pub(super) tars: BTreeMap<PlanName, PathBuf>,
    /// Images that go out as tars, by plan and number of the output.
    pub(super) images: BTreeMap<PlanName, BTreeMap<usize, PathBuf>>,
    /// Archives of packages, by the digest of their sources.
    pub(super) archives: BTreeMap<Digest, ArchiveHome>,
    pub(super) bounds: Bounds,
}

/// Where what is known of an archive lies on the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ArchiveHome {
    /// Its folder: `lists`, `etc`.
    pub(super) folder: PathBuf,
    /// Its packages that were fetched before.
    pub(super) pool: PathBuf,
    /// The architecture of its packages.
    pub(super) architecture: String,
    /// What the host's apt needs to reach it, as `KEY=VALUE`.
    pub(super) settings: Vec<String>,
}

/// What steps may use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Bounds {
    pub(super) jobs: u32,
    pub(super) processes: u32,
    pub(super) memory: Option<u64>,
    pub(super) disk_floor: u64,
    pub(super) timeout: Option<Duration>,
    pub(super) entries: u64,
    /// How long packages of archives that nobody knows stay good.
    pub(super) archive_ttl: Duration,
}

/// A shell in a failed tree.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Shell {
    pub(super) trees: PathBuf,
    pub(super) failed: PathBuf,
    pub(super) command: Vec<String>,
    /// The terminal; none: output is told, input is empty.
    pub(super) terminal: Option<PathBuf>,
    pub(super) network: bool,
    pub(super) bounds: Bounds,
}

/// A collection of trees.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Collect {
    pub(super) trees: PathBuf,
    pub(super) max_size: Option<u64>,
    pub(super) max_age: Option<u64>,
    pub(super) dry_run: bool,
}

/// A check of trees.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Verify {
    pub(super) trees: PathBuf,
    pub(super) entries: u64,
}
