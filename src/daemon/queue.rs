//! The daemon's jobs: the queue, opened when it is needed, and who starts its jobs.
//!
//! A daemon whose job database is out of order serves everything else.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::job::{Launch, Limits, Queue, Supervisor};

/// The most looks at the database at once.
const LOOKS: usize = 8;

/// The most jobs that are being ended at once: each waits for a process.
const CANCELS: usize = 8;

/// The most followers of events at once.
const FOLLOWERS: usize = 256;

/// The queue and who starts its jobs.
pub(super) struct Open {
    pub(super) queue: Queue,
    pub(super) supervisor: Supervisor,
}

/// The daemon's jobs.
pub(super) struct Jobs {
    open: Mutex<Option<Arc<Open>>>,
    problem: Mutex<Option<String>>,
    /// Whoever looks at the database holds one of these.
    pub(super) looks: Arc<Semaphore>,
    /// Whoever ends a job holds one of these.
    pub(super) cancels: Arc<Semaphore>,
    /// Whoever follows events holds one of these.
    pub(super) followers: Arc<Semaphore>,
}

impl Jobs {
    /// None open yet.
    pub(super) fn new() -> Self {
        Self {
            open: Mutex::new(None),
            problem: Mutex::new(None),
            looks: Arc::new(Semaphore::new(LOOKS)),
            cancels: Arc::new(Semaphore::new(CANCELS)),
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
        }
    }

    /// The queue, opened if it was not; then the jobs in it go on. Touches files.
    pub(super) fn open(&self, config: &Config) -> Result<Arc<Open>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = &*open {
            return Ok(Arc::clone(open));
        }
        let opened = Queue::open(&config.state_dir).and_then(|queue| {
            let supervisor = Supervisor::start(&queue, Limits::from(config), Launch::own(config))?;
            Ok(Arc::new(Open { queue, supervisor }))
        });
        let problem = opened.as_ref().err().map(ToString::to_string);
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
        *open = Some(Arc::clone(&opened?));
        open.as_ref().map(Arc::clone).ok_or_else(|| Error::new(Kind::Failed, "there are no jobs"))
    }

    fn opened(&self) -> Option<Arc<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why no jobs are begun or started just now, if so.
    pub(super) fn trouble(&self) -> Option<String> {
        match self.opened() {
            Some(open) => open.supervisor.trouble(),
            None => self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Goes on with the jobs there are; where that cannot be, it is told, and tried again with the next question.
    pub(super) fn resume(&self, config: &Config) {
        if let Err(error) = self.open(config) {
            tracing::error!(error = error.render(), "there are no jobs");
        }
    }

    /// Another configuration is in force.
    pub(super) fn reconfigure(&self, before: &Config, now: &Config) -> Result<()> {
        if before.state_dir != now.state_dir {
            tracing::warn!("`state_dir` changes with a restart only, for jobs");
        }
        match self.opened() {
            Some(open) => open.supervisor.reconfigure(Limits::from(now), Launch::own(now)),
            None => Ok(()),
        }
    }

    /// Starts no more jobs; those that run go on without the daemon.
    pub(super) fn stop(&self) {
        if let Some(open) = self.opened() {
            open.supervisor.stop();
        }
    }
}
