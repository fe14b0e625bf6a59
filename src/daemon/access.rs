//! What a caller may do. Pure decisions; the access file's format.
//!
//! ```yaml
//! tokens:                                  # who shows the token at `listen` …
//!   - name: ansible                        # … is called this in the log,
//!     sha256: 9f86d081884c7d659a2f…        # (SHA-256 of the token, hexadecimal)
//!     scopes: ["pillar:web*", "call:mc_cloud_images.settings"]
//!     expires: 2027-01-01T00:00:00Z        # optional
//! clients:                                 # who shows a certificate with this DNS name
//!   - name: controller.example.net
//!     scopes: ["pillar:*"]
//! ```
//!
//! Over the socket the kernel says who asks: root, the daemon's own user and group `castoff-admin` may do everything;
//! group `castoff` and the configured `salt_group` may do what neither changes anything nor reads a path of their choice,
//! since the daemon would read it with rights that they do not have. Scopes are the operator's word and allow just what
//! they name: `call:*` is as good as root.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use subtle::ConstantTimeEq as _;

use super::caller::{Caller, Rank};
use super::scopes::Scopes;
use crate::error::{Error, Kind, Result};
use crate::function::{Accepts, Argument, Function, Given, Request};
use crate::outputter::python;
use crate::vocab::{Digest, MinionId, Reference, Value, parse_timestamp};

