//! One member of an archive: what it is, where it lies, and how its headers are understood.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::error::Kind;
use crate::rootfs::{Entry, EntryKind, Limits, Timestamp, normal_path};

use super::block::{self, BLOCK64, Block, Dialect};
use super::extended::Extended;
use super::pax::Records;
use super::sparse::SparseMap;
use super::{Fault, shown};

/// Where a member lies in its archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first extended header, or its block where it has none.
    pub header: u64,
    /// Its own header block.
    pub block: u64,
    /// Its content.
    pub data: u64,
    /// How many bytes of content are stored, without padding; with sparse form 1.0 the map is among them.
    pub stored: u64,
}

impl Span {
    /// Where the next member begins: behind the content and its padding.
    pub fn end(&self) -> u64 {
        // The scanner found the end of this member inside the input before it made the span.
        self.data + self.stored + block::content_padding(self.stored)
    }
}

/// ACLs as text, the way GNU tar and libarchive write them; nothing unpacks these but such programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextAcls {
    /// `SCHILY.acl.access`.
    pub access: Option<Vec<u8>>,
    /// `SCHILY.acl.default`.
    pub default: Option<Vec<u8>>,
}

/// A member of an archive.
#[derive(Clone, Debug)]
pub struct Member {
    /// What it is.
    pub entry: Entry,
    /// Where it lies.
    pub span: Span,
    /// Whether its bytes, from `span.header` to `span.end()`, may be copied as they are: alone they mean to every
    /// reader what they mean here, and its path and link target are written in normal form.
    pub verbatim: bool,
    /// Which parts of a sparse file are stored.
    pub sparse: Option<SparseMap>,
    /// Whether its name is written with a `/` before it, which the path does not have.
    pub absolute: bool,
    /// The ACLs it carries as text.
    pub text_acls: Option<TextAcls>,
    /// The global records in force, which are not in the span.
    pub(super) globals: Option<Arc<Records>>,
}

/// How a member is understood before its content is looked at.
pub(super) struct Draft {
    pub(super) entry: Entry,
    /// What the header says of bytes behind it.
    pub(super) stored: u64,
    /// Bytes that follow but are no content of the entry (a GNU dump's list of names).
    pub(super) skipped: u64,
    pub(super) verbatim: bool,
    pub(super) absolute: bool,
    pub(super) old_gnu_sparse: bool,
    /// A size that a link claims and no reader of today follows.
    pub(super) link_claims: u64,
}

/// Understands a member's block in the light of its extended headers.
pub(super) fn draft(block: &Block, extended: &mut Extended, limits: &Limits) -> Result<Draft, Fault> {
    let raw = raw_path(block, Dialect::of(block), extended)?;
    let path = checked_path(&raw, "path", limits)?;
    let shape = shape(block, extended, &raw, limits)?;
    let is_directory = shape.kind == EntryKind::Directory;
    if path.is_empty() && !is_directory {
        return Err(Fault::Wrong(Kind::Refused, "the root is not a directory here".to_owned()));
    }
    let absolute = raw.starts_with(b"/");
    let name_is_plain = raw == path || (is_directory && is_path_with_slash(&raw, &path));
    let verbatim = shape.canonical && name_is_plain && extended.is_plain();
    let mtime = match extended.mtime {
        Some(mtime) => mtime,
        None => Timestamp { seconds: number(block, block::MTIME, "modification time")?, nanoseconds: 0 },
    };
    let (xattrs, only_libarchive) = extended.take_xattrs()?;
    let mode = number(block, block::MODE, "mode")? & 0o7777;
    let entry = Entry {
        path,
        kind: shape.kind,
        mode: u32::try_from(mode).unwrap_or(0),
        uid: said_or(extended.uid, block, block::UID, "owner")?,
        gid: said_or(extended.gid, block, block::GID, "group")?,
        mtime,
        xattrs,
    };
    let old_gnu_sparse = block[block::TYPEFLAG] == b'S';
    Ok(Draft {
        entry,
        stored: shape.stored,
        skipped: shape.skipped,
        verbatim: verbatim && !only_libarchive,
        absolute,
        old_gnu_sparse,
        link_claims: shape.link_claims,
    })
}

