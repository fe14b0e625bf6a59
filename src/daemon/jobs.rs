//! Jobs: calls that take long are begun, looked at, followed and ended.
//!
//! Whoever began a job may look at it and end it; for others' jobs the caller needs the rights to call `job.list`,
//! `job.show`, `job.events`, `job.cancel`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use tokio::sync::{Semaphore, watch};

use super::access;
use super::answer::{Failure, Response, json_text, one_line};
use super::caller::Caller;
use super::calls::blocking;
use super::queue::Open;
use super::shared::{Daemon, Info, Phase, Segment, Shared, gone, refusal, text_of};
use crate::error::{Error, Kind, Result};
use crate::function::{self, Request};
use crate::job::{Filter, Job};
use crate::vocab::{JobId, Value};

/// How long a look may wait for its turn.
const TURN: Duration = Duration::from_secs(5);

/// The longest wait that `Prefer: wait=N` gets.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// How long a cancelled job has to end by itself, where the caller does not say.
const GRACE: u64 = 10;

/// Work on the queue, on a blocking thread and in turn.
pub(super) async fn look<T: Send + 'static>(
    daemon: &Arc<Daemon>,
    info: &Info,
    work: impl FnOnce(&Open) -> Result<T> + Send + 'static,
) -> Result<T, Failure> {
    in_turn(daemon, info, &daemon.jobs.looks, work).await
}

async fn in_turn<T: Send + 'static>(
    daemon: &Arc<Daemon>,
    info: &Info,
    room: &Arc<Semaphore>,
    work: impl FnOnce(&Open) -> Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let turn = tokio::time::timeout(TURN, Arc::clone(room).acquire_owned()).await;
    let Ok(Ok(permit)) = turn else { return Err(Failure::busy("the job database is busy")) };
    let (jobs, state) = (Arc::clone(&daemon.jobs), Arc::clone(&info.state));
    let done = blocking(move || {
        let _permit = permit;
        work(&*jobs.open(&state.config)?)
    });
    Ok(done.await??)
}

/// The answer to a call that was queued: 202, unless the caller waits for its end and sees it.
pub(super) async fn queued(
    daemon: &Arc<Daemon>,
    info: &Info,
    id: JobId,
    wait: Option<Duration>,
) -> Result<Response, Failure> {
    if let Some(wait) = wait {
        let mut changes = look(daemon, info, |open| Ok(open.supervisor.changes())).await?;
        let ended = tokio::time::timeout(wait.min(LONGEST_WAIT), ended(daemon, info, id, &mut changes)).await;
        if let Some(job) = ended.unwrap_or(Ok(None))? {
            return Ok(at_job(result_of(&job, info).unwrap_or_else(|failure| failure.response(&info.id)), id));
        }
    }
    let body = format!("{{\"job\": \"{id}\", \"request_id\": \"{}\"}}", info.id);
    Ok(at_job(json_text(StatusCode::ACCEPTED, body), id))
}

/// The same answer with where the job is found.
fn at_job(mut response: Response, id: JobId) -> Response {
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/jobs/{id}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// The job once it has ended; none if the daemon ends before.
async fn ended(
    daemon: &Arc<Daemon>,
    info: &Info,
    id: JobId,
    changes: &mut watch::Receiver<u64>,
) -> Result<Option<Job>, Failure> {
    let mut phases = daemon.phases();
    while *phases.borrow_and_update() == Phase::Serving {
        changes.mark_unchanged();
        let job = look(daemon, info, move |open| open.queue.get(id)).await?;
        if job.state.is_final() {
            return Ok(Some(job));
        }
        tokio::select! {
            news = changes.changed() => if news.is_err() { break },
            _ = phases.changed() => {}
        }
    }
    Ok(None)
}

/// A job that has ended, answered as a call.
fn result_of(job: &Job, info: &Info) -> Result<Response, Failure> {
    match (&job.result, &job.error) {
        (_, Some(error)) => Err(Failure::from(error)),
        (Some(value), None) => {
            let (value, retcode) = (one_line(value), job.retcode.unwrap_or_default());
            let text = format!(
                "{{\"return\": {value}, \"retcode\": {retcode}, \"job\": \"{}\", \"request_id\": \"{}\"}}",
                job.id, info.id
            );
            Ok(json_text(StatusCode::OK, text))
        }
        (None, None) => {
            let who = job.cancelled_by.as_deref().unwrap_or("somebody");
            Err(Failure::from(Error::new(Kind::Interrupted, format!("job {} was cancelled by {who}", job.id))))
        }
    }
}

/// How long the caller prefers to wait for a result (RFC 7240): `Prefer: wait=10`.
pub(super) fn wait_of(headers: &HeaderMap) -> Option<Duration> {
    headers
        .get_all(HeaderName::from_static("prefer"))
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split([',', ';']))
        .filter_map(|preference| preference.trim().split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().parse().ok())
        .map(Duration::from_secs)
}

/// Whether the caller may do to this job what `function` does.
fn allowed(daemon: &Daemon, info: &Info, function: &'static str, job: &Job) -> Result<(), Failure> {
    if job.who == info.caller.who() && !matches!(*info.caller, Caller::Anonymous) {
        return Ok(());
    }
    may(info, function).map_err(|error| refusal(daemon, info, error))
}

