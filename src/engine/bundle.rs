//! An image that carries disk images in `/data/images`, each compressed, as [`super::extract`] brings them out: equal
//! files make equal bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::configuration::history_of;
use super::copy::as_stored;
use super::extract::{PACKED, PLACE, name};
use super::open::{self, Opened};
use super::pack::whole_layer;
use super::report::Report;
use super::send::Origin;
use super::sink::{self, NewImage, NewLayer, SinkOptions};
use super::surroundings::Surroundings;
use crate::error::{Context as _, Error, Kind, Result, from_io};
use crate::host;
use crate::host::fs::{self, TempFile};
use crate::oci::{self, Compression, HistoryEntry, ImageConfig, Platform};
use crate::progress::Unit;
use crate::rootfs::tar;
use crate::rootfs::{Entry, EntryKind, FileRegion, ReadAt, Timestamp};
use crate::vocab::{DiffId, Reference, Value, timestamp};

/// How hard zstd tries: its own default.
const LEVEL: i32 = 3;
/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// What to put into an image, and where that goes.
#[derive(Clone, Debug)]
pub struct BundleRequest {
    /// Files below `images` in the folder.
    pub images: Vec<String>,
    /// Where the image goes.
    pub destination: Reference,
    /// The folder.
    pub dir: PathBuf,
    /// The image to stand on; none: nothing.
    pub base: Option<Reference>,
}

/// Makes the image, and says what was done.
pub fn bundle(request: &BundleRequest, surroundings: &Surroundings<'_>) -> Result<Value> {
    let names = checked(request)?;
    let destination = surroundings.resolve(&request.destination)?;
    let scratch = surroundings.scratch(None)?;
    let mut report = Report::new(request.dir.join("images").display().to_string(), destination.to_string());
    report.seconds.begin("compress");
    let mut files = BTreeMap::new();
    for (entry, path) in &names {
        files.insert(entry.clone(), compressed(path, entry, &scratch, surroundings)?);
    }
    report.seconds.begin("write");
    let base = request.base.as_ref().map(|base| open::open(base, None, &scratch, surroundings)).transpose()?;
    let mut layers = match &base {
        Some(base) => base_layers(base, &destination, &scratch, surroundings)?,
        None => Vec::new(),
    };
    layers.push(layer(files, modified()?));
    let plan = Plan::new(base.as_ref(), surroundings)?;
    let config = move |diff_ids: &[DiffId]| plan.config(diff_ids);
    let image = NewImage { layers, config: Box::new(config), names: Vec::new(), origin: Origin::default() };
    let options = SinkOptions { compression: Compression::None, keep_old: true };
    let written =
        sink::write(&destination, &image, options, surroundings).context(|| format!("cannot write `{destination}`"))?;
    drop(image);
    report.seconds.end();
    report.wrote(written);
    let carried = names.keys().map(|entry| format!("/{PLACE}/{entry}"));
    report.notes.insert("images".into(), Value::list(carried));
    Ok(report.to_value())
}

/// What would be done.
pub fn preview(request: &BundleRequest, surroundings: &Surroundings<'_>) -> Result<Value> {
    let names = checked(request)?;
    let destination = surroundings.resolve(&request.destination)?;
    if let Some(base) = &request.base {
        open::must_exist(&surroundings.resolve(base)?, surroundings)?;
    }
    let carried: Vec<String> = names.keys().map(|entry| format!("/{PLACE}/{entry}")).collect();
    let comment = format!("an image with {} would be written to `{destination}`", carried.join(", "));
    let changes = Value::map([("destination", Value::from(destination.to_string())), ("images", Value::list(carried))]);
    Ok(Value::map([("result", Value::Null), ("comment", comment.into()), ("changes", changes)]))
}

/// The names in the image and the files they are made of; nothing is read but what is there.
fn checked(request: &BundleRequest) -> Result<BTreeMap<String, PathBuf>> {
    sink::check(&request.destination)?;
    if matches!(request.destination, Reference::Dir(_) | Reference::Tar(_)) {
        return Err(Error::new(
            Kind::Usage,
            format!("`{}` is a place for a tree, not for an image", request.destination),
        )
        .hint("name a registry, `oci:DIR:TAG`, `docker-archive:FILE` or `store:NAME`"));
    }
    let mut names = BTreeMap::new();
    for image in &request.images {
        let wrong = || Error::new(Kind::Usage, format!("`{}` is no name of a file in `images`", image.escape_debug()));
        let plain = name(image.as_bytes()).ok_or_else(wrong)?;
        let path = request.dir.join("images").join(&plain);
        let found = fs::link_metadata(&path)?.ok_or_else(|| {
            Error::new(Kind::NotFound, format!("there is no file `{}`", path.display()))
                .hint("`images` names files of the folder `images` in `dir`")
        })?;
        if !found.is_file() {
            return Err(Error::new(Kind::Refused, format!("`{}` is not a regular file", path.display())));
        }
        let entry = if plain.ends_with(PACKED) { plain } else { format!("{plain}{PACKED}") };
        if names.insert(entry.clone(), path).is_some() {
            return Err(Error::new(Kind::Usage, format!("two of `images` would become `{entry}`")));
        }
    }
    if names.is_empty() {
        return Err(Error::new(Kind::Usage, "`images` names no file"));
    }
    Ok(names)
}

