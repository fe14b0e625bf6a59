//! Ending a job before its time.

use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension as _, params};

use super::MARKER;
use super::database::try_lease;
use super::end::End;
use super::events::{self, EventKind};
use super::lease;
use super::queue::{Queue, unknown};
use super::record::{Job, State};
use crate::error::{Error, Kind, Result};
use crate::host::fault;
use crate::vocab::{JobId, Value};
use rustix::process::Signal;

/// How long a killed process may take to be gone.
const LAST_PATIENCE: Duration = Duration::from_secs(10);

/// How often to look whether it is.
const INTERVAL: Duration = Duration::from_millis(20);

impl Queue {
    /// Ends a job: a queued one at once; a running one's process gets SIGTERM and cleans up, and after `grace` SIGKILL
    /// with all it started. Waits until it has ended; the job as it stands then (a job may have been done just before).
    ///
    /// The wish is on the disk before the first signal: whoever finds the process dead ends the job.
    pub fn cancel(&self, id: JobId, who: &str, grace: Duration) -> Result<Job> {
        let before = self.wish(id, who)?;
        if before.is_final() {
            return Err(Error::new(Kind::Conflict, format!("job {id} is {} already", before.word())));
        }
        fault::point("job.cancel.wished");
        let mut signals = [(Duration::ZERO, Signal::TERM), (grace, Signal::KILL)].into_iter().peekable();
        let begun = Instant::now();
        loop {
            let job = self.get(id)?;
            match job.state {
                State::Done | State::Failed | State::Cancelled => return Ok(job),
                // Its process gave it back between the wish and now.
                State::Queued => {
                    self.wish(id, who)?;
                }
                // Nobody is left who could end it.
                State::Running if try_lease(self.folder(), id)?.is_some() => {
                    self.recover(&job, 0)?;
                }
                State::Running => {
                    if let Some((_, signal)) = signals.next_if(|(due, _)| begun.elapsed() >= *due) {
                        send(&job, signal)?;
                        fault::point("job.cancel.signalled");
                    }
                }
            }
            if begun.elapsed() > grace + LAST_PATIENCE {
                return Err(Error::new(Kind::Unavailable, format!("the process of job {id} does not end"))
                    .hint("it is marked, and will be cancelled as soon as its process is gone"));
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Notes who wants the job to end, and ends it where it stands in the queue; the state it was in.
    fn wish(&self, id: JobId, who: &str) -> Result<State> {
        let state = self.database().write_around(
            |transaction| {
                let found: Option<(i64, String, bool)> = transaction
                    .query_row(
                        "SELECT number, state, cancelled_by IS NOT NULL FROM jobs WHERE id = ?",
                        [id.to_string()],
                        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                    )
                    .optional()?;
                let Some((number, state, wished)) = found else { return Ok(None) };
                let is_queued = state == State::Queued.word();
                if !wished && (is_queued || state == State::Running.word()) {
                    transaction.execute("UPDATE jobs SET cancelled_by = ?2 WHERE number = ?1", params![number, who])?;
                    let said = Value::map([("line", format!("{who} asked for the job to end"))]);
                    events::append(transaction, number, &[(EventKind::Message, said)])?;
                }
                if is_queued {
                    lease::end(transaction, number, &End::Cancelled)?;
                }
                Ok(Some(state))
            },
            "job.cancel.before-commit",
            "job.cancel.after-commit",
        )?;
        state.ok_or_else(|| unknown(id))?.parse()
    }
}

/// Signals the process of a job; what it started is killed with it, but told to end by itself.
fn send(job: &Job, signal: Signal) -> Result<()> {
    let Some(holder) = &job.holder else { return Ok(()) };
    if signal == Signal::KILL {
        holder.signal_others(&format!("{MARKER}={}", job.id), signal)?;
    }
    holder.signal(signal)?;
    Ok(())
}
