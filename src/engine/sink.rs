//! Where a new image goes: the store, an archive, a layout, the Docker engine. One streaming pass, the name moves last.
//!
//! Content is whole and durable before any pointer to it changes. A destination's old image keeps its name until the
//! new one is confirmed; what then becomes of it is in the result.

use std::io::Write;
use std::path::Path;

use super::docker::Docker;
use super::report::{Previous, Written};
use super::send::{Origin, Sender};
use super::surroundings::Surroundings;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::host::fault;
use crate::oci::{
    ArchiveNames, ArchiveOptions, ArchiveWriter, Compression, ImageConfig, LayerSink, LayerSource, LayoutWriter,
    StreamWriter, WrittenLayer,
};
use crate::progress::{Progress, Stage, Unit};
use crate::registry::RegistryName;
use crate::store::ImageWriter;
use crate::vocab::{DiffId, Digest, EngineImage, ImageName, Map, Reference, Value};

/// What a sink is given to write.
pub struct NewImage<'a> {
    /// The layers, bottom first.
    pub layers: Vec<NewLayer<'a>>,
    /// Makes the configuration once the layers' digests are known.
    pub config: ConfigMaker<'a>,
    /// The names of the source, for destinations that keep them.
    pub names: Vec<ImageName>,
    /// Where the image comes from, where it is a copy of one.
    pub origin: Origin,
}

/// Makes an image configuration of the layers that were written.
pub type ConfigMaker<'a> = Box<dyn Fn(&[DiffId]) -> Result<ImageConfig> + Send + Sync + 'a>;

/// A layer to be written: how long its bare tar is, and who writes it.
pub struct NewLayer<'a> {
    /// The exact number of bytes.
    pub size: u64,
    /// The source's own layer, where this is a copy of one: its digest must come out again.
    pub stored: Option<LayerSource>,
    /// Writes the bare tar.
    pub write: BareTar<'a>,
}

/// Writes a bare tar.
pub type BareTar<'a> = Box<dyn Fn(&mut dyn Write) -> Result<()> + Send + Sync + 'a>;

/// How a sink shall write.
#[derive(Clone, Copy, Debug)]
pub struct SinkOptions {
    /// How layers are stored, where the destination leaves a choice.
    pub compression: Compression,
    /// Keep the image that loses the name.
    pub keep_old: bool,
}

/// Refuses destinations that cannot hold an image, before any work is done.
pub fn check(destination: &Reference) -> Result<()> {
    let unfit = |why: &str| Err(Error::new(Kind::Usage, format!("`{destination}` cannot be a destination: {why}")));
    match destination {
        Reference::Registry(name) => match name.parse::<RegistryName>()?.tag() {
            Some(_) => Ok(()),
            None => unfit("a digest is not a name that can be given"),
        },
        Reference::Store(EngineImage::Id(_))
        | Reference::DockerDaemon(EngineImage::Id(_))
        | Reference::Default(EngineImage::Id(_)) => unfit("an image ID is not a name that can be given"),
        _ => Ok(()),
    }
}

/// Fails with the exact need where the destination's file system has less than `size` free.
pub fn require_space(destination: &Reference, size: u64, surroundings: &Surroundings<'_>) -> Result<()> {
    match destination {
        Reference::Store(_) => host::fs::require_space(&surroundings.config.state_dir, size),
        Reference::DockerArchive { file, .. } | Reference::OciArchive { file, .. } | Reference::Tar(file) => {
            host::fs::require_space(host::fs::parent(file), size)
        }
        Reference::Oci { directory, .. } => host::fs::require_space(directory, size),
        Reference::Dir(path) => host::fs::require_space(host::fs::parent(path), size),
        // The engine's disk is the engine's to watch; its error comes back through the stream.
        Reference::DockerDaemon(_) | Reference::Registry(_) | Reference::Default(_) => Ok(()),
    }
}

/// Configuration, manifest, index and headers of an image, generously.
const BESIDE_LAYERS: u64 = 1 << 20;

/// The bytes an image will take at its destination: what the store has already takes none.
fn need(destination: &Reference, image: &NewImage<'_>, surroundings: &Surroundings<'_>) -> Result<u64> {
    let mut need = BESIDE_LAYERS;
    for layer in &image.layers {
        let there = match (destination, &layer.stored) {
            (Reference::Store(_), Some(stored)) => surroundings.store()?.holds(stored)?,
            _ => false,
        };
        if !there {
            need += layer.size;
        }
    }
    Ok(need)
}

