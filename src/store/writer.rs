//! Bringing an image into the store: layers first, then configuration and manifest, then the names.

use std::io::Write;

use super::lease::Lease;
use super::{Store, untagged};
use crate::error::{Error, Kind, Result};
use crate::host::fault;
use crate::host::fs;
use crate::oci::{BlobFolder, Compression, Descriptor, ImageConfig, LayerSink, LayerSource, StagedBlob, WrittenLayer};
use crate::oci::{manifest_of, media_type};
use crate::vocab::{DiffId, Digest, ImageName};

/// An image on its way into the store; what it has written is leased until it is dropped.
pub struct ImageWriter<'store> {
    pub(super) store: &'store Store,
    pub(super) lease: Lease,
    compression: Compression,
    pub(super) layers: Vec<(DiffId, Descriptor)>,
}

/// An image that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAs {
    /// Its ID.
    pub id: Digest,
    /// The images that had these names before; one that lost its last name stays until it is removed or collected.
    pub previous: Vec<(ImageName, Digest)>,
}

impl Store {
    /// Begins to bring an image in; its layers will be stored like this.
    pub fn image_writer(&self, compression: Compression) -> Result<ImageWriter<'_>> {
        let _lock = self.shared()?;
        let lease = Lease::begin(&self.own("leases"))?;
        Ok(ImageWriter { store: self, lease, compression, layers: Vec::new() })
    }

    /// Whether a layer would be adopted now, so that it needs no space.
    pub fn holds(&self, layer: &LayerSource) -> Result<bool> {
        for (digest, _) in blobs_of(layer) {
            if fs::exists(&self.blobs.path(digest))? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The blobs either of which is the layer, with their media types: as it is stored where it comes from, if that is
/// sure to be the layer, and bare.
fn blobs_of(layer: &LayerSource) -> impl Iterator<Item = (Digest, String)> {
    let bare = (layer.diff_id.0, media_type::OCI_LAYER.to_owned());
    let stored = layer.blob.as_ref().filter(|_| layer.verified).map(|blob| (blob.digest, blob.media_type.clone()));
    stored.into_iter().chain([bare])
}

impl ImageWriter<'_> {
    /// Takes over a layer without reading it, if the store has it already; whether it has.
    pub fn adopt(&mut self, layer: &LayerSource) -> Result<bool> {
        for (digest, media_type) in blobs_of(layer) {
            let _lock = self.store.shared()?;
            self.lease.add(digest)?;
            if let Some(there) = fs::link_metadata(&self.store.blobs.path(digest))? {
                self.layers.push((layer.diff_id, Descriptor::new(&media_type, digest, there.len())));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts the image into the store under these names; under none it is there by its ID.
    pub fn finish(mut self, config: &ImageConfig, names: &[ImageName]) -> Result<StoredAs> {
        let written: Vec<DiffId> = self.layers.iter().map(|(diff_id, _)| *diff_id).collect();
        if config.diff_ids() != written {
            return Err(Error::new(
                Kind::Failed,
                format!("the image configuration lists layers {:?} and {written:?} were stored", config.diff_ids()),
            ));
        }
        let layers = std::mem::take(&mut self.layers).into_iter().map(|(_, descriptor)| descriptor).collect();
        let (manifest, descriptor) = manifest_of(config, layers)?;
        self.publish(config, &manifest, &descriptor, names)
    }

    /// Configuration and manifest, then the names.
    pub(super) fn publish(
        mut self,
        config: &ImageConfig,
        manifest: &[u8],
        descriptor: &Descriptor,
        names: &[ImageName],
    ) -> Result<StoredAs> {
        for bytes in [config.bytes(), manifest] {
            let staged = BlobFolder::stage_bytes(self.temporary()?, bytes)?;
            self.keep(staged)?;
        }
        fault::point("store.image.before-index");
        let _lock = self.store.exclusive()?;
        let mut index = self.store.read_index()?;
        let mut previous = Vec::new();
        for name in names {
            previous.extend(self.store.point(&mut index, descriptor, name)?.map(|before| (name.clone(), before)));
        }
        if names.is_empty() && !index.manifests.iter().any(|other| other.digest == descriptor.digest) {
            index.manifests.push(untagged(descriptor));
        }
        self.store.write_index(&index)?;
        fault::point("store.image.after-index");
        Ok(StoredAs { id: config.digest(), previous })
    }

    /// A new temporary, which a sweep cannot take for a dead writer's before it is locked.
    fn temporary(&self) -> Result<fs::TempFile> {
        let _lock = self.store.shared()?;
        self.store.blobs.temporary()
    }

    fn keep(&mut self, staged: StagedBlob) -> Result<()> {
        let _lock = self.store.shared()?;
        self.lease.add(staged.digest())?;
        fault::point("store.image.after-lease");
        self.store.blobs.keep(staged)
    }
}

impl LayerSink for ImageWriter<'_> {
    fn write_layer(&mut self, size: u64, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<WrittenLayer> {
        let (staged, layer) = BlobFolder::stage_layer(self.temporary()?, self.compression, write)?;
        crate::oci::require_size(size, layer.bare_size)?;
        self.keep(staged)?;
        self.layers.push((layer.diff_id, layer.descriptor()));
        Ok(layer)
    }
}
