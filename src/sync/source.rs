//! Where signed manifests are read: a branch of a git repository, or a folder behind any address.

use std::collections::BTreeMap;

use super::Surroundings;
use super::followed::Followed;
use super::options::{Options, wishes};
use super::place::Source;
use crate::error::{Context as _, Error, Kind, Result};
use crate::manifest::{MANIFEST_LIMIT, Paths};
use crate::publish::git::{Git, GitAddress};
use crate::ssh::{Configuration, Files, Jump, Operator, Route};

/// More than any signature has.
const SIGNATURE_LIMIT: u64 = 64 << 10;

/// A manifest and its signature, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signed {
    pub(super) manifest: Vec<u8>,
    /// By ssh-keygen, where it is asked for.
    pub(super) signature: Option<Vec<u8>>,
    /// By minisign, where it is asked for.
    pub(super) minisignature: Option<Vec<u8>>,
}

/// The manifests of one run; a repository is fetched once.
pub(super) struct Manifests {
    tip: Option<BTreeMap<String, Option<Vec<u8>>>>,
}

impl Manifests {
    /// Fetches the repository, if the source is one.
    pub(super) fn open(options: &Options<'_>, images: &[Followed]) -> Result<Self> {
        let Source::Git(address, branch) = &options.source else { return Ok(Self { tip: None }) };
        let surroundings = &options.surroundings;
        let mut git = Git::new(address.clone(), branch.clone(), &surroundings.config.state_dir)
            .progress(surroundings.progress.clone())
            .cancelled_by(surroundings.cancel.clone());
        if let Some(route) = route(address, surroundings)? {
            git = git.along(&route)?;
        }
        let paths: Vec<Paths> = images.iter().map(|known| Paths::new(&known.image, &known.flavour)).collect();
        let paths: Vec<&str> =
            paths.iter().flat_map(|paths| [&*paths.manifest, &*paths.signature, &*paths.minisignature]).collect();
        let tip = git.read(&paths).context(|| format!("cannot read manifests from `{address}`"))?;
        Ok(Self { tip: Some(tip.files) })
    }

    /// The manifest of an image as it is now, and its signature.
    pub(super) fn read(&self, options: &Options<'_>, followed: &Followed, moved: &mut u64) -> Result<Signed> {
        let paths = Paths::new(&followed.image, &followed.flavour);
        let mut get = |path: &str, limit: u64| {
            let bytes = match (&self.tip, &options.source) {
                (Some(tip), _) => tip.get(path).cloned().flatten(),
                (None, Source::Folder(base)) => {
                    options.remote.read(&format!("{base}/{path}").parse()?, limit, moved)?
                }
                (None, Source::Git(..)) => None,
            };
            bytes.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("there is no `{path}`"))
                    .hint("was it released with a manifest, and are image and flavour spelled right?")
            })
        };
        let manifest = get(&paths.manifest, MANIFEST_LIMIT)?;
        let signature = options.allowed.is_some().then(|| get(&paths.signature, SIGNATURE_LIMIT)).transpose()?;
        let is_asked = !options.minisign.is_empty();
        let minisignature = is_asked.then(|| get(&paths.minisignature, SIGNATURE_LIMIT)).transpose()?;
        Ok(Signed { manifest, signature, minisignature })
    }

    /// Whether reading once more can give something else.
    pub(super) fn may_change(&self) -> bool {
        self.tip.is_none()
    }
}

/// The way to a repository, as the operator's ssh configuration has it; none for one on this machine.
fn route(address: &GitAddress, surroundings: &Surroundings<'_>) -> Result<Option<Route>> {
    let GitAddress::Ssh { user, host, port, .. } = address else { return Ok(None) };
    let configuration = Configuration::read(&Operator::current()?, &Files::Usual)?;
    // The usual port is nobody's wish.
    let port = (*port != 22).then_some(*port);
    let target = Jump { host: host.clone(), user: Some(user.clone()), port };
    Route::plan(&configuration, &target, &wishes(surroundings)).map(Some)
}
