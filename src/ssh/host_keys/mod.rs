//! Which host keys are trusted: known_hosts files and pins, one store for SFTP and git.
//!
//! Nothing is ever learnt on the fly. A host without a trusted key is refused before a connection is made, a key that
//! is not trusted before anything secret is sent. Only key types that are trusted are asked for: a server with several
//! keys would else show one that nobody has pinned.

mod known_hosts;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, STANDARD_NO_PAD as BASE64_BARE};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::host::fs;
use known_hosts::{Known, Mark};

/// A public host key as it travels: its type and the SSH wire form that holds it.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    kind: String,
    blob: Vec<u8>,
}

/// The SHA-256 of a host key, as `ssh-keygen -l` prints it: `SHA256:` and base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fingerprint([u8; 32]);

/// What a configuration pins a host to: `SHA256:…`, `TYPE SHA256:…` or a key line `TYPE BASE64`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    kind: Option<String>,
    fingerprint: Fingerprint,
}

impl HostKey {
    /// The key in this wire form; none if it names no type.
    pub fn from_wire(blob: &[u8]) -> Option<Self> {
        let length = u32::from_be_bytes(*blob.first_chunk()?) as usize;
        let kind = std::str::from_utf8(blob.get(4..4 + length)?).ok()?;
        Some(Self { kind: kind.to_owned(), blob: blob.to_owned() })
    }

    /// Its wire form.
    pub fn wire(&self) -> &[u8] {
        &self.blob
    }

    pub(super) fn from_base64(kind: &str, blob: &str) -> Result<Self, &'static str> {
        let blob = BASE64.decode(blob).map_err(|_| "the key is not base64")?;
        let key = Self::from_wire(&blob).ok_or("the key is cut off")?;
        if key.kind == kind { Ok(key) } else { Err("the key is of another type than the line says") }
    }

    /// Its type, `ssh-ed25519` for one.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Its fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        use sha2::Digest as _;
        Fingerprint(sha2::Sha256::digest(&self.blob).into())
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, self.fingerprint())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SHA256:{}", BASE64_BARE.encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Fingerprint {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.strip_prefix("SHA256:")
            .and_then(|base64| BASE64_BARE.decode(base64.trim_end_matches('=')).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| {
                Error::new(Kind::Usage, format!("`{text}` is not the fingerprint of a key"))
                    .hint("a fingerprint is `SHA256:` and 43 characters, as `ssh-keygen -lf FILE` prints it")
            })
    }
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        match words.as_slice() {
            [fingerprint] => Ok(Self { kind: None, fingerprint: fingerprint.parse()? }),
            [kind, fingerprint] if fingerprint.starts_with("SHA256:") => {
                Ok(Self { kind: Some((*kind).to_owned()), fingerprint: fingerprint.parse()? })
            }
            [kind, key, ..] => {
                let key = HostKey::from_base64(kind, key)
                    .map_err(|what| Error::new(Kind::Usage, format!("a pinned host key cannot be read: {what}")))?;
                Ok(Self { fingerprint: key.fingerprint(), kind: Some(key.kind) })
            }
            [] => Err(Error::new(Kind::Usage, "a pinned host key is empty")),
        }
    }
}

/// The trusted keys of many hosts.
#[derive(Clone, Debug, Default)]
pub struct HostKeys {
    known: Vec<Known>,
    files: Vec<PathBuf>,
}

impl HostKeys {
    /// Reads known_hosts files; one that is not there holds no keys.
    pub fn read(files: &[PathBuf]) -> Result<Self> {
        let mut known = Vec::new();
        for file in files {
            if fs::metadata(file)?.is_some() {
                known.extend(Self::read_one(file)?);
            }
        }
        Ok(Self { known, files: files.to_vec() })
    }

    fn read_one(file: &Path) -> Result<Vec<Known>> {
        let text = fs::read_text(file)?;
        known_hosts::parse(&text)
            .map_err(|(line, what)| Error::new(Kind::Usage, format!("`{}` line {line}: {what}", file.display())))
    }

    /// What is trusted for this host.
    pub fn of(&self, host: &str, port: u16) -> Trusted {
        let about = |mark| self.known.iter().filter(move |known| known.mark == mark && known.is_about(host, port));
        Trusted {
            host: host.to_owned(),
            port,
            pins: about(Mark::Plain)
                .map(|known| Pin { kind: Some(known.key.kind.clone()), fingerprint: known.key.fingerprint() })
                .collect(),
            revoked: about(Mark::Revoked).map(|known| known.key.fingerprint()).collect(),
            only_authority: about(Mark::Authority).next().is_some(),
            source: self.files.iter().map(|file| format!("`{}`", file.display())).collect::<Vec<_>>().join(", "),
        }
    }
}

