//! Names on the far side: parsed once, safe for every server, every shell and every URL.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};
use crate::vocab::Digest;

/// The final name of a published file: it is given once and then means these bytes for ever.
///
/// ASCII letters, digits and `._-+,=@~`, beginning with a letter or digit. SourceForge refuses names that begin with a
/// dot or space, and `& : % ? / * $ | { ; ^ } < > \ " '`; nothing here needs quoting in a shell or a URL either.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RemoteName(String);

/// The longest final name: its temporary one has 22 characters more and must fit into 255.
const LONGEST: usize = 233;

impl FromStr for RemoteName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong =
            |why: &str| Error::new(Kind::Usage, format!("`{}` cannot be published under: {why}", text.escape_debug()));
        if !text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Err(wrong("a name begins with a letter or digit"));
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !"._-+,=@~".contains(*c)) {
            return Err(wrong(&format!("`{}` is refused by servers", bad.escape_debug())));
        }
        if text.contains("..") {
            return Err(wrong("`..` is refused by servers"));
        }
        if text.len() > LONGEST {
            return Err(wrong(&format!("it is longer than {LONGEST} characters")));
        }
        if text.to_ascii_lowercase().ends_with(".part") {
            return Err(wrong("`.part` marks what is not finished"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RemoteName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The name a file has until it is whole: `NAME.HASH16.part`. The hash makes sure that what is resumed is the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Temporary(String);

impl Temporary {
    /// The temporary name of this content.
    pub fn of(name: &RemoteName, digest: &Digest) -> Self {
        Self(format!("{name}.{}.part", &digest.hex()[..16]))
    }
}

impl fmt::Display for Temporary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// One of a file's two names.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a>(&'a str);

impl<'a> Entry<'a> {
    /// The name as text.
    pub fn text(self) -> &'a str {
        self.0
    }
}

impl<'a> From<&'a RemoteName> for Entry<'a> {
    fn from(name: &'a RemoteName) -> Self {
        Self(&name.0)
    }
}

impl<'a> From<&'a Temporary> for Entry<'a> {
    fn from(name: &'a Temporary) -> Self {
        Self(&name.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_are_refused() {
        for text in [
            "", ".hidden", " x", "-rf", "~x", "a/b", "a..b", "..", "a b", "a\nb", "a;b", "a$b", "a'b", "a\"b", "a`b",
            "a\\b", "a&b", "a:b", "a%41", "a?b", "a*b", "a|b", "a{b", "a}b", "a^b", "a<b", "a>b", "a(b", "ä", "a\0",
            "a.part",
        ] {
            assert!(text.parse::<RemoteName>().is_err(), "{text:?}");
        }
        assert!("x".repeat(234).parse::<RemoteName>().is_err());
        for text in ["makina-states-lxc-12.tar.xz", "a+b,c=d@e~f_g", &"x".repeat(233)] {
            text.parse::<RemoteName>().unwrap();
        }
    }

    #[test]
    fn the_temporary_name_carries_the_hash() {
        let name = "a-lxc-1.tar.xz".parse().unwrap();
        assert_eq!(Temporary::of(&name, &Digest::of(b"")).to_string(), "a-lxc-1.tar.xz.e3b0c44298fc1c14.part");
    }
}
