//! The inner stage: PID 1 of the sandbox. Mounts, enters the tree, gives up what a command must not have, starts it,
//! reaps, and ends with it.

use std::io;
use std::os::fd::AsFd as _;
use std::process::Stdio;

use rustix::process::{DumpableBehavior, Pid, WaitOptions, WaitStatus};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::wire::{Failure, Order, While as _, Word, tell};
use super::{mounts, outer};
use crate::host::process::command;

/// What root of the tree may do: the set container engines grant. No mounting, no raw I/O, no modules, no tracing of
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
    mounts::enter(&order)?;
    // /proc/1 shows this program, which is the host's: nobody inside may look into it or reach its file.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).while_("hide its first process")?;
    drop_capabilities()?;
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let child = start(&order)?;
    let exit = reap(child)?;
    tell(&Word::Ended(exit)).while_("report the command's end")
}

fn drop_capabilities() -> Result<(), Failure> {
    for capability in CapabilitySet::all().difference(KEPT).iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not have.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error).while_("drop capabilities"),
        }
    }
    let own = rustix::thread::capabilities(None).while_("read its capabilities")?;
    let left = own.permitted.intersection(KEPT);
    let sets = CapabilitySets { effective: left, permitted: left, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).while_("drop capabilities")
}

fn start(order: &Order) -> Result<Pid, Failure> {
    let doing = || format!("run `{}`", order.command.join(" "));
    let mut words = order.command.clone();
    if order.script.is_some() {
        words.push(mounts::SCRIPT.to_owned());
    }
    let (program, arguments) =
        words.split_first().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput)).while_(doing())?;
    let output = || io::stderr().as_fd().try_clone_to_owned().while_("share its output");
    let child = command(program)
        .args(arguments)
        .env_clear()
        .envs(&order.environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::from(output()?))
        .stderr(Stdio::from(output()?))
        .spawn()
        .while_(doing())?;
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData)).while_(doing())
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
