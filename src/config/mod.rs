//! castoff's own configuration: one YAML file, drop-ins, environment, flags; every value knows where it came from.
//!
//! Precedence: flag, then environment, then drop-in, then file, then default.
//!
//! ```text
//! /etc/castoff/castoff.yaml                root's file
//! /etc/castoff/castoff.d/*.yaml            drop-ins, in the order of their names; a later one wins
//! $XDG_CONFIG_HOME/castoff/castoff.yaml    any other user's file, castoff.d/ beside it
//! FILE                                     `--config FILE` or CASTOFF_CONFIG instead; NAME.d/ beside NAME.yaml
//! ```

mod build;
mod daemon;
mod file;
mod key;
mod keys;
mod notify;
mod push;
mod registries;
mod release;
mod schedules;
mod size;
mod sync;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::host;
use crate::vocab::{Map, MinionId, Value, nearest};

pub use build::Build;
pub use daemon::{Daemon, LEVELS, LogFormat};
pub use key::Key;
pub use keys::KEYS;
pub use notify::Notify;
pub use push::Push;
pub use registries::Registries;
pub use release::Release;
pub use schedules::{GRACE, Scheduled, Schedules};
pub use size::parse_size;
pub use sync::Sync;

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

/// What is answered while a source of settings cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnError {
    /// The failure.
    #[default]
    Fail,
    /// The last good answer, with its age; the failure where there is none.
    LastGood,
}

/// Everything that may be configured, and where each value came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where store, journals and temporaries live.
    pub state_dir: PathBuf,
    /// The default engine.
    pub engine: EngineChoice,
    /// The Docker engine's address, in Docker's own spelling.
    pub docker_host: String,
    /// `image.gc` removes untagged images, oldest first, until the store is no larger (bytes; none: no limit).
    pub store_max_size: Option<u64>,
    /// `image.gc` keeps this many images that lost their last tag, newest first.
    pub store_keep: u32,
    /// The most entries an archive or tree may have.
    pub limit_entries: u64,
    /// The most bytes a compressed layer may unfold to.
    pub limit_layer_size: u64,
    /// Where LXC keeps its containers.
    pub lxc_path: PathBuf,
    /// Flavours of releases as they are configured, by name.
    pub release_flavors: Map,
    /// Targets, repository and keys of releases.
    pub release: Release,
    /// The most jobs that run at once.
    pub jobs_parallel: u32,
    /// How often a job whose process died is run before it counts as failed.
    pub jobs_attempts: u32,
    /// Jobs that ended are forgotten after so many days.
    pub jobs_keep_days: u32,
    /// The most jobs that ended to remember.
    pub jobs_keep: u32,
    /// How the daemon listens, whom it serves, and its limits.
    pub daemon: Daemon,
    /// Where the image database lies; none: the first usual place that exists.
    pub pillar_root: Option<PathBuf>,
    /// This host's id; none: Salt's, else the host's name.
    pub minion_id: Option<MinionId>,
    /// A file of grains that are laid over the detected ones.
    pub grains: Option<PathBuf>,
    /// What is answered while a source of settings cannot be read.
    pub on_error: OnError,
    /// Whether the configuration helpers give the original's results vector for vector.
    pub compat: bool,
    /// The strongest layers of image settings, weakest first, each with where it came from.
    pub settings: Vec<(Origin, Value)>,
    /// What this host follows, and how.
    pub sync: Sync,
    /// What the daemon runs at which times.
    pub schedules: Schedules,
    /// Who is told what the daemon has done.
    pub notify: Notify,
    /// What building images may use.
    pub build: Build,
    /// How the controller pushes images to hosts.
    pub push: Push,
    /// How OCI registries are reached.
    pub registries: Registries,
    origins: Vec<Origin>,
    overrides: Overrides,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(&'static str),
    /// A flag of the command line.
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => formatter.write_str("default"),
            Self::File(path) => write!(formatter, "file {}", path.display()),
            Self::Environment(name) => write!(formatter, "environment {name}"),
            Self::Flag(flag) => write!(formatter, "flag {flag}"),
        }
    }
}

/// What the command line says about configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config FILE`: this file (and its drop-ins) instead of the usual one; it must exist.
    pub file: Option<PathBuf>,
    /// Values by dotted key, as typed.
    pub values: Vec<(String, String)>,
}

impl Config {
    /// The configuration in force: flags over environment over drop-ins over file over defaults.
    pub fn load(overrides: &Overrides) -> Result<Self> {
        let mut config = Self { overrides: overrides.clone(), ..Self::defaults(PathBuf::new()) };
        for path in files(overrides)? {
            let file::Read { values, places } = file::read(&path)?;
            for (name, text) in values {
                config.set(find(&name)?, &text, Origin::File(path.clone()))?;
            }
            config.schedules.places.extend(places);
        }
        for key in KEYS {
            if let Some(text) = host::environment::text(key.environment)? {
                config.set(key, &text, Origin::Environment(key.environment))?;
            }
        }
        for (name, text) in &overrides.values {
            let key = find(name)?;
            config.set(key, text, Origin::Flag(key.flag()))?;
        }
        config.schedules.parse()?;
        if config.state_dir.as_os_str().is_empty() {
            config.state_dir = default_state_dir()?;
        }
        if config.daemon.socket.is_none() {
            config.daemon.socket = daemon::default_socket();
        }
        Ok(config)
    }

