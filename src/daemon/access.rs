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
use crate::error::{Error, Kind, Result};
use crate::function::{Accepts, Argument, Function, Request};
use crate::vocab::{Digest, MinionId, Reference, Value, fnmatch, parse_timestamp};

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

/// What a token or certificate allows: patterns of minion ids and of function names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Scopes {
    pillar: Vec<String>,
    call: Vec<String>,
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
                parse_timestamp(text).ok_or_else(|| wrong("`expires` is no time such as 2027-01-01T00:00:00Z"))
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

impl Scopes {
    fn parse(words: &[String]) -> std::result::Result<Self, String> {
        let mut scopes = Self::default();
        for word in words {
            match word.split_once(':') {
                Some(("pillar", glob)) if !glob.is_empty() => scopes.pillar.push(glob.to_owned()),
                Some(("call", glob)) if !glob.is_empty() => scopes.call.push(glob.to_owned()),
                _ => return Err(format!("`{word}` is no scope; scopes are `pillar:PATTERN` and `call:PATTERN`")),
            }
        }
        Ok(scopes)
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
            if scopes.call.iter().any(|glob| fnmatch(glob, function.name)) {
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
    for (argument, value) in given(function, request) {
        let Some(path) = host_path(argument, value) else { continue };
        if !Path::new(&path).is_absolute() {
            return Err(Error::new(
                Kind::Usage,
                format!("{}: `{}` is a relative path, and the daemon stands elsewhere", function.name, argument.name),
            )
            .hint("give the absolute path"));
        }
        if member {
            return Err(Error::new(
                Kind::Refused,
                format!("{} may not have the daemon read or write `{path}`", caller.who()),
            )
            .hint("root and members of group `castoff-admin` may; without the daemon, `castoff call` works with your own rights"));
        }
    }
    Ok(())
}

pub(super) const STRANGER: &str =
    "members of group `castoff` may call what changes nothing, members of `castoff-admin` everything";

/// Whether the caller may have the pillar of this minion.
pub(super) fn may_have_pillar(caller: &Caller, minion: &MinionId) -> Result<()> {
    let allowed = match caller {
        Caller::Anonymous => false,
        Caller::Token { scopes, .. } | Caller::Certificate { scopes, .. } => {
            scopes.pillar.iter().any(|glob| fnmatch(glob, minion.as_str()))
        }
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
        Caller::Token { scopes, .. } | Caller::Certificate { scopes, .. } => {
            scopes.call.iter().any(|glob| fnmatch(glob, name))
        }
        Caller::User(user) => user.rank == Rank::Admin,
    };
    if allowed {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("{} may not do this", caller.who()))
        .hint(format!("root, members of group `castoff-admin`, and tokens with scope `call:{name}` may")))
}

/// The declared arguments that a request gives, with their values.
pub(super) fn given<'a>(
    function: &'a Function,
    request: &'a Request,
) -> impl Iterator<Item = (&'a Argument, &'a Value)> {
    let positional = function.arguments.iter().zip(request.positional.iter().map(|given| &given.value));
    let named = function
        .arguments
        .iter()
        .filter_map(|argument| request.named.get(argument.name).map(|given| (argument, &given.value)));
    positional.chain(named)
}

/// The path of this host that an argument names, if it names one.
fn host_path(argument: &Argument, value: &Value) -> Option<String> {
    let text = value.as_str()?;
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
    match argument.accepts {
        Accepts::Path => Some(text.to_owned()),
        Accepts::Tree if text.contains('/') || text.starts_with('.') => match text.parse::<Reference>() {
            Ok(Reference::Default(_)) | Err(_) => Some(text.to_owned()),
            Ok(_) => of_reference(),
        },
        Accepts::Reference | Accepts::Tree => of_reference(),
        Accepts::Any | Accepts::Text | Accepts::Bool | Accepts::Int | Accepts::List | Accepts::Items | Accepts::Map => {
            None
        }
    }
}
