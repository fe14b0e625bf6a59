//! POSIX access control lists: the kernel's binary form, the text forms of getfacl, GNU tar and star, and what they
//! mean for a file's mode.
//!
//! An [`Acl`] is valid by construction: owner, owning group and others stand in it exactly once, no user or group
//! twice, and a mask wherever somebody is named. It is kept in the kernel's order, so equal lists are equal bytes.

mod names;
mod text;

use std::fmt;

pub use names::{Names, Numeric, PasswdNames};

/// The record that takes a default ACL away: a directory that carries it inherits none from its parent when an engine
/// unpacks it (version 2, no entries).
pub const EMPTY_DEFAULT: [u8; 4] = [2, 0, 0, 0];

const VERSION: [u8; 4] = [2, 0, 0, 0];
/// What the kernel writes in the id field of entries that name nobody.
const NOBODY: u32 = u32::MAX;

/// Whom an entry is for; the order is the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// The owner of the file.
    UserObj,
    /// The user of this id.
    User(u32),
    /// The owning group of the file.
    GroupObj,
    /// The group of this id.
    Group(u32),
    /// The most that named users, the owning group and named groups get.
    Mask,
    /// Everybody else.
    Other,
}

impl Tag {
    fn code(self) -> u16 {
        match self {
            Self::UserObj => 0x01,
            Self::User(_) => 0x02,
            Self::GroupObj => 0x04,
            Self::Group(_) => 0x08,
            Self::Mask => 0x10,
            Self::Other => 0x20,
        }
    }

    fn id(self) -> u32 {
        match self {
            Self::User(id) | Self::Group(id) => id,
            Self::UserObj | Self::GroupObj | Self::Mask | Self::Other => NOBODY,
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UserObj => formatter.write_str("user:"),
            Self::User(id) => write!(formatter, "user:{id}"),
            Self::GroupObj => formatter.write_str("group:"),
            Self::Group(id) => write!(formatter, "group:{id}"),
            Self::Mask => formatter.write_str("mask:"),
            Self::Other => formatter.write_str("other:"),
        }
    }
}

/// One entry of a list: who, and which of read (4), write (2) and execute (1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclEntry {
    /// Whom it is for.
    pub tag: Tag,
    /// What they may do, 0 to 7.
    pub permissions: u8,
}

/// What is wrong with an ACL, and at which byte of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclError {
    /// The byte of the input the problem was met at.
    pub offset: usize,
    /// The problem.
    pub problem: String,
}

impl AclError {
    fn new(offset: usize, problem: impl Into<String>) -> Self {
        Self { offset, problem: problem.into() }
    }
}

impl fmt::Display for AclError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "invalid ACL at byte {}: {}", self.offset, self.problem)
    }
}

impl std::error::Error for AclError {}

impl From<AclError> for crate::error::Error {
    fn from(error: AclError) -> Self {
        Self::new(crate::error::Kind::Corrupt, error.to_string())
    }
}

/// A valid access control list, access or default.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acl {
    entries: Vec<AclEntry>,
}

impl Acl {
    /// The list that says no more than the mode does.
    pub fn from_mode(mode: u32) -> Self {
        let entry = |tag, shift: u32| AclEntry { tag, permissions: bits(mode >> shift) };
        Self { entries: vec![entry(Tag::UserObj, 6), entry(Tag::GroupObj, 3), entry(Tag::Other, 0)] }
    }

    /// The list of the kernel's binary form, as `system.posix_acl_access` and `system.posix_acl_default` hold it; its
    /// entries may stand in any order.
    pub fn from_xattr(value: &[u8]) -> Result<Self, AclError> {
        let Some((version, mut rest)) = value.split_at_checked(4) else {
            return Err(AclError::new(value.len(), "the header of 4 bytes is cut off"));
        };
        if version != VERSION {
            return Err(AclError::new(0, format!("version bytes {version:02x?}, where only version 2 is known")));
        }
        let mut entries = Vec::with_capacity(rest.len() / 8);
        let mut offset = 4;
        while let Some((&[t0, t1, p0, p1, i0, i1, i2, i3], more)) = rest.split_first_chunk::<8>() {
            let permissions = u16::from_le_bytes([p0, p1]);
            let tag = match (u16::from_le_bytes([t0, t1]), u32::from_le_bytes([i0, i1, i2, i3])) {
                (0x01, _) => Tag::UserObj,
                (0x04, _) => Tag::GroupObj,
                (0x10, _) => Tag::Mask,
                (0x20, _) => Tag::Other,
                (0x02 | 0x08, NOBODY) => return Err(AclError::new(offset + 4, "a named entry names nobody")),
                (0x02, id) => Tag::User(id),
                (0x08, id) => Tag::Group(id),
                (other, _) => return Err(AclError::new(offset, format!("unknown tag {other:#06x}"))),
            };
            if permissions > 7 {
                return Err(AclError::new(offset + 2, format!("unknown permissions {permissions:#06x}")));
            }
            entries.push((offset, AclEntry { tag, permissions: bits(permissions.into()) }));
            offset += 8;
            rest = more;
        }
        if !rest.is_empty() {
            return Err(AclError::new(offset, "an entry of 8 bytes is cut off"));
        }
        Self::valid(entries, value.len())
    }

