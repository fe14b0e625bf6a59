//! The queue: jobs come in, are looked at, and are forgotten some time after they ended.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{OptionalExtension as _, ToSql, Transaction, params};

use super::database::{Database, Durability, lease_path, now};
use super::events::{self, Draft, Event, EventKind};
use super::failure::{parsed, written};
use super::record::{COLUMNS, Job, Raw, State, Submission};
use crate::error::{Error, Kind, Result};
use crate::host::{fs, random};
use crate::vocab::{JobId, Value};

/// The most jobs that wait at once.
const MOST_QUEUED: i64 = 1000;

/// The most of one caller's jobs that wait at once.
const MOST_OF_ONE: i64 = 500;

/// The most bytes of a call.
const MOST_CALL: usize = 4 << 20;

/// The jobs of one state folder. Any number of processes may have it open; clones share one connection.
#[derive(Clone, Debug)]
pub struct Queue {
    folder: Arc<Path>,
    database: Arc<Mutex<Database>>,
}

/// Which jobs to list.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those that stand here.
    pub state: Option<State>,
    /// The most to list, the newest; none: 100.
    pub most: Option<u32>,
    /// Only those made before this one.
    pub before: Option<JobId>,
    /// Only those of this caller.
    pub who: Option<String>,
}

impl Queue {
    /// Opens the queue below the state folder, made where nothing is.
    pub fn open(state_dir: &Path) -> Result<Self> {
        let folder = state_dir.join("jobs");
        fs::create_dir_all(&folder, 0o700)?;
        let database = Database::open(&folder, Durability::Full)?;
        Ok(Self { folder: folder.into(), database: Arc::new(Mutex::new(database)) })
    }

    /// The folder all of it is in.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The connection, for one look or one change. A panic elsewhere left no half of a transaction: SQLite rolled back.
    pub(super) fn database(&self) -> MutexGuard<'_, Database> {
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a call; it is on the disk when this returns its id.
    pub fn submit(&self, submission: &Submission) -> Result<JobId> {
        let call = written(&submission.call);
        if call.len() > MOST_CALL {
            return Err(Error::new(
                Kind::Limit,
                format!("the arguments of a job may have {MOST_CALL} bytes, these have {}", call.len()),
            ));
        }
        let id = JobId::new(crate::host::clock::now().as_millis().try_into().unwrap_or(u64::MAX), random::bytes()?);
        let is_kept = self.database().write_around(
            |transaction| insert(transaction, id, submission, &call),
            "job.submit.before-commit",
            "job.submit.after-commit",
        )?;
        if is_kept {
            return Ok(id);
        }
        Err(Error::new(
            Kind::Unavailable,
            format!("{MOST_QUEUED} jobs wait already, or {MOST_OF_ONE} of this caller's"),
        )
        .hint("try again later; `castoff call job.list state=queued` shows them"))
    }

    /// The job with its result, if there is such a job.
    pub fn find(&self, id: JobId) -> Result<Option<Job>> {
        let sql = format!("SELECT {COLUMNS}, result FROM jobs WHERE id = ?");
        let raw = self
            .database()
            .read(|connection| connection.query_row(&sql, [id.to_string()], Raw::from_row).optional())?;
        raw.map(Raw::parse).transpose()
    }

    /// The job with its result.
    pub fn get(&self, id: JobId) -> Result<Job> {
        self.find(id)?.ok_or_else(|| unknown(id))
    }

