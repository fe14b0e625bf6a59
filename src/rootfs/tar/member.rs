//! One member of an archive: what it is, where it lies, and how its headers are understood.

use std::borrow::Cow;
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
    pub(super) old_gnu_sparse: bool,
    /// A size that a link claims and no reader of today follows.
    pub(super) link_claims: u64,
}

/// Understands a member's block in the light of its extended headers.
pub(super) fn draft(block: &Block, extended: &mut Extended, limits: &Limits) -> Result<Draft, Fault> {
    let dialect = Dialect::of(block);
    let raw = raw_path(block, dialect, extended)?;
    let path = checked_path(&raw, "path", limits)?;
    let number = |field: std::ops::Range<usize>, what: &str| {
        let bytes = &block[field];
        block::number(bytes).ok_or_else(|| format!("the {what} `{}` is not a number", bytes.escape_ascii()))
    };
    let unsigned = |field, what: &str| {
        let value = number(field, what)?;
        u64::try_from(value).map_err(|_| format!("the {what} is negative ({value})"))
    };
    let of = |said: Option<u64>, field, what| said.map_or_else(|| unsigned(field, what), Ok);
    let claimed = of(extended.size, block::SIZE, "size")?;
    let typeflag = block[block::TYPEFLAG];
    let is_folder_name = raw.ends_with(b"/") || path.is_empty();
    let mut shape =
        Shape { kind: EntryKind::Directory, stored: 0, skipped: 0, canonical: claimed == 0, link_claims: 0 };
    match typeflag {
        b'0' | 0 | b'7' if is_folder_name => {
            // V7 had no directories but names with a slash behind. With content, readers disagree about what follows.
            if claimed != 0 {
                return Err(format!("a directory by its name, with {claimed} bytes of content").into());
            }
            shape.canonical = false;
        }
        // POSIX: type 7 is a regular file where nothing is contiguous; engines refuse it.
        b'0' | 0 | b'7' => shape.hold(EntryKind::File { size: claimed }, claimed, typeflag != b'7'),
        b'S' if dialect == Dialect::Gnu => shape.hold(EntryKind::File { size: claimed }, claimed, true),
        b'1' | b'2' => {
            let target = raw_link(block, extended);
            shape.canonical &= check_link(&target, typeflag, limits, &mut shape.kind)?;
            shape.link_claims = claimed;
        }
        b'3' | b'4' => {
            let id = |field, what| {
                let value = unsigned(field, what)?;
                u32::try_from(value).map_err(|_| format!("the {what} is out of range ({value})"))
            };
            let (major, minor) = (id(block::MAJOR, "major number")?, id(block::MINOR, "minor number")?);
            shape.kind = match typeflag {
                b'3' => EntryKind::CharDevice { major, minor },
                _ => EntryKind::BlockDevice { major, minor },
            };
        }
        // Content of these types is a hint at most (POSIX on type 5) and never follows for Go and Python.
        b'5' => {}
        b'6' => shape.kind = EntryKind::Fifo,
        b'D' => (shape.skipped, shape.canonical) = (claimed, false),
        other => return Err(unknown_type(other)),
    }
    let is_directory = shape.kind == EntryKind::Directory;
    if path.is_empty() && !is_directory {
        return Err(Fault::Wrong(Kind::Refused, "the root is not a directory here".to_owned()));
    }
    let name_is_plain = raw == path || (is_directory && is_path_with_slash(&raw, &path));
    let libarchive_only = !extended.libarchive.is_empty() && extended.xattrs.is_empty();
    let mtime = match extended.mtime {
        Some(mtime) => mtime,
        None => Timestamp { seconds: number(block::MTIME, "modification time")?, nanoseconds: 0 },
    };
    let verbatim = shape.canonical
        && name_is_plain
        && !libarchive_only
        && !extended.takes_away
        && extended.headers <= 1
        && !(extended.headers > 0 && (extended.gnu_path.is_some() || extended.gnu_link.is_some()));
    let mode = number(block::MODE, "mode")? & 0o7777;
    let entry = Entry {
        path,
        kind: shape.kind,
        mode: u32::try_from(mode).unwrap_or(0),
        uid: of(extended.uid, block::UID, "owner")?,
        gid: of(extended.gid, block::GID, "group")?,
        mtime,
        xattrs: extended.take_xattrs()?,
    };
    let (stored, skipped, link_claims) = (shape.stored, shape.skipped, shape.link_claims);
    Ok(Draft { entry, stored, skipped, verbatim, old_gnu_sparse: typeflag == b'S', link_claims })
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

impl Shape {
    fn hold(&mut self, kind: EntryKind, stored: u64, canonical: bool) {
        (self.kind, self.stored, self.canonical) = (kind, stored, canonical);
    }
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

/// Checks a link's target and says whether it is written in normal form. A symbolic link's is data.
fn check_link(target: &[u8], typeflag: u8, limits: &Limits, kind: &mut EntryKind) -> Result<bool, Fault> {
    if target.is_empty() {
        return Err("the link has no target".into());
    }
    if typeflag == b'2' {
        check_length(target, "link target", limits)?;
        if target.contains(&0) {
            return Err("the link target holds a NUL byte".into());
        }
        *kind = EntryKind::Symlink { target: target.to_vec() };
        return Ok(true);
    }
    let normal = checked_path(target, "hard link target", limits)?;
    if normal.is_empty() {
        return Err(Fault::Wrong(Kind::Refused, "a hard link to the root".to_owned()));
    }
    let is_normal = normal == target;
    *kind = EntryKind::Hardlink { target: normal };
    Ok(is_normal)
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
    raw.strip_suffix(b"/").is_some_and(|raw| raw == path || (path.is_empty() && raw == b"."))
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
