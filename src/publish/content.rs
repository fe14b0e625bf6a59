//! The file that is published: where it is, how long it must be, what it must hash to.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress, Unit};
use crate::vocab::Digest;

/// A local file with what is known of it.
#[derive(Debug)]
pub struct Content {
    file: File,
    path: PathBuf,
    size: u64,
    digest: Digest,
}

impl Content {
    /// The file at this path, which must have this size.
    pub fn open(path: &Path, size: u64, digest: Digest) -> Result<Self> {
        let file = fs::open(path)?;
        let found = file.metadata().context(|| format!("cannot look at `{}`", path.display()))?;
        if !found.is_file() || found.len() != size {
            return Err(Error::new(
                Kind::Corrupt,
                format!("`{}` has {} bytes, not the {size} it was made with", path.display(), found.len()),
            ));
        }
        Ok(Self { file, path: path.to_owned(), size, digest })
    }

    /// Its size.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Its SHA-256.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Fills the buffer from this offset on, less at the end of the file only.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let length = buffer.len().min(usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX));
        self.file.read_exact_at(&mut buffer[..length], offset).map_err(|error| {
            // Of this kind whatever the cause: it is this file that is bad, not the place it goes to.
            Error::new(Kind::Corrupt, format!("cannot read `{}`, which was whole before", self.path.display()))
                .caused_by(error)
        })?;
        Ok(length)
    }

    /// Reads all of it and fails with [`Kind::Corrupt`] if it is not, or no longer, what its digest says.
    pub fn check(&self, progress: &Progress, cancel: &Cancel) -> Result<()> {
        let mut stage = progress.stage(format!("checking {}", self.path.display()), Some(self.size), Unit::Bytes);
        let mut hash = sha2::Sha256::new();
        let (mut buffer, mut done) = (vec![0; 1 << 20], 0);
        loop {
            cancel.check()?;
            let count = self.read_at(&mut buffer, done)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
            done += count as u64;
            stage.advance(count as u64);
        }
        let found = Digest::from_bytes(hash.finalize().into());
        if found == self.digest {
            return Ok(());
        }
        let message = format!("`{}` is {found}, not the {} it was made with", self.path.display(), self.digest);
        Err(Error::new(Kind::Corrupt, message)
            .hint("make the file anew; look into the disk and memory of this machine"))
    }

    /// The same file opened once more, for a reader of its own.
    pub(super) fn reopened(&self) -> Result<Self> {
        Self::open(&self.path, self.size, self.digest)
    }
}
