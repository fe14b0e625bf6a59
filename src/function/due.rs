//! A look at the timetable: what is due is put into the queue, what is not is taken note of.

use super::long::submission;
use super::timetable::{Plan, Row, Timetable};
use super::{CallError, Caller};
use crate::error::{Error, Kind, Result};
use crate::job::{Queue, Remembered, Served};
use crate::schedule::{Instant, Schedule, Verdict};

/// A clock that was set back by less than this (and less than two periods) is waited for: what was served is not served
/// again. By more, and the time that was served before says nothing any more.
const STEP_BACK: i64 = 3600;

/// Who calls, as jobs of schedules have it.
pub const SCHEDULER: &str = "schedule";

/// Starts what is due at `now`. One schedule that cannot be started stops no other: its failure is in the result.
pub fn start_due(queue: &Queue, table: &Timetable, now: Instant) -> Result<Vec<Error>> {
    let remembered = queue.schedules()?;
    let mut failures = Vec::new();
    for row in &table.rows {
        let before = remembered.iter().find(|known| known.name == row.name);
        if let Err(error) = one(queue, row, before, now) {
            failures.push(
                Error::new(error.kind(), format!("schedule `{}` was not looked after", row.name)).caused_by(error),
            );
        }
    }
    for gone in remembered.iter().filter(|known| !table.rows.iter().any(|row| row.name == known.name)) {
        if gone.pattern.is_some() {
            queue.schedule_seen(&gone.name, None, now)?;
        }
    }
    Ok(failures)
}

fn one(queue: &Queue, row: &Row, before: Option<&Remembered>, now: Instant) -> Result<()> {
    let schedule = match &row.plan {
        Plan::Broken(_) => return Ok(()),
        Plan::On(schedule) => Some(schedule),
        Plan::Off(_) => None,
    };
    let pattern = row.pattern();
    let known = before.filter(|before| before.pattern == pattern);
    match (schedule, known) {
        (None, Some(_)) => Ok(()),
        (None, None) if before.is_none() => Ok(()),
        (_, None) => {
            tracing::info!(schedule = row.name, pattern, off = row.why_off(), "schedule changed");
            queue.schedule_seen(&row.name, pattern.as_deref(), now)
        }
        (Some(schedule), Some(known)) => due(queue, row, schedule, known, now),
    }
}

fn due(queue: &Queue, row: &Row, schedule: &Schedule, known: &Remembered, now: Instant) -> Result<()> {
    let name = row.name.as_str();
    if known.served - now > tolerated(schedule, now) {
        tracing::warn!(schedule = name, "the clock was set back: the schedule goes on from now");
        return queue.schedule_set_back(name, now);
    }
    match schedule.verdict(known.served, now) {
        Verdict::Wait { .. } => Ok(()),
        Verdict::Missed { scheduled, late, next } => {
            let zone = schedule.cron.zone();
            let (at, next) = (zone.show(scheduled), zone.show(next));
            tracing::warn!(schedule = name, scheduled = at, late = late.as_secs(), next, "missed, and too late now");
            let many = schedule.cron.between(known.served, scheduled).saturating_add(1);
            queue.schedule_missed(known, scheduled, many)
        }
        Verdict::Run { scheduled, collapsed } => {
            let caller = Caller { who: SCHEDULER.to_owned(), door: "daemon".to_owned(), request: name.to_owned() };
            let submission = submission(row.call.clone(), &caller).map_err(CallError::into_error)?;
            let at = schedule.cron.zone().show(scheduled);
            match queue.schedule_due(known, scheduled, collapsed, &submission)? {
                Served::Started(job) => {
                    tracing::info!(schedule = name, scheduled = at, collapsed, job = %job, "schedule queued");
                }
                Served::Overlap => {
                    tracing::warn!(schedule = name, scheduled = at, "left out: the run before has not ended");
                }
                Served::Overtaken => tracing::debug!(schedule = name, "another process was first"),
            }
            Ok(())
        }
    }
}

/// By how much the clock may be behind what was served before that is forgotten, in seconds.
fn tolerated(schedule: &Schedule, now: Instant) -> i64 {
    let first = schedule.cron.after(now);
    let second = first.and_then(|first| schedule.cron.after(first));
    let period = first.zip(second).map_or(STEP_BACK, |(first, second)| second - first);
    STEP_BACK.min(period.saturating_mul(2))
}

/// In what schedules fall short, told for people: late ones, and those that something broken keeps from running.
pub fn shortcomings(queue: &Queue, table: &Timetable, now: Instant) -> Result<Vec<String>> {
    let remembered = queue.schedules()?;
    let told = table.rows.iter().filter_map(|row| match &row.plan {
        Plan::Broken(why) => Some(format!("schedule `{}` does not run: {why}", row.name)),
        Plan::Off(_) => None,
        Plan::On(_) => {
            let known = remembered.iter().find(|known| known.name == row.name)?;
            row.is_late(known, now).then(|| why_late(row, known))
        }
    });
    Ok(told.collect())
}

/// Why a schedule is late.
pub(super) fn why_late(row: &Row, known: &Remembered) -> String {
    let zone = row.schedule().map_or(crate::schedule::Zone::UTC, |schedule| schedule.cron.zone());
    let since = match known.succeeded {
        Some(at) => format!("since {}", zone.show(at.div_euclid(1000))),
        None => format!("since it is known ({})", zone.show(known.since)),
    };
    let last = match (&known.result, &known.why) {
        (Some(result), Some(why)) => format!("; the last run: {result}, {why}"),
        (Some(result), None) => format!("; the last run: {result}"),
        (None, _) => String::new(),
    };
    format!("schedule `{}` had no success {since}, for two periods{last}", row.name)
}

/// Now, as the timetable counts.
pub fn now() -> Result<Instant> {
    i64::try_from(crate::host::clock::now().as_secs())
        .map_err(|error| Error::new(Kind::Failed, "the clock is wrong").caused_by(error))
}
