//! Disks and other images of trees, in the words of plans.

use std::path::Path;

use crate::disk::{self, Compression, Request};
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::plan::{Disk, Format, Layout, Size};
use crate::progress::{Cancel, Progress};
use crate::vocab::Digest;

/// Writes a tree as a disk.
pub(super) fn write(
    wanted: &Disk,
    base_size: Option<u64>,
    (tree, file): (&Path, &Path),
    (seed, epoch): (Digest, i64),
    (progress, cancel): (&Progress, &Cancel),
) -> Result<()> {
    let size = match wanted.size {
        Size::Exactly(bytes) => Some(bytes),
        Size::Fitting => None,
        Size::BaseAnd(more) => {
            let base = base_size.ok_or_else(|| {
                Error::new(Kind::Usage, "the size is to grow from that of a disk, and the image begins with none")
                    .hint("give the whole size")
            })?;
            Some(base.saturating_add(more))
        }
    };
    let request = Request {
        tree: tree.to_owned(),
        size,
        layout: match wanted.layout {
            Layout::Whole => disk::Layout::WholeDisk { boot: false },
            Layout::WholeBootable => disk::Layout::WholeDisk { boot: true },
            Layout::Gpt => disk::Layout::Gpt,
        },
        format: match wanted.format {
            Format::Raw => disk::Format::Raw,
            Format::Qcow2 => disk::Format::Qcow2(Compression::None),
            Format::Qcow2Zstd => disk::Format::Qcow2(Compression::Zstd),
            Format::Qcow2Zlib => disk::Format::Qcow2(Compression::Zlib),
        },
        label: String::new(),
        seed,
        epoch,
        append: None,
    };
    disk::write(&request, file, progress, cancel).map(|_| ())
}

/// Writes a tree as a squashfs.
pub(super) fn squashfs(tree: &Path, file: &Path, epoch: i64, progress: &Progress, cancel: &Cancel) -> Result<()> {
    disk::squashfs(tree, file, epoch, progress, cancel).map(|_| ())
}

/// Copies the kernel of a tree and its initrd into a new folder.
pub(super) fn kernel(tree: &Path, folder: &Path, progress: &Progress, cancel: &Cancel) -> Result<()> {
    fs::create_dir_all(folder, 0o755)?;
    disk::copy_kernel(tree, (&folder.join("vmlinuz"), &folder.join("initrd.img")), progress, cancel).map(|_| ())
}

/// Unpacks the root file system of a disk image into a folder that does not exist yet.
pub(super) fn unpack(image: &Path, into: &Path, progress: &Progress, cancel: &Cancel) -> Result<()> {
    let inspected = disk::open::inspect(image, None)?;
    disk::open::open(inspected, fs::parent(into), progress, cancel)?.unpack(into, progress, cancel).map(|_| ())
}

/// How large the disk in an image file is.
pub(super) fn size_of(image: &Path) -> Result<u64> {
    disk::open::inspect(image, None).map(|inspected| inspected.virtual_size)
}
