//! Who the user is at a registry: auth files of docker, podman and skopeo, and the programs those name.
//!
//! The first file that knows the registry counts: the configured one alone; else `$REGISTRY_AUTH_FILE` alone; else
//! `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`, and `config.json` in `$DOCKER_CONFIG` or
//! `~/.docker`. Secrets go from a file or a program's standard output into [`Secret`] and from there into a header.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use serde::Deserialize;

use super::name::{DOCKER_HUB, canonical_host};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::exchange::{Answer, Bounds, exchange};
use crate::host::{environment, fs, process};
use crate::oci;
use crate::progress::{Cancel, Progress};
use crate::vocab::Secret;

/// What docker calls its hub when it talks to credential programs.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// An auth file is small.
const LARGEST_FILE: u64 = 1 << 20;
/// A credential program may have to ask its user.
const PATIENCE: Duration = Duration::from_mins(2);
const LONGEST_ANSWER: u64 = 64 << 10;
/// The user name by which credential programs mark a token instead of a password.
const TOKEN_USER: &str = "<token>";

/// Who we are at a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: Secret<String>,
    },
    /// A token that is exchanged for the ones that registries take.
    Identity(Secret<String>),
    /// A token that the registry takes.
    Token(Secret<String>),
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct File {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// What the user's files say about a repository of a registry; none where nobody logged in.
pub(super) fn find(
    account: &str,
    repository: &str,
    configured: Option<&Path>,
    (progress, cancel): (&Progress, &Cancel),
) -> Result<Option<Credentials>> {
    for (path, must_exist) in files(configured) {
        if !must_exist && !fs::exists(&path)? {
            continue;
        }
        let file = read(&path)?;
        // Other programs read it all the same, so this does not stand in the way.
        if let Err(error) = fs::require_private(&path) {
            progress.warn(format!("{error}: `chmod 0600 {}`", path.display()));
        }
        if let Some(found) = file.find(account, repository, cancel).context(|| in_file(&path))? {
            tracing::debug!(registry = account, file = %path.display(), "credentials found");
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn in_file(path: &Path) -> String {
    format!("cannot take credentials from `{}`", path.display())
}

/// The auth files to look at, and whether each has to be there.
fn files(configured: Option<&Path>) -> Vec<(PathBuf, bool)> {
    if let Some(path) = configured {
        return vec![(path.to_owned(), true)];
    }
    if let Some(path) = environment::raw("REGISTRY_AUTH_FILE") {
        return vec![(path.into(), true)];
    }
    let below = |variable: &str, rest: &str| environment::raw(variable).map(|folder| PathBuf::from(folder).join(rest));
    let docker = below("DOCKER_CONFIG", "config.json").or_else(|| below("HOME", ".docker/config.json"));
    let own =
        below("XDG_CONFIG_HOME", "containers/auth.json").or_else(|| below("HOME", ".config/containers/auth.json"));
    let runtime = below("XDG_RUNTIME_DIR", "containers/auth.json");
    [runtime, own, docker].into_iter().flatten().map(|path| (path, false)).collect()
}

/// The error holds no text of the file: it may be part of a secret.
fn read(path: &Path) -> Result<File> {
    let bytes = Secret::new(fs::read_at_most(path, LARGEST_FILE)?);
    oci::parse::<serde_json::Value>("it", bytes.reveal())
        .ok()
        .and_then(|value| serde_json::from_value(value).ok())
        .ok_or_else(|| {
            Error::new(Kind::Usage, format!("`{}` is no auth file", path.display()))
                .hint("it is JSON with `auths`, `credHelpers` or `credsStore` in it, as `docker login` writes it")
        })
}

impl File {
    fn find(&self, account: &str, repository: &str, cancel: &Cancel) -> Result<Option<Credentials>> {
        let helper = self.cred_helpers.iter().find(|(key, _)| normal(key) == account);
        if let Some((_, program)) = helper {
            return ask(program, account, cancel);
        }
        for place in places(account, repository) {
            let entry = self.auths.iter().find(|(key, entry)| normal(key) == place && !entry.is_empty());
            if let Some((_, entry)) = entry {
                return entry.credentials().map(Some);
            }
        }
        match &self.creds_store {
            Some(program) if !program.is_empty() => ask(program, account, cancel),
            _ => Ok(None),
        }
    }
}

/// A key of an auth file as it is compared: `https://index.docker.io/v1/` is `docker.io`.
fn normal(key: &str) -> String {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    let key = key.trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    match key.split_once('/') {
        Some((host, rest)) => format!("{}/{rest}", canonical_host(host)),
        None => canonical_host(key),
    }
}

/// The repository, what it is in, and the registry: containers-auth.json(5) takes the most exact one.
fn places(account: &str, repository: &str) -> Vec<String> {
    let mut place = format!("{account}/{repository}");
    let mut places = Vec::new();
    while place.len() > account.len() {
        places.push(place.clone());
        place.truncate(place.rfind('/').unwrap_or(0));
    }
    places.push(account.to_owned());
    places
}

impl Entry {
    fn is_empty(&self) -> bool {
        let all = [&self.auth, &self.username, &self.password, &self.identitytoken, &self.registrytoken];
        all.iter().all(|field| field.as_deref().unwrap_or_default().is_empty())
    }

    fn credentials(&self) -> Result<Credentials> {
        let said = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if let Some(token) = said(&self.identitytoken) {
            return Ok(Credentials::Identity(Secret::new(token)));
        }
        if let Some(token) = said(&self.registrytoken) {
            return Ok(Credentials::Token(Secret::new(token)));
        }
        if let Some(pair) = said(&self.auth) {
            let odd = || Error::new(Kind::Usage, "an `auth` in it is not `user:password` in base64");
            let bytes = base64::engine::general_purpose::STANDARD.decode(pair.trim()).map_err(|_| odd())?;
            let text = String::from_utf8(bytes).map_err(|_| odd())?;
            let (user, password) = text.split_once(':').ok_or_else(odd)?;
            let password = password.trim_end_matches('\0').to_owned();
            return Ok(Credentials::Password { user: user.to_owned(), password: Secret::new(password) });
        }
        match (said(&self.username), said(&self.password)) {
            (Some(user), Some(password)) => Ok(Credentials::Password { user, password: Secret::new(password) }),
            _ => Err(Error::new(Kind::Usage, "an entry in it has a user or a password only")),
        }
    }
}

/// What `docker-credential-NAME get` says.
fn ask(name: &str, account: &str, cancel: &Cancel) -> Result<Option<Credentials>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Said {
        username: String,
        secret: String,
    }
    let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_name {
        return Err(Error::new(Kind::Usage, format!("`{}` names no credential program", name.escape_debug())));
    }
    let program = format!("docker-credential-{name}");
    let path = process::find(&program).ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("there is no program `{program}`"))
            .hint("install it, or take it out of `credHelpers` and `credsStore`")
    })?;
    let server = if account == DOCKER_HUB { DOCKER_HUB_KEY } else { account };
    let stop = || cancel.check().is_err();
    let bounds = Bounds { deadline: PATIENCE, stop: &stop, answer: LONGEST_ANSWER };
    let mut command = process::command(path);
    let Answer { status, output } =
        exchange(command.arg("get"), format!("{server}\n").as_bytes(), &bounds, &mut |_| {})?;
    let output = Secret::new(output);
    if !status.success() {
        // Its words come on standard output; there is nothing secret in a refusal, but nothing to rely on either.
        let words = String::from_utf8_lossy(output.reveal()).to_ascii_lowercase();
        if words.contains("not found") {
            return Ok(None);
        }
        return Err(Error::new(
            Kind::Refused,
            format!("`{program}` does not give the credentials of `{account}`: {status}"),
        )
        .hint(format!("`echo {server} | {program} get` shows why")));
    }
    let said: Said = serde_json::from_slice(output.reveal())
        .map_err(|_| Error::new(Kind::Corrupt, format!("`{program}` did not answer as a credential program does")))?;
    let secret = Secret::new(said.secret);
    Ok(match said.username.as_str() {
        "" if secret.reveal().is_empty() => None,
        TOKEN_USER => Some(Credentials::Identity(secret)),
        _ => Some(Credentials::Password { user: said.username, password: secret }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str, account: &str, repository: &str) -> Result<Option<Credentials>> {
        let file: File = serde_json::from_str(json).unwrap();
        file.find(account, repository, &Cancel::new())
    }

    fn user(found: Option<Credentials>) -> Option<String> {
        match found? {
            Credentials::Password { user, .. } => Some(user),
            Credentials::Identity(_) => Some("identity".to_owned()),
            Credentials::Token(_) => Some("token".to_owned()),
        }
    }

    #[test]
    fn the_most_exact_entry_counts_and_an_empty_one_does_not() {
        // `printf hub:canary | base64` and so on.
        let json = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOmNhbmFyeQ=="},
            "a.example": {"auth": "aG9zdDpjYW5hcnk="},
            "a.example/group/name": {"username": "exact", "password": "canary"},
            "b.example": {},
            "c.example:5000": {"identitytoken": "canary"}}}"#;
        for (account, repository, expected) in [
            ("docker.io", "library/debian", Some("hub")),
            ("a.example", "group/other", Some("host")),
            ("a.example", "group/name", Some("exact")),
            ("a.example", "group/name/below", Some("exact")),
            ("b.example", "x", None),
            ("c.example:5000", "x", Some("identity")),
            ("c.example", "x", None),
        ] {
            assert_eq!(user(of(json, account, repository).unwrap()).as_deref(), expected, "{account}/{repository}");
        }
    }

    #[test]
    fn a_broken_entry_and_a_foreign_program_are_errors_without_a_secret() {
        for json in [
            r#"{"auths": {"a.example": {"auth": "canary"}}}"#,
            r#"{"auths": {"a.example": {"password": "canary"}}}"#,
            r#"{"credHelpers": {"a.example": "../canary"}}"#,
            r#"{"credsStore": "x/y"}"#,
        ] {
            let error = of(json, "a.example", "x").unwrap_err().render();
            assert!(!error.contains("`canary") && !error.contains("canary:"), "{error}");
        }
    }
}
