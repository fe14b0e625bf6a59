//! What a place must be able to do to be published to; each method says what it promises.

use std::fmt;
use std::str::FromStr;

use super::content::Content;
use super::name::{Entry, RemoteName, Temporary};
use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::vocab::Digest;

/// How sure it is that the far side has the right bytes, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The size is right.
    Size,
    /// Every byte was read back and hashed here.
    ReadBack,
    /// The far side hashed what it has.
    RemoteHash,
}

impl fmt::Display for Tier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Size => "size",
            Self::ReadBack => "read-back",
            Self::RemoteHash => "remote-hash",
        })
    }
}

impl FromStr for Tier {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "size" => Ok(Self::Size),
            "read-back" => Ok(Self::ReadBack),
            "remote-hash" => Ok(Self::RemoteHash),
            _ => Err(Error::new(Kind::Usage, format!("`{text}` is not a way to verify"))
                .hint("one of `size`, `read-back`, `remote-hash`")),
        }
    }
}

/// Room on the far side's file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Bytes that we may still write.
    pub available: u64,
    /// Bytes it has in all, where it says so.
    pub total: Option<u64>,
}

/// What a write tells while it goes on; offsets count from the beginning of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The place wants it otherwise: the write begins anew at this offset.
    From(u64),
    /// All bytes below have left; whether they have arrived shows later.
    Gone(u64),
    /// All bytes below have arrived.
    Safe(u64),
}

/// A place that files are published to. Every error names the place.
///
/// After an error of [`Kind::Unavailable`] only [`RemoteStore::reconnect`] makes sense; after every other the store goes on.
pub trait RemoteStore: Send {
    /// The place, as messages name it; without secrets.
    fn place(&self) -> &str;

    /// The size of the regular file with this name; none if nothing has the name. Anything else there is a conflict.
    fn size_of(&mut self, entry: Entry<'_>) -> Result<Option<u64>>;

    /// Makes the temporary file, or opens the one that is there; the bytes it has already.
    fn begin(&mut self, temporary: &Temporary) -> Result<u64>;

    /// The room left for the temporary file, where the place tells.
    fn space(&mut self, temporary: &Temporary) -> Result<Option<Space>>;

    /// Writes the content from this offset to its end into the temporary file that was begun. What stands there is
    /// written over, never cut off: whoever uploads the same content at the same time sees no byte go away that was
    /// right. `told` hears how it goes on; its error ends the write.
    fn resume_write(
        &mut self,
        temporary: &Temporary,
        content: &Content,
        from: u64,
        told: &mut dyn FnMut(Written) -> Result<()>,
    ) -> Result<()>;

    /// Makes the temporary file durable and lets go of it; false if the place cannot say that it is.
    fn sync(&mut self, temporary: &Temporary) -> Result<bool>;

    /// The SHA-256 of a file, found in this way; none if the place does not offer it.
    fn hash(&mut self, entry: Entry<'_>, size: u64, tier: Tier, progress: &Progress) -> Result<Option<Digest>>;

    /// Gives the temporary file its final name if nothing has that name. An error may hide a success: see what is there.
    fn rename_noclobber(&mut self, temporary: &Temporary, name: &RemoteName) -> Result<()>;

    /// Removes the temporary file; whether there was one.
    fn remove_temporary(&mut self, temporary: &Temporary) -> Result<bool>;

    /// Removes a published file; whether there was one. Only what nobody is told of any more is removed.
    fn remove(&mut self, name: &RemoteName) -> Result<bool>;

    /// Reads a file, as whoever downloads it does; no more than one byte beyond `size` is taken.
    fn read(
        &mut self,
        entry: Entry<'_>,
        size: u64,
        progress: &Progress,
        taker: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()>;

    /// Connects anew after the connection was lost.
    fn reconnect(&mut self) -> Result<()>;
}
