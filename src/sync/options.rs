//! The configuration as a run needs it: everything parsed before anything is asked of anybody.

use std::path::PathBuf;

use super::Surroundings;
use super::followed::Followed;
use super::place::Source;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::http::{Server, Url};
use crate::manifest::Address;
use crate::remote::{Access, Credential, Remote};
use crate::sign::minisign::{self, PublicKey};
use crate::sign::ssh::{AllowedSigners, Revoked};
use crate::ssh::{Files, Wishes};
use crate::vocab::nearest;

/// What a run works with.
pub(super) struct Options<'a> {
    pub(super) surroundings: Surroundings<'a>,
    pub(super) source: Source,
    pub(super) followed: Vec<Followed>,
    /// Whose ssh signatures are believed; none: they are not asked for.
    pub(super) allowed: Option<AllowedSigners>,
    /// Whose minisign signatures are believed; none: they are not asked for.
    pub(super) minisign: Vec<PublicKey>,
    pub(super) revoked: Revoked,
    pub(super) mirror: Option<Address>,
    pub(super) remote: Remote,
}

impl<'a> Options<'a> {
    /// The options that the configuration gives, or what it lacks.
    pub(super) fn new(surroundings: &Surroundings<'a>) -> Result<Self> {
        let sync = &surroundings.config.sync;
        let missing = |key: &str, what: &str| {
            Error::new(Kind::Usage, format!("`{key}` is not configured: {what}"))
                .hint("put it into castoff.yaml, see `castoff config`")
        };
        let source = sync.source.as_deref().ok_or_else(|| missing("sync.source", "where manifests are read"))?;
        let source = Source::parse(source, &sync.branch)?;
        let parse = |file: &PathBuf| AllowedSigners::parse(&host::fs::read_text(file)?, &file.display().to_string());
        let allowed = sync.allowed_signers.as_ref().map(parse).transpose()?;
        let minisign = match &sync.minisign_keys {
            Some(file) => minisign::keys(&host::fs::read_text(file)?).context(|| format!("`{}`", file.display()))?,
            None => Vec::new(),
        };
        if allowed.is_none() && minisign.is_empty() {
            return Err(missing("sync.allowed_signers", "who may sign"));
        }
        let revoked = match &sync.revoked_keys {
            Some(path) => Revoked::parse(&host::fs::read(path)?, &path.display().to_string())?,
            None => Revoked::default(),
        };
        let followed = followed(surroundings)?;
        if followed.is_empty() {
            return Err(missing("sync.images", "what this host follows"));
        }
        let mirror = sync.mirror.as_deref().map(str::parse).transpose()?;
        let remote =
            Remote::new(access(surroundings, &source, mirror.as_ref()), surroundings.progress, surroundings.cancel);
        Ok(Self { surroundings: surroundings.clone(), source, followed, allowed, minisign, revoked, mirror, remote })
    }

    /// What these words name, all that is followed for none: `IMAGE/FLAVOUR`, or `IMAGE` in every flavour.
    pub(super) fn select(&self, words: &[String]) -> Result<Vec<Followed>> {
        select(&self.followed, words)
    }
}

/// What the configuration follows, without doubles.
pub(super) fn followed(surroundings: &Surroundings<'_>) -> Result<Vec<Followed>> {
    let mut followed = Vec::new();
    for word in surroundings.config.sync.images.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let next: Followed = word.parse()?;
        if !followed.contains(&next) {
            followed.push(next);
        }
    }
    Ok(followed)
}

/// What these words name among what is followed; all of it for none.
pub(super) fn select(followed: &[Followed], words: &[String]) -> Result<Vec<Followed>> {
    let mut selected: Vec<Followed> = Vec::new();
    for word in words {
        let matching = followed.iter().filter(|known| known.to_string() == *word || known.image.as_str() == word);
        let before = selected.len();
        selected.extend(matching.filter(|known| !selected.contains(known)).cloned().collect::<Vec<_>>());
        if selected.len() == before && !selected.iter().any(|known| known.to_string() == *word) {
            let names: Vec<String> = followed.iter().map(ToString::to_string).collect();
            let near = nearest(word, names.iter().map(String::as_str));
            let error = Error::new(Kind::NotFound, format!("`{}` is not followed by this host", word.escape_debug()));
            return Err(match near.first() {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("`sync.images` says what is"),
            });
        }
    }
    Ok(if words.is_empty() { followed.to_vec() } else { selected })
}

/// How the far sides are reached; the secret is for the servers of the configuration, whatever a manifest names.
fn access(surroundings: &Surroundings<'_>, source: &Source, mirror: Option<&Address>) -> Access {
    let sync = &surroundings.config.sync;
    let mirror = mirror.map(|mirror| mirror.to_string().replace("{name}", "x"));
    let own = [source.base(), mirror.as_deref()].into_iter().flatten().filter_map(|text| Url::parse(text).ok());
    let credential = |url: Url, secret_file: &PathBuf| {
        let server: Server = url.server;
        Credential { server, user: url.user, secret_file: secret_file.clone() }
    };
    Access {
        wishes: wishes(surroundings),
        ssh_configuration: Files::Usual,
        credentials: own.filter_map(|url| sync.secret_file.as_ref().map(|file| credential(url, file))).collect(),
        authorities: sync.authorities.clone(),
    }
}

/// What SFTP and git servers are shown, and whom of them is trusted.
pub(super) fn wishes(surroundings: &Surroundings<'_>) -> Wishes {
    let sync = &surroundings.config.sync;
    Wishes {
        identity_files: sync.identity_file.iter().cloned().collect(),
        known_hosts: sync.known_hosts.iter().cloned().collect(),
        pins: Vec::new(),
    }
}
