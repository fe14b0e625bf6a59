//! The two stages above a worker: one enters the namespaces, one is their first process.

use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};

use super::lines::{Down, Up, receive_exactly, send};
use super::{FIRST, TASK};
use crate::host::process::command;
use crate::sandbox::wire::{Failure, While as _};

/// Enters the namespaces and starts their first process.
pub(super) fn outer() -> ExitCode {
    close(enter())
}

/// Mounts `/proc`, starts the worker and reaps.
pub(super) fn first() -> ExitCode {
    close(reap_for_worker())
}

fn enter() -> Result<u8, Failure> {
    rustix::thread::set_name(c"castoff").while_("name itself")?;
    stay_tied()?;
    // Keys pressed at castoff's terminal are castoff's to handle.
    rustix::process::setsid().while_("start a session")?;
    let Down::Begin { user_namespace } = hear()? else { return out_of_turn() };
    if user_namespace {
        unshare(CloneFlags::CLONE_NEWUSER).while_("make a user namespace")?;
        send(&mut io::stdout().lock(), &Up::Unshared).while_("ask for its ids")?;
        let Down::Mapped = hear()? else { return out_of_turn() };
    }
    // New credentials made the kernel forget it.
    stay_tied()?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID).while_("make a mount and a pid namespace")?;
    let mut child = command("/proc/self/exe").arg(FIRST).spawn().while_("start its first process")?;
    let status = child.wait().while_("wait for its first process")?;
    match status.code() {
        Some(code) => Ok(u8::try_from(code).unwrap_or(u8::MAX)),
        None => Err(io::Error::other(status.to_string())).while_("keep its first process alive"),
    }
}

fn reap_for_worker() -> Result<u8, Failure> {
    rustix::thread::set_name(c"castoff").while_("name itself")?;
    stay_tied()?;
    rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .while_("keep its mounts to itself")?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, None).while_("mount its own /proc")?;
    let child = command("/proc/self/exe").arg(TASK).spawn().while_("start the worker")?;
    let child = Pid::from_raw(child.id().cast_signed())
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        .while_("start the worker")?;
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => return end_of(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).while_("wait for the worker"),
        }
    }
}

/// A worker that was killed cannot say so itself.
fn end_of(status: WaitStatus) -> Result<u8, Failure> {
    if let Some(signal) = status.terminating_signal() {
        let mut out = io::stdout().lock();
        // It may have been cut off within a line.
        out.write_all(b"\n").while_("report the worker's end")?;
        drop(out);
        return Err(io::Error::other(format!("signal {signal} ended it"))).while_("keep the worker alive");
    }
    Ok(status.exit_status().and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

/// Dies with the process above, also with one that died already.
fn stay_tied() -> Result<(), Failure> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).while_("tie itself to castoff's life")?;
    let input = io::stdin();
    let mut watched = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::empty())];
    poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).while_("look after castoff")?;
    if watched[0].revents().contains(PollFlags::HUP) {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe)).while_("go on without castoff");
    }
    Ok(())
}

/// The next line, read past the buffer of [`io::stdin`], which would take what is the worker's.
fn hear() -> Result<Down, Failure> {
    let input = io::stdin().as_fd().try_clone_to_owned().while_("open its input")?;
    receive_exactly(&mut std::fs::File::from(input)).while_("read its order")
}

fn out_of_turn<T>() -> Result<T, Failure> {
    Err(io::Error::from(io::ErrorKind::InvalidData)).while_("understand its order")
}

fn unshare(flags: CloneFlags) -> io::Result<()> {
    Ok(nix::sched::unshare(flags)?)
}

fn close(outcome: Result<u8, Failure>) -> ExitCode {
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            let (doing, cause) = failure.into_parts();
            let line = Up::Broke { doing, cause: cause.to_string(), code: cause.raw_os_error() };
            // With nobody left to tell, the exit code is all there is to say.
            let _nobody_listens = send(&mut io::stdout().lock(), &line);
            ExitCode::from(125)
        }
    }
}
