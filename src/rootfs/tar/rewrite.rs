//! New header blocks for a member of an archive with some fields changed and everything else as it was.

use std::collections::BTreeMap;

use crate::error::{Context as _, Error, Kind, Result};
use crate::rootfs::{Entry, EntryKind, ReadAt, Timestamp};

use super::block::{self, BLOCK, Block, Dialect, MAGIC_USTAR};
use super::encode::{put_link, put_number, put_path, put_sparse, put_sparse_name, put_time, put_xattrs, written_path};
use super::member::{Member, TextAcls};
use super::pax::{ACL_ACCESS, ACL_DEFAULT, LIBARCHIVE_XATTR, Records, XATTR};
use super::sparse::SparseMap;

/// What is to be different; what is none stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Another path, normalised.
    pub path: Option<Vec<u8>>,
    /// Another link target: of a symbolic link byte for byte, of a hard link normalised.
    pub link: Option<Vec<u8>>,
    /// Other permission bits.
    pub mode: Option<u32>,
    /// Another owner.
    pub uid: Option<u64>,
    /// Another group.
    pub gid: Option<u64>,
    /// Another modification time.
    pub mtime: Option<Timestamp>,
    /// All xattrs there are to be.
    pub xattrs: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// All ACLs as text there are to be.
    pub text_acls: Option<TextAcls>,
    /// A sparse file becomes a plain one: its logical bytes ([`super::content`]) are to follow instead of the stored
    /// ones.
    pub expand: bool,
}

impl Change {
    /// What turns `from` into `into`; none when they differ in more than a link's target, a path and metadata.
    pub fn between(from: &Entry, into: &Entry) -> Option<Self> {
        let link = match (&from.kind, &into.kind) {
            (EntryKind::Symlink { target: old }, EntryKind::Symlink { target: new })
            | (EntryKind::Hardlink { target: old }, EntryKind::Hardlink { target: new }) => {
                (old != new).then(|| new.clone())
            }
            (old, new) if old == new => None,
            _ => return None,
        };
        Some(Self {
            path: (from.path != into.path).then(|| into.path.clone()),
            link,
            mode: (from.mode != into.mode).then_some(into.mode),
            uid: (from.uid != into.uid).then_some(into.uid),
            gid: (from.gid != into.gid).then_some(into.gid),
            mtime: (from.mtime != into.mtime).then_some(into.mtime),
            xattrs: (from.xattrs != into.xattrs).then(|| into.xattrs.clone()),
            text_acls: None,
            expand: false,
        })
    }
}

/// The header blocks of `member` of `source` with this change, to stand before its stored bytes (`span.data`,
/// `span.stored`), which are copied as they are.
///
/// Its own block stays, patched, with its dialect; one extended header before it holds all records it had, from global
/// headers too, and the new ones. What has one meaning to some readers and another to others (a `./`, GNU's long names,
/// a link with a size) comes out in the one form all understand; an old GNU sparse file in PAX form 1.0, whose map is
/// then at the end of what is returned.
pub fn rewrite(source: &dyn ReadAt, member: &Member, change: &Change) -> Result<Vec<u8>> {
    let headers = read_headers(source, member)?;
    let at = index(member.span.block - member.span.header)?;
    let (before, rest) = headers.split_at_checked(at).ok_or_else(|| changed(member))?;
    let mut block = *rest.first_chunk::<BLOCK>().ok_or_else(|| changed(member))?;
    let mut records = own_records(before, member)?;
    let entry = wanted(member, change);
    let map = match &member.sparse {
        Some(sparse) if change.expand => {
            into_plain(&mut block, sparse, &mut records);
            None
        }
        Some(sparse) if block[block::TYPEFLAG] == b'S' => {
            Some(into_pax_sparse(&mut block, sparse, &entry, &mut records))
        }
        _ => None,
    };
    patch_block(&mut block, &mut records, member, &entry, change);
    patch_records(&mut records, &entry, change);
    block::seal(&mut block);
    let mut out = Vec::with_capacity(headers.len() + BLOCK);
    records.write_header(&entry.path, &mut out);
    out.extend_from_slice(&block);
    out.extend(map.into_iter().flatten());
    Ok(out)
}

/// Makes a sparse file of any form one without holes.
fn into_plain(block: &mut Block, sparse: &SparseMap, records: &mut Records) {
    if block[block::TYPEFLAG] == b'S' {
        block[block::TYPEFLAG] = b'0';
        block[block::MAGIC].copy_from_slice(MAGIC_USTAR);
        block[block::PREFIX.start..].fill(0);
    }
    records.remove_sparse();
    put_number(block, block::SIZE, "size", sparse.real_size(), records);
}

