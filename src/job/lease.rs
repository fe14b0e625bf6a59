//! Who runs a job: taking it, ending it, and finding out that whoever had it is dead.
//!
//! Every change of state is here, in [`super::queue`] (into the queue) and in [`super::cancel`], each in one
//! transaction that looks at the state first.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::MARKER;
use super::database::{lease_path, now, try_lease};
use super::end::{End, note_end};
use super::events::{self, EventKind};
use super::failure::{Failure, written};
use super::queue::{Queue, changed};
use super::record::{Job, State};
use crate::error::{Error, Kind, Result};
use crate::host::session::Identity;
use crate::host::{fault, fs};
use crate::vocab::{JobId, Value};

/// The most bytes of a result.
const MOST_RESULT: usize = 4 << 20;

/// How a job's function ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It returned this, with this return code.
    Done(Value, u8),
    /// It failed, or was broken off when somebody had asked for the job to end.
    Failed(Failure),
    /// This process was told to end: the job goes back into the queue, and the attempt does not count.
    Interrupted,
}

/// A job that this process runs, and nobody else while this lives.
#[derive(Debug)]
pub struct Claim {
    queue: Queue,
    id: JobId,
    number: i64,
    attempt: u32,
    _lease: fs::Lock,
}

impl Queue {
    /// Takes a queued job to run it in this process; none when it is not queued, or another process has it.
    pub fn claim(&self, id: JobId) -> Result<Option<Claim>> {
        let Some(lease) = try_lease(self.folder(), id)? else { return Ok(None) };
        fault::point("job.claim.leased");
        let own = Identity::own()?;
        let claimed = self.database().write_around(
            |transaction| take(transaction, id, &own),
            "job.claim.before-commit",
            "job.claim.after-commit",
        )?;
        Ok(claimed.map(|(number, attempt)| Claim { queue: self.clone(), id, number, attempt, _lease: lease }))
    }

    /// Looks after a running job whose process may be dead: if it is, what it left behind is killed, and the job is
    /// queued again, or has failed if that was its last attempt, or is cancelled if somebody had asked. Its new state, if
    /// it got one.
    pub fn recover(&self, job: &Job, attempts: u32) -> Result<Option<State>> {
        let Some(_lease) = try_lease(self.folder(), job.id)? else { return Ok(None) };
        if let Some(holder) = &job.holder {
            kill_others(holder, job.id)?;
        }
        self.database().write_around(
            |transaction| bury(transaction, job.id, attempts),
            "job.recover.before-commit",
            "job.recover.after-commit",
        )
    }

    /// Notes that a process for a queued job ended before it took the job; after so many attempts the job has failed.
    pub fn note_failed_start(&self, id: JobId, why: &str, attempts: u32) -> Result<()> {
        let Some(_lease) = try_lease(self.folder(), id)? else { return Ok(()) };
        self.database().write(|transaction| {
            let Some((number, state, before, _)) = standing(transaction, id)? else { return Ok(()) };
            if state != State::Queued.word() {
                return Ok(());
            }
            transaction.execute("UPDATE jobs SET attempts = attempts + 1 WHERE number = ?", [number])?;
            if before + 1 < attempts {
                return Ok(());
            }
            let error = Error::new(Kind::Failed, format!("the job's process could not be started {attempts} times"))
                .caused_by(why.to_owned())
                .hint("the daemon's log has what it said");
            end(transaction, number, &End::Failed(Failure::from(&error)))
        })
    }
}

impl Claim {
    /// The job.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The how-manieth process this is, from 1 on.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    pub(super) fn number(&self) -> i64 {
        self.number
    }

    pub(super) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// What to call the job's function with.
    pub fn call(&self) -> Result<Value> {
        self.queue.call(self.id)
    }

    /// The job as it stands.
    pub fn job(&self) -> Result<Job> {
        self.queue.get(self.id)
    }

    /// Keeps how the function ended; what stands when this returns is on the disk. The job's state now.
    pub fn finish(&self, outcome: &Outcome) -> Result<State> {
        let state = self.queue.database().write_around(
            |transaction| {
                let cancelled = standing(transaction, self.id)?.is_some_and(|(_, _, _, cancelled)| cancelled);
                let how = match outcome {
                    Outcome::Done(value, retcode) => done(value, *retcode),
                    Outcome::Failed(_) | Outcome::Interrupted if cancelled => End::Cancelled,
                    Outcome::Failed(failure) => End::Failed(failure.clone()),
                    Outcome::Interrupted => {
                        queue_again(transaction, self.number, self.attempt.saturating_sub(1))?;
                        return Ok(State::Queued);
                    }
                };
                end(transaction, self.number, &how)?;
                Ok(how.state())
            },
            "job.finish.before-commit",
            "job.finish.after-commit",
        )?;
        if state.is_final() {
            fs::remove_file(&lease_path(self.queue.folder(), self.id))?;
        }
        Ok(state)
    }
}

