//! The events of a job as server-sent events: replayed from where the caller left off, then as they come.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::answer::{Failure, Response, typed};
use super::jobs::{Parameters, look, named, number, parameters};
use super::shared::{Daemon, Info, Phase, Segment, Shared, gone};
use crate::job::EventKind;
use crate::vocab::JobId;

/// How often a stream without events says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The most events that are read at once.
const PAGE: u32 = 200;

/// `GET /v1/jobs/ID/events`: server-sent events behind `Last-Event-ID`, or `?after=`, until the job has ended.
pub(super) async fn stream(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    id: Segment,
    query: Parameters,
    headers: HeaderMap,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    match follow(&daemon, &info, id, query, &headers).await {
        Ok(response) => response,
        Err(failure) => failure.response(&info.id),
    }
}

async fn follow(
    daemon: &Arc<Daemon>,
    info: &Info,
    id: Segment,
    query: Parameters,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let job = named(daemon, info, id, "job.events").await?;
    let mut given = parameters(query, &["after"])?;
    if let Some(last) = headers.get(HeaderName::from_static("last-event-id")) {
        given.insert("after".to_owned(), last.to_str().unwrap_or("?").to_owned());
    }
    let after = number(&given, "after", u64::MAX)?.unwrap_or_default();
    if job.state.is_final() && after >= job.last_event {
        // Tells a browser's EventSource that there is no more to come back for.
        return Ok(typed(StatusCode::NO_CONTENT, "text/event-stream", Body::empty()));
    }
    let permit = Arc::clone(&daemon.jobs.followers)
        .try_acquire_owned()
        .map_err(|_| Failure::busy("too many jobs are followed at once"))?;
    let changes = look(daemon, info, |open| Ok(open.supervisor.changes())).await?;
    let follower = Follower {
        daemon: Arc::clone(daemon),
        info: info.clone(),
        id: job.id,
        after,
        changes,
        phases: daemon.phases(),
        ended: false,
        _permit: permit,
    };
    let first = futures_util::stream::iter([Ok(Bytes::from_static(b"retry: 1000\n\n"))]);
    let rest = futures_util::stream::unfold(follower, Follower::next);
    let body = Body::from_stream(futures_util::StreamExt::chain(first, rest));
    let mut response = typed(StatusCode::OK, "text/event-stream", body);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that gathers would hold events back.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    Ok(response)
}

/// One who follows a job's events.
struct Follower {
    daemon: Arc<Daemon>,
    info: Info,
    id: JobId,
    after: u64,
    changes: watch::Receiver<u64>,
    phases: watch::Receiver<Phase>,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The next piece of the stream: some events, or a sign of life. Over when the job has ended or was forgotten, the
    /// daemon is about to end, or the events cannot be read; whoever comes back with the last number misses nothing.
    async fn next(mut self) -> Option<(std::io::Result<Bytes>, Self)> {
        if self.ended {
            return None;
        }
        loop {
            // What there is by then is still told.
            let is_closing = *self.phases.borrow_and_update() != Phase::Serving;
            self.changes.mark_unchanged();
            let text = self.read().await?;
            if !text.is_empty() {
                self.ended |= is_closing;
                return Some((Ok(Bytes::from(text)), self));
            }
            if is_closing {
                return None;
            }
            tokio::select! {
                news = self.changes.changed() => {
                    if news.is_err() {
                        return None;
                    }
                }
                _ = self.phases.changed() => {}
                () = tokio::time::sleep(HEARTBEAT) => {
                    let id = self.id;
                    let found = look(&self.daemon, &self.info, move |open| open.queue.find(id)).await;
                    if !matches!(found, Ok(Some(_))) {
                        return None;
                    }
                    return Some((Ok(Bytes::from_static(b":\n\n")), self));
                }
            }
        }
    }

    /// What has happened since, as the stream has it.
    async fn read(&mut self) -> Option<String> {
        let (id, after) = (self.id, self.after);
        let read = look(&self.daemon, &self.info, move |open| open.queue.events_after(id, after, PAGE)).await;
        let events = match read {
            Ok(events) => events,
            Err(failure) => {
                tracing::warn!(job = %id, reason = failure.line(), "events cannot be followed");
                return None;
            }
        };
        let mut text = String::new();
        for event in events {
            let (number, kind, data) = (event.sequence, event.kind.word(), event.json());
            let _infallible = write!(text, "id: {number}\nevent: {kind}\ndata: {data}\n\n");
            self.after = event.sequence;
            self.ended |= event.kind == EventKind::End;
        }
        Some(text)
    }
}
