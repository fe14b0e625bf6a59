//! How a job ends, and what its schedule remembers of that.

use rusqlite::{Transaction, params};

use super::database::now;
use super::failure::Failure;
use super::record::State;
use crate::vocab::Value;

/// How a job ends.
pub(super) enum End {
    /// With the text of a result.
    Done(String, u8),
    Failed(Failure),
    Cancelled,
}

impl End {
    pub(super) fn state(&self) -> State {
        match self {
            Self::Done(..) => State::Done,
            Self::Failed(_) => State::Failed,
            Self::Cancelled => State::Cancelled,
        }
    }
}

/// Takes note of a job's end, if it is the last run of a schedule; in the transaction that ends the job.
pub(super) fn note_end(transaction: &Transaction<'_>, number: i64, how: &End) -> rusqlite::Result<()> {
    note(transaction, "job = (SELECT id FROM jobs WHERE number = ?1)", &number, told(how))
}

/// Takes note of an end of a schedule's run.
pub(super) fn note(
    transaction: &Transaction<'_>,
    which: &str,
    key: &dyn rusqlite::ToSql,
    (result, why): (&str, Option<String>),
) -> rusqlite::Result<()> {
    transaction.execute(
        &format!(
            "UPDATE schedules SET ended = ?2, result = ?3, why = ?4, succeeded = iif(?3 = 'success', ?2, succeeded)
             WHERE {which}"
        ),
        params![key, now(), result, why],
    )?;
    Ok(())
}

/// The result's word, and why it is no success.
pub(super) fn told(how: &End) -> (&'static str, Option<String>) {
    match how {
        End::Done(_, 0) => ("success", None),
        End::Done(_, code) => ("failed", Some(format!("it returned code {code}"))),
        End::Failed(failure) => {
            ("failed", failure.to_value().get("message").and_then(Value::as_str).map(str::to_owned))
        }
        End::Cancelled => ("cancelled", None),
    }
}
