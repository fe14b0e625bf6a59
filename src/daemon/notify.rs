//! What the daemon tells of what happened: ends of jobs and late schedules, kept until they were heard.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::answer::one_line;
use super::shared::Daemon;
use super::webhook::Receiver;
use crate::config::Config;
use crate::error::{Context as _, Kind, Result};
use crate::function::{self, SCHEDULER};
use crate::host::{self, clock};
use crate::job::{Job, Queue, State};
use crate::progress::Cancel;
use crate::vocab::{Digest, Value, fnmatch, timestamp};

/// How often it is looked whether there is something to tell.
const LOOK: Duration = Duration::from_secs(2);

/// The wait after the first attempt, doubled with each; this and the next two in milliseconds.
const FIRST_WAIT: i64 = 5_000;

/// No wait is longer.
const LONGEST_WAIT: i64 = 60 * 60 * 1000;

/// What nobody heard for so long is forgotten.
const PATIENCE: i64 = 24 * 60 * 60 * 1000;

/// Looks and tells until it is told to stop.
pub(super) async fn run(daemon: Arc<Daemon>, mut stop: watch::Receiver<bool>) {
    let cancel = Cancel::new();
    let mut trouble = String::new();
    while !*stop.borrow() {
        let (telling, giving_up) = (Arc::clone(&daemon), cancel.clone());
        let mut work = tokio::task::spawn_blocking(move || tell(&telling, &giving_up));
        let ended = tokio::select! {
            ended = &mut work => ended,
            _ = stop.changed() => {
                cancel.cancel();
                work.await
            }
        };
        let told = match ended {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error.render(),
            Err(error) => format!("telling broke off: {error}"),
        };
        if told != trouble && !told.is_empty() && !*stop.borrow() {
            tracing::warn!("a webhook was not heard, and is tried again: {told}");
        }
        trouble = told;
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Takes note of what happened, and tells what is due. Touches files and the network.
fn tell(daemon: &Daemon, cancel: &Cancel) -> Result<()> {
    let state = daemon.state();
    let queue = daemon.jobs.open(&state.config)?.queue.clone();
    let receiver = Receiver::of(&state.config)?;
    note(&queue, daemon, &state.config, receiver.is_some())?;
    for id in queue.give_up_notices(PATIENCE)? {
        tracing::error!(id, "a webhook that nobody heard for a day is given up");
    }
    let Some(receiver) = receiver else { return Ok(()) };
    let mut failure = Ok(());
    for notice in queue.due_notices()? {
        match receiver.send(&notice, cancel) {
            Ok(()) => queue.heard(&notice.id)?,
            Err(error) if error.kind() == Kind::Interrupted => return Ok(()),
            Err(error) => {
                let wait = FIRST_WAIT.saturating_mul(1 << notice.attempts.min(20)).min(LONGEST_WAIT);
                queue.unheard(&notice.id, wait)?;
                failure = Err(error).context(|| format!("the webhook `{}`", notice.id));
            }
        }
    }
    failure
}

/// Turns what happened into notices, where somebody is to be told.
fn note(queue: &Queue, daemon: &Daemon, config: &Config, is_wanted: bool) -> Result<()> {
    for job in queue.untold()? {
        let body = (is_wanted && concerns(config, &job)).then(|| ended(config, &job));
        queue.tell_end(&job, body.as_deref())?;
    }
    if is_wanted {
        for told in daemon.schedules.late() {
            // How the last run ended may change while it is late.
            let since = told.split_once("; the last run").map_or(told.as_str(), |(since, _)| since);
            let id = format!("late-{}", Digest::of(since.as_bytes()).short());
            let now = clock::now().as_secs().try_into().unwrap_or(i64::MAX);
            let data = Value::map([("host", Value::from(host_name(config))), ("message", told.into())]);
            let body = one_line(&message("schedule.late", Some(timestamp(now, 0)), data));
            queue.tell(&id, &body)?;
        }
    }
    Ok(())
}

/// Whether the end of this job is told.
fn concerns(config: &Config, job: &Job) -> bool {
    let is_change = function::find(&job.function).is_some_and(|function| function.changes);
    let is_named = config.notify.functions.iter().any(|pattern| fnmatch(pattern, &job.function));
    job.who == SCHEDULER || (is_change && is_named)
}

fn host_name(config: &Config) -> String {
    match &config.minion_id {
        Some(id) => id.to_string(),
        None => host::process::host_name().unwrap_or_default(),
    }
}

/// What is said of a job that ended; secrets are masked in it as they are everywhere.
fn ended(config: &Config, job: &Job) -> String {
    let (kind, error) = match job.state {
        State::Done if job.retcode.unwrap_or(0) == 0 => ("job.succeeded", None),
        State::Done => ("job.failed", Some("its result says that it failed".to_owned())),
        State::Cancelled => ("job.cancelled", job.cancelled_by.as_ref().map(|who| format!("cancelled by {who}"))),
        State::Failed | State::Queued | State::Running => {
            ("job.failed", job.error.as_ref().map(|failure| failure.message.clone()))
        }
    };
    let moment = |at: Option<i64>| at.map(|at| timestamp(at.div_euclid(1000), 0));
    let data = Value::map([
        ("host", Value::from(host_name(config))),
        ("job", job.id.to_string().into()),
        ("function", job.function.as_str().into()),
        ("arguments", job.shown.clone()),
        ("who", job.who.as_str().into()),
        ("schedule", (job.who == SCHEDULER).then_some(&job.request).into()),
        ("started", moment(job.started).into()),
        ("finished", moment(job.finished).into()),
        ("error", error.into()),
    ]);
    one_line(&message(kind, moment(job.finished), data))
}

fn message(kind: &str, at: Option<String>, data: Value) -> Value {
    Value::map([("type", Value::from(kind)), ("timestamp", at.into()), ("data", data)])
}
