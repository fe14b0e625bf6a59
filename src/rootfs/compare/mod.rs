//! Two trees side by side: every difference, in words.
//!
//! Both come in path order (by the bytes of the components, a directory before what is in it), so that neither has to
//! fit into memory; only the names of hard-linked inodes are kept. Contents are compared byte for byte and hashed only
//! where they differ. ACLs are compared entry by entry; guards against inheritance say nothing and are not compared.

mod difference;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;
use std::sync::Arc;

use sha2::Digest as _;

use crate::error::{Error, Kind, Result, from_io};
use crate::progress::{Progress, Unit};
use crate::rootfs::acl::{Acl, AclEntry, EMPTY_DEFAULT};
use crate::rootfs::entry::{Entry, EntryKind, Timestamp, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, shown};
use crate::rootfs::flatten::Flat;
use crate::rootfs::{ReadAt, tar};
use crate::vocab::Digest;

pub use difference::{Aspect, Comparison, Difference};

/// Opens a file's content, as often as it is needed.
pub type Opener<'a> = Box<dyn Fn() -> Box<dyn Read + 'a> + 'a>;

/// One path of a tree that is compared.
pub struct Compared<'a> {
    /// What is there; never a hard link: every name of an inode says what the inode is.
    pub entry: Entry,
    /// For an inode with several names something that is the same for all of them and no other: its first name.
    pub group: Option<Vec<u8>>,
    /// The content of a file.
    pub content: Option<Opener<'a>>,
}

impl fmt::Debug for Compared<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Compared")
            .field("entry", &self.entry)
            .field("group", &self.group)
            .finish_non_exhaustive()
    }
}

/// The merged tree of layers, to be compared.
pub fn merged<'a>(flat: &'a Flat, layers: &'a [Arc<dyn ReadAt>]) -> impl Iterator<Item = Result<Compared<'a>>> + 'a {
    flat.entries(layers).map(move |item| {
        let item = item?;
        let content = item.content.map(|content| -> Opener<'a> {
            Box::new(move || Box::new(tar::content(&*layers[content.layer], &content.member)))
        });
        Ok(Compared { entry: item.entry, group: item.group, content })
    })
}

/// What is not compared.
#[derive(Clone, Debug, Default)]
pub struct CompareOptions {
    /// Paths that are passed over with all their metadata; what is below them is compared.
    pub ignore: BTreeSet<Vec<u8>>,
    /// Paths whose time of modification may differ.
    pub ignore_mtime: BTreeSet<Vec<u8>>,
}

/// Compares two trees whose entries come in path order.
pub fn compare<'l, 'r>(
    left: impl Iterator<Item = Result<Compared<'l>>>,
    right: impl Iterator<Item = Result<Compared<'r>>>,
    options: &CompareOptions,
    progress: &Progress,
) -> Result<Comparison> {
    let mut stage = progress.stage("comparing", None, Unit::Items);
    let (mut left, mut right) = (Side::new(left, "left")?, Side::new(right, "right")?);
    let mut found = Comparison::default();
    let mut groups = Groups::default();
    loop {
        let order = match (&left.next, &right.next) {
            (None, None) => break,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(left), Some(right)) => order(&left.entry.path, &right.entry.path),
        };
        let one = if order.is_le() { left.take()? } else { None };
        let other = if order.is_ge() { right.take()? } else { None };
        found.entries += 1;
        stage.advance(1);
        match (one, other) {
            (Some(one), Some(other)) if !options.ignore.contains(&one.entry.path) => {
                both(&one, &other, options, &mut groups, &mut found)?;
            }
            (Some(one), None) if !options.ignore.contains(&one.entry.path) => {
                found.add(&one.entry.path, Aspect::Presence, Some(kind_of(&one.entry.kind).to_owned()), None);
            }
            (None, Some(other)) if !options.ignore.contains(&other.entry.path) => {
                found.add(&other.entry.path, Aspect::Presence, None, Some(kind_of(&other.entry.kind).to_owned()));
            }
            _ => {}
        }
    }
    groups.compare(&mut found);
    Ok(found)
}

