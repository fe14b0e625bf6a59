//! How far placeholders may unfold.

use crate::error::{Error, Kind};
use crate::pillar::traced::Traced;

/// The longest text, in bytes, that placeholders may unfold to.
pub(super) const LONGEST: usize = 1 << 20;

/// The error that a value unfolds too far; `what` says how.
pub(super) fn too_large(value: &Traced, what: &str) -> Error {
    Error::new(Kind::Limit, format!("{}: the placeholders here {what}", value.origin))
}
