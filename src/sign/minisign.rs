//! minisign signatures: made and verified as the program of that name does (Ed25519 over BLAKE2b-512).

use std::io::Cursor;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::host;
use crate::vocab::Secret;

/// More than any key or signature has.
const LIMIT: u64 = 64 << 10;

/// A public key that signatures are accepted from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(minisign::PublicKey);

impl PublicKey {
    /// The key in the text of a public key file, or the base64 alone (`RW…`).
    pub fn parse(text: &str) -> Result<Self> {
        let trimmed = text.trim();
        let key = if trimmed.contains('\n') {
            minisign::PublicKeyBox::from_string(trimmed).and_then(minisign::PublicKeyBox::into_public_key)
        } else {
            minisign::PublicKey::from_base64(trimmed)
        };
        key.map(Self).map_err(|error| {
            Error::new(Kind::Usage, "this is not a public key of minisign")
                .caused_by(error.to_string())
                .hint("it is the file that `minisign -G -p FILE` writes, or the line in it that begins with `RW`")
        })
    }
}

/// The keys in a file: public key files one behind the other, or the lines in them that begin with `RW`.
pub fn keys(text: &str) -> Result<Vec<PublicKey>> {
    let is_key = |line: &&str| !line.is_empty() && !line.starts_with("untrusted comment:") && !line.starts_with('#');
    let keys: Vec<PublicKey> =
        text.lines().map(str::trim).filter(is_key).map(PublicKey::parse).collect::<Result<_>>()?;
    if keys.is_empty() {
        return Err(Error::new(Kind::Usage, "there is no public key of minisign in it")
            .hint("it is the file that `minisign -G -p FILE` writes"));
    }
    Ok(keys)
}

/// Whether the text has the form of a signature: the library panics on a second signature that is cut off.
fn is_whole(signature: &str) -> bool {
    use base64::Engine as _;
    let size = |line: &str| base64::engine::general_purpose::STANDARD.decode(line).map(|bytes| bytes.len());
    let lines: Vec<&str> = signature.lines().collect();
    // Two bytes of algorithm, eight of key id and 64 of signature; then the 64 over signature and trusted comment.
    matches!(lines.as_slice(), [untrusted, first, trusted, second]
        if untrusted.starts_with("untrusted comment: ")
            && size(first) == Ok(74)
            && trusted.starts_with("trusted comment: ")
            && size(second) == Ok(64))
}

/// Verifies a signature with whichever of the keys made it; its trusted comment.
pub fn verify(message: &[u8], signature: &str, keys: &[PublicKey]) -> Result<String> {
    let damaged = |error: minisign::PError| {
        Error::new(Kind::Corrupt, "the minisign signature is damaged").caused_by(error.to_string())
    };
    if signature.len() as u64 > LIMIT {
        return Err(Error::new(Kind::Limit, format!("the minisign signature is larger than {LIMIT} bytes")));
    }
    if !is_whole(signature) {
        return Err(Error::new(Kind::Corrupt, "the minisign signature is damaged")
            .hint("it has four lines, as `minisign -S` writes them"));
    }
    let parsed = minisign::SignatureBox::from_string(signature).map_err(damaged)?;
    let Some(PublicKey(key)) = keys.iter().find(|key| key.0.keynum() == parsed.keynum()) else {
        return Err(Error::new(Kind::Refused, "the minisign signature is by a key that is not accepted")
            .hint("add the publisher's public key, if you trust it"));
    };
    // The legacy form signs the message itself; the program that makes it has been gone since 2021.
    let allow_legacy = false;
    minisign::verify(key, &parsed, Cursor::new(message), true, false, allow_legacy).map_err(|error| {
        Error::new(Kind::Refused, "the minisign signature does not fit the signed bytes").caused_by(error.to_string())
    })?;
    parsed.trusted_comment().map_err(damaged)
}

/// The secret key in a key file without a password.
///
/// The library's own reader wants a checksum that minisign 0.11 leaves out of such keys (`minisign -G -W`).
fn bare(text: &str) -> Option<minisign::SecretKey> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.lines().nth(1)?.trim()).ok()?;
    let secret = minisign::SecretKey::from_bytes(&bytes).ok()?;
    (!secret.is_encrypted()).then_some(secret)
}

/// A secret key file and its password.
#[derive(Clone, Debug)]
pub struct Signer<'a> {
    /// The file that `minisign -G -s FILE` wrote.
    pub key: &'a Path,
    /// Its password; none for a key without one.
    pub password: Option<Secret<String>>,
}

impl Signer<'_> {
    /// The signature file of these bytes; the trusted comment is signed with them.
    pub fn sign(&self, message: &[u8], trusted_comment: &str) -> Result<String> {
        if trusted_comment.contains(char::is_control) {
            return Err(Error::new(Kind::Usage, "a trusted comment of minisign is one line of plain text"));
        }
        let secret = self.secret()?;
        let public = minisign::PublicKey::from_secret_key(&secret).map_err(|error| self.wrong(&error))?;
        let untrusted = Some("signature from castoff");
        // With the public half the library verifies what it signed.
        minisign::sign(Some(&public), &secret, Cursor::new(message), Some(trusted_comment), untrusted)
            .map(minisign::SignatureBox::into_string)
            .map_err(|error| self.wrong(&error))
    }

    /// The public half.
    pub fn public(&self) -> Result<PublicKey> {
        let public = minisign::PublicKey::from_secret_key(&self.secret()?);
        public.map(PublicKey).map_err(|error| self.wrong(&error))
    }

    fn wrong(&self, error: &minisign::PError) -> Error {
        Error::new(Kind::Refused, format!("cannot sign with the minisign key `{}`", self.key.display()))
            .caused_by(error.to_string())
            .hint("is it a secret key of minisign, and its password right?")
    }

    fn secret(&self) -> Result<minisign::SecretKey> {
        host::fs::require_unread(self.key)?;
        let bytes = host::fs::read_at_most(self.key, LIMIT)?;
        let text = Secret::new(String::from_utf8(bytes).map_err(|_| {
            Error::new(Kind::Usage, format!("`{}` is not a secret key of minisign", self.key.display()))
        })?);
        match &self.password {
            // Without a password the library would ask for one on the terminal.
            Some(password) => minisign::SecretKeyBox::from_string(text.reveal())
                .and_then(|parsed| parsed.into_secret_key(Some(password.reveal().clone())))
                .map_err(|error| self.wrong(&error)),
            None => bare(text.reveal()).ok_or_else(|| {
                Error::new(
                    Kind::Refused,
                    format!("`{}` is no secret key of minisign without a password", self.key.display()),
                )
            }),
        }
    }
}
