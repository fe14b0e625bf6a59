//! SSH as the operator has set it up: who to be, which way to go, which host keys to trust; and connections that way.
//!
//! Owns the reading of ssh configurations ([`Configuration`]), the store of trusted host keys ([`HostKeys`]), and
//! connections through any number of jump hosts. SFTP and git use the same. Knows nothing of files or images on the
//! far side.

mod config;
#[cfg(feature = "sftp")]
mod connection;
mod host_keys;
mod pattern;
mod route;

pub use config::{Configuration, Files, HostSettings};
#[cfg(feature = "sftp")]
pub use connection::{Connection, Patience, Pipe, SessionError, Stop};
pub use host_keys::{Fingerprint, HostKey, HostKeys, Pin, Trusted};
pub use route::{Hop, Jump, Operator, Route, Wishes};
