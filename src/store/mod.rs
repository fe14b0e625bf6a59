//! castoff's own image store: an OCI image layout on disk that skopeo and umoci read at any time.
//!
//! ```text
//! STORE/                          0700, files 0600
//!   oci-layout
//!   index.json                    one descriptor a name: `org.opencontainers.image.ref.name` = `repository:tag`;
//!                                 an image without a name: `dev.castoff.untagged` = seconds since 1970
//!   blobs/sha256/HEX              content; never changed, whole and synced before anything points to it
//!   castoff/
//!     lock                        flock: exclusive to change index.json or remove blobs, shared to add or open blobs
//!     tmp/.castoff-PID-N.tmp      blobs being written, locked by their writers; swept when a writer is dead
//!     parts/HEX                   a blob that has arrived so far, locked by whom it comes to; gone with the next `image.gc`
//!     leases/PID-N                digests a writer is about to point to, locked by it; void when it is dead
//!     records/HEX                 the ID of the image that the inputs with this digest gave
//! ```
//!
//! Promises: content before the pointer to it; the old pointer until the new one is durable; a blob that a living
//! writer has leased, or the index reaches, is never removed. Knows no engines and not what a step means.

mod gc;
mod images;
mod lease;
mod part;
mod records;
pub mod trees;
mod verify;
mod writer;

use std::path::{Path, PathBuf};

pub use gc::GcReport;
pub use images::StoredImage;
pub use part::{BlobPart, FetchedFrom};
pub use verify::{Mismatch, VerifyReport};
pub use writer::{ImageWriter, StoredAs};

use crate::error::{Error, Kind, Result};
use crate::host::fs::{self, Lock};
use crate::oci::{self, BlobFolder, Descriptor, Directory, ImageSource, Index, REF_NAME};
use crate::vocab::{Digest, EngineImage, ImageName};

/// The annotation of an image that has no name: since when, in seconds since 1970.
pub const UNTAGGED: &str = "dev.castoff.untagged";

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// An open store. Any number of processes may have it open.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    blobs: BlobFolder,
}

/// What taking names off an image, or an image off the store, did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// The names that are gone.
    pub names: Vec<ImageName>,
    /// The images that are gone.
    pub images: Vec<Digest>,
    /// The bytes that were freed.
    pub bytes: u64,
}

impl Store {
    /// Opens the store, made where nothing is, and sweeps what killed processes have left.
    pub fn open(root: &Path) -> Result<Self> {
        let own = root.join("castoff");
        let blobs = BlobFolder::create(root, &own.join("tmp"), FOLDER_MODE, FILE_MODE)?;
        fs::create_dir_all(&own.join("leases"), FOLDER_MODE)?;
        fs::create_dir_all(&own.join("records"), FOLDER_MODE)?;
        fs::create_dir_all(&own.join("parts"), FOLDER_MODE)?;
        let store = Self { root: root.to_owned(), blobs };
        if !fs::exists(&root.join("index.json"))? {
            let _lock = store.exclusive()?;
            if !fs::exists(&root.join("index.json"))? {
                store.write_index(&Index::new(Vec::new()))?;
            }
        }
        // Somebody at work keeps the lock; then the next one sweeps.
        if let Some(_lock) = Lock::try_exclusive(&store.lock_path())? {
            store.sweep()?;
        }
        Ok(store)
    }

    /// Where the store is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The image of this name or ID, its layers open: they stay readable even if the image is removed meanwhile.
    pub fn lookup(&self, image: &EngineImage) -> Result<Option<ImageSource>> {
        let _lock = self.shared()?;
        let index = self.read_index()?;
        let Some(descriptor) = self.find(&index, image)? else { return Ok(None) };
        let mut source = oci::image_of(&Directory::open(&self.root)?, descriptor)?;
        source.names = names_of(&index, descriptor.digest);
        for layer in &mut source.layers {
            layer.verified = true;
        }
        Ok(Some(source))
    }

    /// Every image, in the order of the index.
    pub fn list(&self) -> Result<Vec<StoredImage>> {
        let _lock = self.shared()?;
        self.images(&self.read_index()?)
    }

    /// Gives an image of the store a further name; the image that had the name before, if one had.
    pub fn tag(&self, name: &ImageName, id: Digest) -> Result<Option<Digest>> {
        let _lock = self.exclusive()?;
        let mut index = self.read_index()?;
        let descriptor =
            self.find(&index, &EngineImage::Id(id))?.cloned().ok_or_else(|| unknown(&EngineImage::Id(id)))?;
        let before = self.point(&mut index, &descriptor, name)?;
        self.write_index(&index)?;
        Ok(before)
    }

    /// Takes a name off its image, which stays even if that was its last.
    pub fn untag(&self, name: &ImageName) -> Result<()> {
        let _lock = self.exclusive()?;
        let mut index = self.read_index()?;
        if self.find(&index, &EngineImage::Name(name.clone()))?.is_none() {
            return Err(unknown(&EngineImage::Name(name.clone())));
        }
        take_name(&mut index, name);
        self.write_index(&index)
    }

