//! What an engine puts into a container's tree, and how the tree becomes the image's again.
//!
//! For its mounts over `/etc/hosts`, `/etc/resolv.conf`, `/dev`, `/proc` … to have something to sit on, an engine makes
//! stubs in an extra layer (`ID-init`) between the image and the container. Where the image has a file of that name it
//! is *replaced* by an empty one of mode 0755 (moby, `daemon/initlayer`): a tree read without care would lose the
//! image's own `/etc/resolv.conf`.

use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};

use super::overlay::visible;
use crate::error::{Context as _, Result};
use crate::host::fs;

/// The entries of a stub layer, sorted out.
#[derive(Debug, Default)]
pub(super) struct Stubs {
    /// What the image lacks, children before parents.
    made: Vec<PathBuf>,
    /// What hides a file of the image: path, and where the image's file is.
    hiding: Vec<(PathBuf, Metadata, PathBuf)>,
    /// Folders of the image that got another mtime by this: path, the stub layer's, the image's.
    touched: Vec<(PathBuf, Moment, Moment)>,
}

/// Seconds and nanoseconds of an mtime.
type Moment = (i64, i64);

fn moment(metadata: &Metadata) -> Moment {
    (metadata.mtime(), metadata.mtime_nsec())
}

impl Stubs {
    /// Compares the stub layer with the image's layers (top first); none when the first is no stub layer.
    pub(super) fn find(layers: &[PathBuf]) -> Result<Option<Self>> {
        let Some((init, image)) = layers.split_first() else { return Ok(None) };
        if !fs::parent(init).as_os_str().as_bytes().ends_with(b"-init") {
            return Ok(None);
        }
        let mut found = Self::default();
        found.descend(init, image, Path::new(""))?;
        Ok(Some(found))
    }

    fn descend(&mut self, init: &Path, image: &[PathBuf], folder: &Path) -> Result<()> {
        for name in fs::list(&init.join(folder))? {
            let path = folder.join(name);
            let Some(own) = fs::link_metadata(&init.join(&path))? else { continue };
            if own.is_dir() {
                self.descend(init, image, &path)?;
            }
            match visible(image, &path)? {
                None => self.made.push(path),
                Some((_, below)) if own.is_dir() && below.is_dir() => {
                    self.touched.push((path, moment(&own), moment(&below)));
                }
                Some((place, _)) => self.hiding.push((path, own, place)),
            }
        }
        Ok(())
    }

    /// Undoes in the merged tree what the engine did, wherever the container has not made something else of it; the
    /// paths that were taken away or are the image's own again.
    pub(super) fn clear(&self, root: &Path) -> Result<Vec<String>> {
        let times = self.times_to_give_back(root)?;
        let mut cleared = Vec::new();
        for path in &self.made {
            let place = root.join(path);
            let Some(metadata) = fs::link_metadata(&place)? else { continue };
            let is_gone = if metadata.is_dir() {
                fs::list(&place)?.is_empty() && fs::remove_dir(&place)?
            } else {
                // A file with content is the container's: it took the engine's mount away and wrote its own.
                (metadata.is_symlink() || metadata.len() == 0) && fs::remove_file(&place)?
            };
            if is_gone {
                cleared.push(path);
            }
        }
        for (path, stub, original) in &self.hiding {
            let place = root.join(path);
            let is_stub = fs::link_metadata(&place)?.is_some_and(|now| {
                (now.file_type(), now.mode(), now.len(), moment(&now))
                    == (stub.file_type(), stub.mode(), stub.len(), moment(stub))
            });
            if is_stub {
                if stub.is_dir() {
                    fs::remove_dir(&place)?
                } else {
                    fs::remove_file(&place)?
                };
                copy_exactly(original, &place)
                    .context(|| format!("cannot bring back the image's own `{}`", path.display()))?;
                cleared.push(path);
            }
        }
        for (path, time) in times {
            set_mtime(&root.join(path), time).context(|| format!("cannot set the time of `{}`", path.display()))?;
        }
        cleared.sort();
        Ok(cleared.into_iter().map(|path| path.to_string_lossy().into_owned()).collect())
    }

    /// A folder that the container did not change either gets the image's time, any other keeps its own.
    fn times_to_give_back(&self, root: &Path) -> Result<Vec<(&Path, Moment)>> {
        self.touched
            .iter()
            .filter_map(|(path, made, original)| {
                let now = fs::link_metadata(&root.join(path)).transpose()?;
                Some(now.map(|now| {
                    let now = moment(&now);
                    (path.as_path(), if now == *made { *original } else { now })
                }))
            })
            .collect()
    }
}

