//! What a host follows, and how.

use std::path::PathBuf;
use std::time::Duration;

use super::key::{Key, number};
use super::parse_size;
use crate::schedule::{Cron, Zone};
use crate::vocab::Value;

/// What a host follows, and how; texts are parsed by those who know what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Where signed manifests are read.
    pub source: Option<String>,
    /// The branch, where the source is a repository.
    pub branch: String,
    /// What is followed: `IMAGE/FLAVOUR`, separated by commas.
    pub images: String,
    /// Who may sign.
    pub allowed_signers: Option<PathBuf>,
    /// The minisign keys that may sign, or must besides.
    pub minisign_keys: Option<PathBuf>,
    /// Keys that may not any more.
    pub revoked_keys: Option<PathBuf>,
    /// Who has to have signed.
    pub signer: String,
    /// Where trees are; none: `images` in the state folder.
    pub folder: Option<PathBuf>,
    /// How many earlier releases stay.
    pub keep: u32,
    /// The most bytes of kept tars.
    pub cache_size: u64,
    /// The largest tar that is patched.
    pub patch_limit: u64,
    /// Whether an expired manifest may still bring something new.
    pub allow_expired: bool,
    /// An address that is asked before those of the manifest.
    pub mirror: Option<String>,
    /// The key shown to SFTP and git servers.
    pub identity_file: Option<PathBuf>,
    /// The host keys that are trusted.
    pub known_hosts: Option<PathBuf>,
    /// The password or token for the HTTP servers of `source` and `mirror`.
    pub secret_file: Option<PathBuf>,
    /// The certificate authorities to trust instead of the machine's.
    pub authorities: Option<PathBuf>,
    /// When the daemon brings this host up to date, as crontab(5) writes it.
    pub schedule: Option<String>,
    /// The window in which this host has its own delay.
    pub jitter: Duration,
}

impl Default for Sync {
    fn default() -> Self {
        Self {
            source: None,
            branch: "master".to_owned(),
            images: String::new(),
            allowed_signers: None,
            minisign_keys: None,
            revoked_keys: None,
            signer: "castoff".to_owned(),
            folder: None,
            keep: 2,
            cache_size: 4 << 30,
            patch_limit: 1 << 30,
            allow_expired: false,
            mirror: None,
            identity_file: None,
            known_hosts: None,
            secret_file: None,
            authorities: None,
            schedule: None,
            jitter: Duration::from_mins(15),
        }
    }
}

/// A row whose value is an absolute path or `none`.
macro_rules! path_key {
    ($constant:ident, $name:literal, $environment:literal, $field:ident, $doc:literal) => {
        pub(super) const $constant: Key = Key {
            name: $name,
            environment: $environment,
            accepts: "an absolute path, or `none`",
            doc: $doc,
            set: |config, text| maybe_path(text).map(|value| config.sync.$field = value),
            get: |config| Value::from(config.sync.$field.as_ref().map(|path| path.display().to_string())),
        };
    };
}