    /// Removes a name, and the image with its blobs if that was its last; by ID, the image with all its names.
    pub fn remove(&self, image: &EngineImage) -> Result<Removed> {
        let _lock = self.exclusive()?;
        let mut index = self.read_index()?;
        let descriptor = self.find(&index, image)?.cloned().ok_or_else(|| unknown(image))?;
        let names = match image {
            EngineImage::Name(name) => vec![name.clone()],
            EngineImage::Id(_) => names_of(&index, descriptor.digest),
        };
        match image {
            EngineImage::Name(name) => {
                take_name(&mut index, name);
                let has_name = |other: &Descriptor| other.annotation(REF_NAME).is_some();
                if index.manifests.iter().any(|other| other.digest == descriptor.digest && has_name(other)) {
                    self.write_index(&index)?;
                    return Ok(Removed { names, ..Removed::default() });
                }
                index.manifests.retain(|other| other.digest != descriptor.digest);
            }
            EngineImage::Id(_) => index.manifests.retain(|other| other.digest != descriptor.digest),
        }
        let gone = self.image_id(&descriptor).ok(); // a damaged image must be removable too
        let bytes = self.drop_unreachable(&index)?;
        Ok(Removed { names, images: gone.into_iter().collect(), bytes })
    }

    /// Removes an image if it has no name; whether it was removed.
    pub fn remove_untagged(&self, id: Digest) -> Result<bool> {
        let _lock = self.exclusive()?;
        let mut index = self.read_index()?;
        let Some(digest) = self.find(&index, &EngineImage::Id(id))?.map(|found| found.digest) else { return Ok(false) };
        if index.manifests.iter().any(|other| other.digest == digest && other.annotation(REF_NAME).is_some()) {
            return Ok(false);
        }
        index.manifests.retain(|other| other.digest != digest);
        self.drop_unreachable(&index)?;
        Ok(true)
    }

    /// The descriptor of an image.
    fn find<'index>(&self, index: &'index Index, image: &EngineImage) -> Result<Option<&'index Descriptor>> {
        match image {
            EngineImage::Name(name) => {
                let name = name.to_string();
                Ok(index.manifests.iter().find(|other| other.annotation(REF_NAME) == Some(&name)))
            }
            EngineImage::Id(id) => {
                // The digest of a manifest finds it too, so that a damaged image can be removed.
                let mut damaged = None;
                for descriptor in index.manifests.iter().filter(|other| !other.is_index()) {
                    match self.image_id(descriptor) {
                        _ if descriptor.digest == *id => return Ok(Some(descriptor)),
                        Ok(own) if own == *id => return Ok(Some(descriptor)),
                        Ok(_) => {}
                        Err(error) => damaged = Some(error),
                    }
                }
                damaged.map_or(Ok(None), Err)
            }
        }
    }

    /// Points a name to a manifest; the ID of the image that had the name before, if one had.
    fn point(&self, index: &mut Index, to: &Descriptor, name: &ImageName) -> Result<Option<Digest>> {
        let before = take_name(index, name);
        index.manifests.retain(|other| other.digest != to.digest || other.annotation(REF_NAME).is_some());
        let mut named = to.clone();
        named.annotate(UNTAGGED, None);
        named.annotate(REF_NAME, Some(&name.to_string()));
        index.manifests.push(named);
        let Some(before) = before else { return Ok(None) };
        // A damaged image must be replaceable; by the digest of its manifest it can be removed.
        let id = self.image_id(&before).unwrap_or(before.digest);
        if before.digest != to.digest && id == self.image_id(to)? {
            // The same image, stored in another way: nobody would know which of the two an ID means.
            index.manifests.retain(|other| other.digest != before.digest || other.annotation(REF_NAME).is_some());
        }
        Ok(Some(id))
    }

    fn read_index(&self) -> Result<Index> {
        oci::read_index(&self.root)
    }

    fn write_index(&self, index: &Index) -> Result<()> {
        oci::write_index(&self.root, index, FILE_MODE)
    }

    fn own(&self, name: &str) -> PathBuf {
        self.root.join("castoff").join(name)
    }

    fn lock_path(&self) -> PathBuf {
        self.own("lock")
    }

    fn exclusive(&self) -> Result<Lock> {
        Lock::exclusive(&self.lock_path())
    }

    fn shared(&self) -> Result<Lock> {
        Lock::shared(&self.lock_path())
    }

    /// Removes temporaries and leases of dead writers; the exclusive lock must be held.
    fn sweep(&self) -> Result<()> {
        fs::sweep(&self.own("tmp"))?;
        fs::sweep(&self.root)?;
        fs::sweep(&self.own("records"))?;
        part::sweep(&self.own("parts"), part::PATIENCE)?;
        lease::living(&self.own("leases"))?;
        Ok(())
    }
}

fn unknown(image: &EngineImage) -> Error {
    Error::new(Kind::NotFound, format!("the store has no image `{image}`")).hint("`castoff call image.list` shows them")
}

/// Removes a name from the index; an image whose last name it was stays, marked with the time.
fn take_name(index: &mut Index, name: &ImageName) -> Option<Descriptor> {
    let name = name.to_string();
    let at = index.manifests.iter().position(|other| other.annotation(REF_NAME) == Some(&name))?;
    let before = index.manifests.remove(at);
    if !index.manifests.iter().any(|other| other.digest == before.digest) {
        index.manifests.push(untagged(&before));
    }
    Some(before)
}

/// The same descriptor without a name, from now on.
fn untagged(descriptor: &Descriptor) -> Descriptor {
    let mut descriptor = descriptor.clone();
    descriptor.annotate(REF_NAME, None);
    descriptor.annotate(UNTAGGED, Some(&crate::host::clock::now().as_secs().to_string()));
    descriptor
}

/// Every name of a manifest that is an image name.
fn names_of(index: &Index, manifest: Digest) -> Vec<ImageName> {
    let of_manifest = index.manifests.iter().filter(|other| other.digest == manifest);
    of_manifest.filter_map(|other| other.annotation(REF_NAME)?.parse().ok()).collect()
}
