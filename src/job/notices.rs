//! What somebody is to be told: kept from the moment at which it is true until it was heard, or is too old to matter.
//!
//! The end of a job is looked at once, and in the same commit becomes a notice or none; so no death of a process tells
//! twice, or never. Knows not who is told, nor how.

use rusqlite::{Row, params};

use super::database::now;
use super::queue::Queue;
use super::record::{COLUMNS, Job, Raw};
use crate::error::Result;

/// The most that is worked on at once.
const MOST: i64 = 50;

/// How long it is known that somebody heard a notice, in milliseconds.
const REMEMBERED: i64 = 30 * 24 * 60 * 60 * 1000;

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The same in every attempt.
    pub id: String,
    /// What is said.
    pub body: String,
    /// How often it was tried in vain.
    pub attempts: u32,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<Notice> {
    let attempts: i64 = row.get("attempts")?;
    Ok(Notice { id: row.get("id")?, body: row.get("body")?, attempts: u32::try_from(attempts).unwrap_or(u32::MAX) })
}

impl Queue {
    /// Jobs whose end nobody has looked at, in the order in which they came.
    pub fn untold(&self) -> Result<Vec<Job>> {
        let sql =
            format!("SELECT {COLUMNS} FROM jobs WHERE finished IS NOT NULL AND told = 0 ORDER BY number LIMIT {MOST}");
        let rows = self.database().read(|connection| {
            connection.prepare(&sql)?.query_map([], Raw::from_row)?.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter().map(Raw::parse).collect()
    }

    /// The job's end was looked at, and this is to be said of it.
    pub fn tell_end(&self, job: &Job, body: Option<&str>) -> Result<()> {
        let at = now();
        self.database().write(|transaction| {
            transaction.execute("UPDATE jobs SET told = 1 WHERE number = ?", [job.number])?;
            if let Some(body) = body {
                transaction.execute(
                    "INSERT OR IGNORE INTO notices (id, body, made, due) VALUES (?1, ?2, ?3, ?3)",
                    params![job.id.to_string(), body, at],
                )?;
            }
            Ok(())
        })
    }

    /// This is to be said, once for each `id`.
    pub fn tell(&self, id: &str, body: &str) -> Result<()> {
        let at = now();
        self.database().write(|transaction| {
            transaction
                .execute(
                    "INSERT OR IGNORE INTO notices (id, body, made, due) VALUES (?1, ?2, ?3, ?3)",
                    params![id, body, at],
                )
                .map(drop)
        })
    }

    /// What is to be said now, the oldest first.
    pub fn due_notices(&self) -> Result<Vec<Notice>> {
        let at = now();
        self.database().read(|connection| {
            connection
                .prepare("SELECT * FROM notices WHERE heard IS NULL AND due <= ?1 ORDER BY due, id LIMIT ?2")?
                .query_map([at, MOST], from_row)?
                .collect()
        })
    }

    /// Somebody heard it.
    pub fn heard(&self, id: &str) -> Result<()> {
        let at = now();
        self.database().write(|transaction| {
            transaction.execute("UPDATE notices SET heard = ?2 WHERE id = ?1", params![id, at])?;
            transaction.execute("DELETE FROM notices WHERE heard < ?", [at - REMEMBERED]).map(drop)
        })
    }

    /// Nobody heard it; it is said again after so many milliseconds.
    pub fn unheard(&self, id: &str, wait: i64) -> Result<()> {
        let due = now().saturating_add(wait);
        self.database().write(|transaction| {
            let sql = "UPDATE notices SET due = ?2, attempts = attempts + 1 WHERE id = ?1";
            transaction.execute(sql, params![id, due]).map(drop)
        })
    }

    /// Forgets what nobody heard for so many milliseconds; the ids of that.
    pub fn give_up_notices(&self, age: i64) -> Result<Vec<String>> {
        let before = now().saturating_sub(age);
        self.database().write(|transaction| {
            transaction
                .prepare("DELETE FROM notices WHERE heard IS NULL AND made < ? RETURNING id")?
                .query_map([before], |row| row.get(0))?
                .collect()
        })
    }
}