/// What a typeflag makes of a member.
struct Shape {
    kind: EntryKind,
    stored: u64,
    skipped: u64,
    /// Whether every reader takes the block the way it is taken here.
    canonical: bool,
    link_claims: u64,
}

fn shape(block: &Block, extended: &Extended, raw: &[u8], limits: &Limits) -> Result<Shape, Fault> {
    let claimed = said_or(extended.size, block, block::SIZE, "size")?;
    // Without content, a size is at most a hint (POSIX on type 5); Go and Python let nothing follow such a block.
    let bare = |kind| Shape { kind, stored: 0, skipped: 0, canonical: claimed == 0, link_claims: 0 };
    let file = |canonical| Shape { stored: claimed, canonical, ..bare(EntryKind::File { size: claimed }) };
    let device = |field, what| {
        let value = unsigned(block, field, what)?;
        u32::try_from(value).map_err(|_| format!("the {what} is out of range ({value})"))
    };
    Ok(match block[block::TYPEFLAG] {
        // V7 had no directories but names with a slash behind. With content, readers disagree about what follows.
        b'0' | 0 | b'7' if raw.ends_with(b"/") && claimed != 0 => {
            return Err(format!("a directory by its name, with {claimed} bytes of content").into());
        }
        b'0' | 0 | b'7' if raw.ends_with(b"/") => Shape { canonical: false, ..bare(EntryKind::Directory) },
        b'0' | 0 => file(true),
        // POSIX: a regular file where nothing is contiguous; Docker's unpacker refuses the type.
        b'7' => file(false),
        // Docker's unpacker knows sparse files in PAX form only: `unhandled tar header type 83`.
        b'S' if Dialect::of(block) == Dialect::Gnu => file(false),
        b'1' => {
            // POSIX pax lets the content of a link follow (`-o linkdata`); Go, GNU tar and Python never look for it,
            // and what engines unpack is what counts: the size is ignored, and rewriting sets it to 0.
            let (target, is_normal) = hard_link_target(&raw_link(block, extended), limits)?;
            let shape = bare(EntryKind::Hardlink { target });
            Shape { canonical: shape.canonical && is_normal, link_claims: claimed, ..shape }
        }
        b'2' => bare(EntryKind::Symlink { target: symlink_target(&raw_link(block, extended), limits)? }),
        b'3' => bare(EntryKind::CharDevice {
            major: device(block::MAJOR, "major number")?,
            minor: device(block::MINOR, "minor number")?,
        }),
        b'4' => bare(EntryKind::BlockDevice {
            major: device(block::MAJOR, "major number")?,
            minor: device(block::MINOR, "minor number")?,
        }),
        b'5' => bare(EntryKind::Directory),
        b'6' => bare(EntryKind::Fifo),
        // GNU's incremental backups: the names in the directory follow.
        b'D' => Shape { skipped: claimed, canonical: false, ..bare(EntryKind::Directory) },
        other => return Err(unknown_type(other)),
    })
}

fn number(block: &Block, field: Range<usize>, what: &str) -> Result<i64, String> {
    let bytes = &block[field];
    block::number(bytes).ok_or_else(|| format!("the {what} `{}` is not a number", bytes.escape_ascii()))
}

fn unsigned(block: &Block, field: Range<usize>, what: &str) -> Result<u64, String> {
    let value = number(block, field, what)?;
    u64::try_from(value).map_err(|_| format!("the {what} is negative ({value})"))
}

/// What a record says, else the block.
fn said_or(said: Option<u64>, block: &Block, field: Range<usize>, what: &str) -> Result<u64, String> {
    said.map_or_else(|| unsigned(block, field, what), Ok)
}

