//! A squashfs from a tree, the same bytes from equal trees: mksquashfs sorts what it reads and is told the time.

use std::path::Path;

use super::ext4::Work;
use super::program::{self, needed, tied};
use super::tree::{BLOCK, Tree};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress, Unit};
use crate::rootfs::{EntryKind, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, shown};

/// What became a squashfs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Squashed {
    /// The length of the file.
    pub bytes: u64,
    /// Entries whose ACLs are left out, since squashfs has none; the mode's group bits stay the mask.
    pub acls_left_out: Vec<String>,
}

/// Writes a squashfs of the folder to `target`, which is replaced once the new one is whole.
///
/// ACLs are left out, and that is a warning and in the result: systemd gives one to `/var/log/journal` of every tree.
pub fn squashfs(tree: &Path, target: &Path, epoch: i64, progress: &Progress, cancel: &Cancel) -> Result<Squashed> {
    let mut squashed = Squashed::default();
    let target = &fs::absolute(target)?;
    let program = needed("mksquashfs", "squashfs-tools")?;
    let tree = Tree::read(tree, progress)?;
    for entry in &tree.entries {
        let refuse = |what: &str| {
            Err(Error::new(Kind::Unsupported, format!("`{}` cannot be in a squashfs: {what}", shown(&entry.path))))
        };
        if [XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT].iter().any(|name| entry.xattrs.contains_key(*name)) {
            squashed.acls_left_out.push(shown(&entry.path));
        }
        if u32::try_from(entry.mtime.seconds).is_err() {
            return refuse("its time is before 1970 or after 2106");
        }
        if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } = entry.kind
            && (major > 0xfff || minor > 0xf_ffff)
        {
            return refuse("its device number is too large");
        }
    }
    if !squashed.acls_left_out.is_empty() {
        progress.warn(format!("a squashfs has no ACLs, left out: {}", squashed.acls_left_out.join(", ")));
    }
    let need = tree.measure(progress, cancel)?;
    fs::require_space(target, need.blocks * BLOCK)?;
    let image = fs::TempFile::beside(target, 0o644)?;
    let scratch = fs::TempDir::inside(fs::parent(target))?;
    let work = Work { scratch: scratch.path(), progress, cancel };
    let _stage = progress.stage("writing the squashfs", None, Unit::Bytes);
    let mut command = tied(&program)?;
    command.arg(&tree.root).arg(image.path());
    command.args([
        "-noappend",
        "-no-progress",
        "-reproducible",
        "-xattrs",
        "-comp",
        "zstd",
        "-Xcompression-level",
        "9",
        "-b",
        "131072",
    ]);
    command.args(["-mkfs-time", &epoch.clamp(0, i64::from(u32::MAX)).to_string()]);
    program::run(&mut command, work.scratch, work.cancel).context(|| format!("cannot write `{}`", target.display()))?;
    squashed.bytes = program::size_of(&fs::open_regular(image.path(), false)?, target)?;
    image.persist()?;
    Ok(squashed)
}
