//! Disk images: written from a tree, opened into a tree, booted to see whether they do.
//!
//! A tree is a folder, read as the root of a system. Equal trees, requests and versions of the host's programs give
//! equal bytes, wherever and whenever they are written: every number a disk draws by lot is drawn from the request's
//! seed, every time is the request's. Needs no root beyond what reading the tree takes, no loop device, no mount, no
//! device mapper to write; [`open`] mounts by an offset loop where it may. Whatever a target was stays until the new
//! file is whole: a temporary beside it, fsync, rename.
//!
//! ```text
//! whole disk   sector 0: GRUB's boot sector, where it is to boot · ext4 over all of it
//! GPT          1: 1 MiB BIOS boot partition, GRUB's core · 2: 64 MiB ESP, /EFI/BOOT/BOOTX64.EFI · 3: ext4
//! ```
//!
//! Knows no plans, stores or front-ends.

pub mod boot;
mod convert;
mod esp;
mod ext4;
mod fill;
mod gpt;
mod grub;
mod kernel;
mod names;
pub mod open;
mod program;
mod script;
mod seed;
mod size;
mod squashfs;
mod tree;
mod write;

pub use convert::{Compression, Format};
pub use kernel::{Kernel, copy_kernel};
pub use squashfs::{Squashed, squashfs};
pub use write::{LEAST, Layout, MOST, Request, Written, write};
