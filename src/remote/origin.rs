//! What a place must be able to do to be fetched from.

use crate::error::Result;

/// A file on the far side.
pub(super) trait Origin {
    /// Gives the file's bytes from an offset on; a place that cannot begin there begins at 0, and says so.
    ///
    /// Returns when there are no more or no more are wanted; that all have come is for the taker to know.
    fn stream(&mut self, from: u64, taker: &mut dyn Taker) -> Result<()>;
}

/// Who takes the bytes.
pub(super) trait Taker {
    /// The bytes begin at this offset; the whole file has `total`, if the place tells.
    fn begin(&mut self, at: u64, total: Option<u64>) -> Result<()>;

    /// The next bytes; false when no more are wanted.
    fn take(&mut self, bytes: &[u8]) -> Result<bool>;
}
