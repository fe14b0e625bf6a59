//! How the controller pushes reference images to hosts that cannot pull. Keys, and what they set.

use std::path::PathBuf;
use std::time::Duration;

use super::key::{Key, at_least_one, maybe, number, path, shown};
use crate::vocab::Value;

/// How images are pushed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Hosts at once.
    pub parallel: u32,
    /// How long one host may take in all.
    pub timeout: Duration,
    /// How long a host may take to answer, and to say nothing.
    pub silence: Duration,
    /// Who logs in; none: as the ssh configuration has it.
    pub user: Option<String>,
    /// The key that is shown.
    pub identity_file: Option<PathBuf>,
    /// The host keys that are trusted.
    pub known_hosts: Option<PathBuf>,
    /// The ssh configuration that is read instead of the usual ones.
    pub ssh_configuration: Option<PathBuf>,
    /// The most KiB a second to one host; 0: no limit.
    pub bandwidth: u32,
    /// How many earlier trees stay on a host.
    pub keep: u32,
}

impl Default for Push {
    fn default() -> Self {
        Self {
            parallel: 8,
            timeout: Duration::from_hours(3),
            silence: Duration::from_secs(30),
            user: None,
            identity_file: None,
            known_hosts: None,
            ssh_configuration: None,
            bandwidth: 0,
            keep: 1,
        }
    }
}

const PATH: &str = "an absolute path, or `none`";

pub(super) const PARALLEL: Key = Key {
    name: "push.parallel",
    environment: "CASTOFF_PUSH_PARALLEL",
    accepts: "a whole number from 1 on",
    doc: "Hosts that images are pushed to at once",
    set: |config, text| at_least_one(text).map(|value| config.push.parallel = value),
    get: |config| Value::from(config.push.parallel),
};

pub(super) const TIMEOUT: Key = Key {
    name: "push.timeout",
    environment: "CASTOFF_PUSH_TIMEOUT",
    accepts: "seconds from 1 on",
    doc: "How long one host may take in all",
    set: |config, text| seconds(text).map(|value| config.push.timeout = value),
    get: |config| Value::from(config.push.timeout.as_secs()),
};

pub(super) const SILENCE: Key = Key {
    name: "push.silence",
    environment: "CASTOFF_PUSH_SILENCE",
    accepts: "seconds from 1 on",
    doc: "How long a host may take to answer, or stand still in the middle",
    set: |config, text| seconds(text).map(|value| config.push.silence = value),
    get: |config| Value::from(config.push.silence.as_secs()),
};

pub(super) const USER: Key = Key {
    name: "push.user",
    environment: "CASTOFF_PUSH_USER",
    accepts: "the name of a user, or `none`",
    doc: "Who logs in on hosts, instead of whom the ssh configuration names; it must be root there",
    set: |config, text| maybe(text, user).map(|value| config.push.user = value),
    get: |config| Value::from(config.push.user.clone()),
};

pub(super) const IDENTITY_FILE: Key = Key {
    name: "push.identity_file",
    environment: "CASTOFF_PUSH_IDENTITY_FILE",
    accepts: PATH,
    doc: "The private key shown to hosts, instead of those of the ssh configuration",
    set: |config, text| maybe(text, path).map(|value| config.push.identity_file = value),
    get: |config| shown(config.push.identity_file.as_ref()),
};

pub(super) const KNOWN_HOSTS: Key = Key {
    name: "push.known_hosts",
    environment: "CASTOFF_PUSH_KNOWN_HOSTS",
    accepts: PATH,
    doc: "The host keys that are trusted, instead of those of the ssh configuration; no other is ever accepted",
    set: |config, text| maybe(text, path).map(|value| config.push.known_hosts = value),
    get: |config| shown(config.push.known_hosts.as_ref()),
};

pub(super) const SSH_CONFIGURATION: Key = Key {
    name: "push.ssh_configuration",
    environment: "CASTOFF_PUSH_SSH_CONFIGURATION",
    accepts: PATH,
    doc: "The ssh configuration to read instead of `~/.ssh/config` and `/etc/ssh/ssh_config`",
    set: |config, text| maybe(text, path).map(|value| config.push.ssh_configuration = value),
    get: |config| shown(config.push.ssh_configuration.as_ref()),
};

pub(super) const BANDWIDTH: Key = Key {
    name: "push.bandwidth",
    environment: "CASTOFF_PUSH_BANDWIDTH",
    accepts: "KiB a second; 0 for no limit",
    doc: "The most that goes to one host",
    set: |config, text| number(text).map(|value| config.push.bandwidth = value),
    get: |config| Value::from(config.push.bandwidth),
};

pub(super) const KEEP: Key = Key {
    name: "push.keep",
    environment: "CASTOFF_PUSH_KEEP",
    accepts: "a whole number from 1 on",
    doc: "How many earlier trees of an image stay on a host",
    set: |config, text| at_least_one(text).map(|value| config.push.keep = value),
    get: |config| Value::from(config.push.keep),
};

fn seconds(text: &str) -> Result<Duration, String> {
    at_least_one(text).map(|seconds| Duration::from_secs(seconds.into()))
}

/// A name that neither ssh nor a shell can take for anything else.
fn user(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match text.as_bytes() {
        [first, ..] if (first.is_ascii_alphanumeric() || *first == b'_') && text.bytes().all(is_plain) => {
            Ok(text.to_owned())
        }
        _ => Err(format!("`{}` is not the name of a user", text.escape_debug())),
    }
}
