//! A file of this machine, which may be a mounted share.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::origin::{Origin, Taker};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;

/// A file of this machine.
pub(super) struct LocalFile {
    file: File,
    path: PathBuf,
}

impl LocalFile {
    /// The regular file at this path, links followed.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let Some(path) = host::fs::canonical(path)? else {
            return Err(Error::new(Kind::NotFound, format!("there is no file `{}`", path.display())));
        };
        Ok(Self { file: host::fs::open_regular(&path, false)?, path })
    }
}

impl Origin for LocalFile {
    fn stream(&mut self, from: u64, taker: &mut dyn Taker) -> Result<()> {
        let wrong = || format!("cannot read `{}`", self.path.display());
        let size = self.file.metadata().context(wrong)?.len();
        taker.begin(from, Some(size))?;
        let (mut buffer, mut offset) = (vec![0; 1 << 20], from);
        loop {
            let count = self.file.read_at(&mut buffer, offset).context(wrong)?;
            if count == 0 || !taker.take(&buffer[..count])? {
                return Ok(());
            }
            offset += count as u64;
        }
    }
}
