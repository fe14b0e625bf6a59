//! The `outputter` room.
