//! Blobs that arrive from elsewhere in pieces: what has come stays when its fetcher is killed, and images keep the very
//! manifest they came with.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::Digest as _;

use super::Store;
use super::writer::{ImageWriter, StoredAs};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{clock, fault, fs};
use crate::oci::{self, Compression, Descriptor, ImageConfig, REF_NAME, unfolded_digest};
use crate::rootfs::FileRegion;
use crate::vocab::{DiffId, Digest, ImageName};

/// The annotation that says from which index an image was chosen.
const CHOSEN_FROM: &str = "dev.castoff.index";
/// The annotation that says for which platform.
const CHOSEN_FOR: &str = "dev.castoff.platform";
/// A part that nobody touched for so long is not waited for any more.
pub(super) const PATIENCE: Duration = Duration::from_hours(7 * 24);
/// Bytes between two fault points.
const STEP: u64 = 1 << 20;

/// From which index an image was chosen, and for which platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedFrom {
    /// The digest of the index.
    pub index: Digest,
    /// The platform that was asked for.
    pub platform: String,
}

/// A blob of which some has arrived; nobody else fetches it meanwhile.
pub struct BlobPart {
    file: File,
    path: PathBuf,
    length: u64,
    hash: sha2::Sha256,
}

impl BlobPart {
    /// The part at this path; none when another fetcher has just finished it.
    fn open(path: &Path) -> Result<Option<Self>> {
        let wrong = || format!("cannot open `{}`", path.display());
        let file = match fs::create_exclusive(path, super::FILE_MODE)? {
            Some(file) => file,
            None => match fs::open_regular(path, true) {
                Err(error) if error.kind() == Kind::NotFound => return Ok(None),
                other => other?,
            },
        };
        // Whoever fetches the same blob is waited for: it is not fetched twice.
        while let Err(error) = rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive) {
            if error != rustix::io::Errno::INTR {
                return Err(error).context(wrong);
            }
        }
        let own = file.metadata().context(wrong)?;
        let named = fs::link_metadata(path)?;
        if named.is_none_or(|named| (named.dev(), named.ino()) != (own.dev(), own.ino())) {
            return Ok(None);
        }
        let mut part = Self { file, path: path.to_owned(), length: 0, hash: sha2::Sha256::new() };
        part.read_back(own.len())?;
        Ok(Some(part))
    }

    /// Hashes what an earlier fetcher left.
    fn read_back(&mut self, length: u64) -> Result<()> {
        let mut buffer = vec![0; 256 << 10];
        while self.length < length {
            let count = self
                .file
                .read_at(&mut buffer, self.length)
                .context(|| format!("cannot read `{}`", self.path.display()))?;
            if count == 0 {
                break;
            }
            self.hash.update(&buffer[..count]);
            self.length += count as u64;
        }
        Ok(())
    }

    /// How many bytes have arrived.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Takes the next ones.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.length).context(|| format!("cannot write `{}`", self.path.display()))?;
        self.hash.update(bytes);
        let before = self.length / STEP;
        self.length += bytes.len() as u64;
        if self.length / STEP > before {
            fault::point("store.part.grown");
        }
        Ok(())
    }

    /// Forgets what has arrived.
    pub fn restart(&mut self) -> Result<()> {
        self.file.set_len(0).context(|| format!("cannot shorten `{}`", self.path.display()))?;
        self.length = 0;
        self.hash = sha2::Sha256::new();
        Ok(())
    }

    /// The digest of what has arrived.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(self.hash.clone().finalize().into())
    }
}

