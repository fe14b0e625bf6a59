//! What may be tried again, after which pause, and when it is enough.

use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::http::{Head, header};
use crate::progress::{Cancel, Progress};

/// How long to wait before the second, third … try.
const PAUSES: [u64; 3] = [300, 1000, 3000];
/// A server that asks for a longer pause is told of in an error.
const LONGEST: Duration = Duration::from_mins(2);
/// Tries of one thing in all, even if each brings it on a little.
const MOST: u32 = 64;

/// Why something did not work, and whether it may work later.
pub(super) enum Trouble {
    /// It will not.
    Fatal(Error),
    /// It may; after this pause, if the server said one.
    Temporary(Error, Option<Duration>),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        if error.kind() == Kind::Unavailable { Self::Temporary(error, None) } else { Self::Fatal(error) }
    }
}

impl Trouble {
    /// The error in it.
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Fatal(error) | Self::Temporary(error, _) => error,
        }
    }
}

/// Counts the tries of one thing.
#[derive(Default)]
pub(super) struct Retry {
    since_progress: usize,
    in_all: u32,
}

impl Retry {
    /// The last try brought it on: patience begins anew.
    pub(super) fn advanced(&mut self) {
        self.since_progress = 0;
    }

    /// Waits until the next try makes sense, or fails with what is the trouble.
    pub(super) fn pause(&mut self, trouble: Trouble, progress: &Progress, cancel: &Cancel) -> Result<()> {
        let (error, after) = match trouble {
            Trouble::Fatal(error) => return Err(error),
            Trouble::Temporary(error, after) => (error, after),
        };
        self.in_all += 1;
        let Some(pause) = PAUSES.get(self.since_progress).filter(|_| self.in_all < MOST) else { return Err(error) };
        self.since_progress += 1;
        let pause = after.unwrap_or_default().max(Duration::from_millis(*pause));
        if pause > LONGEST {
            return Err(error.hint(format!("the server asks for a pause of {} s: try again then", pause.as_secs())));
        }
        progress.line(format!("{error}; trying again in {:.1} s", pause.as_secs_f32()));
        cancel.sleep(pause)
    }

    /// Does it, again and again while that makes sense.
    pub(super) fn run<T>(
        progress: &Progress,
        cancel: &Cancel,
        mut work: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T> {
        let mut retry = Self::default();
        loop {
            match work() {
                Ok(done) => return Ok(done),
                Err(trouble) => retry.pause(trouble, progress, cancel)?,
            }
        }
    }
}

/// `Retry-After`: seconds, or a date that is compared with `now` (since 1970).
pub(super) fn after(head: &Head, now: Duration) -> Option<Duration> {
    pause(head.header(&header::RETRY_AFTER)?, now)
}

fn pause(text: &str, now: Duration) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(text.trim()).ok()?.timestamp();
    Some(Duration::from_secs(u64::try_from(date).ok()?).saturating_sub(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_seconds_or_a_date() {
        let now = Duration::from_secs(1_445_412_470);
        assert_eq!(pause("7", now), Some(Duration::from_secs(7)));
        assert_eq!(pause("Wed, 21 Oct 2015 07:28:00 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(pause("soon", now), None);
        assert_eq!(pause("-1", now), None);
    }

    #[test]
    fn patience_ends_and_a_long_pause_is_an_error() {
        let (progress, cancel) = (Progress::silent(), Cancel::new());
        let temporary = |after| Trouble::Temporary(Error::new(Kind::Unavailable, "busy"), after);
        let error = Retry::default().pause(temporary(Some(Duration::from_hours(1))), &progress, &cancel).unwrap_err();
        assert!(error.next_step().unwrap_or_default().contains("3600 s"));
        let mut spent = Retry { since_progress: PAUSES.len(), in_all: 4 };
        assert!(spent.pause(temporary(None), &progress, &cancel).is_err());
    }
}