fn set_mtime(path: &Path, (seconds, nanoseconds): Moment) -> rustix::io::Result<()> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
        last_modification: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
}

/// A copy of one file, link or device with everything it carries; nothing is at `to`.
fn copy_exactly(from: &Path, to: &Path) -> std::io::Result<()> {
    let state = rustix::fs::lstat(from)?;
    let mode = Mode::from_raw_mode(state.st_mode & 0o7777);
    let kind = FileType::from_raw_mode(state.st_mode);
    match kind {
        FileType::RegularFile => {
            let source = rustix::fs::open(from, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = rustix::fs::open(to, flags, Mode::RUSR | Mode::WUSR)?;
            let (mut source, mut target) = (std::fs::File::from(source), std::fs::File::from(target));
            std::io::copy(&mut source, &mut target)?;
        }
        FileType::Symlink => rustix::fs::symlink(rustix::fs::readlink(from, Vec::new())?, to)?,
        other => rustix::fs::mknodat(CWD, to, other, mode, state.st_rdev)?,
    }
    // Owner before mode: a change of owner takes setuid away. ACLs before mode is the kernel's own order of trust: the
    // mode's group bits are the mask that the ACL has just set.
    rustix::fs::chownat(
        CWD,
        to,
        Some(Uid::from_raw(state.st_uid)),
        Some(Gid::from_raw(state.st_gid)),
        AtFlags::SYMLINK_NOFOLLOW,
    )?;
    copy_xattrs(from, to)?;
    if kind != FileType::Symlink {
        rustix::fs::chmod(to, mode)?;
    }
    Ok(set_mtime(to, (state.st_mtime, state.st_mtime_nsec.cast_signed()))?)
}

fn copy_xattrs(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut names = vec![0u8; 64 * 1024];
    let count = rustix::fs::llistxattr(from, &mut names[..])?;
    for name in names[..count].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        // overlayfs keeps these for itself.
        if name.starts_with(b"trusted.overlay.") {
            continue;
        }
        let mut value = vec![0u8; 64 * 1024];
        let size = rustix::fs::lgetxattr(from, name, &mut value[..])?;
        rustix::fs::lsetxattr(to, name, &value[..size], XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(folder: &Path, path: &str, content: &[u8]) {
        let path = folder.join(path);
        fs::create_dir_all(fs::parent(&path), 0o755).unwrap();
        fs::write_atomic(&path, 0o644, content).unwrap();
    }

    #[test]
    fn stubs_are_told_from_the_images_files() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["x-init/diff/etc/hosts", "x-init/diff/etc/hostname", "x-init/diff/dev/console"] {
            make(folder.path(), path, b"");
        }
        make(folder.path(), "top/etc/passwd", b"x");
        make(folder.path(), "base/etc/hosts", b"own");
        let layers = ["x-init/diff", "top", "base"].map(|name| folder.path().join(name));
        let found = Stubs::find(&layers).unwrap().unwrap();
        assert_eq!(found.made, ["dev/console", "dev", "etc/hostname"].map(PathBuf::from));
        assert_eq!(found.hiding[0].0, Path::new("etc/hosts"));
        assert_eq!(found.hiding[0].2, layers[2].join("etc/hosts"));
        assert_eq!(found.touched[0].0, Path::new("etc"));
        assert!(Stubs::find(&layers[1..]).unwrap().is_none(), "an image's layer is not a stub layer");
    }

    #[test]
    fn clearing_brings_the_images_file_back_and_leaves_the_containers_alone() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["etc/hosts", "etc/hostname", "etc/resolv.conf"] {
            make(folder.path(), &format!("x-init/diff/{path}"), b"");
        }
        make(folder.path(), "base/etc/hosts", b"own");
        // The merged tree of this test is a copy of the stub layer; the container wrote one of the files.
        let root = folder.path().join("merged");
        fs::create_dir_all(&root.join("etc"), 0o755).unwrap();
        for name in ["hosts", "hostname"] {
            copy_exactly(&folder.path().join("x-init/diff/etc").join(name), &root.join("etc").join(name)).unwrap();
        }
        make(&root, "etc/resolv.conf", b"nameserver 192.0.2.1\n");
        let layers = ["x-init/diff", "base"].map(|name| folder.path().join(name));
        let cleared = Stubs::find(&layers).unwrap().unwrap().clear(&root).unwrap();
        assert_eq!(cleared, ["etc/hostname", "etc/hosts"]);
        assert_eq!(fs::read(&root.join("etc/hosts")).unwrap(), b"own");
        assert_eq!(fs::list(&root.join("etc")).unwrap(), ["hosts", "resolv.conf"]);
    }
}
