//! What was brought out of images into a folder, so that the same is not brought out again.
//!
//! ```text
//! STATE/pulled/HEX.json   HEX is the SHA-256 of the folder's path; one document, replaced as a whole
//! STATE/pulled/HEX.lock   flock: whoever brings something into the folder
//! ```

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs::{self, Lock};
use crate::oci::{self, JSON_LIMIT, VerifyingReader};
use crate::rootfs::FileRegion;
use crate::vocab::{DiffId, Digest};

/// A file of an image that belongs into the folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    /// Its path below the folder, as the image has it.
    pub(super) path: String,
    /// The layer that holds it.
    pub(super) layer: DiffId,
}

/// A file that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Written {
    /// What it was made of.
    from: Item,
    size: u64,
    mtime: (i64, i64),
    digest: Digest,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Document {
    folder: String,
    /// By path below the folder.
    files: BTreeMap<String, Written>,
    /// What whole images hold, by image ID.
    images: BTreeMap<String, Vec<Item>>,
}

/// What is known of a folder; nobody else brings anything in meanwhile.
pub(super) struct Extracted {
    folder: PathBuf,
    path: PathBuf,
    document: Document,
    _lock: Lock,
}

impl Extracted {
    /// What is known of this folder, whose path is absolute.
    pub(super) fn of(folder: &Path, state: &Path) -> Result<Self> {
        let own = state.join("pulled");
        fs::create_dir_all(&own, 0o700)?;
        let name = Digest::of(folder.as_os_str().as_bytes()).hex();
        let lock = Lock::exclusive(&own.join(format!("{name}.lock")))?;
        fs::sweep(&own)?;
        let path = own.join(format!("{name}.json"));
        let mut document = Document::default();
        if fs::exists(&path)? {
            // A record is a hint: one that cannot be read is none, and everything is written again.
            let bytes = fs::read_at_most(&path, JSON_LIMIT)?;
            document = serde_json::from_slice(&bytes).unwrap_or_default();
        }
        document.folder = folder.to_string_lossy().into_owned();
        Ok(Self { folder: folder.to_owned(), path, document, _lock: lock })
    }

    /// What an image holds, if it was looked at before.
    pub(super) fn items(&self, image: Option<Digest>) -> Option<Vec<Item>> {
        self.document.images.get(&image?.to_string()).cloned()
    }

    /// Whether the file at this path is what was made of the item, untouched: by size and time, else by content.
    pub(super) fn is_intact(&mut self, path: &str, item: &Item) -> Result<bool> {
        let Some(written) = self.document.files.get_mut(path).filter(|written| written.from == *item) else {
            return Ok(false);
        };
        let there = self.folder.join(path);
        let Some(found) = fs::link_metadata(&there)? else { return Ok(false) };
        if !found.is_file() || found.len() != written.size {
            return Ok(false);
        }
        if (found.mtime(), found.mtime_nsec()) == written.mtime {
            return Ok(true);
        }
        let file = Arc::new(fs::open_regular(&there, false)?);
        let (digest, _) = VerifyingReader::new(&FileRegion { file, start: 0, size: found.len() })?.finish()?;
        if digest == written.digest {
            written.mtime = (found.mtime(), found.mtime_nsec());
        }
        Ok(digest == written.digest)
    }

    /// Notes what was written at this path; without an item, only that the old note is void.
    pub(super) fn note(&mut self, path: &str, item: Option<&Item>, digest: Digest) -> Result<()> {
        self.document.files.remove(path);
        if let Some(item) = item {
            let there = self.folder.join(path);
            let found = fs::link_metadata(&there)?
                .ok_or_else(|| Error::new(Kind::Conflict, format!("`{}` was removed meanwhile", there.display())))?;
            let mtime = (found.mtime(), found.mtime_nsec());
            let written = Written { from: item.clone(), size: found.len(), mtime, digest };
            self.document.files.insert(path.to_owned(), written);
        }
        self.save()
    }

    /// Notes what a whole image holds, and forgets images of which nothing is here any more.
    pub(super) fn note_image(&mut self, image: Option<Digest>, items: &[Item]) -> Result<()> {
        let Some(image) = image else { return Ok(()) };
        let Document { files, images, .. } = &mut self.document;
        images.retain(|_, items| items.iter().any(|item| files.values().any(|file| file.from == *item)));
        images.insert(image.to_string(), items.to_vec());
        self.save()
    }

    fn save(&self) -> Result<()> {
        let bytes = serde_json::to_vec(&self.document)
            .map_err(|error| Error::new(Kind::Failed, "cannot write JSON").caused_by(error))?;
        fs::write_atomic(&self.path, 0o600, &bytes)
            .context(|| format!("cannot note what is in `{}`", self.folder.display()))
    }
}

/// The digest of bytes on their way into a file with holes; see [`oci::HoleWriter`].
pub(super) type Holes = oci::HashingWriter<oci::HoleWriter>;
