//! The tree that becomes a disk: read once, judged before anything is written, measured.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Kind, Result};
use crate::progress::{Cancel, Progress, Unit};
use crate::rootfs::walk::{DirectoryLayer, WalkOptions};
use crate::rootfs::{Entry, EntryKind, Findings, Limits, shown};

/// The block of every file system made here.
pub(super) const BLOCK: u64 = 4096;

/// Files from here on are read for blocks of zeros, which become holes: they can make a file take next to nothing.
const SCANNED_FROM: u64 = 1 << 20;

/// What a block of extended attributes holds beside its header and end mark.
const XATTR_ROOM: usize = 4096 - 32 - 4;

/// The kinds of extended attributes ext4 has.
const XATTR_KINDS: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// The moments an inode can hold: 34 bits of seconds from 1901 on.
const TIMES: std::ops::Range<i64> = -(1 << 31)..(1 << 34) - (1 << 31);

/// A directory's content, in the order of its names.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) root: PathBuf,
    pub(super) entries: Vec<Entry>,
    /// How many names an inode has, by its first name; only where there are several.
    pub(super) links: BTreeMap<Vec<u8>, u32>,
}

/// What a tree takes on an ext4 file system, at the most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) inodes: u64,
    /// Blocks of content, directories, extended attributes and long links.
    pub(super) blocks: u64,
}

impl Tree {
    /// Reads the tree; whatever cannot be on the disk just as it is, is an error that names it.
    pub(super) fn read(root: &Path, progress: &Progress) -> Result<Self> {
        let (layer, report) = DirectoryLayer::open(root, &WalkOptions::default(), Limits::default(), progress)?;
        for (findings, what) in
            [(&report.unreadable, "cannot be read by this user"), (&report.vanished, "vanished while it was read")]
        {
            if let Some(first) = first(findings) {
                return Err(Error::new(Kind::Conflict, format!("`{first}` in `{}` {what}", root.display())));
            }
        }
        if !report.sockets.is_empty() {
            progress.warn(format!("sockets are not on the disk: {}", report.sockets.lines().join(", ")));
        }
        let mut links = BTreeMap::new();
        let entries: Vec<Entry> = layer.entries().collect();
        for entry in &entries {
            judge(entry)?;
            if let EntryKind::Hardlink { target } = &entry.kind {
                *links.entry(target.clone()).or_insert(1) += 1;
            }
        }
        Ok(Self { root: crate::host::fs::absolute(root)?, entries, links })
    }

    /// What the tree takes. The content decides, not how its present file system stores it.
    pub(super) fn measure(&self, progress: &Progress, cancel: &Cancel) -> Result<Need> {
        let mut stage = progress.stage("measuring the tree", Some(self.entries.len() as u64), Unit::Items);
        let mut need = Need { inodes: 11, blocks: 16 };
        let mut names: BTreeMap<&[u8], u64> = BTreeMap::new();
        for entry in &self.entries {
            cancel.check()?;
            if !entry.path.is_empty() {
                let (parent, name) = split(&entry.path);
                *names.entry(parent).or_default() += (name.len() as u64 + 8).next_multiple_of(4);
            }
            need.inodes += u64::from(!matches!(entry.kind, EntryKind::Hardlink { .. }));
            need.blocks += u64::from(!entry.xattrs.is_empty());
            need.blocks += match &entry.kind {
                EntryKind::File { size } if *size >= SCANNED_FROM => self.stored(entry, cancel)?,
                EntryKind::File { size } => size.div_ceil(BLOCK),
                EntryKind::Symlink { target } => u64::from(target.len() > 59),
                EntryKind::Directory => 1,
                EntryKind::Hardlink { .. }
                | EntryKind::CharDevice { .. }
                | EntryKind::BlockDevice { .. }
                | EntryKind::Fifo => 0,
            };
            stage.advance(1);
        }
        // A name does not cross blocks, so that the room of the longest one can stay free in each.
        need.blocks += names.values().map(|bytes| bytes / (BLOCK - 12 - 264)).sum::<u64>();
        Ok(need)
    }

