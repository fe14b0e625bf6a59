//! The table of keys: name, environment variable, type, meaning, how to set and show it. Documentation comes from here.

use std::path::PathBuf;

use super::{Config, EngineChoice, parse_size};
use crate::vocab::Value;

/// One thing that may be configured.
#[derive(Debug)]
pub struct Key {
    /// Its dotted name; in a file the dots may be nested maps.
    pub name: &'static str,
    /// Its environment variable.
    pub environment: &'static str,
    /// What a value must be, with its unit.
    pub accepts: &'static str,
    /// What it means, in one sentence.
    pub doc: &'static str,
    /// Takes the text of a value, or says what is wrong with it.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// The value in force.
    pub(super) get: fn(&Config) -> Value,
}

impl Key {
    /// The flag of the command line.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace(['.', '_'], "-"))
    }
}

/// Every key, in the order in which `castoff config` prints them.
pub const KEYS: &[Key] = &[
    Key {
        name: "state_dir",
        environment: "CASTOFF_STATE_DIR",
        accepts: "an absolute path",
        doc: "Where the store, journals and temporaries live: `/var/lib/castoff` for root, else `castoff` in the XDG state folder",
        set: |config, text| path(text).map(|value| config.state_dir = value),
        get: |config| Value::from(config.state_dir.display().to_string()),
    },
    Key {
        name: "engine",
        environment: "CASTOFF_ENGINE",
        accepts: "`auto`, `store` or `docker-daemon`",
        doc: "What a bare image name means; `auto` is the Docker engine when its socket answers, else the embedded store",
        set: |config, text| {
            config.engine = match text {
                "auto" => EngineChoice::Auto,
                "store" => EngineChoice::Store,
                "docker-daemon" => EngineChoice::DockerDaemon,
                other => return Err(format!("`{other}` is no engine")),
            };
            Ok(())
        },
        get: |config| {
            Value::from(match config.engine {
                EngineChoice::Auto => "auto",
                EngineChoice::Store => "store",
                EngineChoice::DockerDaemon => "docker-daemon",
            })
        },
    },
    Key {
        name: "docker_host",
        environment: "DOCKER_HOST",
        accepts: "an address such as `unix:///var/run/docker.sock` or `tcp://localhost:2375`",
        doc: "The Docker engine's address",
        set: |config, text| {
            if !text.contains("://") {
                return Err(format!("`{text}` has no scheme"));
            }
            text.clone_into(&mut config.docker_host);
            Ok(())
        },
        get: |config| Value::from(config.docker_host.as_str()),
    },
    Key {
        name: "store.max_size",
        environment: "CASTOFF_STORE_MAX_SIZE",
        accepts: "bytes, or a number with a unit such as `20GiB`, or `none`",
        doc: "`image.gc` removes untagged images, oldest first, until the store is no larger",
        set: |config, text| {
            config.store_max_size = if text == "none" { None } else { Some(parse_size(text)?) };
            Ok(())
        },
        get: |config| Value::from(config.store_max_size),
    },
    Key {
        name: "store.keep",
        environment: "CASTOFF_STORE_KEEP",
        accepts: "a whole number",
        doc: "`image.gc` keeps this many images that lost their last tag, newest first",
        set: |config, text| number(text).map(|value| config.store_keep = value),
        get: |config| Value::from(config.store_keep),
    },
    Key {
        name: "limits.entries",
        environment: "CASTOFF_LIMITS_ENTRIES",
        accepts: "a whole number",
        doc: "The most entries an archive or tree may have",
        set: |config, text| number(text).map(|value| config.limit_entries = value),
        get: |config| Value::from(config.limit_entries),
    },
    Key {
        name: "limits.layer_size",
        environment: "CASTOFF_LIMITS_LAYER_SIZE",
        accepts: "bytes, or a number with a unit such as `64GiB`",
        doc: "The most bytes a compressed layer may unfold to",
        set: |config, text| parse_size(text).map(|value| config.limit_layer_size = value),
        get: |config| Value::from(config.limit_layer_size),
    },
    Key {
        name: "lxc.path",
        environment: "CASTOFF_LXC_PATH",
        accepts: "an absolute path",
        doc: "Where LXC keeps its containers",
        set: |config, text| path(text).map(|value| config.lxc_path = value),
        get: |config| Value::from(config.lxc_path.display().to_string()),
    },
    Key {
        name: "jobs.parallel",
        environment: "CASTOFF_JOBS_PARALLEL",
        accepts: "a whole number from 1 on",
        doc: "The most jobs of the daemon that run at once; the others wait in order",
        set: |config, text| at_least_one(text).map(|value| config.jobs_parallel = value),
        get: |config| Value::from(config.jobs_parallel),
    },
    Key {
        name: "jobs.attempts",
        environment: "CASTOFF_JOBS_ATTEMPTS",
        accepts: "a whole number from 1 on",
        doc: "A job whose process was killed is run again, this often in all",
        set: |config, text| at_least_one(text).map(|value| config.jobs_attempts = value),
        get: |config| Value::from(config.jobs_attempts),
    },
    Key {
        name: "jobs.keep_days",
        environment: "CASTOFF_JOBS_KEEP_DAYS",
        accepts: "a whole number of days",
        doc: "Jobs that ended are forgotten after so many days",
        set: |config, text| number(text).map(|value| config.jobs_keep_days = value),
        get: |config| Value::from(config.jobs_keep_days),
    },
    Key {
        name: "jobs.keep",
        environment: "CASTOFF_JOBS_KEEP",
        accepts: "a whole number",
        doc: "The most jobs that ended to remember, the newest",
        set: |config, text| number(text).map(|value| config.jobs_keep = value),
        get: |config| Value::from(config.jobs_keep),
    },
];

fn path(text: &str) -> Result<PathBuf, String> {
    // A relative state folder would be another one in every working directory.
    if text.starts_with('/') { Ok(PathBuf::from(text)) } else { Err(format!("`{text}` is not an absolute path")) }
}

fn at_least_one(text: &str) -> Result<u32, String> {
    match number(text)? {
        0 => Err("0 is too few".to_owned()),
        value => Ok(value),
    }
}

fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number in range"))
}
