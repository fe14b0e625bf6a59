//! Writes an image as a docker archive in one pass, for an engine that takes a stream.
//!
//! ```text
//! layer-1.tar …               bare, of sizes known before
//! config.json                 lists the digests that were computed meanwhile
//! manifest.json               last: Config, RepoTags, Layers
//! ```

use std::io::{self, Write};

use super::archive_writer::SavedImage;
use super::compression::{Compression, LayerEncoder, WrittenLayer};
use super::config::ImageConfig;
use super::header;
use super::json;
use super::sink::{LayerSink, require_layers, require_size};
use crate::error::{Error, Kind, Result, from_io};
use crate::vocab::{Digest, ImageName};

const CONFIG: &str = "config.json";

/// A docker archive on its way to an engine.
pub struct StreamWriter<W: Write> {
    out: Option<W>,
    layers: Vec<WrittenLayer>,
}

impl<W: Write> StreamWriter<W> {
    /// A stream into `out`.
    pub fn new(out: W) -> Self {
        Self { out: Some(out), layers: Vec::new() }
    }

    /// The exact length of the whole stream; `config_size` is that of the configuration with as many diff IDs.
    pub fn total_size(layer_sizes: &[u64], config_size: u64, names: &[ImageName]) -> Result<u64> {
        let manifest = manifest(layer_sizes.len(), names)?;
        let layers: u64 = layer_sizes.iter().map(|size| header::whole(*size)).sum();
        Ok(layers + header::whole(config_size) + header::whole(manifest.len() as u64) + header::END.len() as u64)
    }

    /// Writes configuration and manifest; what was written to, and the image's ID.
    pub fn finish(mut self, config: &ImageConfig, names: &[ImageName]) -> Result<(W, Digest)> {
        require_layers(config, &self.layers)?;
        let mut out = self.take()?;
        let manifest = manifest(self.layers.len(), names)?;
        for (name, content) in [(CONFIG, config.bytes()), ("manifest.json", &manifest)] {
            let size = content.len() as u64;
            put(&mut out, &header::file(name, size, 0))?;
            put(&mut out, content)?;
            put(&mut out, header::padding(size))?;
        }
        put(&mut out, &header::END)?;
        out.flush().map_err(wrong)?;
        Ok((out, config.digest()))
    }

    fn take(&mut self) -> Result<W> {
        self.out.take().ok_or_else(|| Error::new(Kind::Failed, "an earlier layer of the stream failed"))
    }
}

impl<W: Write> LayerSink for StreamWriter<W> {
    fn write_layer(&mut self, size: u64, write: &mut dyn FnMut(&mut dyn Write) -> Result<()>) -> Result<WrittenLayer> {
        let mut out = self.take()?;
        put(&mut out, &header::file(&layer_name(self.layers.len()), size, 0))?;
        let mut encoder = LayerEncoder::new(out, Compression::None)?;
        write(&mut encoder)?;
        let (mut out, layer) = encoder.finish()?;
        require_size(size, layer.bare_size)?;
        put(&mut out, header::padding(size))?;
        self.out = Some(out);
        self.layers.push(layer.clone());
        Ok(layer)
    }
}

fn layer_name(number: usize) -> String {
    format!("layer-{}.tar", number + 1)
}

fn manifest(layers: usize, names: &[ImageName]) -> Result<Vec<u8>> {
    let layers: Vec<String> = (0..layers).map(layer_name).collect();
    json::encode(&[SavedImage::new(CONFIG, names, &layers)])
}

fn put(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(wrong)
}

fn wrong(error: io::Error) -> Error {
    from_io(error, || "cannot write the image's stream".to_owned())
}
