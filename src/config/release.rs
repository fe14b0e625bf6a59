//! What releases need besides the image settings: targets, the repository, keys, addresses. Keys, and what they set.

use std::path::PathBuf;
use std::time::Duration;

use super::key::{Key, at_least_one, boolean, lay_over, maybe, number, path, shown};
use super::parse_size;
use crate::document;
use crate::vocab::{Map, Value};

/// Everything that may be configured about releases.
#[derive(Clone, Debug, PartialEq)]
pub struct Release {
    /// Targets by name, as they are configured.
    pub targets: Map,
    /// The branch that announces releases.
    pub branch: String,
    /// The key file for the repository.
    pub git_identity_file: Option<PathBuf>,
    /// The known_hosts file for the repository.
    pub git_known_hosts: Option<PathBuf>,
    /// A plain checkout to bring forward after each release.
    pub checkout: Option<PathBuf>,
    /// Who commits: `NAME <MAIL>`.
    pub author: String,
    /// The ssh configuration to read instead of the usual ones.
    pub ssh_configuration: Option<PathBuf>,
    /// The key that manifests are signed with.
    pub signing_key: Option<PathBuf>,
    /// The file with its passphrase.
    pub signing_passphrase_file: Option<PathBuf>,
    /// Whether the key is in the agent, and the file holds its public half.
    pub signing_agent: bool,
    /// Who may sign, as ssh-keygen(1) has it.
    pub allowed_signers: Option<PathBuf>,
    /// Who signs, a name in that file.
    pub principal: String,
    /// The key for a second signature.
    pub minisign_key: Option<PathBuf>,
    /// The file with its password.
    pub minisign_password_file: Option<PathBuf>,
    /// Where hosts fetch files from, with `{name}` for the file's name.
    pub public_url: Option<String>,
    /// How long a file may take to appear there.
    pub public_wait: Duration,
    /// After how many days a manifest makes its readers wonder.
    pub expires_days: u32,
    /// Whether numbers are claimed on the git server first.
    pub reserve: bool,
    /// Uploads to one host at once.
    pub slots: u32,
    /// How many releases' files prune leaves.
    pub keep: u32,
    /// From how many earlier releases patches are published.
    pub patches: u32,
    /// The largest tar that patches are made for.
    pub patch_limit: u64,
}

impl Default for Release {
    fn default() -> Self {
        Self {
            targets: Map::new(),
            branch: "master".to_owned(),
            git_identity_file: None,
            git_known_hosts: None,
            checkout: None,
            author: "castoff <castoff@localhost>".to_owned(),
            ssh_configuration: None,
            signing_key: None,
            signing_passphrase_file: None,
            signing_agent: false,
            allowed_signers: None,
            principal: "castoff".to_owned(),
            minisign_key: None,
            minisign_password_file: None,
            public_url: None,
            public_wait: Duration::from_mins(10),
            expires_days: 365,
            reserve: false,
            slots: 2,
            keep: 3,
            patches: 3,
            patch_limit: 1 << 30,
        }
    }
}

const PATH: &str = "an absolute path, or `none`";

pub(super) const TARGETS: Key = Key {
    name: "release.targets",
    environment: "CASTOFF_RELEASE_TARGETS",
    accepts: "a map in YAML",
    doc: "Where releases are uploaded to: `NAME: {url, identity_file, known_hosts, host_keys, verify, secret_file, ca_file}`; without any, to the settings' `sftp_url`",
    set: |config, text| {
        match document::parse(text, "release.targets").map_err(|error| error.to_string())? {
            Value::Null => {}
            map @ Value::Map(_) => lay_over(&mut config.release.targets, &map),
            other => return Err(format!("a map is expected, not a {}", other.type_name())),
        }
        Ok(())
    },
    get: |config| Value::Map(config.release.targets.clone()),
};

pub(super) const BRANCH: Key = Key {
    name: "release.branch",
    environment: "CASTOFF_RELEASE_BRANCH",
    accepts: "the name of a branch",
    doc: "The branch of the settings' `git_url` that announces releases",
    set: |config, text| text_of(text).map(|value| config.release.branch = value),
    get: |config| Value::from(config.release.branch.as_str()),
};

