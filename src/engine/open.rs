//! A reference becomes an opened source: an image with its layers, or the bare tar of a root filesystem.

use std::path::Path;
use std::sync::Arc;

use super::surroundings::Surroundings;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::oci::{self, ImageSource, LayerSource, OpenedLayer};
use crate::rootfs::idmap::IdMap;
use crate::rootfs::walk::{DirectoryLayer, WalkOptions, WalkReport};
use crate::rootfs::{ReadAt, shown};
use crate::store::Store;
use crate::vocab::{Digest, EngineImage, ImageName, Map, Reference, Value};

/// A source that can be read as often as wanted.
pub struct Opened {
    /// The reference it was opened by, bare names resolved.
    pub reference: Reference,
    /// Where the bytes really come from, when that is another place than the reference says.
    pub served_by: Option<String>,
    /// What there is.
    pub content: Content,
    /// Left out of a directory before anything saw it, and why.
    pub left_out: Vec<(String, String)>,
    /// Skips, fallbacks and substitutions.
    pub warnings: Vec<String>,
    /// Facts for the report.
    pub notes: Map,
}

/// What a source holds.
pub enum Content {
    /// An image: configuration and layers.
    Image(Box<ImageSource>),
    /// A root filesystem: one bare tar, without an image configuration.
    Tree(Arc<dyn ReadAt>),
}

impl Opened {
    /// The image, where the source is one.
    pub fn image(&self) -> Option<&ImageSource> {
        match &self.content {
            Content::Image(image) => Some(image),
            Content::Tree(_) => None,
        }
    }

    /// The source's layers, not yet unfolded.
    pub fn layers(&self) -> &[LayerSource] {
        self.image().map_or(&[], |image| &image.layers)
    }
}

