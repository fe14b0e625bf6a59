//! An OCI image layout in a directory, as something to write to.
//!
//! ```text
//! DIR/
//!   oci-layout              {"imageLayoutVersion":"1.0.0"}
//!   index.json              what is there, by name; replaced as a whole, under a lock on DIR
//!   blobs/sha256/HEX        content, whole and synced before anything points to it
//! ```

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::compression::{Compression, LayerEncoder, WrittenLayer};
use super::config::ImageConfig;
use super::json;
use super::manifest::{CONTAINERD_NAME, Descriptor, Index, Manifest, REF_NAME, media_type};
use super::sink::{LayerSink, require_layers, require_size};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fault;
use crate::host::fs::{self, TempFile};
use crate::vocab::{Digest, ImageName};

/// The blobs of a layout: where they are and where they are written first.
#[derive(Clone, Debug)]
pub struct BlobFolder {
    blobs: PathBuf,
    temporaries: PathBuf,
    mode: u32,
}

/// A blob that is whole and synced, but has no name yet; dropped, it is gone.
pub struct StagedBlob {
    temporary: TempFile,
    digest: Digest,
}

impl StagedBlob {
    /// The blob's digest.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl BlobFolder {
    /// The blobs of the layout at `root`, made with these modes where missing; blobs are written in `temporaries`
    /// (on the same file system) first.
    pub fn create(root: &Path, temporaries: &Path, folder_mode: u32, mode: u32) -> Result<Self> {
        let blobs = root.join("blobs/sha256");
        fs::create_dir_all(&blobs, folder_mode)?;
        fs::create_dir_all(temporaries, folder_mode)?;
        Ok(Self { blobs, temporaries: temporaries.to_owned(), mode })
    }

    /// Where a blob is.
    pub fn path(&self, digest: Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// The folder of the blobs.
    pub fn folder(&self) -> &Path {
        &self.blobs
    }

    /// An empty blob to write a layer to.
    pub fn temporary(&self) -> Result<TempFile> {
        TempFile::beside(&self.temporaries.join("blob"), self.mode)
    }

    /// Writes a layer into `temporary`, syncs it, and computes its digests.
    pub fn stage_layer(
        temporary: TempFile,
        compression: Compression,
        write: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
    ) -> Result<(StagedBlob, WrittenLayer)> {
        let mut encoder = LayerEncoder::new(temporary, compression)?;
        write(&mut encoder)?;
        let (temporary, layer) = encoder.finish()?;
        let staged = StagedBlob { temporary, digest: layer.digest };
        staged.sync()?;
        Ok((staged, layer))
    }

    /// Writes some bytes into `temporary` and syncs them.
    pub fn stage_bytes(mut temporary: TempFile, bytes: &[u8]) -> Result<StagedBlob> {
        temporary.write_all(bytes).context(|| format!("cannot write `{}`", temporary.path().display()))?;
        let staged = StagedBlob { temporary, digest: Digest::of(bytes) };
        staged.sync()?;
        Ok(staged)
    }

    /// Gives a staged blob its name; one that is there already is replaced, which heals it if it was damaged.
    pub fn keep(&self, mut staged: StagedBlob) -> Result<()> {
        let path = self.path(staged.digest);
        staged.temporary.retarget(&path);
        fault::point("oci.blob.before-rename");
        staged.temporary.persist()?;
        fault::point("oci.blob.after-rename");
        Ok(())
    }
}

impl StagedBlob {
    fn sync(&self) -> Result<()> {
        fault::point("oci.blob.before-sync");
        self.temporary.file().sync_all().context(|| format!("cannot sync `{}`", self.temporary.path().display()))
    }
}

/// The index of the layout at `root`; an empty one where there is none yet.
pub fn read_index(root: &Path) -> Result<Index> {
    let path = root.join("index.json");
    if fs::exists(&path)? {
        json::parse(&format!("`{}`", path.display()), &fs::read_at_most(&path, json::JSON_LIMIT)?)
    } else {
        Ok(Index::new(Vec::new()))
    }
}

/// Replaces the index of the layout at `root`, and marks the folder as a layout before.
pub fn write_index(root: &Path, index: &Index, mode: u32) -> Result<()> {
    let marker = root.join("oci-layout");
    if !fs::exists(&marker)? {
        fs::write_atomic(&marker, mode, super::paths::OCI_LAYOUT)?;
    }
    fault::point("oci.index.before-write");
    fs::write_atomic(&root.join("index.json"), mode, &json::encode(index)?)?;
    fault::point("oci.index.after-write");
    Ok(())
}

/// The manifest of a configuration over these layers, and the descriptor that names it.
pub fn manifest_of(config: &ImageConfig, layers: Vec<Descriptor>) -> Result<(Vec<u8>, Descriptor)> {
    let config_descriptor = Descriptor::new(media_type::OCI_CONFIG, config.digest(), config.bytes().len() as u64);
    let manifest = json::encode(&Manifest::new(config_descriptor, layers))?;
    let mut descriptor = Descriptor::new(media_type::OCI_MANIFEST, Digest::of(&manifest), manifest.len() as u64);
    descriptor.platform = Some(config.platform().clone());
    Ok((manifest, descriptor))
}

/// Adds an image to an OCI layout, or replaces the one of its tag there; everything else in the layout stays.
pub struct LayoutWriter {
    root: PathBuf,
    blobs: BlobFolder,
    compression: Compression,
    layers: Vec<WrittenLayer>,
}

impl LayoutWriter {
    /// Opens the layout at `root`, made where nothing is; a folder with other things in it is refused.
    pub fn open(root: &Path, compression: Compression) -> Result<Self> {
        if fs::exists(root)? && !fs::exists(&root.join("oci-layout"))? && !only_beginnings(root)? {
            return Err(Error::new(Kind::Conflict, format!("`{}` exists and is not an OCI layout", root.display()))
                .hint("name a folder that does not exist, or an OCI layout"));
        }
        let blobs = BlobFolder::create(root, root, 0o755, 0o644)?;
        let _lock = lock(root)?;
        fs::sweep(root)?;
        Ok(Self { root: root.to_owned(), blobs, compression, layers: Vec::new() })
    }