/// Writes the image and gives it the destination's name.
pub fn write(
    destination: &Reference,
    image: &NewImage<'_>,
    options: SinkOptions,
    surroundings: &Surroundings<'_>,
) -> Result<Written> {
    require_space(destination, need(destination, image, surroundings)?, surroundings)?;
    let progress = surroundings.progress;
    match destination {
        Reference::Store(EngineImage::Name(name)) => to_store(name, image, options, surroundings),
        Reference::DockerDaemon(EngineImage::Name(name)) => to_engine(name, image, options, surroundings),
        Reference::DockerArchive { file, name } => {
            let names = name.clone().map_or_else(|| image.names.clone(), |name| vec![name]);
            to_archive(file, &ArchiveNames { names, reference: None }, image, options, progress)
        }
        Reference::OciArchive { file, tag } => {
            // A tag that is a whole image name serves engines as well.
            let name = tag.as_deref().filter(|tag| tag.contains([':', '/'])).and_then(|tag| tag.parse().ok());
            let names = name.map_or_else(|| image.names.clone(), |name| vec![name]);
            to_archive(file, &ArchiveNames { names, reference: tag.clone() }, image, options, progress)
        }
        Reference::Oci { directory, tag } => to_layout(directory, tag.as_deref(), image, options, progress),
        Reference::Registry(name) => to_registry(name, image, options, surroundings),
        other => Err(Error::new(Kind::Failed, format!("`{other}` is not an image destination"))),
    }
}

/// Counts what passes and says so.
pub(super) struct Told<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) stage: &'a mut Stage,
}

impl Write for Told<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        fault::point("engine.sink.writing");
        let count = self.out.write(bytes)?;
        self.stage.advance(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// A place that may have a layer already.
trait Place: LayerSink {
    /// Takes over a layer without reading it; whether the place has it.
    fn adopt(&mut self, _: &LayerSource) -> Result<bool> {
        Ok(false)
    }
}

impl Place for ArchiveWriter {}
impl Place for LayoutWriter {}
impl<W: Write> Place for StreamWriter<W> {}
impl Place for ImageWriter<'_> {
    fn adopt(&mut self, layer: &LayerSource) -> Result<bool> {
        ImageWriter::adopt(self, layer)
    }
}

impl Place for Sender<'_> {
    fn adopt(&mut self, layer: &LayerSource) -> Result<bool> {
        Sender::adopt(self, layer)
    }
}

/// The configuration of what was put, and the bytes of bare layers that were written.
struct Put {
    config: ImageConfig,
    bytes: u64,
}

/// All layers into a place, then the configuration that lists them.
fn put(image: &NewImage<'_>, place: &mut dyn Place, progress: &Progress) -> Result<Put> {
    let total = image.layers.iter().map(|layer| layer.size).sum();
    let mut stage = progress.stage("writing layers", Some(total), Unit::Bytes);
    let mut diff_ids = Vec::new();
    let mut bytes = 0;
    for layer in &image.layers {
        if let Some(stored) = &layer.stored
            && place.adopt(stored)?
        {
            stage.advance(layer.size);
            diff_ids.push(stored.diff_id);
            continue;
        }
        let written = place.write_layer(layer.size, &mut |out| (layer.write)(&mut Told { out, stage: &mut stage }))?;
        expect(layer, &written)?;
        diff_ids.push(written.diff_id);
        bytes += written.bare_size;
    }
    Ok(Put { config: (image.config)(&diff_ids)?, bytes })
}

fn expect(layer: &NewLayer<'_>, written: &WrittenLayer) -> Result<()> {
    match layer.stored.as_ref().map(|stored| stored.diff_id) {
        Some(expected) if expected != written.diff_id => Err(Error::new(
            Kind::Corrupt,
            format!("a layer is not what it should be: `{expected}` is wanted, `{}` was read", written.diff_id),
        )
        .hint("the source is damaged, or changed while it was read")),
        _ => Ok(()),
    }
}

fn written(put: &Put, names: Vec<String>, previous: Previous) -> Written {
    let (id, layers) = (put.config.digest(), put.config.diff_ids().to_vec());
    Written { id, bytes: put.bytes, layers, names, previous, notes: Map::new() }
}

fn to_store(
    name: &ImageName,
    image: &NewImage<'_>,
    options: SinkOptions,
    surroundings: &Surroundings<'_>,
) -> Result<Written> {
    let store = surroundings.store()?;
    let mut writer = store.image_writer(options.compression)?;
    let put = put(image, &mut writer, surroundings.progress)?;
    let stored = writer.finish(&put.config, std::slice::from_ref(name))?;
    fault::point("engine.sink.store.after-tag");
    let previous = match stored.previous.first() {
        None => Previous::None,
        Some((_, old)) if *old == stored.id => Previous::Same,
        Some((_, old)) if !options.keep_old && store.remove_untagged(*old)? => Previous::Removed(*old),
        Some((_, old)) => Previous::Kept(*old),
    };
    Ok(written(&put, vec![name.to_string()], previous))
}

fn to_archive(
    file: &Path,
    names: &ArchiveNames,
    image: &NewImage<'_>,
    options: SinkOptions,
    progress: &Progress,
) -> Result<Written> {
    host::fs::sweep(host::fs::parent(file))?;
    let mtime = host::clock::source_date_epoch()?.unwrap_or_default().as_secs();
    let mut writer = ArchiveWriter::create(file, ArchiveOptions { compression: options.compression, mtime })?;
    let put = put(image, &mut writer, progress)?;
    writer.finish(&put.config, names)?;
    let shown = names.names.iter().map(ToString::to_string).chain(names.reference.clone()).collect();
    Ok(written(&put, shown, Previous::None))
}

