//! Copying an image as it is: same layers, same configuration, same ID; a tree becomes an image and the reverse.

use std::path::{Path, PathBuf};

use super::open::{self, Opened};
use super::pack::{self, whole_layer};
use super::report::Report;
use super::request::PackRequest;
use super::send::Origin;
use super::sink::{self, NewImage, NewLayer, SinkOptions};
use super::surroundings::Surroundings;
use crate::error::{Context as _, Error, Kind, Result};
use crate::oci::{self, Compression, LayerSource};
use crate::vocab::{Reference, Value};

/// What to copy, where to, and how.
#[derive(Clone, Debug)]
pub struct CopyRequest {
    /// The image or root filesystem.
    pub source: Reference,
    /// Where it goes.
    pub destination: Reference,
    /// How layers are stored, where the destination leaves a choice.
    pub compression: Compression,
    /// Where compressed layers and engine streams are spooled.
    pub tmpdir: Option<PathBuf>,
    /// Whether the image that loses the name stays until `image.gc`.
    pub keep_old: bool,
}

impl CopyRequest {
    /// The same as a pack, for a source or destination that has no layers.
    fn as_pack(&self) -> PackRequest {
        PackRequest {
            source: self.source.clone(),
            destination: self.destination.clone(),
            compression: self.compression,
            tmpdir: self.tmpdir.clone(),
            keep_old: self.keep_old,
            ..PackRequest::default()
        }
    }

    fn is_pack(&self) -> bool {
        let tree = |reference: &Reference| matches!(reference, Reference::Dir(_) | Reference::Tar(_));
        tree(&self.source) || tree(&self.destination)
    }
}

/// Copies, and says what was done.
pub fn copy(request: &CopyRequest, surroundings: &Surroundings<'_>) -> Result<Report> {
    if request.is_pack() {
        return pack::pack(&request.as_pack(), surroundings);
    }
    sink::check(&request.destination)?;
    let scratch = surroundings.scratch(request.tmpdir.as_deref())?;
    let destination = surroundings.resolve(&request.destination)?;
    let mut report = Report::new(String::new(), destination.to_string());
    report.seconds.begin("open");
    let opened = open::open(&request.source, None, &scratch, surroundings)?;
    report.source = opened.reference.to_string();
    report.warnings.extend(opened.warnings.iter().cloned());
    report.notes.extend(opened.notes.clone());
    let Some(source) = opened.image() else { return pack::pack(&request.as_pack(), surroundings) };
    let layers = if matches!(destination, Reference::Registry(_)) {
        as_stored(&opened, &scratch, surroundings)?
    } else {
        let unfolded = open::unfold(&opened, &scratch, surroundings)?;
        source.layers.iter().zip(&unfolded).map(whole_layer).collect()
    };
    let config = source.config.clone();
    let image = NewImage {
        layers,
        config: Box::new(move |_| Ok(config.clone())),
        names: source.names.clone(),
        origin: Origin::of(&opened.reference, source.manifest.as_ref()),
    };
    report.seconds.begin("write");
    let options = SinkOptions { compression: request.compression, keep_old: request.keep_old };
    let written =
        sink::write(&destination, &image, options, surroundings).context(|| format!("cannot write `{destination}`"))?;
    report.seconds.end();
    report.wrote(written);
    Ok(report)
}

/// Layers for a registry, which takes compressed ones as they are: those that nobody has compared with their digests yet
/// are unfolded for it, the others are not even read.
pub(super) fn as_stored(
    opened: &Opened,
    scratch: &Path,
    surroundings: &Surroundings<'_>,
) -> Result<Vec<NewLayer<'static>>> {
    let mut layers = Vec::new();
    for (number, layer) in opened.layers().iter().enumerate() {
        let is_sure = layer.verified && layer.blob.is_some() && layer.compression != Compression::None;
        layers.push(if is_sure {
            let shown = layer.diff_id;
            let unread = move |_: &mut dyn std::io::Write| {
                Err(Error::new(Kind::Failed, format!("layer `{shown}` was not taken as it is stored")))
            };
            NewLayer { size: layer.content.size(), stored: Some(layer.clone()), write: Box::new(unread) }
        } else {
            let unfolded = oci::open_layer(layer, scratch, &surroundings.spool_limits(), surroundings.progress)
                .context(|| open::at_layer(opened, number, layer))?;
            let sure = LayerSource { verified: unfolded.verified, ..layer.clone() };
            whole_layer((&sure, &unfolded))
        });
    }
    Ok(layers)
}

/// What copying would do, without doing it.
pub fn preview(request: &CopyRequest, surroundings: &Surroundings<'_>) -> Result<Value> {
    if request.is_pack() {
        return pack::preview(&request.as_pack(), surroundings);
    }
    sink::check(&request.destination)?;
    let source = surroundings.resolve(&request.source)?;
    let destination = surroundings.resolve(&request.destination)?;
    open::must_exist(&source, surroundings)?;
    let replaces = open::current_id(&destination, surroundings)?;
    let what =
        format!("`{source}` would be copied to `{destination}`{}", open::state_of(&destination, replaces.as_deref())?);
    let mut changes =
        vec![("source", Value::from(source.to_string())), ("destination", Value::from(destination.to_string()))];
    if let Some(old) = replaces {
        changes.push(("replaces", old.into()));
    }
    Ok(Value::map([("result", Value::Null), ("comment", what.into()), ("changes", Value::map(changes))]))
}
