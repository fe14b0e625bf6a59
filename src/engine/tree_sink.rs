//! Where a merged tree goes when no image is wanted: a directory, or a bare tar that GNU tar users can restore.

use std::path::Path;

use super::merge::Merged;
use super::report::Report;
use super::sink::{Told, require_space};
use super::surroundings::Surroundings;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::host::fs::TempFile;
use crate::progress::Unit;
use crate::rootfs::EntryKind;
use crate::rootfs::flatten::FlatEntry;
use crate::rootfs::unpack::{Content, UnpackOptions, Unpacker};
use crate::vocab::Reference;

/// Writes the tree and says in the report what was done.
pub fn write(
    destination: &Reference,
    merged: &Merged,
    surroundings: &Surroundings<'_>,
    report: &mut Report,
) -> Result<()> {
    let size = merged.flat.outputs.iter().map(crate::rootfs::flatten::OutputLayer::size).sum();
    require_space(destination, size, surroundings)?;
    report.bytes_out = size;
    match destination {
        Reference::Tar(file) => to_tar(file, merged, surroundings),
        Reference::Dir(path) => {
            let unpacked = to_directory(path, merged, surroundings)?;
            report.notes.insert("unpacked".into(), unpacked.to_value());
            report.unpacked = Some(unpacked);
            Ok(())
        }
        other => Err(Error::new(Kind::Failed, format!("`{other}` is not a place for a bare tree"))),
    }
}

fn to_tar(file: &Path, merged: &Merged, surroundings: &Surroundings<'_>) -> Result<()> {
    host::fs::sweep(host::fs::parent(file))?;
    let mut temporary = TempFile::beside(file, 0o600)?;
    let total = merged.flat.outputs.iter().map(crate::rootfs::flatten::OutputLayer::size).sum();
    let mut stage = surroundings.progress.stage(format!("writing {}", file.display()), Some(total), Unit::Bytes);
    for output in &merged.flat.outputs {
        let mut out = Told { out: &mut temporary, stage: &mut stage };
        output.write(&merged.layers, &mut out).context(|| format!("cannot write `{}`", file.display()))?;
    }
    temporary.persist()
}

/// Unpacks the merged tree into a directory that is empty or does not exist.
pub fn to_directory(
    path: &Path,
    merged: &Merged,
    surroundings: &Surroundings<'_>,
) -> Result<crate::rootfs::unpack::UnpackReport> {
    let mut stage = surroundings.progress.stage(format!("unpacking into {}", path.display()), None, Unit::Items);
    let mut unpacker = Unpacker::new(path, UnpackOptions { ignore_ownership: false })?;
    for found in merged.flat.entries(&merged.layers) {
        let found = found?;
        let linked = linked(&found);
        let content = match &found.content {
            Some(content) if linked.is_none() => Some(Content::of(&*merged.layers[content.layer], &content.member)),
            _ => None,
        };
        unpacker.add(linked.as_ref().unwrap_or(&found.entry), content.as_ref())?;
        stage.advance(1);
    }
    unpacker.finish()
}

/// A further name of an inode as the link it is.
fn linked(found: &FlatEntry) -> Option<crate::rootfs::Entry> {
    let first = found.group.as_ref().filter(|first| **first != found.entry.path)?;
    let mut entry = found.entry.clone();
    entry.kind = EntryKind::Hardlink { target: first.clone() };
    Some(entry)
}