/// Makes an old GNU sparse file one of PAX form 1.0; the map that is to stand before its stored parts.
fn into_pax_sparse(block: &mut Block, sparse: &SparseMap, entry: &Entry, records: &mut Records) -> Vec<u8> {
    let sparse = sparse.in_content();
    block[block::TYPEFLAG] = b'0';
    block[block::MAGIC].copy_from_slice(MAGIC_USTAR);
    block[block::PREFIX.start..].fill(0);
    put_number(block, block::SIZE, "size", sparse.stored(), records);
    put_sparse(block, &sparse, &written_path(entry), records);
    sparse.text()
}

/// Everything of the member before its content.
fn read_headers(source: &dyn ReadAt, member: &Member) -> Result<Vec<u8>> {
    if member.span.data > source.size()
        || member.span.header > member.span.block
        || member.span.block > member.span.data
    {
        return Err(changed(member));
    }
    let mut headers = vec![0; index(member.span.data - member.span.header)?];
    source
        .read_exact_at(&mut headers, member.span.header)
        .context(|| format!("cannot read the headers at offset {} of the archive", member.span.header))?;
    Ok(headers)
}

fn index(offset: u64) -> Result<usize> {
    usize::try_from(offset).map_err(|error| Error::new(Kind::Limit, "headers beyond memory").caused_by(error))
}

/// The scan found these headers whole.
fn changed(member: &Member) -> Error {
    let message = format!("the headers at offset {} of the archive are not what they were", member.span.header);
    Error::new(Kind::Conflict, message).hint("the archive was changed while it was read; try again")
}

/// The records of all extended headers in front of the member's block, and the global ones before them.
fn own_records(mut before: &[u8], member: &Member) -> Result<Records> {
    let mut records = member.globals.as_deref().cloned().unwrap_or_default();
    while !before.is_empty() {
        let (header, rest) = before.split_first_chunk::<BLOCK>().ok_or_else(|| changed(member))?;
        let size = block::number(&header[block::SIZE]).and_then(|size| usize::try_from(size).ok());
        let size = size.filter(|size| *size <= rest.len()).ok_or_else(|| changed(member))?;
        if header[block::TYPEFLAG] == b'x' {
            records.apply_all(&rest[..size]).map_err(|_| changed(member))?;
        }
        before = rest.get(size.next_multiple_of(BLOCK)..).ok_or_else(|| changed(member))?;
    }
    Ok(records)
}

fn wanted(member: &Member, change: &Change) -> Entry {
    let mut entry = member.entry.clone();
    if let Some(path) = &change.path {
        entry.path = path.clone();
    }
    if let (EntryKind::Symlink { target } | EntryKind::Hardlink { target }, Some(link)) =
        (&mut entry.kind, &change.link)
    {
        target.clone_from(link);
    }
    if let Some(xattrs) = &change.xattrs {
        entry.xattrs.clone_from(xattrs);
    }
    entry
}

fn patch_block(block: &mut Block, records: &mut Records, member: &Member, entry: &Entry, change: &Change) {
    let dialect = Dialect::of(block);
    if records.has(b"GNU.sparse.name") {
        put_sparse_name(block, &written_path(entry), records);
    } else {
        put_path(block, dialect, &written_path(entry), records);
    }
    if let EntryKind::Symlink { target } | EntryKind::Hardlink { target } = &entry.kind {
        put_link(block, target, records);
    }
    if let Some(mode) = change.mode {
        let _ = block::set_octal(&mut block[block::MODE], u64::from(mode & 0o7777));
    }
    if let Some(uid) = change.uid {
        put_number(block, block::UID, "uid", uid, records);
    }
    if let Some(gid) = change.gid {
        put_number(block, block::GID, "gid", gid, records);
    }
    if let Some(mtime) = change.mtime {
        put_time(block, mtime, records);
    }
    if matches!(member.entry.kind, EntryKind::File { .. }) {
        if block[block::TYPEFLAG] == b'7' {
            block[block::TYPEFLAG] = b'0';
        }
    } else {
        put_number(block, block::SIZE, "size", 0, records);
    }
    if entry.kind == EntryKind::Directory {
        block[block::TYPEFLAG] = b'5';
    }
}

fn patch_records(records: &mut Records, entry: &Entry, change: &Change) {
    records.retain(|key| !key.starts_with(XATTR) && !key.starts_with(LIBARCHIVE_XATTR));
    put_xattrs(entry, records);
    if let Some(text_acls) = &change.text_acls {
        for (key, value) in [(ACL_ACCESS, &text_acls.access), (ACL_DEFAULT, &text_acls.default)] {
            records.remove(key);
            if let Some(value) = value {
                records.set(key, value.as_slice());
            }
        }
    }
}
