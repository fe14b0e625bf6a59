//! The script by which debugfs fills a file system with a tree.
//!
//! Inodes are handed out ascending: nothing is freed, and the search for a free one begins at or before the group of
//! the parent. So the script can name each by its number before it exists; what debugfs says it took is compared.
//!
//! ```text
//! scratch/script     what debugfs does next
//! scratch/value/N    an extended attribute's value
//! scratch/link/N     to a file whose path cannot stand in a line
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::script;
use super::tree::{Tree, split};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::rootfs::{Entry, EntryKind, Timestamp};

const ROOT: u32 = 2;
const LOST_AND_FOUND: u32 = 11;

/// What names that stand in for others are made of.
const STAND_INS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-=_,:;~^%@()[]{}";

/// A folder's names that cannot stand in a line: the one it has meanwhile, and its own.
pub(super) type Renames = Vec<(Vec<u8>, Vec<u8>)>;

/// A script under way.
pub(super) struct Fill<'a> {
    tree: &'a Tree,
    scratch: &'a Path,
    script: BufWriter<File>,
    /// Entries in the script that debugfs has not been given.
    pub(super) pending: u64,
    /// What is to be renamed at the end, by the folder's inode.
    pub(super) renames: BTreeMap<u32, Renames>,
    /// The inode of every folder, by path.
    folders: HashMap<Vec<u8>, u32>,
    /// The inode of every file with several names, by its first one, and how many names are still to come.
    linked: HashMap<Vec<u8>, (u32, u32)>,
    /// The folder debugfs is in.
    folder: Option<u32>,
    next: u32,
    /// What debugfs will say it took.
    announced: Vec<u32>,
    /// The value files there are, by value.
    values: HashMap<Vec<u8>, usize>,
    links: usize,
    stand_ins: HashSet<Vec<u8>>,
    /// Every path of the tree, once a name has to be told from them.
    taken: Option<HashSet<&'a [u8]>>,
}

impl<'a> Fill<'a> {
    pub(super) fn new(tree: &'a Tree, scratch: &'a Path) -> Result<Self> {
        fs::create_dir_all(&scratch.join("value"), 0o700)?;
        fs::create_dir_all(&scratch.join("link"), 0o700)?;
        Ok(Self {
            tree,
            scratch,
            script: BufWriter::with_capacity(1 << 20, fs::create_in_place(&scratch.join("script"), false)?),
            pending: 0,
            renames: BTreeMap::new(),
            folders: HashMap::from([(Vec::new(), ROOT)]),
            linked: HashMap::new(),
            folder: None,
            next: LOST_AND_FOUND + 1,
            announced: Vec::new(),
            values: HashMap::new(),
            links: 0,
            stand_ins: HashSet::new(),
            taken: None,
        })
    }

    /// Whole the script; its path from the folder the disk is in.
    pub(super) fn end(&mut self) -> Result<PathBuf> {
        self.script.flush().context(|| "cannot write the script for debugfs")?;
        Ok(self.beside("script"))
    }

    /// Begins the next part.
    pub(super) fn begin(&mut self) -> Result<()> {
        let file = fs::create_in_place(&self.scratch.join("script"), false)?;
        self.script = BufWriter::with_capacity(1 << 20, file);
        (self.pending, self.folder) = (0, None);
        self.announced.clear();
        Ok(())
    }

    /// Fails unless debugfs took just the inodes the script counted on.
    pub(super) fn compare(&self, output: &Path) -> Result<()> {
        let wrong = || format!("cannot read `{}`", output.display());
        let mut announced = self.announced.iter();
        for line in BufReader::new(fs::open(output)?).split(b'\n') {
            let line = line.context(wrong)?;
            let Some(number) = line.strip_prefix(b"Allocated inode: ") else { continue };
            let number: Option<u32> = std::str::from_utf8(number).ok().and_then(|text| text.trim().parse().ok());
            if number.is_none() || number.as_ref() != announced.next() {
                return Err(Error::new(Kind::Failed, "debugfs hands out inodes in another order than is known of it"));
            }
        }
        match announced.next() {
            None => Ok(()),
            Some(inode) => Err(Error::new(Kind::Failed, format!("debugfs did not make inode {inode}"))),
        }
    }