/// Everybody who may do something at `listen`.
#[derive(Debug, Default)]
pub(super) struct Access {
    tokens: Vec<Token>,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Token {
    name: String,
    hash: String,
    scopes: Scopes,
    expires: Option<Duration>,
}

#[derive(Debug)]
struct Client {
    name: String,
    scopes: Scopes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccessFile {
    #[serde(default)]
    tokens: Vec<TokenEntry>,
    #[serde(default)]
    clients: Vec<ClientEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    name: String,
    sha256: String,
    scopes: Vec<String>,
    expires: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClientEntry {
    name: String,
    scopes: Vec<String>,
}

impl Access {
    /// The access file's text; `name` is what errors call it.
    pub(super) fn parse(text: &str, name: &str) -> Result<Self> {
        let wrong = |why: String| Error::new(Kind::Usage, format!("access file `{name}`: {why}"));
        let file: AccessFile = serde_yaml::from_str(text)
            .map_err(|error| Error::new(Kind::Usage, format!("access file `{name}`")).caused_by(error))?;
        let mut access = Self::default();
        for entry in file.tokens {
            let wrong = |why: &str| wrong(format!("token `{}`: {why}", entry.name));
            let digest: Digest = format!("sha256:{}", entry.sha256.to_ascii_lowercase())
                .parse()
                .map_err(|_| wrong("`sha256` is not 64 hexadecimal digits"))?;
            let hash = digest.hex();
            let expires = entry.expires.as_deref().map(|text| {
                let seconds = parse_timestamp(text).and_then(|seconds| u64::try_from(seconds).ok());
                seconds
                    .map(Duration::from_secs)
                    .ok_or_else(|| wrong("`expires` is no time such as 2027-01-01T00:00:00Z"))
            });
            let scopes = Scopes::parse(&entry.scopes).map_err(|why| wrong(&why))?;
            if access.tokens.iter().any(|token| token.name == entry.name || token.hash == hash) {
                return Err(wrong("its name or its hash stands twice"));
            }
            access.tokens.push(Token { name: entry.name, hash, scopes, expires: expires.transpose()? });
        }
        for entry in file.clients {
            let scopes =
                Scopes::parse(&entry.scopes).map_err(|why| wrong(format!("client `{}`: {why}", entry.name)))?;
            access.clients.push(Client { name: entry.name.to_ascii_lowercase(), scopes });
        }
        Ok(access)
    }

    /// Whether anybody is known here.
    pub(super) fn knows_anybody(&self) -> bool {
        !self.tokens.is_empty() || !self.clients.is_empty()
    }

    /// The holder of a token at this time (since 1970); every known hash is compared, in constant time.
    pub(super) fn of_token(&self, token: &str, now: Duration) -> Option<Caller> {
        let hash = Digest::of(token.as_bytes()).hex();
        let mut found = None;
        for known in &self.tokens {
            if bool::from(known.hash.as_bytes().ct_eq(hash.as_bytes())) {
                found = Some(known);
            }
        }
        let token = found.filter(|token| token.expires.is_none_or(|expires| now < expires))?;
        Some(Caller::Token { name: token.name.clone(), scopes: token.scopes.clone() })
    }

    /// The holder of a certificate with these DNS names.
    pub(super) fn of_certificate(&self, names: &[String]) -> Option<Caller> {
        let client = self.clients.iter().find(|client| names.contains(&client.name))?;
        Some(Caller::Certificate { name: client.name.clone(), scopes: client.scopes.clone() })
    }
}

/// Whether the caller may do anything at all.
pub(super) fn may_ask(caller: &Caller) -> Result<()> {
    let known = match caller {
        Caller::Anonymous => false,
        Caller::User(user) => user.rank != Rank::Stranger,
        Caller::Token { .. } | Caller::Certificate { .. } => true,
    };
    if known {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("{} may not ask anything here", caller.who())).hint(STRANGER))
}

/// Whether the caller may call the function of this name, whatever its arguments.
pub(super) fn may_call(caller: &Caller, function: &Function) -> Result<()> {
    let refused = |hint: &str| {
        Err(Error::new(Kind::Refused, format!("{} may not call `{}`", caller.who(), function.name)).hint(hint))
    };
    match caller {
        Caller::Anonymous => refused("show a token or a client certificate"),
        Caller::Token { scopes, .. } | Caller::Certificate { scopes, .. } => {
            if scopes.may_call(function.name) {
                Ok(())
            } else {
                refused("its scopes do not name this function: see `access_file`")
            }
        }
        Caller::User(user) => match user.rank {
            Rank::Admin => Ok(()),
            Rank::Member if !function.changes => Ok(()),
            Rank::Member => refused("it changes something: root and members of group `castoff-admin` may call it"),
            Rank::Stranger => refused(STRANGER),
        },
    }
}

/// Whether the caller may give these arguments: members may not make the daemon read a path of their choice, and
/// nobody a relative one, which would be relative to the daemon's working directory.
pub(super) fn may_give(caller: &Caller, function: &Function, request: &Request) -> Result<()> {
    let member = matches!(caller, Caller::User(user) if user.rank != Rank::Admin);
    let refused = |what: &str| {
        Err(Error::new(Kind::Refused, format!("{} may not have the daemon read {what}", caller.who())).hint(
            "root and members of group `castoff-admin` may; without the daemon, `castoff call` has your own rights",
        ))
    };
    for (argument, given) in given(function, request) {
        let Some(path) = host_path(argument, given) else { continue };
        if !Path::new(&path).is_absolute() {
            let place = format!("{}: `{}` is a relative path", function.name, argument.name);
            return Err(Error::new(Kind::Usage, format!("{place}, and the daemon stands elsewhere"))
                .hint("give the absolute path"));
        }
        if member {
            return refused(&format!("`{path}`"));
        }
    }
    // What is not declared may be anything, a path or what becomes one.
    let free = member && function.takes_more && !matches!(function.module(), "test" | "sys");
    if free
        && let Some(name) = undeclared(function, request).find_map(|(name, value)| is_pathlike(value).then_some(name))
    {
        return refused(&format!("what `{name}` names"));
    }
    Ok(())
}

/// The keyword arguments that a function takes without declaring them.
fn undeclared<'a>(function: &'a Function, request: &'a Request) -> impl Iterator<Item = (&'a str, &'a Value)> {
    request
        .named
        .iter()
        .filter(|(name, _)| function.arguments.iter().all(|argument| argument.name != name.as_str()))
        .map(|(name, given)| (name.as_str(), &given.value))
}

/// Whether a path may be in the value, or come out of it when placeholders are filled in.
fn is_pathlike(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => false,
        Value::String(text) => text.contains(['/', '{']) || text.contains(".."),
        Value::List(items) => items.iter().any(is_pathlike),
        Value::Map(members) => members.values().any(is_pathlike),
    }
}