/// Path order: by the bytes of the components, so that `a/b` comes before `a-`.
fn order(left: &[u8], right: &[u8]) -> std::cmp::Ordering {
    let components = |path| <[u8]>::split(path, |byte: &u8| *byte == b'/');
    components(left).cmp(components(right))
}

/// One of the two streams, one entry ahead.
struct Side<I, T> {
    stream: I,
    next: Option<T>,
    name: &'static str,
}

impl<'a, I: Iterator<Item = Result<Compared<'a>>>> Side<I, Compared<'a>> {
    fn new(mut stream: I, name: &'static str) -> Result<Self> {
        let next = stream.next().transpose()?;
        Ok(Self { stream, next, name })
    }

    fn take(&mut self) -> Result<Option<Compared<'a>>> {
        let next = self.stream.next().transpose()?;
        let taken = std::mem::replace(&mut self.next, next);
        if let (Some(before), Some(after)) = (&taken, &self.next)
            && order(&before.entry.path, &after.entry.path).is_ge()
        {
            let (name, path) = (self.name, shown(&after.entry.path));
            return Err(Error::new(Kind::Failed, format!("the tree on the {name} is not in path order at `{path}`")));
        }
        Ok(taken)
    }
}

/// The names of inodes that have several, of paths that are on both sides.
#[derive(Default)]
struct Groups {
    left: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    right: BTreeMap<Vec<u8>, BTreeSet<Vec<u8>>>,
    /// Pairs of inodes whose contents were compared.
    compared: BTreeSet<(Vec<u8>, Vec<u8>)>,
}

impl Groups {
    fn note(&mut self, left: &Compared<'_>, right: &Compared<'_>) {
        let path = &left.entry.path;
        for (groups, group) in [(&mut self.left, &left.group), (&mut self.right, &right.group)] {
            if let Some(group) = group {
                groups.entry(group.clone()).or_default().insert(path.clone());
            }
        }
    }

    /// Whether the contents of these two were compared under other names.
    fn compared(&mut self, left: &Compared<'_>, right: &Compared<'_>) -> bool {
        match (&left.group, &right.group) {
            (Some(left), Some(right)) => !self.compared.insert((left.clone(), right.clone())),
            _ => false,
        }
    }

    fn compare(self, found: &mut Comparison) {
        let sets = |groups: BTreeMap<_, BTreeSet<Vec<u8>>>| -> BTreeSet<BTreeSet<Vec<u8>>> {
            groups.into_values().filter(|names| names.len() > 1).collect()
        };
        let (left, right) = (sets(self.left), sets(self.right));
        let say = |names: &BTreeSet<Vec<u8>>| {
            format!("{{{}}}", names.iter().map(|name| shown(name)).collect::<Vec<_>>().join(", "))
        };
        // A group is told once: beside the one on the other side that shares its first name, if there is one.
        let mut told = BTreeSet::new();
        for names in left.difference(&right) {
            let Some(first) = names.first() else { continue };
            let other = right.iter().find(|other| other.contains(first));
            told.extend(other);
            found.add(first, Aspect::Names, Some(say(names)), other.map(say));
        }
        for names in right.difference(&left).filter(|names| !told.contains(*names)) {
            if let Some(first) = names.first() {
                found.add(first, Aspect::Names, None, Some(say(names)));
            }
        }
    }
}

