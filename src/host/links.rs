//! Symbolic links as pointers that are moved in one step.

use std::path::{Path, PathBuf};

use super::fs;
use crate::error::{Context as _, Result};

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
