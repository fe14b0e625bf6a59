//! A way through a jump host: a thread that carries bytes between a socket pair and a channel to the next host.
//!
//! libssh2 wants a socket; a channel is none. Each tunnel owns its session alone, so no lock is shared between hops.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use ssh2::Channel;

use super::Connection;
use super::wait::{keep_alive, poll_for, wanted};
use crate::error::{Context as _, Kind, Result};

/// Bytes under way in each direction.
const BUFFER: usize = 256 << 10;

/// A way through one jump host; it ends when the socket at its near end is closed.
#[derive(Debug)]
pub(super) struct Tunnel {
    near: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Asks the jump host for a connection to `host`; the socket that leads there.
    pub(super) fn open(jump: Connection, host: &str, port: u16) -> Result<(Self, OwnedFd)> {
        let channel = jump.drive(|session| session.channel_direct_tcpip(host, port, None)).map_err(|stop| {
            stop.into_error(Kind::Unavailable, format!("`{}` does not lead to `{host}:{port}`", jump.place()))
        })?;
        let (near, far) = UnixStream::pair().context(|| "cannot make a pair of sockets")?;
        far.set_nonblocking(true).context(|| "cannot prepare a socket")?;
        let socket = near.try_clone().context(|| "cannot share a socket")?;
        let thread = std::thread::Builder::new()
            .name("ssh-jump".to_owned())
            .spawn(move || {
                let mut carrier = Carrier { jump, channel, far, out: Flow::default(), back: Flow::default() };
                if let Err(error) = carrier.run() {
                    // Whoever uses the tunnel sees its end and says so; this is why.
                    tracing::warn!("{}: {error}", carrier.jump.place());
                }
                carrier.jump.abandon();
            })
            .context(|| "cannot start a thread")?;
        Ok((Self { near, thread: Some(thread) }, socket.into()))
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let _closed = self.near.shutdown(std::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Bytes read and not yet written.
#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    start: usize,
    ended: bool,
}

impl Flow {
    fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Fills the empty flow from a reader; whether something happened.
    fn fill(&mut self, read: impl FnOnce(&mut [u8]) -> std::io::Result<usize>) -> std::io::Result<bool> {
        self.start = 0;
        self.bytes.resize(BUFFER, 0);
        let result = read(&mut self.bytes);
        self.bytes.truncate(*result.as_ref().unwrap_or(&0));
        match result {
            Ok(count) => {
                self.ended = count == 0;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes some of it; whether something happened.
    fn drain(&mut self, write: impl FnOnce(&[u8]) -> std::io::Result<usize>) -> std::io::Result<bool> {
        match write(&self.bytes[self.start..]) {
            Ok(count) => {
                self.start += count;
                Ok(count > 0)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The call on the channel that has half a packet on the wire: no other may come before it is whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Nothing,
    Write,
    Read,
}

struct Carrier {
    jump: Connection,
    channel: Channel,
    far: UnixStream,
    /// To the jump host.
    out: Flow,
    /// From it.
    back: Flow,
}

impl Carrier {
    fn run(&mut self) -> Result<()> {
        let mut half = Half::Nothing;
        let mut heard = Instant::now();
        loop {
            match self.turn(&mut half) {
                Ok(true) => heard = Instant::now(),
                Ok(false) if self.is_over() => return Ok(()),
                Ok(false) => self.wait(half, &mut heard)?,
                // The near end was closed by its user: the ordinary end.
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    return Ok(());
                }
                Err(error) => return Err(error).context(|| "the way through the jump host broke off"),
            }
        }
    }

    fn is_over(&self) -> bool {
        (self.out.ended && self.out.is_empty()) || (self.channel.eof() && self.back.is_empty())
    }

    /// One round of whatever can move; whether something did.
    fn turn(&mut self, half: &mut Half) -> std::io::Result<bool> {
        let mut moved = false;
        if self.out.is_empty() && !self.out.ended {
            moved |= self.out.fill(|buffer| self.far.read(buffer))?;
        }
        if *half != Half::Read && !self.out.is_empty() {
            let went = self.out.drain(|bytes| self.channel.write(bytes))?;
            *half = self.half_of(went, Half::Write);
            moved |= went;
        }
        if *half != Half::Write && self.back.is_empty() && !self.channel.eof() {
            let came = self.back.fill(|buffer| self.channel.read(buffer))?;
            *half = self.half_of(came, Half::Read);
            moved |= came && !self.back.ended;
        }
        if !self.back.is_empty() {
            moved |= self.back.drain(|bytes| self.far.write(bytes))?;
        }
        Ok(moved)
    }

    fn half_of(&self, done: bool, step: Half) -> Half {
        let sending = wanted(self.jump.session()).contains(PollFlags::OUT);
        if !done && sending { step } else { Half::Nothing }
    }

    fn wait(&self, half: Half, heard: &mut Instant) -> Result<()> {
        self.jump.check_cancelled()?;
        let mut near = PollFlags::empty();
        if self.out.is_empty() {
            near |= PollFlags::IN;
        }
        if !self.back.is_empty() {
            near |= PollFlags::OUT;
        }
        // With bytes for the near end in hand, more from the far end cannot be taken yet.
        let mut link = if self.back.is_empty() || half != Half::Nothing {
            wanted(self.jump.session())
        } else {
            PollFlags::empty()
        };
        if half == Half::Nothing && self.back.is_empty() {
            link |= PollFlags::IN;
        }
        if !self.out.is_empty() && half == Half::Nothing {
            link |= PollFlags::IN;
        }
        let socket = self.jump.waiter.socket.as_fd();
        let mut sockets = [PollFd::from_borrowed_fd(socket, link), PollFd::new(&self.far, near)];
        poll_for(&mut sockets, Duration::from_millis(500))?;
        if sockets.iter().any(|socket| !socket.revents().is_empty()) {
            *heard = Instant::now();
            return Ok(());
        }
        if half == Half::Nothing {
            keep_alive(self.jump.session(), socket, PollFlags::IN)?;
        }
        if heard.elapsed() > self.jump.waiter.patience.silence {
            return Err(crate::error::Error::new(Kind::Unavailable, "the jump host gave no sign of life"));
        }
        Ok(())
    }
}