pub(super) const GIT_IDENTITY_FILE: Key = Key {
    name: "release.git_identity_file",
    environment: "CASTOFF_RELEASE_GIT_IDENTITY_FILE",
    accepts: PATH,
    doc: "The key file for the repository, instead of those of the ssh configuration",
    set: |config, text| maybe(text, path).map(|value| config.release.git_identity_file = value),
    get: |config| shown(config.release.git_identity_file.as_ref()),
};

pub(super) const GIT_KNOWN_HOSTS: Key = Key {
    name: "release.git_known_hosts",
    environment: "CASTOFF_RELEASE_GIT_KNOWN_HOSTS",
    accepts: PATH,
    doc: "The known_hosts file for the repository's host, instead of those of the ssh configuration",
    set: |config, text| maybe(text, path).map(|value| config.release.git_known_hosts = value),
    get: |config| shown(config.release.git_known_hosts.as_ref()),
};

pub(super) const CHECKOUT: Key = Key {
    name: "release.checkout",
    environment: "CASTOFF_RELEASE_CHECKOUT",
    accepts: PATH,
    doc: "A plain checkout of the branch that is brought forward after each release",
    set: |config, text| maybe(text, path).map(|value| config.release.checkout = value),
    get: |config| shown(config.release.checkout.as_ref()),
};

pub(super) const AUTHOR: Key = Key {
    name: "release.author",
    environment: "CASTOFF_RELEASE_AUTHOR",
    accepts: "`NAME <MAIL>`",
    doc: "Who commits releases",
    set: |config, text| {
        let parts = text.strip_suffix('>').and_then(|text| text.split_once(" <"));
        if parts.is_none_or(|(name, mail)| name.trim().is_empty() || mail.contains(['<', '>'])) {
            return Err(format!("`{text}` is no name with a mail address"));
        }
        text.clone_into(&mut config.release.author);
        Ok(())
    },
    get: |config| Value::from(config.release.author.as_str()),
};

pub(super) const SSH_CONFIGURATION: Key = Key {
    name: "release.ssh_configuration",
    environment: "CASTOFF_RELEASE_SSH_CONFIGURATION",
    accepts: PATH,
    doc: "The ssh configuration to read instead of `~/.ssh/config` and `/etc/ssh/ssh_config`",
    set: |config, text| maybe(text, path).map(|value| config.release.ssh_configuration = value),
    get: |config| shown(config.release.ssh_configuration.as_ref()),
};

pub(super) const SIGNING_KEY: Key = Key {
    name: "release.signing_key",
    environment: "CASTOFF_RELEASE_SIGNING_KEY",
    accepts: PATH,
    doc: "The OpenSSH key that manifests are signed with",
    set: |config, text| maybe(text, path).map(|value| config.release.signing_key = value),
    get: |config| shown(config.release.signing_key.as_ref()),
};

pub(super) const SIGNING_PASSPHRASE_FILE: Key = Key {
    name: "release.signing_passphrase_file",
    environment: "CASTOFF_RELEASE_SIGNING_PASSPHRASE_FILE",
    accepts: PATH,
    doc: "The file with the signing key's passphrase",
    set: |config, text| maybe(text, path).map(|value| config.release.signing_passphrase_file = value),
    get: |config| shown(config.release.signing_passphrase_file.as_ref()),
};

pub(super) const SIGNING_AGENT: Key = Key {
    name: "release.signing_agent",
    environment: "CASTOFF_RELEASE_SIGNING_AGENT",
    accepts: "`true` or `false`",
    doc: "Whether the signing key is in the ssh agent, and `release.signing_key` its public half",
    set: |config, text| boolean(text).map(|value| config.release.signing_agent = value),
    get: |config| Value::from(config.release.signing_agent),
};

pub(super) const ALLOWED_SIGNERS: Key = Key {
    name: "release.allowed_signers",
    environment: "CASTOFF_RELEASE_ALLOWED_SIGNERS",
    accepts: PATH,
    doc: "Who may sign releases, a file as ssh-keygen(1) has it; else the signing key's own public half beside it",
    set: |config, text| maybe(text, path).map(|value| config.release.allowed_signers = value),
    get: |config| shown(config.release.allowed_signers.as_ref()),
};

pub(super) const PRINCIPAL: Key = Key {
    name: "release.principal",
    environment: "CASTOFF_RELEASE_PRINCIPAL",
    accepts: "a name in `release.allowed_signers`",
    doc: "Who signs releases",
    set: |config, text| text_of(text).map(|value| config.release.principal = value),
    get: |config| Value::from(config.release.principal.as_str()),
};

