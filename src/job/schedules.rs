//! What is remembered of schedules, beside the jobs that they start; one change is one transaction with its job.
//!
//! A row knows the last scheduled instant that was served. The job of a run and that instant are kept in one commit, so
//! no death of a process loses a run or doubles it. One run at a time: the last job must have ended, and whoever runs a
//! schedule outside of the queue holds `schedules/NAME` (flock) meanwhile.
//! Knows not when anything is due.

use std::time::{Duration, Instant};

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::database::now;
use super::end::{End, note, told};
use super::failure::{Failure, written};
use super::queue::{Queue, insert};
use super::record::Submission;
use crate::error::{Error, Kind, Result};
use crate::host::{clock, fault, fs, random};
use crate::vocab::JobId;

/// How long a run by hand waits for somebody who only looks.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is remembered of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its name.
    pub name: String,
    /// What it was when it was looked at last; none while it is off.
    pub pattern: Option<String>,
    /// The last scheduled instant that was served, in seconds since 1970.
    pub served: i64,
    /// Since when it is known with this pattern, in seconds since 1970.
    pub since: i64,
    /// The job of the last run.
    pub job: Option<String>,
    /// When the last run began; this and the next in milliseconds since 1970.
    pub started: Option<i64>,
    /// When the last run that ended did.
    pub ended: Option<i64>,
    /// When the last success ended.
    pub succeeded: Option<i64>,
    /// How the last run ended: `success`, `failed` or `cancelled`.
    pub result: Option<String>,
    /// Why it did not succeed.
    pub why: Option<String>,
    /// How many runs were begun.
    pub runs: u64,
    /// How many were left out since one was under way.
    pub overlaps: u64,
    /// How many were missed.
    pub misfires: u64,
    /// Whether the job of the last run has not ended.
    pub is_under_way: bool,
}

/// What became of an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// This job serves it.
    Started(JobId),
    /// The run before goes on; it was left out.
    Overlap,
    /// Somebody else served it.
    Overtaken,
}

/// A run outside of the queue's order; nobody else runs the schedule while this lives.
#[derive(Debug)]
pub struct Flight {
    queue: Queue,
    name: String,
    job: Option<JobId>,
    _lock: fs::Lock,
}

const COLUMNS: &str = "name, pattern, served, since, schedules.job, schedules.started, ended, succeeded, \
    schedules.result, why, runs, overlaps, misfires, \
    EXISTS (SELECT 1 FROM jobs WHERE jobs.id = schedules.job AND jobs.finished IS NULL) AS busy";

fn from_row(row: &Row<'_>) -> rusqlite::Result<Remembered> {
    let count = |name: &str| row.get::<_, i64>(name).map(|number| u64::try_from(number).unwrap_or_default());
    Ok(Remembered {
        name: row.get("name")?,
        pattern: row.get("pattern")?,
        served: row.get("served")?,
        since: row.get("since")?,
        job: row.get("job")?,
        started: row.get("started")?,
        ended: row.get("ended")?,
        succeeded: row.get("succeeded")?,
        result: row.get("result")?,
        why: row.get("why")?,
        runs: count("runs")?,
        overlaps: count("overlaps")?,
        misfires: count("misfires")?,
        is_under_way: row.get("busy")?,
    })
}

fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<Remembered>> {
    connection.query_row(&format!("SELECT {COLUMNS} FROM schedules WHERE name = ?"), [name], from_row).optional()
}

impl Queue {
    /// Every schedule that was ever seen, in order of name.
    pub fn schedules(&self) -> Result<Vec<Remembered>> {
        self.database().read(|connection| {
            connection
                .prepare(&format!("SELECT {COLUMNS} FROM schedules ORDER BY name"))?
                .query_map([], from_row)?
                .collect()
        })
    }

    /// Takes note that a schedule means this from now on; none while it is off. What lies before is served.
    pub fn schedule_seen(&self, name: &str, pattern: Option<&str>, at: i64) -> Result<()> {
        self.database().write(|transaction| {
            transaction.execute(
                "INSERT INTO schedules (name, pattern, served, since) VALUES (?1, ?2, ?3, ?3)
                 ON CONFLICT (name) DO UPDATE SET pattern = ?2, served = ?3, since = ?3",
                params![name, pattern, at],
            )?;
            Ok(())
        })
    }

    /// Takes note that the clock was set back behind what was served.
    pub fn schedule_set_back(&self, name: &str, at: i64) -> Result<()> {
        self.database().write(|transaction| {
            transaction.execute(
                "UPDATE schedules SET served = ?2, since = min(since, ?2), succeeded = min(succeeded, ?2 * 1000)
                 WHERE name = ?1",
                params![name, at],
            )?;
            Ok(())
        })
    }

