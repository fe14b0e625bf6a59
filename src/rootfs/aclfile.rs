//! ACLs of a whole tree in one text: what `getfacl -R` writes and `setfacl --restore` reads, such as `/acls.txt`.
//!
//! ```text
//! # file: srv/drop
//! # owner: 0
//! # group: www-data
//! # flags: -s-            setuid, setgid, sticky; only where one is set
//! user::rwx
//! user:1001:rwx           #effective:r-x
//! default:user::rwx
//! ```
//!
//! Blocks end with an empty line. In names `\n`, `\r` stand as `\012`, `\015` and a backslash twice (getfacl 2.3); any
//! octal escape is read, as older ones wrote more of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::acl::{Acl, AclEntry, EMPTY_DEFAULT, Names, Tag};
use super::entry::{Entry, EntryKind, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, normal_path, shown};
use crate::error::{Error, Kind, Result};

/// What an ACL text says of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileAcl {
    /// The owner, if it is said and known.
    pub uid: Option<u32>,
    /// The group, if it is said and known.
    pub gid: Option<u32>,
    /// Setuid, setgid and sticky (`0o7000`), if they are said.
    pub flags: Option<u32>,
    /// The access ACL; it may be minimal, and then says no more than the mode does.
    pub access: Acl,
    /// The default ACL of a directory that has one.
    pub default: Option<Acl>,
}

/// Reads an ACL text; paths come out normalised, so that absolute ones and relative ones mean the same.
pub fn parse(text: &[u8], names: &dyn Names) -> Result<BTreeMap<Vec<u8>, FileAcl>> {
    let names = Unescaped(names);
    let mut files = BTreeMap::new();
    let mut block: Option<Block> = None;
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let number = number + 1;
        if let Some(raw) = header(line, b"file") {
            finish(block.take(), &names, &mut files)?;
            let raw = unescape(raw);
            let path = normal_path(&raw)
                .ok_or_else(|| wrong(number, &format!("the path `{}` leaves the tree", shown(&raw))))?;
            block = Some(Block { number, path, uid: None, gid: None, flags: None, entries: Vec::new() });
            continue;
        }
        let Some(block) = &mut block else {
            if line.trim_ascii().is_empty() || line.starts_with(b"#") {
                continue;
            }
            return Err(wrong(number, "an entry stands before the first `# file:`"));
        };
        if let Some(owner) = header(line, b"owner") {
            block.uid = id(owner, |name| names.user(name));
        } else if let Some(group) = header(line, b"group") {
            block.gid = id(group, |name| names.group(name));
        } else if let Some(flags) = header(line, b"flags") {
            block.flags =
                Some(flags_of(flags).ok_or_else(|| wrong(number, "the flags are not three of `s`, `s`, `t`, `-`"))?);
        } else {
            block.entries.extend_from_slice(line);
            block.entries.push(b'\n');
        }
    }
    finish(block, &names, &mut files)?;
    Ok(files)
}

struct Block {
    number: usize,
    path: Vec<u8>,
    uid: Option<u32>,
    gid: Option<u32>,
    flags: Option<u32>,
    entries: Vec<u8>,
}

fn finish(block: Option<Block>, names: &dyn Names, files: &mut BTreeMap<Vec<u8>, FileAcl>) -> Result<()> {
    let Some(block) = block else { return Ok(()) };
    let about = || format!("the ACL of `{}`", shown(&block.path));
    let (access, default) = Acl::pair_from_text(&block.entries, names)
        .map_err(|problem| wrong(block.number, &about()).caused_by(problem))?;
    let access = access.ok_or_else(|| wrong(block.number, &format!("{} has no entries", about())))?;
    let file = FileAcl { uid: block.uid, gid: block.gid, flags: block.flags, access, default };
    files.insert(block.path, file);
    Ok(())
}

fn wrong(line: usize, problem: &str) -> Error {
    Error::new(Kind::Corrupt, format!("line {line} of the ACL text: {problem}"))
}

/// The value of a `# name: value` line.
fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(b"# ")?.strip_prefix(name)?.strip_prefix(b": ")
}