    /// Jobs without their results, the newest first.
    pub fn list(&self, filter: &Filter) -> Result<Vec<Job>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR id < ?2)
             AND (?4 IS NULL OR who = ?4)
             ORDER BY id DESC LIMIT ?3"
        );
        let state = filter.state.map(State::word);
        let before = filter.before.map(|id| id.to_string());
        self.select(&sql, &[&state, &before, &filter.most.unwrap_or(100), &filter.who])
    }

    /// Jobs in this state, in the order in which they came.
    pub(super) fn in_order(&self, state: State) -> Result<Vec<Job>> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE state = ? ORDER BY number");
        self.select(&sql, &[&state.word()])
    }

    fn select(&self, sql: &str, parameters: &[&dyn ToSql]) -> Result<Vec<Job>> {
        let rows = self.database().read(|connection| {
            connection.prepare(sql)?.query_map(parameters, Raw::from_row)?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter().map(Raw::parse).collect()
    }

    /// How many jobs there are in each state.
    pub fn counts(&self) -> Result<Vec<(State, u64)>> {
        let counted = self.database().read(|connection| {
            let mut statement = connection.prepare("SELECT state, count(*) FROM jobs GROUP BY state")?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let of = |state: State| counted.iter().find(|(word, _)| word == state.word()).map_or(0, |(_, count)| *count);
        Ok(State::ALL.map(|state| (state, u64::try_from(of(state)).unwrap_or_default())).to_vec())
    }

    /// What a job's function is called with.
    pub fn call(&self, id: JobId) -> Result<Value> {
        let text = self.database().read(|connection| {
            connection
                .query_row("SELECT call FROM jobs WHERE id = ?", [id.to_string()], |row| row.get::<_, String>(0))
                .optional()
        })?;
        parsed(&text.ok_or_else(|| unknown(id))?, &format!("the call of job {id}"))
    }

    /// Up to `most` events with numbers above `after`, in order. Where some were dropped, a message stands for them; so
    /// whoever asks for what comes after the last number seen gets each number once.
    pub fn events_after(&self, id: JobId, after: u64, most: u32) -> Result<Vec<Event>> {
        let kept = self.database().read(|connection| {
            let sql = "SELECT sequence, at, kind, data FROM events
                       WHERE job = (SELECT number FROM jobs WHERE id = ?) AND sequence > ? ORDER BY sequence LIMIT ?";
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            let mut statement = connection.prepare(sql)?;
            let rows = statement.query_map(params![id.to_string(), after, most], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        events::with_gaps(after, kept)
    }

    /// Puts the call of a job that failed or was cancelled into the queue again, as a job of its own.
    pub fn retry(&self, id: JobId, submission: Submission) -> Result<JobId> {
        let job = self.get(id)?;
        match job.state {
            State::Failed | State::Cancelled => {}
            State::Queued | State::Running | State::Done => {
                return Err(Error::new(Kind::Conflict, format!("job {id} is {}", job.state.word()))
                    .hint("only a job that failed or was cancelled can be tried again"));
            }
        }
        let call = self.call(id)?;
        self.submit(&Submission { function: job.function, call, shown: job.shown, retry_of: Some(id), ..submission })
    }

    /// Forgets jobs that ended: those older than `days`, and all but the newest `keep`; how many.
    pub fn prune(&self, days: u32, keep: u32) -> Result<usize> {
        let before = now().saturating_sub(i64::from(days).saturating_mul(86_400_000));
        let gone = self.database().write(|transaction| {
            let sql = "DELETE FROM jobs WHERE finished IS NOT NULL AND (finished < ?1 OR number NOT IN
                       (SELECT number FROM jobs WHERE finished IS NOT NULL ORDER BY finished DESC, number DESC LIMIT ?2))
                       RETURNING id";
            let mut statement = transaction.prepare(sql)?;
            let rows = statement.query_map(params![before, keep], |row| row.get::<_, String>(0))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        if !gone.is_empty() {
            // Gives the freed pages back to the file system; a statement with one row a page.
            self.database().read(|connection| {
                let mut statement = connection.prepare("PRAGMA incremental_vacuum")?;
                let mut rows = statement.query([])?;
                while rows.next()?.is_some() {}
                Ok(())
            })?;
        }
        for id in &gone {
            fs::remove_file(&lease_path(&self.folder, id.parse()?))?;
        }
        Ok(gone.len())
    }
}

/// Whether there was room for the job.
pub(super) fn insert(transaction: &Transaction<'_>, id: JobId, of: &Submission, call: &str) -> rusqlite::Result<bool> {
    // Nobody fills the queue alone.
    let (queued, own): (i64, i64) = transaction.query_row(
        "SELECT count(*), count(*) FILTER (WHERE who = ?) FROM jobs WHERE state = 'queued'",
        [&of.who],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    if queued >= MOST_QUEUED || own >= MOST_OF_ONE {
        return Ok(false);
    }
    transaction.execute(
        "INSERT INTO jobs (id, function, call, shown, who, door, request, retry_of, state, created)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?)",
        params![
            id.to_string(),
            of.function,
            call,
            written(&of.shown),
            of.who,
            of.door,
            of.request,
            of.retry_of.map(|id| id.to_string()),
            now()
        ],
    )?;
    let number = transaction.last_insert_rowid();
    events::append(transaction, number, &[changed(State::Queued, 0)])?;
    Ok(true)
}

/// The event that tells of a state.
pub(super) fn changed(state: State, attempt: u32) -> Draft {
    (EventKind::State, Value::map([("state", Value::from(state.word())), ("attempt", Value::from(attempt))]))
}

/// There is no such job.
pub(super) fn unknown(id: JobId) -> Error {
    Error::new(Kind::NotFound, format!("there is no job {id}"))
        .hint("`castoff call job.list` lists the jobs; those that ended are forgotten after `jobs.keep_days`")
}