fn may(info: &Info, function: &'static str) -> Result<()> {
    let function = function::find(function)
        .ok_or_else(|| Error::new(Kind::Failed, format!("there is no function `{function}`")))?;
    access::may_call(&info.caller, function)
}

/// Refuses to retry a job whose function the caller may not call: its arguments were somebody else's.
pub(super) async fn may_retry(daemon: &Arc<Daemon>, info: &Info, request: &Request) -> Result<(), Failure> {
    let given = request.positional.first().or_else(|| request.named.get("id"));
    let Some(id) = given.and_then(|given| given.value.as_str()).and_then(|text| text.parse::<JobId>().ok()) else {
        // What is no id is told by the function.
        return Ok(());
    };
    let job = look(daemon, info, move |open| open.queue.get(id)).await?;
    match function::find(&job.function) {
        Some(function) => access::may_call(&info.caller, function).map_err(|error| refusal(daemon, info, error)),
        None => Ok(()),
    }
}

pub(super) type Parameters = Result<Query<BTreeMap<String, String>>, QueryRejection>;

/// The query's parameters, all of them known.
pub(super) fn parameters(given: Parameters, known: &[&str]) -> Result<BTreeMap<String, String>, Failure> {
    let wrong = |what: String| Failure::from(Error::new(Kind::Usage, what));
    let Query(given) = given.map_err(|error| wrong(format!("the query cannot be read: {error}")))?;
    match given.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(given),
        Some(name) => Err(wrong(format!("the query has `{}`, which means nothing", name.escape_debug()))
            .hint(format!("known are {}", known.join(", ")))),
    }
}

/// A number of the query, up to `most`.
pub(super) fn number(parameters: &BTreeMap<String, String>, name: &str, most: u64) -> Result<Option<u64>, Failure> {
    let Some(text) = parameters.get(name) else { return Ok(None) };
    match text.parse::<u64>() {
        Ok(number) if number <= most => Ok(Some(number)),
        _ => Err(Failure::from(Error::new(Kind::Usage, format!("`{name}` is no number from 0 to {most}")))),
    }
}

/// `GET /v1/jobs`: the caller's own jobs, or everybody's for who may call `job.list`.
pub(super) async fn list(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    query: Parameters,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    let listed = async {
        access::may_ask(&info.caller).map_err(|error| refusal(&daemon, &info, error))?;
        let given = parameters(query, &["state", "limit", "before"])?;
        let most = number(&given, "limit", 1000)?.and_then(|limit| u32::try_from(limit).ok());
        let filter = Filter {
            state: given.get("state").map(|word| word.parse()).transpose()?,
            most,
            before: given.get("before").map(|id| id.parse()).transpose()?,
            who: may(&info, "job.list").is_err().then(|| info.caller.who()),
        };
        look(&daemon, &info, move |open| open.queue.list(&filter)).await
    };
    match listed.await {
        Ok(jobs) => {
            let jobs = Value::list(jobs.iter().map(Job::to_value));
            json_text(StatusCode::OK, format!("{{\"jobs\": {}, \"request_id\": \"{}\"}}", one_line(&jobs), info.id))
        }
        Err(failure) => failure.response(&info.id),
    }
}

/// The job of a path, if the caller may do to it what `function` does.
pub(super) async fn named(
    daemon: &Arc<Daemon>,
    info: &Info,
    id: Segment,
    function: &'static str,
) -> Result<Job, Failure> {
    access::may_ask(&info.caller).map_err(|error| refusal(daemon, info, error))?;
    let id: JobId = text_of(id)?.parse()?;
    let job = look(daemon, info, move |open| open.queue.get(id)).await?;
    allowed(daemon, info, function, &job)?;
    Ok(job)
}

fn shown(job: &Job) -> Response {
    json_text(StatusCode::OK, one_line(&job.to_value()))
}

/// `GET /v1/jobs/ID`.
pub(super) async fn one(State(daemon): State<Shared>, Extension(info): Extension<Info>, id: Segment) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    match named(&daemon, &info, id, "job.show").await {
        Ok(job) => shown(&job),
        Err(failure) => failure.response(&info.id),
    }
}

/// `DELETE /v1/jobs/ID`: ends the job; answers when it has ended.
pub(super) async fn cancel(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    id: Segment,
    query: Parameters,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    let cancelled = async {
        let job = named(&daemon, &info, id, "job.cancel").await?;
        let grace = number(&parameters(query, &["grace"])?, "grace", 600)?.unwrap_or(GRACE);
        let (id, who) = (job.id, info.caller.who());
        tracing::info!(who, door = info.door, job = %id, function = job.function, "cancels");
        in_turn(&daemon, &info, &daemon.jobs.cancels, move |open| {
            open.queue.cancel(id, &who, Duration::from_secs(grace))
        })
        .await
    };
    match cancelled.await {
        Ok(job) => shown(&job),
        Err(failure) => failure.response(&info.id),
    }
}
