//! `castoff job-run ID`: the process of one job, started by the daemon.

use super::Exit;
use super::logs::{self, Verbosity};
use crate::config::Config;
use crate::error::{Kind, Result};
use crate::function::{Context, run_job};
use crate::job::Queue;
use crate::progress::Progress;

/// Runs a queued job. How it ended is in the queue; the exit code only tells whether that could be stored.
pub(super) fn run(id: &str, config: &Config) -> Result<Exit> {
    logs::start(Verbosity::Normal);
    let queue = Queue::open(&config.state_dir)?;
    let has_ended = run_job(&queue, id.parse()?, Context::new(config.clone(), Progress::silent()))?;
    Ok(if has_ended { 0 } else { Kind::Interrupted.exit_code() })
}
