//! The tree of a root file system on a disk image.
//!
//! The kernel reads it: a loop with offset and limit, mounted read-only without replaying the journal, in a mount
//! namespace that only the thread has that walks it. So there is nothing to undo, and nothing is left of a killed
//! castoff: with the namespace goes the mount, and with that the loop (`LO_FLAGS_AUTOCLEAR`).

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::mount::MountPropagationFlags;

use super::super::ext4::Work;
use super::super::program::{self, needed, tied};
use super::table::FileSystem;
use super::{Opened, Region};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress, Unit};
use crate::rootfs::unpack::{Content, UnpackOptions, UnpackReport, Unpacker};
use crate::rootfs::walk::{DirectoryLayer, WalkOptions};
use crate::rootfs::{EntryKind, Limits};

impl Opened {
    /// Unpacks the root's tree into a folder that is empty or does not exist, with owners, modes, times, links and
    /// extended attributes. Needs root of the host: a user namespace's has no loop devices.
    pub fn unpack(&self, into: &Path, progress: &Progress, cancel: &Cancel) -> Result<UnpackReport> {
        let mountpoint = self.scratch.path().join("root");
        fs::create_dir_all(&mountpoint, 0o700)?;
        let into = fs::absolute(into)?;
        let work = Work { scratch: self.scratch.path(), progress, cancel };
        warn_of_journal(&self.raw, self.root, progress)?;
        let unpack = || {
            // Of this thread alone: what a process shares (working folder, umask) is unshared with it.
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS | nix::sched::CloneFlags::CLONE_NEWNS)
                .map_err(std::io::Error::from)
                .context(|| "cannot have mounts of its own")?;
            rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
                .context(|| "cannot keep mounts to itself")?;
            mount(&self.raw, self.root, &mountpoint, work)?;
            copy(&mountpoint, &into, work)
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("image".to_owned()).spawn_scoped(scope, unpack);
            let joined = thread.context(|| "cannot start a thread")?.join();
            joined.unwrap_or_else(|_| Err(Error::new(Kind::Failed, "the thread that unpacks the image broke off")))
        })
        .context(|| format!("cannot unpack `{}`", self.image.path.display()))
    }
}

fn mount(raw: &Path, root: Region, mountpoint: &Path, work: Work<'_>) -> Result<()> {
    let (kind, options) = match root.file_system {
        FileSystem::Ext => ("ext4", "noload"),
        FileSystem::Xfs => ("xfs", "norecovery,nouuid"),
    };
    let options = format!("loop,ro,nosuid,nodev,noexec,{options},offset={},sizelimit={}", root.offset, root.size);
    let mut command = tied(&needed("mount", "mount")?)?;
    command.args(["-t", kind, "-o", &options, "--"]).arg(raw).arg(mountpoint);
    program::run(&mut command, work.scratch, work.cancel).map(drop).map_err(|error| {
        Error::new(Kind::Unsupported, "its root file system cannot be mounted").caused_by(error).hint(
            "that takes root of the host (not of a user namespace), loop devices and a kernel that knows the file system",
        )
    })
}

fn copy(from: &Path, into: &Path, work: Work<'_>) -> Result<UnpackReport> {
    let (layer, report) = DirectoryLayer::open(from, &WalkOptions::default(), Limits::default(), work.progress)?;
    if let Some(first) = report.unreadable.lines().first() {
        return Err(Error::new(Kind::Corrupt, format!("`{first}` cannot be read")));
    }
    fs::require_space(into, report.content_bytes.min(layer_bytes(&layer)))?;
    if !report.sockets.is_empty() {
        work.progress.warn(format!("sockets are left out: {}", report.sockets.lines().join(", ")));
    }
    let mut stage = work.progress.stage("unpacking the image", Some(u64::from(layer.count())), Unit::Items);
    let mut unpacker = Unpacker::new(into, UnpackOptions { ignore_ownership: false })?;
    for number in 0..layer.count() {
        work.cancel.check()?;
        let placed = layer.placed(number);
        let is_file = matches!(placed.entry.kind, EntryKind::File { .. });
        let content = is_file.then(|| Content { source: &layer, runs: placed.runs(), twin: None });
        unpacker.add(&placed.entry, content.as_ref())?;
        stage.advance(1);
    }
    unpacker.finish()
}

/// What is stored of the tree, headers included: holes are not.
fn layer_bytes(layer: &DirectoryLayer) -> u64 {
    use crate::rootfs::ReadAt as _;
    layer.size()
}

/// Says so when the journal holds what the files do not show: the machine was not shut down.
fn warn_of_journal(raw: &Path, root: Region, progress: &Progress) -> Result<()> {
    if root.file_system != FileSystem::Ext {
        return Ok(());
    }
    let mut features = [0; 4];
    fs::open_regular(raw, false)?
        .read_exact_at(&mut features, root.offset + 1024 + 0x60)
        .context(|| format!("cannot read `{}`", raw.display()))?;
    // EXT4_FEATURE_INCOMPAT_RECOVER
    if features[0] & 4 != 0 {
        progress.warn("the disk was not shut down cleanly; what is only in its journal is left out");
    }
    Ok(())
}