/// Opens what `reference` names; owners of a tree are shifted back through `idmap`.
pub fn open(
    reference: &Reference,
    idmap: Option<&IdMap>,
    scratch: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<Opened> {
    let reference = surroundings.resolve(reference)?;
    if idmap.is_some() && !matches!(reference, Reference::Dir(_)) {
        return Err(Error::new(Kind::Usage, format!("`idmap` fits only a `dir:` source, not `{reference}`")));
    }
    let shown = reference.to_string();
    open_resolved(reference, idmap, scratch, surroundings).context(|| format!("cannot open `{shown}`"))
}

fn open_resolved(
    reference: Reference,
    idmap: Option<&IdMap>,
    scratch: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<Opened> {
    let limits = surroundings.spool_limits();
    let mut served_by = None;
    let mut notes = Map::new();
    let content = match &reference {
        Reference::Store(image) => {
            let store = surroundings.store()?;
            image_of(store_image(store, image)?)
        }
        Reference::DockerDaemon(image) => {
            let (found, by) = from_engine(image, scratch, surroundings)?;
            served_by = by;
            image_of(found)
        }
        Reference::DockerArchive { file, name } => {
            image_of(oci::open_docker_archive(file, name.as_ref(), scratch, &limits, surroundings.progress)?)
        }
        Reference::Oci { directory, tag } => image_of(oci::open_layout(directory, tag.as_deref())?),
        Reference::OciArchive { file, tag } => {
            image_of(oci::open_oci_archive(file, tag.as_deref(), scratch, &limits, surroundings.progress)?)
        }
        Reference::Registry(name) => {
            let found = super::fetch::fetch(name, surroundings)?;
            notes.insert("digest".into(), found.digest.to_string().into());
            notes.insert("fetched_bytes".into(), found.bytes.into());
            image_of(found.source)
        }
        Reference::Dir(path) => return open_directory(path, idmap, reference.clone(), surroundings),
        Reference::Tar(path) => Content::Tree(open_tar(path, scratch, surroundings)?),
        Reference::Default(image) => {
            return Err(Error::new(Kind::Failed, format!("`{image}` was not resolved to an engine")));
        }
    };
    let warnings = match &content {
        Content::Image(image) => image.notes.clone(),
        Content::Tree(_) => Vec::new(),
    };
    Ok(Opened { reference, served_by, content, left_out: Vec::new(), warnings, notes })
}

fn image_of(image: ImageSource) -> Content {
    Content::Image(Box::new(image))
}

/// An image of the Docker engine: the store's own copy when it has the same image ID, else what `save` streams,
/// spooled because the merge reads it twice.
fn from_engine(
    image: &EngineImage,
    scratch: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<(ImageSource, Option<String>)> {
    let docker = surroundings.docker()?;
    let info = docker.inspect_image(image)?.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the Docker engine has no image `{image}`"))
            .hint("`docker images` lists what it has; pull or load it first")
    })?;
    let mut names: Vec<ImageName> = info.repo_tags.iter().filter_map(|tag| tag.parse().ok()).collect();
    if let EngineImage::Name(name) = image
        && !names.contains(name)
    {
        names.insert(0, name.clone());
    }
    let key = EngineImage::Id(info.id);
    if let Some(store) = surroundings.existing_store()?
        && let Some(kept) = store.lookup(&key)?
    {
        let found = ImageSource { names, ..kept };
        return Ok((found, Some("store (same image ID, no save needed)".to_owned())));
    }
    // Asking by ID keeps the stream to this one image, whatever its names mean by the time it is sent.
    host::fs::require_space(scratch, info.size)?;
    let mut file = host::fs::TempFile::beside(&scratch.join("save"), 0o600)?;
    if let Err(error) = docker.save(&key, &mut file, surroundings.progress) {
        if docker.inspect_image(&key)?.is_some() {
            return Err(error);
        }
        return Err(Error::new(Kind::Conflict, format!("the Docker engine's image `{image}` was removed meanwhile"))
            .caused_by(error)
            .hint("somebody else works on the same image; run the command again when they are done"));
    }
    // The file loses its name when this returns, and lives as long as a layer of it is read.
    let mut found =
        oci::open_docker_archive(file.path(), None, scratch, &surroundings.spool_limits(), surroundings.progress)?;
    found.names = names;
    Ok((found, None))
}

/// An image of the store, or an error that says how to see what there is.
fn store_image(store: &Store, image: &EngineImage) -> Result<ImageSource> {
    store.lookup(image)?.ok_or_else(|| {
        Error::new(Kind::NotFound, format!("the store has no image `{image}`"))
            .hint("`castoff call image.list` lists what it has")
    })
}

fn open_directory(
    path: &Path,
    idmap: Option<&IdMap>,
    reference: Reference,
    surroundings: &Surroundings<'_>,
) -> Result<Opened> {
    let options = WalkOptions { idmap: idmap.cloned(), ..WalkOptions::default() };
    let (layer, report) = DirectoryLayer::open(path, &options, surroundings.limits(), surroundings.progress)?;
    let mut notes = Map::new();
    if let Some(map) = idmap {
        notes.insert("idmap".into(), Value::from(map.to_string()));
    }
    Ok(Opened {
        reference,
        served_by: None,
        content: Content::Tree(Arc::new(layer)),
        left_out: left_out(&report),
        warnings: Vec::new(),
        notes,
    })
}

/// What the walk did not take, and why.
fn left_out(report: &WalkReport) -> Vec<(String, String)> {
    let kinds = [
        (&report.unreadable, "this user may not read it"),
        (&report.vanished, "gone when it was looked at"),
        (&report.sockets, "a socket has meaning only for the process that made it"),
        (&report.mounts, "another file system is mounted there"),
    ];
    let mut left_out = Vec::new();
    for (findings, why) in kinds {
        for finding in &findings.named {
            let reason = if finding.what.is_empty() { why.to_owned() } else { finding.what.clone() };
            left_out.push((shown(&finding.path), reason));
        }
        let unnamed = findings.total - findings.named.len() as u64;
        if unnamed > 0 {
            left_out.push((format!("and {unnamed} more"), why.to_owned()));
        }
    }
    left_out
}

fn open_tar(path: &Path, scratch: &Path, surroundings: &Surroundings<'_>) -> Result<Arc<dyn ReadAt>> {
    if host::fs::metadata(path)?.is_some_and(|metadata| metadata.is_dir()) {
        return Err(Error::new(Kind::Usage, format!("`{}` is a folder, not a tar file", path.display()))
            .hint(format!("use `dir:{}`", path.display())));
    }
    oci::open_bare_file(path, scratch, &surroundings.spool_limits(), surroundings.progress)
}

/// The bare tars of all layers, compressed ones unfolded in `scratch`.
pub fn unfold(opened: &Opened, scratch: &Path, surroundings: &Surroundings<'_>) -> Result<Vec<OpenedLayer>> {
    opened
        .layers()
        .iter()
        .enumerate()
        .map(|(number, layer)| {
            oci::open_layer(layer, scratch, &surroundings.spool_limits(), surroundings.progress)
                .context(|| at_layer(opened, number, layer))
        })
        .collect()
}

/// What was read when reading a layer failed.
pub(super) fn at_layer(opened: &Opened, number: usize, layer: &LayerSource) -> String {
    format!("cannot read layer {} of `{}` ({})", number + 1, opened.reference, layer.diff_id)
}

/// The digest of the image's configuration, where the source is an image.
pub fn image_id(opened: &Opened) -> Option<Digest> {
    opened.image().map(|image| image.config_digest)
}

/// Fails where a resolved source is not there or this user may not read it, without reading it: what a preview can
/// know of a source.
pub fn must_exist(reference: &Reference, surroundings: &Surroundings<'_>) -> Result<()> {
    let there = match reference {
        Reference::DockerDaemon(_) | Reference::Store(_) => current_id(reference, surroundings)?.is_some(),
        Reference::DockerArchive { file: path, .. }
        | Reference::OciArchive { file: path, .. }
        | Reference::Tar(path) => {
            match host::fs::metadata(path)? {
                // Opening a pipe would wait for its writer.
                Some(metadata) if metadata.is_file() => host::fs::open(path).map(|_| true)?,
                found => found.is_some(),
            }
        }
        Reference::Oci { directory, tag } => {
            oci::open_layout(directory, tag.as_deref())?;
            true
        }
        Reference::Dir(path) => host::fs::exists(path)? && host::fs::list(path).map(|_| true)?,
        Reference::Registry(name) => super::fetch::must_exist(name, surroundings).map(|()| true)?,
        Reference::Default(_) => true,
    };
    if there {
        return Ok(());
    }
    let missing = Error::new(Kind::NotFound, format!("there is no `{reference}`"));
    Err(match reference {
        Reference::DockerDaemon(_) | Reference::Store(_) => {
            missing.hint("`castoff call image.list` lists the images there are")
        }
        _ => missing,
    })
}

/// What a destination is before it is written, as the end of a sentence.
pub fn state_of(destination: &Reference, image: Option<&str>) -> Result<String> {
    let is_there = match destination {
        Reference::DockerArchive { file: path, .. }
        | Reference::OciArchive { file: path, .. }
        | Reference::Tar(path) => host::fs::exists(path)?,
        _ => false,
    };
    Ok(match image {
        Some(old) => format!(", which now names {old}"),
        None if is_there => ", replacing that file".to_owned(),
        None => String::new(),
    })
}

/// The ID of the image a resolved name means now; none for places that are not engines.
pub fn current_id(reference: &Reference, surroundings: &Surroundings<'_>) -> Result<Option<String>> {
    Ok(match reference {
        Reference::DockerDaemon(image) => surroundings.docker()?.inspect_image(image)?.map(|info| info.id.to_string()),
        Reference::Store(image) => {
            let Some(store) = surroundings.existing_store()? else { return Ok(None) };
            store.lookup(image)?.map(|image| image.config_digest.to_string())
        }
        _ => None,
    })
}
