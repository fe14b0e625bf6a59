//! Symbolic links as pointers that are moved in one step.

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
}