/// Kills what a dead process left in its session.
fn kill_others(holder: &Identity, id: JobId) -> Result<()> {
    let marker = format!("{MARKER}={id}");
    // What is being started while others are killed is found the next time round.
    for _ in 0..100 {
        if holder.signal_others(&marker, rustix::process::Signal::KILL)? == 0 {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    Err(Error::new(Kind::Failed, format!("processes that job {id} left behind cannot be killed")))
}

type Standing = (i64, String, u32, bool);

/// Number, state, attempts, and whether somebody asked for the job to end.
fn standing(transaction: &Transaction<'_>, id: JobId) -> rusqlite::Result<Option<Standing>> {
    let sql = "SELECT number, state, attempts, cancelled_by IS NOT NULL FROM jobs WHERE id = ?";
    transaction
        .query_row(sql, [id.to_string()], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()
}

fn take(transaction: &Transaction<'_>, id: JobId, own: &Identity) -> rusqlite::Result<Option<(i64, u32)>> {
    let at = now();
    let taken: Option<(i64, u32)> = transaction
        .query_row(
            "UPDATE jobs SET state = 'running', attempts = attempts + 1, started = coalesce(started, ?2), pid = ?3,
                 boot = ?4, start = ?5, heartbeat = ?2
             WHERE id = ?1 AND state = 'queued' RETURNING number, attempts",
            params![id.to_string(), at, own.pid, own.boot, i64::try_from(own.start).unwrap_or(i64::MAX)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    if let Some((number, attempt)) = taken {
        events::append(transaction, number, &[changed(State::Running, attempt)])?;
    }
    Ok(taken)
}

fn bury(transaction: &Transaction<'_>, id: JobId, attempts: u32) -> rusqlite::Result<Option<State>> {
    let Some((number, state, before, cancelled)) = standing(transaction, id)? else { return Ok(None) };
    if state != State::Running.word() {
        return Ok(None);
    }
    if cancelled {
        end(transaction, number, &End::Cancelled)?;
        return Ok(Some(State::Cancelled));
    }
    if before < attempts {
        queue_again(transaction, number, before)?;
        return Ok(Some(State::Queued));
    }
    let times = if before == 1 { "once".to_owned() } else { format!("{before} times") };
    let error = Error::new(Kind::Failed, format!("the process that ran the job died {times}"))
        .hint("look for the reason in the kernel's log (memory?), then `castoff call job.retry`");
    end(transaction, number, &End::Failed(Failure::from(&error)))?;
    Ok(Some(State::Failed))
}

fn queue_again(transaction: &Transaction<'_>, number: i64, attempts: u32) -> rusqlite::Result<()> {
    transaction.execute(
        "UPDATE jobs SET state = 'queued', attempts = ?2, heartbeat = NULL WHERE number = ?1",
        params![number, attempts],
    )?;
    events::append(transaction, number, &[changed(State::Queued, attempts)])
}

fn done(value: &Value, retcode: u8) -> End {
    let text = written(value);
    if text.len() <= MOST_RESULT {
        return End::Done(text, retcode);
    }
    let message = format!("the job is done, but its result has {} bytes; {MOST_RESULT} are kept", text.len());
    End::Failed(Failure::from(&Error::new(Kind::Limit, message)))
}

/// Ends a job that has not ended yet.
pub(super) fn end(transaction: &Transaction<'_>, number: i64, how: &End) -> rusqlite::Result<()> {
    let (result, retcode, error) = match how {
        End::Done(result, retcode) => (Some(result), Some(*retcode), None),
        End::Failed(failure) => (None, None, Some(failure.to_value())),
        End::Cancelled => (None, None, None),
    };
    let state = how.state();
    let changed_rows = transaction.execute(
        "UPDATE jobs SET state = ?2, finished = ?3, result = ?4, retcode = ?5, error = ?6
         WHERE number = ?1 AND finished IS NULL",
        params![number, state.word(), now(), result, retcode, error.as_ref().map(written)],
    )?;
    if changed_rows == 0 {
        return Ok(());
    }
    note_end(transaction, number, how)?;
    let attempts: u32 =
        transaction.query_row("SELECT attempts FROM jobs WHERE number = ?", [number], |row| row.get(0))?;
    let last = Value::map([
        ("state", Value::from(state.word())),
        ("retcode", Value::from(retcode)),
        ("error", error.unwrap_or_default()),
    ]);
    events::append(transaction, number, &[changed(state, attempts), (EventKind::End, last)])
}
