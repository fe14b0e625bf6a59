//! Cron patterns of five fields, in a time zone.
//!
//! Semantics are crontab(5)'s: minute, hour, day of month, month, day of week; where both days are restricted, either
//! may match. In the hour that daylight saving leaves out a job runs when the hour is over; in the hour that comes twice
//! a job with a fixed time runs once.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike as _};
use croner::parser::{CronParser, Seconds, Year};

use super::Instant;
use crate::error::{Error, Kind, Result};

/// A pattern that matches no instant in this many years from 2000 on is refused: longer than any leap-day pattern needs.
const YEARS: i32 = 100;

/// The most instants that are counted one by one.
const COUNTED: u32 = 1_000;

/// A time zone by its IANA name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zone(chrono_tz::Tz);

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Self = Self(chrono_tz::Tz::UTC);

    /// The instant as its clocks show it, with their offset: `2026-11-22T03:03:00+01:00`.
    pub fn show(self, instant: Instant) -> String {
        DateTime::from_timestamp(instant, 0)
            .map_or_else(|| instant.to_string(), |utc| utc.with_timezone(&self.0).to_rfc3339())
    }
}

impl FromStr for Zone {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        name.parse().map(Self).map_err(|_| {
            Error::new(Kind::Usage, format!("`{}` is not a time zone", name.escape_debug()))
                .hint("a zone is named as in `timedatectl list-timezones`, such as `Europe/Paris` or `UTC`")
        })
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.name())
    }
}

/// The instants that a pattern means in a zone.
#[derive(Clone, Debug)]
pub struct Cron {
    pattern: croner::Cron,
    text: String,
    zone: Zone,
}

impl Cron {
    /// Reads a pattern of five fields.
    pub fn parse(text: &str, zone: Zone) -> Result<Self> {
        let wrong = |why: String| {
            Error::new(Kind::Usage, format!("`{}` is not a schedule: {why}", text.escape_debug()))
                .hint("a schedule is `minute hour day-of-month month day-of-week`, such as `3 3 * * *`")
        };
        let fields = text.split_ascii_whitespace().count();
        if !text.starts_with('@') && fields != 5 {
            return Err(wrong(format!("it has {fields} fields, not five")));
        }
        let pattern = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(text)
            .map_err(|error| wrong(error.to_string()))?;
        let cron = Self { pattern, text: text.split_ascii_whitespace().collect::<Vec<_>>().join(" "), zone };
        // 2000-01-01T00:00:00Z: whether a pattern has any instant does not depend on when it is asked.
        match cron.after(946_684_800) {
            Some(_) => Ok(cron),
            None => Err(wrong(format!("no day of {YEARS} years matches it"))),
        }
    }

    /// The pattern of `cron_hour` and `cron_minute`: each a number, or any field of a pattern.
    pub fn daily(hour: &str, minute: &str, zone: Zone) -> Result<Self> {
        for (name, field) in [("cron_hour", hour), ("cron_minute", minute)] {
            if field.is_empty() || field.contains(char::is_whitespace) || field.starts_with('@') {
                return Err(Error::new(Kind::Usage, format!("`{name}` is `{}`", field.escape_debug()))
                    .hint("it is one field of a crontab line, such as `3` or `*/6`"));
            }
        }
        Self::parse(&format!("{minute} {hour} * * *"), zone)
    }

    /// The zone its fields are read in.
    pub fn zone(&self) -> Zone {
        self.zone
    }

    /// The first instant after this one.
    pub fn after(&self, instant: Instant) -> Option<Instant> {
        let from = self.local(instant)?;
        let found = self.pattern.find_next_occurrence(&from, false).ok()?;
        (found.year() <= from.year() + YEARS).then(|| found.timestamp())
    }

    /// The last instant that is not after this one.
    pub fn before(&self, instant: Instant) -> Option<Instant> {
        let from = self.local(instant)?;
        let found = self.pattern.find_previous_occurrence(&from, true).ok()?;
        (found.year() >= from.year() - YEARS).then(|| found.timestamp())
    }

    /// How many instants lie between these two, both left out; counted up to a thousand.
    pub fn between(&self, after: Instant, before: Instant) -> u32 {
        let mut count = 0;
        let mut from = after;
        while count < COUNTED {
            match self.after(from) {
                Some(next) if next < before => from = next,
                _ => break,
            }
            count += 1;
        }
        count
    }

    fn local(&self, instant: Instant) -> Option<DateTime<chrono_tz::Tz>> {
        DateTime::from_timestamp(instant, 0).map(|utc| utc.with_timezone(&self.zone.0))
    }
}

impl fmt::Display for Cron {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.text, self.zone)
    }
}

impl PartialEq for Cron {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.zone == other.zone
    }
}
