//! Which extended attributes belong to a tree, and which only to the file system it happens to lie on.
//!
//! One table for both ways, so that what is never read is never written either. Whatever it holds back is counted by
//! name in the report of the walk or the unpacking.

use std::collections::BTreeMap;

use super::entry::shown;
use crate::vocab::Value;

/// Why an xattr of this name stays behind; none for those that are the tree's own.
pub(crate) fn held_back(name: &[u8]) -> Option<&'static str> {
    TABLE.iter().find(|(pattern, _)| matches(pattern, name)).map(|(_, reason)| *reason).or_else(|| {
        let own: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];
        let known = own.iter().any(|prefix| name.starts_with(prefix)) || name.starts_with(b"system.posix_acl_");
        (!known).then_some("a property of the file system, not of the file")
    })
}

const LABEL: &str = "a label of the host's security policy";
const OVERLAY: &str = "a mark overlayfs keeps for itself";

/// Name, or with a final `*` its beginning, and the reason.
const TABLE: &[(&[u8], &str)] = &[
    (b"security.selinux", LABEL),
    (b"security.SMACK64*", LABEL),
    (b"security.apparmor", LABEL),
    (b"security.ima", "a signature over the host's inode"),
    (b"security.evm", "a signature over the host's inode"),
    (b"trusted.overlay.*", OVERLAY),
    (b"user.overlay.*", OVERLAY),
    // XFS lists the stored form of a POSIX ACL to root beside the ACL itself.
    (b"trusted.SGI_ACL_*", "the ACL once more, as XFS stores it"),
];

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

/// Extended attributes that were held back: by name, how often and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeldBack {
    names: BTreeMap<Vec<u8>, (u64, &'static str)>,
}

impl HeldBack {
    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn add(&mut self, name: &[u8], reason: &'static str) {
        match self.names.get_mut(name) {
            Some((count, _)) => *count += 1,
            None => {
                self.names.insert(name.to_vec(), (1, reason));
            }
        }
    }

    /// One line for each name: `security.selinux: 12 times, a label of the host's security policy`.
    pub fn lines(&self) -> Vec<String> {
        self.names.iter().map(|(name, (count, reason))| format!("{}: {count} times, {reason}", shown(name))).collect()
    }

    /// The lines as a list.
    pub fn to_value(&self) -> Value {
        Value::list(self.lines())
    }
}

#[cfg(test)]
mod tests {
    use super::held_back;

    #[test]
    fn what_belongs_to_the_tree_passes_and_what_belongs_to_the_host_stays() {
        for name in [
            "user.a",
            "user.overlayfoo",
            "trusted.md5",
            "security.capability",
            "system.posix_acl_access",
            "system.posix_acl_default",
            "security.selinuxlike",
            "user.rootlesscontainers",
        ] {
            assert_eq!(held_back(name.as_bytes()), None, "{name}");
        }
        for name in [
            "security.selinux",
            "security.ima",
            "security.evm",
            "security.SMACK64EXEC",
            "trusted.overlay.opaque",
            "user.overlay.redirect",
            "trusted.SGI_ACL_FILE",
            "system.nfs4_acl",
            "system.richacl",
            "btrfs.compression",
        ] {
            assert!(held_back(name.as_bytes()).is_some(), "{name}");
        }
    }
}
