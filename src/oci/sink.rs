//! What every place an image can be written to has in common.

use std::io::Write;

use super::compression::WrittenLayer;
use super::config::ImageConfig;
use crate::error::{Error, Kind, Result};
use crate::rootfs::ReadAt;
use crate::vocab::DiffId;

/// Takes layers, bottom first, each as a bare tar of known length.
pub trait LayerSink {
    /// Writes the next layer: `write` puts exactly `size` bytes of bare tar into what it is given.
    fn write_layer(&mut self, size: u64, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<WrittenLayer>;
}

/// Copies a bare tar as it is.
pub fn copy_layer(content: &dyn ReadAt, out: &mut dyn Write) -> Result<()> {
    let mut buffer = vec![0; super::hashing::CHUNK];
    let mut offset = 0;
    let size = content.size();
    while offset < size {
        let count = usize::try_from(size - offset).unwrap_or(usize::MAX).min(buffer.len());
        content
            .read_exact_at(&mut buffer[..count], offset)
            .map_err(|error| crate::error::from_io(error, || "cannot read a layer".to_owned()))?;
        out.write_all(&buffer[..count])
            .map_err(|error| crate::error::from_io(error, || "cannot write a layer".to_owned()))?;
        offset += count as u64;
    }
    Ok(())
}

/// Fails unless exactly the promised bytes were written.
pub(crate) fn require_size(promised: u64, written: u64) -> Result<()> {
    if promised == written {
        return Ok(());
    }
    Err(Error::new(Kind::Failed, format!("a layer of {promised} bytes was planned and {written} were written")))
}

/// Fails unless the configuration lists exactly the layers that were written.
pub(crate) fn require_layers(config: &ImageConfig, layers: &[WrittenLayer]) -> Result<()> {
    let written: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
    if config.diff_ids() == written {
        return Ok(());
    }
    Err(Error::new(
        Kind::Failed,
        format!("the image configuration lists layers {:?} and {written:?} were written", config.diff_ids()),
    ))
}