    /// Takes note that instants up to this one were missed.
    pub fn schedule_missed(&self, before: &Remembered, scheduled: i64, many: u32) -> Result<()> {
        self.database().write(|transaction| {
            transaction.execute(
                "UPDATE schedules SET served = ?3, misfires = misfires + ?4 WHERE name = ?1 AND served = ?2",
                params![before.name, before.served, scheduled, many],
            )?;
            Ok(())
        })
    }

    /// Serves an instant with a new job, unless the run before goes on; `collapsed` earlier ones are served as well.
    pub fn schedule_due(
        &self,
        before: &Remembered,
        scheduled: i64,
        collapsed: u32,
        submission: &Submission,
    ) -> Result<Served> {
        let lock = fs::Lock::try_exclusive(&self.flight_path(&before.name)?)?;
        let id = JobId::new(clock::now().as_millis().try_into().unwrap_or(u64::MAX), random::bytes()?);
        let call = written(&submission.call);
        fault::point("schedule.due");
        let served = self.database().write_around(
            |transaction| {
                let found = find(transaction, &before.name)?;
                let Some(found) = found.filter(|found| found.served == before.served) else {
                    return Ok(Some(Served::Overtaken));
                };
                let starts = lock.is_some() && !found.is_under_way;
                if starts && !insert(transaction, id, submission, &call)? {
                    return Ok(None);
                }
                transaction.execute(
                    "UPDATE schedules SET served = ?2, misfires = misfires + ?3, runs = runs + ?4,
                         overlaps = overlaps + NOT ?4, job = iif(?4, ?5, job), started = iif(?4, ?6, started)
                     WHERE name = ?1",
                    params![before.name, scheduled, collapsed, starts, id.to_string(), now()],
                )?;
                Ok(Some(if starts { Served::Started(id) } else { Served::Overlap }))
            },
            "schedule.before-commit",
            "schedule.after-commit",
        )?;
        served.ok_or_else(|| Error::new(Kind::Unavailable, "too many jobs wait already"))
    }

    /// Whether somebody runs the schedule outside of the queue's order just now.
    pub fn schedule_is_flown(&self, name: &str) -> Result<bool> {
        Ok(fs::Lock::try_exclusive(&self.flight_path(name)?)?.is_none())
    }

    /// Begins a run now, in this process; `job` is the job that this process works on. Refused while another run goes on.
    pub fn schedule_flight(&self, name: &str, pattern: Option<&str>, job: Option<JobId>) -> Result<Flight> {
        let path = self.flight_path(name)?;
        let begun = Instant::now();
        let lock = loop {
            if let Some(lock) = fs::Lock::try_exclusive(&path)? {
                break lock;
            }
            if begun.elapsed() > PATIENCE {
                return Err(busy(name, "it was started by hand"));
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let own = job.map(|id| id.to_string());
        let at = i64::try_from(clock::now().as_secs()).unwrap_or(i64::MAX);
        let other = self.database().write(|transaction| {
            let found = find(transaction, name)?;
            if let Some(found) = found.filter(|found| found.is_under_way && found.job != own) {
                return Ok(found.job);
            }
            transaction.execute(
                "INSERT INTO schedules (name, pattern, served, since, job, started, runs) VALUES (?1, ?2, ?3, ?3, ?4, ?5, 1)
                 ON CONFLICT (name) DO UPDATE SET job = ?4, started = ?5, runs = runs + 1",
                params![name, pattern, at, own, now()],
            )?;
            Ok(None)
        })?;
        match other {
            Some(job) => Err(busy(name, &format!("job {job} works on it"))),
            None => Ok(Flight { queue: self.clone(), name: name.to_owned(), job, _lock: lock }),
        }
    }

    fn flight_path(&self, name: &str) -> Result<std::path::PathBuf> {
        let folder = self.folder().join("schedules");
        fs::create_dir_all(&folder, 0o700)?;
        Ok(folder.join(name))
    }
}

impl Flight {
    /// Takes note of how the run ended; where it is a job's, that job's end is what counts.
    pub fn end(self, retcode: u8, error: Option<&Error>) -> Result<()> {
        if self.job.is_some() {
            return Ok(());
        }
        let how = match error {
            Some(error) => End::Failed(Failure::from(error)),
            None => End::Done(String::new(), retcode),
        };
        self.queue.database().write(|transaction| {
            let (result, why) = told(&how);
            note(transaction, "name = ?1", &self.name, (result, why))
        })
    }
}

fn busy(name: &str, who: &str) -> Error {
    Error::new(Kind::Conflict, format!("schedule `{name}` runs already: {who}"))
        .hint("`castoff call schedule.list` shows it")
}
