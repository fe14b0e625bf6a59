//! Making a patch.

use std::io::{self, Read, Write};

use zstd::stream::write::Encoder;

use super::{PatchLimits, window_log};
use crate::error::{Context as _, Error, Kind, Result, from_io};

/// More costs seven times the CPU for five per cent of the size.
const LEVEL: i32 = 3;

/// Windows from this size on are searched for long matches, as `zstd --patch-from` does beyond its tables.
const LONG_FROM: u32 = 17;

/// Writes the patch that makes `target`, of `size` bytes, out of `base`; its size, or none if it would be larger than `most`:
/// what was written then is of no use.
///
/// Equal input gives equal bytes.
pub fn make(
    base: &[u8],
    mut target: impl Read,
    size: u64,
    limits: PatchLimits,
    (out, most): (impl Write, u64),
) -> Result<Option<u64>> {
    let window = window_log(base.len() as u64, size, limits)?;
    let wrong = || "cannot start making a patch";
    let mut encoder = Encoder::with_ref_prefix(Bounded { out, left: most, full: false }, LEVEL, base).context(wrong)?;
    encoder.window_log(window).context(wrong)?;
    encoder.long_distance_matching(window > LONG_FROM).context(wrong)?;
    encoder.include_checksum(true).context(wrong)?;
    encoder.set_pledged_src_size(Some(size)).context(wrong)?;
    let mut buffer = vec![0; 1 << 18];
    let mut left = size;
    loop {
        let count =
            target.read(&mut buffer).map_err(|error| from_io(error, || "cannot read the new tar".to_owned()))?;
        if count as u64 > left || (count == 0 && left > 0) {
            return Err(Error::new(Kind::Corrupt, format!("the new tar has not the {size} bytes it should have")));
        }
        if count == 0 {
            break;
        }
        left -= count as u64;
        if let Err(error) = encoder.write_all(&buffer[..count]) {
            return dropped(encoder.get_ref().full, error);
        }
    }
    // `finish` takes the encoder with it when it fails.
    if let Err(error) = encoder.do_finish() {
        return dropped(encoder.get_ref().full, error);
    }
    Ok(Some(most - encoder.get_ref().left))
}

fn dropped(full: bool, error: io::Error) -> Result<Option<u64>> {
    if full { Ok(None) } else { Err(from_io(error, || "cannot write a patch".to_owned())) }
}

/// Passes on no more than so many bytes.
struct Bounded<W> {
    out: W,
    left: u64,
    full: bool,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() as u64 > self.left {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = self.out.write(bytes)?;
        self.left -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
