//! Who signs manifests, and whose signatures are believed.

use std::path::{Path, PathBuf};

use super::secret;
use crate::config::Release;
use crate::error::{Error, Kind, Result};
use crate::host::{clock, fs};
use crate::progress::Cancel;
use crate::release::story::Signed;
use crate::sign::minisign;
use crate::sign::ssh::{AllowedSigners, Believed, Judge, Key, Revoked, Signatory, Signer};
use crate::vocab::Secret;

/// More than any file of allowed signers has.
const LIMIT: u64 = 1 << 20;

/// A signer and a judge.
#[derive(Debug)]
pub struct Signing {
    signer: Option<Signer>,
    allowed: AllowedSigners,
    principal: String,
    minisign: Option<(PathBuf, Option<Secret<String>>)>,
}

impl Signing {
    /// What is configured.
    pub(super) fn of(release: &Release) -> Result<Self> {
        let allowed = match (&release.allowed_signers, &release.signing_key) {
            (Some(file), _) => read(file)?,
            (None, Some(key)) => own(key, release)?,
            (None, None) => return Err(Error::new(Kind::Usage, "no `release.signing_key` is configured")),
        };
        let minisign = match &release.minisign_key {
            Some(key) => Some((key.clone(), release.minisign_password_file.as_deref().map(secret).transpose()?)),
            None => None,
        };
        Ok(Self { signer: signer(release)?, allowed, principal: release.principal.clone(), minisign })
    }

    /// Signs the bytes of a manifest; `comment` is signed with them in the second form.
    pub(in crate::release) fn sign(&self, manifest: String, comment: &str, cancel: &Cancel) -> Result<Signed> {
        let signer = self.signer.as_ref().ok_or_else(|| {
            Error::new(Kind::Usage, "no `release.signing_key` is configured")
                .hint("make one with `ssh-keygen -t ed25519 -f FILE`, and tell its path")
        })?;
        let signature = signer.sign(manifest.as_bytes(), cancel)?;
        let minisignature = match &self.minisign {
            Some((key, password)) => {
                let signer = minisign::Signer { key, password: password.clone() };
                Some(signer.sign(manifest.as_bytes(), comment)?)
            }
            None => None,
        };
        Ok(Signed { manifest, signature, minisignature })
    }

    /// Who signed these bytes, if they may.
    pub fn judge(&self, manifest: &[u8], signature: &[u8]) -> Result<Signatory> {
        self.judged_by(|judge| judge.verify(manifest, signature))
    }

    /// These bytes and their signature, if who made it may.
    pub(in crate::release) fn believe<'a>(&self, manifest: &'a [u8], signature: &'a str) -> Result<Believed<'a>> {
        self.judged_by(|judge| judge.believe(manifest, signature))
    }

    fn judged_by<T>(&self, work: impl FnOnce(&Judge<'_>) -> Result<T>) -> Result<T> {
        let revoked = Revoked::default();
        let at = clock::now().as_secs();
        work(&Judge { allowed: &self.allowed, revoked: &revoked, principal: &self.principal, at })
    }

    /// What the second signature of these bytes says, by the configured key; none without one.
    pub fn judge_second(&self, manifest: &[u8], signature: &str) -> Result<Option<String>> {
        let Some((key, password)) = &self.minisign else { return Ok(None) };
        let public = minisign::Signer { key, password: password.clone() }.public()?;
        minisign::verify(manifest, signature, &[public]).map(Some)
    }
}

fn signer(release: &Release) -> Result<Option<Signer>> {
    let Some(key) = &release.signing_key else { return Ok(None) };
    if release.signing_agent {
        return Ok(Some(Signer::new(Key::Agent { public_key: key.clone(), socket: None })));
    }
    Ok(Some(Signer::new(match &release.signing_passphrase_file {
        Some(file) => Key::LockedFile(key.clone(), secret(file)?),
        None => Key::File(key.clone()),
    })))
}

fn read(file: &Path) -> Result<AllowedSigners> {
    let text = String::from_utf8(fs::read_at_most(file, LIMIT)?)
        .map_err(|error| Error::new(Kind::Usage, format!("`{}` is not UTF-8", file.display())).caused_by(error))?;
    AllowedSigners::parse(&text, &file.display().to_string())
}

/// The signing key alone, by its public half.
fn own(key: &Path, release: &Release) -> Result<AllowedSigners> {
    let public = if release.signing_agent {
        key.to_owned()
    } else {
        let mut name = key.as_os_str().to_owned();
        name.push(".pub");
        PathBuf::from(name)
    };
    if !fs::exists(&public)? {
        return Err(Error::new(Kind::NotFound, format!("there is no public key `{}`", public.display()))
            .hint("write it with `ssh-keygen -y`, or configure `release.allowed_signers`"));
    }
    let text = String::from_utf8(fs::read_at_most(&public, LIMIT)?)
        .map_err(|error| Error::new(Kind::Usage, format!("`{}` is not UTF-8", public.display())).caused_by(error))?;
    let line = text.lines().next().unwrap_or_default();
    AllowedSigners::parse(&format!("{} {line}\n", release.principal), &public.display().to_string())
}
