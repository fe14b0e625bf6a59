//! The inner stage: PID 1 of the sandbox. Mounts, enters the tree, gives up what a command must not have, starts it,
//! reaps, and ends with it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Stdio;

use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Pid, Resource, Rlimit, WaitOptions, WaitStatus};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::wire::{Failure, Order, While as _, Word, tell};
use super::{filter, mounts, outer};
use crate::host::process::command;

/// What root of the tree may do: the set container engines grant; in the host's own network no raw packets. No mounting, no raw I/O, no modules, no tracing of
/// other processes, and no file handles, which reach files outside the tree.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::AUDIT_WRITE)
    .union(CapabilitySet::SETFCAP);

pub(super) fn run() -> Result<(), Failure> {
    let order = outer::begin()?;
    // Of all processes these are the ones to go when memory runs out. A container may forbid even that.
    let _is_a_wish = write("/proc/self/oom_score_adj", b"1000");
    let terminal = order.terminal.as_deref().map(take_terminal).transpose()?;
    if let Some(tree) = &order.tree {
        mounts::enter(&order, tree)?;
        // They are castoff's, to read what is brought in, and the tree knows them not.
        rustix::thread::set_thread_groups(&[]).while_("leave its groups")?;
        filtered(true, order.no_sync)?;
        // /proc/1 shows this program, which is the host's: nobody inside may look into it or reach its file.
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).while_("hide its first process")?;
        drop_capabilities(if order.network { KEPT.difference(CapabilitySet::NET_RAW) } else { KEPT })?;
    } else {
        mounts::stay(&order)?;
        filtered(false, order.no_sync)?;
    }
    rustix::process::umask(Mode::WGRP | Mode::WOTH);
    let child = start(&order, terminal)?;
    let exit = reap(child)?;
    tell(&Word::Ended(exit)).while_("report the command's end")
}

/// Makes the terminal that of a session of its own, so that its keys reach the command.
fn take_terminal(path: &[u8]) -> Result<File, Failure> {
    let doing = "take the terminal";
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = rustix::fs::open(path, flags, Mode::empty()).while_(doing)?;
    rustix::process::setsid().while_(doing)?;
    rustix::process::ioctl_tiocsctty(&terminal).while_(doing)?;
    Ok(File::from(terminal))
}

/// Whether `kernel.pid_max` is the pid namespace's own, as since Linux 6.14; before, it is the whole machine's.
fn has_own_pid_max() -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|part| part.parse().ok()).take(2).collect();
    numbers.as_slice() >= &[6, 14]
}

/// Lets the kernel hold the sandbox to so many processes, where it can.
pub(super) fn limit_processes(most: u32) -> Result<(), Failure> {
    // Numbers below 300 are given out once only (kernel/pid.c).
    const ONCE: u32 = 300;
    let numbers = most.saturating_add(ONCE + super::watch::SLACK);
    let means = if has_own_pid_max() && write("/proc/sys/kernel/pid_max", numbers.to_string().as_bytes()).is_ok() {
        "processes: `kernel.pid_max` of a pid namespace, and looks"
    } else if is_in_user_namespace() {
        // All of a worker's sandboxes count as one user's, so that this only keeps the machine usable meanwhile.
        let most = Some(u64::from(most) * 4 + 512);
        let limit = Rlimit { current: most, maximum: most };
        rustix::process::setrlimit(Resource::Nproc, limit).while_("limit its processes")?;
        "processes: RLIMIT_NPROC of a user namespace, and looks"
    } else {
        return Ok(());
    };
    tell(&Word::Means(means.to_owned())).while_("report its means")
}

/// Whether root here is an ordinary user outside, whom the kernel counts.
fn is_in_user_namespace() -> bool {
    let map = crate::host::fs::read_text(Path::new("/proc/self/uid_map")).unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

fn write(path: &str, bytes: &[u8]) -> rustix::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, bytes).map(drop)
}

/// A kernel without filters is told: the capabilities alone stand then between the command and the host.
fn filtered(in_tree: bool, no_sync: bool) -> Result<(), Failure> {
    match filter::apply(in_tree, no_sync) {
        Ok(()) => Ok(()),
        Err(why) => tell(&Word::Means(format!("system calls: not filtered: {why}"))).while_("report its means"),
    }
}

fn drop_capabilities(kept: CapabilitySet) -> Result<(), Failure> {
    for capability in CapabilitySet::all().difference(kept).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not have.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error).while_("drop capabilities"),
        }
    }
    let own = rustix::thread::capabilities(None).while_("read its capabilities")?;
    let left = own.permitted.intersection(kept);
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).while_("drop capabilities")
}

fn start(order: &Order, terminal: Option<File>) -> Result<Pid, Failure> {
    let doing = || format!("run `{}`", order.command.join(" "));
    let mut words = order.command.clone();
    if order.script.is_some() {
        words.push(mounts::SCRIPT.to_owned());
    }
    let (program, arguments) =
        words.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput)).while_(doing())?;
    let folder = order.working_directory.as_deref().map_or(Path::new("/"), |path| Path::new(OsStr::from_bytes(path)));
    if let Err(error) = rustix::process::chdir(folder) {
        return Err(error).while_(format!("start in `{}`", folder.display()));
    }
    let [input, output, errors] = streams(order, terminal).while_("prepare the command's input and output")?;
    let child = command(program)
        .args(arguments)
        .env_clear()
        .envs(&order.environment)
        .stdin(input)
        .stdout(output)
        .stderr(errors)
        .spawn()
        .while_(doing())?;
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)).while_(doing())
}

fn streams(order: &Order, terminal: Option<File>) -> io::Result<[Stdio; 3]> {
    if let Some(terminal) = terminal {
        return Ok([terminal.try_clone()?.into(), terminal.try_clone()?.into(), terminal.into()]);
    }
    let input = match &order.stdin {
        None => Stdio::null(),
        Some(bytes) => {
            let mut file = File::from(rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC)?);
            file.write_all(bytes)?;
            file.rewind()?;
            file.into()
        }
    };
    let output = || io::stderr().as_fd().try_clone_to_owned();
    Ok([input, output()?.into(), output()?.into()])
}

/// Waits for every process that becomes an orphan here, until the command itself has ended.
fn reap(child: Pid) -> Result<i32, Failure> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => return Ok(exit_of(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).while_("wait for the command"),
        }
    }
}

/// As a shell counts.
fn exit_of(status: WaitStatus) -> i32 {
    status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or_default())
}
