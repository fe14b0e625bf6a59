//! The one door to the machine: files, processes, the clock, chance, the environment, named fault points.
//!
//! Every error here names the path or the command. Nothing outside this room (and `rootfs::walk`, `rootfs::unpack`,
//! `http`) touches the world.

pub mod abilities;
pub mod clock;
pub mod environment;
pub mod exchange;
pub mod fault;
pub mod fs;
pub mod links;
pub mod process;
pub mod random;
pub mod session;
pub mod signals;
pub mod trusted;
