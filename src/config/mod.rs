//! castoff's own configuration: one YAML file, drop-ins, environment, flags; every value knows where it came from.
//!
//! Precedence: flag, then environment, then file, then default. System file `/etc/castoff/castoff.yaml`, a user's in
//! the XDG configuration folder, or `--config FILE`; drop-ins in `castoff.d/` beside it.

use std::path::PathBuf;

/// Which engine a bare image name means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// The Docker engine when its socket answers, else the embedded store.
    #[default]
    Auto,
    /// The embedded store.
    Store,
    /// The Docker engine.
    DockerDaemon,
}

/// Everything that may be configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where store, journals and temporaries live (`CASTOFF_STATE_DIR`).
    pub state_dir: PathBuf,
    /// The default engine (`CASTOFF_ENGINE`).
    pub engine: EngineChoice,
    /// The Docker engine's address (`DOCKER_HOST`), `unix:///var/run/docker.sock` by default.
    pub docker_host: String,
    /// `image.gc` removes untagged images, oldest first, until the store is no larger (bytes; none: no limit).
    pub store_max_size: Option<u64>,
    /// `image.gc` keeps this many images that lost their last tag, newest first.
    pub store_keep: u32,
    /// The most entries an archive or tree may have.
    pub limit_entries: u64,
    /// The most bytes a compressed layer may unfold to.
    pub limit_layer_size: u64,
}
