//! Image references: where an image is, in the spelling of skopeo and podman.
//!
//! ```text
//! docker-daemon:NAME            an image of the Docker engine
//! docker-archive:FILE[:NAME]    a file in `docker save` form
//! oci:DIR[:TAG]                 an OCI image layout
//! oci-archive:FILE[:TAG]        an OCI image layout in a tar
//! docker://HOST/NAME            an image of an OCI registry
//! store:NAME                    castoff's own store
//! dir:PATH                      a root filesystem directory
//! tar:FILE                      a root filesystem tar
//! NAME                          an image of the configured default engine
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use super::{Digest, ImageName};
use crate::error::{Error, Kind};

/// The word before the colon of a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// An image of the Docker engine.
    DockerDaemon,
    /// A file in `docker save` form.
    DockerArchive,
    /// An OCI image layout in a directory.
    Oci,
    /// An OCI image layout in a tar file.
    OciArchive,
    /// An OCI registry.
    Docker,
    /// castoff's own store.
    Store,
    /// A root filesystem directory.
    Dir,
    /// A root filesystem tar.
    Tar,
    /// The configured default engine.
    Default,
}

/// Where an image is, or where it shall go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// An image of the Docker engine, by name or image ID.
    DockerDaemon(EngineImage),
    /// A file in `docker save` form, and which image of it.
    DockerArchive {
        /// The file.
        file: PathBuf,
        /// The image in it; without one: the only image when reading, the source's tags when writing.
        name: Option<ImageName>,
    },
    /// An OCI image layout in a directory.
    Oci {
        /// The layout's directory.
        directory: PathBuf,
        /// `org.opencontainers.image.ref.name` of the image in its index.
        tag: Option<String>,
    },
    /// An OCI image layout in a tar file.
    OciArchive {
        /// The file.
        file: PathBuf,
        /// `org.opencontainers.image.ref.name` of the image in its index.
        tag: Option<String>,
    },
    /// An image of an OCI registry: the text behind `docker://`.
    Registry(String),
    /// An image of castoff's own store.
    Store(EngineImage),
    /// A root filesystem directory.
    Dir(PathBuf),
    /// A root filesystem tar.
    Tar(PathBuf),
    /// A name without a transport: an image of the configured default engine.
    Default(EngineImage),
}

/// How an engine or the store knows an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineImage {
    /// By repository and tag.
    Name(ImageName),
    /// By the digest of its configuration.
    Id(Digest),
}

impl fmt::Display for EngineImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => fmt::Display::fmt(name, formatter),
            Self::Id(id) => fmt::Display::fmt(id, formatter),
        }
    }
}

impl FromStr for EngineImage {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.starts_with("sha256:") { text.parse().map(Self::Id) } else { text.parse().map(Self::Name) }
    }
}

impl Reference {
    /// The reference's transport.
    pub fn transport(&self) -> Transport {
        match self {
            Self::DockerDaemon(_) => Transport::DockerDaemon,
            Self::DockerArchive { .. } => Transport::DockerArchive,
            Self::Oci { .. } => Transport::Oci,
            Self::OciArchive { .. } => Transport::OciArchive,
            Self::Registry(_) => Transport::Docker,
            Self::Store(_) => Transport::Store,
            Self::Dir(_) => Transport::Dir,
            Self::Tar(_) => Transport::Tar,
            Self::Default(_) => Transport::Default,
        }
    }

    /// The image name a tagged copy of this image would carry, where the reference has one.
    pub fn image_name(&self) -> Option<&ImageName> {
        match self {
            Self::DockerDaemon(EngineImage::Name(name))
            | Self::Store(EngineImage::Name(name))
            | Self::Default(EngineImage::Name(name))
            | Self::DockerArchive { name: Some(name), .. } => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_tag = |formatter: &mut fmt::Formatter<'_>, word: &str, path: &PathBuf, tag: Option<String>| {
            write!(formatter, "{word}:{}", path.display())?;
            tag.map_or(Ok(()), |tag| write!(formatter, ":{tag}"))
        };
        match self {
            Self::DockerDaemon(image) => write!(formatter, "docker-daemon:{image}"),
            Self::DockerArchive { file, name } => {
                with_tag(formatter, "docker-archive", file, name.as_ref().map(ToString::to_string))
            }
            Self::Oci { directory, tag } => with_tag(formatter, "oci", directory, tag.clone()),
            Self::OciArchive { file, tag } => with_tag(formatter, "oci-archive", file, tag.clone()),
            Self::Registry(rest) => write!(formatter, "docker://{rest}"),
            Self::Store(image) => write!(formatter, "store:{image}"),
            Self::Dir(path) => write!(formatter, "dir:{}", path.display()),
            Self::Tar(path) => write!(formatter, "tar:{}", path.display()),
            Self::Default(image) => fmt::Display::fmt(image, formatter),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (word, rest) = text.split_once(':').unwrap_or((text, ""));
        let path = |rest: &str| match rest {
            "" => Err(Error::new(Kind::Usage, format!("`{text}` names no path behind `{word}:`"))),
            path if path.contains('\0') => Err(Error::new(Kind::Usage, "a path cannot hold a NUL byte")),
            path => Ok(PathBuf::from(path)),
        };
        match word {
            "docker-daemon" => Ok(Self::DockerDaemon(rest.parse()?)),
            "store" => Ok(Self::Store(rest.parse()?)),
            "dir" => Ok(Self::Dir(path(rest)?)),
            "tar" => Ok(Self::Tar(path(rest)?)),
            "docker-archive" => {
                // FILE may not hold a colon (as in skopeo); NAME may.
                let (file, name) = rest.split_once(':').map_or((rest, None), |(file, name)| (file, Some(name)));
                Ok(Self::DockerArchive { file: path(file)?, name: name.map(str::parse).transpose()? })
            }
            "oci" | "oci-archive" => {
                let (place, tag) = rest.split_once(':').map_or((rest, None), |(place, tag)| (place, Some(tag)));
                let tag = tag.map(|tag| layout_tag(text, tag)).transpose()?;
                let place = path(place)?;
                Ok(if word == "oci" {
                    Self::Oci { directory: place, tag }
                } else {
                    Self::OciArchive { file: place, tag }
                })
            }
            "docker" if rest.starts_with("//") => Ok(Self::Registry(rest[2..].to_owned())),
            _ => match text.parse() {
                Ok(image) => Ok(Self::Default(image)),
                Err(error) if text.starts_with(['/', '.']) => Err(Error::new(
                    Kind::Usage,
                    format!("`{text}` is a path, not an image reference"),
                )
                .caused_by(error)
                .hint(format!("say what it is: `docker-archive:{text}`, `oci:{text}`, `oci-archive:{text}`, `dir:{text}` or `tar:{text}`"))),
                Err(error) => Err(error),
            },
        }
    }
}

/// `org.opencontainers.image.ref.name` as the OCI image specification's annotation rules allow it.
fn layout_tag(text: &str, tag: &str) -> Result<String, Error> {
    let valid = !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:@/+".contains(&byte));
    if valid {
        Ok(tag.to_owned())
    } else {
        Err(Error::new(Kind::Usage, format!("`{text}`: `{tag}` is not a reference name of an OCI layout"))
            .hint("letters, digits and `-._:@/+` are allowed"))
    }
}
