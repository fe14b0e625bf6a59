//! What a released image is called: its image, its flavour, its number.
//!
//! All three end up in file names, URLs and git refs, so the alphabet is the one that is safe in each of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Kind, Result};

/// The longest name of an image or flavour, in bytes.
const LONGEST: usize = 63;

/// The longest file name: what file systems take (NAME_MAX).
const LONGEST_FILE: usize = 255;

/// A text of `[a-z0-9][a-z0-9._-]*` without `..`, of at most `longest` bytes; `what` names it in the error.
fn plain(text: &str, what: &str, longest: usize) -> Result<String> {
    let wrong = |why: String| {
        let shown: String = text.chars().take(longest).flat_map(char::escape_debug).collect();
        Err(Error::new(Kind::Usage, format!("`{shown}` is not {what}: {why}"))
            .hint(format!("it has 1 to {longest} of `a-z 0-9 . _ -`, begins with a letter or digit and holds no `..`")))
    };
    if text.len() > longest {
        return wrong(format!("it has {} bytes", text.len()));
    }
    if let Some(odd) = text.chars().find(|odd| !matches!(odd, 'a'..='z' | '0'..='9' | '.' | '_' | '-')) {
        return wrong(format!("it holds `{}`", odd.escape_debug()));
    }
    if !text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return wrong("it does not begin with a letter or digit".to_owned());
    }
    if text.contains("..") {
        return wrong("it holds `..`".to_owned());
    }
    Ok(text.to_owned())
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $longest:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                plain(text, $what, $longest).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// The name of an image that is released, for example `makina-states-trusty`.
    OsImage,
    "the name of a released image",
    LONGEST
);
name!(
    /// The name of a flavour, for example `lxc` or `standalone`.
    Flavour,
    "the name of a flavour",
    LONGEST
);
name!(
    /// The name of a released file, without any folder.
    FileName,
    "the name of a released file",
    LONGEST_FILE
);

/// The number of a release; the first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseNumber(u32);

impl ReleaseNumber {
    /// The first release's number.
    pub const FIRST: Self = Self(1);

    /// This number, unless it is 0.
    pub fn new(number: u32) -> Result<Self> {
        match number {
            0 => Err(Error::new(Kind::Usage, "`0` is not the number of a release")
                .hint("releases count from 1; 0 is what `never released` is")),
            _ => Ok(Self(number)),
        }
    }

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The number of the release after this one.
    pub fn next(self) -> Result<Self> {
        self.0
            .checked_add(1)
            .map(Self)
            .ok_or_else(|| Error::new(Kind::Limit, format!("release {} is the last that can be numbered", self.0)))
    }
}

impl fmt::Display for ReleaseNumber {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl FromStr for ReleaseNumber {
    type Err = Error;

    /// Decimal digits and nothing else: no sign, no leading zero.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            let shown: String = text.chars().take(16).flat_map(char::escape_debug).collect();
            Error::new(Kind::Usage, format!("`{shown}` is not the number of a release"))
                .hint(format!("it is a whole number from 1 to {}", u32::MAX))
        };
        if text.is_empty() || text.starts_with('0') || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        text.parse().map(Self).map_err(|_| wrong())
    }
}

impl Serialize for ReleaseNumber {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de> Deserialize<'de> for ReleaseNumber {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u32::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{FileName, Flavour, OsImage, ReleaseNumber};

    #[test]
    fn a_name_is_parsed_never_trusted() {
        let longest = "a".repeat(63);
        for good in ["a", "makina-states-trusty", "0.a_b-c", "a.", longest.as_str()] {
            assert_eq!(good.parse::<OsImage>().unwrap().as_str(), good);
            assert!(good.parse::<Flavour>().is_ok());
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            ".",
            "..",
            ".a",
            "-a",
            "_a",
            "a..b",
            "a/b",
            "A",
            "a b",
            "a\n",
            "a\0",
            "a;b",
            "$(a)",
            "é",
            "a:b",
            "a*",
            too_long.as_str(),
        ] {
            assert!(bad.parse::<OsImage>().is_err(), "{bad:?}");
            assert!(bad.parse::<Flavour>().is_err(), "{bad:?}");
            assert!(serde_json::from_value::<OsImage>(bad.into()).is_err(), "{bad:?}");
        }
        assert!("a".repeat(255).parse::<FileName>().is_ok());
        assert!("a".repeat(256).parse::<FileName>().is_err());
        let shown = "\u{1b}[2J".parse::<OsImage>().unwrap_err().render();
        assert!(!shown.contains('\u{1b}'), "{shown}");
    }

    #[test]
    fn a_release_counts_from_one_in_plain_digits() {
        for good in ["1", "25", "4294967295"] {
            assert_eq!(good.parse::<ReleaseNumber>().unwrap().to_string(), good);
        }
        for bad in ["", "0", "01", "+1", "-1", "1 ", "1\n", "4294967296", "1.0", "١"] {
            assert!(bad.parse::<ReleaseNumber>().is_err(), "{bad:?}");
        }
        assert!(ReleaseNumber::new(u32::MAX).unwrap().next().is_err());
        assert_eq!(ReleaseNumber::FIRST.next().unwrap().get(), 2);
    }
}