fn both(
    left: &Compared<'_>,
    right: &Compared<'_>,
    options: &CompareOptions,
    groups: &mut Groups,
    found: &mut Comparison,
) -> Result<()> {
    groups.note(left, right);
    let (one, other) = (&left.entry, &right.entry);
    let path = &one.path;
    if kind_of(&one.kind) != kind_of(&other.kind) {
        found.check(path, Aspect::Type, &kind_of(&one.kind), &kind_of(&other.kind), |kind| (*kind).to_owned());
        return Ok(());
    }
    // A symbolic link's mode means nothing to Linux.
    if !matches!(one.kind, EntryKind::Symlink { .. }) {
        found.check(path, Aspect::Mode, &one.mode, &other.mode, |mode| format!("{mode:04o}"));
    }
    found.check(path, Aspect::Uid, &one.uid, &other.uid, u64::to_string);
    found.check(path, Aspect::Gid, &one.gid, &other.gid, u64::to_string);
    if !options.ignore_mtime.contains(path) {
        found.check(path, Aspect::Mtime, &one.mtime, &other.mtime, time);
    }
    acls(one, other, found);
    xattrs(one, other, found);
    let device = |numbers: &(u32, u32)| format!("{}:{}", numbers.0, numbers.1);
    match (&one.kind, &other.kind) {
        (EntryKind::File { size: one }, EntryKind::File { size: other }) if one != other => {
            found.check(path, Aspect::Size, one, other, u64::to_string);
        }
        (EntryKind::File { .. }, EntryKind::File { .. }) if !groups.compared(left, right) => {
            contents(left, right, found)?;
        }
        (EntryKind::Symlink { target: one }, EntryKind::Symlink { target: other }) => {
            found.check(path, Aspect::Target, one, other, |target| shown(target));
        }
        (EntryKind::CharDevice { major, minor }, EntryKind::CharDevice { major: other, minor: of_other })
        | (EntryKind::BlockDevice { major, minor }, EntryKind::BlockDevice { major: other, minor: of_other }) => {
            found.check(path, Aspect::Device, &(*major, *minor), &(*other, *of_other), device);
        }
        _ => {}
    }
    Ok(())
}

fn kind_of(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File { .. } => "file",
        EntryKind::Directory => "directory",
        EntryKind::Symlink { .. } => "symbolic link",
        EntryKind::Hardlink { .. } => "hard link",
        EntryKind::CharDevice { .. } => "character device",
        EntryKind::BlockDevice { .. } => "block device",
        EntryKind::Fifo => "named pipe",
    }
}

/// Seconds since 1970 with nine digits behind the point, as `find -printf %T@` and `stat -c %.9Y` write them.
fn time(time: &Timestamp) -> String {
    let Timestamp { seconds, nanoseconds } = *time;
    if seconds < 0 && nanoseconds > 0 {
        // -1 s and 750 ms forward are -0.25.
        let sign = if seconds == -1 { "-0".to_owned() } else { (seconds + 1).to_string() };
        return format!("{sign}.{:09}", 1_000_000_000 - nanoseconds);
    }
    format!("{seconds}.{nanoseconds:09}")
}

/// The ACL an xattr holds; none where it says no more than there being none.
fn acl_of(entry: &Entry, name: &[u8]) -> Result<Option<Acl>, ()> {
    match entry.xattrs.get(name) {
        None => Ok(None),
        Some(value) if *value == EMPTY_DEFAULT => Ok(None),
        Some(value) => {
            let acl = Acl::from_xattr(value).map_err(|_| ())?;
            Ok((name != XATTR_ACL_ACCESS || !acl.is_minimal()).then_some(acl))
        }
    }
}

