//! Applying a patch that may be anybody's.

use std::io::{BufRead, Read as _, Write};

use zstd::stream::read::Decoder;
use zstd::zstd_safe;

use super::{PatchLimits, window_log};
use crate::error::{Context as _, Error, Kind, Result, from_io};

/// The longest header of a frame (RFC 8878, section 3.1.1.1, with its magic number).
const HEADER: u64 = 18;

/// Writes what the patch makes of `base`, which is exactly `size` bytes, or fails.
///
/// Before the first byte is written the frame must say itself that it unfolds to `size`; the decoder holds it to that. What
/// is behind the frame, another frame among it, is an error too, found after the last byte: verify what was written.
pub fn apply(base: &[u8], mut patch: impl BufRead, size: u64, limits: PatchLimits, mut out: impl Write) -> Result<()> {
    let window = window_log(base.len() as u64, size, limits)?;
    let wrong = || "cannot read the patch".to_owned();
    let mut head = Vec::new();
    patch.by_ref().take(HEADER).read_to_end(&mut head).map_err(|error| from_io(error, wrong))?;
    let says = match zstd_safe::get_frame_content_size(&head) {
        Ok(Some(says)) if head.starts_with(&zstd_safe::MAGICNUMBER.to_le_bytes()) => says,
        _ => return Err(Error::new(Kind::Corrupt, "the patch does not say what it unfolds to")),
    };
    if says != size {
        return Err(Error::new(Kind::Corrupt, format!("the patch unfolds to {says} bytes, not to {size}"))
            .hint("nothing was written; whoever signed its manifest made a mistake, or worse"));
    }
    let source = std::io::Cursor::new(head).chain(patch);
    let mut decoder =
        Decoder::with_ref_prefix(source, base).context(|| "cannot start applying a patch")?.single_frame();
    decoder.window_log_max(window).context(|| "cannot start applying a patch")?;
    let damaged = |error| from_io(error, || "the patch is damaged, or for another tar".to_owned());
    let mut buffer = vec![0; 1 << 18];
    let mut left = size;
    loop {
        let count = decoder.read(&mut buffer).map_err(|error| {
            let error = damaged(error);
            // The decoder's own words come without a kind.
            if error.kind() == Kind::Failed {
                Error::new(Kind::Corrupt, error.message()).caused_by(error)
            } else {
                error
            }
        })?;
        if count == 0 {
            break;
        }
        left =
            left.checked_sub(count as u64).ok_or_else(|| Error::new(Kind::Corrupt, "the patch unfolds to too much"))?;
        out.write_all(&buffer[..count]).map_err(|error| from_io(error, || "cannot write".to_owned()))?;
    }
    let mut rest = [0];
    let more = decoder.finish().read(&mut rest).map_err(|error| from_io(error, wrong))?;
    if left > 0 || more > 0 {
        return Err(Error::new(Kind::Corrupt, "the patch is not one whole frame"));
    }
    out.flush().map_err(|error| from_io(error, || "cannot write".to_owned()))
}
