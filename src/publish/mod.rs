//! Publishers: places that finished files are put to, so that nothing half is ever seen and nothing served is touched.
//!
//! A file goes up under a temporary name that carries its hash, is verified there, and gets its final name by a rename
//! that never overwrites. [`Upload`] is that order, written once; a [`RemoteStore`] is a place: a folder, a folder
//! behind SFTP, a WebDAV server. [`git`] is where a release is announced once its files are in place. Knows neither how an
//! image was built nor the journal: what a run must remember to resume is told to a closure and given back as a number.

mod access;
mod content;
mod directory;
pub mod git;
mod http;
mod name;
mod open;
mod remote;
#[cfg(feature = "sftp")]
mod sftp;
mod tally;
mod target;
mod upload;

pub use access::Access;
pub use content::Content;
pub use name::{Entry, RemoteName, Temporary};
pub use open::{open, open_for_reading};
pub use remote::{RemoteStore, Space, Tier, Written};
pub use tally::Sent;
pub use target::{Folder, Target, WebFolder};
pub use upload::{Upload, Uploaded};
