//! One entry of a root filesystem, whatever it was read from.

use std::collections::BTreeMap;

/// The name of the xattr that holds an access ACL.
pub const XATTR_ACL_ACCESS: &[u8] = b"system.posix_acl_access";
/// The name of the xattr that holds a directory's default ACL.
pub const XATTR_ACL_DEFAULT: &[u8] = b"system.posix_acl_default";
/// The name of the xattr that holds file capabilities.
pub const XATTR_CAPABILITY: &[u8] = b"security.capability";

/// A moment: seconds since 1970 (negative before) and nanoseconds (0 to 999 999 999, always forward).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub seconds: i64,
    /// Nanoseconds since that second.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file of this many bytes (holes count).
    File {
        /// Its logical length.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link; the target is data and never followed.
    Symlink {
        /// Where it points, byte for byte.
        target: Vec<u8>,
    },
    /// A further name of the entry at `target`.
    Hardlink {
        /// The normalised path of the name it shares the inode with.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// An entry: its normalised path, what it is, and its metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Normalised: no leading `/`, no `.` or empty component, no trailing `/`; the root is the empty path.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky (at most `0o7777`); with an access ACL the group bits are its mask.
    pub mode: u32,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Last modification.
    pub mtime: Timestamp,
    /// Extended attributes by full name, binary ACLs among them (`system.posix_acl_access`, `system.posix_acl_default`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// The normal form of an archive's path: `./a`, `/a`, `a/` and `a//b` become `a`, `a`, `a` and `a/b`; none when a
/// component is `..` or holds a NUL byte.
pub fn normal_path(raw: &[u8]) -> Option<Vec<u8>> {
    let mut path = Vec::with_capacity(raw.len());
    for component in raw.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return None,
            component if component.contains(&0) => return None,
            component => {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(component);
            }
        }
    }
    Some(path)
}

/// A path as a person reads it, on one line: `/` for the root, control characters and bytes that are not UTF-8 escaped.
pub fn shown(path: &[u8]) -> String {
    if path.is_empty() {
        return "/".to_owned();
    }
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for letter in chunk.valid().chars() {
            if letter.is_control() {
                text.extend(letter.escape_default());
            } else {
                text.push(letter);
            }
        }
        text.extend(chunk.invalid().iter().flat_map(|byte| std::ascii::escape_default(*byte).map(char::from)));
    }
    text
}
