//! What a release needs around it, worked out of configuration and image settings before anything connects.
//!
//! The addresses of the original's owners, which the settings have by default, are refused: nobody publishes there by
//! mistake.

mod repository;
mod signing;
mod targets;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use signing::Signing;
pub use targets::ReleaseTarget;

use super::journals::Journals;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Address, PatchLimits};
use crate::progress::{Cancel, Progress};
use crate::publish::git::Git;
use crate::ssh::{Files, Operator};
use crate::vocab::Value;

/// A release's surroundings.
pub struct Setup {
    /// castoff's state folder.
    pub state: PathBuf,
    /// The journals.
    pub journals: Journals,
    /// Where files go; at least one.
    pub targets: Vec<ReleaseTarget>,
    /// Where releases are announced.
    pub git: Git,
    /// A checkout that is brought forward.
    pub checkout: Option<PathBuf>,
    /// Who signs, and who judges signatures; an error where no key is configured, which only some need.
    signing: Result<Signing, String>,
    /// Where hosts fetch files.
    pub public_url: Option<Address>,
    /// How long a file may take to appear there.
    pub public_wait: Duration,
    /// How long a manifest holds.
    pub expires: Duration,
    /// Whether numbers are claimed.
    pub reserve: bool,
    /// Uploads to one host at once.
    pub slots: u32,
    /// How many releases keep their files.
    pub keep: u32,
    /// From how many earlier releases patches are made.
    pub patches: u32,
    /// The largest tar that patches are made for.
    pub patch_limits: PatchLimits,
    /// Whose ssh configuration and keys are used.
    pub operator: Operator,
    /// Who hears how it goes.
    pub progress: Progress,
    /// Who may end it.
    pub cancel: Cancel,
}

impl std::fmt::Debug for Setup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Setup").field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl Setup {
    /// The surroundings that this configuration and these image settings say.
    pub fn of(config: &Config, settings: &Value, progress: &Progress, cancel: &Cancel) -> Result<Self> {
        let release = &config.release;
        let operator = Operator::current()?;
        let ssh_configuration = match &release.ssh_configuration {
            Some(file) => Files::Only(file.clone()),
            None => Files::Usual,
        };
        let public_url = release.public_url.as_deref().map(str::parse).transpose()?;
        let days = u64::from(release.expires_days);
        let git = repository::open(config, settings, &operator, &ssh_configuration)?;
        Ok(Self {
            state: config.state_dir.clone(),
            journals: Journals::below(&config.state_dir),
            targets: targets::of(release, settings, &ssh_configuration)?,
            git: git.progress(progress.clone()).cancelled_by(cancel.clone()),
            checkout: release.checkout.clone(),
            signing: Signing::of(release).map_err(|error| error.render()),
            public_url,
            public_wait: release.public_wait,
            expires: Duration::from_secs(days * 24 * 60 * 60),
            reserve: release.reserve,
            slots: release.slots,
            keep: release.keep,
            patches: release.patches,
            patch_limits: PatchLimits { tar: release.patch_limit },
            operator,
            progress: progress.clone(),
            cancel: cancel.clone(),
        })
    }

    /// Who signs and judges.
    pub fn signing(&self) -> Result<&Signing> {
        self.signing.as_ref().map_err(|why| {
            Error::new(Kind::Usage, "releases can be neither signed nor judged").caused_by(why.clone()).hint(
                "configure `release.signing_key`, and `release.allowed_signers` or the public half beside the key",
            )
        })
    }

    /// castoff's state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// castoff's folder for releases.
    pub fn folder(&self) -> PathBuf {
        self.state.join("release")
    }
}

/// The text of a setting.
fn setting<'a>(settings: &'a Value, name: &str) -> Result<&'a str> {
    settings
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| Error::new(Kind::Usage, format!("the image setting `{name}` is no text")))
}

/// The refusal to publish where the original's owners do.
fn owners(name: &str, address: &str) -> Error {
    Error::new(
        Kind::Refused,
        format!("the image setting `{name}` is still that of makina-states' owners: `{address}`"),
    )
    .hint(format!(
        "set `makina-states.cloud.images.{name}` to a place of yours; `castoff call settings.explain {name}` says who sets it"
    ))
}

/// A secret in a file that only its owner reads, without the line break at its end.
fn secret(path: &Path) -> Result<crate::vocab::Secret<String>> {
    crate::host::fs::require_private(path)?;
    let bytes = crate::host::fs::read_at_most(path, 64 << 10)?;
    let text =
        String::from_utf8(bytes).map_err(|_| Error::new(Kind::Usage, format!("`{}` is not UTF-8", path.display())))?;
    Ok(crate::vocab::Secret::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}
