//! Images in the forms they travel in: configuration, manifest, index, layer blobs; docker archives, OCI layouts.
//!
//! Reads an image in place, without copying, into an [`ImageSource`]; opens its layers as bare tars ([`open_layer`],
//! [`scan_verified`]); writes images as one portable archive, as a stream for an engine, or into an OCI layout on
//! disk. Everything read is hostile: sizes, depths and names are bounded and checked, digests compared. Knows no
//! engines, no store and no clock.

mod archive;
mod archive_writer;
mod change;
mod compression;
mod config;
mod directory;
mod hashing;
mod header;
mod json;
mod layout;
mod manifest;
mod open;
mod paths;
mod sink;
mod source;
mod spool;
mod stream_writer;
mod words;

pub use archive::{open_docker_archive, open_oci_archive};
pub use archive_writer::{ArchiveNames, ArchiveOptions, ArchiveWriter};
pub use compression::{Compression, LayerEncoder, WrittenLayer};
pub use config::{HistoryEntry, ImageConfig};
pub use directory::{BlobFolder, LayoutWriter, StagedBlob, manifest_of, read_index, write_index};
pub use hashing::{HashingWriter, VerifyingReader};
pub use json::JSON_LIMIT;
pub(crate) use json::parse;
pub use layout::Choice;
pub(crate) use layout::{image_of, parse_manifest};
pub use manifest::{CONTAINERD_NAME, Descriptor, Index, Manifest, Platform, REF_NAME, media_type};
pub(crate) use open::Directory;
pub use open::{open_layout, open_layout_for};
pub(crate) use sink::require_size;
pub use sink::{LayerSink, copy_layer};
pub use source::{
    ImageSource, LayerSource, OpenedLayer, OwnManifest, open_bare, open_bare_file, open_layer, scan_verified,
};
pub(crate) use spool::HoleWriter;
pub use spool::{SpoolLimits, unfolded_digest};
pub use stream_writer::StreamWriter;
