//! From bytes that anybody may have sent to a manifest that may be followed.

use std::time::Duration;

use super::followed::Followed;
use super::options::Options;
use super::record::Record;
use super::source::{Manifests, Signed};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::manifest::{Expected, Manifest, Moment, Verdict};
use crate::sign::minisign;
use crate::sign::ssh::Judge;

/// How often a manifest and a signature that do not fit are read again: they may be those of two releases.
const READINGS: u32 = 3;

/// A manifest that may be followed, and what is to be said about it.
pub(super) struct Trusted {
    pub(super) manifest: Manifest,
    pub(super) verdict: Verdict,
    /// The fingerprint of the key that signed.
    pub(super) key: String,
}

/// Reads the manifest; its signature, its names and its number are right, or it is an error.
pub(super) fn read(
    options: &Options<'_>,
    followed: &Followed,
    manifests: &Manifests,
    record: &Record,
    moved: &mut u64,
) -> Result<Trusted> {
    let mut signed = manifests.read(options, followed, moved)?;
    let mut readings = 1;
    loop {
        let error = match judge(options, followed, record, &signed) {
            Ok(trusted) => return Ok(trusted),
            Err(error) => error,
        };
        if readings == READINGS || !manifests.may_change() {
            return Err(error);
        }
        readings += 1;
        options.surroundings.cancel.sleep(Duration::from_millis(200))?;
        let again = manifests.read(options, followed, moved)?;
        if again == signed {
            return Err(error);
        }
        signed = again;
    }
}

fn judge(options: &Options<'_>, followed: &Followed, record: &Record, signed: &Signed) -> Result<Trusted> {
    let now = host::clock::now().as_secs();
    let key =
        signatories(options, signed, now).context(|| format!("the manifest of `{followed}` is not to be trusted"))?;
    let manifest = Manifest::parse(&signed.manifest)?;
    let expected = Expected {
        image: &followed.image,
        flavour: &followed.flavour,
        highest: record.highest.map(Into::into),
        // Whoever pins a release has asked for it by name.
        allow_rollback: record.pin == Some(manifest.version),
        now: Moment(now),
    };
    let verdict = manifest.judge(&expected)?;
    Ok(Trusted { manifest, verdict, key })
}

/// Who signed; every kind of signature that is asked for has to be there and right.
fn signatories(options: &Options<'_>, signed: &Signed, now: u64) -> Result<String> {
    let mut keys = Vec::new();
    if let (Some(allowed), Some(signature)) = (&options.allowed, &signed.signature) {
        let principal = &options.surroundings.config.sync.signer;
        let judge = Judge { allowed, revoked: &options.revoked, principal, at: now };
        keys.push(judge.verify(&signed.manifest, signature)?.fingerprint);
    }
    if let Some(signature) = &signed.minisignature {
        let text = std::str::from_utf8(signature)
            .map_err(|error| Error::new(Kind::Corrupt, "the minisign signature is damaged").caused_by(error))?;
        let comment = minisign::verify(&signed.manifest, text, &options.minisign)?;
        keys.push(format!("minisign ({comment})"));
    }
    if keys.is_empty() {
        return Err(Error::new(Kind::Refused, "nobody has signed it"));
    }
    Ok(keys.join(", "))
}
