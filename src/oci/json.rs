//! JSON from outside: bounded in size and depth, objects as ordered raw members so that nothing is re-encoded.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Kind, Result};

/// The most bytes a configuration, manifest or index may have.
pub const JSON_LIMIT: u64 = 16 << 20;

/// The deepest nesting that is read; serde_json's own recursion limit, applied to raw members as well.
const DEPTH_LIMIT: usize = 128;

/// Parses a whole document; `what` names it in the error.
pub(crate) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T> {
    let wrong = |why: String| Err(Error::new(Kind::Corrupt, format!("{what} is damaged: {why}")));
    if bytes.len() as u64 > JSON_LIMIT {
        return Err(Error::new(Kind::Limit, format!("{what} is larger than {JSON_LIMIT} bytes")));
    }
    if depth(bytes) > DEPTH_LIMIT {
        return wrong(format!("it is nested deeper than {DEPTH_LIMIT} levels"));
    }
    serde_json::from_slice(bytes).or_else(|error| wrong(error.to_string()))
}

/// A value of castoff's own as compact JSON.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| Error::new(Kind::Failed, "cannot write JSON").caused_by(error))
}

fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'{' | b'[' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// The members of an object in their order, values as they were written.
///
/// Names that differ only in case are refused: engines written in Go take either for the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Members(Vec<(String, Box<RawValue>)>);

impl Members {
    /// The raw value of a member.
    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| &**value)
    }

    /// A member's value as `T`; none when it is absent or `null`.
    pub(super) fn typed<T: DeserializeOwned>(&self, what: &str, name: &str) -> Result<Option<T>> {
        self.get(name).map_or(Ok(None), |raw| parse(&format!("`{name}` of {what}"), raw.get().as_bytes()))
    }

    /// Replaces a member where it stands, or appends it.
    pub(super) fn set<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<()> {
        let raw = serde_json::value::to_raw_value(value)
            .map_err(|error| Error::new(Kind::Failed, format!("cannot write `{name}` as JSON")).caused_by(error))?;
        match self.0.iter_mut().find(|(own, _)| own == name) {
            Some((_, value)) => *value = raw,
            None => self.0.push((name.to_owned(), raw)),
        }
        Ok(())
    }

    /// Removes a member.
    pub(super) fn remove(&mut self, name: &str) {
        self.0.retain(|(own, _)| own != name);
    }
}

impl Serialize for Members {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                let mut seen = HashSet::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if !seen.insert(name.to_ascii_lowercase()) {
                        return Err(serde::de::Error::custom(format_args!("it has more than one `{name}`")));
                    }
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
