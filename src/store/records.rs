//! Which image given inputs gave: an image that was packed already is recognised in one look.

use super::Store;
use crate::error::Result;
use crate::host::fs;
use crate::vocab::{Digest, EngineImage};

impl Store {
    /// The image that inputs with this digest gave, if the store still has it, whole.
    pub fn recorded(&self, key: Digest) -> Result<Option<Digest>> {
        let path = self.own("records").join(key.hex());
        if !fs::exists(&path)? {
            return Ok(None);
        }
        // A record is a hint: one that cannot be read is none, and the next one replaces it.
        let Ok(id) = fs::read_text(&path)?.trim_end().parse::<Digest>() else { return Ok(None) };
        Ok(self.lookup(&EngineImage::Id(id))?.map(|_| id))
    }

    /// Notes that inputs with this digest gave this image.
    pub fn record(&self, key: Digest, id: Digest) -> Result<()> {
        let _lock = self.shared()?;
        fs::write_atomic(&self.own("records").join(key.hex()), super::FILE_MODE, format!("{id}\n").as_bytes())
    }

    /// Removes the records of images that are gone; the exclusive lock must be held.
    pub(super) fn forget(&self, gone: &[Digest]) -> Result<()> {
        if gone.is_empty() {
            return Ok(());
        }
        let folder = self.own("records");
        for name in fs::list(&folder)? {
            let path = folder.join(&name);
            let id = fs::read_text(&path)?.trim_end().parse::<Digest>();
            if id.map_or(true, |id| gone.contains(&id)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}