/// A number is an id even where somebody has it for a name, as in setfacl.
fn id(text: &[u8], by_name: impl Fn(&[u8]) -> Option<u32>) -> Option<u32> {
    let text = text.trim_ascii();
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).or_else(|| by_name(text))
}

fn flags_of(text: &[u8]) -> Option<u32> {
    let &[setuid, setgid, sticky] = text.trim_ascii() else { return None };
    let bit = |letter, set, bit| match letter {
        b'-' => Some(0),
        letter if letter == set => Some(bit),
        _ => None,
    };
    Some(bit(setuid, b's', 0o4000)? | bit(setgid, b's', 0o2000)? | bit(sticky, b't', 0o1000)?)
}

/// Takes back what getfacl escapes in the names it asks for.
struct Unescaped<'a>(&'a dyn Names);

impl Names for Unescaped<'_> {
    fn user(&self, name: &[u8]) -> Option<u32> {
        self.0.user(&unescape(name))
    }

    fn group(&self, name: &[u8]) -> Option<u32> {
        self.0.group(&unescape(name))
    }
}

/// `\ooo` is a byte, `\\` a backslash; any other backslash is itself.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        let (byte, behind) = match (first, behind) {
            (b'\\', [high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', behind @ ..]) => {
                ((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'), behind)
            }
            (b'\\', [b'\\', behind @ ..]) => (b'\\', behind),
            (byte, behind) => (*byte, behind),
        };
        out.push(byte);
        rest = behind;
    }
    out
}

/// Adds what `getfacl -n` says of this entry; symbolic links have no ACL and add nothing. Paths are relative to the
/// root, which is `.`: `setfacl --restore` works from there.
pub fn write(entry: &Entry, out: &mut Vec<u8>) -> Result<()> {
    if matches!(entry.kind, EntryKind::Symlink { .. }) {
        return Ok(());
    }
    out.extend_from_slice(b"# file: ");
    let path: &[u8] = if entry.path.is_empty() { b"." } else { &entry.path };
    for byte in path {
        match byte {
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\012"),
            b'\r' => out.extend_from_slice(b"\\015"),
            byte => out.push(*byte),
        }
    }
    let mut text = format!("\n# owner: {}\n# group: {}\n", entry.uid, entry.gid);
    if entry.mode & 0o7000 != 0 {
        let letter = |bit, letter| if entry.mode & bit == 0 { '-' } else { letter };
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "# flags: {}{}{}", letter(0o4000, 's'), letter(0o2000, 's'), letter(0o1000, 't'));
    }
    let access = acl(entry, XATTR_ACL_ACCESS)?.unwrap_or_else(|| Acl::from_mode(entry.mode));
    lines(&access, "", &mut text);
    if let Some(default) = acl(entry, XATTR_ACL_DEFAULT)? {
        lines(&default, "default:", &mut text);
    }
    text.push('\n');
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn acl(entry: &Entry, name: &[u8]) -> Result<Option<Acl>> {
    let value = entry.xattrs.get(name).filter(|value| **value != EMPTY_DEFAULT);
    value.map(|value| Acl::from_xattr(value)).transpose().map_err(|problem| {
        let name = String::from_utf8_lossy(name);
        Error::new(Kind::Corrupt, format!("the ACL {name} of `{}` cannot be understood", shown(&entry.path)))
            .caused_by(problem)
    })
}

fn lines(acl: &Acl, prefix: &str, text: &mut String) {
    let mask = acl.mask().unwrap_or(7);
    for AclEntry { tag, permissions } in acl.entries() {
        let _ = write!(text, "{prefix}{tag}:{}", letters(*permissions));
        let masked = matches!(tag, Tag::User(_) | Tag::GroupObj | Tag::Group(_));
        if masked && permissions & !mask != 0 {
            let _ = write!(text, "\t#effective:{}", letters(permissions & mask));
        }
        text.push('\n');
    }
}

fn letters(permissions: u8) -> String {
    [(4, 'r'), (2, 'w'), (1, 'x')]
        .map(|(bit, letter)| if permissions & bit == 0 { '-' } else { letter })
        .iter()
        .collect()
}
