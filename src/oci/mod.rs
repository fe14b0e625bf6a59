//! Images in the forms they travel in: configuration, manifest, index, layer blobs; docker archives, OCI layouts.
//!
//! Reads an image in place, without copying, into an [`ImageSource`]; opens its layers as bare tars ([`open_layer`],
//! [`scan_verified`]); writes images as one portable archive, as a stream for an engine, or into an OCI layout on
//! disk. Everything read is hostile: sizes, depths and
//! names are bounded and checked, digests compared. Knows no engines, no store and no clock.

mod change;
mod compression;
mod config;
mod hashing;
mod json;
mod manifest;
mod source;
mod spool;
mod words;

pub use compression::{Compression, LayerEncoder, WrittenLayer};
pub use config::{HistoryEntry, ImageConfig};
pub use hashing::{HashingWriter, VerifyingReader};
pub use json::JSON_LIMIT;
pub use manifest::{CONTAINERD_NAME, Descriptor, Index, Manifest, Platform, REF_NAME, media_type};
pub use source::{ImageSource, LayerSource, OpenedLayer, open_layer, scan_verified};
pub use spool::{SpoolLimits, unfolded_digest};
