//! Waiting for a peer: every step ends when its answer is there, somebody cancels, the peer falls silent or its time
//! is up. libssh2 would wait for ever.
//!
//! The session does not block; a step that cannot go on yet is called again when its socket has moved. Keep-alives ask
//! for an answer, so a peer that only thinks for long (an fsync of gigabytes) is told from one that is gone.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use ssh2::{BlockDirections, ErrorCode, Session};

use crate::error::{Context as _, Error, Kind, Result};
use crate::progress::Cancel;

/// How long a peer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// To accept a connection, for each of its addresses.
    pub connect: Duration,
    /// Without a sign of life, however small.
    pub silence: Duration,
    /// For the answer to one request, while there are signs of life.
    pub answer: Duration,
    /// For an answer that waits for a disk or for the hash of a whole file.
    pub long_answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            silence: Duration::from_secs(30),
            answer: Duration::from_mins(2),
            long_answer: Duration::from_hours(1),
        }
    }
}

/// Why a step did not succeed.
#[derive(Debug)]
pub enum Stop {
    /// The connection is gone or given up: the session cannot be used any more.
    Link(Error),
    /// The server said no; the session goes on.
    Answer {
        /// The code of libssh2 or of SFTP.
        code: Option<ErrorCode>,
        /// The server's or libssh2's words.
        words: String,
    },
}

impl Stop {
    /// The failure as an error: a lost link keeps its own words below, a refusal is of this kind.
    pub fn into_error(self, kind: Kind, message: impl Into<String>) -> Error {
        match self {
            Self::Link(error) => Error::new(error.kind(), message).caused_by(error),
            Self::Answer { words, .. } => Error::new(kind, message).caused_by(words),
        }
    }
}

/// Errors of `ssh2`: its own, and those of its readers and writers.
pub trait SessionError {
    /// Whether the step is to be called again.
    fn is_again(&self) -> bool;
    /// libssh2's code; readers and writers leave it in the session.
    fn code(&self, session: &Session) -> Option<ErrorCode>;
    /// The words for a person.
    fn words(&self) -> String;
}

const AGAIN: ErrorCode = ErrorCode::Session(-37);

impl SessionError for ssh2::Error {
    fn is_again(&self) -> bool {
        self.code() == AGAIN
    }

    fn code(&self, _: &Session) -> Option<ErrorCode> {
        Some(self.code())
    }

    fn words(&self) -> String {
        self.message().to_owned()
    }
}

impl SessionError for io::Error {
    fn is_again(&self) -> bool {
        self.kind() == io::ErrorKind::WouldBlock
    }

    fn code(&self, session: &Session) -> Option<ErrorCode> {
        ssh2::Error::last_session_error(session).map(|error| error.code())
    }

    fn words(&self) -> String {
        self.to_string()
    }
}

/// Codes of libssh2 after which the peer is still there: authentication, channels and SFTP were answered, or a file of
/// our own could not be read.
fn is_answer(code: Option<ErrorCode>) -> bool {
    match code {
        Some(ErrorCode::SFTP(_)) => true,
        Some(ErrorCode::Session(code)) => {
            matches!(code, -16 | -18 | -19 | -21 | -22 | -31 | -32 | -33 | -34 | -42 | -48 | -51)
        }
        None => false,
    }
}

/// A socket and who waits at it.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) socket: OwnedFd,
    pub(super) patience: Patience,
    pub(super) cancel: Cancel,
}

impl Waiter {
    /// Calls the step until it has succeeded or failed.
    pub(super) fn drive<T, E: SessionError>(
        &self,
        session: &Session,
        limit: Duration,
        mut step: impl FnMut() -> Result<T, E>,
    ) -> Result<T, Stop> {
        let begun = Instant::now();
        let mut heard = begun;
        loop {
            let error = match step() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !error.is_again() {
                let code = error.code(session);
                if is_answer(code) {
                    return Err(Stop::Answer { code, words: error.words() });
                }
                return Err(Stop::Link(
                    Error::new(Kind::Unavailable, "the connection broke off").caused_by(error.words()),
                ));
            }
            self.cancel.check().map_err(Stop::Link)?;
            if self.moved(session).map_err(Stop::Link)? {
                heard = Instant::now();
            } else if heard.elapsed() > self.patience.silence {
                return Err(Stop::Link(silent(heard.elapsed())));
            }
            if begun.elapsed() > limit {
                return Err(Stop::Link(Error::new(
                    Kind::Unavailable,
                    format!("no answer within {} s", limit.as_secs()),
                )));
            }
        }
    }

    /// Waits a moment for the socket; whether it moved.
    fn moved(&self, session: &Session) -> Result<bool> {
        let wanted = wanted(session);
        if wait(self.socket.as_fd(), wanted, Duration::from_millis(200))? {
            return Ok(true);
        }
        keep_alive(session, self.socket.as_fd(), wanted)?;
        Ok(false)
    }
}

fn silent(time: Duration) -> Error {
    Error::new(Kind::Unavailable, format!("no sign of life for {} s", time.as_secs()))
}

/// What the session waits for.
pub(super) fn wanted(session: &Session) -> PollFlags {
    match session.block_directions() {
        BlockDirections::None | BlockDirections::Inbound => PollFlags::IN,
        BlockDirections::Outbound => PollFlags::OUT,
        BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
    }
}

/// Sends a keep-alive if one is due. Never while a packet is half sent, nor into a full socket: libssh2 would mix the two.
pub(super) fn keep_alive(session: &Session, socket: BorrowedFd<'_>, wanted: PollFlags) -> Result<()> {
    if wanted == PollFlags::IN && session.authenticated() && wait(socket, PollFlags::OUT, Duration::ZERO)? {
        session.keepalive_send().map_err(|error| {
            Error::new(Kind::Unavailable, "the connection broke off").caused_by(error.message().to_owned())
        })?;
    }
    Ok(())
}

/// Waits for the socket; whether something came or may go.
fn wait(socket: BorrowedFd<'_>, wanted: PollFlags, time: Duration) -> Result<bool> {
    let mut sockets = [PollFd::from_borrowed_fd(socket, wanted)];
    poll_for(&mut sockets, time)?;
    Ok(!sockets[0].revents().is_empty())
}

/// `poll` with a time; a signal counts as time passed.
pub(super) fn poll_for(sockets: &mut [PollFd<'_>], time: Duration) -> Result<()> {
    let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: time.subsec_nanos().into() };
    match poll(sockets, Some(&time)) {
        Err(rustix::io::Errno::INTR) | Ok(_) => Ok(()),
        Err(error) => Err(error).context(|| "cannot wait for a connection"),
    }
}