    /// An entry of the tree; its folder comes before it.
    pub(super) fn entry(&mut self, entry: &Entry) -> Result<()> {
        self.pending += 1;
        if entry.path.is_empty() {
            return self.metadata(ROOT, 0o040_000, entry);
        }
        let (parent, name) = split(&entry.path);
        let parent = self.folder_of(parent)?;
        let name = self.name(parent, &entry.path, name)?;
        match &entry.kind {
            EntryKind::Directory => {
                let inode = if entry.path == b"lost+found" { LOST_AND_FOUND } else { self.make_folder(parent, &name)? };
                self.folders.insert(entry.path.clone(), inode);
                self.metadata(inode, 0o040_000, entry)
            }
            EntryKind::File { .. } => {
                let source = self.source(&self.tree.source(entry))?;
                let inode = self.make(parent, &[b"write", source.as_os_str().as_bytes(), &name])?;
                self.announced.push(inode);
                self.first_name(inode, 0o100_000, entry)
            }
            EntryKind::Symlink { target } => {
                let inode = self.make(parent, &[b"symlink", &name, target])?;
                self.first_name(inode, 0o120_000, entry)
            }
            EntryKind::Fifo => self.node(parent, 0o010_000, &[b"mknod", &name, b"p"], entry),
            EntryKind::CharDevice { major, minor } => self.device(parent, &name, (0o020_000, *major, *minor), entry),
            EntryKind::BlockDevice { major, minor } => self.device(parent, &name, (0o060_000, *major, *minor), entry),
            EntryKind::Hardlink { target } => self.further_name(parent, &name, target),
        }
    }

    /// A file that the tree has not, of root, mode 0644, of the disk's time; folders that are missing are made.
    pub(super) fn add(&mut self, path: &str, source: &Path) -> Result<()> {
        let (folder, name) = split(path.as_bytes());
        let mut parent = ROOT;
        let mut sofar = Vec::new();
        for part in folder.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            if !sofar.is_empty() {
                sofar.push(b'/');
            }
            sofar.extend_from_slice(part);
            parent = if let Some(inode) = self.folders.get(&sofar) {
                *inode
            } else {
                let inode = self.make_folder(parent, part)?;
                self.folders.insert(sofar.clone(), inode);
                inode
            };
        }
        let source = self.source(source)?;
        let inode = self.make(parent, &[b"write", source.as_os_str().as_bytes(), name])?;
        self.announced.push(inode);
        self.set(inode, "mode", "0100644")
    }

    fn folder_of(&self, path: &[u8]) -> Result<u32> {
        self.folders.get(path).copied().ok_or_else(|| Error::new(Kind::Failed, "its folder is not on the disk"))
    }

    /// The name as it can stand in a line; if it cannot, one as long that nothing else there has.
    fn name(&mut self, parent: u32, path: &[u8], name: &[u8]) -> Result<Vec<u8>> {
        if script::fits(name) {
            return Ok(name.to_vec());
        }
        let start = path.len() - name.len();
        let tree = self.tree;
        let taken = self.taken.get_or_insert_with(|| tree.entries.iter().map(|entry| entry.path.as_slice()).collect());
        for number in 0..10_000 {
            let mut stand_in = path.to_vec();
            let mut rest = number;
            for byte in &mut stand_in[start..] {
                *byte = STAND_INS[rest % STAND_INS.len()];
                rest /= STAND_INS.len();
            }
            if rest == 0 && !taken.contains(stand_in.as_slice()) && self.stand_ins.insert(stand_in.clone()) {
                let stand_in = stand_in.split_off(start);
                self.renames.entry(parent).or_default().push((stand_in.clone(), name.to_vec()));
                return Ok(stand_in);
            }
        }
        Err(Error::new(Kind::Unsupported, "a line ends in its name, and all other names of its length are taken"))
    }

    fn make_folder(&mut self, parent: u32, name: &[u8]) -> Result<u32> {
        self.make(parent, &[b"mkdir", name])
    }

    /// A command that makes an inode in a folder.
    fn make(&mut self, parent: u32, words: &[&[u8]]) -> Result<u32> {
        self.enter(parent)?;
        self.line(words)?;
        self.next += 1;
        Ok(self.next - 1)
    }

    fn node(&mut self, parent: u32, kind: u32, words: &[&[u8]], entry: &Entry) -> Result<()> {
        let inode = self.make(parent, words)?;
        self.announced.push(inode);
        self.first_name(inode, kind, entry)
    }

    fn device(&mut self, parent: u32, name: &[u8], (kind, major, minor): (u32, u32, u32), entry: &Entry) -> Result<()> {
        let letter: &[u8] = if kind == 0o020_000 { b"c" } else { b"b" };
        // debugfs takes 16 bits of each number at the most; the kernel's form (`new_encode_dev`) has 12 and 20.
        self.node(parent, kind, &[b"mknod", name, letter, major.to_string().as_bytes(), b"0"], entry)?;
        let device = minor & 0xff | major << 8 | (minor & !0xff) << 12;
        let old = major < 256 && minor < 256;
        let (slot, value) = if old { ("block[0]", major << 8 | minor) } else { ("block[1]", device) };
        self.set(self.next - 1, "block[0]", "0")?;
        self.set(self.next - 1, slot, &value.to_string())
    }

    fn first_name(&mut self, inode: u32, kind: u32, entry: &Entry) -> Result<()> {
        if let Some(names) = self.tree.links.get(&entry.path) {
            self.linked.insert(entry.path.clone(), (inode, names - 1));
        }
        self.metadata(inode, kind, entry)
    }

    fn further_name(&mut self, parent: u32, name: &[u8], target: &[u8]) -> Result<()> {
        let Some((inode, left)) = self.linked.get_mut(target) else {
            return Err(Error::new(Kind::Failed, "the name it shares its content with is not on the disk"));
        };
        *left = left.saturating_sub(1);
        let (inode, is_last) = (*inode, *left == 0);
        self.enter(parent)?;
        self.line(&[b"ln", format!("<{inode}>").as_bytes(), name])?;
        if is_last {
            // `ln` of debugfs leaves the count alone.
            let names = self.tree.links.get(target).copied().unwrap_or(1);
            self.set(inode, "links_count", &names.to_string())?;
        }
        Ok(())
    }

    fn metadata(&mut self, inode: u32, kind: u32, entry: &Entry) -> Result<()> {
        if kind != 0o120_000 {
            self.set(inode, "mode", &format!("{:#o}", kind | entry.mode).replacen("0o", "0", 1))?;
        }
        for (field, owner) in [("uid", entry.uid), ("gid", entry.gid)] {
            if owner != 0 {
                self.set(inode, field, &owner.to_string())?;
            }
        }
        let (low, extra) = stored_time(entry.mtime);
        self.set(inode, "mtime", &format!("@{low}"))?;
        self.set(inode, "mtime_extra", &extra.to_string())?;
        for (name, value) in &entry.xattrs {
            let file = self.value(value)?;
            self.line(&[b"ea_set", b"-f", file.as_os_str().as_bytes(), format!("<{inode}>").as_bytes(), name])?;
        }
        Ok(())
    }

    fn value(&mut self, value: &[u8]) -> Result<PathBuf> {
        let number = if let Some(number) = self.values.get(value) {
            *number
        } else {
            let number = self.values.len();
            let path = self.scratch.join("value").join(number.to_string());
            let wrong = || format!("cannot write `{}`", path.display());
            fs::create_in_place(&path, false)?.write_all(value).context(wrong)?;
            self.values.insert(value.to_vec(), number);
            number
        };
        Ok(self.beside("value").join(number.to_string()))
    }

    /// A path by which debugfs gets at the file.
    fn source(&mut self, path: &Path) -> Result<PathBuf> {
        if script::fits(path.as_os_str().as_bytes()) {
            return Ok(path.to_owned());
        }
        let name = self.links.to_string();
        self.links += 1;
        let link = self.scratch.join("link").join(&name);
        rustix::fs::symlink(path, &link).context(|| format!("cannot make the link `{}`", link.display()))?;
        Ok(self.beside("link").join(name))
    }

    /// A path in the scratch folder, from the folder the disk is in.
    fn beside(&self, name: &str) -> PathBuf {
        Path::new(self.scratch.file_name().unwrap_or_default()).join(name)
    }

    fn enter(&mut self, folder: u32) -> Result<()> {
        if self.folder != Some(folder) {
            self.line(&[b"cd", format!("<{folder}>").as_bytes()])?;
            self.folder = Some(folder);
        }
        Ok(())
    }

    fn set(&mut self, inode: u32, field: &str, value: &str) -> Result<()> {
        self.line(&[b"sif", format!("<{inode}>").as_bytes(), field.as_bytes(), value.as_bytes()])
    }

    fn line(&mut self, words: &[&[u8]]) -> Result<()> {
        script::line(&mut self.script, words).context(|| "cannot write the script for debugfs")
    }
}

