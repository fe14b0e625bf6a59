//! What a merge did: counts, and what it left out or found odd. Lists are bounded, their overflow is counted.

use crate::rootfs::tar;

use crate::rootfs::Timestamp;

/// The most warnings and dropped entries that are listed; further ones are only counted.
const LISTED: usize = 100;

/// An entry that is not in the output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Its path, with what is not printable escaped.
    pub path: String,
    /// Why it is not there.
    pub reason: &'static str,
}

/// What one layer held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerSummary {
    /// Entries, whiteouts and other marks among them.
    pub entries: u64,
    /// Whiteouts of single names.
    pub whiteouts: u64,
    /// Opaque markers.
    pub opaques: u64,
    /// Entries of the aufs driver's own (`.wh..wh.*`), which are no content.
    pub metadata: u64,
    /// Directories that the layer uses but does not hold; they keep what a lower layer says of them.
    pub implied_parents: u64,
}

/// What a merge did, in numbers, and what it left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlattenReport {
    /// Entries in all layers, whiteouts and duplicates among them.
    pub entries_in: u64,
    /// Entries of the merged tree.
    pub entries_kept: u64,
    /// Bytes of all layers.
    pub bytes_in: u64,
    /// Bytes of all outputs.
    pub bytes_out: u64,
    /// Whiteouts of single names in all layers.
    pub whiteouts: u64,
    /// Opaque markers in all layers.
    pub opaques: u64,
    /// Entries of the aufs driver's own in all layers, which are left out.
    pub metadata: u64,
    /// Hard-linked files whose content moved to another of their names.
    pub links_promoted: u64,
    /// Files and directories with an access ACL that says more than the mode.
    pub access_acls: u64,
    /// Directories with a default ACL.
    pub default_acls: u64,
    /// Files and directories that got a record which keeps an engine from handing the parent's default ACL down.
    pub guards: u64,
    /// Sparse files that are written with all their zeros.
    pub expanded: u64,
    /// How many bytes those files have.
    pub expanded_bytes: u64,
    /// Directories that some layer used without holding them, once per layer.
    pub implied_parents: u64,
    /// Directories that no layer holds: made as 0755 root:root with a modification time of 0.
    pub synthesised_parents: u64,
    /// The newest modification time of all entries that is not later than 9999; a tree without a date of its own has
    /// this one.
    pub newest: Timestamp,
    /// Whiteouts written because the output stands on layers that are kept.
    pub whiteouts_written: u64,
    /// What is not in the output, and why; the first hundred.
    pub dropped: Vec<Dropped>,
    /// How many dropped entries are not listed.
    pub dropped_more: u64,
    /// What is odd in the input and how it was read; the first hundred.
    pub warnings: Vec<String>,
    /// How many warnings are not listed.
    pub warnings_more: u64,
}

impl FlattenReport {
    pub(super) fn warn(&mut self, text: impl FnOnce() -> String) {
        if self.warnings.len() < LISTED {
            self.warnings.push(text());
        } else {
            self.warnings_more += 1;
        }
    }

    pub(super) fn drop(&mut self, path: &[u8], reason: &'static str) {
        if self.dropped.len() < LISTED {
            self.dropped.push(Dropped { path: shown(path), reason });
        } else {
            self.dropped_more += 1;
        }
    }
}

/// A path as a person reads it, the root as `/`.
pub(super) fn shown(path: &[u8]) -> String {
    if path.is_empty() { "/".to_owned() } else { tar::shown(path) }
}
