//! The local half of a release: from an LXC container to a whole archive with its hashes.
//!
//! [`Flavours`] say what goes in, [`snapshot`] holds the tree still and makes it impersonal, [`Chosen`] is what a
//! flavour takes of it, [`hygiene`] says what must not be released, [`acls`] writes ACLs down, [`archive`] casts the
//! bytes. Knows no targets, journals, manifests or signatures: it ends with a file and its hashes on this host.

pub mod acls;
pub mod archive;
mod chosen;
mod flavour;
pub mod hygiene;
mod names;
mod pattern;
mod roots;
pub mod snapshot;
mod tree;

pub use chosen::Chosen;
pub use flavour::{Flavours, Recipe, Root};
pub use pattern::Pattern;
pub use roots::Roots;
pub use snapshot::Frozen;
pub use tree::{Item, Tree};
