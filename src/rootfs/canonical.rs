//! The digest of a tree that no archive has a part in: what a manifest names, and what two trees are compared by.

use sha2::Digest as _;

use super::entry::{Entry, EntryKind};
use super::source::ReadAt as _;
use super::walk::DirectoryLayer;
use crate::error::{Result, from_io};
use crate::vocab::Digest;

/// How much is read at once.
const BUFFER: usize = 512 << 10;

/// The digest of a tree whatever archive it is in: for each entry in order
///
/// ```text
/// path, kind letter, mode, uid, gid, mtime in seconds, number of xattrs, name and value of each,
/// then what the kind has: link target; major, minor; length and SHA-256 of the content
/// ```
///
/// numbers as eight bytes, the highest first; texts behind their length; all of it behind `castoff tree 1` and a newline.
#[derive(Debug)]
pub struct Canonical {
    tree: sha2::Sha256,
    content: sha2::Sha256,
}

impl Canonical {
    /// Nothing yet.
    #[expect(clippy::new_without_default, reason = "a digest of nothing is no default of anything")]
    pub fn new() -> Self {
        let mut tree = sha2::Sha256::new();
        tree.update(b"castoff tree 1\n");
        Self { tree, content: sha2::Sha256::new() }
    }

    fn number(&mut self, number: u64) {
        self.tree.update(number.to_be_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.number(text.len() as u64);
        self.tree.update(text);
    }

    /// An entry begins.
    pub fn begin(&mut self, entry: &Entry) {
        self.text(&entry.path);
        let letter = match entry.kind {
            EntryKind::File { .. } => b"f",
            EntryKind::Directory => b"d",
            EntryKind::Symlink { .. } => b"l",
            EntryKind::Hardlink { .. } => b"h",
            EntryKind::CharDevice { .. } => b"c",
            EntryKind::BlockDevice { .. } => b"b",
            EntryKind::Fifo => b"p",
        };
        self.tree.update(letter);
        for number in [u64::from(entry.mode), entry.uid, entry.gid, entry.mtime.seconds.cast_unsigned()] {
            self.number(number);
        }
        self.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            self.text(name);
            self.text(value);
        }
        self.content = sha2::Sha256::new();
    }

    /// The next bytes of its file.
    pub fn content(&mut self, bytes: &[u8]) {
        self.content.update(bytes);
    }

    /// The next bytes of its file, all of them zero.
    pub fn zeros(&mut self, mut count: u64) {
        const ZEROS: [u8; 4096] = [0; 4096];
        while count > 0 {
            let now = count.min(ZEROS.len() as u64);
            self.content.update(&ZEROS[..usize::try_from(now).unwrap_or_default()]);
            count -= now;
        }
    }

    /// The entry ends.
    pub fn end(&mut self, entry: &Entry) {
        match &entry.kind {
            EntryKind::File { size } => {
                self.number(*size);
                let content = std::mem::replace(&mut self.content, sha2::Sha256::new()).finalize();
                self.tree.update(content);
            }
            EntryKind::Symlink { target } | EntryKind::Hardlink { target } => self.text(target),
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                self.number(u64::from(*major));
                self.number(u64::from(*minor));
            }
            EntryKind::Directory | EntryKind::Fifo => {}
        }
    }

    /// The digest of all entries.
    pub fn digest(self) -> Digest {
        Digest::from_bytes(self.tree.finalize().into())
    }
}

impl DirectoryLayer {
    /// The canonical digest of the walked directory; `told` hears how many bytes were read, and may end it.
    pub fn tree_digest(&self, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<Digest> {
        self.tree_digest_as(&|entry| entry, told)
    }

    /// The canonical digest of the walked directory with every entry as `seen` has it.
    pub fn tree_digest_as(
        &self,
        seen: &dyn Fn(Entry) -> Entry,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Digest> {
        let mut canonical = Canonical::new();
        let mut buffer = vec![0; BUFFER];
        for number in 0..self.count() {
            let mut placed = self.placed(number);
            placed.entry = seen(placed.entry);
            canonical.begin(&placed.entry);
            let mut place = 0;
            for (position, offset, length) in placed.runs() {
                canonical.zeros(position - place);
                let mut done = 0;
                while done < length {
                    let count = usize::try_from(length - done).unwrap_or(BUFFER).min(BUFFER);
                    self.read_exact_at(&mut buffer[..count], offset + done)
                        .map_err(|error| from_io(error, || "cannot read from the tree".to_owned()))?;
                    canonical.content(&buffer[..count]);
                    done += count as u64;
                    told(count as u64)?;
                }
                place = position + length;
            }
            if let EntryKind::File { size } = placed.entry.kind {
                canonical.zeros(size - place);
            }
            canonical.end(&placed.entry);
        }
        Ok(canonical.digest())
    }
}
