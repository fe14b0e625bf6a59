//! A local folder as a place to publish to.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::access::MAKE_FOLDER;
use super::content::Content;
use super::name::{Entry, RemoteName, Temporary};
use super::remote::{RemoteStore, Space, Tier, Written};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress, Unit};
use crate::vocab::Digest;

/// Bytes moved at a time.
const PIECE: usize = 1 << 20;

/// A folder of this machine.
#[derive(Debug)]
pub(super) struct Directory {
    folder: PathBuf,
    place: String,
    cancel: Cancel,
    open: Option<(PathBuf, File)>,
}

impl Directory {
    /// The folder, which must be there.
    pub(super) fn open(folder: &Path, place: String, cancel: &Cancel) -> Result<Self> {
        if !fs::metadata(folder)?.is_some_and(|metadata| metadata.is_dir()) {
            let message = format!("there is no folder `{}`", folder.display());
            return Err(Error::new(Kind::NotFound, message).hint(MAKE_FOLDER));
        }
        Ok(Self { folder: folder.to_owned(), place, cancel: cancel.clone(), open: None })
    }

    fn path(&self, entry: Entry<'_>) -> PathBuf {
        self.folder.join(entry.text())
    }

    fn opened(&mut self, temporary: &Temporary) -> Result<&mut File> {
        let path = self.path(temporary.into());
        if self.open.as_ref().is_none_or(|(open, _)| *open != path) {
            let file = match fs::create_exclusive(&path, 0o644)? {
                Some(file) => file,
                None => fs::open_regular(&path, true)?,
            };
            self.open = Some((path, file));
        }
        match &mut self.open {
            Some((_, file)) => Ok(file),
            None => Err(Error::new(Kind::Failed, format!("`{temporary}` is not open"))),
        }
    }
}

impl RemoteStore for Directory {
    fn place(&self) -> &str {
        &self.place
    }

    fn size_of(&mut self, entry: Entry<'_>) -> Result<Option<u64>> {
        let path = self.path(entry);
        match fs::link_metadata(&path)? {
            None => Ok(None),
            Some(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Some(_) => Err(Error::new(Kind::Conflict, format!("`{}` is not a regular file", path.display()))),
        }
    }

    fn begin(&mut self, temporary: &Temporary) -> Result<u64> {
        // A file that is open may have got its final name since.
        self.open = None;
        let file = self.opened(temporary)?;
        Ok(file.metadata().context(|| format!("cannot look at `{temporary}`"))?.len())
    }

    fn space(&mut self, _: &Temporary) -> Result<Option<Space>> {
        let (available, total) = fs::space(&self.folder)?;
        Ok(Some(Space { available, total: Some(total) }))
    }

    fn resume_write(
        &mut self,
        temporary: &Temporary,
        content: &Content,
        from: u64,
        told: &mut dyn FnMut(Written) -> Result<()>,
    ) -> Result<()> {
        let cancel = self.cancel.clone();
        let path = self.path(temporary.into());
        let wrong = || format!("cannot write `{}`", path.display());
        let file = self.opened(temporary)?;
        if file.metadata().context(wrong)?.len() > content.size() {
            file.set_len(content.size()).context(wrong)?;
        }
        file.seek(SeekFrom::Start(from)).context(wrong)?;
        let mut buffer = vec![0; PIECE];
        let mut done = from;
        loop {
            cancel.check()?;
            let count = content.read_at(&mut buffer, done)?;
            if count == 0 {
                return Ok(());
            }
            file.write_all(&buffer[..count]).context(wrong)?;
            done += count as u64;
            told(Written::Safe(done))?;
        }
    }

    fn sync(&mut self, temporary: &Temporary) -> Result<bool> {
        self.opened(temporary)?.sync_all().context(|| format!("cannot sync `{temporary}`"))?;
        self.open = None;
        fs::sync_dir(&self.folder)?;
        Ok(true)
    }

    fn hash(&mut self, entry: Entry<'_>, size: u64, tier: Tier, progress: &Progress) -> Result<Option<Digest>> {
        if tier != Tier::ReadBack {
            return Ok(None);
        }
        let mut hash = sha2::Sha256::new();
        self.read(entry, size, progress, &mut |bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        Ok(Some(Digest::from_bytes(hash.finalize().into())))
    }

    fn read(
        &mut self,
        entry: Entry<'_>,
        size: u64,
        progress: &Progress,
        taker: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let path = self.path(entry);
        let file = fs::open_regular(&path, false)?;
        // What is still in memory only is not what a later reader gets.
        fs::forget_pages(&file, &path)?;
        let mut file = file.take(size.saturating_add(1));
        let mut stage = progress.stage(format!("reading back {}", entry.text()), Some(size), Unit::Bytes);
        let mut buffer = vec![0; PIECE];
        loop {
            self.cancel.check()?;
            let count = file.read(&mut buffer).context(|| format!("cannot read `{}`", path.display()))?;
            if count == 0 {
                return Ok(());
            }
            taker(&buffer[..count])?;
            stage.advance(count as u64);
        }
    }

    fn remove(&mut self, name: &RemoteName) -> Result<bool> {
        let removed = fs::remove_file(&self.path(name.into()))?;
        fs::sync_dir(&self.folder)?;
        Ok(removed)
    }

    fn rename_noclobber(&mut self, temporary: &Temporary, name: &RemoteName) -> Result<()> {
        self.open = None;
        fs::rename_noreplace(&self.path(temporary.into()), &self.path(name.into()))
    }

    fn remove_temporary(&mut self, temporary: &Temporary) -> Result<bool> {
        self.open = None;
        fs::remove_file(&self.path(temporary.into()))
    }

    fn reconnect(&mut self) -> Result<()> {
        self.open = None;
        Ok(())
    }
}
