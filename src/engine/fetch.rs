//! An image of a registry comes into the embedded store, with the manifest it has there; what the store has already is
//! not fetched.

use super::surroundings::Surroundings;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{self, fault};
use crate::oci::{self, Compression, Descriptor, ImageConfig, ImageSource, JSON_LIMIT, Manifest, Platform};
use crate::registry::{self, Fetched, Receiver, Registry, RegistryName};
use crate::store::{BlobPart, FetchedFrom, ImageWriter, Store};
use crate::vocab::{DiffId, Digest};

/// How deep indexes may be nested in one another.
const INDEX_DEPTH: usize = 4;
/// Layers beyond this are no image; Docker itself stops at 127.
const MOST_LAYERS: usize = 1024;

/// An image that was fetched, or was here.
pub(super) struct Image {
    /// The image, as the store has it.
    pub(super) source: ImageSource,
    /// The digest of its manifest.
    pub(super) digest: Digest,
    /// Bytes that came over the wire for it, manifests aside.
    pub(super) bytes: u64,
}

/// The image of a registry that `docker://` and this text name.
pub(super) fn fetch(text: &str, surroundings: &Surroundings<'_>) -> Result<Image> {
    let name: RegistryName = text.parse()?;
    let registries = &surroundings.config.registries;
    let registry = Registry::to_fetch(&name, registries, surroundings.progress)?;
    let store = surroundings.store()?;
    let work = Work { registry: &registry, store, surroundings };
    // A registry that says a digest without sending anything saves a manifest.
    let wanted = match name.digest() {
        Some(digest) => Some(digest),
        None => registry.digest()?,
    };
    if let Some(digest) = wanted
        && let Some(found) = work.kept(digest)?
    {
        return Ok(found);
    }
    let (manifest, from) = match work.manifest()? {
        Chosen::Kept(found) => return Ok(*found),
        Chosen::Served(manifest, from) => (manifest, from),
    };
    work.bring(&manifest, from.as_ref())
}

/// Fails unless the registry has what the text names; nothing is fetched.
pub(super) fn must_exist(text: &str, surroundings: &Surroundings<'_>) -> Result<()> {
    let name: RegistryName = text.parse()?;
    let registry = Registry::to_fetch(&name, &surroundings.config.registries, surroundings.progress)?;
    match registry.digest()? {
        Some(_) => Ok(()),
        None => registry.named().map(drop),
    }
}

enum Chosen {
    Kept(Box<Image>),
    Served(Fetched, Option<FetchedFrom>),
}

struct Work<'w, 's> {
    registry: &'w Registry<'w>,
    store: &'w Store,
    surroundings: &'w Surroundings<'s>,
}

impl Work<'_, '_> {
    /// The platform that is wanted.
    fn platform(&self) -> Platform {
        self.surroundings.platform.clone().unwrap_or_else(Platform::host)
    }

    /// The image that the store has of this manifest, or of this index for the platform.
    fn kept(&self, digest: Digest) -> Result<Option<Image>> {
        let platform = self.platform().to_string();
        let name = self.registry.name().image_name();
        let Some(digest) = self.store.fetched(digest, &platform, name.as_ref())? else { return Ok(None) };
        let Some(source) = self.store.by_manifest(digest)? else { return Ok(None) };
        self.require_platform(&source.config)?;
        Ok(Some(Image { source, digest, bytes: 0 }))
    }

    /// The manifest of the image, through indexes; each is asked for only when the store has no image of it.
    fn manifest(&self) -> Result<Chosen> {
        let platform = self.platform();
        let mut found = self.registry.named()?;
        let mut from: Option<FetchedFrom> = None;
        for _ in 0..INDEX_DEPTH {
            if let Some(kept) = self.kept(found.digest)? {
                return Ok(Chosen::Kept(Box::new(kept)));
            }
            let what = format!("`{}`", self.registry.name());
            let Some(index) = found.index(&what)? else { return Ok(Chosen::Served(found, from)) };
            let chosen = registry::choose(&index, &platform, &what)?;
            from.get_or_insert(FetchedFrom { index: found.digest, platform: platform.to_string() });
            if let Some(kept) = self.kept(chosen.digest)? {
                return Ok(Chosen::Kept(Box::new(kept)));
            }
            found = self.registry.manifest(chosen)?;
        }
        Err(Error::new(
            Kind::Corrupt,
            format!("indexes of `{}` are nested deeper than {INDEX_DEPTH} levels", self.registry.name()),
        ))
    }

