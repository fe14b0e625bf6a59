//! OpenSSH signatures (PROTOCOL.sshsig): who signed, judged by a file of allowed signers.

mod allowed;
mod pattern;
mod revoked;
mod signer;

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

use crate::error::{Error, Kind, Result};

pub use allowed::AllowedSigners;
pub use revoked::Revoked;
pub use signer::{Key, Signer};

/// The namespace of castoff's releases: a signature made for anything else is none here, and the other way round.
pub const NAMESPACE: &str = "castoff-release";

/// More than any signature has: RSA of 16384 bits comes to 6 KiB.
const LIMIT: usize = 64 << 10;

/// Who signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signatory {
    /// The principal the signature was asked to be of.
    pub principal: String,
    /// The key's fingerprint, `SHA256:…`.
    pub fingerprint: String,
    /// The key's algorithm, for example `ssh-ed25519`.
    pub algorithm: String,
}

/// Whose signature is asked for, and who decides.
#[derive(Clone, Debug)]
pub struct Judge<'a> {
    /// The keys that may sign.
    pub allowed: &'a AllowedSigners,
    /// Keys that may not any more, whatever the others say.
    pub revoked: &'a Revoked,
    /// Who has to have signed, a name in the file of allowed signers.
    pub principal: &'a str,
    /// The moment keys have to be valid at, in seconds since 1970.
    pub at: u64,
}

/// Bytes and a signature that fits them, by somebody who may sign: only a [`Judge`] makes one.
#[derive(Clone, Debug)]
pub struct Believed<'a> {
    message: &'a [u8],
    signature: &'a str,
    signatory: Signatory,
}

impl<'a> Believed<'a> {
    /// The signed bytes.
    pub fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The armoured signature.
    pub fn signature(&self) -> &'a str {
        self.signature
    }

    /// Who signed.
    pub fn signatory(&self) -> &Signatory {
        &self.signatory
    }
}

impl Judge<'_> {
    /// The message and its signature, if it was made by somebody who may.
    pub fn believe<'a>(&self, message: &'a [u8], signature: &'a str) -> Result<Believed<'a>> {
        let signatory = self.verify(message, signature.as_bytes())?;
        Ok(Believed { message, signature, signatory })
    }

    /// Who signed the message, if they were allowed to; `signature` is the armoured text of `ssh-keygen -Y sign`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<Signatory> {
        let signature = parse(signature)?;
        let key = PublicKey::new(signature.public_key().clone(), "");
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        if signature.namespace() != NAMESPACE {
            return Err(Error::new(
                Kind::Refused,
                format!("the signature is for `{}`, not for `{NAMESPACE}`", signature.namespace().escape_debug()),
            )
            .hint(format!("sign with `ssh-keygen -Y sign -n {NAMESPACE}`")));
        }
        if self.revoked.contains(key.key_data()) {
            return Err(Error::new(Kind::Refused, format!("the signature is by the revoked key {fingerprint}"))
                .hint("sign again with another key"));
        }
        self.allowed.check(&key, self.principal, self.at)?;
        if !fits(key.key_data(), message, &signature)? {
            return Err(Error::new(
                Kind::Refused,
                format!("the signature by {fingerprint} does not fit the signed bytes"),
            )
            .hint("the bytes or the signature were changed after signing"));
        }
        Ok(Signatory { principal: self.principal.to_owned(), fingerprint, algorithm: key.algorithm().to_string() })
    }
}

fn parse(signature: &[u8]) -> Result<SshSig> {
    if signature.len() > LIMIT {
        return Err(Error::new(Kind::Limit, format!("the signature is larger than {LIMIT} bytes")));
    }
    let wrong = |cause: String| {
        Error::new(Kind::Corrupt, "the signature is damaged")
            .caused_by(cause)
            .hint("it begins with `-----BEGIN SSH SIGNATURE-----`, as `ssh-keygen -Y sign` writes it")
    };
    let parsed = SshSig::from_pem(signature).map_err(|error| wrong(error.to_string()))?;
    let written = parsed.to_pem(ssh_key::LineEnding::LF).map_err(|error| wrong(error.to_string()))?;
    // The parser forgives lengths that do not fit; one signature shall have one form.
    let bare = |text: &[u8]| text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<u8>>();
    if bare(written.as_bytes()) != bare(signature) {
        return Err(wrong("it is not written as it reads".to_owned()));
    }
    Ok(parsed)
}

/// Whether the signature is that of this key over this message.
fn fits(key: &KeyData, message: &[u8], signature: &SshSig) -> Result<bool> {
    match key {
        KeyData::Rsa(key) => fits_rsa(key, message, signature),
        KeyData::Ed25519(_) | KeyData::Ecdsa(_) | KeyData::SkEd25519(_) | KeyData::SkEcdsaSha2NistP256(_) => {
            check_algorithm(&key.algorithm(), signature)?;
            Ok(PublicKey::new(key.clone(), "").verify(NAMESPACE, message, signature).is_ok())
        }
        _ => Err(unsupported(&key.algorithm())),
    }
}

/// An algorithm nobody here can verify is another failure than a wrong signature.
fn check_algorithm(own: &Algorithm, signature: &SshSig) -> Result<()> {
    if let Algorithm::Ecdsa { curve: ssh_key::EcdsaCurve::NistP521 } = own {
        return Err(unsupported(own));
    }
    if signature.algorithm() == *own {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("a key of {own} cannot have made a signature of {}", signature.algorithm())))
}

fn unsupported(algorithm: &Algorithm) -> Error {
    Error::new(Kind::Unsupported, format!("signatures of {algorithm} are not accepted"))
        .hint("use ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, rsa of 2048 bits or more, or a security key")
}

/// RSA by `ring`; the `rsa` crate is under RUSTSEC-2023-0071.
fn fits_rsa(key: &ssh_key::public::RsaPublicKey, message: &[u8], signature: &SshSig) -> Result<bool> {
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents};
    let parameters = match signature.algorithm() {
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) } => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) } => &RSA_PKCS1_2048_8192_SHA512,
        other => {
            return Err(Error::new(Kind::Refused, format!("an RSA key cannot have made a signature of {other} here"))
                .hint("SHA-1 signatures are not accepted"));
        }
    };
    if !signature.reserved().is_empty() {
        return Ok(false);
    }
    let (Some(n), Some(e)) = (key.n.as_positive_bytes(), key.e.as_positive_bytes()) else { return Ok(false) };
    let Ok(signed) = SshSig::signed_data(NAMESPACE, signature.hash_alg(), message) else { return Ok(false) };
    Ok(RsaPublicKeyComponents { n, e }.verify(parameters, &signed, signature.signature_bytes()).is_ok())
}
