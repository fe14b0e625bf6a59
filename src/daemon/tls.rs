//! TLS at `listen`: the daemon's certificate, and the names in those of its clients.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

use crate::config::Daemon;
use crate::error::{Error, Kind, Result};
use crate::host;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A file of certificates is no larger.
const MOST_BYTES: u64 = 4 << 20;

/// The acceptor that the configuration asks for; none without `tls_cert`.
pub(super) fn acceptor(config: &Daemon) -> Result<Option<TlsAcceptor>> {
    let (certificate, key) = match (&config.tls_cert, &config.tls_key) {
        (Some(certificate), Some(key)) => (certificate, key),
        (None, None) if config.tls_client_ca.is_none() => return Ok(None),
        _ => {
            return Err(Error::new(Kind::Usage, "TLS is configured in part")
                .hint("`tls_cert` and `tls_key` belong together, `tls_client_ca` needs both"));
        }
    };
    let wrong = |what: &'static str| move |error| Error::new(Kind::Usage, what).caused_by(error);
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(wrong("cannot set TLS up"))?;
    let builder = match &config.tls_client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for root in certificates(path)? {
                roots.add(root).map_err(wrong("`tls_client_ca` holds what is no authority"))?;
            }
            // A client without a certificate may still show a token.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| Error::new(Kind::Usage, "cannot use `tls_client_ca`").caused_by(error))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder
        .with_single_cert(certificates(certificate)?, private_key(key)?)
        .map_err(wrong("`tls_cert` and `tls_key` do not fit each other"))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(server))))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let wrong = |why: String| Error::new(Kind::Usage, format!("`{}` {why}", path.display()));
    let bytes = host::fs::read_at_most(path, MOST_BYTES)?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| wrong(format!("is not PEM: {error}")))?;
    if found.is_empty() { Err(wrong("holds no certificate".to_owned())) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    host::fs::require_private(path)?;
    let bytes = host::fs::read_at_most(path, MOST_BYTES)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        // The cause is a word about the format, never the key.
        Error::new(Kind::Usage, format!("`{}` holds no private key", path.display())).caused_by(error)
    })
}

/// The handshake, and the DNS names of the certificate that the client proved to hold.
pub(super) async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> std::io::Result<(TlsStream<TcpStream>, Vec<String>)> {
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    let (_, session) = stream.get_ref();
    let names = session.peer_certificates().and_then(<[_]>::first).map(names).transpose()?.unwrap_or_default();
    Ok((stream, names))
}

/// The DNS names of a certificate that was verified before, in lower case.
fn names(certificate: &CertificateDer<'_>) -> std::io::Result<Vec<String>> {
    let parsed = webpki::EndEntityCert::try_from(certificate).map_err(std::io::Error::other)?;
    Ok(parsed.valid_dns_names().map(str::to_ascii_lowercase).collect())
}