pub(super) const STRANGER: &str =
    "members of group `castoff` may call what changes nothing, members of `castoff-admin` everything";

/// Whether the caller may have the pillar of this minion.
pub(super) fn may_have_pillar(caller: &Caller, minion: &MinionId) -> Result<()> {
    let allowed = match caller {
        Caller::Anonymous => false,
        Caller::Token { scopes, .. } | Caller::Certificate { scopes, .. } => scopes.may_have_pillar(minion),
        Caller::User(user) => user.rank != Rank::Stranger,
    };
    if allowed {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("{} may not have the pillar of `{minion}`", caller.who())).hint(
        match caller {
            Caller::User(_) => STRANGER,
            _ => "its scopes do not name this minion: see `access_file`",
        },
    ))
}

/// Whether the caller may do what belongs to the daemon itself and is called `name` in scopes.
pub(super) fn may_administer(caller: &Caller, name: &str) -> Result<()> {
    let allowed = match caller {
        Caller::Anonymous => false,
        Caller::Token { scopes, .. } | Caller::Certificate { scopes, .. } => scopes.may_call(name),
        Caller::User(user) => user.rank == Rank::Admin,
    };
    if allowed {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("{} may not do this", caller.who()))
        .hint(format!("root, members of group `castoff-admin`, and tokens with scope `call:{name}` may")))
}

/// The declared arguments that a request gives.
fn given<'a>(function: &'a Function, request: &'a Request) -> impl Iterator<Item = (&'a Argument, &'a Given)> {
    let positional = function.arguments.iter().zip(&request.positional);
    let named = function
        .arguments
        .iter()
        .filter_map(|argument| request.named.get(argument.name).map(|given| (argument, given)));
    positional.chain(named)
}

