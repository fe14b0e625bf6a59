//! Reading a manifest that anybody may have written.
//!
//! The rule for what is not known: a member that format 1 does not name is ignored, at every level; whatever a reader
//! must understand to be right gets another `format`, and a format that is not known is refused. A name that stands
//! twice is refused, known or not, since two readers could take different ones.

use std::collections::BTreeSet;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Compression, FORMAT, Format, Manifest, Moment, PrivilegedPath, parse_archive_name};
use crate::document::parse_json;
use crate::error::{Error, Kind, Result};
use crate::vocab::{parse_timestamp, timestamp};

/// The most bytes a manifest may have.
pub const MANIFEST_LIMIT: u64 = 1 << 20;

/// The largest number that every JSON reader takes exactly (RFC 8259, section 6).
const LARGEST: u64 = (1 << 53) - 1;

const MOST_URLS: usize = 16;
const MOST_PATCHES: usize = 64;
const MOST_PRIVILEGED: usize = 4096;
const LONGEST_PATH: usize = 4096;

#[derive(Deserialize)]
struct Envelope {
    format: u64,
}

impl Manifest {
    /// The manifest in these bytes: in bounds, in a format that is known, and at one with itself.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > MANIFEST_LIMIT {
            return Err(Error::new(Kind::Limit, format!("the manifest is larger than {MANIFEST_LIMIT} bytes")));
        }
        let wrong = |why: String| Error::new(Kind::Corrupt, "the manifest is damaged").caused_by(why);
        let text = std::str::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        parse_json(text, "the manifest")
            .map_err(|error| Error::new(Kind::Corrupt, "the manifest is damaged").caused_by(error))?;
        let Envelope { format } = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if format != u64::from(FORMAT) {
            return Err(Error::new(
                Kind::Unsupported,
                format!("the manifest has format {format}; this castoff knows format {FORMAT}"),
            )
            .hint("a newer castoff wrote it: update this one"));
        }
        let manifest: Self = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
        match manifest.contradiction() {
            None => Ok(manifest),
            Some(why) => Err(wrong(why)),
        }
    }

    /// What in this manifest is out of bounds or contradicts the rest.
    fn contradiction(&self) -> Option<String> {
        self.archives_contradict().or_else(|| self.patches_contradict()).or_else(|| {
            let too_long = |path: &PrivilegedPath| path.0.is_empty() || path.0.len() > LONGEST_PATH;
            if self.urls.len() > MOST_URLS {
                Some(format!("it has more than {MOST_URLS} urls"))
            } else if self.setuid.len() > MOST_PRIVILEGED || self.setuid.iter().any(too_long) {
                Some("its list of privileged files is out of bounds".to_owned())
            } else if self.expires < self.created {
                Some("it expires before it was made".to_owned())
            } else if self.tar_size > LARGEST {
                Some("`tar_size` is out of bounds".to_owned())
            } else {
                None
            }
        })
    }

    fn archives_contradict(&self) -> Option<String> {
        if self.artefacts.first().is_none_or(|first| first.compression != Compression::Xz) {
            return Some("its first artefact is not the `.tar.xz`".to_owned());
        }
        if !self.artefacts.is_sorted_by(|one, next| one.compression < next.compression) {
            return Some("a compression stands twice or out of order".to_owned());
        }
        self.artefacts.iter().find_map(|artefact| {
            let name = artefact.name.as_str();
            // A rollback publishes an older release's files under a new number.
            match parse_archive_name(&self.image, &self.flavor, artefact.compression, name) {
                Some(number) if number <= self.version => {}
                _ => return Some(format!("`{name}` is no file of this release")),
            }
            (artefact.size == 0 || artefact.size > LARGEST).then(|| format!("the size of `{name}` is out of bounds"))
        })
    }

    fn patches_contradict(&self) -> Option<String> {
        if self.patches.len() > MOST_PATCHES {
            return Some(format!("it has more than {MOST_PATCHES} patches"));
        }
        let mut names: BTreeSet<&str> = self.artefacts.iter().map(|artefact| artefact.name.as_str()).collect();
        let mut ways = BTreeSet::new();
        self.patches.iter().find_map(|patch| {
            let name = patch.name.as_str();
            if !names.insert(name) {
                Some(format!("`{name}` stands twice"))
            } else if patch.from == patch.to || !ways.insert((patch.from, patch.to)) {
                Some(format!("the patch `{name}` leads nowhere new"))
            } else if patch.size == 0 || patch.size > LARGEST || patch.to_size > LARGEST {
                Some(format!("the size of `{name}` is out of bounds"))
            } else if patch.to == self.diff_id && patch.to_size != self.tar_size {
                Some(format!("the patch `{name}` and the manifest give one tar two sizes"))
            } else {
                None
            }
        })
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(FORMAT)
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            FORMAT => Ok(Self),
            other => Err(serde::de::Error::custom(format_args!("format {other} is not known"))),
        }
    }
}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&timestamp(self.0.try_into().unwrap_or(i64::MAX), 0))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let seconds = parse_timestamp(&text).and_then(|seconds| u64::try_from(seconds).ok());
        seconds.map(Self).ok_or_else(|| {
            serde::de::Error::custom(format_args!(
                "`{}` is not a moment like 2026-11-21T01:36:00Z",
                text.escape_debug()
            ))
        })
    }
}

impl Serialize for PrivilegedPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for PrivilegedPath {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| match byte {
            b'\\' | 0..=0x20 | 0x7f.. => write!(formatter, "\\{byte:03o}"),
            plain => write!(formatter, "{}", char::from(*plain)),
        })
    }
}

impl<'de> Deserialize<'de> for PrivilegedPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let path = unescaped(&text).filter(|path| path.to_string() == text);
        path.ok_or_else(|| serde::de::Error::custom(format_args!("`{}` is not a path's text", text.escape_debug())))
    }
}

fn unescaped(text: &str) -> Option<PrivilegedPath> {
    let mut path = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'\\' {
            let digits = std::str::from_utf8(after.get(..3)?).ok()?;
            path.push(u8::from_str_radix(digits, 8).ok()?);
            rest = &after[3..];
        } else {
            path.push(*byte);
            rest = after;
        }
    }
    Some(PrivilegedPath(path))
}
