//! The part of a file that has arrived.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::origin::Taker;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::progress::{Cancel, Stage};

/// Bytes between two fault points.
const STEP: u64 = 1 << 20;

/// `HEX.part`, open for writing.
pub(super) struct Part {
    file: File,
    path: PathBuf,
    length: u64,
    size: u64,
    moved: u64,
}

impl Part {
    /// The part at this path of a file of `size` bytes, made if it is not there. One that is longer begins anew.
    pub(super) fn open(path: &Path, size: u64) -> Result<Self> {
        let file = match host::fs::create_exclusive(path, 0o600)? {
            Some(file) => file,
            None => host::fs::open_regular(path, true)?,
        };
        host::fault::point("remote.part.made");
        let length = file.metadata().context(|| format!("cannot look at `{}`", path.display()))?.len();
        let mut part = Self { file, path: path.to_owned(), length, size, moved: 0 };
        if length > size {
            part.restart()?;
        }
        Ok(part)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// How many bytes have arrived.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// How many there are in all.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// How many bytes came since it was opened, those that were no good included.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    pub(super) fn is_complete(&self) -> bool {
        self.length == self.size
    }

    /// Forgets what has arrived.
    pub(super) fn restart(&mut self) -> Result<()> {
        self.cut(0)
    }

    fn cut(&mut self, length: u64) -> Result<()> {
        self.file.set_len(length).context(|| format!("cannot shorten `{}`", self.path.display()))?;
        self.length = length;
        Ok(())
    }

    /// Makes what has arrived durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_all().context(|| format!("cannot sync `{}`", self.path.display()))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 > self.size - self.length {
            return Err(Error::new(
                Kind::Corrupt,
                format!("more than the {} bytes come that it should have", self.size),
            ));
        }
        self.file
            .write_all_at(bytes, self.length)
            .context(|| format!("cannot write `{}`", self.path.display()))
            .map_err(|error| match error.kind() {
                Kind::NoSpace => error.hint("free some space there and run it again: it goes on where it stopped"),
                _ => error,
            })?;
        let before = self.length / STEP;
        self.length += bytes.len() as u64;
        if self.length / STEP > before {
            host::fault::point("remote.part.grown");
        }
        Ok(())
    }
}

/// A part that takes bytes and tells of it.
pub(super) struct Told<'a> {
    pub(super) part: &'a mut Part,
    pub(super) stage: &'a mut Stage,
    pub(super) cancel: &'a Cancel,
}

impl Taker for Told<'_> {
    fn begin(&mut self, at: u64, total: Option<u64>) -> Result<()> {
        if let Some(total) = total
            && total != self.part.size
        {
            let size = self.part.size;
            return Err(Error::new(
                Kind::Corrupt,
                format!("it has {total} bytes there, not the {size} it should have"),
            ));
        }
        match at {
            at if at == self.part.length => Ok(()),
            0 => self.part.restart(),
            at => Err(Error::new(Kind::Failed, format!("it begins at byte {at}, which nobody asked for"))),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        self.cancel.check()?;
        self.part.moved += bytes.len() as u64;
        self.part.append(bytes)?;
        self.stage.advance(bytes.len() as u64);
        Ok(!self.part.is_complete())
    }
}
