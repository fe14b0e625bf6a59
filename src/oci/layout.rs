//! Reads images from an OCI layout, be it a directory or an archive: index, nested indexes, manifest, configuration.

use std::sync::Arc;

use serde::Deserialize;

use super::compression::Compression;
use super::config::ImageConfig;
use super::json;
use super::manifest::{CONTAINERD_NAME, Descriptor, Index, Manifest, Platform, REF_NAME, media_type};
use super::paths::blob_name;
use super::source::{ImageSource, LayerSource, OwnManifest};
use crate::error::{Context as _, Error, Kind, Result};
use crate::rootfs::{FileRegion, ReadAt as _};
use crate::vocab::{Digest, ImageName};

/// How deep indexes may be nested in one another.
const INDEX_DEPTH: usize = 4;

/// The files of a layout or archive, by path; nothing outside can be reached.
pub(crate) trait Files {
    /// The file, if there is one.
    fn open(&self, path: &str) -> Result<Option<FileRegion>>;

    /// What to call the whole in messages.
    fn place(&self) -> String;
}

/// Which image of a layout is meant.
#[derive(Clone, Debug)]
pub struct Choice<'choice> {
    /// Its name in the index; without one the layout must have one image only.
    pub tag: Option<&'choice str>,
    /// Its platform, where there are several.
    pub platform: &'choice Platform,
}

/// The bytes of a small file.
pub(super) fn small(files: &dyn Files, path: &str) -> Result<Option<Vec<u8>>> {
    let Some(region) = files.open(path)? else { return Ok(None) };
    let what = || format!("`{path}` of {}", files.place());
    if region.size() > json::JSON_LIMIT {
        return Err(Error::new(Kind::Limit, format!("{} is larger than {} bytes", what(), json::JSON_LIMIT)));
    }
    let mut bytes = vec![0; usize::try_from(region.size()).unwrap_or_default()];
    region.read_exact_at(&mut bytes, 0).context(|| format!("cannot read {}", what()))?;
    Ok(Some(bytes))
}

/// The chosen image of a layout.
pub(super) fn read(files: &dyn Files, choice: &Choice<'_>) -> Result<ImageSource> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Marker {
        image_layout_version: String,
    }
    let place = files.place();
    let missing = |name: &str| Error::new(Kind::Corrupt, format!("{place} is not an OCI layout: it has no `{name}`"));
    let marker = small(files, "oci-layout")?.ok_or_else(|| missing("oci-layout"))?;
    let marker: Marker = json::parse(&format!("`oci-layout` of {place}"), &marker)?;
    if !marker.image_layout_version.starts_with("1.") {
        return Err(Error::new(
            Kind::Unsupported,
            format!("{place} is an OCI layout of version `{}`, not 1", marker.image_layout_version),
        ));
    }
    let bytes = small(files, "index.json")?.ok_or_else(|| missing("index.json"))?;
    let index: Index = json::parse(&format!("`index.json` of {place}"), &bytes)?;
    let candidates = with_tag(&index, choice.tag, &place)?;
    let mut notes = Vec::new();
    let chosen = for_platform(&candidates, choice.platform, &place, &mut notes)?;
    let mut image = follow(files, chosen, choice.platform, &mut notes, 0)?;
    image.notes.splice(0..0, notes);
    Ok(image)
}

/// What the index calls an image.
fn shown(descriptor: &Descriptor) -> String {
    let name = descriptor.annotation(CONTAINERD_NAME).or(descriptor.annotation(REF_NAME));
    name.map_or_else(|| descriptor.digest.to_string(), str::to_owned)
}