    /// The kernel's binary form: little-endian, version 2, in the kernel's order.
    pub fn to_xattr(&self) -> Vec<u8> {
        let mut value = VERSION.to_vec();
        value.reserve_exact(self.entries.len() * 8);
        for entry in &self.entries {
            value.extend_from_slice(&entry.tag.code().to_le_bytes());
            value.extend_from_slice(&u16::from(entry.permissions).to_le_bytes());
            value.extend_from_slice(&entry.tag.id().to_le_bytes());
        }
        value
    }

    /// Sorts and checks what was read; every entry comes with the offset it was met at.
    fn valid(mut read: Vec<(usize, AclEntry)>, end: usize) -> Result<Self, AclError> {
        read.sort_by_key(|(offset, entry)| (entry.tag, *offset));
        if let Some(twice) = read.windows(2).find(|pair| pair[0].1.tag == pair[1].1.tag) {
            return Err(AclError::new(twice[1].0, format!("`{}` stands twice", twice[1].1.tag)));
        }
        let has = |tag| read.iter().any(|(_, entry)| entry.tag == tag);
        for tag in [Tag::UserObj, Tag::GroupObj, Tag::Other] {
            if !has(tag) {
                return Err(AclError::new(end, format!("the entry `{tag}:` is missing")));
            }
        }
        if !has(Tag::Mask) {
            let named = read.iter().find(|(_, entry)| matches!(entry.tag, Tag::User(_) | Tag::Group(_)));
            if let Some((offset, entry)) = named {
                return Err(AclError::new(*offset, format!("`{}` is named, but the mask is missing", entry.tag)));
            }
        }
        Ok(Self { entries: read.into_iter().map(|(_, entry)| entry).collect() })
    }

    /// The entries in the kernel's order.
    pub fn entries(&self) -> &[AclEntry] {
        &self.entries
    }

    /// Whether the mode of the file says all that the list says.
    pub fn is_minimal(&self) -> bool {
        self.entries.len() == 3
    }

    /// The mask, if there is one.
    pub fn mask(&self) -> Option<u8> {
        self.permissions(Tag::Mask)
    }

    /// What the owning group's entry says, before the mask: the group bits of a mode without the ACL.
    pub fn group_obj(&self) -> u8 {
        self.permissions(Tag::GroupObj).unwrap_or(0)
    }

    /// The nine permission bits of a file with this access ACL: owner, mask (else owning group), others.
    pub fn mode_bits(&self) -> u32 {
        let of = |tag| u32::from(self.permissions(tag).unwrap_or(0));
        let group = self.mask().unwrap_or_else(|| self.group_obj());
        of(Tag::UserObj) << 6 | u32::from(group) << 3 | of(Tag::Other)
    }

    fn permissions(&self, tag: Tag) -> Option<u8> {
        self.entries.iter().find(|entry| entry.tag == tag).map(|entry| entry.permissions)
    }

    /// The list with every named user and group replaced; an id without a replacement, or two that become one, is an
    /// error whose offset is the entry's place in the list.
    pub fn shift(
        &self,
        user: impl Fn(u32) -> Option<u32>,
        group: impl Fn(u32) -> Option<u32>,
    ) -> Result<Self, AclError> {
        let mut shifted = Vec::with_capacity(self.entries.len());
        for (place, entry) in self.entries.iter().enumerate() {
            let tag = match entry.tag {
                Tag::User(id) => user(id).map(Tag::User),
                Tag::Group(id) => group(id).map(Tag::Group),
                other => Some(other),
            };
            let Some(tag) = tag else {
                return Err(AclError::new(place, format!("`{}` is outside the id map", entry.tag)));
            };
            shifted.push((place, AclEntry { tag, permissions: entry.permissions }));
        }
        Self::valid(shifted, self.entries.len())
    }
}

/// The low three bits.
fn bits(value: u32) -> u8 {
    (value & 7) as u8
}
