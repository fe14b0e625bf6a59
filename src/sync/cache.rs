//! Bare tars that are kept for patches to be applied to: `tars/HEX.tar.zst`, the least recently used go first.
//!
//! Any file may be gone or damaged at any time: then it is not held, and something else is fetched.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::unfold::copy;
use crate::error::{Context as _, Kind, Result};
use crate::host;
use crate::host::fs::TempFile;
use crate::progress::{Cancel, Progress, Unit};
use crate::vocab::{DiffId, Digest};

const SUFFIX: &str = ".tar.zst";

/// Half a second of CPU for 100 MB, and a third of the size.
const LEVEL: i32 = 3;

/// The kept tars.
#[derive(Clone, Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    /// The most bytes of all of them.
    most: u64,
    /// The largest tar that is of use.
    largest: u64,
}

impl Cache {
    /// The tars in this folder, which need not be there.
    pub(super) fn new(folder: &Path, most: u64, largest: u64) -> Self {
        Self { folder: folder.to_owned(), most, largest }
    }

    fn path(&self, diff_id: DiffId) -> PathBuf {
        self.folder.join(format!("{}{SUFFIX}", diff_id.0.hex()))
    }

    /// What is held, by name.
    pub(super) fn held(&self) -> Result<BTreeSet<DiffId>> {
        if !host::fs::exists(&self.folder)? {
            return Ok(BTreeSet::new());
        }
        let names = host::fs::list(&self.folder)?;
        let known = |name: &std::ffi::OsString| {
            let digest: Digest = format!("sha256:{}", name.to_str()?.strip_suffix(SUFFIX)?).parse().ok()?;
            Some(DiffId(digest))
        };
        Ok(names.iter().filter_map(known).collect())
    }

    /// The tar in memory; none if it is not held, or not what its name says: then it goes away.
    pub(super) fn read(&self, diff_id: DiffId, progress: &Progress, cancel: &Cancel) -> Result<Option<Vec<u8>>> {
        let path = self.path(diff_id);
        let file = match host::fs::open_regular(&path, false) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(None),
            other => other?,
        };
        let mut tar = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::new(file).context(|| "cannot start zstd decompression")?;
        let mut stage = progress.stage(format!("reading {}", path.display()), None, Unit::Bytes);
        let whole = copy(&mut decoder, self.largest, &mut tar, (&mut stage, cancel));
        match whole {
            Ok(()) if DiffId(Digest::of(&tar)) == diff_id => return Ok(Some(tar)),
            Err(error) if error.kind() != Kind::Corrupt => return Err(error),
            Ok(()) | Err(_) => {}
        }
        progress.warn(format!("the kept tar `{}` is damaged: removed", path.display()));
        host::fs::remove_file(&path)?;
        Ok(None)
    }

    /// Says that a tar is still of use; whether it is held.
    pub(super) fn touch(&self, diff_id: DiffId) -> Result<bool> {
        let path = self.path(diff_id);
        let file = match host::fs::open_regular(&path, true) {
            Err(error) if error.kind() == Kind::NotFound => return Ok(false),
            other => other?,
        };
        let now = SystemTime::UNIX_EPOCH + host::clock::now();
        file.set_modified(now).context(|| format!("cannot set the time of `{}`", path.display()))?;
        Ok(true)
    }

    /// Keeps a tar of `size` bytes if it is of use, and removes what is then too much; whether it is held now.
    pub(super) fn keep(&self, diff_id: DiffId, tar: &File, size: u64, cancel: &Cancel) -> Result<bool> {
        if size > self.largest || self.most == 0 {
            return Ok(false);
        }
        if !self.touch(diff_id)? {
            let path = self.path(diff_id);
            let wrong = || format!("cannot write `{}`", path.display());
            let out = TempFile::beside(&path, 0o600)?;
            let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL).context(wrong)?;
            encoder.include_checksum(true).context(wrong)?;
            let mut stage = Progress::silent().stage("keeping the tar", Some(size), Unit::Bytes);
            let mut source = AtStart { file: tar, offset: 0 };
            copy(&mut source, size, &mut encoder, (&mut stage, cancel)).context(wrong)?;
            encoder.finish().context(wrong)?.persist()?;
        }
        self.prune()?;
        host::fs::exists(&self.path(diff_id))
    }

    /// Removes the least recently used until the rest fits.
    fn prune(&self) -> Result<()> {
        let mut files = Vec::new();
        for diff_id in self.held()? {
            let path = self.path(diff_id);
            if let Some(found) = host::fs::link_metadata(&path)? {
                let time = found.modified().context(|| format!("cannot look at `{}`", path.display()))?;
                files.push((time, path, found.len()));
            }
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, _, size)| size).sum();
        for (_, path, size) in files {
            if total <= self.most {
                break;
            }
            host::fs::remove_file(&path)?;
            total -= size;
        }
        Ok(())
    }
}

/// Reads a file from its start, wherever it stands.
struct AtStart<'a> {
    file: &'a File,
    offset: u64,
}

impl std::io::Read for AtStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use std::os::unix::fs::FileExt as _;
        let count = self.file.read_at(buffer, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_what_is_damaged_does_not_and_the_oldest_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let (progress, cancel) = (Progress::silent(), Cancel::new());
        let tar = |seed: u8| {
            let bytes: Vec<u8> =
                (0..30_000_u32).map(|at| (at * at + at / 7 * u32::from(seed)).to_le_bytes()[1]).collect();
            let path = folder.path().join(format!("tar-{seed}"));
            host::fs::write_atomic(&path, 0o600, &bytes).unwrap();
            (DiffId(Digest::of(&bytes)), host::fs::open(&path).unwrap(), bytes)
        };
        let wide = Cache::new(&folder.path().join("tars"), 1 << 20, 1 << 20);
        host::fs::create_dir_all(&folder.path().join("tars"), 0o700).unwrap();
        let (first, second) = (tar(1), tar(2));
        for (diff_id, file, bytes) in [&first, &second] {
            assert!(wide.keep(*diff_id, file, bytes.len() as u64, &cancel).unwrap());
            assert_eq!(wide.read(*diff_id, &progress, &cancel).unwrap().as_ref(), Some(bytes));
        }
        assert_eq!(wide.held().unwrap().len(), 2);
        let small = Cache::new(&folder.path().join("tars"), 1 << 20, 29_999);
        assert!(!small.keep(first.0, &first.1, 30_000, &cancel).unwrap(), "too large to be of use");
        assert!(wide.touch(first.0).unwrap());
        let one = host::fs::metadata(&wide.path(first.0)).unwrap().unwrap().len();
        let narrow = Cache::new(&folder.path().join("tars"), one + 10, 1 << 20);
        assert!(narrow.keep(first.0, &first.1, 30_000, &cancel).unwrap());
        assert_eq!(narrow.held().unwrap(), BTreeSet::from([first.0]));
        let mut damaged = host::fs::read(&wide.path(first.0)).unwrap();
        let middle = damaged.len() / 2;
        damaged[middle] ^= 1;
        host::fs::write_atomic(&wide.path(first.0), 0o600, &damaged).unwrap();
        assert_eq!(wide.read(first.0, &progress, &cancel).unwrap(), None);
        assert!(wide.held().unwrap().is_empty());
    }
}
