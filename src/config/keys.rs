//! The table of keys: name, environment variable, type, meaning, how to set and show it. Documentation comes from here.

use std::time::Duration;

use super::key::{
    Key, address, at_least_one, boolean, lay_over, maybe, mode, number, path, positive, shown, word_or_none,
};
use super::{
    EngineChoice, LogFormat, OnError, Origin, build, daemon, notify, parse_size, push, registries, release, schedules,
    sync,
};
use crate::document;
use crate::vocab::{Map, Value};

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
    build::JOBS,
    build::ARCHIVE_TTL,
    build::SOURCES,
    build::PROCESSES,
    build::MEMORY,
    build::DISK_FLOOR,
    build::TIMEOUT,
    build::KEEP_DAYS,
    build::MAX_SIZE,
    release::TARGETS,
    release::BRANCH,
    release::GIT_IDENTITY_FILE,
    release::GIT_KNOWN_HOSTS,
    release::CHECKOUT,
    release::AUTHOR,
    release::SSH_CONFIGURATION,
    release::SIGNING_KEY,
    release::SIGNING_PASSPHRASE_FILE,
    release::SIGNING_AGENT,
    release::ALLOWED_SIGNERS,
    release::PRINCIPAL,
    release::MINISIGN_KEY,
    release::MINISIGN_PASSWORD_FILE,
    release::PUBLIC_URL,
    release::PUBLIC_WAIT,
    release::EXPIRES_DAYS,
    release::RESERVE,
    release::SLOTS,
    release::KEEP,
    release::PATCHES,
    release::PATCH_LIMIT,
    Key {
        name: "release.flavors",
        environment: "CASTOFF_RELEASE_FLAVORS",
        accepts: "a map in YAML",
        doc: "Flavours of releases besides `lxc` and `standalone`, and what those get besides: `NAME: {root, include, leave_out, compressions}`",
        set: |config, text| {
            match document::parse(text, "release.flavors").map_err(|error| error.to_string())? {
                Value::Null => {}
                map @ Value::Map(_) => lay_over(&mut config.release_flavors, &map),
                other => return Err(format!("a map is expected, not a {}", other.type_name())),
            }
            Ok(())
        },
        get: |config| Value::Map(config.release_flavors.clone()),
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
    Key {
        name: "socket",
        environment: "CASTOFF_SOCKET",
        accepts: "an absolute path",
        doc: "The daemon's unix socket, for whoever listens and whoever calls: `/run/castoff/castoff.sock` for root, else `castoff.sock` in the XDG runtime folder",
        set: |config, text| path(text).map(|value| config.daemon.socket = Some(value)),
        get: |config| shown(config.daemon.socket.as_ref()),
    },
    Key {
        name: "socket_mode",
        environment: "CASTOFF_SOCKET_MODE",
        accepts: "an octal mode such as `0660`",
        doc: "The permissions of the daemon's socket",
        set: |config, text| mode(text).map(|value| config.daemon.socket_mode = value),
        get: |config| Value::from(format!("{:04o}", config.daemon.socket_mode)),
    },
    Key {
        name: "socket_group",
        environment: "CASTOFF_SOCKET_GROUP",
        accepts: "the name of a group, or `none`",
        doc: "The group that owns the daemon's socket",
        set: |config, text| {
            config.daemon.socket_group = word_or_none(text);
            Ok(())
        },
        get: |config| Value::from(config.daemon.socket_group.clone()),
    },
    Key {
        name: "salt_group",
        environment: "CASTOFF_SALT_GROUP",
        accepts: "the name of a group, or `none`",
        doc: "Besides group `castoff`, members of this group may call what changes nothing: `salt`, where the salt-master is not root",
        set: |config, text| {
            config.daemon.salt_group = word_or_none(text);
            Ok(())
        },
        get: |config| Value::from(config.daemon.salt_group.clone()),
    },
    Key {
        name: "listen",
        environment: "CASTOFF_LISTEN",
        accepts: "an address and port such as `127.0.0.1:4510` or `[::]:4510`, or `none`",
        doc: "Where the daemon listens besides its socket",
        set: |config, text| {
            config.daemon.listen = address(text)?;
            Ok(())
        },
        get: |config| Value::from(config.daemon.listen.map(|address| address.to_string())),
    },
    Key {
        name: "tls_cert",
        environment: "CASTOFF_TLS_CERT",
        accepts: "an absolute path",
        doc: "PEM file with the certificate chain that the daemon shows at `listen`",
        set: |config, text| path(text).map(|value| config.daemon.tls_cert = Some(value)),
        get: |config| shown(config.daemon.tls_cert.as_ref()),
    },
    Key {
        name: "tls_key",
        environment: "CASTOFF_TLS_KEY",
        accepts: "an absolute path",
        doc: "PEM file with the private key of `tls_cert`, for its owner only",
        set: |config, text| path(text).map(|value| config.daemon.tls_key = Some(value)),
        get: |config| shown(config.daemon.tls_key.as_ref()),
    },
    Key {
        name: "tls_client_ca",
        environment: "CASTOFF_TLS_CLIENT_CA",
        accepts: "an absolute path",
        doc: "PEM file with the authorities whose client certificates are taken at `listen`",
        set: |config, text| path(text).map(|value| config.daemon.tls_client_ca = Some(value)),
        get: |config| shown(config.daemon.tls_client_ca.as_ref()),
    },
    Key {
        name: "access_file",
        environment: "CASTOFF_ACCESS_FILE",
        accepts: "an absolute path",
        doc: "YAML file with hashed tokens, client certificate names, and what each may do at `listen`",
        set: |config, text| path(text).map(|value| config.daemon.access_file = Some(value)),
        get: |config| shown(config.daemon.access_file.as_ref()),
    },
    Key {
        name: "log",
        environment: "CASTOFF_LOG",
        accepts: "`trace`, `debug`, `info`, `warning`, `error` or `quiet`, or another level of `-l`",
        doc: "What goes to stderr; by default `info` for the daemon and `warning` for anything else",
        set: |config, text| {
            config.daemon.log = Some(level(text)?);
            Ok(())
        },
        get: |config| Value::from(config.daemon.log.clone()),
    },
    Key {
        name: "log_format",
        environment: "CASTOFF_LOG_FORMAT",
        accepts: "`text` or `json`",
        doc: "How the daemon writes its log",
        set: |config, text| {
            config.daemon.log_format = LogFormat::named(text)?;
            Ok(())
        },
        get: |config| Value::from(config.daemon.log_format.word()),
    },
    Key {
        name: "daemon.connections",
        environment: "CASTOFF_DAEMON_CONNECTIONS",
        accepts: "a whole number",
        doc: "The most connections the daemon keeps; beyond them the longest idle one of whoever has most is closed",
        set: |config, text| positive(text).map(|value| config.daemon.connections = value),
        get: |config| Value::from(config.daemon.connections),
    },
    Key {
        name: "daemon.calls",
        environment: "CASTOFF_DAEMON_CALLS",
        accepts: "a whole number",
        doc: "The most calls the daemon runs at once; others wait a moment, then hear 503",
        set: |config, text| positive(text).map(|value| config.daemon.calls = value),
        get: |config| Value::from(config.daemon.calls),
    },
    Key {
        name: "daemon.body_size",
        environment: "CASTOFF_DAEMON_BODY_SIZE",
        accepts: "bytes, or a number with a unit such as `2MiB`",
        doc: "The largest request body the daemon reads",
        set: |config, text| parse_size(text).map(|value| config.daemon.body_size = value),
        get: |config| Value::from(config.daemon.body_size),
    },
    Key {
        name: "daemon.deadline",
        environment: "CASTOFF_DAEMON_DEADLINE",
        accepts: "seconds",
        doc: "How long a query may take before its caller hears 504",
        set: |config, text| positive(text).map(|value| config.daemon.deadline = Duration::from_secs(value)),
        get: |config| Value::from(config.daemon.deadline.as_secs()),
    },
    Key {
        name: "daemon.idle",
        environment: "CASTOFF_DAEMON_IDLE",
        accepts: "seconds",
        doc: "How long a connection may be idle, or take to send a request's head or body, before it is closed",
        set: |config, text| positive(text).map(|value| config.daemon.idle = Duration::from_secs(value)),
        get: |config| Value::from(config.daemon.idle.as_secs()),
    },
    Key {
        name: "daemon.drain",
        environment: "CASTOFF_DAEMON_DRAIN",
        accepts: "seconds",
        doc: "How long the daemon goes on with what it has begun after SIGTERM",
        set: |config, text| positive(text).map(|value| config.daemon.drain = Duration::from_secs(value)),
        get: |config| Value::from(config.daemon.drain.as_secs()),
    },
    Key {
        name: "pillar_root",
        environment: "CASTOFF_PILLAR_ROOT",
        accepts: "an absolute path, or `none`",
        doc: "Where `database.sls`, `.yaml` or `.json` lies; else /etc/castoff/pillar, else /etc/makina-states",
        set: |config, text| maybe(text, path).map(|value| config.pillar_root = value),
        get: |config| Value::from(config.pillar_root.as_ref().map(|path| path.display().to_string())),
    },
    Key {
        name: "minion_id",
        environment: "CASTOFF_MINION_ID",
        accepts: "letters, digits, `.`, `_` and `-`, or `none`",
        doc: "The id of this host, the controller; else what /etc/salt/minion_id says, else the host's full name",
        set: |config, text| {
            maybe(text, |text| text.parse().map_err(|error: crate::error::Error| error.to_string()))
                .map(|value| config.minion_id = value)
        },
        get: |config| Value::from(config.minion_id.as_ref().map(ToString::to_string)),
    },
    Key {
        name: "grains",
        environment: "CASTOFF_GRAINS",
        accepts: "an absolute path, or `none`",
        doc: "A YAML or JSON file of grains that win over the detected ones",
        set: |config, text| maybe(text, path).map(|value| config.grains = value),
        get: |config| Value::from(config.grains.as_ref().map(|path| path.display().to_string())),
    },
    Key {
        name: "on_error",
        environment: "CASTOFF_ON_ERROR",
        accepts: "`fail` or `last-good`",
        doc: "What is answered while a source of settings cannot be read: the failure, or the last good answer with its age",
        set: |config, text| {
            config.on_error = match text {
                "fail" => OnError::Fail,
                "last-good" => OnError::LastGood,
                other => return Err(format!("`{other}` is neither")),
            };
            Ok(())
        },
        get: |config| {
            Value::from(match config.on_error {
                OnError::Fail => "fail",
                OnError::LastGood => "last-good",
            })
        },
    },
    Key {
        name: "compat",
        environment: "CASTOFF_COMPAT",
        accepts: "`true` or `false`",
        doc: "Whether placeholders and overrides in settings are resolved exactly as the original did, oddities included",
        set: |config, text| boolean(text).map(|value| config.compat = value),
        get: |config| Value::from(config.compat),
    },
    Key {
        name: "settings",
        environment: "CASTOFF_SETTINGS",
        accepts: "a map in YAML",
        doc: "Minion options (`makina-states.cloud.images: {…}`) that win over every other source; a flag is laid over the environment, that over the files",
        set: |config, text| {
            let value = match document::parse(text, "settings").map_err(|error| error.to_string())? {
                Value::Null => return Ok(()),
                map @ Value::Map(_) => map,
                other => return Err(format!("a map is expected, not a {}", other.type_name())),
            };
            config.settings.push((Origin::Default, value));
            Ok(())
        },
        get: |config| {
            Value::Map(config.settings.iter().fold(Map::new(), |mut all, (_, layer)| {
                lay_over(&mut all, layer);
                all
            }))
        },
    },
    sync::SOURCE,
    sync::BRANCH,
    sync::IMAGES,
    sync::ALLOWED_SIGNERS,
    sync::MINISIGN_KEYS,
    sync::REVOKED_KEYS,
    sync::SIGNER,
    sync::FOLDER,
    sync::KEEP,
    sync::CACHE_SIZE,
    sync::PATCH_LIMIT,
    sync::ALLOW_EXPIRED,
    sync::MIRROR,
    sync::IDENTITY_FILE,
    sync::KNOWN_HOSTS,
    sync::SECRET_FILE,
    sync::AUTHORITIES,
    sync::SCHEDULE,
    sync::JITTER,
    schedules::SCHEDULES,
    schedules::TICK,
    schedules::SYNC_IMAGES,
    notify::URL,
    notify::SECRET_FILE,
    notify::FUNCTIONS_KEY,
    push::PARALLEL,
    push::TIMEOUT,
    push::SILENCE,
    push::USER,
    push::IDENTITY_FILE,
    push::KNOWN_HOSTS,
    push::SSH_CONFIGURATION,
    push::BANDWIDTH,
    push::KEEP,
    registries::MIRRORS,
    registries::INSECURE,
    registries::AUTH_FILE,
    registries::AUTHORITIES,
];

fn level(text: &str) -> Result<String, String> {
    if daemon::LEVELS.contains(&text) { Ok(text.to_owned()) } else { Err(format!("there is no log level `{text}`")) }
}
