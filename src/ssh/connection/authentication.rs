//! Proving who we are: keys of the agent, then key files; each refused one is counted and told.
//!
//! A key's text is read by libssh2 alone and never stands in a message; a passphrase is never asked for.

use std::path::{Path, PathBuf};

use super::{Connection, Stop};
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::ssh::host_keys::HostKey;
use crate::ssh::route::Hop;

/// As many refused keys as OpenSSH's server takes before it hangs up.
const MOST_KEYS: usize = 6;

/// libssh2's codes for a key that the server did not take.
const REFUSED: [ssh2::ErrorCode; 2] = [ssh2::ErrorCode::Session(-18), ssh2::ErrorCode::Session(-19)];

/// What became of the keys that were tried.
#[derive(Default)]
struct Tried {
    offered: Vec<Vec<u8>>,
    refused: Vec<String>,
    unusable: Vec<String>,
}

pub(super) fn with_keys(connection: &Connection, hop: &Hop, methods: &str) -> Result<()> {
    if !methods.split(',').any(|method| method == "publickey") {
        return Err(Error::new(Kind::Refused, format!("`{}` takes no keys, only {methods}", connection.place()))
            .hint("castoff logs in with keys alone: let the server's administrator allow `publickey`"));
    }
    let mut tried = Tried::default();
    let own = public_halves(hop)?;
    if let Some(socket) = &hop.agent
        && agent(connection, hop, socket, &own, &mut tried)?
    {
        return Ok(());
    }
    for file in &hop.identity_files {
        if !usable(file, hop, &mut tried)? {
            continue;
        }
        if own.iter().any(|(path, blob)| path == file && tried.offered.contains(blob)) {
            continue;
        }
        if key_file(connection, hop, file, &mut tried)? {
            return Ok(());
        }
    }
    Err(refusal(connection, hop, &tried))
}

/// The public keys beside the key files, where they are.
fn public_halves(hop: &Hop) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut halves = Vec::new();
    for file in &hop.identity_files {
        let mut public = file.clone().into_os_string();
        public.push(".pub");
        let public = PathBuf::from(public);
        if fs::metadata(&public)?.is_some() {
            let text = fs::read_text(&public)?;
            let mut words = text.split_ascii_whitespace();
            if let (Some(kind), Some(blob)) = (words.next(), words.next())
                && let Ok(key) = HostKey::from_base64(kind, blob)
            {
                halves.push((file.clone(), key.wire().to_owned()));
            }
        }
    }
    Ok(halves)
}

fn agent(
    connection: &Connection,
    hop: &Hop,
    socket: &Path,
    own: &[(PathBuf, Vec<u8>)],
    tried: &mut Tried,
) -> Result<bool> {
    let wrong =
        |stop: Stop| stop.into_error(Kind::Failed, format!("cannot use the ssh agent at `{}`", socket.display()));
    let mut agent = connection.drive(ssh2::Session::agent).map_err(wrong)?;
    let listed = (|| {
        agent.set_identity_path(socket)?;
        agent.connect()?;
        agent.list_identities()?;
        agent.identities()
    })();
    let mut keys = match listed {
        Ok(keys) => keys,
        // An agent that is gone is no reason not to try the files; the final refusal tells it.
        Err(error) => {
            tried.unusable.push(format!("the agent at `{}`: {}", socket.display(), error.message()));
            return Ok(false);
        }
    };
    let named = |blob: &[u8]| own.iter().any(|(_, own)| own == blob);
    if hop.identities_only {
        keys.retain(|key| named(key.blob()));
    }
    keys.sort_by_key(|key| !named(key.blob()));
    for key in keys {
        if tried.refused.len() == MOST_KEYS {
            break;
        }
        tried.offered.push(key.blob().to_owned());
        match connection.drive(|_| agent.userauth(&hop.user, &key)) {
            Ok(()) => return Ok(true),
            Err(Stop::Answer { .. }) => tried.refused.push(format!("`{}` of the agent", key.comment())),
            Err(stop) => return Err(gone(stop, connection, tried)),
        }
    }
    Ok(false)
}

/// Whether the file may be tried: it is there, and only its owner can read it.
fn usable(file: &Path, hop: &Hop, tried: &mut Tried) -> Result<bool> {
    if fs::metadata(file)?.is_none() {
        if hop.identities_named {
            tried.unusable.push(format!("`{}` does not exist", file.display()));
        }
        return Ok(false);
    }
    fs::require_unread(file)?;
    Ok(true)
}

fn key_file(connection: &Connection, hop: &Hop, file: &Path, tried: &mut Tried) -> Result<bool> {
    if tried.refused.len() == MOST_KEYS {
        return Ok(false);
    }
    match connection.drive(|session| session.userauth_pubkey_file(&hop.user, None, file, None)) {
        Ok(()) => Ok(true),
        Err(Stop::Answer { code: Some(code), .. }) if REFUSED.contains(&code) => {
            tried.refused.push(format!("`{}`", file.display()));
            Ok(false)
        }
        Err(Stop::Answer { words, .. }) => {
            tried.unusable.push(format!("`{}`: {words}", file.display()));
            Ok(false)
        }
        Err(stop) => Err(gone(stop, connection, tried)),
    }
}

fn gone(stop: Stop, connection: &Connection, tried: &Tried) -> Error {
    let refused = tried.refused.len();
    let after = if refused == 0 { String::new() } else { format!(" after {refused} refused keys") };
    stop.into_error(Kind::Unavailable, format!("logging in to `{}` broke off{after}", connection.place()))
}

fn refusal(connection: &Connection, hop: &Hop, tried: &Tried) -> Error {
    let message = match tried.refused.as_slice() {
        [] => format!("there is no key to log in to `{}` with", connection.place()),
        [one] => format!("`{}` refused the key {one}", connection.place()),
        many => format!("`{}` refused {} keys: {}", connection.place(), many.len(), many.join(", ")),
    };
    let mut error = Error::new(Kind::Refused, message);
    if !tried.unusable.is_empty() {
        error = error.caused_by(format!("not usable: {}", tried.unusable.join("; ")));
    }
    error.hint(format!(
        "add the public key to `authorized_keys` of `{}` there; a key with a passphrase must be in the ssh agent",
        hop.user
    ))
}
