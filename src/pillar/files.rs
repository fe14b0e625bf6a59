//! How files are looked at by whoever computes pillars: one door, so that what was looked at can be remembered.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use crate::error::Result;

/// Reads files and folders; an implementation may remember what it was asked and bound what it reads.
pub trait Files {
    /// The text of a regular file, or none if there is nothing at that path.
    fn text(&self, path: &Path) -> Result<Option<Arc<str>>>;

    /// Whether a folder is at that path.
    fn is_dir(&self, path: &Path) -> Result<bool>;

    /// Whether anything is at that path.
    fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.is_dir(path)? || self.text(path)?.is_some())
    }

    /// The sorted names in a folder; a folder that is not there is an error.
    fn list(&self, path: &Path) -> Result<Vec<OsString>>;
}
