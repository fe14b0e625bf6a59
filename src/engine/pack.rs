//! Packing: open, merge, write once, move the name. The main job.

use std::path::Path;
use std::sync::Arc;

use super::merge::{Merged, merge};
use super::open::{self, Opened};
use super::report::Report;
use super::request::{LayerCount, PackRequest};
use super::send::Origin;
use super::sink::{self, NewImage, NewLayer, SinkOptions};
use super::surroundings::Surroundings;
use super::{configuration, tree_sink};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::oci::{self, ImageConfig, LayerSource, OpenedLayer, Platform};
use crate::rootfs::ReadAt;
use crate::rootfs::flatten::FlattenOptions;
use crate::vocab::{Reference, Value};

/// A source that is opened and merged; nothing was written yet.
pub(super) struct Prepared {
    pub(super) opened: Opened,
    pub(super) merged: Merged,
    base: Base,
    destination: Reference,
    pub(super) report: Report,
}

/// Packs, and says what was done.
pub fn pack(request: &PackRequest, surroundings: &Surroundings<'_>) -> Result<Report> {
    prepare(request, surroundings, merge)?.write(request, surroundings)
}

/// The resolved destination of a request that makes sense, as far as can be told before anything is opened.
fn checked(request: &PackRequest, surroundings: &Surroundings<'_>) -> Result<Reference> {
    sink::check(&request.destination)?;
    let destination = surroundings.resolve(&request.destination)?;
    let two = request.layers == LayerCount::Two;
    if matches!(destination, Reference::Dir(_) | Reference::Tar(_)) {
        let wanted =
            [("keep_base", request.keep_base.is_some()), ("layers=2", two), ("changes", !request.changes.is_empty())];
        if let Some((name, _)) = wanted.iter().find(|(_, wanted)| *wanted) {
            return Err(Error::new(
                Kind::Usage,
                format!("`{name}` needs an image as destination, not `{destination}`"),
            ));
        }
    }
    if two && request.keep_base.is_some() {
        return Err(
            Error::new(Kind::Usage, "`layers=2` and `keep_base` exclude each other").hint("leave one of them out")
        );
    }
    ImageConfig::default_for(&Platform::host(), "1970-01-01T00:00:00Z", false)?.with_changes(&request.changes)?;
    if let Some(folder) = &request.tmpdir
        && !host::fs::metadata(folder)?.is_some_and(|metadata| metadata.is_dir())
    {
        return Err(Error::new(Kind::NotFound, format!("tmpdir `{}` is not a folder", folder.display())));
    }
    Ok(destination)
}

