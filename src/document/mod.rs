//! The `document` room.
