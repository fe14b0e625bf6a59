//! What this machine's kernel and file systems can do, asked without changing anything that stays.

use std::path::{Path, PathBuf};

use super::fs;
use crate::error::Result;

/// What a folder's file system keeps of a file, tried with a temporary file there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileAbilities {
    /// The folder that was tried: the one asked for, or its nearest existing parent.
    pub folder: PathBuf,
    /// Why this process cannot make a file there, if it cannot.
    pub refused: Option<String>,
    /// Whether extended attributes of users are kept.
    pub xattrs: bool,
    /// Whether POSIX ACLs are kept.
    pub acls: bool,
}

/// A minimal and a named access ACL entry: `u::rw-,u:1:r--,g::r--,m::r--,o::---`, version 2, little-endian.
const SAMPLE_ACL: [u8; 44] = [
    2, 0, 0, 0, //
    0x01, 0, 6, 0, 0xff, 0xff, 0xff, 0xff, //
    0x02, 0, 4, 0, 1, 0, 0, 0, //
    0x04, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, //
    0x10, 0, 4, 0, 0xff, 0xff, 0xff, 0xff, //
    0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff,
];

/// Tries what a file made in `folder` would keep.
pub fn of_folder(folder: &Path) -> Result<FileAbilities> {
    let mut place = fs::absolute(folder)?;
    while !fs::exists(&place)? && place.pop() {}
    let mut found = FileAbilities { folder: place.clone(), ..FileAbilities::default() };
    let file = match fs::TempFile::beside(&place.join("probe"), 0o600) {
        Ok(file) => file,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            found.refused = Some(cause.unwrap_or_else(|| error.to_string()));
            return Ok(found);
        }
    };
    let keeps = |name: &str, value: &[u8]| {
        rustix::fs::fsetxattr(file.file(), name, value, rustix::fs::XattrFlags::empty()).is_ok()
    };
    found.xattrs = keeps("user.castoff", b"probe");
    found.acls = keeps("system.posix_acl_access", &SAMPLE_ACL);
    Ok(found)
}

/// Whether the running kernel knows this file system now; a module that could be loaded does not count.
pub fn file_system(name: &str) -> Result<bool> {
    let known = fs::read_text(Path::new("/proc/filesystems"))?;
    Ok(known.lines().any(|line| line.split_whitespace().last() == Some(name)))
}

/// Whether this process may make namespaces and mount in them: root on a host is, root in a container often not.
pub fn may_mount() -> Result<bool> {
    const CAP_SYS_ADMIN: u32 = 21;
    let status = fs::read_text(Path::new("/proc/self/status"))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    Ok(effective >> CAP_SYS_ADMIN & 1 == 1)
}

/// The running kernel's release.
pub fn kernel_release() -> Result<String> {
    Ok(fs::read_text(Path::new("/proc/sys/kernel/osrelease"))?.trim().to_owned())
}
