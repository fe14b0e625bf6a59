//! The time of day, asked in one place.

use std::path::Path;
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

/// The name of this host's time zone, as tzdata has it.
///
/// `TZ` where it names one; else what `/etc/localtime` leads to (UTC where nothing is, as for the C library), else
/// `/etc/timezone`. A zone without a name is an error: its changes are not known.
pub fn zone() -> Result<String> {
    const FOLDER: &str = "/zoneinfo/";
    let of_path = |path: &Path| path.to_str().and_then(|path| path.split_once(FOLDER)).map(|(_, name)| name.to_owned());
    if let Some(text) = super::environment::text("TZ")? {
        let named = text.strip_prefix(':').unwrap_or(&text);
        return Ok(match of_path(Path::new(named)) {
            Some(name) => name,
            None if named.is_empty() => "UTC".to_owned(),
            None => named.to_owned(),
        });
    }
    let local = Path::new("/etc/localtime");
    let Some(found) = super::fs::link_metadata(local)? else { return Ok("UTC".to_owned()) };
    if found.is_symlink()
        && let Some(name) = super::links::target(local)?.as_deref().and_then(of_path)
    {
        return Ok(name);
    }
    let named = Path::new("/etc/timezone");
    if super::fs::exists(named)? {
        return Ok(super::fs::read_text(named)?.trim().to_owned());
    }
    Err(Error::new(Kind::Unsupported, "this host's time zone has no name: `/etc/localtime` is no link to it")
        .hint("`timedatectl set-timezone` makes one; or name the zone where castoff asks for it"))
}
