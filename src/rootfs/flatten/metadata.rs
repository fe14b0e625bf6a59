//! The metadata an inode ends up with: text ACLs made binary, hard links' headers laid over it, mode and ACL agreeing.

use std::collections::BTreeMap;

use crate::error::{Error, Kind, Result};
use crate::rootfs::acl::{Acl, EMPTY_DEFAULT, Names};
use crate::rootfs::tar::Member;
use crate::rootfs::{Entry, EntryKind, Timestamp, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};

use super::AclOverride;
use super::report::shown;
use super::tree::Form;

/// What a header says of an inode besides what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) mtime: Timestamp,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What had to be put right.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Repairs {
    /// The mode's permission bits were not those of the access ACL.
    pub(super) mode: bool,
    /// A record stood on something that cannot have that ACL.
    pub(super) misplaced: bool,
}

/// The ACL in a record; none where the record takes one away.
pub(super) fn acl(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>, name: &[u8], path: &[u8]) -> Result<Option<Acl>> {
    match xattrs.get(name) {
        None => Ok(None),
        Some(value) if value.is_empty() || *value == EMPTY_DEFAULT => Ok(None),
        Some(value) => Acl::from_xattr(value).map(Some).map_err(|error| {
            let name = String::from_utf8_lossy(name);
            Error::new(Kind::Corrupt, format!("`{}` of `{}` is no ACL", name, shown(path))).caused_by(error)
        }),
    }
}

impl Metadata {
    /// What a header says, ACLs that it has as text alone made binary.
    pub(super) fn of(member: &Member, names: &dyn Names) -> Result<Self> {
        let entry = &member.entry;
        let mut xattrs = entry.xattrs.clone();
        if let Some(texts) = &member.text_acls {
            for (name, text) in [(XATTR_ACL_ACCESS, &texts.access), (XATTR_ACL_DEFAULT, &texts.default)] {
                let Some(text) = text.as_ref().filter(|text| !text.is_empty() && !xattrs.contains_key(name)) else {
                    continue;
                };
                let acl = Acl::from_text(text, names).map_err(|error| {
                    Error::new(
                        Kind::Corrupt,
                        format!("the ACL of `{}` cannot be read: `{}`", shown(&entry.path), String::from_utf8_lossy(text)),
                    )
                    .caused_by(error)
                    .hint("a name must stand in the image's own /etc/passwd or /etc/group; else write the ACL with numeric ids")
                })?;
                if name == XATTR_ACL_DEFAULT || !acl.is_minimal() {
                    xattrs.insert(name.to_vec(), acl.to_xattr());
                }
            }
        }
        Ok(Self { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: entry.mtime, xattrs })
    }

    /// What a directory has that no layer holds.
    pub(super) fn synthesised() -> Self {
        Self { mode: 0o755, uid: 0, gid: 0, mtime: Timestamp::default(), xattrs: BTreeMap::new() }
    }

    /// An entry with these metadata.
    pub(super) fn entry(self, path: Vec<u8>, kind: EntryKind) -> Entry {
        let Self { mode, uid, gid, mtime, xattrs } = self;
        Entry { path, kind, mode, uid, gid, mtime, xattrs }
    }

    /// Lays a hard link's header over it, as engines do: the last one's mode, owner and time; its xattrs besides.
    pub(super) fn overlay(&mut self, link: Self) {
        let mut xattrs = std::mem::take(&mut self.xattrs);
        xattrs.extend(link.xattrs);
        *self = Self { xattrs, ..link };
    }

    /// Takes other ACLs, and the permission bits they say; whether anything changed by it.
    pub(super) fn put_acls(&mut self, acls: &AclOverride, form: Form) -> bool {
        let before = self.clone();
        self.mode = self.mode & !0o777 | acls.access.mode_bits();
        if acls.access.is_minimal() {
            self.xattrs.remove(XATTR_ACL_ACCESS);
        } else {
            self.xattrs.insert(XATTR_ACL_ACCESS.to_vec(), acls.access.to_xattr());
        }
        match &acls.default {
            Some(default) if form == Form::Directory => {
                self.xattrs.insert(XATTR_ACL_DEFAULT.to_vec(), default.to_xattr());
            }
            _ => {
                self.xattrs.remove(XATTR_ACL_DEFAULT);
            }
        }
        *self != before
    }

