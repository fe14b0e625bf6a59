//! Who is meant by a name in an ACL's text: asked of an image's own passwd and group, never of this host's.

use std::collections::HashMap;

/// Resolves the names of users and groups.
pub trait Names {
    /// The id of the user of this name.
    fn user(&self, name: &[u8]) -> Option<u32>;
    /// The id of the group of this name.
    fn group(&self, name: &[u8]) -> Option<u32>;
}

/// Knows no names: only numeric ids resolve.
#[derive(Clone, Copy, Debug, Default)]
pub struct Numeric;

impl Names for Numeric {
    fn user(&self, _: &[u8]) -> Option<u32> {
        None
    }

    fn group(&self, _: &[u8]) -> Option<u32> {
        None
    }
}

/// The names in a passwd and a group file.
#[derive(Clone, Debug, Default)]
pub struct PasswdNames {
    users: HashMap<Vec<u8>, u32>,
    groups: HashMap<Vec<u8>, u32>,
}

impl PasswdNames {
    /// The names in the contents of `/etc/passwd` and `/etc/group`; either may be empty.
    pub fn new(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: name_to_id(passwd), groups: name_to_id(group) }
    }
}

impl Names for PasswdNames {
    fn user(&self, name: &[u8]) -> Option<u32> {
        self.users.get(name).copied()
    }

    fn group(&self, name: &[u8]) -> Option<u32> {
        self.groups.get(name).copied()
    }
}

/// Name and id are the first and third field in both files; the first line of a name wins, as it does in the C library.
fn name_to_id(text: &[u8]) -> HashMap<Vec<u8>, u32> {
    let mut ids = HashMap::new();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next()) else { continue };
        if name.is_empty() || name.starts_with(b"#") {
            continue;
        }
        if let Some(id) = number(id) {
            ids.entry(name.to_vec()).or_insert(id);
        }
    }
    ids
}

/// A decimal id that is not the kernel's "nobody".
pub(super) fn number(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let id: u32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (id != u32::MAX).then_some(id)
}
