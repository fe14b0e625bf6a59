//! Who is told what the daemon has done: keys, and what they set.

use std::path::PathBuf;

use super::key::{Key, maybe, path, shown};
use crate::vocab::Value;

/// What is told when nobody says it: whatever releases, or brings releases to hosts.
const FUNCTIONS: [&str; 7] = [
    "release.*",
    "sync.*",
    "mc_cloud_images.sf_release",
    "mc_cloud_images.publish_release*",
    "mc_cloud_images.sync_container",
    "mc_lxc.*",
    "mc_cloud_lxc.*",
];

/// Everything that may be configured about notifications.
#[derive(Clone, Debug, PartialEq)]
pub struct Notify {
    /// Where they are sent.
    pub url: Option<String>,
    /// The file with the secret that signs them.
    pub secret_file: Option<PathBuf>,
    /// The functions whose ends are told; those of schedules always are.
    pub functions: Vec<String>,
}

impl Default for Notify {
    fn default() -> Self {
        Self { url: None, secret_file: None, functions: FUNCTIONS.map(str::to_owned).to_vec() }
    }
}

pub(super) const URL: Key = Key {
    name: "notify.url",
    environment: "CASTOFF_NOTIFY_URL",
    accepts: "an `https://` or `http://` address, or `none`",
    doc: "Where the daemon sends a webhook when a release or a run on hosts has ended, and when a schedule is late",
    set: |config, text| {
        config.notify.url = maybe(text, |text| {
            let begins = text.starts_with("https://") || text.starts_with("http://");
            if begins { Ok(text.to_owned()) } else { Err("an `https://` or `http://` address is expected".to_owned()) }
        })?;
        Ok(())
    },
    get: |config| Value::from(config.notify.url.as_ref()),
};

pub(super) const SECRET_FILE: Key = Key {
    name: "notify.secret_file",
    environment: "CASTOFF_NOTIFY_SECRET_FILE",
    accepts: "an absolute path, or `none`",
    doc: "The file with the secret that signs webhooks, `whsec_` and base64 as the Standard Webhooks have it",
    set: |config, text| maybe(text, path).map(|value| config.notify.secret_file = value),
    get: |config| shown(config.notify.secret_file.as_ref()),
};

pub(super) const FUNCTIONS_KEY: Key = Key {
    name: "notify.functions",
    environment: "CASTOFF_NOTIFY_FUNCTIONS",
    accepts: "patterns of functions, separated by commas",
    doc: "Whose ends are told, where they changed something as a job; what a schedule ran is told always",
    set: |config, text| {
        let patterns = text.split(',').map(str::trim).filter(|pattern| !pattern.is_empty());
        config.notify.functions = patterns.map(str::to_owned).collect();
        Ok(())
    },
    get: |config| Value::from(config.notify.functions.join(",")),
};