fn to_layout(
    directory: &Path,
    tag: Option<&str>,
    image: &NewImage<'_>,
    options: SinkOptions,
    progress: &Progress,
) -> Result<Written> {
    let mut writer = LayoutWriter::open(directory, options.compression)?;
    let put = put(image, &mut writer, progress)?;
    writer.finish(&put.config, tag, None)?;
    Ok(written(&put, tag.iter().map(ToString::to_string).collect(), Previous::None))
}

fn to_registry(
    name: &str,
    image: &NewImage<'_>,
    options: SinkOptions,
    surroundings: &Surroundings<'_>,
) -> Result<Written> {
    let mut sender = Sender::new(name, image, options, surroundings)?;
    let put = put(image, &mut sender, surroundings.progress)?;
    let (digest, told) = sender.finish(&put.config, image.origin.manifest.as_ref())?;
    let mut done = written(&put, vec![name.to_owned()], Previous::None);
    done.bytes = told.sent;
    done.notes.insert("digest".into(), digest.to_string().into());
    done.notes.insert("blobs".into(), Value::map([("there", told.there), ("mounted", told.mounted)]));
    Ok(done)
}

fn to_engine(
    name: &ImageName,
    image: &NewImage<'_>,
    options: SinkOptions,
    surroundings: &Surroundings<'_>,
) -> Result<Written> {
    let docker = surroundings.docker()?;
    let key = EngineImage::Name(name.clone());
    let old = docker.inspect_image(&key)?.map(|info| info.id);
    let mut done = None;
    // The engine's own stage counts the bytes it takes.
    let silent = Progress::silent();
    let loaded = docker.load(None, surroundings.progress, |out| {
        let mut writer = StreamWriter::new(out);
        let put = put(image, &mut writer, &silent)?;
        writer.finish(&put.config, &[])?;
        done = Some(put);
        Ok(())
    })?;
    let put = done.ok_or_else(|| Error::new(Kind::Failed, "the engine stopped reading before the image was whole"))?;
    let id = confirm(docker, loaded.only()?, &put.config)?;
    fault::point("engine.sink.docker.before-tag");
    docker.tag(&EngineImage::Id(id), name)?;
    fault::point("engine.sink.docker.after-tag");
    let confirmed = docker.inspect_image(&key)?.map(|info| info.id);
    if confirmed != Some(id) {
        return Err(Error::new(
            Kind::Conflict,
            format!("`{name}` does not name the new image `{id}` after tagging it"),
        )
        .hint("somebody else tags the same name; run the command again when they are done"));
    }
    let previous = match old {
        None => Previous::None,
        Some(old) if old == id => Previous::Same,
        Some(old) if options.keep_old => Previous::Kept(old),
        Some(old) => remove_old(docker, old, surroundings.progress)?,
    };
    Ok(Written { id, ..written(&put, vec![name.to_string()], previous) })
}

/// The loaded image's ID, once it is sure that it is the image that was sent: by the configuration's digest, or, where
/// an engine counts manifests (the containerd image store), by its layers.
fn confirm(docker: &Docker, loaded: Digest, config: &ImageConfig) -> Result<Digest> {
    if loaded == config.digest() {
        return Ok(loaded);
    }
    let info = docker.inspect_image(&EngineImage::Id(loaded))?;
    if info.is_some_and(|info| info.diff_ids == config.diff_ids()) {
        return Ok(loaded);
    }
    Err(Error::new(
        Kind::Corrupt,
        format!("the Docker engine loaded `{loaded}`, which is not the image `{}` that was sent", config.digest()),
    )
    .hint("the name was not moved; `docker images` shows the stray image"))
}

/// Removes the image that lost its name; one that still has names or containers stays, and that is said.
pub(super) fn remove_old(docker: &Docker, old: Digest, progress: &Progress) -> Result<Previous> {
    // Who runs the same command at the same time may have removed it already.
    let Some(info) = docker.inspect_image(&EngineImage::Id(old))? else { return Ok(Previous::Removed(old)) };
    if !info.repo_tags.is_empty() {
        return Ok(Previous::Kept(old));
    }
    fault::point("engine.sink.docker.before-remove");
    match docker.remove(&EngineImage::Id(old)) {
        Ok(_) => Ok(Previous::Removed(old)),
        Err(error) => match error.kind() {
            Kind::NotFound => Ok(Previous::Removed(old)),
            Kind::Conflict => {
                progress.warn(format!("the old image {old} is kept: {error}"));
                Ok(Previous::Kept(old))
            }
            _ => Err(error).context(|| format!("cannot remove the old image `{old}`")),
        },
    }
}