/// A moment as an inode holds it (ext4's `i_mtime` and `i_mtime_extra`): the low 32 bits are signed, two bits of the
/// extra word count further 2^32 seconds, its other 30 are nanoseconds.
fn stored_time(time: Timestamp) -> (u32, u32) {
    let bytes = time.seconds.to_le_bytes();
    let low = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let rounds = (time.seconds - i64::from(low.cast_signed())) >> 32;
    let rounds = u32::try_from(rounds & 3).unwrap_or_default();
    (low, time.nanoseconds << 2 | rounds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_stored_as_ext4_does() {
        // Documentation/filesystems/ext4/inodes.rst has this table.
        let stored = |seconds| stored_time(Timestamp { seconds, nanoseconds: 1 });
        assert_eq!(stored(-1), (0xffff_ffff, 4));
        assert_eq!(stored(-0x8000_0000), (0x8000_0000, 4));
        assert_eq!(stored(0), (0, 4));
        assert_eq!(stored(0x7fff_ffff), (0x7fff_ffff, 4));
        assert_eq!(stored(0x8000_0000), (0x8000_0000, 5));
        assert_eq!(stored(0x1_0000_0000), (0, 5));
        assert_eq!(stored(0x1_8000_0000), (0x8000_0000, 6));
        assert_eq!(stored(0x3_7fff_ffff), (0x7fff_ffff, 7));
    }
}
