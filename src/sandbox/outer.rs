//! The outer stage: leaves castoff's namespaces and starts the inner stage as the first process of the new ones.

use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::process::Stdio;

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use rustix::process::Signal;

use super::INNER;
use super::wire::{Failure, Order, While as _};
use crate::host::process::command;

pub(super) fn run() -> Result<(), Failure> {
    let order = begin()?;
    // A session of its own: no terminal to write keys to, no signals meant for castoff's.
    rustix::process::setsid().while_("start a session")?;
    let mut namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    if !order.network {
        namespaces |= CloneFlags::CLONE_NEWNET;
    }
    nix::sched::unshare(namespaces).map_err(io::Error::from).while_("leave castoff's namespaces")?;
    nix::unistd::sethostname("localhost").map_err(io::Error::from).while_("set the host name")?;
    if !order.network {
        raise_loopback().while_("raise the loopback interface")?;
    }
    let mut child = command("/proc/self/exe")
        .arg(INNER)
        .env_clear()
        .stdin(Stdio::piped())
        .spawn()
        .while_("start its first process")?;
    if let Some(input) = child.stdin.as_mut() {
        order.send(input).while_("hand the order on")?;
    }
    let lifeline = child.stdin.take();
    // Once PID 1 has been waited for, the kernel has ended every process of its namespace.
    let status = child.wait().while_("wait for its first process")?;
    drop(lifeline);
    if status.success() || status.code() == Some(125) {
        return Ok(());
    }
    Err(io::Error::other(status.to_string())).while_("keep its first process alive")
}

/// What both stages do first: die with the one who started them, and read the order.
pub(super) fn begin() -> Result<Order, Failure> {
    // What ps(1) shows; started through /proc/self/exe it would be `exe`.
    rustix::thread::set_name(c"castoff").while_("name itself")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).while_("tie itself to castoff's life")?;
    let mut input = io::stdin().lock();
    let order = Order::receive(&mut input.by_ref()).while_("read its order")?;
    // The starter may have died before the signal was asked for; then its end of the pipe is closed.
    let mut watched = [PollFd::new(&input, PollFlags::IN)];
    let ready = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).while_("look after castoff")?;
    if ready > 0 {
        return Err(io::Error::from(io::ErrorKind::BrokenPipe)).while_("go on without castoff");
    }
    Ok(order)
}

/// Sets interface 1 of a new network namespace, which is `lo`, up: one `RTM_NEWLINK` message (rtnetlink(7)).
fn raise_loopback() -> io::Result<()> {
    const UP: u32 = 1;
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut message = Vec::with_capacity(32);
    message.extend_from_slice(&32u32.to_ne_bytes()); // length
    message.extend_from_slice(&16u16.to_ne_bytes()); // RTM_NEWLINK
    message.extend_from_slice(&5u16.to_ne_bytes()); // NLM_F_REQUEST | NLM_F_ACK
    message.extend_from_slice(&[0; 8]); // sequence, port
    message.extend_from_slice(&[0; 4]); // AF_UNSPEC, padding, device type
    message.extend_from_slice(&1u32.to_ne_bytes()); // interface index
    message.extend_from_slice(&UP.to_ne_bytes()); // flags
    message.extend_from_slice(&UP.to_ne_bytes()); // which flags to change
    rustix::net::send(socket.as_fd(), &message, SendFlags::empty())?;
    let mut answer = [0u8; 256];
    let (count, _) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty())?;
    // nlmsghdr, then the error number, negative, of nlmsgerr; 0 is the acknowledgement.
    let code = answer[..count].get(16..20).and_then(|bytes| bytes.try_into().ok()).map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
