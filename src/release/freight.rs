//! What a release carries: files of this host that are whole, or what an older release has published.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::manifest::{Artefact, Compression, Content, Manifest, Md5, PrivilegedPath, archive_name};
use crate::vocab::{DiffId, Digest, Flavour, OsImage, ReleaseNumber};

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
        let (content, setuid) = match self {
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
                (Content { diff_id, tar_size, tree, artefacts }, archived.privileged.clone())
            }
            Self::Again(old) => {
                let Manifest { diff_id, tar_size, tree, .. } = **old;
                (Content { diff_id, tar_size, tree, artefacts: old.artefacts.clone() }, old.setuid.clone())
            }
        };
        let mut manifest = Manifest::new(image.clone(), flavour.clone(), number, content);
        manifest.setuid = setuid;
        Ok(manifest)
    }

    /// The digests of its files, which say whether two are the same.
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
