//! Image settings: which images there are, their versions, URLs, checksums, and who may see them.
//!
//! Pure: everything comes in as [`Inputs`]; files are reached through [`Files`] only. Knows no plans, engines, HTTP,
//! or who asks. All values are [`Traced`](crate::pillar::traced::Traced).

mod bounds;
mod cloud;
mod defaults;
mod fixpoint;
mod images;
mod layers;
mod local;
mod lookup;
mod resolve;
mod service;
mod template;
mod variables;

pub use cloud::{Cloud, lxc_hosts};
pub use defaults::defaults;
pub use images::{DEFAULT_ROOT, GIT_URL, IMAGE_URL, LXC_IMAGES, SFTP_URL, complete_images, is_generated_builder};
pub use layers::{default_settings, ext_pillar, extpillar_settings, has_own_settings, settings};
pub use local::{Environment, Wanted, guess_template_env, last_local_lxc_images};
pub use lookup::{get, traverse};
pub use resolve::format_resolve;
pub use service::{Base, Document, Fingerprint, PILLAR_TTL, Service, ServiceMetrics};
pub use variables::get_vars;

use crate::pillar::{Database, Facts, Files};
use crate::vocab::MinionId;

/// The key under which image settings stand in a pillar.
pub const PREFIX: &str = "makina-states.cloud.images";

/// Everything settings are computed from.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// The operator's database, where there is one.
    pub database: Option<&'a Database>,
    /// The id of the machine that computes: the controller's where it is one.
    pub controller: &'a MinionId,
    /// What that machine, or the minion that asks, told of itself.
    pub facts: &'a Facts,
    /// What kind of machine that is.
    pub host: HostKind,
    /// Whether to reproduce the original vector for vector, its oddities included.
    pub compat: bool,
    /// The door to files.
    pub files: &'a dyn Files,
}

/// What kind of machine computes settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostKind {
    /// It is an LXC container.
    pub lxc: bool,
    /// It is a developer's machine.
    pub devhost: bool,
}
