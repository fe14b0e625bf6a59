//! What is known of one job.

use rusqlite::Row;

use super::failure::{Failure, parsed};
use crate::error::{Error, Kind, Result};
use crate::host::session::Identity;
use crate::vocab::{JobId, Key, Map, Value, timestamp};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// It waits for its turn.
    Queued,
    /// A process works on it, or did until it died.
    Running,
    /// Its function gave a result.
    Done,
    /// Its function failed, or its process died too often.
    Failed,
    /// Somebody ended it.
    Cancelled,
}

impl State {
    /// Every state, in the order of a job's life.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Done, Self::Failed, Self::Cancelled];

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing can happen to the job any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Done | Self::Failed | Self::Cancelled => true,
        }
    }
}

impl std::str::FromStr for State {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|state| state.word() == word).ok_or_else(|| {
            let known = Self::ALL.map(Self::word).join("`, `");
            Error::new(Kind::Usage, format!("there is no job state `{}`", word.escape_debug()))
                .hint(format!("the states are `{known}`"))
        })
    }
}

/// A call that is to become a job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Submission {
    /// The function's name.
    pub function: String,
    /// Everything that is needed to call it; may hold secrets.
    pub call: Value,
    /// A map with `arg` and `kwarg` as they may be shown to anybody.
    pub shown: Value,
    /// Who calls.
    pub who: String,
    /// Through which door.
    pub door: String,
    /// The request's id.
    pub request: String,
    /// The job that this one tries again.
    pub retry_of: Option<JobId>,
}

/// A job as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// The function it calls.
    pub function: String,
    /// A map with `arg` and `kwarg`, secrets masked.
    pub shown: Value,
    /// Who called.
    pub who: String,
    /// Through which door.
    pub door: String,
    /// The request's id.
    pub request: String,
    /// The job that this one tries again.
    pub retry_of: Option<JobId>,
    /// Where it stands.
    pub state: State,
    /// When it was made; this and all times in milliseconds since 1970.
    pub created: i64,
    /// When a process took it first.
    pub started: Option<i64>,
    /// When it ended.
    pub finished: Option<i64>,
    /// How many processes have taken it.
    pub attempts: u32,
    /// Who asked for it to end.
    pub cancelled_by: Option<String>,
    /// The process that works on it, or worked on it last.
    pub holder: Option<Identity>,
    /// When that process last said that it lives.
    pub heartbeat: Option<i64>,
    /// What its function returned; not read for lists.
    pub result: Option<Value>,
    /// The return code of that.
    pub retcode: Option<u8>,
    /// Why it failed.
    pub error: Option<Failure>,
    /// The sequence number of its last event.
    pub last_event: u64,
    pub(super) number: i64,
}

/// The columns that [`Job::from_row`] takes, without the result.
pub(super) const COLUMNS: &str = "number, id, function, shown, who, door, request, retry_of, state, created, started, \
    finished, attempts, cancelled_by, pid, boot, start, heartbeat, retcode, error, last_event";

/// A row as SQLite gives it, to be parsed once the statement is done with.
pub(super) struct Raw {
    texts: [String; 7],
    retry_of: Option<String>,
    times: (i64, Option<i64>, Option<i64>, Option<i64>),
    numbers: (i64, u32, u64),
    cancelled_by: Option<String>,
    holder: (Option<i32>, Option<String>, Option<i64>),
    retcode: Option<u8>,
    error: Option<String>,
    result: Option<String>,
}

impl Raw {
    /// The columns of [`COLUMNS`], then `result` where it was asked for.
    pub(super) fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        let unsigned = |name: &str| row.get::<_, i64>(name).map(|number| u64::try_from(number).unwrap_or_default());
        Ok(Self {
            texts: [
                row.get("id")?,
                row.get("function")?,
                row.get("shown")?,
                row.get("who")?,
                row.get("door")?,
                row.get("request")?,
                row.get("state")?,
            ],
            retry_of: row.get("retry_of")?,
            times: (row.get("created")?, row.get("started")?, row.get("finished")?, row.get("heartbeat")?),
            numbers: (row.get("number")?, row.get("attempts")?, unsigned("last_event")?),
            cancelled_by: row.get("cancelled_by")?,
            holder: (row.get("pid")?, row.get("boot")?, row.get("start")?),
            retcode: row.get("retcode")?,
            error: row.get("error")?,
            result: if row.as_ref().column_index("result").is_ok() { row.get("result")? } else { None },
        })
    }

    pub(super) fn parse(self) -> Result<Job> {
        let [id, function, shown, who, door, request, state] = self.texts;
        let id: JobId = id.parse()?;
        let holder = match self.holder {
            (Some(pid), Some(boot), Some(start)) => {
                Some(Identity { pid, boot, start: u64::try_from(start).unwrap_or_default() })
            }
            _ => None,
        };
        let json = |text: Option<String>, what: &str| {
            text.map(|text| parsed(&text, &format!("{what} of job {id}"))).transpose()
        };
        Ok(Job {
            id,
            function,
            shown: parsed(&shown, &format!("arguments of job {id}"))?,
            who,
            door,
            request,
            retry_of: self.retry_of.map(|id| id.parse()).transpose()?,
            state: state.parse()?,
            created: self.times.0,
            started: self.times.1,
            finished: self.times.2,
            attempts: self.numbers.1,
            cancelled_by: self.cancelled_by,
            holder,
            heartbeat: self.times.3,
            result: json(self.result, "result")?,
            retcode: self.retcode,
            error: json(self.error, "error")?.as_ref().map(Failure::from_value),
            last_event: self.numbers.2,
            number: self.numbers.0,
        })
    }
}

impl Job {
    /// As doors show it: times in RFC 3339, arguments masked.
    pub fn to_value(&self) -> Value {
        let part = |name: &str| self.shown.get(name).cloned().unwrap_or_default();
        let process = self.holder.as_ref().filter(|_| self.state == State::Running).map(|holder| holder.pid);
        Value::Map(Map::from_iter(
            [
                ("id", Value::from(self.id.to_string())),
                ("fun", Value::from(self.function.as_str())),
                ("arg", part("arg")),
                ("kwarg", part("kwarg")),
                ("state", Value::from(self.state.word())),
                ("created", moment(self.created)),
                ("started", Value::from(self.started.map(moment))),
                ("finished", Value::from(self.finished.map(moment))),
                ("attempts", Value::from(self.attempts)),
                ("pid", Value::from(process)),
                ("heartbeat", Value::from(self.heartbeat.filter(|_| process.is_some()).map(moment))),
                ("return", self.result.clone().unwrap_or_default()),
                ("retcode", Value::from(self.retcode)),
                ("error", Value::from(self.error.as_ref().map(Failure::to_value))),
                ("who", Value::from(self.who.as_str())),
                ("door", Value::from(self.door.as_str())),
                ("request_id", Value::from(self.request.as_str())),
                ("retry_of", Value::from(self.retry_of.map(|id| id.to_string()))),
                ("cancelled_by", Value::from(self.cancelled_by.as_ref())),
                ("last_event", Value::from(self.last_event)),
            ]
            .map(|(name, value)| (Key::from(name), value)),
        ))
    }
}

/// Milliseconds since 1970 in RFC 3339.
pub(super) fn moment(milliseconds: i64) -> Value {
    let nanoseconds = u32::try_from(milliseconds.rem_euclid(1000)).unwrap_or_default() * 1_000_000;
    Value::from(timestamp(milliseconds.div_euclid(1000), nanoseconds))
}
