//! Compressed content unfolded into an unnamed file: zero blocks become holes, limits hold, digests are compared.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::compression::Compression;
use super::hashing::compare;
use super::hashing::{CHUNK, HashingWriter, VerifyingReader};
use crate::error::{Context as _, Error, Kind, Result, from_io};
use crate::host::fs::{self, TempFile};
use crate::progress::{Progress, Stage, Unit};
use crate::rootfs::{FileRegion, ReadAt};
use crate::vocab::Digest;

/// What unfolding may use of the machine.
#[derive(Clone, Copy, Debug)]
pub struct SpoolLimits {
    /// The most bytes one compressed layer or archive may unfold to.
    pub unfolded: u64,
    /// The bytes that stay free on the file system of the scratch folder.
    pub free_floor: u64,
}

impl Default for SpoolLimits {
    fn default() -> Self {
        Self { unfolded: 1 << 40, free_floor: 256 << 20 }
    }
}

/// A file system's free space is asked for once per this many bytes.
const SPACE_STEP: u64 = 32 << 20;

/// The unfolded content and its digest; `wanted` is what the stored bytes' digest must be.
pub(super) fn unfold(
    stored: &dyn ReadAt,
    compression: Compression,
    wanted: Option<Digest>,
    scratch: &Path,
    limits: &SpoolLimits,
    stage: Stage,
) -> Result<(FileRegion, Digest)> {
    let file = unnamed(scratch)?;
    let out = HashingWriter::new(HoleWriter::new(Arc::clone(&file)))?;
    let guard = Guard { limits: *limits, scratch: scratch.to_owned(), next_check: 0 };
    let out = if let Some(wanted) = wanted {
        let mut reader = Watched { reader: VerifyingReader::new(stored)?, stage };
        let out = decode(&mut reader, compression, out, guard)?;
        let (found, _) = reader.reader.finish()?;
        compare(wanted, found, "blob digest")?;
        out
    } else {
        decode(&mut Watched { reader: buffered(stored), stage }, compression, out, guard)?
    };
    let (holes, digest, size) = out.finish()?;
    holes.close(size)?;
    Ok((FileRegion { file, start: 0, size }, digest))
}

/// A file in place, or, where it can be read only once (a pipe), its content in an unnamed file.
pub(super) fn open_file(path: &Path, scratch: &Path, limits: &SpoolLimits, progress: &Progress) -> Result<FileRegion> {
    let file = fs::open(path)?;
    let metadata = file.metadata().context(|| format!("cannot look at `{}`", path.display()))?;
    if metadata.is_file() {
        return Ok(FileRegion { file: Arc::new(file), start: 0, size: metadata.len() });
    }
    if metadata.is_dir() {
        return Err(Error::new(Kind::Usage, format!("`{}` is a folder, not a file", path.display())));
    }
    let spooled = unnamed(scratch)?;
    let stage = progress.stage(format!("reading `{}`", path.display()), None, Unit::Bytes);
    let guard = Guard { limits: *limits, scratch: scratch.to_owned(), next_check: 0 };
    let mut reader = Watched { reader: io::BufReader::with_capacity(CHUNK, file), stage };
    let out = io::BufWriter::with_capacity(CHUNK, HoleWriter::new(Arc::clone(&spooled)));
    let out = decode(&mut reader, Compression::None, out, guard)?;
    let holes = out.into_inner().map_err(|error| {
        from_io(error.into_error(), || format!("cannot spool `{}` in `{}`", path.display(), scratch.display()))
    })?;
    let size = holes.offset;
    holes.close(size)?;
    Ok(FileRegion { file: spooled, start: 0, size })
}

/// The digest and the length of the unfolded content, which is kept nowhere.
pub fn unfolded_digest(stored: &dyn ReadAt, compression: Compression, limit: u64) -> Result<(Digest, u64)> {
    let limits = SpoolLimits { unfolded: limit, free_floor: 0 };
    let guard = Guard { limits, scratch: PathBuf::from("/"), next_check: u64::MAX };
    let (_, digest, size) =
        decode(&mut buffered(stored), compression, HashingWriter::new(io::sink())?, guard)?.finish()?;
    Ok((digest, size))
}

/// A source read from its start to its end.
struct Stream<'source> {
    source: &'source dyn ReadAt,
    offset: u64,
}

fn buffered(source: &dyn ReadAt) -> io::BufReader<Stream<'_>> {
    io::BufReader::with_capacity(CHUNK, Stream { source, offset: 0 })
}

impl Read for Stream<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read_at(bytes, self.offset)?;
        self.offset += count as u64;
        Ok(count)
    }
}

