//! Names of images in registries: `HOST[:PORT]/REPOSITORY[:TAG][@DIGEST]`, Docker's short forms included.

use std::fmt;
use std::str::FromStr;

use crate::error::{Context as _, Error, Kind};
use crate::vocab::{Digest, ImageName};

/// The registry that a name without a host means.
pub(super) const DOCKER_HUB: &str = "docker.io";
/// Other names of the same.
const DOCKER_HUB_TOO: [&str; 2] = ["index.docker.io", "registry-1.docker.io"];

/// An image in a registry. Without a tag and a digest it is the tag `latest`; a digest counts more than a tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistryName {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl RegistryName {
    /// The registry, with its port if one is said.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository in it: `group/name`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if it counts.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref().filter(|_| self.digest.is_none())
    }

    /// The digest of the manifest, if one is said.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// What stands behind `manifests/` in the registry's addresses.
    pub fn reference(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_else(|| "latest".to_owned()),
        }
    }

    /// The name of the image in engines and the store; none for one that only a digest names.
    pub fn image_name(&self) -> Option<ImageName> {
        format!("{}/{}:{}", self.host, self.repository, self.tag()?).parse().ok()
    }
}

impl fmt::Display for RegistryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.host, self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(formatter, "@{digest}"),
            (None, Some(tag)) => write!(formatter, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

/// The host as it is compared: lower case, one name for Docker Hub.
pub(super) fn canonical_host(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    if DOCKER_HUB_TOO.contains(&host.as_str()) { DOCKER_HUB.to_owned() } else { host }
}

impl FromStr for RegistryName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || format!("`{text}` does not name an image of a registry");
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.parse::<Digest>().context(wrong)?)),
            None => (text, None),
        };
        let image = name.parse::<ImageName>().context(wrong)?;
        let has_tag = name.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'));
        let full = image.repository();
        let (host, repository) = match full.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (canonical_host(host), rest),
            _ => (DOCKER_HUB.to_owned(), full),
        };
        let repository = if host == DOCKER_HUB && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if repository.is_empty() {
            return Err(Error::new(Kind::Usage, wrong()));
        }
        let tag = (has_tag || digest.is_none()).then(|| image.tag().to_owned());
        Ok(Self { host, repository, tag, digest })
    }
}

#[cfg(test)]
mod tests {
    use super::RegistryName;

    #[test]
    fn a_name_is_a_host_a_repository_and_a_tag_or_digest() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for (text, shown, store) in [
            ("debian", "docker.io/library/debian:latest".to_owned(), true),
            ("index.docker.io/group/name:1", "docker.io/group/name:1".to_owned(), true),
            ("localhost/name", "localhost/name:latest".to_owned(), true),
            ("127.0.0.1:5000/a:1", "127.0.0.1:5000/a:1".to_owned(), true),
            ("Quay.example/g/n:6.1-main", "quay.example/g/n:6.1-main".to_owned(), true),
            ("[::1]:5000/a", "[::1]:5000/a:latest".to_owned(), true),
            (&format!("h.example/a:1@{digest}"), format!("h.example/a@{digest}"), false),
            (&format!("debian@{digest}"), format!("docker.io/library/debian@{digest}"), false),
        ] {
            let name: RegistryName = text.parse().unwrap();
            assert_eq!((name.to_string(), name.image_name().is_some()), (shown, store), "{text}");
        }
        for bad in ["", "h.example/", "h.example/A", "a@sha256:12", "a@b", "-x/y", "h.example/../a", "a b", "a:b:c"] {
            assert!(bad.parse::<RegistryName>().is_err(), "{bad:?}");
        }
    }
}
