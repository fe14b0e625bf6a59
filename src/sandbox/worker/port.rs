//! The worker's own end: its order, and what it tells castoff meanwhile and at last.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Task;
use super::lines::{Down, ErrorLine, EventLine, Up, send};
use crate::error::{Context as _, Error, Kind, Result};
use crate::progress::{Cancel, Event, Progress, Sink};

/// How a task hears and tells.
#[derive(Debug)]
pub struct Port {
    order: Value,
    up: Arc<Channel>,
    wished: Arc<AtomicBool>,
}

impl Port {
    /// What castoff ordered.
    pub fn order<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.order.clone())
            .map_err(|error| Error::new(Kind::Corrupt, "the worker does not understand its order").caused_by(error))
    }

    /// Progress that castoff's own listener hears; of any thread.
    pub fn progress(&self) -> Progress {
        Progress::new(Arc::clone(&self.up) as Arc<dyn Sink>)
    }

    /// Set once castoff wants the task to end.
    pub fn cancel(&self) -> Cancel {
        Cancel::shared(Arc::clone(&self.wished))
    }

    /// Tells castoff a value before the result.
    pub fn tell(&self, value: &impl Serialize) -> Result<()> {
        let wrong = || "cannot tell castoff";
        let value = serde_json::to_value(value).map_err(io::Error::from).context(wrong)?;
        self.up.send(&Up::Value(value)).context(wrong)
    }
}

/// The way up, shared by all threads of the worker.
#[derive(Debug)]
struct Channel(Mutex<File>);

impl Channel {
    fn send(&self, line: &Up) -> io::Result<()> {
        send(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), line)
    }
}

impl Sink for Channel {
    fn event(&self, event: &Event) {
        // It fails when castoff is gone; then the listener of the way down ends this process.
        let _castoff_is_gone = self.send(&Up::Event(EventLine::from(event)));
    }
}

/// Runs the task that is ordered.
pub(super) fn serve(tasks: &[(&str, Task)]) -> ExitCode {
    match open().and_then(|(down, up)| Ok((begin(down)?, up))) {
        Err(_castoff_is_gone) => ExitCode::from(125),
        Ok(((name, order, wished), up)) => {
            let mut port = Port { order, up: Arc::new(Channel(Mutex::new(up))), wished };
            let outcome = match tasks.iter().find(|(task, _)| *task == name) {
                Some((_, task)) => task(&mut port),
                None => Err(Error::new(Kind::Unsupported, format!("this castoff has no worker for `{name}`"))),
            };
            let last = match &outcome {
                Ok(value) => Up::Done(value.clone()),
                Err(error) => Up::Failed(ErrorLine::of(error)),
            };
            match port.up.send(&last) {
                Ok(()) => ExitCode::SUCCESS,
                Err(_castoff_is_gone) => ExitCode::from(125),
            }
        }
    }
}

/// Takes both ways for itself: no program that the worker starts may read or write them.
fn open() -> io::Result<(OwnedFd, File)> {
    rustix::thread::set_name(c"castoff")?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let down = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let up = rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3)?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(io::stderr().as_fd())?;
    Ok((down, File::from(up)))
}

/// Reads the order, then listens for as long as the worker lives.
fn begin(down: OwnedFd) -> io::Result<(String, Value, Arc<AtomicBool>)> {
    let mut input = BufReader::new(File::from(down));
    let mut line = String::new();
    input.read_line(&mut line)?;
    let Down::Order { name, order } = serde_json::from_str(&line)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let wished = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&wished);
    std::thread::Builder::new().name("orders".to_owned()).spawn(move || {
        let mut line = String::new();
        while input.read_line(&mut line).is_ok_and(|count| count > 0) {
            if let Ok(Down::Cancel) = serde_json::from_str(&line) {
                flag.store(true, Ordering::SeqCst);
            }
            line.clear();
        }
        // Castoff is gone, and nobody is left to work for.
        let _never_returns = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
    })?;
    Ok((name, order, wished))
}
