//! The daemon's log: one line an event on stderr, text or JSON, at a level that can be changed while it runs.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt};

use crate::config::LogFormat;
use crate::error::{Error, Kind, Result};
use crate::host;

/// The level where nobody configured one.
pub(super) const DEFAULT_LEVEL: &str = "info";

/// The log's level, to be asked and changed.
#[derive(Debug)]
pub(super) struct Logs {
    handle: reload::Handle<Targets, Registry>,
    level: std::sync::Mutex<String>,
}

/// Begins the log. Lines have no time where the journal adds one.
pub(super) fn start(level: &str, format: LogFormat) -> Result<Logs> {
    let (filter, handle) = reload::Layer::new(targets(level));
    let journal = host::environment::raw("JOURNAL_STREAM").is_some();
    let layer = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let layer = match (format, journal) {
        (LogFormat::Json, _) => layer.json().flatten_event(true).with_current_span(true).with_span_list(false).boxed(),
        (LogFormat::Text, true) => layer.with_ansi(false).without_time().boxed(),
        (LogFormat::Text, false) => layer.with_ansi(rustix::termios::isatty(std::io::stderr())).boxed(),
    };
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .try_init()
        .map_err(|error| Error::new(Kind::Failed, "cannot begin the log").caused_by(error))?;
    Ok(Logs { handle, level: std::sync::Mutex::new(level.to_owned()) })
}

impl Logs {
    /// The level in force.
    pub(super) fn level(&self) -> String {
        self.level.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Makes this the level; one that does not exist is an error.
    pub(super) fn set_level(&self, level: &str) -> Result<()> {
        if !crate::config::LEVELS.contains(&level) {
            return Err(Error::new(Kind::Usage, format!("there is no log level `{level}`"))
                .hint(format!("the levels are {}", crate::config::LEVELS.join(", "))));
        }
        let mut current = self.level.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.handle
            .reload(targets(level))
            .map_err(|error| Error::new(Kind::Failed, "cannot change the log's level").caused_by(error))?;
        level.clone_into(&mut current);
        Ok(())
    }
}

/// Our own events from this level up; the libraries below us only warn, since their detail may hold what callers sent.
fn targets(level: &str) -> Targets {
    let own = match level {
        "all" | "garbage" | "trace" => LevelFilter::TRACE,
        "debug" | "profile" => LevelFilter::DEBUG,
        "warning" => LevelFilter::WARN,
        "error" | "critical" => LevelFilter::ERROR,
        "quiet" => LevelFilter::OFF,
        _ => LevelFilter::INFO,
    };
    Targets::new().with_target("castoff", own).with_default(own.min(LevelFilter::WARN))
}
