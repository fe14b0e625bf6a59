//! Where released files are fetched from: a URL with one place for the file's name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Kind, Result};
use crate::vocab::FileName;

const PLACE: &str = "{name}";

/// The form in which the original wrote its file's name.
const COMPAT: &str = "{img}-{flavor}-{ver}.tar.xz";

/// A URL with one `{name}`, for example `https://example.net/images/{name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// The address of this file.
    pub fn of(&self, file: &FileName) -> String {
        self.0.replace(PLACE, file.as_str())
    }
}

impl FromStr for Address {
    type Err = Error;

    /// Takes the original's `{img}-{flavor}-{ver}.tar.xz` for `{name}`.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
            Err(Error::new(Kind::Usage, format!("`{shown}` is not an address of released files: {why}"))
                .hint("it looks like `https://example.net/images/{name}`"))
        };
        let form = text.replacen(COMPAT, PLACE, 1);
        let Some((scheme, rest)) = form.split_once("://") else { return wrong("it has no scheme") };
        if !matches!(scheme, "https" | "http" | "sftp" | "file") {
            return wrong("its scheme is none of https, http, sftp, file");
        }
        if form.len() > 2048 {
            return wrong("it is longer than 2048 bytes");
        }
        if !form.bytes().all(|byte| byte.is_ascii_graphic()) || form.contains(['"', '<', '>', '\\', '^', '`', '|']) {
            return wrong("it holds a character that has to be percent-encoded");
        }
        if rest.matches(PLACE).count() != 1 || rest.replace(PLACE, "").contains(['{', '}']) {
            return wrong("it must hold `{name}` once and no other braces");
        }
        // Manifests are public, and errors and logs show addresses.
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.rsplit_once('@').is_some_and(|(login, _)| login.contains(':')) {
            let scheme = scheme.to_owned();
            return Err(Error::new(
                Kind::Usage,
                format!("an address `{scheme}://…` of released files holds a password"),
            )
            .hint("manifests are public: leave the password out"));
        }
        if authority.contains(PLACE) || (authority.is_empty() && scheme != "file") {
            return wrong("it names no host");
        }
        Ok(Self(form))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Address;

    #[test]
    fn an_address_has_one_place_for_the_name() {
        let file = "makina-states-trusty-lxc-25.tar.xz".parse().unwrap();
        for (form, expected) in [
            ("https://example.net/i/{name}", "https://example.net/i/makina-states-trusty-lxc-25.tar.xz"),
            (
                "https://downloads.sourceforge.net/makinacorpus/makina-states/{img}-{flavor}-{ver}.tar.xz",
                "https://downloads.sourceforge.net/makinacorpus/makina-states/makina-states-trusty-lxc-25.tar.xz",
            ),
            ("file:///srv/{name}", "file:///srv/makina-states-trusty-lxc-25.tar.xz"),
        ] {
            assert_eq!(form.parse::<Address>().unwrap().of(&file), expected);
        }
        for bad in [
            "",
            "{name}",
            "https://{name}",
            "https:///x/{name}",
            "https://a/b",
            "https://a/{name}{name}",
            "ftp://a/{name}",
            "https://a/{ver}/{name}",
            "https://a/ {name}",
            "https://a/\n{name}",
            "https://a/\"{name}",
            "javascript:{name}",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
        let error = "https://me:canary@a/{name}".parse::<Address>().unwrap_err().render();
        assert!(!error.contains("canary"), "{error}");
    }
}