    /// Every default, with this state folder.
    pub fn defaults(state_dir: PathBuf) -> Self {
        Self {
            state_dir,
            engine: EngineChoice::Auto,
            docker_host: "unix:///var/run/docker.sock".to_owned(),
            store_max_size: None,
            store_keep: 0,
            limit_entries: crate::rootfs::Limits::default().entries,
            limit_layer_size: 64 << 30,
            lxc_path: PathBuf::from("/var/lib/lxc"),
            release_flavors: Map::new(),
            release: Release::default(),
            jobs_parallel: half_of_the_processors(),
            jobs_attempts: 3,
            jobs_keep_days: 30,
            jobs_keep: 1000,
            overrides: Overrides::default(),
            daemon: Daemon::default(),
            pillar_root: None,
            minion_id: None,
            grains: None,
            on_error: OnError::Fail,
            compat: false,
            settings: Vec::new(),
            sync: Sync::default(),
            schedules: Schedules::default(),
            notify: Notify::default(),
            build: Build::default(),
            push: Push::default(),
            registries: Registries::default(),
            origins: vec![Origin::Default; KEYS.len()],
        }
    }

    /// The environment that makes a castoff without flags load what this process's flags said.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let file = self.overrides.file.iter().map(|file| ("CASTOFF_CONFIG", file.clone().into_os_string()));
        let values = self.overrides.values.iter().filter_map(|(name, text)| {
            KEYS.iter().find(|key| key.name == name).map(|key| (key.environment, OsString::from(text)))
        });
        file.chain(values).collect()
    }

    /// Whether image settings come out the same under both.
    pub fn has_settings_of(&self, other: &Self) -> bool {
        (&self.pillar_root, &self.minion_id, &self.grains, self.on_error, self.compat, &self.settings)
            == (&other.pillar_root, &other.minion_id, &other.grains, other.on_error, other.compat, &other.settings)
    }

    /// Where the value of a dotted key came from; none for an unknown key.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        KEYS.iter().position(|key| key.name == name).and_then(|at| self.origins.get(at))
    }

    /// Every key with its value and where that came from, as `castoff config` prints it.
    pub fn explain(&self) -> Value {
        Value::map(KEYS.iter().zip(&self.origins).map(|(key, origin)| {
            (key.name, Value::map([("value", (key.get)(self)), ("from", Value::from(origin.to_string()))]))
        }))
    }

    fn set(&mut self, key: &Key, text: &str, origin: Origin) -> Result<()> {
        (key.set)(self, text).map_err(|wrong| {
            Error::new(Kind::Usage, format!("configuration key `{}` ({origin}): {wrong}", key.name))
                .hint(format!("`{}` is {}", key.name, key.accepts))
        })?;
        if key.name == "settings"
            && let Some((from, _)) = self.settings.last_mut()
        {
            from.clone_from(&origin);
        }
        if let Some(known) = KEYS.iter().position(|known| known.name == key.name) {
            self.origins[known] = origin;
        }
        Ok(())
    }
}

fn find(name: &str) -> Result<&'static Key> {
    KEYS.iter().find(|key| key.name == name).ok_or_else(|| Error::new(Kind::Usage, unknown(name)))
}

/// The message about a key nobody knows, with the nearest known ones.
fn unknown(name: &str) -> String {
    let near = nearest(name, KEYS.iter().map(|key| key.name));
    if near.is_empty() {
        let known: Vec<&str> = KEYS.iter().map(|key| key.name).collect();
        format!("unknown configuration key `{name}`, known are `{}`", known.join("`, `"))
    } else {
        format!("unknown configuration key `{name}`, did you mean `{}`?", near.join("` or `"))
    }
}

/// The files to read, weakest first.
fn files(overrides: &Overrides) -> Result<Vec<PathBuf>> {
    let named = overrides.file.clone().or_else(|| host::environment::raw("CASTOFF_CONFIG").map(PathBuf::from));
    let main = match &named {
        Some(file) => Some(file.clone()),
        None if host::process::is_root() => Some(PathBuf::from("/etc/castoff/castoff.yaml")),
        None => xdg("XDG_CONFIG_HOME", ".config").map(|folder| folder.join("castoff/castoff.yaml")),
    };
    let Some(main) = main else { return Ok(Vec::new()) };
    let mut files = Vec::new();
    if named.is_some() || host::fs::exists(&main)? {
        files.push(main.clone());
    }
    let drop_ins = main.with_extension("d");
    if host::fs::metadata(&drop_ins)?.is_some_and(|found| found.is_dir()) {
        for name in host::fs::list(&drop_ins)? {
            if Path::new(&name).extension().is_some_and(|extension| extension == "yaml") {
                files.push(drop_ins.join(name));
            }
        }
    }
    Ok(files)
}

/// Long work is bound by disk and compression alike: half of the processors, one at least and four at most.
fn half_of_the_processors() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    u32::try_from(processors / 2).unwrap_or(4).clamp(1, 4)
}

fn default_state_dir() -> Result<PathBuf> {
    if host::process::is_root() {
        return Ok(PathBuf::from("/var/lib/castoff"));
    }
    xdg("XDG_STATE_HOME", ".local/state").map(|folder| folder.join("castoff")).ok_or_else(|| {
        Error::new(Kind::Usage, "no place for castoff's state: neither `XDG_STATE_HOME` nor `HOME` is set")
            .hint("set `CASTOFF_STATE_DIR` to a folder of yours")
    })
}

/// A base folder of the XDG specification, which says that a relative one is to be ignored.
fn xdg(variable: &str, below_home: &str) -> Option<PathBuf> {
    let absolute = |name| host::environment::raw(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute(variable).or_else(|| absolute("HOME").map(|home| home.join(below_home)))
}
