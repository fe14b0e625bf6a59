//! A port of this machine that leads through jump hosts to the server's ssh port, since libgit2 only knows addresses.
//!
//! It carries what ssh has encrypted already: the server's host key is judged on this side of it.

use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::GitAddress;
use crate::error::{Context as _, Error, Result};
use crate::progress::Cancel;
use crate::ssh::Route;

/// The open port; closed, with every connection through it, when dropped.
pub(super) struct Forward {
    port: u16,
    over: Cancel,
    failure: Arc<Mutex<Option<Error>>>,
    listener: Option<JoinHandle<()>>,
}

impl Forward {
    /// Listens; each connection gets a way of its own.
    pub(super) fn start(route: &Route, cancel: &Cancel) -> Result<Self> {
        let wrong = || "cannot open a port of this machine".to_owned();
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context(wrong)?;
        let port = socket.local_addr().context(wrong)?.port();
        let (over, failure) = (Cancel::new(), Arc::new(Mutex::new(None)));
        let (route, cancel) = (route.clone(), cancel.clone());
        let (ended, told) = (over.clone(), Arc::clone(&failure));
        let listener = std::thread::Builder::new()
            .name("git-forward".to_owned())
            .spawn(move || {
                while ended.check().is_ok() {
                    let accepted = match ready(&socket) {
                        Ok(false) => continue,
                        Ok(true) => socket.accept(),
                        Err(error) => Err(error),
                    };
                    let lead = accepted
                        .context(|| "cannot accept a connection")
                        .and_then(|(near, _)| lead(near, &route, &cancel));
                    if let Err(error) = lead {
                        told.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            })
            .context(wrong)?;
        Ok(Self { port, over, failure, listener: Some(listener) })
    }

    /// The repository's address through this port.
    pub(super) fn address(&self, address: &GitAddress) -> GitAddress {
        match address {
            GitAddress::Ssh { user, path, .. } => GitAddress::Ssh {
                user: user.clone(),
                host: "127.0.0.1".to_owned(),
                port: self.port,
                path: path.clone(),
            },
            GitAddress::Local(path) => GitAddress::Local(path.clone()),
        }
    }

    /// Why the way could not be gone, if it could not.
    pub(super) fn failure(self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.over.cancel();
        if let Some(listener) = self.listener.take() {
            // It only ever ends by the wish above.
            let _ended = listener.join();
        }
    }
}

/// Whether somebody knocks within a moment.
fn ready(socket: &TcpListener) -> io::Result<bool> {
    let moment = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
    match poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&moment)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Leads one connection along the route, in threads that end with it.
#[cfg(feature = "sftp")]
fn lead(near: TcpStream, route: &Route, cancel: &Cancel) -> Result<()> {
    let pipe = crate::ssh::Pipe::open(route, crate::ssh::Patience::default(), cancel)?;
    let wrong = || "cannot lead a connection through the jump hosts".to_owned();
    let near = std::os::fd::OwnedFd::from(near);
    let near_too = near.try_clone().context(wrong)?;
    let (far, far_too) = (pipe.socket.try_clone().context(wrong)?, pipe.socket.try_clone().context(wrong)?);
    std::thread::Builder::new().spawn(move || carry(near_too, far_too)).context(wrong)?;
    std::thread::Builder::new()
        .spawn(move || {
            carry(far, near);
            drop(pipe);
        })
        .context(wrong)?;
    Ok(())
}

#[cfg(not(feature = "sftp"))]
fn lead(_: TcpStream, _: &Route, _: &Cancel) -> Result<()> {
    Err(Error::new(crate::error::Kind::Unsupported, "this castoff was built without ssh, which jump hosts need")
        .hint("build it with the feature `sftp`"))
}

/// Carries bytes one way until that way ends, and tells the far side so.
#[cfg(feature = "sftp")]
fn carry(from: std::os::fd::OwnedFd, to: std::os::fd::OwnedFd) {
    let (mut from, mut to) = (std::fs::File::from(from), std::fs::File::from(to));
    // A broken way is seen by both of its ends.
    let _ended = io::copy(&mut from, &mut to);
    let _ended = rustix::net::shutdown(&to, rustix::net::Shutdown::Write);
}