/// Removes the parts that nobody fetches and that were not touched for `patience`.
pub(super) fn sweep(folder: &Path, patience: Duration) -> Result<()> {
    for name in fs::list(folder)? {
        let path = folder.join(&name);
        let Some(found) = fs::link_metadata(&path)? else { continue };
        let age = clock::now().saturating_sub(Duration::from_secs(u64::try_from(found.mtime()).unwrap_or(0)));
        if !found.is_file() || age < patience {
            continue;
        }
        let file = match fs::open_regular(&path, false) {
            Err(error) if error.kind() == Kind::NotFound => continue,
            other => other?,
        };
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

impl ImageWriter<'_> {
    /// The part of a blob that is to be fetched; none when the store has the blob, which then stays.
    pub fn part(&mut self, blob: &Descriptor) -> Result<Option<BlobPart>> {
        let path = self.store.own("parts").join(blob.digest.hex());
        loop {
            {
                let _lock = self.store.shared()?;
                self.lease.add(blob.digest)?;
                if self.store.has(blob.digest, blob.size)? {
                    return Ok(None);
                }
            }
            // Not under the lock: another fetcher's end may be waited for, and that takes it.
            let Some(part) = BlobPart::open(&path)? else { continue };
            let _lock = self.store.shared()?;
            if self.store.has(blob.digest, blob.size)? {
                fs::remove_file(&path)?;
                return Ok(None);
            }
            return Ok(Some(part));
        }
    }

    /// Makes a part, which is whole and has the right digest, a blob of the store.
    pub fn keep_part(&mut self, blob: &Descriptor, part: &BlobPart) -> Result<()> {
        if part.length() != blob.size || part.digest() != blob.digest {
            return Err(Error::new(Kind::Failed, format!("blob `{}` is not whole", blob.digest)));
        }
        part.file.sync_all().context(|| format!("cannot sync `{}`", part.path.display()))?;
        fault::point("store.part.synced");
        let _lock = self.store.shared()?;
        fs::rename(&part.path, &self.store.blobs.path(blob.digest))
    }

    /// The bytes of a small blob that the store has.
    pub fn small_blob(&self, blob: &Descriptor, what: &str) -> Result<Vec<u8>> {
        self.store.read_blob(blob.digest, what)
    }

    /// Takes a blob of the store for the image's next layer, once it is sure that it unfolds to the diff ID.
    pub fn layer(&mut self, diff_id: DiffId, blob: &Descriptor, limit: u64) -> Result<()> {
        if !self.store.knows(diff_id, blob.digest)? {
            let path = self.store.blobs.path(blob.digest);
            let region = FileRegion { file: Arc::new(fs::open(&path)?), start: 0, size: blob.size };
            let found = match Compression::detect(&region)? {
                Compression::None => blob.digest,
                compression => {
                    unfolded_digest(&region, compression, limit)
                        .context(|| format!("layer `{}` cannot be unfolded", blob.digest))?
                        .0
                }
            };
            if found != diff_id.0 {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!("layer `{}` unfolds to `{found}`, the image configuration says `{diff_id}`", blob.digest),
                )
                .hint("whoever made the image made it wrong, or wants it taken for another"));
            }
        }
        self.layers.push((diff_id, blob.clone()));
        Ok(())
    }

    /// Puts the image into the store with the manifest it came with, byte for byte.
    pub fn finish_with(
        mut self,
        config: &ImageConfig,
        manifest: (&[u8], &Descriptor),
        from: Option<&FetchedFrom>,
        names: &[ImageName],
    ) -> Result<StoredAs> {
        let (bytes, descriptor) = manifest;
        let mut descriptor = Descriptor::new(&descriptor.media_type, descriptor.digest, descriptor.size);
        descriptor.platform = Some(config.platform().clone());
        if let Some(from) = from {
            descriptor.annotate(CHOSEN_FROM, Some(&from.index.to_string()));
            descriptor.annotate(CHOSEN_FOR, Some(&from.platform));
        }
        self.layers.clear();
        self.publish(config, bytes, &descriptor, names)
    }
}

impl Store {
    /// Whether a blob is there, with this size.
    fn has(&self, digest: Digest, size: u64) -> Result<bool> {
        Ok(fs::link_metadata(&self.blobs.path(digest))?.is_some_and(|found| found.is_file() && found.len() == size))
    }

    /// Whether an image of the store has this layer, stored as this blob.
    fn knows(&self, diff_id: DiffId, blob: Digest) -> Result<bool> {
        let _lock = self.shared()?;
        for descriptor in self.read_index()?.manifests.iter().filter(|other| !other.is_index()) {
            // A damaged image says nothing about the layers of others.
            let Ok(manifest) = self.manifest(descriptor) else { continue };
            if !manifest.layers.iter().any(|layer| layer.digest == blob) {
                continue;
            }
            let Ok(bytes) = self.read_blob(manifest.config.digest, "image configuration") else { continue };
            let Ok(config) = ImageConfig::parse(&bytes) else { continue };
            if manifest.layers.iter().zip(config.diff_ids()).any(|(layer, own)| layer.digest == blob && *own == diff_id)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// How many bytes of a blob would have to be fetched now.
    pub fn missing(&self, blob: &Descriptor) -> Result<u64> {
        if self.has(blob.digest, blob.size)? {
            return Ok(0);
        }
        let part = fs::link_metadata(&self.own("parts").join(blob.digest.hex()))?;
        Ok(blob.size.saturating_sub(part.map_or(0, |part| part.len())))
    }

    /// The image that fetching this manifest, or this index for this platform, gave, if all of it is here: it gets the
    /// name, and what it is called by its manifest's digest is returned.
    pub fn fetched(&self, digest: Digest, platform: &str, name: Option<&ImageName>) -> Result<Option<Digest>> {
        let _lock = self.exclusive()?;
        let mut index = self.read_index()?;
        let digest_text = digest.to_string();
        let is_it = |other: &&Descriptor| {
            let chosen = other.annotation(CHOSEN_FROM) == Some(&digest_text);
            other.digest == digest || (chosen && other.annotation(CHOSEN_FOR) == Some(platform))
        };
        let Some(found) = index.manifests.iter().filter(|other| !other.is_index()).find(is_it).cloned() else {
            return Ok(None);
        };
        let mut reached = BTreeSet::new();
        if self.reach(&found, &mut reached).is_err() {
            return Ok(None); // damaged: it is fetched anew, which heals it
        }
        for (digest, size) in reached {
            if !self.has(digest, size)? {
                return Ok(None);
            }
        }
        let is_named = |name: &ImageName| {
            let name = name.to_string();
            index
                .manifests
                .iter()
                .any(|other| other.digest == found.digest && other.annotation(REF_NAME) == Some(&name))
        };
        if let Some(name) = name
            && !is_named(name)
        {
            self.point(&mut index, &found, name)?;
            self.write_index(&index)?;
        }
        Ok(Some(found.digest))
    }

    /// The image of a manifest, its layers open.
    pub fn by_manifest(&self, manifest: Digest) -> Result<Option<oci::ImageSource>> {
        self.lookup(&crate::vocab::EngineImage::Id(manifest))
    }
}
