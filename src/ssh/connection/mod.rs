//! One authenticated session with the target of a route, through its jump hosts.
//!
//! In this order: connect, exchange keys, judge the host key, authenticate. Nothing that belongs to us is sent before
//! the host key is found good.

mod authentication;
mod jump;
mod wait;

use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use ssh2::{MethodType, Session};

use super::route::{Hop, Route};
use crate::error::{Context as _, Error, Kind, Result};
use crate::progress::Cancel;
use jump::Tunnel;
use wait::Waiter;
pub use wait::{Patience, SessionError, Stop};

/// Seconds between keep-alives while nothing else is said.
const KEEP_ALIVE: u32 = 10;

/// An authenticated session; dropped, it is closed without waiting for the peer.
pub struct Connection {
    // Fields drop in this order: the session before the tunnel that carries it.
    session: Session,
    waiter: Waiter,
    _tunnels: Vec<Tunnel>,
    place: String,
    round_trip: Duration,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Connection({})", self.place)
    }
}

impl Connection {
    /// Connects along the route.
    pub fn open(route: &Route, patience: Patience, cancel: &Cancel) -> Result<Self> {
        let (hop, jumps) = route.hops.split_last().ok_or_else(|| Error::new(Kind::Usage, "a route without a host"))?;
        // Before anything connects: a host that nobody can vouch for is not worth the way.
        for hop in &route.hops {
            hop.trusted.algorithms()?;
        }
        let (socket, tunnels) = reach(hop, jumps, patience, cancel)?;
        let mut connection = Self::begin(socket, tunnels, hop, patience, cancel)?;
        connection.authenticate(hop)?;
        Ok(connection)
    }

    /// The socket's far end is the hop's SSH server, and it has the right key.
    fn begin(socket: OwnedFd, tunnels: Vec<Tunnel>, hop: &Hop, patience: Patience, cancel: &Cancel) -> Result<Self> {
        let wrong = |error: ssh2::Error| {
            Error::new(Kind::Failed, "cannot start an ssh session").caused_by(error.message().to_owned())
        };
        let mut session = Session::new().map_err(wrong)?;
        if let Some(algorithms) = hop.trusted.algorithms()? {
            session.method_pref(MethodType::HostKey, &algorithms.join(",")).map_err(wrong)?;
        }
        let own = socket.try_clone().context(|| "cannot share a socket")?;
        session.set_tcp_stream(own);
        session.set_blocking(false);
        session.set_keepalive(true, KEEP_ALIVE);
        // Steps never block, but handles do when they are dropped.
        session.set_timeout(u32::try_from(patience.silence.as_millis()).unwrap_or(u32::MAX));
        let waiter = Waiter { socket, patience, cancel: cancel.clone() };
        let connection = Self { session, waiter, _tunnels: tunnels, place: hop.place(), round_trip: Duration::ZERO };
        let mut handshaken = connection.session.clone();
        connection.drive(|_| handshaken.handshake()).map_err(|stop| {
            let unsure = matches!(&stop, Stop::Answer { .. });
            let error = stop.into_error(Kind::Unavailable, format!("no ssh session with `{}`", connection.place));
            if unsure { error.hint("does the server have a host key of a trusted type?") } else { error }
        })?;
        let Some((key, _)) = connection.session.host_key() else {
            return Err(Error::new(Kind::Refused, format!("`{}` showed no host key", connection.place)));
        };
        let shown = hop.trusted.check(key)?;
        tracing::debug!(host = connection.place, "host key {shown} is trusted");
        Ok(connection)
    }

    /// The session, for handles that live on it; steps on them go through [`Connection::drive`].
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// `USER@HOST:PORT`, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// How long an answer takes at least, measured while connecting.
    pub fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Calls a step until it is answered, within the time for one answer.
    pub fn drive<T, E: SessionError>(&self, mut step: impl FnMut(&Session) -> Result<T, E>) -> Result<T, Stop> {
        self.waiter.drive(&self.session, self.waiter.patience.answer, || step(&self.session))
    }