fn acls(left: &Entry, right: &Entry, found: &mut Comparison) {
    for (name, aspect) in [(XATTR_ACL_ACCESS, Aspect::AccessAcl), (XATTR_ACL_DEFAULT, Aspect::DefaultAcl)] {
        let (Ok(one), Ok(other)) = (acl_of(left, name), acl_of(right, name)) else {
            // One is no ACL at all: compare the bytes.
            let of = |entry: &Entry| entry.xattrs.get(name).map(|value| bytes(value));
            if left.xattrs.get(name) != right.xattrs.get(name) {
                found.add(&left.path, Aspect::Xattr(name.to_vec()), of(left), of(right));
            }
            continue;
        };
        if one == other {
            continue;
        }
        // Without an access ACL the mode is one.
        let list = |acl: Option<Acl>, entry: &Entry| match acl {
            Some(acl) => acl.entries().to_vec(),
            None if name == XATTR_ACL_ACCESS => Acl::from_mode(entry.mode).entries().to_vec(),
            None => Vec::new(),
        };
        let (one, other) = (list(one, left), list(other, right));
        let tags: BTreeSet<_> = one.iter().chain(&other).map(|entry| entry.tag).collect();
        for tag in tags {
            let of = |list: &[AclEntry]| list.iter().find(|entry| entry.tag == tag).map(line);
            let (one, other) = (of(&one), of(&other));
            if one != other {
                found.add(&left.path, aspect.clone(), one, other);
            }
        }
    }
}

/// An entry of an ACL as getfacl writes it.
fn line(entry: &AclEntry) -> String {
    let letter = |bit: u8, letter| if entry.permissions & bit == 0 { '-' } else { letter };
    format!("{}:{}{}{}", entry.tag, letter(4, 'r'), letter(2, 'w'), letter(1, 'x'))
}

fn xattrs(left: &Entry, right: &Entry, found: &mut Comparison) {
    let names: BTreeSet<&Vec<u8>> = left.xattrs.keys().chain(right.xattrs.keys()).collect();
    for name in names.into_iter().filter(|name| ![XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT].contains(&name.as_slice())) {
        let (one, other) = (left.xattrs.get(name), right.xattrs.get(name));
        if one != other {
            let say = |value: Option<&Vec<u8>>| value.map(|value| bytes(value));
            found.add(&left.path, Aspect::Xattr(name.clone()), say(one), say(other));
        }
    }
}

/// A value in quotes, what is not printable ASCII escaped, cut where it is long.
fn bytes(value: &[u8]) -> String {
    let head = &value[..value.len().min(64)];
    let rest = if value.len() > head.len() { format!("… ({} bytes)", value.len()) } else { String::new() };
    format!("\"{}\"{rest}", head.escape_ascii())
}

fn contents(left: &Compared<'_>, right: &Compared<'_>, found: &mut Comparison) -> Result<()> {
    let (Some(one), Some(other)) = (&left.content, &right.content) else {
        return Err(Error::new(Kind::Failed, format!("`{}` has no content to compare", shown(&left.entry.path))));
    };
    let path = &left.entry.path;
    let wrong = |error| from_io(error, || format!("cannot read the content of `{}`", shown(path)));
    if !same_bytes(&mut one(), &mut other()).map_err(wrong)? {
        let digest = |open: &Opener<'_>| digest(&mut open()).map(|digest| digest.to_string()).map_err(wrong);
        found.add(path, Aspect::Content, Some(digest(one)?), Some(digest(other)?));
    }
    Ok(())
}

const CHUNK: usize = 128 * 1024;

fn same_bytes(left: &mut dyn Read, right: &mut dyn Read) -> std::io::Result<bool> {
    let (mut one, mut other) = (Vec::with_capacity(CHUNK), Vec::with_capacity(CHUNK));
    loop {
        one.clear();
        other.clear();
        left.take(CHUNK as u64).read_to_end(&mut one)?;
        right.take(CHUNK as u64).read_to_end(&mut other)?;
        if one != other {
            return Ok(false);
        }
        if one.is_empty() {
            return Ok(true);
        }
    }
}

fn digest(stream: &mut dyn Read) -> std::io::Result<Digest> {
    let mut state = sha2::Sha256::new();
    let mut chunk = Vec::with_capacity(CHUNK);
    loop {
        chunk.clear();
        if stream.take(CHUNK as u64).read_to_end(&mut chunk)? == 0 {
            return Ok(Digest::from_bytes(state.finalize().into()));
        }
        state.update(&chunk);
    }
}
