//! Logs to stderr, at the levels that Salt's users know.

use tracing_subscriber::filter::LevelFilter;

pub(super) use crate::config::LEVELS;

/// How much goes to stderr beside errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    /// Nothing, not even progress.
    Quiet,
    /// Errors.
    Errors,
    /// Warnings and progress, the default.
    Normal,
    /// What happens, in words.
    Info,
    /// What happens, in detail.
    Debug,
    /// Everything.
    Trace,
}

impl Verbosity {
    /// What a level of `-l` means here.
    pub(super) fn of_level(level: &str) -> Option<Self> {
        Some(match level {
            "all" | "garbage" | "trace" => Self::Trace,
            "debug" | "profile" => Self::Debug,
            "info" => Self::Info,
            "warning" => Self::Normal,
            "error" | "critical" => Self::Errors,
            "quiet" => Self::Quiet,
            _ => return None,
        })
    }
}

/// Sends logs of this level and above to stderr.
pub(super) fn start(verbosity: Verbosity) {
    let filter = match verbosity {
        Verbosity::Quiet => return,
        Verbosity::Errors => LevelFilter::ERROR,
        Verbosity::Normal => LevelFilter::WARN,
        Verbosity::Info => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
        Verbosity::Trace => LevelFilter::TRACE,
    };
    // A second start in one process keeps the first.
    let _already_started = tracing_subscriber::fmt()
        .with_max_level(filter)
        .with_writer(std::io::stderr)
        .with_ansi(rustix::termios::isatty(std::io::stderr()))
        .without_time()
        .try_init();
}
