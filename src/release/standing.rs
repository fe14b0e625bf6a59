//! What the branch announces of an image and flavour, as it is now.

use std::collections::BTreeMap;

use super::Setup;
use crate::error::{Error, Kind, Result};
use crate::manifest::{Manifest, Paths, parse_version_file};
use crate::vocab::{Digest, Flavour, OsImage, ReleaseNumber};

/// What is announced.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The branch's tip.
    pub commit: Option<String>,
    /// The number in the version file.
    pub version: Option<ReleaseNumber>,
    /// The manifest.
    pub manifest: Option<Manifest>,
    /// The number that was withdrawn last.
    pub withdrawn: Option<ReleaseNumber>,
    /// The files, by path.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
}

impl Standing {
    /// Fetches the branch and reads it.
    pub fn read(setup: &Setup, image: &OsImage, flavour: &Flavour) -> Result<Self> {
        let paths = Paths::new(image, flavour);
        let tip = setup.git.read(&[
            &paths.manifest,
            &paths.signature,
            &paths.minisignature,
            &paths.version,
            &paths.md5,
            &paths.withdrawn,
        ])?;
        let bytes = |path: &str| tip.files.get(path).and_then(Option::as_deref);
        let number = |path: &str| bytes(path).map(|bytes| parse_version_file(bytes, path)).transpose();
        let manifest = bytes(&paths.manifest).map(Manifest::parse).transpose()?;
        if let Some(other) = manifest.as_ref().filter(|other| (&other.image, &other.flavor) != (image, flavour)) {
            return Err(Error::new(
                Kind::Conflict,
                format!("`{}` is the manifest of image `{}`, flavour `{}`", paths.manifest, other.image, other.flavor),
            )
            .hint("two images with flavours have one file name: rename one of them"));
        }
        Ok(Self {
            version: number(&paths.version)?,
            manifest,
            withdrawn: number(&paths.withdrawn)?,
            commit: tip.commit,
            files: tip.files,
        })
    }

    /// The highest number that was ever used, as far as the branch tells.
    pub fn highest(&self) -> Option<ReleaseNumber> {
        self.version.max(self.withdrawn).max(self.manifest.as_ref().map(|manifest| manifest.version))
    }

    /// The digests of the files as they stand, for a change that must not overtake another.
    pub(super) fn expected(&self) -> BTreeMap<String, Option<Digest>> {
        self.files.iter().map(|(path, bytes)| (path.clone(), bytes.as_deref().map(Digest::of))).collect()
    }
}
