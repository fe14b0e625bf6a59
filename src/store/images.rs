//! What is in the store: images, and the blobs each one reaches.

use std::collections::BTreeSet;

use super::{Store, UNTAGGED, names_of};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::oci::{self, Descriptor, ImageConfig, Index, JSON_LIMIT, Manifest, Platform, REF_NAME};
use crate::vocab::{Digest, ImageName};

/// An image of the store.
#[derive(Clone, Debug)]
pub struct StoredImage {
    /// Its ID: the digest of its configuration.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// Its names; tags that other programs put into the layout and that are no image names are in `other_tags`.
    pub names: Vec<ImageName>,
    /// Tags that are no image names.
    pub other_tags: Vec<String>,
    /// Since when it has no name, in seconds since 1970; none while it has one.
    pub untagged_since: Option<u64>,
    /// The platform it is for.
    pub platform: Platform,
    /// When it was made, as its configuration says.
    pub created: Option<String>,
    /// The number of its layers.
    pub layers: usize,
    /// The bytes of its configuration, manifest and layers; images may share some.
    pub size: u64,
}

impl Store {
    /// Every image of the index, once each.
    pub(super) fn images(&self, index: &Index) -> Result<Vec<StoredImage>> {
        let mut seen = BTreeSet::new();
        let mut images = Vec::new();
        for descriptor in index.manifests.iter().filter(|other| !other.is_index()) {
            if !seen.insert(descriptor.digest) {
                continue;
            }
            let called = || {
                let name = descriptor.annotation(REF_NAME).map_or_else(|| descriptor.digest.to_string(), str::to_owned);
                format!("image `{name}` of the store cannot be read")
            };
            let manifest = self.manifest(descriptor).context(called)?;
            let config = self
                .read_blob(manifest.config.digest, "image configuration")
                .and_then(|bytes| ImageConfig::parse(&bytes))
                .context(called)?;
            let names = names_of(index, descriptor.digest);
            let tags = index.manifests.iter().filter(|other| other.digest == descriptor.digest);
            let other_tags: Vec<String> = tags
                .filter_map(|other| other.annotation(REF_NAME))
                .filter(|tag| tag.parse::<ImageName>().is_err())
                .map(str::to_owned)
                .collect();
            let has_tag = !(names.is_empty() && other_tags.is_empty());
            let layers: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
            images.push(StoredImage {
                id: manifest.config.digest,
                manifest: descriptor.digest,
                names,
                other_tags,
                untagged_since: (!has_tag).then(|| untagged_since(descriptor)),
                platform: config.platform().clone(),
                created: config.created().map(str::to_owned),
                layers: manifest.layers.len(),
                size: layers + manifest.config.size + descriptor.size,
            });
        }
        Ok(images)
    }

    /// The ID of the image a descriptor names.
    pub(super) fn image_id(&self, descriptor: &Descriptor) -> Result<Digest> {
        Ok(self.manifest(descriptor)?.config.digest)
    }

    /// The manifest a descriptor names, compared with its digest.
    pub(super) fn manifest(&self, descriptor: &Descriptor) -> Result<Manifest> {
        let bytes = self.read_blob(descriptor.digest, "manifest")?;
        oci::parse_manifest(&format!("manifest `{}` of the store", descriptor.digest), &descriptor.media_type, &bytes)
    }

    /// A small blob, compared with its digest.
    pub(super) fn read_blob(&self, digest: Digest, what: &str) -> Result<Vec<u8>> {
        let damaged = |how: &str| {
            Error::new(Kind::Corrupt, format!("the {what} `{digest}` of the store {how}"))
                .hint("remove the image with `castoff call image.remove`, by name or by its manifest's digest, and bring it in again")
        };
        let path = self.blobs.path(digest);
        if !fs::exists(&path)? {
            return Err(damaged("is missing"));
        }
        let bytes = fs::read_at_most(&path, JSON_LIMIT)?;
        if Digest::of(&bytes) == digest { Ok(bytes) } else { Err(damaged("is damaged")) }
    }

    /// Adds every blob that a descriptor of the index reaches, itself among them, with the size each must have.
    pub(super) fn reach(&self, descriptor: &Descriptor, reached: &mut BTreeSet<(Digest, u64)>) -> Result<()> {
        if !reached.insert((descriptor.digest, descriptor.size)) {
            return Ok(());
        }
        if descriptor.is_index() {
            let bytes = self.read_blob(descriptor.digest, "index")?;
            let index: Index = oci::parse(&format!("index `{}` of the store", descriptor.digest), &bytes)?;
            return index.manifests.iter().try_for_each(|inner| self.reach(inner, reached));
        }
        let manifest = self.manifest(descriptor)?;
        reached.insert((manifest.config.digest, manifest.config.size));
        reached.extend(manifest.layers.iter().map(|layer| (layer.digest, layer.size)));
        Ok(())
    }
}

/// Since when an image has no name; what other programs left without one has had none for ever.
fn untagged_since(descriptor: &Descriptor) -> u64 {
    descriptor.annotation(UNTAGGED).and_then(|text| text.parse().ok()).unwrap_or_default()
}
