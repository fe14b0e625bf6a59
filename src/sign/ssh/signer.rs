//! Signing: by ssh-keygen for keys in files and agents, security keys among them, and here for keys in memory.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ssh_key::{Algorithm, HashAlg, LineEnding, PrivateKey};

use super::NAMESPACE;
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::host::exchange::{Bounds, exchange};
use crate::progress::Cancel;
use crate::vocab::Secret;

/// How long a person has to touch a security key, or an agent to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// More than any key file has.
const LIMIT: u64 = 64 << 10;

/// The key to sign with.
#[derive(Clone, Debug)]
pub enum Key {
    /// A private key file without a passphrase, of any type that ssh-keygen knows.
    File(PathBuf),
    /// A private key file with a passphrase (ed25519 or ECDSA, in OpenSSH's own format).
    LockedFile(PathBuf, Secret<String>),
    /// The key in an agent that belongs to a public key file.
    Agent {
        /// The public key file.
        public_key: PathBuf,
        /// The agent's socket; none for `SSH_AUTH_SOCK`.
        socket: Option<PathBuf>,
    },
    /// A private key in OpenSSH's own format, from wherever secrets are kept (ed25519 or ECDSA), and its passphrase.
    Memory(Secret<String>, Option<Secret<String>>),
}

/// Makes signatures under castoff's namespace.
#[derive(Clone, Debug)]
pub struct Signer {
    key: Key,
}

impl Signer {
    /// A signer with this key.
    pub fn new(key: Key) -> Self {
        Self { key }
    }

    /// The armoured signature of these bytes; stops waiting for an agent or a touch when somebody asks.
    pub fn sign(&self, message: &[u8], cancel: &Cancel) -> Result<String> {
        match &self.key {
            Key::File(path) => {
                host::fs::require_unread(path)?;
                let mut command = keygen(path);
                ask(&mut command, path, message, cancel)
            }
            Key::Agent { public_key, socket } => {
                let mut command = keygen(public_key);
                command.arg("-U");
                if let Some(socket) = socket {
                    command.env("SSH_AUTH_SOCK", socket);
                }
                ask(&mut command, public_key, message, cancel)
            }
            Key::LockedFile(path, passphrase) => {
                host::fs::require_unread(path)?;
                let bytes = host::fs::read_at_most(path, LIMIT)?;
                sign_here(&Secret::new(bytes), Some(passphrase), &format!("the key file `{}`", path.display()), message)
            }
            Key::Memory(text, passphrase) => {
                let bytes = Secret::new(text.reveal().clone().into_bytes());
                sign_here(&bytes, passphrase.as_ref(), "the key in memory", message)
            }
        }
    }
}

/// `ssh-keygen -Y sign` from standard input to standard output, never asking anybody for anything.
fn keygen(key: &Path) -> Command {
    let mut command = host::process::command("ssh-keygen");
    // With `force` the passphrase comes from the askpass program, never from a terminal; `false` gives none.
    command.args(["-Y", "sign", "-q", "-n", NAMESPACE, "-f"]).arg(key);
    command.env("SSH_ASKPASS_REQUIRE", "force").env("SSH_ASKPASS", "/bin/false").env("LC_ALL", "C");
    command
}

fn ask(command: &mut Command, key: &Path, message: &[u8], cancel: &Cancel) -> Result<String> {
    let stop = || cancel.check().is_err();
    let bounds = Bounds { deadline: PATIENCE, stop: &stop, answer: LIMIT };
    let mut said = Vec::new();
    let answer = exchange(command, message, &bounds, &mut |line| {
        if said.len() < 10 {
            said.push(line.escape_debug().to_string());
        }
    })
    .map_err(|error| match error.kind() {
        Kind::NotFound => Error::new(Kind::Unsupported, "cannot sign: there is no `ssh-keygen`")
            .caused_by(error)
            .hint("install openssh-client"),
        _ => error,
    })?;
    let wrong = || {
        Error::new(Kind::Refused, format!("ssh-keygen cannot sign with `{}`", key.display()))
            .hint("does the key exist, is it readable, and has it a passphrase that castoff was not given?")
    };
    if !answer.status.success() {
        return Err(wrong().caused_by(said.join("\n")));
    }
    String::from_utf8(answer.output).map_err(|error| wrong().caused_by(error))
}

/// Signs in this process. No cause is named: the parser's errors could tell of the key.
fn sign_here(
    bytes: &Secret<Vec<u8>>,
    passphrase: Option<&Secret<String>>,
    what: &str,
    message: &[u8],
) -> Result<String> {
    let mut key = PrivateKey::from_openssh(bytes.reveal()).map_err(|_| {
        Error::new(Kind::Usage, format!("cannot read {what}"))
            .hint("it must be a private key in OpenSSH's own format; `ssh-keygen -p -f FILE` rewrites an older one")
    })?;
    if key.is_encrypted() {
        let Some(passphrase) = passphrase else {
            return Err(Error::new(Kind::Refused, format!("{what} has a passphrase and none was given")));
        };
        key = key
            .decrypt(passphrase.reveal())
            .map_err(|_| Error::new(Kind::Refused, format!("the passphrase does not open {what}")))?;
    }
    if !matches!(key.algorithm(), Algorithm::Ed25519 | Algorithm::Ecdsa { .. }) {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{what} is of {}, which only ssh-keygen signs with", key.algorithm()),
        )
        .hint("use an ed25519 key, or load this one into an agent"));
    }
    key.sign(NAMESPACE, HashAlg::Sha512, message)
        .and_then(|signature| signature.to_pem(LineEnding::LF))
        .map_err(|_| Error::new(Kind::Failed, format!("cannot sign with {what}")))
}