    /// Brings the image of a manifest into the store.
    fn bring(&self, manifest: &Fetched, from: Option<&FetchedFrom>) -> Result<Image> {
        let what = format!("manifest `{}` of `{}`", manifest.digest, self.registry.name());
        let parsed = oci::parse_manifest(&what, &manifest.media_type, &manifest.bytes)?;
        judge(&parsed, &what, self.surroundings.config.limit_layer_size)?;
        let mut writer = self.store.image_writer(Compression::None)?;
        let mut bytes = self.blob(&mut writer, &parsed.config)?;
        let config = ImageConfig::parse(&writer.small_blob(&parsed.config, "image configuration")?)
            .context(|| format!("cannot read the image of {what}"))?;
        if config.diff_ids().len() != parsed.layers.len() {
            let (layers, ids) = (parsed.layers.len(), config.diff_ids().len());
            let message = format!("{what} lists {layers} layers, its configuration {ids} diff IDs");
            return Err(Error::new(Kind::Corrupt, message));
        }
        self.require_platform(&config)?;
        self.require_space(&parsed)?;
        for (blob, diff_id) in parsed.layers.iter().zip(config.diff_ids()) {
            bytes += self.layer(&mut writer, blob, *diff_id)?;
        }
        fault::point("engine.fetch.before-image");
        let names: Vec<_> = self.registry.name().image_name().into_iter().collect();
        let descriptor = manifest.descriptor();
        writer.finish_with(&config, (&manifest.bytes, &descriptor), from, &names)?;
        let source = self.store.by_manifest(manifest.digest)?.ok_or_else(|| {
            Error::new(Kind::Conflict, format!("{what} was removed from the store meanwhile"))
                .hint("somebody else works on the store; run the command again")
        })?;
        Ok(Image { source, digest: manifest.digest, bytes })
    }

    fn layer(&self, writer: &mut ImageWriter<'_>, blob: &Descriptor, diff_id: DiffId) -> Result<u64> {
        let bytes = self.blob(writer, blob)?;
        writer.layer(diff_id, blob, self.surroundings.config.limit_layer_size)?;
        Ok(bytes)
    }

    /// Brings a blob into the store; the bytes that came over the wire.
    fn blob(&self, writer: &mut ImageWriter<'_>, blob: &Descriptor) -> Result<u64> {
        let Some(part) = writer.part(blob)? else { return Ok(0) };
        let mut arriving = Arriving { part, bytes: 0 };
        self.registry.blob(blob, &mut arriving)?;
        writer.keep_part(blob, &arriving.part)?;
        fault::point("engine.fetch.after-blob");
        Ok(arriving.bytes)
    }

    /// An image for another platform than the one that was asked for is an error; where nobody asked, it is told.
    fn require_platform(&self, config: &ImageConfig) -> Result<()> {
        let (wanted, offered) = (self.platform(), config.platform());
        if wanted.accepts(offered) || offered.architecture.is_empty() {
            return Ok(());
        }
        let name = self.registry.name();
        if self.surroundings.platform.is_some() {
            return Err(Error::new(Kind::NotFound, format!("`{name}` has no image for `{wanted}`"))
                .hint(format!("there is `{offered}`")));
        }
        self.surroundings.progress.warn(format!("`{name}` is for `{offered}`, and has nothing for `{wanted}`"));
        Ok(())
    }

    fn require_space(&self, manifest: &Manifest) -> Result<()> {
        let mut need = 1 << 20;
        for blob in &manifest.layers {
            need += self.store.missing(blob)?;
        }
        host::fs::require_space(self.store.root(), need)
    }
}

/// Refuses, before anything is fetched, what no registry can give or no machine can hold.
fn judge(manifest: &Manifest, what: &str, limit: u64) -> Result<()> {
    if manifest.config.size > JSON_LIMIT {
        return Err(Error::new(Kind::Limit, format!("{what} has a configuration of {} bytes", manifest.config.size)));
    }
    if manifest.layers.len() > MOST_LAYERS {
        return Err(Error::new(Kind::Limit, format!("{what} lists {} layers", manifest.layers.len())));
    }
    for layer in &manifest.layers {
        if layer.size > limit {
            return Err(Error::new(
                Kind::Limit,
                format!("layer `{}` of {what} has {} bytes", layer.digest, layer.size),
            )
            .hint("raise `limits.layer_size` in castoff's configuration if this is what you expect of the image"));
        }
        if layer.media_type.contains("+encrypted") {
            return Err(Error::new(Kind::Unsupported, format!("layer `{}` of {what} is encrypted", layer.digest)));
        }
        if layer.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
            return Err(Error::new(
                Kind::Refused,
                format!("layer `{}` of {what} is kept outside of the registry", layer.digest),
            )
            .hint("a foreign layer is its maker's to give; castoff fetches from registries alone"));
        }
    }
    Ok(())
}

/// A part of the store as something to fetch into.
struct Arriving {
    part: BlobPart,
    bytes: u64,
}

impl Receiver for Arriving {
    fn length(&self) -> u64 {
        self.part.length()
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.part.append(bytes)
    }

    fn restart(&mut self) -> Result<()> {
        self.part.restart()
    }

    fn digest(&self) -> Digest {
        self.part.digest()
    }
}
