//! A terminal for a command in a worker: castoff's own, passed on through a pseudo-terminal.
//!
//! ```text
//! person ── castoff's terminal (raw meanwhile) ── castoff ── /dev/pts/N ── command, leader of a session on it
//! ```
//!
//! A worker has no way to castoff's own terminal, nor may a command of a tree write keys to it. Where castoff's input
//! is no terminal, the lines of it are typed, and its end is the end of the command's input.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, OptionalActions, OutputModes, Termios};

use crate::error::{Context as _, Result};

/// How often the window's size is looked at.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// End of input, typed.
const END: u8 = 4;

/// A pseudo-terminal that a command is to get.
#[derive(Debug)]
pub struct Terminal {
    ours: OwnedFd,
    theirs: OwnedFd,
    name: PathBuf,
}

impl Terminal {
    /// A new one, like castoff's terminal if castoff has one.
    pub fn open() -> Result<Self> {
        let wrong = || "cannot make a terminal";
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let ours = rustix::pty::openpt(flags).context(wrong)?;
        rustix::pty::grantpt(&ours).context(wrong)?;
        rustix::pty::unlockpt(&ours).context(wrong)?;
        let name = rustix::pty::ptsname(&ours, Vec::new()).context(wrong)?.into_bytes();
        let name = PathBuf::from(std::ffi::OsString::from_vec(name));
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(&name, flags, Mode::empty()).context(wrong)?;
        let mut modes = rustix::termios::tcgetattr(&theirs).context(wrong)?;
        if let Some(own) = own_modes() {
            modes = own;
        } else {
            modes.local_modes -= LocalModes::ECHO;
            modes.output_modes -= OutputModes::OPOST;
        }
        rustix::termios::tcsetattr(&theirs, OptionalActions::Now, &modes).context(wrong)?;
        Ok(Self { ours, theirs, name })
    }

    /// Its name, by which [`Sandbox::shell`](super::Sandbox::shell) takes it.
    pub fn name(&self) -> &Path {
        &self.name
    }

    /// Passes on what is typed and printed until the result is dropped.
    pub fn relay(self) -> Result<Relay> {
        let wrong = || "cannot pass the terminal on";
        let before = own_modes();
        if let Some(before) = &before {
            let mut raw = before.clone();
            raw.make_raw();
            rustix::termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).context(wrong)?;
        }
        let (end, stop) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).context(wrong)?;
        let thread = std::thread::Builder::new().name("terminal".to_owned()).spawn(move || self.pass_on(&end));
        let mut relay = Relay { before, stop: Some(stop), thread: None };
        relay.thread = Some(thread.context(wrong)?);
        Ok(relay)
    }

    /// Until `end` is closed, and then what was printed before.
    fn pass_on(&self, end: &OwnedFd) -> rustix::io::Result<()> {
        let (input, output) = (io::stdin(), io::stdout());
        let mut buffer = vec![0; 64 * 1024];
        let (mut listens, mut ending) = (true, false);
        let (mut size, mut within_line) = (None, false);
        loop {
            let now = rustix::termios::tcgetwinsize(&input).ok();
            if let Some(now) = now.filter(|now| size != Some((now.ws_row, now.ws_col))) {
                size = Some((now.ws_row, now.ws_col));
                rustix::termios::tcsetwinsize(&self.ours, now)?;
            }
            let mut watched = vec![PollFd::new(&self.ours, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
            if listens {
                watched.push(PollFd::new(&input, PollFlags::IN));
            }
            let wait = if ending { Timespec { tv_sec: 0, tv_nsec: 0 } } else { GLANCE };
            match poll(&mut watched, Some(&wait)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            let ready: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
            if ready[0] {
                let count = rustix::io::read(&self.ours, &mut buffer[..])?;
                write_all(output.as_fd(), &buffer[..count])?;
                continue;
            }
            if ending {
                return Ok(());
            }
            ending = ready[1];
            if ready.get(2) == Some(&true) {
                let count = rustix::io::read(&input, &mut buffer[..])?;
                listens = count > 0;
                match (listens, within_line) {
                    (true, _) => write_all(self.ours.as_fd(), &buffer[..count])?,
                    // Within a line it only passes that on.
                    (false, true) => write_all(self.ours.as_fd(), &[END, END])?,
                    (false, false) => write_all(self.ours.as_fd(), &[END])?,
                }
                within_line = listens && buffer[count - 1] != b'\n';
            }
        }
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.theirs.as_fd()
    }
}

/// A terminal being passed on; dropping it ends that and gives castoff's own its modes back.
#[derive(Debug)]
pub struct Relay {
    before: Option<Termios>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<rustix::io::Result<()>>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        drop(self.stop.take());
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => tracing::warn!("the terminal was not passed on to the end: {error}"),
            Some(Err(_)) => tracing::warn!("the terminal was not passed on to the end"),
            Some(Ok(Ok(()))) | None => {}
        }
        if let Some(before) = &self.before
            && let Err(error) = rustix::termios::tcsetattr(io::stdin(), OptionalActions::Drain, before)
        {
            tracing::warn!("cannot reset the terminal: {error}; `reset` does");
        }
    }
}

/// The modes of castoff's terminal, if its input is one.
fn own_modes() -> Option<Termios> {
    rustix::termios::tcgetattr(io::stdin()).ok()
}

fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