fn with_tag<'index>(index: &'index Index, tag: Option<&str>, place: &str) -> Result<Vec<&'index Descriptor>> {
    let all = || index.manifests.iter();
    let list = |found: &[&Descriptor]| {
        let mut names: Vec<String> = found.iter().map(|descriptor| format!("`{}`", shown(descriptor))).collect();
        names.dedup();
        names.truncate(20);
        names.join(", ")
    };
    let Some(tag) = tag else {
        let found: Vec<&Descriptor> = all().collect();
        let first = found.first().ok_or_else(|| Error::new(Kind::NotFound, format!("{place} holds no image")))?;
        // Several names of one image, or one name for several platforms, leave no doubt what is meant.
        let same_image = found.iter().all(|other| other.digest == first.digest);
        let same_name = first.annotation(REF_NAME).is_some()
            && found.iter().all(|other| other.annotation(REF_NAME) == first.annotation(REF_NAME))
            && found.iter().all(|other| other.annotation(CONTAINERD_NAME) == first.annotation(CONTAINERD_NAME));
        let by_platform = found.iter().all(|other| other.platform.is_some() && other.annotation(REF_NAME).is_none());
        return if same_image {
            Ok(vec![*first])
        } else if same_name || by_platform {
            Ok(found)
        } else {
            Err(Error::new(Kind::Usage, format!("{place} holds several images: {}", list(&found)))
                .hint("name one of them behind a colon"))
        };
    };
    for annotation in [REF_NAME, CONTAINERD_NAME] {
        let found: Vec<&Descriptor> = all().filter(|other| other.annotation(annotation) == Some(tag)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let found: Vec<&Descriptor> = all().collect();
    Err(Error::new(Kind::NotFound, format!("{place} holds no image `{tag}`")).hint(match found.as_slice() {
        [] => "it holds no image at all".to_owned(),
        found => format!("it holds {}", list(found)),
    }))
}

/// The one descriptor for this platform; what was passed over is noted.
fn for_platform<'index>(
    found: &[&'index Descriptor],
    platform: &Platform,
    place: &str,
    notes: &mut Vec<String>,
) -> Result<&'index Descriptor> {
    if let [only] = found[..] {
        return Ok(only);
    }
    let offered: Vec<String> =
        found.iter().filter_map(|other| other.platform.as_ref()).map(|offered| format!("`{offered}`")).collect();
    let accepted: Vec<&Descriptor> = found
        .iter()
        .copied()
        .filter(|other| other.platform.as_ref().is_some_and(|offered| platform.accepts(offered)))
        .collect();
    let first = accepted.first().copied().ok_or_else(|| {
        Error::new(Kind::NotFound, format!("{place} holds no image for `{platform}`")).hint(if offered.is_empty() {
            "it holds several images and says of none which platform it is for".to_owned()
        } else {
            format!("it holds images for {}", offered.join(", "))
        })
    })?;
    if let Some(other) = accepted.iter().find(|other| other.digest != first.digest) {
        return Err(Error::new(
            Kind::Usage,
            format!("{place} holds several images for `{platform}`: `{}` and `{}`", shown(first), shown(other)),
        )
        .hint("name one of them behind a colon"));
    }
    let taken = first.platform.as_ref().map(ToString::to_string).unwrap_or_default();
    notes.push(format!("chose `{taken}` of the platforms {}", offered.join(", ")));
    Ok(first)
}

/// From a descriptor of the index down to the image.
fn follow(
    files: &dyn Files,
    descriptor: &Descriptor,
    platform: &Platform,
    notes: &mut Vec<String>,
    depth: usize,
) -> Result<ImageSource> {
    if !descriptor.is_index() {
        return image_of(files, descriptor);
    }
    let place = files.place();
    if depth == INDEX_DEPTH {
        return Err(Error::new(
            Kind::Corrupt,
            format!("indexes in {place} are nested deeper than {INDEX_DEPTH} levels"),
        ));
    }
    let bytes = checked(files, descriptor, "index")?;
    let index: Index = json::parse(&format!("index `{}` of {place}", descriptor.digest), &bytes)?;
    let real: Vec<&Descriptor> = index.manifests.iter().filter(|other| !is_attestation(other)).collect();
    if real.is_empty() {
        return Err(Error::new(Kind::NotFound, format!("index `{}` of {place} holds no image", descriptor.digest)));
    }
    let chosen = for_platform(&real, platform, &place, notes)?;
    let mut image = follow(files, chosen, platform, notes, depth + 1)?;
    if image.names.is_empty() {
        image.names = names_of(descriptor);
    }
    Ok(image)
}

/// BuildKit puts provenance beside images, under a platform nobody has.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotation("vnd.docker.reference.type").is_some()
        || descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

/// The names a descriptor's annotations give.
fn names_of(descriptor: &Descriptor) -> Vec<ImageName> {
    let name = descriptor.annotation(CONTAINERD_NAME).or_else(|| {
        // A bare `latest` is a tag, not the name of a repository.
        descriptor.annotation(REF_NAME).filter(|name| name.contains([':', '/']))
    });
    name.and_then(|name| name.parse().ok()).into_iter().collect()
}

