//! The `engine` room.

pub mod docker;
pub mod lxc;
