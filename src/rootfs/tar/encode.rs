//! Header blocks of new members: ustar, and PAX records for what ustar cannot say.

use crate::rootfs::acl::Acl;
use crate::rootfs::{Entry, EntryKind, Timestamp, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};

use super::block::{self, BLOCK, Block, Dialect};
use super::pax::{self, ACL_ACCESS, ACL_DEFAULT, Records};
use super::sparse::SparseMap;

/// The header blocks of a new member, the same for the same entry always. With `sparse`, the stored parts follow in
/// PAX form 1.0: its map is at the end of what is returned and counts as content, as [`SparseMap::stored`] says.
/// With `text_acls`, ACLs are written as text besides, for those who unpack with GNU tar.
pub fn encode(entry: &Entry, sparse: Option<&SparseMap>, text_acls: bool) -> Vec<u8> {
    let mut block = [0; BLOCK];
    let mut records = Records::default();
    block[block::MAGIC].copy_from_slice(block::MAGIC_USTAR);
    let stored = match (&entry.kind, sparse) {
        (EntryKind::File { .. }, Some(sparse)) => {
            put_sparse(&mut block, sparse, &written_path(entry), &mut records);
            sparse.stored()
        }
        (kind, _) => {
            put_path(&mut block, Dialect::Ustar, &written_path(entry), &mut records);
            if let EntryKind::File { size } = kind { *size } else { 0 }
        }
    };
    let mut device = (0, 0);
    block[block::TYPEFLAG] = match &entry.kind {
        EntryKind::File { .. } => b'0',
        EntryKind::Hardlink { target } => {
            put_link(&mut block, target, &mut records);
            b'1'
        }
        EntryKind::Symlink { target } => {
            put_link(&mut block, target, &mut records);
            b'2'
        }
        EntryKind::CharDevice { major, minor } => {
            device = (*major, *minor);
            b'3'
        }
        EntryKind::BlockDevice { major, minor } => {
            device = (*major, *minor);
            b'4'
        }
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
    };
    let _ = block::set_octal(&mut block[block::MODE], u64::from(entry.mode & 0o7777));
    put_number(&mut block, block::UID, "uid", entry.uid, &mut records);
    put_number(&mut block, block::GID, "gid", entry.gid, &mut records);
    put_number(&mut block, block::SIZE, "size", stored, &mut records);
    put_time(&mut block, entry.mtime, &mut records);
    put_device(&mut block[block::MAJOR], device.0);
    put_device(&mut block[block::MINOR], device.1);
    put_xattrs(entry, &mut records);
    if text_acls {
        put_text_acls(entry, &mut records);
    }
    block::seal(&mut block);
    let mut out = Vec::with_capacity(BLOCK);
    records.write_header(&entry.path, &mut out);
    out.extend_from_slice(&block);
    if let (EntryKind::File { .. }, Some(sparse)) = (&entry.kind, sparse) {
        out.extend_from_slice(&sparse.text());
    }
    out
}

/// A path as it is written: the root is `./`, and a directory's ends with a slash.
pub(super) fn written_path(entry: &Entry) -> Vec<u8> {
    let mut path = if entry.path.is_empty() { b".".to_vec() } else { entry.path.clone() };
    if entry.kind == EntryKind::Directory {
        path.push(b'/');
    }
    path
}

/// Puts a path in the block, or in a record when it is too long or not plain ASCII, which readers disagree about.
pub(super) fn put_path(block: &mut Block, dialect: Dialect, path: &[u8], records: &mut Records) {
    records.remove(b"path");
    let prefix = dialect.prefix();
    if let Some(range) = &prefix {
        block[range.clone()].fill(0);
    }
    if path.is_ascii() {
        if block::set_text(&mut block[block::NAME], path) {
            return;
        }
        if let Some((range, at)) = prefix.and_then(|range| split(path, range.len()).map(|at| (range, at))) {
            let _ = block::set_text(&mut block[range], &path[..at]);
            let _ = block::set_text(&mut block[block::NAME], &path[at + 1..]);
            return;
        }
    }
    records.set("path", path);
    put_stand_in(&mut block[block::NAME], path);
}

