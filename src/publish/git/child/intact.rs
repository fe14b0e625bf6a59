//! Whether a clone's objects still are what was written.
//!
//! libgit2 asks no server for what it believes to have, and on a loose object that is cut off it spins for ever (1.9.7).
//! So the checksums that git keeps anyway are compared before it opens a clone:
//!
//! ```text
//! objects/
//!   HEX/HEX          an object by zlib; the SHA-1 of its content is its name
//!   pack/*.pack      ends with the SHA-1 of all before
//!   pack/*.idx       ends with that SHA-1, and the SHA-1 of all before
//! ```

use std::io::{BufReader, Read};
use std::path::Path;

use sha1::{Digest as _, Sha1};

use super::LIMIT;
use crate::error::{Context as _, Result};
use crate::host::fs;

/// The bytes of a SHA-1.
const SUM: u64 = 20;

/// What is not as it was written, if anything.
pub(super) fn damage(clone: &Path) -> Result<Option<String>> {
    let objects = clone.join("objects");
    if !fs::exists(&objects)? {
        return Ok(Some("it has no objects".to_owned()));
    }
    for folder in fs::list(&objects)? {
        let folder = objects.join(folder);
        let Some(kind) = folder.file_name().and_then(|name| name.to_str()) else { continue };
        let check: fn(&Path) -> Result<bool> = match kind {
            "pack" => packed,
            name if name.len() == 2 => loose,
            _ => continue,
        };
        for name in fs::list(&folder)? {
            let path = folder.join(name);
            if !check(&path)? {
                return Ok(Some(format!("`{}` is damaged", path.display())));
            }
        }
    }
    Ok(None)
}

fn loose(path: &Path) -> Result<bool> {
    let mut content = flate2::bufread::ZlibDecoder::new(BufReader::new(fs::open(path)?)).take(LIMIT);
    // Whatever cannot be inflated has no sum.
    let sum = sum(&mut content).ok();
    let part = |path: Option<&Path>| path.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    let name = part(path.parent()).zip(part(Some(path))).map(|(folder, rest)| folder + &rest);
    Ok(sum.map(|sum| hex(&sum)) == name)
}

fn packed(path: &Path) -> Result<bool> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("pack") => Ok(trailer(path)?.is_some()),
        Some("idx") => {
            let pack = path.with_extension("pack");
            let Some(pack) = fs::exists(&pack)?.then(|| trailer(&pack)).transpose()?.flatten() else {
                return Ok(false);
            };
            let Some(_) = trailer(path)? else { return Ok(false) };
            let bytes = fs::read(path)?;
            let end = bytes.len().saturating_sub(20);
            Ok(bytes.get(end.saturating_sub(20)..end) == Some(&pack[..]))
        }
        _ => Ok(true),
    }
}

/// The sum that a file ends with, if it is that of all before.
fn trailer(path: &Path) -> Result<Option<[u8; 20]>> {
    let doing = || format!("cannot read `{}`", path.display());
    let mut file = BufReader::new(fs::open(path)?);
    let size = file.get_ref().metadata().context(doing)?.len();
    let Some(size) = size.checked_sub(SUM) else { return Ok(None) };
    let own = sum(&mut (&mut file).take(size)).context(doing)?;
    let mut kept = [0; 20];
    file.read_exact(&mut kept).context(doing)?;
    Ok((own == kept).then_some(kept))
}

fn sum(source: &mut impl Read) -> std::io::Result<[u8; 20]> {
    let mut hasher = Sha1::new();
    let mut block = vec![0; 64 << 10];
    loop {
        match source.read(&mut block)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&block[..count]),
        }
    }
}

fn hex(sum: &[u8]) -> String {
    use std::fmt::Write as _;
    sum.iter().fold(String::new(), |mut text, byte| {
        // Writing to a text cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}
