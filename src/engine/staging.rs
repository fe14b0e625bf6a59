//! Files on their way into a folder: unfolded beside their places, so that they get their names when all are whole.
//!
//! ```text
//! FOLDER/.castoff-PID-N.tmp/0, 1, …   whole and synced files; the folder is locked, and swept when its owner died
//! ```
//!
//! A file waits in the nearest folder above its place that is there already, so that a move is no copy even where that is
//! another file system.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::extracted::Holes;
use crate::error::{Context as _, Error, Kind, Result, from_io};
use crate::host::fault;
use crate::host::fs::{self, TempDir, TempFile};
use crate::oci::{HashingWriter, HoleWriter};
use crate::progress::Stage;
use crate::vocab::Digest;

/// Bytes read at a time.
const PIECE: usize = 256 << 10;
/// A file system's free space is asked for once per this many bytes, and so many stay free.
const SPACE_STEP: u64 = 32 << 20;
const FLOOR: u64 = 64 << 20;

/// Files without names.
pub(super) struct Staging<'f> {
    folder: &'f Path,
    /// By the folder they are in.
    places: BTreeMap<PathBuf, TempDir>,
    files: Vec<Staged>,
}

/// A whole file.
pub(super) struct Staged {
    /// Where it waits.
    pub(super) path: PathBuf,
    /// The digest of its bytes.
    pub(super) digest: Digest,
}

impl<'f> Staging<'f> {
    /// None yet, for places below this folder.
    pub(super) fn new(folder: &'f Path) -> Self {
        Self { folder, places: BTreeMap::new(), files: Vec::new() }
    }

    /// The files, as they were added.
    pub(super) fn files(&self) -> &[Staged] {
        &self.files
    }

    /// Adds the file that this content is, or unfolds to, within a limit of bytes.
    pub(super) fn add(
        &mut self,
        path: &str,
        content: impl Read,
        unfold: bool,
        (stage, limit): (Stage, u64),
    ) -> Result<()> {
        let number = self.files.len().to_string();
        let target = self.place(path)?.join(number);
        let temporary = TempFile::beside(&target, 0o644)?;
        let file = temporary.file().try_clone().context(|| format!("cannot keep `{}` open", target.display()))?;
        let out = HashingWriter::new(HoleWriter::new(Arc::new(file)))?;
        let counted = BufReader::with_capacity(PIECE, Counted { content, stage });
        let out = if unfold {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(counted).context(|| "cannot start zstd decompression")?;
            // 128 MiB, the most a decoder must support (RFC 8878 leaves more to choice).
            decoder.window_log_max(27).context(|| "cannot start zstd decompression")?;
            pour(decoder, out, &target, limit)?
        } else {
            pour(counted, out, &target, limit)?
        };
        let (holes, digest, size) = out.finish()?;
        holes.close(size)?;
        fault::point("engine.extract.before-whole");
        temporary.persist()?;
        self.files.push(Staged { path: target, digest });
        Ok(())
    }

    /// Where a file waits that is to have this path below the folder.
    fn place(&mut self, path: &str) -> Result<&Path> {
        let mut found = self.folder.to_owned();
        for (at, _) in path.match_indices('/') {
            let folder = self.folder.join(&path[..at]);
            if !fs::exists(&folder)? {
                break;
            }
            found = folder;
        }
        Ok(match self.places.entry(found) {
            Entry::Occupied(place) => place.into_mut(),
            Entry::Vacant(place) => {
                let made = TempDir::inside(place.key())?;
                place.insert(made)
            }
        }
        .path())
    }
}

/// Makes sure that a folder can be made or is there, and removes what killed processes left in it; a link in its place is
/// not followed.
pub(super) fn prepare_folder(path: &Path) -> Result<()> {
    match fs::link_metadata(path)? {
        None => Ok(()),
        Some(found) if found.is_dir() => fs::sweep(path).map(drop),
        Some(_) => Err(Error::new(Kind::Conflict, format!("`{}` is in the way: it is no folder", path.display()))),
    }
}

/// Whether something is at the path; a folder is in the way.
pub(super) fn may_replace(path: &Path) -> Result<bool> {
    match fs::link_metadata(path)? {
        Some(found) if found.is_dir() => {
            Err(Error::new(Kind::Conflict, format!("`{}` is in the way: it is a folder", path.display())))
        }
        found => Ok(found.is_some()),
    }
}

/// Everything from one end to the other, within the limits of size and space.
fn pour(mut from: impl Read, mut out: Holes, target: &Path, limit: u64) -> Result<Holes> {
    let mut buffer = vec![0; PIECE];
    let (mut size, mut next_check) = (0, SPACE_STEP);
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(out),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) if error.raw_os_error().is_some() => {
                return Err(from_io(error, || "cannot read its content".to_owned()));
            }
            Err(error) => {
                let message = format!("its content is damaged, {size} unfolded bytes from its start");
                return Err(Error::new(Kind::Corrupt, message).caused_by(error));
            }
        };
        size += count as u64;
        if size > limit {
            return Err(Error::new(Kind::Limit, format!("it unfolds to more than {limit} bytes"))
                .hint("raise `limits.layer_size` in castoff's configuration if this is what you expect of it"));
        }
        if size >= next_check {
            next_check = size + SPACE_STEP;
            let free = fs::free_space(target)?;
            if free < FLOOR {
                let message = format!("{free} bytes are left for `{}`, {FLOOR} must stay free", target.display());
                return Err(Error::new(Kind::NoSpace, message).hint("free some space there; what was there stays"));
            }
        }
        out.write_all(&buffer[..count])
            .map_err(|error| from_io(error, || format!("cannot write `{}`", target.display())))?;
    }
}

/// Counts stored bytes for whoever watches.
struct Counted<R> {
    content: R,
    stage: Stage,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = self.content.read(bytes)?;
        self.stage.advance(count as u64);
        Ok(count)
    }
}