/// The slash at which a long path is divided into prefix and name.
fn split(path: &[u8], prefix: usize) -> Option<usize> {
    let last = path.len().checked_sub(1)?;
    let most = prefix.min(last.checked_sub(1)?);
    let at = path[..=most].iter().rposition(|byte| *byte == b'/')?;
    (at > 0 && path.len() - at - 1 <= block::NAME.len()).then_some(at)
}

/// What readers without PAX see in place of a text that is in a record.
fn put_stand_in(field: &mut [u8], text: &[u8]) {
    field.fill(0);
    for (place, byte) in field.iter_mut().zip(text) {
        *place = pax::plain(*byte);
    }
}

/// Announces a sparse file of PAX form 1.0.
pub(super) fn put_sparse(block: &mut Block, sparse: &SparseMap, path: &[u8], records: &mut Records) {
    records.set("GNU.sparse.major", "1");
    records.set("GNU.sparse.minor", "0");
    records.set("GNU.sparse.realsize", sparse.real_size().to_string());
    put_sparse_name(block, path, records);
}

/// The name of a sparse file is in a record of its own, so that readers without sparse files do not take map and data
/// for the file.
pub(super) fn put_sparse_name(block: &mut Block, path: &[u8], records: &mut Records) {
    records.set("GNU.sparse.name", path);
    records.remove(b"path");
    if let Some(range) = Dialect::of(block).prefix() {
        block[range].fill(0);
    }
    let base = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    put_stand_in(&mut block[block::NAME], &[b"GNUSparseFile.0/", base].concat());
}

pub(super) fn put_link(block: &mut Block, target: &[u8], records: &mut Records) {
    records.remove(b"linkpath");
    if !(target.is_ascii() && block::set_text(&mut block[block::LINK], target)) {
        records.set("linkpath", target);
        put_stand_in(&mut block[block::LINK], target);
    }
}

/// Puts a number in the block, or in a record with 0 in the block.
pub(super) fn put_number(
    block: &mut Block,
    field: std::ops::Range<usize>,
    key: &str,
    value: u64,
    records: &mut Records,
) {
    records.remove(key.as_bytes());
    if !block::set_octal(&mut block[field.clone()], value) {
        records.set(key, value.to_string());
        let _ = block::set_octal(&mut block[field], 0);
    }
}

pub(super) fn put_time(block: &mut Block, time: Timestamp, records: &mut Records) {
    records.remove(b"mtime");
    let fits = u64::try_from(time.seconds).is_ok_and(|seconds| block::set_octal(&mut block[block::MTIME], seconds));
    if !fits {
        let _ = block::set_octal(&mut block[block::MTIME], 0);
    }
    if !fits || time.nanoseconds != 0 {
        records.set("mtime", pax::time_text(time));
    }
}

/// Linux numbers (12 and 20 bits) always fit; others are written as GNU's base-256, since PAX has no record for them.
fn put_device(field: &mut [u8], number: u32) {
    if !block::set_octal(field, u64::from(number)) {
        field.fill(0);
        field[0] = 0x80;
        field[4..].copy_from_slice(&number.to_be_bytes());
    }
}

pub(super) fn put_xattrs(entry: &Entry, records: &mut Records) {
    for (name, value) in &entry.xattrs {
        records.set(pax::xattr_key(name), value.as_slice());
    }
}

/// An ACL that cannot be read stays a binary record alone.
fn put_text_acls(entry: &Entry, records: &mut Records) {
    for (name, key) in [(XATTR_ACL_ACCESS, ACL_ACCESS), (XATTR_ACL_DEFAULT, ACL_DEFAULT)] {
        if let Some(acl) = entry.xattrs.get(name).and_then(|value| Acl::from_xattr(value).ok()) {
            records.set(key, acl.to_text());
        }
    }
}