/// A blob that must be there, with the size and digest its descriptor says.
fn checked(files: &dyn Files, descriptor: &Descriptor, what: &str) -> Result<Vec<u8>> {
    let path = blob_name(descriptor.digest);
    let place = files.place();
    let bytes = small(files, &path)?
        .ok_or_else(|| Error::new(Kind::Corrupt, format!("{place} lacks the {what} `{}`", descriptor.digest)))?;
    let found = Digest::of(&bytes);
    if found != descriptor.digest || bytes.len() as u64 != descriptor.size {
        return Err(Error::new(
            Kind::Corrupt,
            format!(
                "the {what} `{}` of {place} is damaged: {} bytes with digest `{found}` were found, {} are wanted",
                descriptor.digest,
                bytes.len(),
                descriptor.size
            ),
        ));
    }
    Ok(bytes)
}

/// The image a manifest describes.
pub(crate) fn image_of(files: &dyn Files, descriptor: &Descriptor) -> Result<ImageSource> {
    let place = files.place();
    let what = format!("manifest `{}` of {place}", descriptor.digest);
    let bytes = checked(files, descriptor, "manifest")?;
    let manifest = parse_manifest(&what, &descriptor.media_type, &bytes)?;
    let config = ImageConfig::parse(&checked(files, &manifest.config, "image configuration")?)
        .context(|| format!("cannot read the image of {what}"))?;
    if config.diff_ids().len() != manifest.layers.len() {
        return Err(Error::new(
            Kind::Corrupt,
            format!(
                "{what} lists {} layers, its configuration {} diff IDs",
                manifest.layers.len(),
                config.diff_ids().len()
            ),
        ));
    }
    let mut layers = Vec::with_capacity(manifest.layers.len());
    for (diff_id, blob) in config.diff_ids().iter().zip(manifest.layers) {
        let region = open_layer_blob(files, &blob, &place)?;
        let compression =
            Compression::detect(&region).context(|| format!("cannot read layer `{}` of {place}", blob.digest))?;
        layers.push(LayerSource {
            diff_id: *diff_id,
            compression,
            content: Arc::new(region),
            blob: Some(blob),
            verified: false,
        });
    }
    Ok(ImageSource {
        config_digest: manifest.config.digest,
        names: names_of(descriptor),
        manifest: Some(OwnManifest { media_type: descriptor.media_type.clone(), bytes }),
        platform: config.platform().clone(),
        config,
        layers,
        notes: Vec::new(),
    })
}

/// A manifest in a spelling that is read; others are refused by name.
pub(crate) fn parse_manifest(what: &str, media_type_said: &str, bytes: &[u8]) -> Result<Manifest> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        #[serde(default)]
        schema_version: u32,
        #[serde(default)]
        media_type: Option<String>,
    }
    let head: Head = json::parse(what, bytes)?;
    let said = head.media_type.as_deref().unwrap_or(media_type_said);
    if said.starts_with(media_type::DOCKER_SCHEMA1) || head.schema_version == 1 {
        return Err(Error::new(Kind::Unsupported, format!("{what} is of Docker's schema 1, which has no diff IDs"))
            .hint("pull and save the image again with Docker Engine 1.10 or later"));
    }
    if !matches!(said, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST | "") {
        return Err(Error::new(Kind::Unsupported, format!("{what} is a `{said}`, not an image")));
    }
    let manifest: Manifest = json::parse(what, bytes)?;
    let kind = manifest.config.media_type.as_str();
    if !matches!(kind, media_type::OCI_CONFIG | media_type::DOCKER_CONFIG | "") {
        return Err(Error::new(Kind::Unsupported, format!("{what} holds an artifact of type `{kind}`, not an image")));
    }
    Ok(manifest)
}

fn open_layer_blob(files: &dyn Files, blob: &Descriptor, place: &str) -> Result<FileRegion> {
    let kind = blob.media_type.as_str();
    if kind.contains("+encrypted") {
        return Err(Error::new(Kind::Unsupported, format!("layer `{}` of {place} is encrypted", blob.digest))
            .hint("decrypt the image first"));
    }
    let Some(region) = files.open(&blob_name(blob.digest))? else {
        let is_foreign = kind.contains("foreign") || kind.contains("nondistributable");
        let error = Error::new(Kind::Corrupt, format!("{place} lacks layer `{}`", blob.digest));
        return Err(match blob.urls.as_deref() {
            _ if !is_foreign => error.hint("the layout is incomplete: copy or save the image again"),
            Some([url, ..]) => error.hint(format!("the layer is foreign, its maker offers it at {url}")),
            _ => error.hint("the layer is foreign: it is kept outside the image"),
        });
    };
    if region.size() != blob.size {
        return Err(Error::new(
            Kind::Corrupt,
            format!("layer `{}` of {place} has {} bytes, its manifest says {}", blob.digest, region.size(), blob.size),
        ));
    }
    Ok(region)
}
