//! The connection: one engine, one private runtime, a time limit on short questions only.

use std::future::Future;
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, Docker as Bollard};

use super::address::Address;
use super::failure::engine_error;
use super::types::EngineVersion;
use crate::error::{Context as _, Error, Kind, Result};

/// How long an engine may take to say who it is.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Transfers and containers take as long as they take. bollard wants a number of seconds: ten years.
const NO_LIMIT: u64 = 10 * 365 * 24 * 3600;

/// A Docker engine that answered.
pub struct Docker {
    pub(super) client: Bollard,
    pub(super) address: Address,
    version: EngineVersion,
    runtime: tokio::runtime::Runtime,
}

impl std::fmt::Debug for Docker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Docker({})", self.address)
    }
}

impl Docker {
    /// Connects to the engine at `docker_host` (the words of `DOCKER_HOST`; empty: the default socket) and agrees on
    /// an API version with it.
    pub fn connect(docker_host: &str) -> Result<Self> {
        let address: Address = docker_host.parse()?;
        refuse_tls(&address)?;
        let doing = || format!("cannot reach the Docker engine at `{address}`");
        let client = match &address {
            Address::Unix(path) => {
                let path =
                    path.to_str().ok_or_else(|| Error::new(Kind::Usage, doing()).caused_by("it is not UTF-8"))?;
                Bollard::connect_with_unix(path, NO_LIMIT, API_DEFAULT_VERSION)
            }
            Address::Tcp(host) => Bollard::connect_with_http(host, NO_LIMIT, API_DEFAULT_VERSION),
        }
        .map_err(|cause| unreachable_engine(&engine_error(cause, doing()), &address))?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context(|| "cannot start the runtime of the Docker client")?;
        let answer = within(&runtime, CONNECT_LIMIT, client.version())
            .unwrap_or(Err(bollard::errors::Error::RequestTimeoutError))
            .map_err(|cause| unreachable_engine(&engine_error(cause, doing()), &address))?;
        let minimum = answer.min_api_version.as_deref().and_then(parse_version);
        if minimum
            .is_some_and(|minimum| minimum > (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version))
        {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "the Docker engine at `{address}` wants API {} or newer; castoff speaks up to {API_DEFAULT_VERSION}",
                    answer.min_api_version.unwrap_or_default()
                ),
            )
            .hint("use a newer castoff, or set DOCKER_MIN_API_VERSION for the engine"));
        }
        let client = within(&runtime, CONNECT_LIMIT, client.negotiate_version())
            .unwrap_or(Err(bollard::errors::Error::RequestTimeoutError))
            .map_err(|cause| engine_error(cause, format!("cannot agree on an API version with `{address}`")))?;
        let client = versioned(client);
        let version = EngineVersion {
            engine: answer.version.unwrap_or_default(),
            api: client.client_version().to_string(),
            os: answer.os.unwrap_or_default(),
            architecture: answer.arch.unwrap_or_default(),
        };
        Ok(Self { client, address, version, runtime })
    }

    /// Which engine this is.
    pub fn version(&self) -> &EngineVersion {
        &self.version
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether it listens on a Unix socket. Its files may still be elsewhere: [`super::Container::root`] makes sure.
    pub fn is_local(&self) -> bool {
        matches!(self.address, Address::Unix(_))
    }

    /// Asks whether it still answers.
    pub fn ping(&self) -> Result<()> {
        within(&self.runtime, CONNECT_LIMIT, self.client.ping())
            .unwrap_or(Err(bollard::errors::Error::RequestTimeoutError))
            .map_err(|cause| engine_error(cause, format!("the Docker engine at `{}` does not answer", self.address)))?;
        Ok(())
    }

    /// Waits for one request, however long it takes.
    pub(super) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Waits for one request and says what was being done when it fails.
    pub(super) fn ask<T>(
        &self,
        future: impl Future<Output = Result<T, bollard::errors::Error>>,
        doing: impl FnOnce() -> String,
    ) -> Result<T> {
        self.wait(future).map_err(|cause| engine_error(cause, doing()))
    }
}

fn within<T>(runtime: &tokio::runtime::Runtime, limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    runtime.block_on(async { tokio::time::timeout(limit, future).await.ok() })
}

/// The client with the agreed version in every path: bollard 0.21 loses it when it joins the path to the address, and
/// an engine answers a path without one in its newest version, whatever was agreed.
fn versioned(client: Bollard) -> Bollard {
    let version = client.client_version();
    client.with_request_modifier(move |mut request| {
        let text = request.uri().to_string();
        let start = text.find("://").map_or(0, |at| at + 3);
        let path = text[start..].find('/').map_or(text.len(), |at| start + at);
        if !text[path..].starts_with("/v1.") {
            // The same address with letters, digits and dots put in: it parses as the one before did.
            if let Ok(uri) = format!("{}/v{version}{}", &text[..path], &text[path..]).parse() {
                *request.uri_mut() = uri;
            }
        }
        request
    })
}

fn unreachable_engine(error: &Error, address: &Address) -> Error {
    let hint = match address {
        Address::Unix(path) => format!(
            "start it (`systemctl start docker`), make sure this user may open `{}`, or point DOCKER_HOST elsewhere; \
             castoff's own store needs no engine (`store:NAME`)",
            path.display()
        ),
        Address::Tcp(host) => format!("make sure that an engine listens on `{host}`, or point DOCKER_HOST elsewhere"),
    };
    // Whatever kept it from answering, except a missing permission, may be over at the next try.
    let kind = if error.kind() == Kind::Refused { Kind::Refused } else { Kind::Unavailable };
    let message = error.message().to_owned();
    match std::error::Error::source(error) {
        Some(cause) => Error::new(kind, message).caused_by(cause.to_string()).hint(hint),
        None => Error::new(kind, message).hint(hint),
    }
}

/// Docker's own clients speak TLS over `tcp://` when `DOCKER_TLS_VERIFY` is set; talking in the clear instead would
/// be a silent substitution.
fn refuse_tls(address: &Address) -> Result<()> {
    let Address::Tcp(host) = address else { return Ok(()) };
    if crate::host::environment::raw("DOCKER_TLS_VERIFY").is_none() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Unsupported,
        format!("DOCKER_TLS_VERIFY is set, but castoff does not speak TLS to the Docker engine at `{host}`"),
    )
    .hint("forward the engine's socket through ssh and set DOCKER_HOST=unix:///PATH"))
}

fn parse_version(text: &str) -> Option<(usize, usize)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(parse_version("1.9") < parse_version("1.12"));
        assert_eq!(parse_version("x"), None);
    }
}
