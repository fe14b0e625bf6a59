//! The events of a job: numbered from 1 on, replayed from any number, bounded, and honest about what was dropped.

use rusqlite::{Transaction, params};

use super::database::now;
use super::failure::{parsed, written};
use super::record::moment;
use crate::error::{Error, Kind, Result};
use crate::progress;
use crate::vocab::{Key, Map, Value};

/// The most bytes of events a job keeps; the oldest progress and messages go first.
const MOST_BYTES: i64 = 1 << 20;

/// The most progress and messages a job keeps.
const MOST_EVENTS: i64 = 2000;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// The job's state changed: `{"state": .., "attempt": ..}`.
    State,
    /// `{"phase": "started" | "advanced" | "finished", "stage": .., "done": .., "total": .. or null, "unit": "bytes" |
    /// "items"}`.
    Progress,
    /// `{"line": ..}`, `{"warning": ..}`, or `{"dropped": N}` where N events stood once.
    Message,
    /// The last event: `{"state": .., "retcode": .., "error": ..}`.
    End,
}

impl EventKind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Progress => "progress",
            Self::Message => "message",
            Self::End => "end",
        }
    }

    fn of_word(word: &str) -> Result<Self> {
        [Self::State, Self::Progress, Self::Message, Self::End]
            .into_iter()
            .find(|kind| kind.word() == word)
            .ok_or_else(|| Error::new(Kind::Corrupt, format!("there is no kind of event `{word}`")))
    }
}

/// Something that happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number: from 1 on, one more than the one before.
    pub sequence: u64,
    /// When, in milliseconds since 1970.
    pub at: i64,
    /// What it is about.
    pub kind: EventKind,
    /// What it says.
    pub data: Value,
}

impl Event {
    /// As doors show it in a list.
    pub fn to_value(&self) -> Value {
        Value::map([
            ("id", Value::from(self.sequence)),
            ("at", moment(self.at)),
            ("event", Value::from(self.kind.word())),
            ("data", self.data.clone()),
        ])
    }

    /// The data as JSON on one line.
    pub fn json(&self) -> String {
        written(&self.data)
    }
}

/// An event that has no number yet.
pub(super) type Draft = (EventKind, Value);

/// The data of a progress or message event.
pub(super) fn draft(event: &progress::Event, stage: &Stage) -> Draft {
    let of_stage = |phase: &str| {
        let unit = match stage.unit {
            progress::Unit::Bytes => "bytes",
            progress::Unit::Items => "items",
        };
        let data = Value::map([
            ("phase", Value::from(phase)),
            ("stage", Value::from(stage.name.as_str())),
            ("done", Value::from(stage.done)),
            ("total", Value::from(stage.total)),
            ("unit", Value::from(unit)),
        ]);
        (EventKind::Progress, data)
    };
    match event {
        progress::Event::Started { .. } => of_stage("started"),
        progress::Event::Advanced { .. } => of_stage("advanced"),
        progress::Event::Finished => of_stage("finished"),
        progress::Event::Warning(text) => (EventKind::Message, Value::map([("warning", cut(text))])),
        progress::Event::Line(text) => (EventKind::Message, Value::map([("line", cut(text))])),
    }
}

/// The stage under way, as events tell of it.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) done: u64,
    pub(super) total: Option<u64>,
    pub(super) unit: progress::Unit,
}

impl Stage {
    pub(super) fn none() -> Self {
        Self { name: String::new(), done: 0, total: None, unit: progress::Unit::Items }
    }

    /// Takes what an event says of the stage.
    pub(super) fn follow(&mut self, event: &progress::Event) {
        match event {
            progress::Event::Started { stage, total, unit } => {
                *self = Self { name: cut(stage), done: 0, total: *total, unit: *unit };
            }
            progress::Event::Advanced { done } => self.done = *done,
            progress::Event::Finished | progress::Event::Warning(_) | progress::Event::Line(_) => {}
        }
    }
}

/// At most 4096 bytes of a text.
fn cut(text: &str) -> String {
    const MOST: usize = 4096;
    if text.len() <= MOST {
        return text.to_owned();
    }
    let end = (0..=MOST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}…", &text[..end])
}

/// Gives events their numbers and keeps them; drops the oldest where there are too many.
pub(super) fn append(transaction: &Transaction<'_>, job: i64, drafts: &[Draft]) -> rusqlite::Result<()> {
    let (mut last, mut bytes): (i64, i64) =
        transaction.query_row("SELECT last_event, event_bytes FROM jobs WHERE number = ?", [job], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    let at = now();
    let mut insert =
        transaction.prepare("INSERT INTO events (job, sequence, at, kind, data) VALUES (?, ?, ?, ?, ?)")?;
    for (kind, data) in drafts {
        let text = written(data);
        last += 1;
        bytes += size(&text);
        insert.execute(params![job, last, at, kind.word(), text])?;
    }
    bytes -= drop_oldest(transaction, job, last, bytes)?;
    transaction.execute("UPDATE jobs SET last_event = ?, event_bytes = ? WHERE number = ?", [last, bytes, job])?;
    Ok(())
}

fn size(text: &str) -> i64 {
    i64::try_from(text.len()).unwrap_or(i64::MAX)
}

/// Drops the oldest progress and messages beyond the bounds; how many bytes that were. States stay.
fn drop_oldest(transaction: &Transaction<'_>, job: i64, last: i64, bytes: i64) -> rusqlite::Result<i64> {
    if last <= MOST_EVENTS && bytes <= MOST_BYTES {
        return Ok(0);
    }
    let mut oldest = transaction.prepare(
        "SELECT sequence, length(CAST(data AS BLOB)) FROM events
         WHERE job = ? AND kind IN ('progress', 'message') ORDER BY sequence",
    )?;
    let mut rows = oldest.query([job])?;
    let (mut up_to, mut freed) = (0, 0);
    while let Some(row) = rows.next()? {
        let (sequence, length): (i64, i64) = (row.get(0)?, row.get(1)?);
        if sequence > last - MOST_EVENTS && bytes - freed <= MOST_BYTES {
            break;
        }
        (up_to, freed) = (sequence, freed + length);
    }
    transaction.execute(
        "DELETE FROM events WHERE job = ? AND kind IN ('progress', 'message') AND sequence <= ?",
        [job, up_to],
    )?;
    Ok(freed)
}

/// Kept events with a message `{"dropped": N}` in every gap between them, the first gap being that behind `after`.
pub(super) fn with_gaps(after: u64, kept: Vec<(i64, i64, String, String)>) -> Result<Vec<Event>> {
    let mut events = Vec::with_capacity(kept.len());
    let mut before = after;
    for (sequence, at, kind, data) in kept {
        let sequence = u64::try_from(sequence).unwrap_or_default();
        let dropped = sequence.saturating_sub(before + 1);
        if dropped > 0 {
            let data = Value::Map(Map::from_iter([(Key::from("dropped"), Value::from(dropped))]));
            events.push(Event { sequence: sequence - 1, at, kind: EventKind::Message, data });
        }
        let data = parsed(&data, "the data of an event")?;
        events.push(Event { sequence, at, kind: EventKind::of_word(&kind)?, data });
        before = sequence;
    }
    Ok(events)
}
