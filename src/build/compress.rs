//! Compression of files that are outputs: the same bytes whatever the machine.

use std::fs::File;
use std::io::{self, Read, Write};

use crate::error::{Context as _, Result};
use crate::plan::Compression;
use crate::progress::Cancel;

/// How much one block of a `.xz` holds: it decides the bytes, the number of threads does not.
const BLOCK: u64 = 24 << 20;

/// Copies the source, compressed.
pub(super) fn compress(source: &mut File, out: File, compression: Compression, cancel: &Cancel) -> Result<()> {
    let wrong = || "cannot compress";
    match compression {
        Compression::None => copy(source, &mut &out, cancel)?,
        Compression::Gzip => {
            let mut encoder = flate2::GzBuilder::new().mtime(0).write(out, flate2::Compression::default());
            copy(source, &mut encoder, cancel)?;
            encoder.finish().context(wrong)?;
        }
        Compression::Zstd => {
            let mut encoder = zstd::Encoder::new(out, 9).context(wrong)?;
            encoder.include_checksum(true).context(wrong)?;
            copy(source, &mut encoder, cancel)?;
            encoder.finish().context(wrong)?;
        }
        Compression::Xz => {
            let threads =
                std::thread::available_parallelism().map_or(1, |count| u32::try_from(count.get()).unwrap_or(1));
            let stream = liblzma::stream::MtStreamBuilder::new()
                .threads(threads)
                .preset(6)
                .block_size(BLOCK)
                .check(liblzma::stream::Check::Crc64)
                .encoder()
                .map_err(io::Error::from)
                .context(wrong)?;
            let mut encoder = liblzma::write::XzEncoder::new_stream(out, stream);
            copy(source, &mut encoder, cancel)?;
            encoder.finish().context(wrong)?;
        }
    }
    Ok(())
}

fn copy(source: &mut File, out: &mut impl Write, cancel: &Cancel) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    loop {
        cancel.check()?;
        let count = source.read(&mut buffer).context(|| "cannot read")?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..count]).context(|| "cannot write")?;
    }
}
