//! Unpacking a tree into a directory: exact, inside it and nowhere else, whole or not at all.
//!
//! Every name is reached from the new directory's descriptor and no symbolic link on the way is followed, whatever the
//! archive's order. Metadata is set in the order the kernel wants: owner (which clears setuid and capabilities), mode,
//! xattrs and ACLs, times; those of directories when everything is in them, so that a read-only directory can be
//! filled, no child inherits a default ACL and no time moves. The tree is built beside its place:
//!
//! ```text
//! PARENT/.NAME.castoff-PID   mode 0700, locked (flock) by the unpacking process; one whose lock is free is swept
//! PARENT/NAME                appears by rename, after everything is synced
//! ```

mod metadata;
mod remove;
mod staging;
mod tree;

use crate::rootfs::ReadAt;
use crate::rootfs::entry::EntryKind;
use crate::rootfs::findings::Findings;
use crate::rootfs::tar::Member;
use crate::rootfs::xattrs::HeldBack;
use crate::vocab::Value;

pub use tree::Unpacker;

use crate::error::Result;
use crate::host;
use std::path::Path;

/// Removes a tree so that nobody who looks at its name finds half of it: it loses the name first.
pub fn discard(tree: &Path) -> Result<()> {
    let mut name = std::ffi::OsString::from(".");
    name.push(tree.file_name().unwrap_or_default());
    name.push(format!(".castoff-{}-old", std::process::id()));
    let aside = host::fs::parent(tree).join(name);
    host::fs::rename(tree, &aside)?;
    host::fault::point("unpack.discard.aside");
    remove::remove_tree(&aside)
}

/// Removes what killed unpackings and removals of any name left in a folder.
pub fn sweep(folder: &Path) -> Result<()> {
    staging::sweep(folder, b".")
}

/// How a tree is unpacked.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnpackOptions {
    /// Take an owner or an xattr that this user may not set as set, and report it; without this it is an error.
    pub ignore_ownership: bool,
}

/// What an unpacking did.
#[derive(Clone, Debug, Default)]
pub struct UnpackReport {
    /// Entries made, the root among them.
    pub entries: u64,
    /// Bytes of all files, holes included.
    pub content_bytes: u64,
    /// Files whose blocks are shared with the file they came from.
    pub shared: u64,
    /// Devices that this user may not make, and further names of them, left out.
    pub devices_skipped: Findings,
    /// Entries that belong to this user, not to the owner they name; setuid and setgid are taken from them.
    pub ownership_ignored: Findings,
    /// Xattrs that this user may not set, left out.
    pub xattrs_skipped: Findings,
    /// Times that the file system cannot hold.
    pub times_clamped: Findings,
    /// Directories that the archive only implies, made with mode 0755.
    pub implied_parents: Findings,
    /// Extended attributes that belong to the host, left out.
    pub xattrs_held_back: HeldBack,
}

impl UnpackReport {
    /// The report as a value; what there is nothing of is not in it.
    pub fn to_value(&self) -> Value {
        let mut value = Value::map([("entries", self.entries), ("content_bytes", self.content_bytes)]);
        if let Value::Map(members) = &mut value {
            for (name, findings) in [
                ("devices_skipped", &self.devices_skipped),
                ("ownership_ignored", &self.ownership_ignored),
                ("xattrs_skipped", &self.xattrs_skipped),
                ("times_clamped", &self.times_clamped),
                ("implied_parents", &self.implied_parents),
            ] {
                if !findings.is_empty() {
                    members.insert(name.into(), findings.to_value());
                }
            }
            if self.shared > 0 {
                members.insert("shared".into(), self.shared.into());
            }
            if !self.xattrs_held_back.is_empty() {
                members.insert("xattrs_held_back".into(), self.xattrs_held_back.to_value());
            }
        }
        value
    }
}

/// Where a file's stored bytes are: `(position in the file, offset in the source, length)`; the rest is zeros.
pub struct Content<'a> {
    /// What the bytes are read from.
    pub source: &'a dyn ReadAt,
    /// The stored parts, ascending.
    pub runs: Vec<(u64, u64, u64)>,
    /// A file with just this content; its blocks are shared where the file system can (FICLONE).
    pub twin: Option<&'a std::fs::File>,
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Content").field("runs", &self.runs).finish_non_exhaustive()
    }
}

impl<'a> Content<'a> {
    /// The content of a member of this layer.
    pub fn of(source: &'a dyn ReadAt, member: &Member) -> Self {
        let runs = match (&member.entry.kind, &member.sparse) {
            (EntryKind::File { .. }, Some(map)) => {
                let mut offset = member.span.data + map.map_bytes();
                let place = |(position, length): &(u64, u64)| {
                    let run = (*position, offset, *length);
                    offset += length;
                    run
                };
                map.segments().iter().map(place).collect()
            }
            (EntryKind::File { size }, None) => vec![(0, member.span.data, *size)],
            _ => Vec::new(),
        };
        Self { source, runs, twin: None }
    }
}
