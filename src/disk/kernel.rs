//! The kernel of a tree and what goes with it: which one boots, and copies of both.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::tree::{Tree, split};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress};
use crate::rootfs::{EntryKind, normal_path, shown};

/// How many links lead to a kernel at the most (`MAXSYMLINKS` of Linux).
const LINKS: usize = 40;

/// A kernel of a tree, by absolute paths in it that are no links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The kernel.
    pub kernel: String,
    /// Its initial RAM disk, where there is one.
    pub initrd: Option<String>,
}

/// Copies the kernel that boots a tree, and its initial RAM disk where it has one; each target is replaced once its new
/// content is whole. What was not there to copy leaves what is at `initrd`.
pub fn copy_kernel(
    tree: &Path,
    (kernel, initrd): (&Path, &Path),
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Kernel> {
    let root = tree;
    let tree = Tree::read(tree, progress)?;
    let found = choose_any(&tree)?;
    copy(&tree, &found.kernel, kernel, cancel)?;
    if let Some(path) = &found.initrd {
        copy(&tree, path, initrd, cancel)?;
    } else {
        progress.warn(format!("`{}` has no initial RAM disk for {}", root.display(), found.kernel));
    }
    Ok(found)
}

/// The kernel that a PC's boot loader starts.
pub(super) fn choose(tree: &Tree) -> Result<Kernel> {
    let found = choose_any(tree).map_err(|error| match (error.kind(), error.next_step()) {
        (Kind::NotFound, Some(hint)) => {
            let hint = format!("{hint}; a disk that need not boot by itself needs none: `\"bootable\": false`");
            error.hint(hint)
        }
        _ => error,
    })?;
    let path = tree.root.join(found.kernel.trim_start_matches('/'));
    let mut magic = [0; 4];
    let read = fs::open_regular(&path, false)?.read_exact_at(&mut magic, 0x202);
    // Documentation/arch/x86/boot.rst: what a boot loader recognises a kernel by.
    if read.is_ok() && magic == *b"HdrS" {
        return Ok(found);
    }
    Err(Error::new(Kind::Unsupported, format!("`{}` is no kernel of a PC (x86)", found.kernel))
        .hint("boot loaders are only made for x86; an ext4 disk that does not boot by itself needs none"))
}

fn choose_any(tree: &Tree) -> Result<Kernel> {
    for name in ["vmlinuz", "boot/vmlinuz"] {
        if let Some(kernel) = follow(tree, name.as_bytes())? {
            let initrd = follow(tree, name.replace("vmlinuz", "initrd.img").as_bytes())?;
            let initrd = match initrd {
                Some(initrd) => Some(initrd),
                None => companion(tree, &kernel)?,
            };
            return Ok(Kernel { kernel, initrd });
        }
    }
    let newest = tree.entries.iter().filter(|entry| is_file(&entry.kind)).filter_map(|entry| {
        let (folder, name) = split(&entry.path);
        let version = name.strip_prefix(b"vmlinuz-")?;
        (folder == b"boot").then(|| (version_key(version), entry))
    });
    let Some((_, entry)) = newest.max_by(|one, other| one.0.cmp(&other.0)) else {
        return Err(Error::new(Kind::NotFound, format!("there is no kernel in `{}`", tree.root.display()))
            .hint("it is `/vmlinuz`, a link most likely, or `/boot/vmlinuz-VERSION`; on Debian package linux-image-amd64 brings it"));
    };
    let kernel = text(&entry.path)?;
    let initrd = companion(tree, &kernel)?;
    Ok(Kernel { kernel, initrd })
}

/// The initial RAM disk of the same version beside a kernel.
fn companion(tree: &Tree, kernel: &str) -> Result<Option<String>> {
    let Some(version) = kernel.strip_prefix("/boot/vmlinuz-") else { return Ok(None) };
    for name in [format!("boot/initrd.img-{version}"), format!("boot/initramfs-{version}.img")] {
        if let Some(found) = follow(tree, name.as_bytes())? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Numbers in a version compare as numbers.
fn version_key(version: &[u8]) -> Vec<(u64, Vec<u8>)> {
    version
        .chunk_by(|one, other| one.is_ascii_digit() == other.is_ascii_digit())
        .map(|part| match std::str::from_utf8(part).ok().and_then(|part| part.parse().ok()) {
            Some(number) => (number, Vec::new()),
            None => (0, part.to_vec()),
        })
        .collect()
}

fn is_file(kind: &EntryKind) -> bool {
    matches!(kind, EntryKind::File { .. } | EntryKind::Hardlink { .. })
}

/// The file that a path in the tree leads to, links followed inside of it; none where that is none.
fn follow(tree: &Tree, path: &[u8]) -> Result<Option<String>> {
    let mut left: Vec<Vec<u8>> = path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect();
    let mut sofar: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    let mut last = None;
    while let Some(part) = left.pop() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                sofar.pop();
                continue;
            }
            _ => sofar.push(part),
        }
        let Some(entry) = tree.find(&sofar.join(&b'/')) else { return Ok(None) };
        if let EntryKind::Symlink { target } = &entry.kind {
            links += 1;
            if links > LINKS {
                return Ok(None);
            }
            sofar.pop();
            if target.starts_with(b"/") {
                sofar.clear();
            }
            left.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
        }
        last = Some(entry);
    }
    match last {
        Some(entry) if is_file(&entry.kind) && normal_path(&entry.path).is_some() => text(&entry.path).map(Some),
        _ => Ok(None),
    }
}

/// The absolute path; a boot loader's configuration cannot name every one.
fn text(path: &[u8]) -> Result<String> {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._+-~".contains(byte);
    match std::str::from_utf8(path) {
        Ok(path) if path.bytes().all(|byte| is_plain(&byte)) => Ok(format!("/{path}")),
        _ => Err(Error::new(Kind::Unsupported, format!("a boot loader cannot be told of `/{}`", shown(path)))),
    }
}

fn copy(tree: &Tree, path: &str, target: &Path, cancel: &Cancel) -> Result<()> {
    let source = tree.root.join(path.trim_start_matches('/'));
    let mut from = fs::open_regular(&source, false)?;
    let mut to = fs::TempFile::beside(target, 0o644)?;
    cancel.check()?;
    std::io::copy(&mut from, &mut to)
        .context(|| format!("cannot copy `{}` to `{}`", source.display(), target.display()))?;
    to.persist()
}

#[cfg(test)]
mod tests {
    use super::version_key;

    #[test]
    fn the_newest_kernel_has_the_greatest_numbers() {
        assert!(version_key(b"6.10.0-1-amd64") > version_key(b"6.9.12-amd64"));
        assert!(version_key(b"6.1.0-20-amd64") > version_key(b"6.1.0-9-amd64"));
    }
}