/// The path of this host that an argument names, if it names one.
fn host_path(argument: &Argument, given: &Given) -> Option<String> {
    let text = match &given.value {
        Value::Null | Value::List(_) | Value::Map(_) => return None,
        Value::String(text) => text.clone(),
        // What looks like a number may be a file's name all the same.
        scalar => given.typed.clone().unwrap_or_else(|| python::text(scalar)),
    };
    let of_reference = || match text.parse::<Reference>() {
        Ok(
            Reference::Dir(path)
            | Reference::Tar(path)
            | Reference::DockerArchive { file: path, .. }
            | Reference::Oci { directory: path, .. }
            | Reference::OciArchive { file: path, .. },
        ) => Some(path.to_string_lossy().into_owned()),
        Ok(Reference::Default(_) | Reference::DockerDaemon(_) | Reference::Store(_) | Reference::Registry(_))
        | Err(_) => None,
    };
    let may_be_path = || text.starts_with(['/', '.']) || text.parse::<Reference>().is_err();
    match argument.accepts {
        Accepts::Path => Some(text),
        Accepts::Tree if may_be_path() => Some(text),
        Accepts::Reference | Accepts::Tree => of_reference(),
        Accepts::Any | Accepts::Text | Accepts::Bool | Accepts::Int | Accepts::List | Accepts::Items | Accepts::Map => {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::caller::User;
    use crate::function::find;

    fn user(rank: Rank) -> Caller {
        Caller::User(User { uid: 1000, name: None, rank })
    }

    fn allowed(caller: &Caller, name: &str, words: &[&str]) -> bool {
        let function = find(name).unwrap();
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let request = Request::from_words(&words, &[]);
        may_call(caller, function).and_then(|()| may_give(caller, function, &request)).is_ok()
    }

    /// Members look, and never at a path of their choice; admins do all but give relative paths.
    #[test]
    fn ranks_decide_by_function_and_argument() {
        for (name, words, member, admin) in [
            ("test.ping", &[][..], true, true),
            ("test.arg", &["/etc/shadow"], true, true),
            ("image.list", &[], true, true),
            ("image.inspect", &["store:a/b:1"], true, true),
            ("image.inspect", &["a/b:1"], true, true),
            ("image.inspect", &["dir:/etc"], false, true),
            ("image.inspect", &["tar:/etc/shadow"], false, true),
            ("image.inspect", &["image=oci:/x:1"], false, true),
            ("image.inspect", &["dir:etc"], false, false),
            ("image.verify", &["a:1", "b:1", "tmpdir=/root"], false, true),
            ("image.verify", &["a:1", "b:1", "tmpdir=17"], false, false),
            ("image.remove", &["store:a/b:1"], false, true),
            ("image.pack", &["store:a/b:1", "test=True"], false, true),
            ("mc_cloud_images.docker_from_tar", &["a/b:1", "/x.tar"], false, true),
            ("mc_cloud_images.docker_from_tar", &["a/b:1", "./x.tar"], false, false),
            ("mc_cloud_images.docker_from_tar", &["a/b:1", "tar:x.tar"], false, false),
        ] {
            assert_eq!(allowed(&user(Rank::Member), name, words), member, "member {name} {words:?}");
            assert_eq!(allowed(&user(Rank::Admin), name, words), admin, "admin {name} {words:?}");
            assert!(!allowed(&user(Rank::Stranger), name, words), "stranger {name} {words:?}");
            assert!(!allowed(&Caller::Anonymous, name, words), "anonymous {name} {words:?}");
        }
    }

    /// SHA-256 of `secret` and `other` by `sha256sum`.
    const FILE: &str = "
tokens:
  - name: ci
    sha256: 2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b
    scopes: ['pillar:web-*', 'call:image.*', 'call:test.p?ng']
    expires: 2027-01-01T00:00:00Z
clients:
  - name: Controller.example.net
    scopes: ['pillar:*']
";

    #[test]
    fn tokens_are_found_by_hash_until_they_expire_and_scopes_say_what_they_may() {
        let access = Access::parse(FILE, "test").unwrap();
        let before = Duration::from_secs(1_798_761_599);
        let token = access.of_token("secret", before).unwrap();
        assert_eq!(token.who(), "token ci");
        assert!(access.of_token("secret", before + Duration::from_secs(1)).is_none());
        assert!(access.of_token("Secret", before).is_none());
        assert!(access.of_token("", before).is_none());
        assert!(allowed(&token, "image.remove", &["store:a/b:1"]));
        assert!(allowed(&token, "test.ping", &[]));
        assert!(!allowed(&token, "test.arg", &[]));
        assert!(may_have_pillar(&token, &"web-1".parse().unwrap()).is_ok());
        assert!(may_have_pillar(&token, &"db-1".parse().unwrap()).is_err());
        assert!(may_administer(&token, "daemon.log_level").is_err());
        let client = access.of_certificate(&["controller.example.net".to_owned()]).unwrap();
        assert!(may_have_pillar(&client, &"db-1".parse().unwrap()).is_ok());
        assert!(!allowed(&client, "test.ping", &[]));
        assert!(access.of_certificate(&["example.net".to_owned()]).is_none());
    }

    #[test]
    fn an_access_file_with_a_mistake_is_refused_whole() {
        for (from, to) in [
            ("scopes: ['pillar:*']", "scopes: ['pillar']"),
            ("scopes: ['pillar:*']", "scopes: ['sudo:*']"),
            ("sha256: 2b", "sha256: xb"),
            ("sha256: 2b", "sha256: "),
            ("2027-01-01T00:00:00Z", "2027-02-30T00:00:00Z"),
            ("2027-01-01T00:00:00Z", "tomorrow"),
            ("expires:", "expire:"),
        ] {
            assert!(FILE.contains(from));
            let error = Access::parse(&FILE.replace(from, to), "test").unwrap_err().render();
            assert!(error.contains("access file `test`") && !error.contains("2bb80d53"), "{to}: {error}");
        }
    }
}