    /// Makes mode and ACLs agree. A list that names somebody wins over the mode; one that says no more than a mode
    /// does must say what the mode says. Without ACLs the group bits become what the owning group has.
    pub(super) fn settle(&mut self, form: Form, keep_acls: bool, path: &[u8]) -> Result<Repairs> {
        let mut repairs = Repairs::default();
        if form == Form::Symlink {
            repairs.misplaced |= self.xattrs.remove(XATTR_ACL_ACCESS).is_some();
        }
        if form != Form::Directory {
            repairs.misplaced |= self.xattrs.remove(XATTR_ACL_DEFAULT).is_some();
        }
        let access = acl(&self.xattrs, XATTR_ACL_ACCESS, path)?;
        if !keep_acls {
            self.drop_acls(access.as_ref());
            return Ok(repairs);
        }
        if let Some(access) = access {
            let wanted = access.mode_bits();
            if wanted != self.mode & 0o777 {
                repairs.mode = true;
                if access.is_minimal() {
                    self.xattrs.insert(XATTR_ACL_ACCESS.to_vec(), Acl::from_mode(self.mode).to_xattr());
                } else {
                    self.mode = self.mode & !0o777 | wanted;
                }
            }
        }
        Ok(repairs)
    }

    /// Takes both ACLs away; the group keeps what its own entry gave it, not the mask.
    fn drop_acls(&mut self, access: Option<&Acl>) {
        self.xattrs.remove(XATTR_ACL_ACCESS);
        self.xattrs.remove(XATTR_ACL_DEFAULT);
        if let Some(access) = access.filter(|access| !access.is_minimal()) {
            self.mode = self.mode & !0o777 | access.mode_bits() & !0o070 | u32::from(access.group_obj()) << 3;
        }
    }

    /// The same without ACLs.
    pub(super) fn plain(mut self, path: &[u8]) -> Result<Self> {
        let access = acl(&self.xattrs, XATTR_ACL_ACCESS, path)?;
        self.drop_acls(access.as_ref());
        Ok(self)
    }

    /// Whether a record is missing that would keep the parent's default ACL from being handed down.
    pub(super) fn unguarded(&self, form: Form) -> bool {
        match form {
            Form::Symlink => false,
            Form::Other => !self.xattrs.contains_key(XATTR_ACL_ACCESS),
            Form::Directory => {
                !self.xattrs.contains_key(XATTR_ACL_ACCESS) || !self.xattrs.contains_key(XATTR_ACL_DEFAULT)
            }
        }
    }

    /// Adds the records that are missing: an access ACL that says what the mode says, a default ACL without entries.
    pub(super) fn guard(&mut self, form: Form) {
        if form == Form::Symlink {
            return;
        }
        let mode = self.mode;
        self.xattrs.entry(XATTR_ACL_ACCESS.to_vec()).or_insert_with(|| Acl::from_mode(mode).to_xattr());
        if form == Form::Directory {
            self.xattrs.entry(XATTR_ACL_DEFAULT.to_vec()).or_insert_with(|| EMPTY_DEFAULT.to_vec());
        }
    }

    /// The access ACL that says more than the mode, and the default ACL.
    pub(super) fn acls(&self, path: &[u8]) -> Result<(Option<Acl>, Option<Acl>)> {
        let access = acl(&self.xattrs, XATTR_ACL_ACCESS, path)?.filter(|access| !access.is_minimal());
        Ok((access, acl(&self.xattrs, XATTR_ACL_DEFAULT, path)?))
    }

    /// The same as a file system shows it: records that mean nothing of their own are gone.
    pub(super) fn into_seen(mut self, path: &[u8]) -> Result<Self> {
        let (access, default) = self.acls(path)?;
        if access.is_none() {
            self.xattrs.remove(XATTR_ACL_ACCESS);
        }
        if default.is_none() {
            self.xattrs.remove(XATTR_ACL_DEFAULT);
        }
        Ok(self)
    }
}
