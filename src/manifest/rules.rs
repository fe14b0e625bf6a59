//! What a reader of a manifest, signature already verified, still asks before it believes it.

use super::{Manifest, Moment};
use crate::error::{Error, Kind, Result};
use crate::vocab::{Digest, Flavour, OsImage, ReleaseNumber};

/// The highest release a reader has seen of an image and flavour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Highest {
    /// Its number.
    pub version: ReleaseNumber,
    /// The digest of its `.tar.xz`.
    pub sha256: Digest,
}

/// What a reader asked for, and knows.
#[derive(Clone, Debug)]
pub struct Expected<'a> {
    /// The image it asked for.
    pub image: &'a OsImage,
    /// The flavour it asked for.
    pub flavour: &'a Flavour,
    /// The highest release it has seen, if any.
    pub highest: Option<Highest>,
    /// An operator asked for an older release by name.
    pub allow_rollback: bool,
    /// The present.
    pub now: Moment,
}

/// A manifest that may be followed, and what is to be said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What the reader has to remember as the highest from now on.
    pub highest: Highest,
    /// For how many seconds the manifest has been expired: a warning, since a publisher on holiday must stop no host.
    pub expired: Option<u64>,
}

impl Manifest {
    /// Whether this manifest may be followed.
    ///
    /// Refused: another image or flavour inside than the one asked for, a number below the highest seen, and another
    /// content under the number that was the highest.
    pub fn judge(&self, expected: &Expected<'_>) -> Result<Verdict> {
        let Expected { image, flavour, highest, allow_rollback, now } = expected;
        if (&self.image, &self.flavor) != (*image, *flavour) {
            return Err(Error::new(
                Kind::Refused,
                format!("the manifest of `{image}-{flavour}` is that of `{}-{}`", self.image, self.flavor),
            )
            .hint("somebody put a signed manifest under another name: look at the repository's history"));
        }
        let own = Highest { version: self.version, sha256: self.archive()?.sha256 };
        if let Some(highest) = highest {
            if own.version < highest.version && !allow_rollback {
                return Err(Error::new(
                    Kind::Refused,
                    format!("`{image}-{flavour}` went back from release {} to {}", highest.version, own.version),
                )
                .hint("an older manifest is being served; allow the rollback if you want just that"));
            }
            if own.version == highest.version && own.sha256 != highest.sha256 {
                return Err(Error::new(
                    Kind::Refused,
                    format!("release {} of `{image}-{flavour}` has changed its content", own.version),
                )
                .caused_by(format!("was {}, is {}", highest.sha256, own.sha256))
                .hint(
                    "a release never changes: two publishers used one number, or the signing key is in other hands",
                ));
            }
        }
        let highest = match highest {
            Some(highest) if highest.version >= own.version => *highest,
            _ => own,
        };
        Ok(Verdict { highest, expired: now.0.checked_sub(self.expires.0).filter(|late| *late > 0) })
    }
}
