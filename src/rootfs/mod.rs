//! What an entry of a root filesystem is, and every form it travels in: tar, layers, directories.
//!
//! Owns entries, POSIX ACLs, one tar codec, the merge of layers, the comparison of trees, walking and unpacking
//! directories. Knows no engines, settings, caches or clocks; all pure bar `walk` and `unpack`. Names are bytes.

pub mod acl;
pub mod aclfile;
mod beneath;
mod canonical;
mod capability;
pub mod compare;
mod entry;
mod findings;
pub mod flatten;
pub mod idmap;
mod source;
pub mod tar;
pub mod unpack;
pub mod walk;
mod xattrs;

pub use canonical::Canonical;
pub use entry::{
    Entry, EntryKind, Timestamp, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, XATTR_CAPABILITY, normal_path, shown,
};
pub use findings::{Finding, Findings};
pub use source::{FileRegion, Limits, ReadAt};
pub use xattrs::HeldBack;
