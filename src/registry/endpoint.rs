//! Where a registry's content can be had: its mirrors in their order, then the registry itself.

use super::name::{DOCKER_HUB, RegistryName, canonical_host};
use crate::config::Registries;
use crate::error::{Error, Kind, Result};
use crate::http::{Server, Url};

/// The server behind Docker Hub's name.
const DOCKER_HUB_SERVER: &str = "registry-1.docker.io";

/// A server that speaks for a registry.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    /// Where it is; its path stands before `/v2/`.
    pub(super) url: Url,
    /// Under which name credentials for it are kept.
    pub(super) account: String,
    /// It may speak TLS all the same: nobody said anything, and only this machine listens.
    pub(super) unsure: bool,
    /// There are other places that have the same.
    pub(super) is_mirror: bool,
}

impl Endpoint {
    /// The registry of this name itself.
    pub(super) fn own(name: &RegistryName, options: &Registries) -> Result<Self> {
        let host = if name.host() == DOCKER_HUB { DOCKER_HUB_SERVER } else { name.host() };
        let parse = |scheme: &str| {
            Url::parse(&format!("{scheme}://{host}/"))
                .map_err(|why| Error::new(Kind::Usage, format!("`{}` is no registry: {why}", name.host())))
        };
        let told = is_listed(&parse("https")?.server, options);
        let near = parse("https")?.server.is_loopback();
        let url = parse(if told || near { "http" } else { "https" })?;
        Ok(Self { url, account: name.host().to_owned(), unsure: near && !told, is_mirror: false })
    }

    /// The mirrors of a registry, and it itself.
    pub(super) fn all(name: &RegistryName, options: &Registries) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for text in options.mirrors.get(name.host()).into_iter().flatten() {
            let url = Url::parse(text)
                .map_err(|why| Error::new(Kind::Usage, format!("`{text}`, a mirror of `{}`: {why}", name.host())))?;
            found.push(Self { account: account(&url.server), url, unsure: false, is_mirror: true });
        }
        found.push(Self::own(name, options)?);
        Ok(found)
    }

    /// The same server with TLS, at the port the name says.
    pub(super) fn with_tls(&self) -> Self {
        let mut url = self.url.clone();
        url.server.tls = true;
        if url.server.port == 80 && !self.account.ends_with(":80") {
            url.server.port = 443;
        }
        Self { url, account: self.account.clone(), unsure: false, is_mirror: self.is_mirror }
    }

    /// The address of something below `/v2/`.
    pub(super) fn address(&self, path: &str) -> Url {
        let prefix = self.url.path.split('?').next().unwrap_or_default().trim_end_matches('/');
        Url { path: format!("{prefix}/v2/{path}"), ..self.url.clone() }
    }
}

/// Whether plain HTTP with a server is what the operator wants: its host, or its host and port, is listed.
pub(super) fn is_listed(server: &Server, options: &Registries) -> bool {
    let host = crate::http::in_brackets(&server.host).to_ascii_lowercase();
    let with_port = format!("{host}:{}", server.port);
    options.insecure.iter().any(|listed| listed.eq_ignore_ascii_case(&host) || listed.eq_ignore_ascii_case(&with_port))
}

/// The name under which credentials of a server are kept.
fn account(server: &Server) -> String {
    let host = crate::http::in_brackets(&server.host);
    canonical_host(&match (server.tls, server.port) {
        (true, 443) | (false, 80) => host,
        (_, port) => format!("{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(name: &str, options: &Registries) -> Vec<String> {
        Endpoint::all(&name.parse().unwrap(), options)
            .unwrap()
            .iter()
            .map(|found| found.address("x").to_string())
            .collect()
    }

    #[test]
    fn mirrors_come_first_and_plain_http_is_only_for_whom_it_was_said() {
        let mut options = Registries::default();
        assert_eq!(endpoints("debian", &options), ["https://registry-1.docker.io/v2/x"]);
        assert_eq!(endpoints("127.0.0.1:5000/a", &options), ["http://127.0.0.1:5000/v2/x"]);
        assert_eq!(endpoints("a.example:5000/a", &options), ["https://a.example:5000/v2/x"]);
        options.insecure = vec!["a.example:5000".to_owned()];
        options.mirrors.insert("docker.io".to_owned(), vec!["https://m.example/hub/".to_owned()]);
        assert_eq!(endpoints("a.example:5000/a", &options), ["http://a.example:5000/v2/x"]);
        assert_eq!(endpoints("a.example/a", &options), ["https://a.example/v2/x"]);
        assert_eq!(endpoints("debian", &options), ["https://m.example/hub/v2/x", "https://registry-1.docker.io/v2/x"]);
    }
}