    /// A new temporary, which a sweep cannot take for a dead writer's before it is locked.
    fn temporary(&self) -> Result<TempFile> {
        let _lock = lock(&self.root)?;
        self.blobs.temporary()
    }

    /// Points `tag` of the layout to the image; without one the image is there by digest only. The image's ID.
    pub fn finish(self, config: &ImageConfig, tag: Option<&str>, name: Option<&ImageName>) -> Result<Digest> {
        require_layers(config, &self.layers)?;
        let layers = self.layers.iter().map(WrittenLayer::descriptor).collect();
        let (manifest, mut descriptor) = manifest_of(config, layers)?;
        for bytes in [config.bytes(), &manifest] {
            self.blobs.keep(BlobFolder::stage_bytes(self.temporary()?, bytes)?)?;
        }
        descriptor.annotate(REF_NAME, tag);
        if let Some(name) = name {
            descriptor.annotate(CONTAINERD_NAME, Some(&name.to_string()));
        }
        let _lock = lock(&self.root)?;
        let mut index = read_index(&self.root)?;
        index.manifests.retain(|other| match (tag, other.annotation(REF_NAME)) {
            (Some(tag), Some(own)) => own != tag,
            (_, None) => other.digest != descriptor.digest,
            (None, Some(_)) => true,
        });
        index.manifests.push(descriptor);
        write_index(&self.root, &index, 0o644)?;
        Ok(config.digest())
    }
}

impl LayerSink for LayoutWriter {
    fn write_layer(&mut self, size: u64, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<WrittenLayer> {
        let (staged, layer) = BlobFolder::stage_layer(self.temporary()?, self.compression, write)?;
        require_size(size, layer.bare_size)?;
        self.blobs.keep(staged)?;
        self.layers.push(layer.clone());
        Ok(layer)
    }
}

/// Whether a folder holds nothing but what a killed writer may have left in a new layout.
fn only_beginnings(root: &Path) -> Result<bool> {
    Ok(fs::list(root)?.iter().all(|name| {
        let name = name.to_string_lossy();
        name == "blobs" || (name.starts_with(".castoff-") && name.ends_with(".tmp"))
    }))
}

/// Waits for the exclusive lock on a layout's folder; leaves no file of its own in it.
fn lock(root: &Path) -> Result<File> {
    let folder = fs::open(root)?;
    loop {
        match rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive) {
            Err(rustix::io::Errno::INTR) => {}
            other => {
                other.context(|| format!("cannot lock `{}`", root.display()))?;
                return Ok(folder);
            }
        }
    }
}
