//! A disk image from a tree, in one go: judged, measured, made beside its target, converted, put in place.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::convert::{self, Format};
use super::ext4::{Added, Place, Tools, Work};
use super::seed::Seed;
use super::tree::{BLOCK, Need, Tree};
use super::{esp, gpt, grub, kernel, size};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress};
use crate::vocab::Digest;

/// The least size of a disk, and of its root file system.
pub const LEAST: u64 = 16 << 20;

/// The most that a disk may have.
pub const MOST: u64 = 1 << 50;

/// How a disk is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// ext4 on the whole disk, without a partition table: `root=/dev/vda`.
    WholeDisk {
        /// Whether a BIOS can boot it; without this it boots where its kernel is given from outside.
        boot: bool,
    },
    /// A partition table and boot loaders for BIOS and UEFI.
    Gpt,
}

/// What disk is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The folder that is its root.
    pub tree: PathBuf,
    /// The size of the whole disk in bytes; none computes one that leaves a twentieth and 16 MiB free.
    pub size: Option<u64>,
    /// How it is laid out.
    pub layout: Layout,
    /// The file's format.
    pub format: Format,
    /// The label of the root file system, at most 16 bytes of printable ASCII; may be empty.
    pub label: String,
    /// What every UUID, serial and hash seed is drawn from.
    pub seed: Digest,
    /// The time of whatever has none of its own, in seconds since 1970.
    pub epoch: i64,
    /// What the kernel is told besides its root; none is `console=ttyS0` for a whole disk and `console=tty0
    /// console=ttyS0` for GPT.
    pub append: Option<String>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The length of the file.
    pub bytes: u64,
    /// The size of the disk that a machine sees.
    pub virtual_size: u64,
    /// The UUID of the root file system.
    pub root_uuid: String,
    /// What boots it, as paths in the disk; none where it is not to boot by itself.
    pub kernel: Option<super::Kernel>,
}

/// Writes the disk to `target`, which is replaced once the new one is whole.
pub fn write(request: &Request, target: &Path, progress: &Progress, cancel: &Cancel) -> Result<Written> {
    check(request)?;
    let target = &fs::absolute(target)?;
    let tools = Tools::find()?;
    convert::check(request.format)?;
    let loaders = match request.layout {
        Layout::WholeDisk { boot: false } => None,
        Layout::WholeDisk { boot: true } => Some(grub::Loaders::find(false)?),
        Layout::Gpt => Some(grub::Loaders::find(true)?),
    };
    let table = if request.layout == Layout::Gpt { Some((gpt::Tools::find()?, esp::Tools::find()?)) } else { None };
    let tree = Tree::read(&request.tree, progress)?;
    let chosen = if loaders.is_some() { Some(kernel::choose(&tree)?) } else { None };
    let mut need = tree.measure(progress, cancel)?;
    if loaders.is_some() {
        // The core image, its configuration, and three folders at the most.
        need = Need { inodes: need.inodes + 5, blocks: need.blocks + 1024 };
    }
    let edges = if table.is_some() { gpt::EDGES } else { 0 };
    let total = match request.size {
        Some(size) => size,
        None => size::computed(need) + edges,
    };
    let root = total.saturating_sub(edges) / BLOCK * BLOCK;
    if root < LEAST {
        return Err(Error::new(Kind::Usage, format!("a disk of {total} bytes has no room for its root file system"))
            .hint(format!("{} bytes are the least for this layout", edges + LEAST)));
    }
    require_fit(need, root, edges)?;
    // The disk before it is converted, and what it becomes.
    let copies = if request.format == Format::Raw { 1 } else { 2 };
    fs::require_space(target, copies * need.blocks * BLOCK + size::overhead(root, 0))?;

    let scratch = fs::TempDir::inside(fs::parent(target))?;
    let disk = fs::TempFile::beside(target, 0o644)?;
    let seed = Seed(&request.seed);
    disk.file().set_len(total).context(|| format!("cannot make `{}` {total} bytes long", target.display()))?;
    let place = Place {
        file: disk.path(),
        offset: if table.is_some() { gpt::ROOT_START } else { 0 },
        size: root,
        label: &request.label,
        seed,
        epoch: request.epoch,
    };
    let work = Work { scratch: scratch.path(), progress, cancel };
    let added: Vec<Added> = match (&loaders, &chosen) {
        (Some(loaders), Some(chosen)) => loaders.prepare(&tree, chosen, request, &place, work)?,
        _ => Vec::new(),
    };
    if let Some((tools, esp)) = &table {
        tools.partition(&disk, total, root, seed, work)?;
        esp.make(&disk, seed, request.epoch, work)?;
    }
    tools.make(&place, &tree, (need, &added), work)?;
    if let Some(loaders) = &loaders {
        loaders.install(&disk, &place, &tools, request.layout, work)?;
    }
    let root_uuid = place.uuid();
    let bytes = convert::finish(disk, request.format, target, work)?;
    Ok(Written { bytes, virtual_size: total, root_uuid, kernel: chosen })
}

fn check(request: &Request) -> Result<()> {
    let usage = |text: String| Err(Error::new(Kind::Usage, text));
    if request.label.len() > 16 || !request.label.bytes().all(|byte| byte.is_ascii_graphic()) {
        return usage(format!("`{}` is no label: it is 16 visible ASCII letters at the most", request.label));
    }
    if request.label.starts_with('-') {
        return usage(format!("`{}` is no label: it begins with a dash", request.label));
    }
    if let Some(append) = &request.append
        && !append.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
    {
        return usage(format!(
            "`{}` is nothing to tell a kernel: only visible ASCII and spaces are",
            append.escape_debug()
        ));
    }
    match request.size {
        Some(size) if size < LEAST => usage(format!("a disk of {size} bytes is too small: {LEAST} are the least")),
        Some(size) if size > MOST => usage(format!("a disk of {size} bytes is too large: {MOST} are the most")),
        Some(size) if !size.is_multiple_of(512) => {
            usage(format!("a disk of {size} bytes cannot be made: it has to be a multiple of 512"))
        }
        _ => Ok(()),
    }
}

/// Fails when not even the content has room; what is left to the file system's own needs shows when it is written.
fn require_fit(need: Need, size: u64, edges: u64) -> Result<()> {
    let least = need.blocks.saturating_sub(need.blocks / 50) * BLOCK / 100 * 90;
    if least <= size {
        return Ok(());
    }
    let enough = size::computed(need) + edges;
    let written = enough.div_ceil(1 << 20);
    Err(Error::new(Kind::Usage, format!("the tree does not fit into a file system of {size} bytes")).hint(format!(
        "a size of at least {enough} bytes gives it room: in images.json `\"image_size\": \"{written}M\"` (or larger)"
    )))
}

/// Writes bytes into the disk.
pub(super) fn put(disk: &fs::TempFile, offset: u64, bytes: &[u8]) -> Result<()> {
    disk.file().write_all_at(bytes, offset).context(|| format!("cannot write `{}`", disk.path().display()))
}
