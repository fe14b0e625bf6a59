//! Where a Docker engine listens: the words of `DOCKER_HOST`. Pure.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Kind};

/// The socket of an engine on this host that nobody has configured otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// The port of an engine that listens in the clear.
const PLAIN_PORT: u16 = 2375;

/// An address castoff can talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A Unix socket.
    Unix(PathBuf),
    /// Plain HTTP over TCP: `HOST:PORT`.
    Tcp(String),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(formatter, "unix://{}", path.display()),
            Self::Tcp(host) => write!(formatter, "tcp://{host}"),
        }
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Self::Unix(DEFAULT_SOCKET.into()));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        match scheme {
            "unix" if rest.starts_with('/') => Ok(Self::Unix(rest.into())),
            "tcp" | "http" => tcp(rest).ok_or_else(|| not_an_address(text)),
            "https" | "ssh" => Err(Error::new(
                Kind::Unsupported,
                format!("the Docker engine at `{text}` is not reachable: castoff does not speak {scheme} to engines"),
            )
            .hint(format!(
                "forward its socket (`ssh -N -L /run/engine.sock:{DEFAULT_SOCKET} HOST`) and set \
                 DOCKER_HOST=unix:///run/engine.sock"
            ))),
            _ => Err(not_an_address(text)),
        }
    }
}

fn not_an_address(text: &str) -> Error {
    Error::new(Kind::Usage, format!("`{text}` is not the address of a Docker engine"))
        .hint("addresses look like `unix:///var/run/docker.sock` or `tcp://HOST:2375`")
}

fn tcp(rest: &str) -> Option<Address> {
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if rest.is_empty() || !rest.bytes().all(is_plain) {
        return None;
    }
    match rest.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let valid = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0);
            valid.then(|| Address::Tcp(rest.to_owned()))
        }
        _ => Some(Address::Tcp(format!("{rest}:{PLAIN_PORT}"))),
    }
}
