//! Whom to trust and who we are: certificate authorities, and the password or token in its file.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use base64::Engine as _;
use hyper::header::HeaderValue;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::vocab::Secret;

/// What a configuration says about a server besides its address.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The user, if there is one.
    pub user: Option<String>,
    /// A file with the user's password, or with a bearer token if there is no user.
    pub secret_file: Option<PathBuf>,
    /// A file with the certificate authorities to trust instead of the machine's.
    pub authorities: Option<PathBuf>,
}

/// TLS as the target says: its own authorities, else the machine's.
pub(super) fn configuration(login: &Login) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let wrong = |error: &dyn std::fmt::Display| {
        Error::new(Kind::Usage, "the certificate authorities cannot be read").caused_by(error.to_string())
    };
    if let Some(path) = &login.authorities {
        for certificate in CertificateDer::pem_slice_iter(&fs::read(path)?) {
            let certificate = certificate.map_err(|error| wrong(&error))?;
            roots.add(certificate).map_err(|error| wrong(&error))?;
        }
    } else {
        let found = rustls_native_certs::load_native_certs();
        // A machine's bundle may hold certificates too old or too odd for rustls; the others are good.
        let (_, unusable) = roots.add_parsable_certificates(found.certs);
        tracing::debug!(unusable, errors = found.errors.len(), "certificate authorities read");
    }
    if roots.is_empty() {
        return Err(
            Error::new(Kind::Unsupported, "no certificate authorities are known").hint("install `ca-certificates`")
        );
    }
    Ok(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

/// The header that says who we are, if the target says it.
pub(super) fn authorization(login: &Login) -> Result<Option<Secret<HeaderValue>>> {
    let Some(path) = &login.secret_file else {
        return match &login.user {
            None => Ok(None),
            Some(user) => Err(Error::new(Kind::Usage, format!("there is no file with the password of `{user}`"))),
        };
    };
    let mode = fs::metadata(path)?.map_or(0, |metadata| metadata.mode());
    if mode & 0o007 != 0 {
        return Err(Error::new(
            Kind::Refused,
            format!("everybody may read or write the password file `{}`", path.display()),
        )
        .hint(format!("`chmod o= {}`; if others have read it, change the password", path.display())));
    }
    let text = Secret::new(fs::read_text(path)?);
    let secret = text.reveal().trim_end_matches(['\r', '\n']);
    let header = match &login.user {
        Some(user) => {
            let pair = format!("{user}:{secret}");
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
        }
        None => format!("Bearer {secret}"),
    };
    let mut header = HeaderValue::from_str(&header)
        .map_err(|_| Error::new(Kind::Usage, format!("`{}` is not one line of text", path.display())))?;
    header.set_sensitive(true);
    Ok(Some(Secret::new(header)))
}
