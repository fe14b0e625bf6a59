//! An image goes to a registry: layers as they are stored where that is sure, others in an unnamed file first, so that a
//! registry that has them is sent nothing and a line that breaks can be tried again; the manifest last.

use std::path::PathBuf;
use std::sync::Arc;

use super::sink::{NewImage, SinkOptions};
use super::surroundings::Surroundings;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs::{TempFile, require_space};
use crate::oci::{
    self, Compression, Descriptor, ImageConfig, LayerEncoder, LayerSink, LayerSource, OwnManifest, WrittenLayer,
};
use crate::registry::{Registry, RegistryName, Sent};
use crate::rootfs::{FileRegion, ReadAt};
use crate::vocab::{DiffId, Digest, Reference};

/// Where an image that is sent comes from, as far as a registry can make use of it.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Its manifest.
    pub manifest: Option<OwnManifest>,
    /// The registry and repository it was fetched from.
    pub name: Option<RegistryName>,
}

impl Origin {
    /// The origin of an opened source.
    pub(super) fn of(reference: &Reference, manifest: Option<&OwnManifest>) -> Self {
        let name = match reference {
            Reference::Registry(text) => text.parse().ok(),
            _ => None,
        };
        Self { manifest: manifest.cloned(), name }
    }
}

/// An image on its way to a registry.
pub(super) struct Sender<'a> {
    registry: Registry<'a>,
    scratch: PathBuf,
    compression: Compression,
    mount_from: Option<String>,
    layers: Vec<(DiffId, Descriptor)>,
    told: Told,
}

/// What sending took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    /// Bytes of blobs that were sent.
    pub(super) sent: u64,
    /// Blobs that were there.
    pub(super) there: u64,
    /// Blobs that another repository had.
    pub(super) mounted: u64,
}

impl<'a> Sender<'a> {
    /// Begins to send to what `docker://` and this text name.
    pub(super) fn new(
        text: &str,
        image: &NewImage<'_>,
        options: SinkOptions,
        surroundings: &'a Surroundings<'_>,
    ) -> Result<Self> {
        let name: RegistryName = text.parse()?;
        let other = image.origin.name.as_ref().filter(|other| other.host() == name.host());
        let mount_from =
            other.map(|other| other.repository().to_owned()).filter(|repository| repository != name.repository());
        let registries = &surroundings.config.registries;
        Ok(Self {
            registry: Registry::to_send(&name, mount_from.as_deref(), registries, surroundings.progress)?,
            scratch: surroundings.scratch(None)?,
            compression: options.compression,
            mount_from,
            layers: Vec::new(),
            told: Told::default(),
        })
    }

    /// Takes over a layer as it is stored, if that is sure to be the layer and is how it is wanted.
    pub(super) fn adopt(&mut self, layer: &LayerSource) -> Result<bool> {
        let Some(blob) = layer.blob.as_ref().filter(|_| layer.verified) else { return Ok(false) };
        if layer.compression == Compression::None && self.compression != Compression::None {
            return Ok(false);
        }
        self.send(blob.digest, &layer.content)?;
        let descriptor = Descriptor::new(layer.compression.layer_media_type(), blob.digest, blob.size);
        self.layers.push((layer.diff_id, descriptor));
        Ok(true)
    }

    fn send(&mut self, digest: Digest, content: &Arc<dyn ReadAt>) -> Result<()> {
        match self.registry.send_blob(digest, content, self.mount_from.as_deref())? {
            Sent::There => self.told.there += 1,
            Sent::Mounted => self.told.mounted += 1,
            Sent::Bytes(count) => self.told.sent += count,
        }
        Ok(())
    }

    /// Sends configuration and manifest; the manifest's digest, and what all of it took. A copy of an image has that
    /// image's own manifest.
    pub(super) fn finish(mut self, config: &ImageConfig, own: Option<&OwnManifest>) -> Result<(Digest, Told)> {
        let written: Vec<DiffId> = self.layers.iter().map(|(diff_id, _)| *diff_id).collect();
        if config.diff_ids() != written {
            return Err(Error::new(
                Kind::Failed,
                format!("the image configuration lists layers {:?} and {written:?} were sent", config.diff_ids()),
            ));
        }
        let bytes: Arc<dyn ReadAt> = Arc::new(config.bytes().to_vec());
        self.send(config.digest(), &bytes)?;
        let layers: Vec<Descriptor> = std::mem::take(&mut self.layers).into_iter().map(|(_, layer)| layer).collect();
        let (media_type, manifest) = match own {
            Some(own) if fits(own, config, &layers)? => (own.media_type.clone(), own.bytes.clone()),
            _ => {
                let (manifest, descriptor) = oci::manifest_of(config, layers)?;
                (descriptor.media_type, manifest)
            }
        };
        crate::host::fault::point("engine.send.before-manifest");
        let digest = self.registry.send_manifest(&media_type, &manifest)?;
        Ok((digest, self.told))
    }
}

/// Whether a manifest names just this configuration and these layers.
fn fits(own: &OwnManifest, config: &ImageConfig, layers: &[Descriptor]) -> Result<bool> {
    let parsed = oci::parse_manifest("the source's manifest", &own.media_type, &own.bytes)?;
    let same = |(left, right): (&Descriptor, &Descriptor)| left.digest == right.digest;
    Ok(parsed.config.digest == config.digest()
        && parsed.layers.len() == layers.len()
        && parsed.layers.iter().zip(layers).all(same))
}

impl LayerSink for Sender<'_> {
    fn write_layer(
        &mut self,
        size: u64,
        write: &mut dyn FnMut(&mut dyn std::io::Write) -> Result<()>,
    ) -> Result<WrittenLayer> {
        require_space(&self.scratch, size)?;
        let temporary = TempFile::beside(&self.scratch.join("send"), 0o600)?;
        let mut encoder = LayerEncoder::new(temporary, self.compression)?;
        write(&mut encoder)?;
        let (temporary, layer) = encoder.finish()?;
        oci::require_size(size, layer.bare_size)?;
        let file =
            temporary.file().try_clone().context(|| format!("cannot keep `{}` open", temporary.path().display()))?;
        let content: Arc<dyn ReadAt> = Arc::new(FileRegion { file: Arc::new(file), start: 0, size: layer.size });
        self.send(layer.digest, &content)?;
        self.layers.push((layer.diff_id, layer.descriptor()));
        Ok(layer)
    }
}
