//! Jobs: long calls that the daemon answers with 202, and what became of them.
//!
//! The rows of group `job` decide who may look (`job.list`, `job.show`, `job.events`) and who may end (`job.cancel`);
//! whoever began a job may do so in any case.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::answer::{Failure, Response, json_text, one_line, typed};
use super::call::blocking;
use super::health::{gone, refusal};
use super::request::Info;
use super::routes::Shared;
use super::server::{Daemon, Phase};
use super::{access, caller::Caller};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::function;
use crate::job::{Event, Filter, Job, Launch, Limits, Queue, Supervisor};
use crate::vocab::{JobId, Value};

/// The most followers of events at once.
const FOLLOWERS: usize = 256;

/// How many events are read at once.
const EVENTS: u32 = 200;

/// How often a silent stream says that it is still there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// How long a cancelled job has to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// The longest wait that `Prefer: wait=N` gets.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The queue and what starts its jobs.
#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) queue: Queue,
    pub(super) supervisor: Supervisor,
    followers: Arc<Semaphore>,
    /// Jobs that this daemon queued and whose end it has not logged yet.
    begun: Mutex<BTreeSet<JobId>>,
}

impl Jobs {
    /// Opens the queue and begins to start its jobs.
    pub(super) fn start(config: &Config) -> Result<Self> {
        let queue = Queue::open(&config.state_dir)?;
        let supervisor = Supervisor::start(&queue, Limits::from(config), Launch::own(config))?;
        Ok(Self { queue, supervisor, followers: Arc::new(Semaphore::new(FOLLOWERS)), begun: Mutex::default() })
    }

