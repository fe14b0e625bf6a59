//! From a raw disk to the format that is asked for, and into its place.

use std::path::Path;

use super::ext4::Work;
use super::program::{self, needed, tied};
use crate::error::{Context as _, Result};
use crate::host::fs;

/// How the clusters of a qcow2 file are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
    None,
    /// Deflated: every qemu reads it.
    Zlib,
    /// With zstd: faster to write and read; since qemu 5.1.
    Zstd,
}

/// The format of an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes, with holes for zeros.
    Raw,
    /// QEMU's own, version 3.
    Qcow2(Compression),
}

/// Fails when the program that this format needs is missing.
pub(super) fn check(format: Format) -> Result<()> {
    if format != Format::Raw {
        needed("qemu-img", "qemu-utils")?;
    }
    Ok(())
}

/// Makes the raw disk its target in this format; the file's length.
pub(super) fn finish(disk: fs::TempFile, format: Format, target: &Path, work: Work<'_>) -> Result<u64> {
    let Format::Qcow2(compression) = format else {
        let length = program::size_of(disk.file(), target)?;
        disk.persist()?;
        return Ok(length);
    };
    let image = fs::TempFile::beside(target, 0o644)?;
    let mut command = tied(&needed("qemu-img", "qemu-utils")?)?;
    // One coroutine, in order: with more of them clusters stand where chance put them.
    command.args(["convert", "-m", "1", "-f", "raw", "-O", "qcow2"]);
    match compression {
        Compression::None => {}
        Compression::Zlib => drop(command.args(["-c", "-o", "compression_type=zlib"])),
        Compression::Zstd => drop(command.args(["-c", "-o", "compression_type=zstd"])),
    }
    let _stage = work.progress.stage("converting to qcow2", None, crate::progress::Unit::Bytes);
    command.arg(disk.path()).arg(image.path());
    program::run(&mut command, work.scratch, work.cancel).context(|| format!("cannot write `{}`", target.display()))?;
    let length = program::size_of(image.file(), target)?;
    image.persist()?;
    Ok(length)
}
