//! What a key is, and how the texts of values are read and shown.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::Config;
use crate::vocab::{Map, Value};

/// One thing that may be configured.
#[derive(Debug)]
pub struct Key {
    /// Its dotted name; in a file the dots may be nested maps.
    pub name: &'static str,
    /// Its environment variable.
    pub environment: &'static str,
    /// What a value must be, with its unit.
    pub accepts: &'static str,
    /// What it means, in one sentence.
    pub doc: &'static str,
    /// Takes the text of a value, or says what is wrong with it.
    pub(super) set: fn(&mut Config, &str) -> Result<(), String>,
    /// The value in force.
    pub(super) get: fn(&Config) -> Value,
}

impl Key {
    /// The flag of the command line.
    pub fn flag(&self) -> String {
        format!("--{}", self.name.replace(['.', '_'], "-"))
    }
}

/// Lays a map over another: maps in both are joined, whatever else is replaced.
pub(super) fn lay_over(below: &mut Map, above: &Value) {
    for (key, value) in above.as_map().into_iter().flatten() {
        match (below.get_mut(key), value) {
            (Some(Value::Map(inner)), Value::Map(_)) => lay_over(inner, value),
            _ => {
                below.insert(key.clone(), value.clone());
            }
        }
    }
}

/// What the text says, or none for `none`.
pub(super) fn maybe<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text == "none" { Ok(None) } else { parse(text).map(Some) }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        other => Err(format!("`{other}` is neither true nor false")),
    }
}

pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    // A relative state folder would be another one in every working directory.
    if text.starts_with('/') { Ok(PathBuf::from(text)) } else { Err(format!("`{text}` is not an absolute path")) }
}

pub(super) fn at_least_one(text: &str) -> Result<u32, String> {
    match number(text)? {
        0 => Err("0 is too few".to_owned()),
        value => Ok(value),
    }
}

pub(super) fn number<N: std::str::FromStr>(text: &str) -> Result<N, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number in range"))
}

pub(super) fn positive<N: std::str::FromStr + PartialEq + From<u8>>(text: &str) -> Result<N, String> {
    number(text)
        .and_then(|value: N| if value == N::from(0) { Err("0 would stop everything".to_owned()) } else { Ok(value) })
}

pub(super) fn word_or_none(text: &str) -> Option<String> {
    (text != "none").then(|| text.to_owned())
}

pub(super) fn shown(path: Option<&PathBuf>) -> Value {
    Value::from(path.map(|path| path.display().to_string()))
}

pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 && mode & 0o600 == 0o600 => Ok(mode),
        Ok(mode) if mode <= 0o777 => Err(format!("{mode:04o} keeps the daemon's own user out")),
        _ => Err(format!("`{text}` is not an octal mode up to 0777")),
    }
}

pub(super) fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "none" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| format!("`{text}` is not an IP address with a port"))
}
