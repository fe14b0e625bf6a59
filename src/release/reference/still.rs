//! A root filesystem that was walked, without its lock files, and what it is compared by.

use std::collections::BTreeSet;
use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::progress::{Cancel, Progress, Unit};
use crate::rootfs::unpack::{Content, UnpackOptions, UnpackReport, Unpacker};
use crate::rootfs::walk::{DirectoryLayer, WalkOptions, WalkReport};
use crate::rootfs::{EntryKind, Limits};
use crate::vocab::Digest;

/// The name of files that say that some program is at work: no image has use for them.
const LOCK: &[u8] = b"lock";

/// A walked root filesystem; ids are as the host has them.
pub(super) struct Still {
    layer: DirectoryLayer,
    pub(super) report: WalkReport,
}

impl Still {
    /// Walks the tree; files called `lock` are not in it.
    pub(super) fn of(rootfs: &Path, limits: Limits, progress: &Progress) -> Result<Self> {
        let (mut layer, mut report) = DirectoryLayer::open(rootfs, &WalkOptions::default(), limits, progress)?;
        let is_lock = |path: &[u8]| path.rsplit(|byte| *byte == b'/').next() == Some(LOCK);
        let is_file = |kind: &EntryKind| matches!(kind, EntryKind::File { .. } | EntryKind::Hardlink { .. });
        let locks = layer.entries().filter(|entry| is_file(&entry.kind) && is_lock(&entry.path));
        let leave_out: BTreeSet<Vec<u8>> = locks.map(|entry| entry.path).collect();
        if !leave_out.is_empty() {
            // Walked again, so that an inode with further names is held by one of those.
            let options = WalkOptions { leave_out, ..WalkOptions::default() };
            (layer, report) = DirectoryLayer::open(rootfs, &options, limits, progress)?;
        }
        refuse_gaps(&report)?;
        Ok(Self { layer, report })
    }

    /// The canonical digest of the tree.
    pub(super) fn digest(&self, what: &str, progress: &Progress, cancel: &Cancel) -> Result<Digest> {
        let mut stage = progress.stage(format!("comparing {what}"), Some(self.report.content_bytes), Unit::Bytes);
        self.layer.tree_digest(&mut |count| {
            stage.advance(count);
            cancel.check()
        })
    }

    /// Copies the tree to a place where nothing is, blocks shared where the file system can.
    pub(super) fn copy(&self, target: &Path, progress: &Progress, cancel: &Cancel) -> Result<UnpackReport> {
        let mut unpacker = Unpacker::new(target, UnpackOptions { ignore_ownership: false })?;
        let mut stage = progress.stage("copying", Some(self.report.content_bytes), Unit::Bytes);
        for number in 0..self.layer.count() {
            cancel.check()?;
            let placed = self.layer.placed(number);
            let runs = placed.runs();
            let bytes = runs.iter().map(|(_, _, length)| length).sum();
            if matches!(placed.entry.kind, EntryKind::File { size } if size > 0) {
                self.layer.with_file(number, |file| {
                    let content = Content { source: &self.layer, runs, twin: Some(file) };
                    unpacker.add(&placed.entry, Some(&content))
                })??;
            } else {
                unpacker.add(&placed.entry, None)?;
            }
            stage.advance(bytes);
        }
        unpacker.finish()
    }

    /// Whether what both say of every entry is the same, times to the nanosecond.
    pub(super) fn says_what(&self, other: &Self) -> bool {
        self.layer.entries().eq(other.layer.entries())
    }
}

/// A copy that lacks something must not pass for a whole one.
fn refuse_gaps(report: &WalkReport) -> Result<()> {
    let gaps = [
        (&report.unreadable, Kind::Refused, "cannot be read", "run castoff as root"),
        (&report.vanished, Kind::Conflict, "vanished while it was read", "stop what writes into the container"),
    ];
    for (findings, kind, why, hint) in gaps {
        if let Some(first) = findings.lines().first() {
            return Err(Error::new(kind, format!("`{first}` {why}")).hint(hint));
        }
    }
    Ok(())
}