/// The keys trusted for one host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trusted {
    host: String,
    port: u16,
    pins: Vec<Pin>,
    revoked: Vec<Fingerprint>,
    only_authority: bool,
    source: String,
}

impl Trusted {
    /// Exactly these pins, whatever files say.
    pub fn pinned(host: &str, port: u16, pins: Vec<Pin>) -> Self {
        Self {
            host: host.to_owned(),
            port,
            pins,
            revoked: Vec::new(),
            only_authority: false,
            source: "the configuration".to_owned(),
        }
    }

    /// The signature algorithms to ask the server for, best first, so that it shows a key of a trusted type; none if
    /// a pin does not say its type. An error if no key is trusted: then there is no reason to connect.
    pub fn algorithms(&self) -> Result<Option<Vec<&'static str>>> {
        if self.pins.is_empty() {
            return Err(self.unknown());
        }
        if self.pins.iter().any(|pin| pin.kind.is_none()) {
            return Ok(None);
        }
        let wanted: Vec<&'static str> = ALGORITHMS
            .iter()
            .filter(|(kind, _)| self.pins.iter().any(|pin| pin.kind.as_deref() == Some(*kind)))
            .flat_map(|(_, algorithms)| algorithms.iter().copied())
            .collect();
        if wanted.is_empty() {
            let kinds: Vec<_> = self.pins.iter().filter_map(|pin| pin.kind.as_deref()).collect();
            return Err(Error::new(
                Kind::Unsupported,
                format!("castoff cannot check the host keys of `{}`, which are {}", self.place(), kinds.join(", ")),
            )
            .hint("trust its ed25519, ecdsa or rsa key"));
        }
        Ok(Some(wanted))
    }

    /// Judges the key, in wire form, that the server has proved to hold.
    pub fn check(&self, wire: &[u8]) -> Result<Fingerprint> {
        let Some(key) = HostKey::from_wire(wire) else {
            return Err(Error::new(Kind::Refused, format!("the host key of `{}` cannot be read", self.place())));
        };
        let shown = key.fingerprint();
        if self.revoked.contains(&shown) {
            return Err(Error::new(
                Kind::Refused,
                format!("the host key of `{}` is revoked: {} {shown}", self.place(), key.kind),
            )
            .hint(format!("it is marked `@revoked` in {}; the host needs a new key", self.source)));
        }
        if self.pins.is_empty() {
            return Err(self.unknown());
        }
        if self.pins.iter().any(|pin| pin.fingerprint == shown) {
            return Ok(shown);
        }
        let trusted: Vec<String> = self.pins.iter().map(|pin| pin.fingerprint.to_string()).collect();
        Err(Error::new(
            Kind::Refused,
            format!(
                "the host key of `{}` is not the trusted one: it showed {} {shown}, trusted is {}; nothing was sent",
                self.place(),
                key.kind,
                trusted.join(" or ")
            ),
        )
        .hint(format!(
            "somebody may be in between; only if its administrator confirms the new key, replace the old one in {}",
            self.source
        )))
    }

    fn place(&self) -> String {
        if self.port == 22 { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    fn unknown(&self) -> Error {
        let why = if self.only_authority { "; host certificates are not understood" } else { "" };
        Error::new(Kind::Refused, format!("no host key of `{}` is trusted in {}{why}", self.place(), self.source)).hint(
            format!(
                "`ssh-keyscan -p {} {}` prints its keys; compare them with its administrator, then add one there",
                self.port, self.host
            ),
        )
    }
}

/// Key types that can be checked, best first, with the signatures asked for; SHA-1 is not among them.
const ALGORITHMS: &[(&str, &[&str])] = &[
    ("ssh-ed25519", &["ssh-ed25519"]),
    ("ecdsa-sha2-nistp256", &["ecdsa-sha2-nistp256"]),
    ("ecdsa-sha2-nistp384", &["ecdsa-sha2-nistp384"]),
    ("ecdsa-sha2-nistp521", &["ecdsa-sha2-nistp521"]),
    ("ssh-rsa", &["rsa-sha2-512", "rsa-sha2-256"]),
];
