//! The time of day, asked in one place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, Kind, Result};

/// Seconds and nanoseconds since 1970-01-01 UTC.
pub fn now() -> Duration {
    #[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The time that `SOURCE_DATE_EPOCH` (whole seconds since 1970) asks to write into results, where it is set.
pub fn source_date_epoch() -> Result<Option<Duration>> {
    let Some(text) = super::environment::text("SOURCE_DATE_EPOCH")? else { return Ok(None) };
    text.parse().map(|seconds| Some(Duration::from_secs(seconds))).map_err(|error| {
        Error::new(Kind::Usage, format!("SOURCE_DATE_EPOCH is `{text}`, which is not a number of seconds"))
            .caused_by(error)
    })
}

/// When this was asked for the first time, since 1970: a number that no other start of this program shares.
pub fn started() -> Duration {
    static STARTED: std::sync::OnceLock<Duration> = std::sync::OnceLock::new();
    *STARTED.get_or_init(now)
}
