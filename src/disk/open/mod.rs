//! Existing disk images: what format, where the root file system is, and its tree.
//!
//! The file may come from anywhere. Its format is decided by its first bytes and named to every program afterwards, so
//! that none guesses; what would make a program open another file (a backing file, external data) is refused before any
//! program sees it. Nothing is ever written to it.

mod header;
mod table;
mod unpack;

use std::path::{Path, PathBuf};

use super::ext4::Work;
use super::program::{self, needed, tied};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress, Unit};

pub use header::ImageFormat;
pub use table::{FileSystem, Region};

/// The largest disk that is opened where the caller sets no limit.
pub const LARGEST: u64 = 16 << 40;

/// What an image file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Where it is.
    pub path: PathBuf,
    /// Its format.
    pub format: ImageFormat,
    /// The size of the disk that a machine sees.
    pub virtual_size: u64,
}

/// An image whose root file system was found.
#[derive(Debug)]
pub struct Opened {
    /// The image.
    pub image: Inspected,
    /// Where its root file system is on the disk.
    pub root: Region,
    /// The raw disk: the file itself, or what it was converted to.
    raw: PathBuf,
    scratch: fs::TempDir,
}

/// Looks at an image file without opening what it may refer to; refuses what is no raw or self-contained qcow2 image, or
/// is larger than `most` (else [`LARGEST`]).
pub fn inspect(path: &Path, most: Option<u64>) -> Result<Inspected> {
    let path = fs::absolute(path)?;
    let most = most.unwrap_or(LARGEST);
    let (format, virtual_size) = header::look(&path)?;
    if virtual_size > most {
        return Err(Error::new(
            Kind::Limit,
            format!("`{}` is a disk of {virtual_size} bytes, and {most} are the most", path.display()),
        ));
    }
    Ok(Inspected { path, format, virtual_size })
}

/// Finds the root file system of an image. A qcow2 is converted into a temporary in `folder`, which goes with the result.
pub fn open(image: Inspected, folder: &Path, progress: &Progress, cancel: &Cancel) -> Result<Opened> {
    let scratch = fs::TempDir::inside(&fs::absolute(folder)?)?;
    let work = Work { scratch: scratch.path(), progress, cancel };
    let raw = match image.format {
        ImageFormat::Raw => image.path.clone(),
        ImageFormat::Qcow2 => convert(&image, work)?,
    };
    let root = table::root(&raw, image.virtual_size, work)
        .context(|| format!("cannot find the root file system of `{}`", image.path.display()))?;
    Ok(Opened { image, root, raw, scratch })
}

fn convert(image: &Inspected, work: Work<'_>) -> Result<PathBuf> {
    let program = needed("qemu-img", "qemu-utils")?;
    let raw = work.scratch.join("raw");
    let mut command = tied(&program)?;
    command.args(["map", "--output=json", "-f", "qcow2"]).arg(source(&image.path));
    let said = program::run(&mut command, work.scratch, work.cancel)
        .context(|| format!("cannot read `{}`", image.path.display()))?;
    fs::require_space(work.scratch, header::stored(&said.output)?)?;
    let _stage = work.progress.stage("converting from qcow2", None, Unit::Bytes);
    let mut command = tied(&program)?;
    command.args(["convert", "-f", "qcow2", "-O", "raw"]).arg(source(&image.path)).arg(&raw);
    program::run(&mut command, work.scratch, work.cancel)
        .context(|| format!("cannot read `{}`", image.path.display()))?;
    Ok(raw)
}

/// A path as qemu takes it: absolute, so that no part of it before a colon names a protocol.
fn source(path: &Path) -> &Path {
    path
}
