//! Names of images: a repository and a tag, as engines and registries spell them.
//!
//! Grammar: `distribution/reference` (repository components `[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*` joined by `/`,
//! an optional first component that is a host with an optional port; tag `[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}`).

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind};

/// A repository and a tag; without a tag in the text the tag is `latest`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    repository: String,
    tag: String,
}

impl ImageName {
    /// The part before the tag, for example `makina-states/ubuntu`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, for example `latest`.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The same repository under another tag, which must be a valid one.
    pub fn with_tag(&self, tag: &str) -> Result<Self, Error> {
        format!("{}:{tag}", self.repository).parse()
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.repository, self.tag)
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::new(Kind::Usage, format!("`{text}` is not an image name: {why}"))
                .hint("image names look like `host:5000/group/name:tag`; only host and port, and the tag, may hold upper-case letters")
        };
        if text.contains('@') {
            return Err(wrong("a digest cannot be a name here"));
        }
        let (repository, tag) = match text.rsplit_once(':') {
            Some((repository, tag)) if !tag.contains('/') => (repository, tag),
            _ => (text, "latest"),
        };
        let tag_is_valid = (1..=128).contains(&tag.len())
            && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
            && !tag.starts_with(['.', '-']);
        if !tag_is_valid {
            return Err(wrong("the tag is not valid"));
        }
        if repository.is_empty() || repository.len() > 255 {
            return Err(wrong("the repository must have 1 to 255 characters"));
        }
        let mut components = repository.split('/').peekable();
        let first = components.peek().copied().unwrap_or_default();
        if repository.contains('/') && (first.contains(['.', ':']) || first == "localhost" || first.starts_with('[')) {
            if !is_host(first) {
                return Err(wrong("the host is not valid"));
            }
            components.next();
        }
        if !components.all(is_component) {
            return Err(wrong("a part of the repository is not valid"));
        }
        Ok(Self { repository: repository.to_owned(), tag: tag.to_owned() })
    }
}

fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, "0"),
    };
    let host_is_valid = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => host.split('.').all(|label| {
            !label.is_empty()
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        }),
    };
    host_is_valid && port.parse::<u16>().is_ok()
}

fn is_component(text: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    if !bytes.first().copied().is_some_and(is_letter) || !bytes.last().copied().is_some_and(is_letter) {
        return false;
    }
    let separators = text.split(|character: char| character.is_ascii_lowercase() || character.is_ascii_digit());
    separators.into_iter().all(|run| matches!(run, "" | "." | "_" | "__") || run.bytes().all(|byte| byte == b'-'))
}