    /// Notes a job whose end is to be logged.
    pub(super) fn began(&self, id: JobId) {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Logs the ends of the jobs that were begun here.
    fn log_ends(&self) -> Result<()> {
        let begun: Vec<JobId> = self.begun.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        for id in begun {
            let job = self.queue.find(id)?;
            if let Some(job) = &job {
                if !job.state.is_final() {
                    continue;
                }
                let result = match (&job.error, job.retcode) {
                    (Some(error), _) => format!("{}: {}", error.kind, error.message),
                    (None, Some(0)) => "ok".to_owned(),
                    (None, code) => format!("retcode {}", code.unwrap_or(1)),
                };
                let (who, door, request_id) = (&job.who, &job.door, &job.request);
                let (function, state) = (&job.function, job.state.word());
                tracing::info!(who, door, request_id, function, %id, state, result, "job ended");
            }
            self.begun.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
        Ok(())
    }

    async fn find(&self, id: JobId) -> Result<Job, Failure> {
        let queue = self.queue.clone();
        Ok(blocking(move || queue.get(id)).await??)
    }
}

/// Logs how jobs end, for as long as the daemon lives.
pub(super) async fn log_ends(daemon: Arc<Daemon>) {
    let mut changes = daemon.jobs.supervisor.changes();
    while changes.changed().await.is_ok() {
        let logging = Arc::clone(&daemon);
        match tokio::task::spawn_blocking(move || logging.jobs.log_ends()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(error = error.render(), "cannot look after jobs"),
            Err(error) => tracing::error!(%error, "looking after jobs broke off"),
        }
        // A thousand queued jobs are not looked through ten times a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The function whose row says who may do this.
fn may(daemon: &Daemon, info: &Info, name: &str, job: Option<&Job>) -> Result<(), Failure> {
    let own = job.is_some_and(|job| job.who == info.caller.who() && !matches!(*info.caller, Caller::Anonymous));
    if own {
        return Ok(());
    }
    let row = function::find(name).ok_or_else(|| Error::new(Kind::Unsupported, format!("there is no `{name}`")))?;
    access::may_call(&info.caller, row).map_err(|error| refusal(daemon, info, error))
}

/// The answer to a call that was queued: 202, unless the caller waits for its end and sees it.
pub(super) async fn queued(
    daemon: &Daemon,
    info: &Info,
    id: JobId,
    wait: Option<Duration>,
) -> Result<Response, Failure> {
    if let Some(wait) = wait {
        let mut changes = daemon.jobs.supervisor.changes();
        let ended = async {
            loop {
                changes.borrow_and_update();
                let job = daemon.jobs.find(id).await?;
                if job.state.is_final() || changes.changed().await.is_err() {
                    return Ok::<_, Failure>(job);
                }
            }
        };
        if let Ok(job) = tokio::time::timeout(wait.min(LONGEST_WAIT), ended).await {
            let job = job?;
            if let (Some(value), Some(retcode)) = (&job.result, job.retcode) {
                return Ok(json_text(
                    StatusCode::OK,
                    format!(
                        "{{\"return\": {}, \"retcode\": {retcode}, \"job\": \"{id}\", \"request_id\": \"{}\"}}",
                        one_line(value),
                        info.id
                    ),
                ));
            }
        }
    }
    let body = format!("{{\"job\": \"{id}\", \"request_id\": \"{}\"}}", info.id);
    let mut response = json_text(StatusCode::ACCEPTED, body);
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/jobs/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// How long a caller would wait for a job's end: `Prefer: wait=N` (RFC 7240).
pub(super) fn wait_of(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    preferences
        .flat_map(|value| value.split(','))
        .find_map(|one| one.trim().strip_prefix("wait=")?.parse().ok())
        .map(Duration::from_secs)
}

/// `GET /v1/jobs?state=…&limit=…`, the newest first, without results.
pub(super) async fn list(State(daemon): State<Shared>, Extension(info): Extension<Info>, uri: Uri) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    let listed = async {
        may(&daemon, &info, "job.list", None)?;
        let filter = filter(uri.query().unwrap_or_default())?;
        let queue = daemon.jobs.queue.clone();
        let jobs = blocking(move || queue.list(&filter)).await??;
        let jobs = Value::map([("jobs", Value::list(jobs.iter().map(Job::to_value)))]);
        Ok::<_, Failure>(json_text(StatusCode::OK, one_line(&jobs)))
    };
    listed.await.unwrap_or_else(|failure| failure.response(&info.id))
}

fn filter(query: &str) -> Result<Filter, Failure> {
    let mut filter = Filter { state: None, most: Some(50), before: None };
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("state", state)) => filter.state = Some(state.parse()?),
            Some(("before", id)) => filter.before = Some(id.parse()?),
            Some(("limit", number)) if number.parse::<u32>().is_ok_and(|number| number <= 1000) => {
                filter.most = number.parse().ok();
            }
            _ => {
                return Err(Failure::new(StatusCode::BAD_REQUEST, Kind::Usage, "the query means nothing here")
                    .hint("`?state=running`, `?limit=50` up to 1000, `?before=ID`"));
            }
        }
    }
    Ok(filter)
}

/// `GET /v1/jobs/ID`.
pub(super) async fn show(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    Path(id): Path<String>,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    let shown = async {
        access::may_ask(&info.caller).map_err(|error| refusal(&daemon, &info, error))?;
        let job = daemon.jobs.find(id.parse()?).await?;
        may(&daemon, &info, "job.show", Some(&job))?;
        Ok::<_, Failure>(json_text(StatusCode::OK, one_line(&job.to_value())))
    };
    shown.await.unwrap_or_else(|failure| failure.response(&info.id))
}

/// `DELETE /v1/jobs/ID`: ends the job; the job as it stands then.
pub(super) async fn cancel(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    Path(id): Path<String>,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    let cancelled = async {
        access::may_ask(&info.caller).map_err(|error| refusal(&daemon, &info, error))?;
        let job = daemon.jobs.find(id.parse()?).await?;
        may(&daemon, &info, "job.cancel", Some(&job))?;
        let (queue, who) = (daemon.jobs.queue.clone(), info.caller.who());
        tracing::info!(who, door = info.door, job = %job.id, "job is to be cancelled");
        let job = blocking(move || queue.cancel(job.id, &who, GRACE)).await??;
        Ok::<_, Failure>(json_text(StatusCode::OK, one_line(&job.to_value())))
    };
    cancelled.await.unwrap_or_else(|failure| failure.response(&info.id))
}

/// `GET /v1/jobs/ID/events`: server-sent events, from behind `Last-Event-ID` on. A job that has ended and has nothing more
/// to tell is answered with 204, which tells a browser not to come back.
pub(super) async fn events(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    Path(id): Path<String>,
    request: Request<Body>,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    match follow(&daemon, &info, &id, request.headers()).await {
        Ok(response) => response,
        Err(failure) => failure.response(&info.id),
    }
}

async fn follow(daemon: &Arc<Daemon>, info: &Info, id: &str, headers: &HeaderMap) -> Result<Response, Failure> {
    access::may_ask(&info.caller).map_err(|error| refusal(daemon, info, error))?;
    let job = daemon.jobs.find(id.parse()?).await?;
    may(daemon, info, "job.events", Some(&job))?;
    let after = match headers.get("last-event-id").map(|value| value.to_str().unwrap_or_default()) {
        None | Some("") => 0,
        Some(number) => number.parse().map_err(|_| {
            Failure::new(StatusCode::BAD_REQUEST, Kind::Usage, "`Last-Event-ID` is not the number of an event")
        })?,
    };
    if job.state.is_final() && job.last_event <= after {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    }
    let permit = Arc::clone(&daemon.jobs.followers)
        .try_acquire_owned()
        .map_err(|_| Failure::busy("too many jobs are followed at once"))?;
    let follower = Follower {
        queue: daemon.jobs.queue.clone(),
        changes: daemon.jobs.supervisor.changes(),
        phases: daemon.phases(),
        id: job.id,
        after,
        ended: false,
        _permit: permit,
    };
    let stream = futures_util::stream::try_unfold(follower, Follower::next);
    let mut response = typed(StatusCode::OK, "text/event-stream", Body::from_stream(stream));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// One who reads the events of a job.
struct Follower {
    queue: Queue,
    changes: watch::Receiver<u64>,
    phases: watch::Receiver<Phase>,
    id: JobId,
    after: u64,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next events as text, waiting for them; none behind the last one, and when the daemon ends: whoever comes back
    /// with the last number misses nothing.
    async fn next(mut self) -> std::io::Result<Option<(Bytes, Self)>> {
        loop {
            if self.ended || *self.phases.borrow() != Phase::Serving {
                return Ok(None);
            }
            self.changes.borrow_and_update();
            let (queue, id, after) = (self.queue.clone(), self.id, self.after);
            let found = tokio::task::spawn_blocking(move || {
                let events = queue.events_after(id, after, EVENTS)?;
                let gone = events.is_empty() && queue.find(id)?.is_none_or(|job| job.state.is_final());
                Ok::<_, Error>((events, gone))
            });
            let (events, gone) = found.await.map_err(std::io::Error::other)??;
            if gone {
                return Ok(None);
            }
            if let Some(last) = events.last() {
                self.after = last.sequence;
                self.ended = events.iter().any(|event| event.kind.word() == "end");
                let text: String = events.iter().map(frame).collect();
                return Ok(Some((Bytes::from(text), self)));
            }
            tokio::select! {
                changed = self.changes.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                }
                _ = self.phases.changed() => {}
                () = tokio::time::sleep(HEARTBEAT) => return Ok(Some((Bytes::from_static(b":\n\n"), self))),
            }
        }
    }
}

/// An event in the stream's format.
fn frame(event: &Event) -> String {
    format!("id: {}\nevent: {}\ndata: {}\n\n", event.sequence, event.kind.word(), event.json())
}