/// Opens the source and merges it by `merge`.
pub(super) fn prepare(
    request: &PackRequest,
    surroundings: &Surroundings<'_>,
    merge: impl FnOnce(&Opened, FlattenOptions, &Path, &Surroundings<'_>) -> Result<Merged>,
) -> Result<Prepared> {
    let destination = checked(request, surroundings)?;
    let scratch = surroundings.scratch(request.tmpdir.as_deref())?;
    let mut report = Report::new(String::new(), destination.to_string());
    report.seconds.begin("open");
    let opened = open::open(&request.source, request.idmap.as_ref(), &scratch, surroundings)?;
    describe(&opened, request, &mut report);
    let base = Base::open(request, &opened, &scratch, surroundings)?;
    report.seconds.begin("merge");
    let options = FlattenOptions {
        acls: request.acls,
        split_acl_layer: request.layers == LayerCount::Two,
        base_layers: base.count,
        text_acls: matches!(destination, Reference::Tar(_)),
        keep_sparse: matches!(destination, Reference::Dir(_) | Reference::Tar(_)),
        relative_below: None,
    };
    let merged = merge(&opened, options, &scratch, surroundings)?;
    Ok(Prepared { opened, merged, base, destination, report })
}

impl Prepared {
    /// The image's configuration, where the source was one, and what was found on the way; the source is closed.
    pub(super) fn into_findings(mut self) -> (Option<ImageConfig>, Report) {
        self.report.merge = Some(self.merged.flat.report);
        (self.opened.image().map(|image| image.config.clone()), self.report)
    }

    /// Writes what was prepared, and moves the name.
    pub(super) fn write(mut self, request: &PackRequest, surroundings: &Surroundings<'_>) -> Result<Report> {
        self.report.seconds.begin("write");
        if matches!(self.destination, Reference::Dir(_) | Reference::Tar(_)) {
            tree_sink::write(&self.destination, &self.merged, surroundings, &mut self.report)?;
        } else {
            self.write_image(request, surroundings)?;
        }
        self.report.seconds.end();
        self.report.merge = Some(self.merged.flat.report);
        Ok(self.report)
    }

    fn write_image(&mut self, request: &PackRequest, surroundings: &Surroundings<'_>) -> Result<()> {
        let (opened, merged, base) = (&self.opened, &self.merged, &self.base);
        let plan = configuration::Plan::new(request, opened, merged, base.count)?;
        let mut layers: Vec<NewLayer<'_>> = opened.layers().iter().zip(&base.layers).map(whole_layer).collect();
        for output in &merged.flat.outputs {
            layers.push(NewLayer {
                size: output.size(),
                stored: None,
                write: Box::new(move |out| output.write(&merged.layers, out)),
            });
        }
        let notes = plan.notes.clone();
        let names = opened.image().map(|image| image.names.clone()).unwrap_or_default();
        let origin = Origin::of(&opened.reference, None);
        let image = NewImage { layers, config: Box::new(move |diff_ids| plan.config(diff_ids)), names, origin };
        let options = SinkOptions { compression: request.compression, keep_old: request.keep_old };
        let written = sink::write(&self.destination, &image, options, surroundings)
            .context(|| format!("cannot write `{}`", self.destination))?;
        drop(image);
        self.report.warnings.extend(notes);
        self.report.wrote(written);
        Ok(())
    }
}

fn describe(opened: &Opened, request: &PackRequest, report: &mut Report) {
    report.source = opened.reference.to_string();
    report.warnings.extend(opened.warnings.iter().cloned());
    report.left_out.extend(opened.left_out.iter().cloned());
    report.notes.extend(opened.notes.clone());
    report.notes.extend(request.notes.clone());
    if let Some(by) = &opened.served_by {
        report.notes.insert("read_from".into(), by.clone().into());
    }
    if let Some(id) = open::image_id(opened) {
        report.notes.insert("source_id".into(), id.to_string().into());
    }
}

/// The layers that stay as they are.
struct Base {
    count: usize,
    layers: Vec<OpenedLayer>,
}

impl Base {
    fn open(request: &PackRequest, opened: &Opened, scratch: &Path, surroundings: &Surroundings<'_>) -> Result<Self> {
        let Some(reference) = &request.keep_base else { return Ok(Self { count: 0, layers: Vec::new() }) };
        let Some(image) = opened.image() else {
            return Err(Error::new(
                Kind::Usage,
                format!("`keep_base` needs an image, and `{}` has no layers", opened.reference),
            ));
        };
        let base = open::open(reference, None, scratch, surroundings)?;
        let Some(kept) = base.image() else {
            return Err(Error::new(Kind::Usage, format!("`{reference}` has no layers to keep")));
        };
        let ids = kept.config.diff_ids();
        if ids.is_empty() || !image.config.diff_ids().starts_with(ids) {
            return Err(Error::new(
                Kind::Usage,
                format!("`{}` does not stand on the layers of `{reference}`", opened.reference),
            )
            .hint("`image.inspect` shows the layers of both"));
        }
        if ids.len() == image.config.diff_ids().len() {
            return Err(Error::new(
                Kind::Usage,
                format!("`{}` has no layer above those of `{reference}`", opened.reference),
            ));
        }
        let mut layers = Vec::new();
        for layer in &image.layers[..ids.len()] {
            layers.push(oci::open_layer(layer, scratch, &surroundings.spool_limits(), surroundings.progress)?);
        }
        Ok(Self { count: ids.len(), layers })
    }
}

/// A layer that is copied as it is.
pub(super) fn whole_layer<'a>((stored, opened): (&LayerSource, &OpenedLayer)) -> NewLayer<'a> {
    let content: Arc<dyn ReadAt> = Arc::clone(&opened.content);
    NewLayer {
        size: content.size(),
        stored: Some(stored.clone()),
        write: Box::new(move |out| oci::copy_layer(&*content, out)),
    }
}

/// What packing would do, without doing it: the references resolved and looked at, nothing written.
pub fn preview(request: &PackRequest, surroundings: &Surroundings<'_>) -> Result<Value> {
    let destination = checked(request, surroundings)?;
    let source = surroundings.resolve(&request.source)?;
    open::must_exist(&source, surroundings)?;
    if let Some(base) = &request.keep_base {
        open::must_exist(&surroundings.resolve(base)?, surroundings)?;
    }
    let replaces = open::current_id(&destination, surroundings)?;
    let how = match request.layers {
        LayerCount::One => "one layer",
        LayerCount::Two => "two layers, the second with what has ACLs",
    };
    let acls = if request.acls { "every ACL kept" } else { "ACLs dropped, group bits set to group::" };
    let mut changes = vec![
        ("source", Value::from(source.to_string())),
        ("destination", Value::from(destination.to_string())),
        ("layers", Value::from(how)),
        ("acls", Value::from(acls)),
    ];
    if let Some(old) = &replaces {
        changes.push(("replaces", old.clone().into()));
    }
    if let Some(base) = &request.keep_base {
        changes.push(("keep_base", base.to_string().into()));
    }
    if !request.changes.is_empty() {
        changes.push(("configuration_changes", Value::list(request.changes.clone())));
    }
    let mut changes = Value::map(changes);
    if let Value::Map(changes) = &mut changes {
        changes.extend(request.notes.clone());
    }
    let what = format!(
        "`{source}` would be packed into `{destination}`{}",
        open::state_of(&destination, replaces.as_deref())?
    );
    Ok(Value::map([("result", Value::Null), ("comment", what.into()), ("changes", changes)]))
}
