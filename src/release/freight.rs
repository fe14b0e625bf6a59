//! What a release carries: files of this host that are whole, or what an older release has published.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::archive;
use crate::error::{Error, Result};
use crate::manifest::{
    Artefact, Compression, Content, Manifest, Md5, Patch, PatchCodec, PrivilegedPath, archive_name, patch_name,
};
use crate::vocab::{DiffId, Digest, FileName, Flavour, OsImage, ReleaseNumber};

/// A whole archive on this host, with all that is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archived {
    /// The digest of the bare tar.
    pub diff_id: DiffId,
    /// The bytes of the bare tar.
    pub tar_size: u64,
    /// The canonical digest of the tree.
    pub tree: Digest,
    /// Its files: one for each compression, `.tar.xz` among them.
    pub files: Vec<ArchivedFile>,
    /// Files in it with setuid, setgid or capabilities.
    pub privileged: BTreeSet<PrivilegedPath>,
    /// Cheaper ways to its tar for those who hold an older one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<ArchivedPatch>,
}

/// One file of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedFile {
    /// Where it is.
    pub path: PathBuf,
    /// How it is compressed.
    pub compression: Compression,
    /// Its bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub sha256: Digest,
    /// For readers of older releases.
    pub md5: Md5,
}

/// A file that makes the archive's bare tar of an older one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivedPatch {
    /// Where it is.
    pub path: PathBuf,
    /// The bare tar it starts from.
    pub from: DiffId,
    /// Its bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub sha256: Digest,
}

/// A file on its way to the targets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parcel {
    /// What it is called there.
    pub(super) name: FileName,
    /// Where it is on this host.
    pub(super) path: PathBuf,
    /// Its bytes.
    pub(super) size: u64,
    /// The digest of its bytes.
    pub(super) sha256: Digest,
}

impl Archived {
    /// Everything that goes to the targets under this number, archives first.
    pub(super) fn parcels(&self, image: &OsImage, flavour: &Flavour, number: ReleaseNumber) -> Result<Vec<Parcel>> {
        let file = |file: &ArchivedFile| {
            let ArchivedFile { path, compression, size, sha256, .. } = file.clone();
            Ok(Parcel { name: archive_name(image, flavour, number, compression)?, path, size, sha256 })
        };
        let patch = |patch: &ArchivedPatch| {
            let ArchivedPatch { path, from, size, sha256 } = patch.clone();
            Ok(Parcel { name: patch_name(image, flavour, number, from)?, path, size, sha256 })
        };
        self.files.iter().map(file).chain(self.patches.iter().map(patch)).collect()
    }
}

impl TryFrom<&archive::Archived> for Archived {
    type Error = Error;

    fn try_from(made: &archive::Archived) -> Result<Self> {
        let file = |artefact: &archive::Artefact| {
            Ok(ArchivedFile {
                path: artefact.path.clone(),
                compression: match artefact.compression {
                    archive::Compression::Xz => Compression::Xz,
                    archive::Compression::Zstd { .. } => Compression::Zstd,
                },
                size: artefact.sums.size,
                sha256: artefact.sums.sha256,
                md5: artefact.sums.md5.parse()?,
            })
        };
        Ok(Self {
            diff_id: made.diff_id,
            tar_size: made.tar_size,
            tree: made.tree,
            files: made.artefacts.iter().map(file).collect::<Result<_>>()?,
            privileged: made.privileged.iter().cloned().map(PrivilegedPath).collect(),
            patches: Vec::new(),
        })
    }
}

/// What is released.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Freight {
    /// Files of this host, to be uploaded.
    New(Archived),
    /// What this older release has published, once more under a new number.
    Again(Box<Manifest>),
}

impl Freight {
    /// The manifest of this under a number, times and addresses still to be filled in.
    pub fn manifest(&self, image: &OsImage, flavour: &Flavour, number: ReleaseNumber) -> Result<Manifest> {
        let (content, setuid, patches) = match self {
            Self::New(archived) => {
                let artefact = |file: &ArchivedFile| {
                    Ok(Artefact {
                        name: archive_name(image, flavour, number, file.compression)?,
                        compression: file.compression,
                        size: file.size,
                        sha256: file.sha256,
                        md5: file.md5,
                    })
                };
                let artefacts = archived.files.iter().map(artefact).collect::<Result<_>>()?;
                let Archived { diff_id, tar_size, tree, .. } = *archived;
                let patch = |patch: &ArchivedPatch| {
                    Ok(Patch {
                        from: patch.from,
                        to: diff_id,
                        to_size: tar_size,
                        name: patch_name(image, flavour, number, patch.from)?,
                        codec: PatchCodec::ZstdPatchFrom,
                        size: patch.size,
                        sha256: patch.sha256,
                    })
                };
                let patches = archived.patches.iter().map(patch).collect::<Result<_>>()?;
                (Content { diff_id, tar_size, tree, artefacts }, archived.privileged.clone(), patches)
            }
            Self::Again(old) => {
                let Manifest { diff_id, tar_size, tree, .. } = **old;
                let content = Content { diff_id, tar_size, tree, artefacts: old.artefacts.clone() };
                (content, old.setuid.clone(), old.patches.clone())
            }
        };
        let mut manifest = Manifest::new(image.clone(), flavour.clone(), number, content);
        (manifest.setuid, manifest.patches) = (setuid, patches);
        Ok(manifest)
    }

    /// The digests of its archives, which say whether two are the same.
    pub fn digests(&self) -> BTreeSet<Digest> {
        match self {
            Self::New(archived) => archived.files.iter().map(|file| file.sha256).collect(),
            Self::Again(old) => old.artefacts.iter().map(|artefact| artefact.sha256).collect(),
        }
    }

    /// The digest of its tree.
    pub fn tree(&self) -> Digest {
        match self {
            Self::New(archived) => archived.tree,
            Self::Again(old) => old.tree,
        }
    }
}
