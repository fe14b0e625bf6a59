//! When work falls due: cron times in a time zone, missed runs, jitter.
//!
//! Pure: instants come in as seconds since 1970 (UTC) and go out the same way. Who keeps the last runs, sleeps or starts
//! anything is no business of this room.
//!
//! A scheduled instant is due once: when it lies after the last run and not after now. Several that passed while nobody
//! looked count as one. So a restart, a suspended machine and a clock that jumps forward lose nothing, and run nothing
//! twice. Measured reasons: a timer that waits for one instant loses it when the process is down, and one that computes
//! with a fixed offset is an hour off after each change to or from daylight saving time.

mod cron;
mod jitter;

use std::time::Duration;

pub use cron::{Cron, Zone};
pub use jitter::jitter;

/// Seconds since 1970-01-01T00:00:00Z.
pub type Instant = i64;

/// How one job repeats.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The instants it is meant for.
    pub cron: Cron,
    /// It starts this much later, so that many hosts do not start at once.
    pub delay: Duration,
    /// A run that is later than this is left out, and reported.
    pub grace: Duration,
}

/// What to do with a job now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing; this is its next time, delay included.
    Wait {
        /// When it starts.
        next: Instant,
    },
    /// Run it.
    Run {
        /// The scheduled instant that is served; what to keep as the last run.
        scheduled: Instant,
        /// How many earlier instants the same run serves.
        collapsed: u32,
    },
    /// It fell due while nobody could run it, too long ago.
    Missed {
        /// The latest scheduled instant that was missed; what to keep as the last run.
        scheduled: Instant,
        /// How late it is.
        late: Duration,
        /// When it starts next.
        next: Instant,
    },
}

impl Schedule {
    /// What to do at `now`, when the last served instant is `last`.
    ///
    /// A `last` in the future means that the clock was set back: the job then waits for its next instant from now on.
    pub fn verdict(&self, last: Instant, now: Instant) -> Verdict {
        let delay = seconds(self.delay);
        let last = last.min(now);
        let Some(scheduled) = self.cron.before(now - delay).filter(|&scheduled| scheduled > last) else {
            // Without an instant ahead there is nothing to wait for; a cron without instants does not parse.
            let next = self.cron.after(last.max(now - delay)).map_or(Instant::MAX, |next| next.saturating_add(delay));
            return Verdict::Wait { next };
        };
        let late = now - delay - scheduled;
        if late > seconds(self.grace) {
            let next = self.cron.after(now - delay).map_or(Instant::MAX, |next| next.saturating_add(delay));
            return Verdict::Missed { scheduled, late: Duration::from_secs(late.unsigned_abs()), next };
        }
        Verdict::Run { scheduled, collapsed: self.cron.between(last, scheduled) }
    }

    /// Whether two periods have passed since `success` (or since the job was first seen): on the wall of the schedule, so
    /// that a weekend without instants is none.
    pub fn is_late(&self, success: Instant, now: Instant) -> bool {
        let served = success - seconds(self.delay);
        let second = self.cron.after(served).and_then(|first| self.cron.after(first));
        let Some(second) = second else { return false };
        // As long after its instant as the last success came after its own.
        let lag = self.cron.before(served).map_or(0, |before| served - before);
        now > second.saturating_add(seconds(self.delay)).saturating_add(lag)
    }

    /// When the first instant after the served one starts: in the past where it is overdue.
    pub fn following(&self, served: Instant) -> Option<Instant> {
        self.cron.after(served).map(|next| next.saturating_add(seconds(self.delay)))
    }

    /// The next times it starts, delay included, at most `count`.
    pub fn upcoming(&self, now: Instant, count: usize) -> Vec<Instant> {
        let delay = seconds(self.delay);
        let mut found = Vec::new();
        let mut from = now - delay;
        while found.len() < count {
            let Some(next) = self.cron.after(from) else { break };
            found.push(next + delay);
            from = next;
        }
        found
    }
}

/// Whole seconds, as far as they fit.
fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 4)
}
