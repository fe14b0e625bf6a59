//! ACLs written down as `getfacl -n -R` does, for `setfacl --restore`: `acls.txt` in the root filesystem and in the
//! container's folder.
//!
//! ```text
//! CONTAINER/acls.txt           every entry of the container, from its folder on
//! CONTAINER/rootfs/acls.txt    srv home opt root etc var, from the root filesystem on
//! ```

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::chosen::Pick;
use super::flavour::Root;
use super::roots::Roots;
use super::tree::{Item, Tree};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::Progress;
use crate::rootfs::{Entry, EntryKind, Limits, aclfile, shown};

/// The file's name, in either place.
pub const FILE: &str = "acls.txt";

/// What of a root filesystem has ACLs worth keeping.
pub const PARTS: [&str; 6] = ["etc", "home", "opt", "root", "srv", "var"];

/// The two texts: of the root filesystem's parts, and of the whole container.
#[derive(Debug, Default)]
pub struct Texts {
    /// For the root filesystem's `acls.txt`.
    pub rootfs: Vec<u8>,
    /// For the container's `acls.txt`.
    pub container: Vec<u8>,
}

impl Texts {
    /// Of a container that was walked from its folder on.
    pub fn of(tree: &Tree) -> Result<Self> {
        let picks = tree.items().map(|item| Pick { item, inode: tree.inode(item), link_to: None });
        Self::of_picks(tree, picks)
    }

    /// Of some entries only.
    pub(super) fn of_picks(tree: &Tree, picks: impl Iterator<Item = Pick>) -> Result<Self> {
        let mut texts = Self::default();
        for pick in picks {
            let entry = written(tree, pick.item, pick.inode);
            if entry.path == FILE.as_bytes() || entry.path == [b"rootfs/", FILE.as_bytes()].concat() {
                continue;
            }
            aclfile::write(&entry, &mut texts.container)?;
            let inside = entry.path.strip_prefix(b"rootfs/").unwrap_or_default();
            let first = inside.split(|byte| *byte == b'/').next().unwrap_or_default();
            if PARTS.iter().any(|part| part.as_bytes() == first) {
                aclfile::write(&Entry { path: inside.to_vec(), ..entry }, &mut texts.rootfs)?;
            }
        }
        Ok(texts)
    }
}

/// An entry with what its inode has: a further name has owner, mode and ACLs too.
fn written(tree: &Tree, item: Item, inode: Item) -> Entry {
    let entry = tree.entry(item);
    if item == inode {
        return entry;
    }
    Entry { path: entry.path, ..tree.entry(inode) }
}

/// Writes both files of a container where it stands, each whole or not at all; they say the host's own ids.
pub fn save(roots: &Roots, limits: Limits, test: bool, progress: &Progress) -> Result<Vec<PathBuf>> {
    let files = vec![roots.rootfs.join(FILE), roots.folder.join(FILE)];
    for file in &files {
        // A rename replaces whatever has the name, but not a folder.
        if fs::link_metadata(file)?.is_some_and(|found| found.is_dir()) {
            return Err(Error::new(Kind::Conflict, format!("`{}` is a folder", file.display())).hint("move it away"));
        }
    }
    let of_host = Roots { idmap: None, ..roots.clone() };
    if !test {
        for file in &files {
            fs::sweep(fs::parent(file))?;
        }
    }
    let tree = Tree::walk(&of_host, Root::Container, limits, progress)?;
    let texts = Texts::of(&tree)?;
    if !test {
        write(&files[0], &texts.rootfs)?;
        write(&files[1], &texts.container)?;
    }
    Ok(files)
}

/// Writes a file that belongs to whom its folder belongs: in a container with shifted ids that is its root.
fn write(file: &std::path::Path, text: &[u8]) -> Result<()> {
    use std::io::Write as _;
    let wrong = || format!("cannot write `{}`", file.display());
    let folder = fs::parent(file);
    let owner = fs::metadata(folder)?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no folder `{}`", folder.display())))?;
    let mut temporary = fs::TempFile::beside(file, 0o600)?;
    let own = temporary.file().metadata().context(wrong)?;
    if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) {
        let (uid, gid) = (rustix::fs::Uid::from_raw(owner.uid()), rustix::fs::Gid::from_raw(owner.gid()));
        rustix::fs::fchown(temporary.file().as_fd(), Some(uid), Some(gid)).context(wrong)?;
    }
    temporary.write_all(text).context(wrong)?;
    temporary.persist()
}

/// An entry for a text in an archive, dated as the rest is.
pub(super) fn entry(path: &[u8], text: &[u8], seconds: i64) -> Entry {
    let size = text.len() as u64;
    tracing::trace!(path = shown(path), size, "an ACL text goes in");
    Entry {
        path: path.to_vec(),
        kind: EntryKind::File { size },
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: crate::rootfs::Timestamp { seconds, nanoseconds: 0 },
        xattrs: std::collections::BTreeMap::new(),
    }
}
