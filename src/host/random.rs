//! Chance, for what nobody shall guess.

use std::io::Read as _;
use std::path::Path;

use crate::error::{Context as _, Result};

/// So many bytes from the kernel's generator.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    super::fs::open(Path::new("/dev/urandom"))?.read_exact(&mut bytes).context(|| "cannot read `/dev/urandom`")?;
    Ok(bytes)
}
