//! Symbolic links: as pointers that are moved in one step, and followed without leaving a tree.

use std::path::{Path, PathBuf};

use super::fs;
use crate::error::{Context as _, Error, Kind, Result};

/// What the link at this path says; none where nothing is.
pub fn target(path: &Path) -> Result<Option<PathBuf>> {
    use std::os::unix::ffi::OsStringExt as _;
    match rustix::fs::readlink(path, Vec::new()) {
        Ok(target) => Ok(Some(std::ffi::OsString::from_vec(target.into_bytes()).into())),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(error).context(|| format!("cannot read the link `{}`", path.display())),
    }
}

/// Lets the link at this path say `target`, whatever it said before, durably: who follows it finds the old or the new.
///
/// One process at a time: the new link stands beside the old one, as `.NAME.castoff-new`, before it takes its place.
pub fn point(path: &Path, target: &Path) -> Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".castoff-new");
    let beside = fs::parent(path).join(name);
    fs::remove_file(&beside)?;
    rustix::fs::symlink(target, &beside).context(|| format!("cannot make the link `{}`", beside.display()))?;
    super::fault::point("host.links.made");
    fs::rename(&beside, path)?;
    super::fault::point("host.links.moved");
    Ok(())
}

/// Lets two names on one file system change places in one step, durably: who opens either finds one or the other, whole.
pub fn exchange(one: &Path, other: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let wrong = || format!("cannot let `{}` and `{}` change places", one.display(), other.display());
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            return Err(Error::new(Kind::Unsupported, wrong())
                .hint("this file system cannot do it in one step; ext4, xfs, btrfs and tmpfs can"));
        }
        other => other.context(wrong)?,
    }
    fs::sync_dir(fs::parent(one))?;
    fs::sync_dir(fs::parent(other))
}

/// The mode of the regular file at this path of a tree, links followed as if the tree were the root; none where none is.
pub fn mode_inside(tree: &Path, path: &str) -> Result<Option<u32>> {
    use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
    use rustix::io::Errno;
    let wrong = || format!("cannot look at `{path}` in `{}`", tree.display());
    let root = openat(CWD, tree, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(wrong)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let inside = path.trim_start_matches('/');
    match openat2(&root, inside, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(error) => Err(error).context(wrong),
        Ok(found) => {
            let mode = fstat(&found).context(wrong)?.st_mode;
            Ok((FileType::from_raw_mode(mode) == FileType::RegularFile).then_some(mode & 0o7777))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_moved_over_whatever_a_killed_run_left() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("current");
        assert_eq!(target(&link).unwrap(), None);
        fs::write_atomic(&folder.path().join(".current.castoff-new"), 0o600, b"").unwrap();
        for name in ["1", "2"] {
            point(&link, Path::new(name)).unwrap();
            assert_eq!(target(&link).unwrap(), Some(PathBuf::from(name)));
        }
        assert_eq!(fs::list(folder.path()).unwrap(), ["current"]);
    }

    #[test]
    fn a_link_out_of_a_tree_leads_into_it() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path();
        fs::create_dir_all(&tree.join("usr/sbin"), 0o755).unwrap();
        rustix::fs::symlink("/usr/sbin", tree.join("sbin")).unwrap();
        rustix::fs::symlink("loop", tree.join("loop")).unwrap();
        fs::write_atomic(&tree.join("usr/sbin/x"), 0o755, b"").unwrap();
        for (path, mode) in [
            ("/sbin/x", Some(0o755)),
            ("/sbin", None),
            ("/loop", None),
            ("/../../sbin/x", Some(0o755)),
            ("/no/x", None),
        ] {
            assert_eq!(mode_inside(tree, path).unwrap(), mode, "{path}");
        }
    }
}
