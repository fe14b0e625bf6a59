//! Keys that may not sign any more.

use std::collections::BTreeSet;

use ssh_key::PublicKey;
use ssh_key::public::KeyData;

use crate::error::{Error, Kind, Result};

/// Revoked public keys.
#[derive(Clone, Debug, Default)]
pub struct Revoked(BTreeSet<KeyData>);

impl Revoked {
    /// The keys in a text file of public keys, one a line, as `ssh-keygen -Y verify -r` takes it; `name` names it in errors.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self> {
        if bytes.starts_with(b"SSHKRL\n\0") {
            return Err(Error::new(Kind::Unsupported, format!("`{name}` is a binary key revocation list"))
                .hint("write the revoked public keys into a text file, one a line"));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|error| Error::new(Kind::Usage, format!("`{name}` is not UTF-8")).caused_by(error))?;
        let mut keys = BTreeSet::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = PublicKey::from_openssh(line).map_err(|error| {
                // A list of revoked keys that is half understood would let the other half sign.
                Error::new(Kind::Usage, format!("`{name}` line {}: this is not a public key", at + 1))
                    .caused_by(error.to_string())
            })?;
            keys.insert(key.key_data().clone());
        }
        Ok(Self(keys))
    }

    pub(super) fn contains(&self, key: &KeyData) -> bool {
        self.0.contains(key)
    }
}
