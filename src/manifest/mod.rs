//! The manifest of one release of one image in one flavour: what there is to fetch, and how to know it is that.
//!
//! The manifest's bytes are what is signed; everything a host decides by stands in them, the image's own name included.
//! In the git repository, beside the files that readers of older releases know:
//!
//! ```text
//! versions/
//!   IMG-FLAVOR_manifest.json             this manifest
//!   IMG-FLAVOR_manifest.json.sig         its signature in the form of `ssh-keygen -Y sign`
//!   IMG-FLAVOR_manifest.json.minisig     the same by minisign, where there is one
//!   IMG-FLAVOR_version.txt               the number, without a newline
//!   IMG-FLAVOR_version.txt.md5           32 hex digits of the `.tar.xz`, without a newline
//! ```
//!
//! Pure: bytes and values in, values out. Knows no files, clock, network or publisher.

mod address;
mod compat;
mod names;
mod parse;
mod patch;
mod route;
mod rules;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::vocab::{DiffId, Digest, FileName, Flavour, OsImage, ReleaseNumber};

pub use address::Address;
pub use compat::{Md5, Paths, commit_subject, md5_file, parse_md5_file, parse_version_file, version_file};
pub use names::{archive_name, parse_archive_name, patch_name};
pub use parse::MANIFEST_LIMIT;
pub use patch::{PATCH_PERCENT, PatchLimits, apply, make, most_worth, worth_keeping};
pub use route::{MOST_HOPS, Route, RouteLimits, route};
pub use rules::{Expected, Highest, Verdict};

/// The format this castoff writes and the only one it reads.
pub const FORMAT: u32 = 1;

/// How an artefact is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// `.tar.xz`: every release has it.
    Xz,
    /// `.tar.zst`: larger, and ten times cheaper to unpack.
    Zstd,
}

impl Compression {
    /// What the file's name ends with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Xz => ".tar.xz",
            Self::Zstd => ".tar.zst",
        }
    }
}

/// How a patch is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PatchCodec {
    /// A zstd frame whose window begins with the base (`zstd --patch-from`).
    #[serde(rename = "zstd-patch-from")]
    ZstdPatchFrom,
}

/// A file that holds the whole image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artefact {
    /// Its name: that of the image, the flavour and the release whose bytes it holds.
    pub name: FileName,
    /// How it is compressed.
    pub compression: Compression,
    /// Its bytes.
    pub size: u64,
    /// The digest of its bytes, which decides.
    pub sha256: Digest,
    /// For readers of older releases; decides nothing.
    pub md5: Md5,
}

/// A file that makes one bare tar of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Patch {
    /// The bare tar it starts from.
    pub from: DiffId,
    /// The bare tar it makes.
    pub to: DiffId,
    /// The bytes of the tar it makes: no more are ever written.
    pub to_size: u64,
    /// Its file's name.
    pub name: FileName,
    /// How it is applied.
    pub codec: PatchCodec,
    /// Its bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub sha256: Digest,
}

/// The path of a file that gains privileges, as bytes; written with octal escapes as getfacl(1) does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrivilegedPath(pub Vec<u8>);

/// What was released: see the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: Format,
    /// The image.
    pub image: OsImage,
    /// The flavour.
    pub flavor: Flavour,
    /// The number of this release.
    pub version: ReleaseNumber,
    /// When it was made.
    pub created: Moment,
    /// When a reader should begin to wonder why there is no newer one.
    pub expires: Moment,
    /// The digest of the bare tar.
    pub diff_id: DiffId,
    /// The bytes of the bare tar: no more are ever unpacked.
    pub tar_size: u64,
    /// The canonical digest of the tree, before any tar.
    pub tree: Digest,
    /// Where files are fetched from, the best first.
    pub urls: Vec<Address>,
    /// The whole image: `.tar.xz` first, always.
    pub artefacts: Vec<Artefact>,
    /// Cheaper ways to the image for those who hold an older one, sorted.
    pub patches: Vec<Patch>,
    /// Files with setuid, setgid or file capabilities: a new one is looked at before it is released.
    pub setuid: BTreeSet<PrivilegedPath>,
}

/// A file that a manifest names, whatever it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its name.
    pub name: &'a FileName,
    /// Its bytes.
    pub size: u64,
    /// The digest of its bytes.
    pub sha256: Digest,
}

/// A whole second since 1970, written as RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Format;

/// What a manifest is made of, where its fields do not say it already.
#[derive(Clone, Debug)]
pub struct Content {
    /// The digest of the bare tar.
    pub diff_id: DiffId,
    /// The bytes of the bare tar.
    pub tar_size: u64,
    /// The canonical digest of the tree.
    pub tree: Digest,
    /// The files that hold the whole image.
    pub artefacts: Vec<Artefact>,
}

impl Manifest {
    /// The manifest of this content; addresses, patches and privileged files are added to it afterwards.
    pub fn new(image: OsImage, flavor: Flavour, version: ReleaseNumber, content: Content) -> Self {
        let Content { diff_id, tar_size, tree, mut artefacts } = content;
        artefacts.sort_by_key(|artefact| artefact.compression);
        Self {
            format: Format,
            image,
            flavor,
            version,
            created: Moment(0),
            expires: Moment(0),
            diff_id,
            tar_size,
            tree,
            urls: Vec::new(),
            artefacts,
            patches: Vec::new(),
            setuid: BTreeSet::new(),
        }
    }

    /// The bytes to sign and publish: equal manifests have equal bytes. Fails where [`Manifest::parse`] would refuse them.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut sorted = self.clone();
        sorted.patches.sort();
        let mut bytes = serde_json::to_vec_pretty(&sorted)
            .map_err(|error| Error::new(Kind::Failed, "cannot write the manifest as JSON").caused_by(error))?;
        bytes.push(b'\n');
        Self::parse(&bytes)?;
        Ok(bytes)
    }

    /// Every file that it names: the archives, then the patches.
    pub fn files(&self) -> impl Iterator<Item = Listed<'_>> {
        let archives =
            self.artefacts.iter().map(|file| Listed { name: &file.name, size: file.size, sha256: file.sha256 });
        let patches =
            self.patches.iter().map(|patch| Listed { name: &patch.name, size: patch.size, sha256: patch.sha256 });
        archives.chain(patches)
    }

    /// The `.tar.xz`, which every manifest has.
    pub fn archive(&self) -> Result<&Artefact> {
        self.artefact(Compression::Xz).ok_or_else(|| {
            Error::new(Kind::Corrupt, format!("the manifest of `{}-{}` has no `.tar.xz`", self.image, self.flavor))
        })
    }

    /// The file of this compression, if there is one.
    pub fn artefact(&self, compression: Compression) -> Option<&Artefact> {
        self.artefacts.iter().find(|artefact| artefact.compression == compression)
    }

    /// Where a file of this release may be fetched, the best place first.
    pub fn places(&self, file: &FileName) -> Vec<String> {
        self.urls.iter().map(|address| address.of(file)).collect()
    }
}
