//! The way to a host: every hop with its address, user, keys and trusted host keys, worked out before anything connects.

use std::path::PathBuf;
use std::str::FromStr;

use super::config::{Configuration, HostSettings, usual_known_hosts};
use super::host_keys::{HostKeys, Pin, Trusted};
use crate::error::{Error, Kind, Result};
use crate::host::{environment, fs};

/// The longest way: longer ones are configurations that point at each other.
const MOST_HOPS: usize = 8;

/// Whose configuration and keys are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The local user name, which is also the remote one unless something says otherwise.
    pub user: String,
    /// The home folder, where `.ssh` is.
    pub home: PathBuf,
    /// The socket of the ssh agent, if there is one.
    pub agent: Option<PathBuf>,
}

impl Operator {
    /// The user this process runs as, from the user database, as ssh does it.
    pub fn current() -> Result<Self> {
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid)
            .map_err(|error| Error::new(Kind::Failed, "cannot look up this process's user").caused_by(error))?
            .ok_or_else(|| Error::new(Kind::NotFound, format!("user {uid} is not in the user database")))?;
        Ok(Self { user: user.name, home: user.dir, agent: agent()? })
    }
}

/// A host as it is written between `@` and `:`: `[USER@]HOST[:PORT]`, IPv6 addresses in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The name that the ssh configuration is asked for.
    pub host: String,
    /// The user, if it is given.
    pub user: Option<String>,
    /// The port, if it is given.
    pub port: Option<u16>,
}

impl FromStr for Jump {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::new(Kind::Usage, format!("`{text}` is not a host to connect to: {why}"));
        let bare = text.strip_prefix("ssh://").unwrap_or(text);
        let (user, address) = match bare.rsplit_once('@') {
            Some((user, address)) => (Some(user.to_owned()), address),
            None => (None, bare),
        };
        let (host, port) = if let Some(rest) = address.strip_prefix('[') {
            let (host, rest) = rest.split_once(']').ok_or_else(|| wrong("a bracket is not closed"))?;
            let port = match rest {
                "" => None,
                rest => Some(rest.strip_prefix(':').ok_or_else(|| wrong("there is text behind the bracket"))?),
            };
            (host, port)
        } else if address.matches(':').count() > 1 {
            return Err(wrong("an IPv6 address stands in brackets"));
        } else {
            match address.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (address, None),
            }
        };
        let port = match port {
            None => None,
            Some(digits) => {
                Some(digits.parse().ok().filter(|port| *port != 0).ok_or_else(|| wrong("the port is not 1 to 65535"))?)
            }
        };
        // The rules of ssh against names that other programs would take for options or shell text, and stricter.
        let is_name = |name: &str, more: &str| {
            !name.is_empty()
                && !name.starts_with('-')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
        };
        if !is_name(host, "._-:%") {
            return Err(wrong("the name has characters that no host name has"));
        }
        if user.as_deref().is_some_and(|user| !is_name(user, "._-+@,")) {
            return Err(wrong("the user has characters that no user name has"));
        }
        Ok(Self { host: host.to_owned(), user, port })
    }
}

/// What the target itself says, before any ssh configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Key files; if any, these alone are offered.
    pub identity_files: Vec<PathBuf>,
    /// known_hosts files; if any, these alone are read, for the jump hosts too.
    pub known_hosts: Vec<PathBuf>,
    /// Pinned host keys of the target; if any, these alone are trusted for it.
    pub pins: Vec<Pin>,
}

/// One host on the way.
#[derive(Clone, Debug)]
pub struct Hop {
    /// The name or address to connect to.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The remote user.
    pub user: String,
    /// Key files, in the order they are tried; one that ssh looks for by itself may be absent.
    pub identity_files: Vec<PathBuf>,
    /// Whether an absent key file is an error: somebody named it.
    pub identities_named: bool,
    /// The agent's socket, if there is one.
    pub agent: Option<PathBuf>,
    /// Whether of the agent's keys only those in `identity_files` are offered.
    pub identities_only: bool,
    /// The host keys that are trusted.
    pub trusted: Trusted,
}

impl Hop {
    /// `USER@HOST:PORT`, for messages.
    pub fn place(&self) -> String {
        format!("{}@{}:{}", self.user, self.host, self.port)
    }
}

/// The way to a host: jump hosts in their order, then the host itself.
#[derive(Clone, Debug)]
pub struct Route {
    /// Never empty.
    pub hops: Vec<Hop>,
}

impl Route {
    /// Works out the way to a target; connects to nothing.
    pub fn plan(configuration: &Configuration, target: &Jump, wishes: &Wishes) -> Result<Self> {
        let mut route = Self { hops: Vec::new() };
        route.add(configuration, target, wishes, None, 0)?;
        Ok(route)
    }

    /// The last hop: the target itself.
    pub fn target(&self) -> Option<&Hop> {
        self.hops.last()
    }

    fn add(
        &mut self,
        configuration: &Configuration,
        host: &Jump,
        wishes: &Wishes,
        before: Option<&[Jump]>,
        depth: usize,
    ) -> Result<()> {
        let settings = configuration.of(&host.host, host.user.as_deref(), host.port)?;
        // As ssh does it: all jumps of a list are given, only the first one asks its own configuration for the way.
        let jumps = before.unwrap_or(&settings.jumps);
        if depth == MOST_HOPS || jumps.len() > MOST_HOPS {
            return Err(Error::new(Kind::Usage, format!("the way to `{}` has more than {MOST_HOPS} jumps", host.host))
                .hint("does a `ProxyJump` of the ssh configuration lead back to where it began?"));
        }
        if let Some((last, before)) = jumps.split_last() {
            let own = Wishes { pins: Vec::new(), identity_files: Vec::new(), ..wishes.clone() };
            let before = (!before.is_empty()).then_some(before);
            self.add(configuration, last, &own, before, depth + 1)?;
        }
        self.hops.push(hop(configuration.operator(), settings, wishes)?);
        Ok(())
    }
}

fn hop(operator: &Operator, settings: HostSettings, wishes: &Wishes) -> Result<Hop> {
    let port = settings.port.unwrap_or(22);
    let host = settings.host_name;
    let files = match (&wishes.known_hosts, settings.known_hosts) {
        (files, _) if !files.is_empty() => files.clone(),
        (_, Some(files)) => files,
        (_, None) => usual_known_hosts(operator).concat(),
    };
    let trusted = if wishes.pins.is_empty() {
        HostKeys::read(&files)?.of(&host, port)
    } else {
        Trusted::pinned(&host, port, wishes.pins.clone())
    };
    let named = !wishes.identity_files.is_empty() || !settings.identity_files.is_empty();
    let identity_files = if !wishes.identity_files.is_empty() {
        wishes.identity_files.clone()
    } else if named {
        settings.identity_files
    } else {
        ["id_ed25519", "id_ecdsa", "id_rsa"].map(|name| operator.home.join(".ssh").join(name)).into()
    };
    Ok(Hop {
        user: settings.user.unwrap_or_else(|| operator.user.clone()),
        identities_only: settings.identities_only || !wishes.identity_files.is_empty(),
        agent: operator.agent.clone(),
        identities_named: named,
        identity_files,
        trusted,
        host,
        port,
    })
}

fn agent() -> Result<Option<PathBuf>> {
    let Some(path) = environment::raw("SSH_AUTH_SOCK").map(PathBuf::from) else { return Ok(None) };
    Ok(fs::exists(&path)?.then_some(path))
}
