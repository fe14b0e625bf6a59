//! Manifests, indexes, descriptors and their media types, in the OCI and in the Docker spelling.
//!
//! Members that are not known here are kept when an index is written again.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::vocab::Digest;

/// The media types of image parts.
pub mod media_type {
    /// OCI index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, bare tar.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// OCI layer, gzip.
    pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, zstd.
    pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// The beginning of both Docker schema 1 types.
    pub const DOCKER_SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1";
}

/// The annotation that names an image in an index.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The annotation by which containerd and Docker's containerd store name an image.
pub const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Members a document has besides those known here.
pub(crate) type Other = serde_json::Map<String, serde_json::Value>;

/// Names some content by media type, digest and size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default)]
    pub media_type: String,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The number of its bytes.
    pub size: u64,
    /// Where else the content can be had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub urls: Option<Vec<String>>,
    /// Words about the content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// The platform of the image it names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Members not known here.
    #[serde(flatten)]
    pub other: Other,
}

impl Descriptor {
    /// A descriptor with nothing besides.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: None,
            annotations: None,
            platform: None,
            other: Other::new(),
        }
    }

    /// An annotation's text.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str)
    }

    /// Sets or removes an annotation.
    pub fn annotate(&mut self, name: &str, text: Option<&str>) {
        let annotations = self.annotations.get_or_insert_default();
        match text {
            Some(text) => annotations.insert(name.to_owned(), text.to_owned()),
            None => annotations.remove(name),
        };
        if annotations.is_empty() {
            self.annotations = None;
        }
    }

    /// Whether its media type is that of an index or manifest list.
    pub fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), media_type::OCI_INDEX | media_type::DOCKER_LIST)
    }
}

/// The operating system and processor an image is for, in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// The processor architecture: `amd64`, `arm64`, `arm` …
    #[serde(default)]
    pub architecture: String,
    /// The operating system: `linux`.
    #[serde(default)]
    pub os: String,
    /// The processor's variant: `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// Linux on the processor castoff was built for.
    pub fn host() -> Self {
        Self::linux(match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" => "ppc64le",
            "loongarch64" => "loong64",
            other => other,
        })
    }

    /// Linux on this architecture.
    pub fn linux(architecture: &str) -> Self {
        Self { architecture: architecture.to_owned(), os: "linux".to_owned(), variant: None }
    }

    /// Whether an image of platform `offered` is meant by this one; a variant counts only when both name one.
    pub fn accepts(&self, offered: &Self) -> bool {
        let same_variant = match (&self.variant, &offered.variant) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        };
        self.os == offered.os && self.architecture == offered.architecture && same_variant
    }
}

impl std::str::FromStr for Platform {
    type Err = Error;

    /// `OS/ARCHITECTURE[/VARIANT]`; an architecture alone is Linux on it.
    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.len() < 64
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        let of = |os: &str, architecture: &str, variant: Option<&str>| Self {
            architecture: architecture.to_owned(),
            os: os.to_owned(),
            variant: variant.map(str::to_owned),
        };
        match parts[..] {
            _ if !parts.iter().all(is_word) => {}
            [architecture] => return Ok(of("linux", architecture, None)),
            [os, architecture] => return Ok(of(os, architecture, None)),
            [os, architecture, variant] => return Ok(of(os, architecture, Some(variant))),
            _ => {}
        }
        Err(Error::new(Kind::Usage, format!("`{}` is not a platform", text.escape_debug()))
            .hint("platforms look like `linux/amd64` or `linux/arm/v7`"))
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(formatter, "/{variant}"))
    }
}

/// A manifest: one image's configuration and layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2 for everything that is read here.
    pub schema_version: u32,
    /// What it is, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// The configuration.
    pub config: Descriptor,
    /// The layers, bottom first.
    pub layers: Vec<Descriptor>,
    /// Members not known here.
    #[serde(flatten)]
    pub other: Other,
}

impl Manifest {
    /// An OCI manifest of this configuration and these layers.
    pub fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            config,
            layers,
            other: Other::new(),
        }
    }
}

/// An index: manifests, or further indexes, by name and platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2 for everything that is read here.
    pub schema_version: u32,
    /// What it is, in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// What it lists.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
    /// Members not known here.
    #[serde(flatten)]
    pub other: Other,
}

impl Index {
    /// An OCI index of these manifests.
    pub fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: Some(media_type::OCI_INDEX.to_owned()), manifests, other: Other::new() }
    }
}
