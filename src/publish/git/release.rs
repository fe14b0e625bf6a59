//! What a release puts into the repository, and what already stands there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::manifest::{Manifest, Paths, commit_subject, md5_file, parse_version_file, version_file};
use crate::sign::ssh::Believed;
use crate::vocab::{Digest, Flavour, OsImage, ReleaseNumber};

/// A release as the repository announces it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Release {
    pub(super) image: OsImage,
    pub(super) flavour: Flavour,
    pub(super) number: ReleaseNumber,
    /// The digest of the `.tar.xz`, which says whether two releases of one number are one.
    pub(super) sha256: Digest,
    pub(super) files: BTreeMap<String, Vec<u8>>,
}

impl Release {
    /// The release that this manifest describes, whose signature somebody has judged.
    pub fn new(signed: &Believed<'_>, minisignature: Option<&str>) -> Result<Self> {
        let (manifest, signature) = (signed.message(), signed.signature());
        let parsed = Manifest::parse(manifest)?;
        let archive = parsed.archive()?;
        let paths = Paths::new(&parsed.image, &parsed.flavor);
        let mut files = BTreeMap::from([
            (paths.manifest, manifest.to_vec()),
            (paths.signature, signature.as_bytes().to_vec()),
            (paths.version, version_file(parsed.version)),
            (paths.md5, md5_file(archive.md5)),
        ]);
        if let Some(minisignature) = minisignature {
            files.insert(paths.minisignature, minisignature.as_bytes().to_vec());
        }
        Ok(Self { sha256: archive.sha256, image: parsed.image, flavour: parsed.flavor, number: parsed.version, files })
    }

    /// The commit's subject.
    pub fn subject(&self) -> String {
        commit_subject(&self.image, &self.flavour, self.number)
    }

    /// Where this release's files stand.
    pub fn paths(&self) -> Paths {
        Paths::new(&self.image, &self.flavour)
    }

    /// The files to replace; an older minisignature does not outlive the manifest it was for.
    #[cfg_attr(not(feature = "git"), expect(dead_code, reason = "the child asks"))]
    pub(super) fn changes(&self) -> BTreeMap<String, Option<Vec<u8>>> {
        let mut changes: BTreeMap<_, _> =
            self.files.iter().map(|(path, bytes)| (path.clone(), Some(bytes.clone()))).collect();
        changes.entry(self.paths().minisignature).or_insert(None);
        changes
    }

    /// What to do, given what stands at the tip. A number that was withdrawn is used up, whatever it was given to.
    #[cfg_attr(not(feature = "git"), expect(dead_code, reason = "the child asks"))]
    pub(super) fn decide(
        &self,
        version: Option<&[u8]>,
        manifest: Option<&[u8]>,
        withdrawn: Option<&[u8]>,
    ) -> Result<Decision> {
        let paths = self.paths();
        let version = version.map(|bytes| parse_version_file(bytes, &paths.version)).transpose()?;
        let withdrawn = withdrawn.map(|bytes| parse_version_file(bytes, &paths.withdrawn)).transpose()?;
        let manifest = manifest.map(Manifest::parse).transpose()?;
        if let Some(other) = &manifest
            && (&other.image, &other.flavor) != (&self.image, &self.flavour)
        {
            return Err(Error::new(
                Kind::Conflict,
                format!("`{}` is the manifest of image `{}`, flavour `{}`", paths.manifest, other.image, other.flavor),
            )
            .hint("two images with flavours have one file name: rename one of them"));
        }
        if let (Some(version), Some(manifest)) = (version, &manifest)
            && version < manifest.version
        {
            return Err(Error::new(
                Kind::Corrupt,
                format!("`{}` says {version}, `{}` says {}", paths.version, paths.manifest, manifest.version),
            )
            .hint("look at the repository's history and put the right content back"));
        }
        let Some(highest) = version.max(manifest.as_ref().map(|manifest| manifest.version)).max(withdrawn) else {
            return Ok(Decision::Announce);
        };
        if highest < self.number {
            return Ok(Decision::Announce);
        }
        // A version file above the manifest is a release by a publisher that knows no manifests: nobody knows its digest.
        let same = match &manifest {
            Some(manifest) if highest == self.number && manifest.version == self.number => {
                manifest.archive()?.sha256 == self.sha256
            }
            _ => false,
        };
        Ok(if same { Decision::Already } else { Decision::Conflict(highest) })
    }
}

/// What stands at the tip means that the release…
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// … is to be announced.
    Announce,
    /// … was announced before.
    Already,
    /// … has no right to its number any more; this is the highest one there.
    Conflict(ReleaseNumber),
}