pub(super) const SOURCE: Key = Key {
    name: "sync.source",
    environment: "CASTOFF_SYNC_SOURCE",
    accepts: "`git:ADDRESS`, a folder's `https://`, `sftp://` or `file:///` address, or `none`",
    doc: "Where `castoff sync` reads signed manifests: a git repository, or a folder with `versions/` in it",
    set: |config, text| {
        config.sync.source = maybe(text);
        Ok(())
    },
    get: |config| Value::from(config.sync.source.clone()),
};
pub(super) const BRANCH: Key = Key {
    name: "sync.branch",
    environment: "CASTOFF_SYNC_BRANCH",
    accepts: "the name of a branch",
    doc: "The branch to read, where `sync.source` is a git repository",
    set: |config, text| {
        text.clone_into(&mut config.sync.branch);
        Ok(())
    },
    get: |config| Value::from(config.sync.branch.as_str()),
};
pub(super) const IMAGES: Key = Key {
    name: "sync.images",
    environment: "CASTOFF_SYNC_IMAGES",
    accepts: "`IMAGE/FLAVOUR`, more of them separated by commas",
    doc: "What this host follows",
    set: |config, text| {
        config.sync.images = maybe(text).unwrap_or_default();
        Ok(())
    },
    get: |config| Value::from(config.sync.images.as_str()),
};
path_key!(
    ALLOWED_SIGNERS,
    "sync.allowed_signers",
    "CASTOFF_SYNC_ALLOWED_SIGNERS",
    allowed_signers,
    "The file of keys that may sign releases, as ssh-keygen(1) describes it under ALLOWED SIGNERS"
);
path_key!(
    MINISIGN_KEYS,
    "sync.minisign_keys",
    "CASTOFF_SYNC_MINISIGN_KEYS",
    minisign_keys,
    "A file of minisign public keys, one of which has to have signed: instead of `sync.allowed_signers`, or besides"
);
path_key!(
    REVOKED_KEYS,
    "sync.revoked_keys",
    "CASTOFF_SYNC_REVOKED_KEYS",
    revoked_keys,
    "A file of public keys that may not sign any more, whatever the other file says"
);
pub(super) const SIGNER: Key = Key {
    name: "sync.signer",
    environment: "CASTOFF_SYNC_SIGNER",
    accepts: "a principal of the file of allowed signers",
    doc: "Who has to have signed",
    set: |config, text| {
        text.clone_into(&mut config.sync.signer);
        Ok(())
    },
    get: |config| Value::from(config.sync.signer.as_str()),
};
path_key!(
    FOLDER,
    "sync.folder",
    "CASTOFF_SYNC_FOLDER",
    folder,
    "Where trees go, `IMAGE/FLAVOUR/current` among them; `images` in the state folder where nothing is said"
);
pub(super) const KEEP: Key = Key {
    name: "sync.keep",
    environment: "CASTOFF_SYNC_KEEP",
    accepts: "a whole number",
    doc: "How many earlier releases of an image stay unpacked",
    set: |config, text| {
        config.sync.keep = text.parse().map_err(|_| format!("`{text}` is not a whole number in range"))?;
        Ok(())
    },
    get: |config| Value::from(config.sync.keep),
};
pub(super) const CACHE_SIZE: Key = Key {
    name: "sync.cache_size",
    environment: "CASTOFF_SYNC_CACHE_SIZE",
    accepts: "bytes, or a number with a unit such as `4GiB`",
    doc: "The most bytes of compressed tars to keep, which patches are applied to",
    set: |config, text| parse_size(text).map(|value| config.sync.cache_size = value),
    get: |config| Value::from(config.sync.cache_size),
};
pub(super) const PATCH_LIMIT: Key = Key {
    name: "sync.patch_limit",
    environment: "CASTOFF_SYNC_PATCH_LIMIT",
    accepts: "bytes, or a number with a unit such as `1GiB`",
    doc: "Larger tars are fetched whole: applying a patch takes up to three times as much memory",
    set: |config, text| parse_size(text).map(|value| config.sync.patch_limit = value),
    get: |config| Value::from(config.sync.patch_limit),
};
pub(super) const ALLOW_EXPIRED: Key = Key {
    name: "sync.allow_expired",
    environment: "CASTOFF_SYNC_ALLOW_EXPIRED",
    accepts: "`true` or `false`",
    doc: "Follow an expired manifest to something new all the same; what is here already stays either way",
    set: |config, text| {
        config.sync.allow_expired = text.parse().map_err(|_| format!("`{text}` is neither `true` nor `false`"))?;
        Ok(())
    },
    get: |config| Value::from(config.sync.allow_expired),
};
pub(super) const MIRROR: Key = Key {
    name: "sync.mirror",
    environment: "CASTOFF_SYNC_MIRROR",
    accepts: "an address with `{name}` in it, or `none`",
    doc: "Where files are looked for before the places that the manifest names",
    set: |config, text| {
        config.sync.mirror = maybe(text);
        Ok(())
    },
    get: |config| Value::from(config.sync.mirror.clone()),
};
path_key!(
    IDENTITY_FILE,
    "sync.identity_file",
    "CASTOFF_SYNC_IDENTITY_FILE",
    identity_file,
    "The private key shown to SFTP and git servers, instead of those of the ssh configuration"
);
path_key!(
    KNOWN_HOSTS,
    "sync.known_hosts",
    "CASTOFF_SYNC_KNOWN_HOSTS",
    known_hosts,
    "The host keys that are trusted, instead of those of the ssh configuration"
);
path_key!(
    SECRET_FILE,
    "sync.secret_file",
    "CASTOFF_SYNC_SECRET_FILE",
    secret_file,
    "A file with the password (or bearer token) for the HTTP servers of `sync.source` and `sync.mirror`, and no others"
);
path_key!(
    AUTHORITIES,
    "sync.authorities",
    "CASTOFF_SYNC_AUTHORITIES",
    authorities,
    "A file with the certificate authorities to trust for HTTPS, instead of the machine's"
);

pub(super) const SCHEDULE: Key = Key {
    name: "sync.schedule",
    environment: "CASTOFF_SYNC_SCHEDULE",
    accepts: "`minute hour day-of-month month day-of-week` as crontab(5) has it, or `none`",
    doc: "When the daemon runs `sync.run`, in the host's time zone; its schedule is called `sync`",
    set: |config, text| {
        if let Some(pattern) = maybe(text) {
            Cron::parse(&pattern, Zone::UTC).map_err(|error| error.message().to_owned())?;
        }
        config.sync.schedule = maybe(text);
        Ok(())
    },
    get: |config| Value::from(config.sync.schedule.clone()),
};
pub(super) const JITTER: Key = Key {
    name: "sync.jitter",
    environment: "CASTOFF_SYNC_JITTER",
    accepts: "seconds",
    doc: "Each host starts its scheduled `sync.run` up to so much later, the same delay each time",
    set: |config, text| {
        let seconds: u32 = number(text)?;
        config.sync.jitter = Duration::from_secs(seconds.into());
        Ok(())
    },
    get: |config| Value::from(config.sync.jitter.as_secs()),
};

fn maybe(text: &str) -> Option<String> {
    (text != "none" && !text.is_empty()).then(|| text.to_owned())
}

fn maybe_path(text: &str) -> Result<Option<PathBuf>, String> {
    match text {
        "none" => Ok(None),
        path if path.starts_with('/') => Ok(Some(PathBuf::from(path))),
        other => Err(format!("`{other}` is not an absolute path")),
    }
}
