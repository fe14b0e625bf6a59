//! How a layer's bytes are stored: bare, gzip or zstd; told by the bytes themselves, never by a name.

use std::io::{self, Write};

use super::hashing::HashingWriter;
use super::manifest::{Descriptor, media_type};
use crate::error::{Context as _, Error, Kind, Result};
use crate::rootfs::ReadAt;
use crate::vocab::{DiffId, Digest};

/// How a layer is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// The bare tar.
    #[default]
    None,
    /// gzip, any number of members.
    Gzip,
    /// zstd, any number of frames.
    Zstd,
}

impl Compression {
    /// What the first bytes say; xz and bzip2 are refused by name.
    pub fn detect(content: &dyn ReadAt) -> Result<Self> {
        let mut head = [0; 6];
        let count = usize::try_from(content.size()).unwrap_or(usize::MAX).min(head.len());
        content.read_exact_at(&mut head[..count], 0).context(|| "cannot read the first bytes")?;
        let unsupported = |name: &str, tool: &str| {
            Err(Error::new(Kind::Unsupported, format!("content compressed with {name} is not read"))
                .hint(format!("decompress it first: `{tool} -d`")))
        };
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // A zstd frame, or a skippable frame (RFC 8878 section 3.1.2) before one.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', 0] => unsupported("xz", "xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A'] => unsupported("bzip2", "bzip2"),
            _ => Ok(Self::None),
        }
    }

    /// The OCI media type of a layer stored like this.
    pub fn layer_media_type(self) -> &'static str {
        match self {
            Self::None => media_type::OCI_LAYER,
            Self::Gzip => media_type::OCI_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
        }
    }
}

/// A layer that was written: its digests and sizes, bare and stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrittenLayer {
    /// The digest of the bare tar.
    pub diff_id: DiffId,
    /// The length of the bare tar.
    pub bare_size: u64,
    /// The digest of the stored bytes.
    pub digest: Digest,
    /// The number of stored bytes.
    pub size: u64,
    /// How the bytes are stored.
    pub compression: Compression,
}

impl WrittenLayer {
    /// The descriptor a manifest lists this layer by.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.compression.layer_media_type(), self.digest, self.size)
    }
}

/// Takes a bare tar, passes it on stored as asked, and computes both digests on threads of their own.
pub struct LayerEncoder<W: Write> {
    pipe: Pipe<W>,
}

enum Pipe<W: Write> {
    Bare(HashingWriter<W>),
    Gzip(HashingWriter<flate2::write::GzEncoder<HashingWriter<W>>>),
    Zstd(HashingWriter<zstd::stream::write::Encoder<'static, HashingWriter<W>>>),
}

impl<W: Write> LayerEncoder<W> {
    /// An encoder in front of `out`; equal input gives equal bytes.
    pub fn new(out: W, compression: Compression) -> Result<Self> {
        let pipe = match compression {
            Compression::None => Pipe::Bare(HashingWriter::new(out)?),
            Compression::Gzip => {
                let gzip = flate2::GzBuilder::new().mtime(0).operating_system(255);
                Pipe::Gzip(HashingWriter::new(gzip.write(HashingWriter::new(out)?, flate2::Compression::new(6)))?)
            }
            Compression::Zstd => {
                let mut zstd = zstd::stream::write::Encoder::new(HashingWriter::new(out)?, 3)
                    .context(|| "cannot start zstd compression")?;
                zstd.include_checksum(true).context(|| "cannot start zstd compression")?;
                Pipe::Zstd(HashingWriter::new(zstd)?)
            }
        };
        Ok(Self { pipe })
    }

    /// How many bare bytes were written so far.
    pub fn count(&self) -> u64 {
        match &self.pipe {
            Pipe::Bare(pipe) => pipe.count(),
            Pipe::Gzip(pipe) => pipe.count(),
            Pipe::Zstd(pipe) => pipe.count(),
        }
    }

    /// What was written to, and what was written.
    pub fn finish(self) -> Result<(W, WrittenLayer)> {
        let wrong = || "cannot finish the compressed layer";
        let (compression, bare, bare_size, stored) = match self.pipe {
            Pipe::Bare(pipe) => {
                let (out, digest, size) = pipe.finish()?;
                (Compression::None, digest, size, (out, digest, size))
            }
            Pipe::Gzip(pipe) => {
                let (gzip, digest, size) = pipe.finish()?;
                (Compression::Gzip, digest, size, gzip.finish().context(wrong)?.finish()?)
            }
            Pipe::Zstd(pipe) => {
                let (zstd, digest, size) = pipe.finish()?;
                (Compression::Zstd, digest, size, zstd.finish().context(wrong)?.finish()?)
            }
        };
        let (out, digest, size) = stored;
        Ok((out, WrittenLayer { diff_id: DiffId(bare), bare_size, digest, size, compression }))
    }
}

impl<W: Write> Write for LayerEncoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.pipe {
            Pipe::Bare(pipe) => pipe.write(bytes),
            Pipe::Gzip(pipe) => pipe.write(bytes),
            Pipe::Zstd(pipe) => pipe.write(bytes),
        }
    }

    /// Nothing to do before the end: a flush in the middle would only change compressed bytes.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