pub(super) const MINISIGN_KEY: Key = Key {
    name: "release.minisign_key",
    environment: "CASTOFF_RELEASE_MINISIGN_KEY",
    accepts: PATH,
    doc: "A minisign key for a second signature",
    set: |config, text| maybe(text, path).map(|value| config.release.minisign_key = value),
    get: |config| shown(config.release.minisign_key.as_ref()),
};

pub(super) const MINISIGN_PASSWORD_FILE: Key = Key {
    name: "release.minisign_password_file",
    environment: "CASTOFF_RELEASE_MINISIGN_PASSWORD_FILE",
    accepts: PATH,
    doc: "The file with the minisign key's password",
    set: |config, text| maybe(text, path).map(|value| config.release.minisign_password_file = value),
    get: |config| shown(config.release.minisign_password_file.as_ref()),
};

pub(super) const PUBLIC_URL: Key = Key {
    name: "release.public_url",
    environment: "CASTOFF_RELEASE_PUBLIC_URL",
    accepts: "an address with `{name}` for the file's name, or `none`",
    doc: "Where hosts fetch released files; if given, a release is announced only once its files can be fetched there",
    set: |config, text| maybe(text, text_of).map(|value| config.release.public_url = value),
    get: |config| Value::from(config.release.public_url.as_ref()),
};

pub(super) const PUBLIC_WAIT: Key = Key {
    name: "release.public_wait",
    environment: "CASTOFF_RELEASE_PUBLIC_WAIT",
    accepts: "seconds",
    doc: "How long a file may take to appear at `release.public_url`",
    set: |config, text| number(text).map(|value| config.release.public_wait = Duration::from_secs(value)),
    get: |config| Value::from(config.release.public_wait.as_secs()),
};

pub(super) const EXPIRES_DAYS: Key = Key {
    name: "release.expires_days",
    environment: "CASTOFF_RELEASE_EXPIRES_DAYS",
    accepts: "a whole number of days from 1 on",
    doc: "After so many days without a newer release its readers are warned",
    set: |config, text| at_least_one(text).map(|value| config.release.expires_days = value),
    get: |config| Value::from(config.release.expires_days),
};

pub(super) const RESERVE: Key = Key {
    name: "release.reserve",
    environment: "CASTOFF_RELEASE_RESERVE",
    accepts: "`true` or `false`",
    doc: "Whether a number is claimed on the git server before anything is uploaded, for several publishers",
    set: |config, text| boolean(text).map(|value| config.release.reserve = value),
    get: |config| Value::from(config.release.reserve),
};

pub(super) const SLOTS: Key = Key {
    name: "release.slots",
    environment: "CASTOFF_RELEASE_SLOTS",
    accepts: "a whole number from 1 on",
    doc: "Uploads to one host at once; others wait",
    set: |config, text| at_least_one(text).map(|value| config.release.slots = value),
    get: |config| Value::from(config.release.slots),
};

pub(super) const KEEP: Key = Key {
    name: "release.keep",
    environment: "CASTOFF_RELEASE_KEEP",
    accepts: "a whole number from 1 on",
    doc: "`release.prune` leaves the files of this many releases, and of every release that shares them",
    set: |config, text| at_least_one(text).map(|value| config.release.keep = value),
    get: |config| Value::from(config.release.keep),
};

pub(super) const PATCHES: Key = Key {
    name: "release.patches",
    environment: "CASTOFF_RELEASE_PATCHES",
    accepts: "a whole number",
    doc: "A release carries patches from so many earlier releases whose archives are still on this host",
    set: |config, text| number(text).map(|value| config.release.patches = value),
    get: |config| Value::from(config.release.patches),
};

pub(super) const PATCH_LIMIT: Key = Key {
    name: "release.patch_limit",
    environment: "CASTOFF_RELEASE_PATCH_LIMIT",
    accepts: "bytes, or a number with a unit such as `1GiB`",
    doc: "No patch is made for tars that are larger: making one takes up to three times as much memory",
    set: |config, text| parse_size(text).map(|value| config.release.patch_limit = value),
    get: |config| Value::from(config.release.patch_limit),
};

fn text_of(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("one line of text is expected".to_owned());
    }
    Ok(text.to_owned())
}
