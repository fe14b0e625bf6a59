//! What systemd tells the daemon and hears from it: sockets it opened (`sd_listen_fds(3)`), states (`sd_notify(3)`).

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};

use crate::error::{Context as _, Error, Kind, Result};
use crate::host;

/// The listening sockets that systemd handed over; empty when it started us without any.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// Unix stream sockets.
    pub(super) unix: Vec<UnixListener>,
    /// TCP sockets.
    pub(super) tcp: Vec<TcpListener>,
}

/// Takes the sockets over. Only while no other thread runs: the variables that announce them are removed.
pub(super) fn sockets() -> Result<Inherited> {
    let mut handed = listenfd::ListenFd::from_env();
    let mut inherited = Inherited::default();
    for index in 0..handed.len() {
        if let Ok(Some(socket)) = handed.take_unix_listener(index) {
            inherited.unix.push(socket);
        } else if let Ok(Some(socket)) = handed.take_tcp_listener(index) {
            inherited.tcp.push(socket);
        } else {
            return Err(Error::new(Kind::Usage, format!("socket {index} of LISTEN_FDS is no listening stream socket"))
                .hint("castoff.socket takes `ListenStream=` only"));
        }
    }
    Ok(inherited)
}

/// Who waits to hear how the daemon is: systemd, or nobody.
#[derive(Debug)]
pub(super) struct Notifier(Option<(UnixDatagram, SocketAddr)>);

impl Notifier {
    /// The address in `NOTIFY_SOCKET`, if it is set.
    pub(super) fn from_environment() -> Result<Self> {
        let Some(address) = host::environment::raw("NOTIFY_SOCKET") else { return Ok(Self(None)) };
        let address = match address.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(&address),
        };
        let address = address.context(|| "NOTIFY_SOCKET is no address of a socket")?;
        let socket = UnixDatagram::unbound().context(|| "cannot make a socket to notify systemd with")?;
        Ok(Self(Some((socket, address))))
    }

    /// Tells this state; that nobody heard it is only logged, since the daemon's work does not hang on it.
    pub(super) fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.0
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            tracing::warn!(%error, state, "cannot notify systemd");
        }
    }

    /// `RELOADING=1` with the time that systemd wants beside it.
    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }
}
