//! Compressions of an archive, as streams: bytes in, bytes out, the same on every machine.
//!
//! xz is cut into blocks of a fixed length and zstd runs in one thread, so that the number of processors decides how
//! long it takes and never what comes out.

use std::str::FromStr;

use liblzma::stream::{Action, Check, MtStreamBuilder, PRESET_EXTREME, Status, Stream};

use crate::error::{Error, Kind, Result};
use crate::host;

/// How an archive is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// `.tar.xz` as `xz -7e` makes it.
    Xz,
    /// `.tar.zst`: larger, and ten times cheaper to unpack.
    Zstd {
        /// 1 to 19.
        level: i32,
    },
}

/// The level of zstd that costs little and is a fifth larger than xz.
const ZSTD_LEVEL: i32 = 12;

/// A window of 128 MiB: the most that `zstd -d` takes without being told.
const ZSTD_WINDOW: u32 = 27;

/// Bytes of a block of xz: three of them keep a machine with few processors busy, and 170 MB have eight.
const XZ_BLOCK: u64 = 24 << 20;

/// How long a call into the encoder may take before it is asked whether to go on, in milliseconds.
const PATIENCE: u32 = 200;

impl Compression {
    /// What the file's name ends with.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Xz => ".tar.xz",
            Self::Zstd { .. } => ".tar.zst",
        }
    }
}

impl FromStr for Compression {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::new(Kind::Usage, format!("`{}` is no compression of releases", text.escape_debug()))
                .hint("it may be `xz`, `zstd`, or `zstd:LEVEL` with 1 to 19")
        };
        match text.split_once(':') {
            None if text == "xz" => Ok(Self::Xz),
            None if text == "zstd" => Ok(Self::Zstd { level: ZSTD_LEVEL }),
            Some(("zstd", level)) => match level.parse() {
                Ok(level @ 1..=19) => Ok(Self::Zstd { level }),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

/// Takes what a compressor gives.
pub(in crate::release) trait Taker {
    /// Takes compressed bytes.
    fn take(&mut self, bytes: &[u8]) -> Result<()>;

    /// A moment at which the work may be ended.
    fn glance(&mut self);
}

/// A compressor at work.
pub(in crate::release) enum Compressor {
    Xz { stream: Stream, buffer: Vec<u8> },
    Zstd { encoder: zstd::stream::raw::Encoder<'static>, buffer: Vec<u8> },
}

impl Compressor {
    /// A compressor for about `size` bytes.
    pub(in crate::release) fn new(compression: Compression, size: u64) -> Result<Self> {
        let buffer = vec![0; 256 << 10];
        match compression {
            Compression::Xz => Ok(Self::Xz { stream: xz(size)?, buffer }),
            Compression::Zstd { level } => {
                let wrong = |error| Error::new(Kind::Failed, "cannot set zstd up").caused_by(error);
                let mut encoder = zstd::stream::raw::Encoder::new(level).map_err(wrong)?;
                for parameter in [
                    zstd::stream::raw::CParameter::EnableLongDistanceMatching(true),
                    zstd::stream::raw::CParameter::WindowLog(ZSTD_WINDOW),
                    zstd::stream::raw::CParameter::ChecksumFlag(true),
                ] {
                    encoder.set_parameter(parameter).map_err(wrong)?;
                }
                Ok(Self::Zstd { encoder, buffer })
            }
        }
    }

    /// Compresses some more.
    pub(in crate::release) fn write(&mut self, mut bytes: &[u8], taker: &mut dyn Taker) -> Result<()> {
        use zstd::stream::raw::Operation as _;
        while !bytes.is_empty() {
            let (consumed, made) = match self {
                Self::Xz { stream, buffer } => {
                    let before = (stream.total_in(), stream.total_out());
                    stream.process(bytes, buffer, Action::Run).map_err(lzma)?;
                    (stream.total_in() - before.0, stream.total_out() - before.1)
                }
                Self::Zstd { encoder, buffer } => {
                    let status = encoder.run_on_buffers(bytes, buffer).map_err(zstd)?;
                    (status.bytes_read as u64, status.bytes_written as u64)
                }
            };
            taker.take(&self.buffer()[..usize::try_from(made).unwrap_or_default()])?;
            taker.glance();
            bytes = &bytes[usize::try_from(consumed).unwrap_or_default()..];
        }
        Ok(())
    }

    /// Compresses what is left and ends the stream.
    pub(in crate::release) fn finish(mut self, taker: &mut dyn Taker) -> Result<()> {
        use zstd::stream::raw::{Operation as _, OutBuffer};
        loop {
            let (made, ended) = match &mut self {
                Self::Xz { stream, buffer } => {
                    let before = stream.total_out();
                    let status = stream.process(&[], buffer, Action::Finish).map_err(lzma)?;
                    (stream.total_out() - before, status == Status::StreamEnd)
                }
                Self::Zstd { encoder, buffer } => {
                    let mut out = OutBuffer::around(buffer.as_mut_slice());
                    let left = encoder.finish(&mut out, true).map_err(zstd)?;
                    (out.pos() as u64, left == 0)
                }
            };
            taker.take(&self.buffer()[..usize::try_from(made).unwrap_or_default()])?;
            if ended {
                return Ok(());
            }
            taker.glance();
        }
    }

    fn buffer(&self) -> &[u8] {
        match self {
            Self::Xz { buffer, .. } | Self::Zstd { buffer, .. } => buffer,
        }
    }
}

fn lzma(error: liblzma::stream::Error) -> Error {
    Error::new(Kind::Failed, "xz failed").caused_by(error)
}

fn zstd(error: std::io::Error) -> Error {
    Error::new(Kind::Failed, "zstd failed").caused_by(error)
}

/// xz on as many processors as there are blocks, and as half of the free memory has room for.
fn xz(size: u64) -> Result<Stream> {
    let mut builder = MtStreamBuilder::new();
    builder.preset(7 | PRESET_EXTREME).check(Check::Crc64).block_size(XZ_BLOCK).timeout_ms(PATIENCE).threads(1);
    let each = builder.memusage().max(1);
    let room = free_memory()? / 2 / each;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as u64;
    let threads = processors.min(size.div_ceil(XZ_BLOCK)).min(room).clamp(1, 256);
    builder.threads(u32::try_from(threads).unwrap_or(1)).encoder().map_err(lzma)
}

/// `MemAvailable` of /proc/meminfo (proc(5)) in bytes.
fn free_memory() -> Result<u64> {
    let text = host::fs::read_text("/proc/meminfo".as_ref())?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")).and_then(|number| number.trim().parse().ok());
    Ok(kilobytes.unwrap_or(0u64).saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::Compression;

    #[test]
    fn compressions_are_named_as_their_programs() {
        for (text, expected) in [
            ("xz", Some(Compression::Xz)),
            ("zstd", Some(Compression::Zstd { level: 12 })),
            ("zstd:19", Some(Compression::Zstd { level: 19 })),
            ("zstd:20", None),
            ("zstd:0", None),
            ("xz:9", None),
            ("gzip", None),
            ("", None),
        ] {
            assert_eq!(text.parse::<Compression>().ok(), expected, "{text}");
        }
    }
}
