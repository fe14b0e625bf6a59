//! Writes an image as one tar that every reader takes: an OCI layout and a docker archive over the same blobs.
//!
//! ```text
//! blobs/sha256/LAYER …        in their order, each once; name and size patched in when they are known
//! blobs/sha256/CONFIG
//! blobs/sha256/MANIFEST
//! index.json                  one entry a name, annotated for containerd and for OCI tools
//! manifest.json               Config, RepoTags, Layers: what Docker Engine before 28 and podman look for
//! oci-layout
//! ```
//!
//! Equal input gives equal bytes. The file appears, or replaces what was there, when all of it is on disk.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::compression::{Compression, LayerEncoder, WrittenLayer};
use super::config::ImageConfig;
use super::header;
use super::json;
use super::manifest::{CONTAINERD_NAME, Descriptor, Index, Manifest, REF_NAME, media_type};
use super::paths::{OCI_LAYOUT, blob_name};
use super::sink::{LayerSink, require_layers, require_size};
use crate::error::{Context as _, Result};
use crate::host::fault;
use crate::host::fs::TempFile;
use crate::vocab::{Digest, ImageName};

/// How an archive is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct ArchiveOptions {
    /// How layers are stored; bare unless asked. Docker Engine 20.10 takes bare and gzip, not zstd.
    pub compression: Compression,
    /// The modification time of every member, in seconds since 1970.
    pub mtime: u64,
}

/// What an image in an archive is called.
#[derive(Clone, Debug, Default)]
pub struct ArchiveNames {
    /// Its names for engines.
    pub names: Vec<ImageName>,
    /// `org.opencontainers.image.ref.name`, for OCI tools; without one each name's tag.
    pub reference: Option<String>,
}

/// One portable archive under construction.
pub struct ArchiveWriter {
    temporary: TempFile,
    file: Arc<File>,
    offset: u64,
    options: ArchiveOptions,
    layers: Vec<WrittenLayer>,
    blobs: Vec<Digest>,
}

/// One image of a `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage<'image> {
    pub(super) config: &'image str,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: &'image [String],
}

impl<'image> SavedImage<'image> {
    pub(super) fn new(config: &'image str, names: &[ImageName], layers: &'image [String]) -> Self {
        let repo_tags = (!names.is_empty()).then(|| names.iter().map(ToString::to_string).collect());
        Self { config, repo_tags, layers }
    }
}

impl ArchiveWriter {
    /// An archive that will be `target`.
    pub fn create(target: &Path, options: ArchiveOptions) -> Result<Self> {
        let temporary = TempFile::beside(target, 0o644)?;
        let file = temporary.file().try_clone().context(|| format!("cannot write `{}`", temporary.path().display()))?;
        Ok(Self { temporary, file: Arc::new(file), offset: 0, options, layers: Vec::new(), blobs: Vec::new() })
    }

    /// Writes everything but the layers and puts the archive in its place; the image's ID.
    pub fn finish(mut self, config: &ImageConfig, names: &ArchiveNames) -> Result<Digest> {
        require_layers(config, &self.layers)?;
        let id = config.digest();
        let config_name = self.blob(id, config.bytes())?;
        let size = config.bytes().len() as u64;
        let layers = self.layers.iter().map(WrittenLayer::descriptor).collect();
        let manifest = json::encode(&Manifest::new(Descriptor::new(media_type::OCI_CONFIG, id, size), layers))?;
        let manifest_digest = Digest::of(&manifest);
        self.blob(manifest_digest, &manifest)?;
        let mut descriptor = Descriptor::new(media_type::OCI_MANIFEST, manifest_digest, manifest.len() as u64);
        descriptor.platform = Some(config.platform().clone());
        let index = json::encode(&Index::new(named(&descriptor, names)))?;
        self.member("index.json", &index)?;
        let layers: Vec<String> = self.layers.iter().map(|layer| blob_name(layer.digest)).collect();
        self.member("manifest.json", &json::encode(&[SavedImage::new(&config_name, &names.names, &layers)])?)?;
        self.member("oci-layout", OCI_LAYOUT)?;
        self.put(&header::END)?;
        self.file.set_len(self.offset).context(|| "cannot set the archive's length")?;
        fault::point("oci.archive.before-persist");
        self.temporary.persist()?;
        fault::point("oci.archive.after-persist");
        Ok(id)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.put_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        Ok(())
    }

    fn put_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).context(|| format!("cannot write `{}`", self.temporary.path().display()))
    }

    fn member(&mut self, name: &str, content: &[u8]) -> Result<()> {
        let size = content.len() as u64;
        self.put(&header::file(name, size, self.options.mtime))?;
        self.put(content)?;
        self.put(header::padding(size))
    }

    /// A blob under its digest; one that is there already is not written again.
    fn blob(&mut self, digest: Digest, content: &[u8]) -> Result<String> {
        let name = blob_name(digest);
        if !self.blobs.contains(&digest) {
            self.blobs.push(digest);
            self.member(&name, content)?;
        }
        Ok(name)
    }
}

impl LayerSink for ArchiveWriter {
    fn write_layer(&mut self, size: u64, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<WrittenLayer> {
        let start = self.offset;
        let place = Place { file: Arc::clone(&self.file), offset: start + header::BLOCK };
        let mut encoder = LayerEncoder::new(place, self.options.compression)?;
        write(&mut encoder)?;
        let (_, layer) = encoder.finish()?;
        require_size(size, layer.bare_size)?;
        if !self.blobs.contains(&layer.digest) {
            self.put_at(&header::file(&blob_name(layer.digest), layer.size, self.options.mtime), start)?;
            self.offset = start + header::BLOCK + layer.size;
            self.put(header::padding(layer.size))?;
            self.blobs.push(layer.digest);
        } // else the next member overwrites the second copy
        self.layers.push(layer.clone());
        Ok(layer)
    }
}

/// Writes to a file from an offset on, without a shared position.
struct Place {
    file: Arc<File>,
    offset: u64,
}

impl Write for Place {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One descriptor a name, annotated so that OCI tools and containerd find it.
fn named(descriptor: &Descriptor, names: &ArchiveNames) -> Vec<Descriptor> {
    let annotated = |reference: Option<&str>, name: Option<&ImageName>| {
        let mut descriptor = descriptor.clone();
        if let Some(reference) = reference {
            descriptor.annotate(REF_NAME, Some(reference));
        }
        if let Some(name) = name {
            descriptor.annotate(CONTAINERD_NAME, Some(&full_name(name)));
        }
        descriptor
    };
    if names.names.is_empty() {
        return vec![annotated(names.reference.as_deref(), None)];
    }
    names
        .names
        .iter()
        .map(|name| annotated(Some(names.reference.as_deref().unwrap_or(name.tag())), Some(name)))
        .collect()
}

/// The name in full, as containerd keeps it: `docker.io/library/debian:12` for `debian:12`.
fn full_name(name: &ImageName) -> String {
    let text = name.to_string();
    match name.repository().split_once('/') {
        None => format!("docker.io/library/{text}"),
        Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => text,
        Some(_) => format!("docker.io/{text}"),
    }
}
