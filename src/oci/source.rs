//! An image that can be read, wherever it lies: its configuration, its names, its layers as they are stored.

use std::path::Path;
use std::sync::Arc;

use super::compression::Compression;
use super::config::ImageConfig;
use super::hashing::VerifyingReader;
use super::hashing::compare;
use super::manifest::{Descriptor, Platform};
use super::spool::{self, SpoolLimits};
use crate::error::Result;
use crate::progress::{Progress, Unit};
use crate::rootfs::ReadAt;
use crate::vocab::{DiffId, Digest, ImageName};

/// An image ready to be read; nothing was copied.
#[derive(Clone, Debug)]
pub struct ImageSource {
    /// Its configuration.
    pub config: ImageConfig,
    /// The digest of the configuration: the image's ID.
    pub config_digest: Digest,
    /// The names it carries where it lies.
    pub names: Vec<ImageName>,
    /// Its layers, bottom first; as many as the configuration has diff IDs.
    pub layers: Vec<LayerSource>,
    /// Its manifest as it is kept, where it has one.
    pub manifest: Option<OwnManifest>,
    /// The platform it is for.
    pub platform: Platform,
    /// What a person should be told: which platform was chosen, which names could not be read.
    pub notes: Vec<String>,
}

/// A manifest, byte for byte: whoever copies an image as it is copies this too, and the digest stays.
#[derive(Clone, Debug)]
pub struct OwnManifest {
    /// What it is.
    pub media_type: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A layer as it is stored.
#[derive(Clone)]
pub struct LayerSource {
    /// The digest of its bare tar, as the configuration promises.
    pub diff_id: DiffId,
    /// What the manifest says of the stored bytes; docker archives say nothing.
    pub blob: Option<Descriptor>,
    /// The stored bytes.
    pub content: Arc<dyn ReadAt>,
    /// How they are stored.
    pub compression: Compression,
    /// Whether whoever keeps the bytes has compared them with their digest.
    pub verified: bool,
}

impl std::fmt::Debug for LayerSource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("LayerSource")
            .field("diff_id", &self.diff_id)
            .field("size", &self.content.size())
            .field("compression", &self.compression)
            .field("verified", &self.verified)
            .finish_non_exhaustive()
    }
}

/// A layer's bare tar.
#[derive(Clone)]
pub struct OpenedLayer {
    /// The bare tar's bytes.
    pub content: Arc<dyn ReadAt>,
    /// The digest the bytes have, or shall have.
    pub diff_id: DiffId,
    /// Whether the bytes were compared with it; if not, read them through [`scan_verified`].
    pub verified: bool,
}

impl std::fmt::Debug for OpenedLayer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("OpenedLayer")
            .field("diff_id", &self.diff_id)
            .field("size", &self.content.size())
            .field("verified", &self.verified)
            .finish_non_exhaustive()
    }
}

/// A layer's bare tar: the stored bytes themselves when they are bare, else an unnamed file in `scratch` that they
/// were unfolded to, compared with blob digest and diff ID on the way (with the diff ID always, the one hash that
/// tells a decoder's mistake).
pub fn open_layer(
    layer: &LayerSource,
    scratch: &Path,
    limits: &SpoolLimits,
    progress: &Progress,
) -> Result<OpenedLayer> {
    if layer.compression == Compression::None {
        return Ok(OpenedLayer {
            content: Arc::clone(&layer.content),
            diff_id: layer.diff_id,
            verified: layer.verified,
        });
    }
    let stage =
        progress.stage(format!("unfolding layer {}", layer.diff_id.0.short()), Some(layer.content.size()), Unit::Bytes);
    let wanted = layer.blob.as_ref().filter(|_| !layer.verified).map(|blob| blob.digest);
    let (content, found) = spool::unfold(&*layer.content, layer.compression, wanted, scratch, limits, stage)?;
    compare(layer.diff_id.0, found, "diff ID")?;
    Ok(OpenedLayer { content: Arc::new(content), diff_id: layer.diff_id, verified: true })
}

/// A file's bytes, bare: in place when it is a plain file and not compressed, else spooled into an unnamed file in
/// `scratch`, be it a pipe or compressed.
pub fn open_bare_file(
    path: &Path,
    scratch: &Path,
    limits: &SpoolLimits,
    progress: &Progress,
) -> Result<Arc<dyn ReadAt>> {
    let content = spool::open_file(path, scratch, limits, progress)?;
    open_bare(Arc::new(content), scratch, limits, progress)
}

/// Bytes that nobody promised anything about, such as a root filesystem's tar: themselves when they are bare, else an
/// unnamed file in `scratch` that they were unfolded to.
pub fn open_bare(
    content: Arc<dyn ReadAt>,
    scratch: &Path,
    limits: &SpoolLimits,
    progress: &Progress,
) -> Result<Arc<dyn ReadAt>> {
    let compression = Compression::detect(&*content)?;
    if compression == Compression::None {
        return Ok(content);
    }
    let stage = progress.stage("unfolding", Some(content.size()), Unit::Bytes);
    Ok(Arc::new(spool::unfold(&*content, compression, None, scratch, limits, stage)?.0))
}

/// Runs `scan` over the layer's bytes while they are hashed, reads what it left unread, and compares the digest.
///
/// `scan` gets each byte once, in order; nothing it has found may be relied on before this returns.
pub fn scan_verified<T>(layer: &OpenedLayer, scan: impl FnOnce(&mut VerifyingReader<'_>) -> Result<T>) -> Result<T> {
    let mut reader = VerifyingReader::new(&*layer.content)?;
    let found = scan(&mut reader)?;
    let (digest, _) = reader.finish()?;
    compare(layer.diff_id.0, digest, "diff ID")?;
    Ok(found)
}
