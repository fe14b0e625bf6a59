//! The names a plan is made of, parsed once: plans, packages, paths inside a tree.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// The most bytes of a file name (`NAME_MAX`), less what castoff puts before and behind it.
const LONGEST_NAME: usize = 200;

/// The most bytes of a path (`PATH_MAX`).
const LONGEST_PATH: usize = 4095;

/// The name of a plan: also the name of the file it makes, so it can neither leave a folder nor be an option.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PlanName(String);

/// The name of a package as apt takes it: `NAME[:ARCHITECTURE][=VERSION|/SUITE]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(String);

/// A place in a tree: an absolute path, looked up without ever leaving the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TreePath(String);

impl FromStr for PlanName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Err(Error::new(Kind::Usage, format!("`{}` cannot be the name of an image: it {why}", text.escape_debug()))
                .hint("a name is letters, digits and `. _ + @ = , -`, and begins with a letter, a digit or `_`"))
        };
        if text.is_empty() {
            return wrong("is empty");
        }
        if text.len() > LONGEST_NAME {
            return wrong("is too long for a file name");
        }
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._+@=,-".contains(&byte);
        if let Some(odd) = text.chars().find(|character| !u8::try_from(*character).is_ok_and(is_fine)) {
            return wrong(&format!("holds `{}`", odd.escape_debug()));
        }
        match text.as_bytes()[0] {
            first if first.is_ascii_alphanumeric() || first == b'_' => Ok(Self(text.to_owned())),
            first => wrong(&format!("begins with `{}`", char::from(first))),
        }
    }
}

impl FromStr for PackageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Err(Error::new(Kind::Usage, format!("`{}` is not a package: {why}", text.escape_debug()))
                .hint("a package is `NAME`, with `:ARCHITECTURE`, `=VERSION` or `/SUITE` behind it where wanted"))
        };
        let (rest, version) = text.split_once('=').map_or((text, None), |(name, version)| (name, Some(version)));
        let (rest, suite) = rest.split_once('/').map_or((rest, None), |(name, suite)| (name, Some(suite)));
        let (name, architecture) = rest.split_once(':').map_or((rest, None), |(name, arch)| (name, Some(arch)));
        // deb-control(5), Package: at least two of these, the first a letter or a digit.
        let of = |part: &str, more: &[u8]| {
            part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || more.contains(&byte))
        };
        if name.len() < 2 || !of(name, b"+.-") || !name.as_bytes()[0].is_ascii_alphanumeric() {
            return wrong("its name is not one");
        }
        // apt takes `NAME-` for the wish to remove it.
        if name.ends_with('-') {
            return wrong("it ends with `-`");
        }
        let is_part = |part: &str, more: &[u8]| {
            !part.is_empty()
                && part.as_bytes()[0].is_ascii_alphanumeric()
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        if architecture.is_some_and(|part| !of(part, b"-") || !is_part(part, b"-")) {
            return wrong("its architecture is not one");
        }
        if version.is_some_and(|part| !is_part(part, b".+~:-")) {
            return wrong("its version is not one");
        }
        if suite.is_some_and(|part| !is_part(part, b".+~_-")) || (suite.is_some() && version.is_some()) {
            return wrong("its suite is not one");
        }
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for TreePath {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Err(Error::new(Kind::Usage, format!("`{}` cannot be a place in the image: {why}", text.escape_debug()))
                .hint("give an absolute path, as the image will see it"))
        };
        if !text.starts_with('/') {
            return wrong("it is not absolute");
        }
        if text.contains('\0') {
            return wrong("it holds a zero byte");
        }
        if text.len() > LONGEST_PATH {
            return wrong("it is too long");
        }
        Ok(Self(text.to_owned()))
    }
}

impl TreePath {
    /// The folder it is in; none of the root.
    pub fn parent(&self) -> Option<Self> {
        let (folder, _) = self.0.trim_end_matches('/').rsplit_once('/')?;
        Some(Self(if folder.is_empty() { "/".to_owned() } else { folder.to_owned() }))
    }

    /// Its last component; none of the root.
    pub fn file_name(&self) -> Option<&str> {
        self.0.trim_end_matches('/').rsplit_once('/').map(|(_, name)| name).filter(|name| !name.is_empty())
    }

    /// The entry of this name below it.
    #[must_use]
    pub fn join(&self, name: &str) -> Self {
        Self(format!("{}/{name}", self.0.trim_end_matches('/')))
    }
}

macro_rules! text_type {
    ($($name:ident),*) => {$(
        impl $name {
            /// The text as it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    )*};
}

text_type!(PlanName, PackageName, TreePath);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_a_folder_or_be_options() {
        for good in ["base", "base.img", "kind_6.1-20260101.qcow2", "a", "_x", "1"] {
            assert_eq!(good.parse::<PlanName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "../x", "/x", "a/b", "-x", ".hidden", "a:b", "a b", "a\n", "ä", "a\0b", "a\\b"] {
            assert_eq!(bad.parse::<PlanName>().unwrap_err().kind(), Kind::Usage, "{bad:?}");
        }
        assert!("x".repeat(201).parse::<PlanName>().is_err());
    }

    #[test]
    fn packages_cannot_be_options_or_lists() {
        for good in
            ["vim", "g++", "libc6:i386", "vim=2:9.0.1378-2", "linux-image-amd64", "bash/bookworm-updates", "7zip"]
        {
            assert_eq!(good.parse::<PackageName>().unwrap().as_str(), good);
        }
        let bad = ["", "v", "-y", "--force-yes", "a,b", "vim-", "vim;x", "../x.deb", "/x.deb", "Vim", "vim=", "vim=-1"];
        for bad in bad.into_iter().chain(["?name(x)", "~nvim", "vim^", "a b", "vim:", "vim:-x", "vim/", "a=1/b"]) {
            assert_eq!(bad.parse::<PackageName>().unwrap_err().kind(), Kind::Usage, "{bad:?}");
        }
    }

    #[test]
    fn places_are_absolute() {
        let place: TreePath = "/etc/hosts".parse().unwrap();
        assert_eq!((place.parent().unwrap().as_str(), place.file_name()), ("/etc", Some("hosts")));
        assert_eq!("/etc".parse::<TreePath>().unwrap().parent().unwrap().as_str(), "/");
        assert_eq!("/".parse::<TreePath>().unwrap().join("a").as_str(), "/a");
        for bad in ["", "etc", "./x", "/a\0"] {
            assert!(bad.parse::<TreePath>().is_err(), "{bad:?}");
        }
    }
}
