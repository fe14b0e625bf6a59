//! What commands may not ask the kernel for, and what they are told without asking it.
//!
//! - In a tree: keys, which belong to the user and not to a namespace; `io_uring`, which does what it is asked past every
//!   filter; and user namespaces of their own, in which root of the tree would have rights again that it gave up.
//! - Where nothing need survive a crash: what waits for the disk has succeeded at once, as with systemd-nspawn's
//!   `--suppress-sync=`.
//!
//! The filter is loaded while the rights for it are there, so that setuid programs go on to work.

use libseccomp::error::SeccompError;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use rustix::io::Errno;

const SYNCS: [&str; 6] = ["sync", "fsync", "fdatasync", "syncfs", "sync_file_range", "msync"];

const FORBIDDEN: [&str; 6] =
    ["add_key", "keyctl", "request_key", "io_uring_setup", "io_uring_enter", "io_uring_register"];

/// `CLONE_NEWUSER` (linux/sched.h).
const USER_NAMESPACE: u64 = 0x1000_0000;

/// Puts this process and all that it starts under the filter; why not, where that cannot be.
pub(super) fn apply(in_tree: bool, no_sync: bool) -> Result<(), String> {
    if !in_tree && !no_sync {
        return Ok(());
    }
    load(in_tree, no_sync).map_err(|error| error.to_string())
}

fn load(in_tree: bool, no_sync: bool) -> Result<(), SeccompError> {
    let mut filter = ScmpFilterContext::new(ScmpAction::Allow)?;
    filter.set_ctl_nnp(false)?;
    // What else this machine's programs may be written for: the kernel would take their calls for others.
    let others: &[ScmpArch] = match std::env::consts::ARCH {
        "x86_64" => &[ScmpArch::X86, ScmpArch::X32],
        "aarch64" => &[ScmpArch::Arm],
        _ => &[],
    };
    for other in others {
        filter.add_arch(*other)?;
    }
    if in_tree {
        let denied = ScmpAction::Errno(Errno::PERM.raw_os_error());
        for name in FORBIDDEN {
            filter.add_rule(denied, ScmpSyscall::from_name(name)?)?;
        }
        let asks = ScmpArgCompare::new(0, ScmpCompareOp::MaskedEqual(USER_NAMESPACE), USER_NAMESPACE);
        for name in ["unshare", "clone"] {
            filter.add_rule_conditional(denied, ScmpSyscall::from_name(name)?, &[asks])?;
        }
        // Its flags are in memory, where no filter looks; everybody then takes the older call.
        filter.add_rule(ScmpAction::Errno(Errno::NOSYS.raw_os_error()), ScmpSyscall::from_name("clone3")?)?;
    }
    if no_sync {
        for name in SYNCS {
            filter.add_rule(ScmpAction::Errno(0), ScmpSyscall::from_name(name)?)?;
        }
    }
    filter.load()
}
