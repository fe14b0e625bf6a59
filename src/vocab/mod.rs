//! The words every room shares: content digests, image references and names, minion and job ids, values, releases. Parsed once, valid everywhere.
//!
//! Pure: knows no files, time or network.

mod digest;
mod glob;
mod image_name;
mod job_id;
mod minion_id;
mod nearest;
mod reference;
mod release;
mod scalar;
mod secret;
mod timestamp;
mod value;

pub use digest::{DiffId, Digest};
pub use glob::fnmatch;
pub use image_name::ImageName;
pub use job_id::JobId;
pub use minion_id::MinionId;
pub use nearest::nearest;
pub use reference::{EngineImage, Reference, Transport};
pub use release::{FileName, Flavour, OsImage, ReleaseNumber};
pub use scalar::{ScalarType, bool_value, float_value, int_value, plain_scalar, scalar_type};
pub use secret::Secret;
pub use timestamp::{parse_timestamp, timestamp};
pub use value::{Key, Map, Value};