/// The name as it is written; a dialect's prefix, PAX, GNU and sparse names override each other in this order, as they
/// do in Go's reader.
fn raw_path<'a>(block: &'a Block, dialect: Dialect, extended: &'a Extended) -> Result<Cow<'a, [u8]>, Fault> {
    let said = extended.sparse.name.as_ref().or(extended.gnu_path.as_ref()).or(extended.path.as_ref());
    if let Some(path) = said {
        return Ok(Cow::Borrowed(path));
    }
    let name = block::text(&block[block::NAME]);
    let prefix = dialect.prefix().map(|range| block::text(&block[range])).unwrap_or_default();
    if prefix.is_empty() {
        if name.is_empty() {
            return Err("the name is empty".into());
        }
        return Ok(Cow::Borrowed(name));
    }
    Ok(Cow::Owned([prefix, b"/", name].concat()))
}

fn raw_link<'a>(block: &'a Block, extended: &'a Extended) -> Cow<'a, [u8]> {
    match extended.gnu_link.as_ref().or(extended.link.as_ref()) {
        Some(link) => Cow::Borrowed(link),
        None => Cow::Borrowed(block::text(&block[block::LINK])),
    }
}

/// A symbolic link's target is data: nothing about it is changed or refused that a kernel could hold.
fn symlink_target(raw: &[u8], limits: &Limits) -> Result<Vec<u8>, Fault> {
    check_length(raw, "link target", limits)?;
    if raw.is_empty() || raw.contains(&0) {
        return Err(format!("the link target `{}` is empty or holds a NUL byte", shown(raw)).into());
    }
    Ok(raw.to_vec())
}

/// A hard link's target is a path in the archive; also whether it is written in normal form.
fn hard_link_target(raw: &[u8], limits: &Limits) -> Result<(Vec<u8>, bool), Fault> {
    let target = checked_path(raw, "hard link target", limits)?;
    if target.is_empty() {
        return Err(Fault::Wrong(Kind::Refused, format!("a hard link to the root (`{}`)", shown(raw))));
    }
    let is_normal = target == raw;
    Ok((target, is_normal))
}

fn checked_path(raw: &[u8], what: &str, limits: &Limits) -> Result<Vec<u8>, Fault> {
    check_length(raw, what, limits)?;
    normal_path(raw).ok_or_else(|| {
        let shown = shown(raw);
        if raw.contains(&0) {
            Fault::Wrong(Kind::Corrupt, format!("the {what} `{shown}` holds a NUL byte"))
        } else {
            Fault::Wrong(Kind::Refused, format!("the {what} `{shown}` has a `..` component"))
        }
    })
}

fn check_length(raw: &[u8], what: &str, limits: &Limits) -> Result<(), Fault> {
    if raw.len() > limits.path_bytes {
        let problem = format!("a {what} of {} bytes, where {} are allowed", raw.len(), limits.path_bytes);
        return Err(Fault::Wrong(Kind::Limit, problem));
    }
    Ok(())
}

fn is_path_with_slash(raw: &[u8], path: &[u8]) -> bool {
    let path = if path.is_empty() { b"." } else { path };
    raw.strip_suffix(b"/") == Some(path)
}

fn unknown_type(typeflag: u8) -> Fault {
    let what = match typeflag {
        b'M' => "a part of a file continued from another volume",
        b'N' => "a list of long names as GNU tar wrote until 1993",
        b'S' => "a sparse file outside a GNU archive",
        _ => "a member of an unknown type",
    };
    Fault::Wrong(Kind::Unsupported, format!("{what} (type `{}`)", [typeflag].escape_ascii()))
}

impl Draft {
    /// How many bytes stand behind the header blocks, padding included; none when that is more than can be counted.
    pub(super) fn follow(&self) -> Option<u64> {
        let bytes = self.stored.checked_add(self.skipped)?;
        bytes.checked_next_multiple_of(BLOCK64)
    }
}