/// A file compressed into an unnamed one; one that is compressed already, as it is.
fn compressed(path: &Path, entry: &str, scratch: &Path, surroundings: &Surroundings<'_>) -> Result<Arc<dyn ReadAt>> {
    let file = fs::open_regular(path, false)?;
    let wrong = || format!("cannot read `{}`", path.display());
    let before = file.metadata().context(wrong)?;
    let source = FileRegion { file: Arc::new(file), start: 0, size: before.len() };
    if path.to_string_lossy().ends_with(PACKED) {
        if Compression::detect(&source)? != Compression::Zstd {
            return Err(Error::new(Kind::Corrupt, format!("`{}` is not compressed with zstd", path.display())));
        }
        return Ok(Arc::new(source));
    }
    let temporary = TempFile::beside(&scratch.join("zst"), 0o600)?;
    let out = temporary.file().try_clone().context(|| format!("cannot keep `{}` open", temporary.path().display()))?;
    let odd = || format!("cannot compress `{}`", path.display());
    let mut encoder = zstd::stream::write::Encoder::new(&out, LEVEL).context(odd)?;
    encoder.include_checksum(true).context(odd)?;
    encoder.set_pledged_src_size(Some(source.size)).context(odd)?;
    let mut stage = surroundings.progress.stage(format!("compressing {entry}"), Some(source.size), Unit::Bytes);
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < source.size {
        let count = usize::try_from(source.size - at).unwrap_or(PIECE).min(PIECE);
        source.read_exact_at(&mut buffer[..count], at).context(wrong)?;
        encoder.write_all(&buffer[..count]).map_err(|error| from_io(error, odd))?;
        at += count as u64;
        stage.advance(count as u64);
    }
    encoder.finish().context(odd)?;
    let after = source.file.metadata().context(wrong)?;
    let facts = |found: &std::fs::Metadata| (found.len(), found.mtime(), found.mtime_nsec());
    if facts(&before) != facts(&after) {
        return Err(Error::new(Kind::Conflict, format!("`{}` changed while it was read", path.display()))
            .hint("stop what writes it, a virtual machine for one"));
    }
    let size = out.metadata().context(odd)?.len();
    Ok(Arc::new(FileRegion { file: Arc::new(out), start: 0, size }))
}

/// The time that everything in the layer has.
fn modified() -> Result<i64> {
    let epoch = host::clock::source_date_epoch()?.unwrap_or_default();
    Ok(i64::try_from(epoch.as_secs()).unwrap_or(i64::MAX))
}

fn entry(path: &str, kind: EntryKind, mtime: i64) -> Entry {
    Entry {
        path: path.as_bytes().to_vec(),
        mode: if kind == EntryKind::Directory { 0o755 } else { 0o644 },
        kind,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: mtime, nanoseconds: 0 },
        xattrs: BTreeMap::new(),
    }
}

/// The layer with these files, and all folders above them.
fn layer(files: BTreeMap<String, Arc<dyn ReadAt>>, mtime: i64) -> NewLayer<'static> {
    let mut folders = BTreeSet::new();
    let mut members = Vec::new();
    for (name, content) in files {
        let path = format!("{PLACE}/{name}");
        folders.extend(path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        let head = tar::encode(&entry(&path, EntryKind::File { size: content.size() }, mtime), None, false);
        members.push((head, content));
    }
    let heads: Vec<u8> =
        folders.iter().flat_map(|path| tar::encode(&entry(path, EntryKind::Directory, mtime), None, false)).collect();
    let size = members
        .iter()
        .map(|(head, content)| head.len() as u64 + content.size() + tar::content_padding(content.size()))
        .sum::<u64>()
        + heads.len() as u64
        + tar::END.len() as u64;
    let write = move |out: &mut dyn Write| {
        let wrong = |error| from_io(error, || "cannot write a layer".to_owned());
        out.write_all(&heads).map_err(wrong)?;
        for (head, content) in &members {
            out.write_all(head).map_err(wrong)?;
            oci::copy_layer(&**content, out)?;
            let padding = std::io::repeat(0).take(tar::content_padding(content.size()));
            std::io::copy(&mut { padding }, &mut *out).map_err(wrong)?;
        }
        out.write_all(&tar::END).map_err(wrong)
    };
    NewLayer { size, stored: None, write: Box::new(write) }
}

fn base_layers(
    base: &Opened,
    destination: &Reference,
    scratch: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<NewLayer<'static>>> {
    if base.image().is_none() {
        return Err(Error::new(Kind::Usage, format!("`{}` is no image to stand on", base.reference)));
    }
    if matches!(destination, Reference::Registry(_)) {
        return as_stored(base, scratch, surroundings);
    }
    let unfolded = open::unfold(base, scratch, surroundings)?;
    Ok(base.layers().iter().zip(&unfolded).map(whole_layer).collect())
}

/// What decides the configuration, but for the new layer's digest.
struct Plan {
    base: ImageConfig,
    history: Vec<HistoryEntry>,
    created: String,
}

impl Plan {
    fn new(base: Option<&Opened>, surroundings: &Surroundings<'_>) -> Result<Self> {
        let created = timestamp(modified()?, 0);
        if let Some(image) = base.and_then(Opened::image) {
            let history = history_of(&image.config, image.layers.len());
            return Ok(Self { base: image.config.with_created(&created)?, history, created });
        }
        let platform = surroundings.platform.clone().unwrap_or_else(Platform::host);
        Ok(Self { base: ImageConfig::default_for(&platform, &created, false)?, history: Vec::new(), created })
    }

    fn config(&self, diff_ids: &[DiffId]) -> Result<ImageConfig> {
        let mut history = self.history.clone();
        let has = history.iter().filter(|entry| !entry.is_empty_layer()).count();
        for _ in has..diff_ids.len() {
            history.push(HistoryEntry::new(Some(&self.created), "castoff forest.push", "")?);
        }
        self.base.with_layers(diff_ids, &history)
    }
}