/// An open file in `folder` that has no name, so that nothing is left of it whatever happens.
fn unnamed(folder: &Path) -> Result<Arc<File>> {
    let named = TempFile::beside(&folder.join("spool"), 0o600)?;
    let file = named.file().try_clone().context(|| format!("cannot keep `{}` open", named.path().display()))?;
    Ok(Arc::new(file))
}

fn decode<W: Write>(stored: &mut dyn BufRead, compression: Compression, mut out: W, mut guard: Guard) -> Result<W> {
    let mut decoder: Box<dyn Read + '_> = match compression {
        Compression::None => Box::new(stored),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
        Compression::Zstd => {
            let mut decoder =
                zstd::stream::read::Decoder::with_buffer(stored).context(|| "cannot start zstd decompression")?;
            // 128 MiB, the most a decoder must support (RFC 8878 leaves more to choice).
            decoder.window_log_max(27).context(|| "cannot start zstd decompression")?;
            Box::new(decoder)
        }
    };
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let count = match decoder.read(&mut buffer) {
            Ok(0) => return Ok(out),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(damaged(error, compression, size)),
        };
        size += count as u64;
        guard.check(size)?;
        out.write_all(&buffer[..count]).map_err(|error| from_io(error, || guard.place()))?;
    }
}

/// Whatever a decoder complains about, the content is at fault, unless reading itself failed.
fn damaged(error: io::Error, compression: Compression, size: u64) -> Error {
    if error.raw_os_error().is_some() || error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>)
    {
        return from_io(error, || "cannot read compressed content".to_owned());
    }
    let name = match compression {
        Compression::None => "bare",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    };
    let what = if error.kind() == io::ErrorKind::UnexpectedEof { "ends too early" } else { "is damaged" };
    Error::new(Kind::Corrupt, format!("{name} content {what}, {size} unfolded bytes from its start"))
        .caused_by(error)
        .hint("the content is incomplete, or something follows it that does not belong there: fetch or save it again")
}

/// Keeps a compression bomb from filling the file system.
struct Guard {
    limits: SpoolLimits,
    scratch: PathBuf,
    next_check: u64,
}

impl Guard {
    fn check(&mut self, size: u64) -> Result<()> {
        if size > self.limits.unfolded {
            return Err(Error::new(
                Kind::Limit,
                format!("compressed content unfolds to more than {} bytes", self.limits.unfolded),
            )
            .hint("raise `limits.layer_size` in castoff's configuration if this is what you expect of the image"));
        }
        if size < self.next_check {
            return Ok(());
        }
        self.next_check = size + SPACE_STEP;
        let free = fs::free_space(&self.scratch)?;
        if free < self.limits.free_floor {
            return Err(Error::new(
                Kind::NoSpace,
                format!("{}: {free} bytes are left, {} must stay free", self.place(), self.limits.free_floor),
            )
            .hint("free some space there, or point `tmpdir` to a larger file system"));
        }
        Ok(())
    }

    fn place(&self) -> String {
        format!("cannot unfold compressed content in `{}`", self.scratch.display())
    }
}

/// Counts stored bytes for whoever watches.
struct Watched<R> {
    reader: R,
    stage: Stage,
}

impl<R: BufRead> BufRead for Watched<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.stage.advance(count as u64);
        self.reader.consume(count);
    }
}

impl<R: BufRead> Read for Watched<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(bytes)?;
        self.stage.advance(count as u64);
        Ok(count)
    }
}

/// Writes to a fresh file and leaves holes where 4 KiB blocks are zero.
pub(crate) struct HoleWriter {
    file: Arc<File>,
    offset: u64,
}

const BLOCK: usize = 4096;

impl HoleWriter {
    /// A writer at the start of a file that is empty.
    pub(crate) fn new(file: Arc<File>) -> Self {
        Self { file, offset: 0 }
    }

    /// Gives the file its length, which a hole at the end has not.
    pub(crate) fn close(self, size: u64) -> Result<()> {
        self.file.set_len(size).context(|| "cannot set the length of unfolded content")
    }
}

impl Write for HoleWriter {
    /// Mostly gets 256 KiB pieces, so that blocks stay aligned; where it does not, only holes are missed.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut start = 0;
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + BLOCK).min(bytes.len());
            if bytes[at..end].iter().all(|byte| *byte == 0) {
                self.file.write_all_at(&bytes[start..at], self.offset + start as u64)?;
                start = end;
            }
            at = end;
        }
        self.file.write_all_at(&bytes[start..], self.offset + start as u64)?;
        self.offset += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
