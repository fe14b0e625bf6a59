//! From a compressed file to the bare tar: never more bytes than announced, hashed on the way.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, Write};
use std::path::Path;

use crate::error::{Context as _, Error, Kind, Result, from_io};
use crate::host;
use crate::host::fs::TempFile;
use crate::manifest::Compression;
use crate::oci::HashingWriter;
use crate::progress::{Cancel, Stage};
use crate::vocab::{DiffId, Digest};

/// What a decoder of `.xz` may take: `xz -9` needs 65 MiB.
const XZ_MEMORY: u64 = 256 << 20;

/// The largest window of a `.tar.zst`: 128 MiB, what `zstd -d` takes without being told.
const ZSTD_WINDOW: u32 = 27;

/// A bare tar to be made: its digest and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bare {
    pub(super) diff_id: DiffId,
    pub(super) size: u64,
}

impl Bare {
    /// Lets `work` write the tar into the file, from its start, and fails unless it is the one.
    pub(super) fn into_file(
        self,
        tar: &TempFile,
        work: impl FnOnce(&mut HashingWriter<&File>) -> Result<()>,
    ) -> Result<()> {
        let wrong = || format!("cannot write `{}`", tar.path().display());
        let mut file = tar.file();
        file.set_len(0).context(wrong)?;
        file.rewind().context(wrong)?;
        let mut writer = HashingWriter::new(file)?;
        work(&mut writer)?;
        let (_, digest, size) = writer.finish().context(wrong)?;
        self.check(digest, size)
    }

    /// Fails unless the digest and the size are those of the tar.
    pub(super) fn check(self, digest: Digest, size: u64) -> Result<()> {
        if (DiffId(digest), size) == (self.diff_id, self.size) {
            return Ok(());
        }
        Err(Error::new(Kind::Corrupt, "the tar is not the one that was announced")
            .caused_by(format!("{digest} of {size} bytes, not {} of {}", self.diff_id, self.size)))
    }
}

/// Copies what the compressed file holds, at most `size` bytes of it.
pub(super) fn unfold(
    path: &Path,
    compression: Compression,
    size: u64,
    out: &mut dyn Write,
    (stage, cancel): (&mut Stage, &Cancel),
) -> Result<()> {
    let file = BufReader::with_capacity(1 << 18, host::fs::open_regular(path, false)?);
    let wrong = || format!("cannot unfold `{}`", path.display());
    let mut source: Box<dyn Read> = match compression {
        Compression::Xz => {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)
                .map_err(|error| Error::new(Kind::Failed, wrong()).caused_by(error))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(file, stream))
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(file).context(wrong)?;
            decoder.window_log_max(ZSTD_WINDOW).context(wrong)?;
            Box::new(decoder)
        }
    };
    copy(&mut *source, size, out, (stage, cancel)).context(wrong)
}

/// Copies to the end, at most `size` bytes: one more is an error before it is written.
pub(super) fn copy(
    source: &mut dyn Read,
    size: u64,
    out: &mut dyn Write,
    (stage, cancel): (&mut Stage, &Cancel),
) -> Result<()> {
    let mut buffer = vec![0; 1 << 18];
    let mut left = size;
    loop {
        cancel.check()?;
        let count = source
            .read(&mut buffer)
            // Decoders tell damage in words of their own.
            .map_err(|error| Error::new(Kind::Corrupt, "it is damaged or cut off").caused_by(error))?;
        if count == 0 {
            return Ok(());
        }
        left = left.checked_sub(count as u64).ok_or_else(|| {
            Error::new(Kind::Corrupt, format!("it unfolds to more than the {size} bytes that were announced"))
        })?;
        out.write_all(&buffer[..count]).map_err(|error| from_io(error, || "cannot write".to_owned()))?;
        stage.advance(count as u64);
    }
}