    /// The same for a step that waits for a disk or a hash.
    pub fn drive_long<T, E: SessionError>(&self, mut step: impl FnMut(&Session) -> Result<T, E>) -> Result<T, Stop> {
        self.waiter.drive(&self.session, self.waiter.patience.long_answer, || step(&self.session))
    }

    /// Fails once somebody asked the work to end.
    pub fn check_cancelled(&self) -> Result<()> {
        self.waiter.cancel.check()
    }

    /// Cuts the line: what still lives on the session then ends at once instead of waiting for the peer.
    pub fn abandon(&self) {
        // A socket that is closed already is as good.
        let _closed = rustix::net::shutdown(&self.waiter.socket, rustix::net::Shutdown::Both);
    }

    fn authenticate(&mut self, hop: &Hop) -> Result<()> {
        let begun = Instant::now();
        let methods = self
            .drive(|session| match session.auth_methods(&hop.user) {
                Err(_) if session.authenticated() => Ok(None),
                other => other.map(|methods| Some(methods.to_owned())),
            })
            .map_err(|stop| stop.into_error(Kind::Unavailable, format!("cannot log in to `{}`", self.place)))?;
        self.round_trip = begun.elapsed();
        match methods {
            None => Ok(()),
            Some(methods) => authentication::with_keys(self, hop, &methods),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A word of goodbye if it goes out at once; libssh2 frees its handles only while it may block, so the line is
        // cut first: then nothing waits.
        let _polite = self.session.disconnect(None, "done", None);
        self.abandon();
        self.session.set_timeout(1000);
        self.session.set_blocking(true);
    }
}

/// A socket whose far end is the hop's server, through the jumps.
fn reach(hop: &Hop, jumps: &[Hop], patience: Patience, cancel: &Cancel) -> Result<(OwnedFd, Vec<Tunnel>)> {
    let Some((jump, before)) = jumps.split_last() else {
        return Ok((connect(hop, patience, cancel)?, Vec::new()));
    };
    let on_the_way = || format!("cannot go through `{}` to `{}`", jump.place(), hop.place());
    let (socket, mut tunnels) = reach(jump, before, patience, cancel)?;
    let mut connection = Connection::begin(socket, Vec::new(), jump, patience, cancel).context(on_the_way)?;
    connection.authenticate(jump).context(on_the_way)?;
    let (tunnel, socket) = Tunnel::open(connection, &hop.host, hop.port)?;
    tunnels.insert(0, tunnel);
    Ok((socket, tunnels))
}

fn connect(hop: &Hop, patience: Patience, cancel: &Cancel) -> Result<OwnedFd> {
    let wrong = || format!("cannot connect to `{}`", hop.place());
    let unavailable = |error: std::io::Error| Error::new(Kind::Unavailable, wrong()).caused_by(error);
    let addresses = (hop.host.as_str(), hop.port).to_socket_addrs().map_err(unavailable)?;
    let mut last = std::io::Error::from(std::io::ErrorKind::NotFound);
    for address in addresses {
        cancel.check()?;
        match TcpStream::connect_timeout(&address, patience.connect) {
            Ok(stream) => {
                // Small packets must not wait for the acknowledgement of large ones.
                stream.set_nodelay(true).context(wrong)?;
                return Ok(stream.into());
            }
            Err(error) => last = error,
        }
    }
    Err(unavailable(last))
}

/// Bytes to and from the target's SSH port, through the jumps, for a program that speaks SSH itself; the far end's
/// host key is then that program's to judge.
#[derive(Debug)]
pub struct Pipe {
    /// The socket, in blocking mode.
    pub socket: OwnedFd,
    _tunnels: Vec<Tunnel>,
}

impl Pipe {
    /// Connects along the route, without a session with its target.
    pub fn open(route: &Route, patience: Patience, cancel: &Cancel) -> Result<Self> {
        let (hop, jumps) = route.hops.split_last().ok_or_else(|| Error::new(Kind::Usage, "a route without a host"))?;
        let (socket, tunnels) = reach(hop, jumps, patience, cancel)?;
        Ok(Self { socket, _tunnels: tunnels })
    }
}
