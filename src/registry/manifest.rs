//! What a registry calls an image: a manifest, or an index of manifests for several platforms.

use crate::error::{Error, Kind, Result};
use crate::oci::{self, Descriptor, Index, Platform, media_type};
use crate::vocab::Digest;

/// The largest manifest that is read; the distribution specification asks registries for 4 MiB.
pub(super) const LARGEST: usize = 4 << 20;

/// What is taken for a manifest.
pub(super) const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// A manifest or index as it is served, byte for byte.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What it is.
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
}

impl Fetched {
    /// What was served as `said`; a document that calls itself something else is refused, because others would read it as
    /// something else.
    pub(super) fn new(bytes: Vec<u8>, said: Option<&str>, what: &str) -> Result<Self> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Own {
            #[serde(default)]
            media_type: Option<String>,
        }
        let own: Own = oci::parse(what, &bytes)?;
        let said = said.map(|said| said.split(';').next().unwrap_or_default().trim());
        let said = said.filter(|said| said.starts_with("application/vnd."));
        let media_type = match (own.media_type, said) {
            (Some(own), Some(said)) if own != said => {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!("{what} is served as `{}` and calls itself `{}`", said.escape_debug(), own.escape_debug()),
                ));
            }
            (Some(own), _) => own,
            (None, said) => said.unwrap_or(media_type::OCI_MANIFEST).to_owned(),
        };
        Ok(Self { digest: Digest::of(&bytes), bytes, media_type })
    }

    /// The descriptor of it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.bytes.len() as u64)
    }

    /// The index it is, if it is one.
    pub fn index(&self, what: &str) -> Result<Option<Index>> {
        if !self.descriptor().is_index() {
            return Ok(None);
        }
        oci::parse(what, &self.bytes).map(Some)
    }
}

/// The manifest of an index for this platform; an error lists the platforms there are.
pub fn choose<'index>(index: &'index Index, platform: &Platform, what: &str) -> Result<&'index Descriptor> {
    let is_image = |other: &&Descriptor| {
        other.annotation("vnd.docker.reference.type").is_none()
            && other.platform.as_ref().is_none_or(|offered| offered.os != "unknown")
    };
    let images: Vec<&Descriptor> = index.manifests.iter().filter(is_image).collect();
    let fits = |other: &&&Descriptor| other.platform.as_ref().is_some_and(|offered| platform.accepts(offered));
    let same = |other: &&&Descriptor| other.platform.as_ref() == Some(platform);
    if let Some(found) = images.iter().find(same).or_else(|| images.iter().find(fits)) {
        return Ok(found);
    }
    if let [only] = images[..]
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let offered: Vec<String> =
        images.iter().filter_map(|other| other.platform.as_ref()).map(|offered| format!("`{offered}`")).collect();
    Err(Error::new(Kind::NotFound, format!("{what} has no image for `{platform}`")).hint(if offered.is_empty() {
        "it says of no image which platform it is for".to_owned()
    } else {
        format!("there are {}", offered.join(", "))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[&str]) -> Index {
        let of = |(number, text): (usize, &&str)| {
            let digest = Digest::of(&[u8::try_from(number).unwrap()]);
            let mut descriptor = Descriptor::new(media_type::OCI_MANIFEST, digest, 1);
            descriptor.platform = Some(text.parse().unwrap());
            descriptor
        };
        Index::new(platforms.iter().enumerate().map(of).collect())
    }

    #[test]
    fn the_platform_itself_comes_before_one_that_fits_and_none_is_an_error_with_a_list() {
        let found = index(&["unknown/unknown", "linux/arm/v7", "linux/arm/v6", "linux/arm64/v8"]);
        let chosen = |text: &str| {
            let platform: Platform = text.parse().unwrap();
            choose(&found, &platform, "it").map(|found| found.platform.clone().unwrap().to_string())
        };
        assert_eq!(chosen("linux/arm/v6").unwrap(), "linux/arm/v6");
        assert_eq!(chosen("linux/arm").unwrap(), "linux/arm/v7");
        assert_eq!(chosen("arm64").unwrap(), "linux/arm64/v8");
        let error = chosen("linux/amd64").unwrap_err();
        assert_eq!(error.next_step(), Some("there are `linux/arm/v7`, `linux/arm/v6`, `linux/arm64/v8`"));
    }

    #[test]
    fn a_document_that_is_served_as_something_else_is_refused() {
        let body = format!("{{\"mediaType\": \"{}\"}}", media_type::OCI_INDEX).into_bytes();
        assert!(Fetched::new(body.clone(), Some(media_type::OCI_MANIFEST), "it").is_err());
        let found = Fetched::new(body, Some("text/plain; charset=utf-8"), "it").unwrap();
        assert_eq!(found.media_type, media_type::OCI_INDEX);
    }
}
