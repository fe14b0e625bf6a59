//! File systems that hold no files of the tree: views into the kernel, mounted where a running system needs them.

use std::os::fd::BorrowedFd;

use rustix::fs::Stat;

use crate::error::Result;
use crate::host;

/// `f_type` of statfs(2) (include/uapi/linux/magic.h and the file systems' own sources) and the name of each.
const PSEUDO: &[(u64, &str)] = &[
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x1cd1, "devpts"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0x7363_6673, "securityfs"),
    (0xcafe_4a11, "bpf"),
    (0x6165_676c, "pstore"),
    (0x1980_0202, "mqueue"),
    (0x9584_58f6, "hugetlbfs"),
    (0x6265_6570, "configfs"),
    (0x6573_5543, "fusectl"),
    (0xde5e_81e4, "efivarfs"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x0187, "autofs"),
    (0x6759_6969, "rpc_pipefs"),
    (0x6e73_6673, "nsfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x0bad_1dea, "futexfs"),
];
const TMPFS: u64 = 0x0102_1994;

/// The name of the pseudo file system this directory is on; none on one that stores files.
pub(super) fn pseudo(directory: BorrowedFd<'_>, stat: &Stat) -> Result<Option<&'static str>, rustix::io::Errno> {
    #[expect(
        clippy::cast_sign_loss,
        reason = "f_type is a bit pattern of 32 bits in a word that is signed on some machines"
    )]
    let kind = rustix::fs::fstatfs(directory)?.f_type as u64 & 0xffff_ffff;
    if let Some((_, name)) = PSEUDO.iter().find(|(magic, _)| *magic == kind) {
        return Ok(Some(name));
    }
    // devtmpfs gives itself out as tmpfs; only the mount table tells them apart.
    Ok((kind == TMPFS && mounted_type(stat).is_ok_and(|name| name.as_deref() == Some("devtmpfs")))
        .then_some("devtmpfs"))
}

/// The type of the file system of this device number in `/proc/self/mountinfo` (proc(5)).
fn mounted_type(stat: &Stat) -> Result<Option<String>> {
    let device = format!("{}:{}", rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
    let table = host::fs::read(std::path::Path::new("/proc/self/mountinfo"))?;
    Ok(String::from_utf8_lossy(&table).lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (mount.split(' ').nth(2)? == device).then(|| kind.split(' ').next().unwrap_or_default().to_owned())
    }))
}