    /// The host's path of an entry.
    pub(super) fn source(&self, entry: &Entry) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(&entry.path))
    }

    /// The entry of a normalised path.
    pub(super) fn find(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }

    /// Blocks that are not zeros, and those of the extent tree that leads to them.
    fn stored(&self, entry: &Entry, cancel: &Cancel) -> Result<u64> {
        let path = self.source(entry);
        let wrong = || format!("cannot read `{}`", path.display());
        let file = crate::host::fs::open_regular(&path, false)?;
        let mut buffer = vec![0; 1 << 20];
        let (mut blocks, mut runs, mut stored_before, mut offset) = (0, 0, false, 0);
        loop {
            cancel.check()?;
            offset = match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(offset)) {
                Ok(found) => found - found % BLOCK,
                Err(rustix::io::Errno::NXIO) => break,
                // This file system does not tell holes from zeros.
                Err(rustix::io::Errno::INVAL) => offset,
                Err(error) => return Err(error).context(wrong),
            };
            let count = read_full(&file, &mut buffer, offset).context(wrong)?;
            if count == 0 {
                break;
            }
            for block in buffer[..count].chunks(4096) {
                let stored = block.iter().any(|byte| *byte != 0);
                blocks += u64::from(stored);
                runs += u64::from(stored && !stored_before);
                stored_before = stored;
            }
            offset += count as u64;
        }
        // An extent holds 32768 blocks at the most, a block 340 extents; free space may be in pieces.
        Ok(blocks + (runs + blocks / 32768 + 8) / 300 + 2)
    }
}

fn read_full(file: &std::fs::File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut count = 0;
    while count < buffer.len() {
        match file.read_at(&mut buffer[count..], offset + count as u64) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The parent's path and the own name.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(place) => (&path[..place], &path[place + 1..]),
        None => (&[], path),
    }
}

fn first(findings: &Findings) -> Option<String> {
    findings.lines().into_iter().next()
}

/// Fails for an entry that ext4, or the way it is written here, cannot hold.
fn judge(entry: &Entry) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::new(Kind::Unsupported, format!("`{}` cannot be on an ext4 disk: {what}", shown(&entry.path))))
    };
    let has_line_end = |text: &[u8]| text.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
    if u32::try_from(entry.uid).is_err() || u32::try_from(entry.gid).is_err() {
        return refuse(format!("its owner is {}:{}", entry.uid, entry.gid));
    }
    if !TIMES.contains(&entry.mtime.seconds) {
        return refuse(format!("its time is {} s since 1970", entry.mtime.seconds));
    }
    if let EntryKind::Symlink { target } = &entry.kind {
        if has_line_end(target) {
            return refuse("a line ends inside of the link's target".to_owned());
        }
        if target.len() as u64 >= BLOCK {
            return refuse(format!("the link's target has {} bytes", target.len()));
        }
    }
    if let EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } = entry.kind
        && (major > 0xfff || minor > 0xf_ffff)
    {
        return refuse(format!("its device number is {major}:{minor}"));
    }
    if entry.path == b"lost+found" && !matches!(entry.kind, EntryKind::Directory) {
        return refuse("this name is the folder e2fsck puts things into".to_owned());
    }
    let mut room = 0;
    for (name, value) in &entry.xattrs {
        let kind = XATTR_KINDS.iter().find(|kind| name.starts_with(kind));
        let is_acl = name.starts_with(b"system.posix_acl_");
        let (false, true) = (has_line_end(name), kind.is_some() || is_acl) else {
            return refuse(format!("it has the extended attribute `{}`", shown(name)));
        };
        let own = if is_acl { 0 } else { name.len() - kind.map_or(0, |kind| kind.len()) };
        room += 16 + own.next_multiple_of(4) + value.len().next_multiple_of(4);
    }
    if room > XATTR_ROOM {
        return refuse(format!("its extended attributes take {room} bytes, and {XATTR_ROOM} are the most"));
    }
    Ok(())
}
