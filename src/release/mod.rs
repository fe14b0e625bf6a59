//! A release: from an LXC container to whole files on this host, from there to what every consumer sees, and back.
//!
//! The local half: [`Flavours`] say what goes in, [`snapshot`] holds the tree still and makes it impersonal, [`Chosen`] is
//! what a flavour takes of it, [`hygiene`] says what must not be released, [`acls`] writes ACLs down, [`archive`] casts
//! the bytes.
//!
//! The public half: the branch's tip is the one point at which a release becomes true. [`Begun`] walks the states up to it
//! and past it; a [`Journal`] remembers how far it came, and the world says whether that is so. Published names are for
//! ever: only [`prune`] removes files, and none that one of the last releases names.
//!
//! ```text
//! STATE/release/
//!   journal/IMAGE/FLAVOUR/N.jsonl     the journal of release N
//!   locks/IMAGE/FLAVOUR.lock          flock: one release of an image and flavour at a time; holds who, for messages
//!   slots/HOST.K.lock                 flock: uploads to one host at once
//! ```

pub mod acls;
pub mod archive;
mod chain;
mod chosen;
mod compression;
mod flavour;
mod freight;
pub mod hygiene;
mod inspect;
mod journal;
mod journals;
mod lock;
mod look;
mod names;
mod page;
mod patches;
mod pattern;
mod places;
mod prune;
pub mod reference;
mod roots;
mod setup;
pub mod snapshot;
mod standing;
mod state;
mod story;
mod tree;
mod verify;
mod withdraw;

pub use chain::{Begun, Ending, Options, Outcome, preview};
pub use chosen::Chosen;
pub use flavour::{Flavours, Recipe, Root};
pub use freight::{Archived, ArchivedFile, ArchivedPatch, Freight};
pub use inspect::{archived_at, inspect};
pub use journal::{Journal, Record, Subject};
pub use journals::{Journals, KEPT};
pub use lock::lock;
pub use look::{history, manifest_of, status};
pub use patches::patches;
pub use pattern::Pattern;
pub use prune::{Pruned, prune};
pub use roots::Roots;
pub use setup::{ReleaseTarget, Setup, Signing};
pub use snapshot::Frozen;
pub use standing::Standing;
pub use state::{Phase, State};
pub use story::{Planned, Signed, Story};
pub use tree::{Item, Tree};
pub use verify::verify;
pub use withdraw::{being_withdrawn, withdraw};
