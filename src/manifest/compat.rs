//! The files and words that readers of older releases know, to the byte.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::error::{Error, Kind, Result};
use crate::vocab::{Flavour, OsImage, ReleaseNumber};

/// An MD5, for readers of older releases; castoff decides nothing by it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Md5([u8; 16]);

impl Md5 {
    /// The sum with these 16 bytes.
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The MD5 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        use md5::Digest as _;
        Self(md5::Md5::digest(bytes).into())
    }
}

impl fmt::Display for Md5 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for Md5 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for Md5 {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let is_sum = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !is_sum {
            let shown: String = text.chars().take(40).flat_map(char::escape_debug).collect();
            return Err(
                Error::new(Kind::Usage, format!("`{shown}` is not an MD5")).hint("an MD5 has 32 lower-case hex digits")
            );
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |at: usize| (pair[at] as char).to_digit(16).map_or(0, |digit| digit.to_le_bytes()[0]);
            *byte = digit(0) << 4 | digit(1);
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Md5 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Md5 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where the files of one image and flavour stand in the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The manifest.
    pub manifest: String,
    /// Its OpenSSH signature.
    pub signature: String,
    /// Its minisign signature.
    pub minisignature: String,
    /// The number of the release.
    pub version: String,
    /// The MD5 of its `.tar.xz`.
    pub md5: String,
    /// The number that was withdrawn last, where one was.
    pub withdrawn: String,
}

impl Paths {
    /// The paths below the repository's root, `/` between the names.
    pub fn new(image: &OsImage, flavour: &Flavour) -> Self {
        let manifest = format!("versions/{image}-{flavour}_manifest.json");
        let version = format!("versions/{image}-{flavour}_version.txt");
        Self {
            signature: format!("{manifest}.sig"),
            minisignature: format!("{manifest}.minisig"),
            manifest,
            md5: format!("{version}.md5"),
            version,
            withdrawn: format!("versions/{image}-{flavour}_withdrawn.txt"),
        }
    }
}

/// The subject of the commit that announces a release.
pub fn commit_subject(image: &OsImage, flavour: &Flavour, version: ReleaseNumber) -> String {
    format!("new release {image}/{flavour}/{version}")
}

/// The content of the version file.
pub fn version_file(version: ReleaseNumber) -> Vec<u8> {
    version.to_string().into_bytes()
}

/// The content of the MD5 file.
pub fn md5_file(md5: Md5) -> Vec<u8> {
    md5.to_string().into_bytes()
}

/// The number in a version file; white space around it is forgiven, nothing else is.
///
/// A file that holds no number is an error: the original took it for `never released` and would have begun again at 1.
pub fn parse_version_file(bytes: &[u8], path: &str) -> Result<ReleaseNumber> {
    content(bytes, path, "the number of a release")
}

/// The sum in an MD5 file; white space around it is forgiven.
pub fn parse_md5_file(bytes: &[u8], path: &str) -> Result<Md5> {
    content(bytes, path, "an MD5")
}

fn content<T: FromStr<Err = Error>>(bytes: &[u8], path: &str, what: &str) -> Result<T> {
    let wrong = || {
        Error::new(Kind::Corrupt, format!("`{path}` does not hold {what}"))
            .hint("look at its history in the repository and put the right content back")
    };
    let text = std::str::from_utf8(bytes.get(..bytes.len().min(256)).unwrap_or_default()).map_err(|_| wrong())?;
    text.trim_ascii().parse().map_err(|error: Error| wrong().caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_those_of_the_original_to_the_byte() {
        let (image, flavour) = ("makina-states-trusty".parse().unwrap(), "lxc".parse().unwrap());
        let paths = Paths::new(&image, &flavour);
        assert_eq!(paths.version, "versions/makina-states-trusty-lxc_version.txt");
        assert_eq!(paths.md5, "versions/makina-states-trusty-lxc_version.txt.md5");
        let version = "25".parse().unwrap();
        assert_eq!(version_file(version), b"25");
        assert_eq!(commit_subject(&image, &flavour, version), "new release makina-states-trusty/lxc/25");
        // `printf abc | md5sum`
        assert_eq!(md5_file(Md5::of(b"abc")), b"900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn a_corrupt_file_is_not_a_first_release() {
        assert_eq!(parse_version_file(b" 25\n", "v").unwrap().get(), 25);
        let long = [b'1'; 300];
        for bad in [&b""[..], b"\n", b"0", b"25a", b"2 5", b"-1", b"\xff", b"99999999999", &long] {
            assert_eq!(parse_version_file(bad, "v").unwrap_err().kind(), Kind::Corrupt, "{bad:?}");
        }
        assert!(parse_md5_file(b"900150983cd24fb0d6963f7d28e17f72\n", "m").is_ok());
        for bad in [&b""[..], b"900150983CD24FB0D6963F7D28E17F72", b"900150983cd24fb0d6963f7d28e17f7", b"\xff"] {
            assert!(parse_md5_file(bad, "m").is_err(), "{bad:?}");
        }
    }
}
