//! A snapshot that is a tree of its own: every entry as the walk found it, blocks shared where that was asked for.

use std::os::fd::AsFd as _;
use std::path::Path;

use crate::error::{Context as _, Result};
use crate::host::fs;
use crate::progress::{Progress, Unit};
use crate::release::roots::Roots;
use crate::release::tree::Tree;
use crate::rootfs::unpack::{Content, UnpackOptions, Unpacker};
use crate::rootfs::walk::DirectoryLayer;
use crate::rootfs::{EntryKind, shown};

/// Whether a file of the tree can share its blocks with one in this folder: tried with the first that has any.
pub(super) fn can_share(tree: &Tree, folder: &Path) -> Result<bool> {
    let Some((_, layer)) = tree.layers().last() else { return Ok(false) };
    let has_blocks = |number: &u32| matches!(layer.placed(*number).entry.kind, EntryKind::File { size } if size > 0);
    let Some(number) = (0..layer.count()).find(has_blocks) else { return Ok(false) };
    let probe = match fs::TempFile::beside(&folder.join("probe"), 0o600) {
        Ok(probe) => probe,
        Err(error) if error.kind() == crate::error::Kind::Refused => return Ok(false),
        Err(error) => return Err(error),
    };
    layer.with_file(number, |file| rustix::fs::ioctl_ficlone(probe.file().as_fd(), file).is_ok())
}

/// Copies the tree below `place`; the ids are those the walk gave.
pub(super) fn copy(tree: &Tree, place: &Path, share: bool, progress: &Progress) -> Result<Roots> {
    let stored = |layer: &DirectoryLayer| -> u64 {
        let runs = (0..layer.count()).flat_map(|number| layer.placed(number).runs());
        runs.map(|(_, _, length)| length).sum()
    };
    let total: u64 = tree.layers().map(|(_, layer)| stored(layer)).sum();
    if !share {
        fs::require_space(place, total)?;
    }
    let roots = Roots { folder: place.join("folder"), rootfs: place.join("rootfs"), idmap: None };
    let mut stage = progress.stage("taking a snapshot", Some(total), Unit::Bytes);
    let layers: Vec<_> = tree.layers().collect();
    for (number, (_, layer)) in layers.iter().enumerate() {
        let target = if number + 1 == layers.len() { &roots.rootfs } else { &roots.folder };
        let mut unpacker = Unpacker::new(target, UnpackOptions { ignore_ownership: false })?;
        for number in 0..layer.count() {
            let placed = layer.placed(number);
            let runs = placed.runs();
            let bytes = runs.iter().map(|(_, _, length)| length).sum();
            let wrong = || format!("cannot copy `{}`", shown(&placed.entry.path));
            if matches!(placed.entry.kind, EntryKind::File { size } if size > 0) && share {
                layer
                    .with_file(number, |file| {
                        let content = Content { source: *layer, runs, twin: Some(file) };
                        unpacker.add(&placed.entry, Some(&content))
                    })?
                    .context(wrong)?;
            } else {
                let content = Content { source: *layer, runs, twin: None };
                unpacker.add(&placed.entry, Some(&content)).context(wrong)?;
            }
            stage.advance(bytes);
        }
        unpacker.finish()?;
    }
    Ok(roots)
}
