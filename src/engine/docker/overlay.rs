//! Where a container's files are on this host: the mount of its root, and what its layers show at a path.
//!
//! An engine mounts its own files over a container's tree (`/etc/hosts`, `/dev`, `/proc` …) inside the container's
//! mount namespace; the overlay itself is mounted in the host's, where those mounts are not seen.

use std::fs::Metadata;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// Whether a process of this host belongs to the container.
pub(super) fn is_process_of(process: i64, container: &str) -> Result<bool> {
    let path = format!("/proc/{process}/cgroup");
    if !fs::exists(path.as_ref())? {
        return Ok(false);
    }
    Ok(String::from_utf8_lossy(&fs::read(path.as_ref())?).contains(container))
}

/// The place in this mount namespace where the root of `process` is mounted; `told` is where the engine says.
pub(super) fn root_on_host(process: i64, told: Option<PathBuf>) -> Result<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::new(Kind::Refused, "only root may read the files of a container")
            .hint("run castoff as root, or do without ACLs (`acls=False`)"));
    }
    let seen = PathBuf::from(format!("/proc/{process}/root/"));
    let device = fs::metadata(&seen)?
        .ok_or_else(|| Error::new(Kind::Conflict, format!("the container's process {process} has ended")))?
        .dev();
    if let Some(told) = told
        && fs::metadata(&told)?.is_some_and(|metadata| metadata.dev() == device)
    {
        return Ok(told);
    }
    let mounts = fs::read("/proc/self/mountinfo".as_ref())?;
    mounted_at(&mounts, rustix::fs::major(device), rustix::fs::minor(device)).ok_or_else(|| {
        Error::new(Kind::Unsupported, "the container's root is not mounted where castoff can see it")
            .hint("run castoff in the mount namespace of the Docker engine, or do without ACLs (`acls=False`)")
    })
}

/// The mount point of a whole file system, from the text of `mountinfo` (proc(5)).
fn mounted_at(mountinfo: &[u8], major: u32, minor: u32) -> Option<PathBuf> {
    let device = format!("{major}:{minor}");
    mountinfo.split(|byte| *byte == b'\n').find_map(|line| {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let [_, _, number, root, place, ..] = fields.as_slice() else { return None };
        (*number == device.as_bytes() && *root == b"/")
            .then(|| PathBuf::from(std::ffi::OsString::from_vec(unescaped(place))))
    })
}

/// `mountinfo` writes space, tab, newline and backslash as three octal digits.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        let code =
            (*byte == b'\\').then(|| after.get(..3)).flatten().and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(code) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            plain.push(code);
            rest = &after[3..];
        } else {
            plain.push(*byte);
            rest = after;
        }
    }
    plain
}

/// What an overlay of these layers (top first) shows at a path: whiteouts (character device 0:0) and opaque folders
/// (`trusted.overlay.opaque`) hide what is below (kernel: Documentation/filesystems/overlayfs.rst).
pub(super) fn visible(layers: &[PathBuf], path: &Path) -> Result<Option<(PathBuf, Metadata)>> {
    let mut searched = layers.len();
    let mut prefix = PathBuf::new();
    let mut top = None;
    for name in path {
        prefix.push(name);
        top = None;
        let mut limit = searched;
        for (index, layer) in layers[..searched].iter().enumerate() {
            let place = layer.join(&prefix);
            let Some(metadata) = fs::link_metadata(&place)? else { continue };
            let is_whiteout = metadata.file_type().is_char_device() && metadata.rdev() == 0;
            if is_whiteout {
                limit = index;
                break;
            }
            let hides = !metadata.is_dir() || is_opaque(&place)?;
            top.get_or_insert((place, metadata));
            if hides {
                limit = index + 1;
                break;
            }
        }
        searched = limit;
        if !top.as_ref().is_some_and(|(_, metadata)| metadata.is_dir()) && prefix != path {
            return Ok(None);
        }
    }
    Ok(top)
}

fn is_opaque(folder: &Path) -> Result<bool> {
    let mut value = [0; 4];
    match rustix::fs::lgetxattr(folder, "trusted.overlay.opaque", &mut value[..]) {
        Ok(count) => Ok(value[..count].starts_with(b"y")),
        Err(rustix::io::Errno::NODATA | rustix::io::Errno::NOTSUP) => Ok(false),
        Err(error) => Err(error).context(|| format!("cannot read the xattrs of `{}`", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_space_is_found_by_its_device() {
        let text = b"21 1 0:45 / /proc rw - proc proc rw\n\
                     60 1 0:77 /sub /bind rw - overlay overlay rw\n\
                     61 1 0:77 / /var/lib/my\\040docker/merged rw shared:1 - overlay overlay rw,lowerdir=l/A\n";
        assert_eq!(mounted_at(text, 0, 77), Some("/var/lib/my docker/merged".into()));
        assert_eq!(mounted_at(text, 0, 78), None);
    }

    #[test]
    fn a_file_below_a_file_is_not_visible() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(&folder.path().join("base/etc"), 0o755).unwrap();
        fs::write_atomic(&folder.path().join("base/etc/hosts"), 0o644, b"").unwrap();
        fs::create_dir_all(&folder.path().join("top"), 0o755).unwrap();
        fs::write_atomic(&folder.path().join("top/etc"), 0o644, b"").unwrap();
        let layers = ["top", "base"].map(|name| folder.path().join(name));
        assert!(visible(&layers, Path::new("etc/hosts")).unwrap().is_none());
        assert!(visible(&layers[1..], Path::new("etc/hosts")).unwrap().is_some());
        assert!(
            visible(&layers, Path::new("etc"))
                .unwrap()
                .is_some_and(|(place, metadata)| { place == layers[0].join("etc") && metadata.is_file() })
        );
    }
}
