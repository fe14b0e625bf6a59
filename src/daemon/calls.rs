//! Room for calls: how many run at once, how many are parsed at once, and the threads they run on.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::answer::Failure;
use crate::error::Kind;

/// How long a call waits for others to end before its caller hears 503.
const QUEUE: Duration = Duration::from_secs(2);

/// The most bodies that are parsed at once: a parsed body is far larger than its text.
const PARSERS: usize = 4;

/// Room for calls.
#[derive(Debug)]
pub(super) struct Calls {
    running: RwLock<Arc<Semaphore>>,
    /// Whoever parses a body holds one of these.
    pub(super) parsing: Arc<Semaphore>,
    /// How many calls run; kept by whoever runs them.
    pub(super) under_way: watch::Sender<usize>,
}

impl Calls {
    /// Room for this many at once.
    pub(super) fn new(most: usize) -> Self {
        Self {
            running: RwLock::new(room(most)),
            parsing: Arc::new(Semaphore::new(PARSERS)),
            under_way: watch::Sender::new(0),
        }
    }

    /// Makes room for this many from now on; calls that run already do not count.
    pub(super) fn resize(&self, most: usize) {
        *self.running.write().unwrap_or_else(PoisonError::into_inner) = room(most);
    }

    /// Whoever runs a call holds one of these.
    pub(super) fn running(&self) -> Arc<Semaphore> {
        Arc::clone(&self.running.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many calls run.
    pub(super) fn under_way(&self) -> usize {
        *self.under_way.borrow()
    }

    /// Waits until no call runs: also those whose callers have gone.
    pub(super) async fn finished(&self) {
        let mut count = self.under_way.subscribe();
        // The sender lives as long as this future: waiting cannot fail.
        let _ended = count.wait_for(|count| *count == 0).await;
    }
}

fn room(most: usize) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)))
}

/// Waits a moment for room.
pub(super) async fn enter(room: Arc<Semaphore>) -> Result<OwnedSemaphorePermit, Failure> {
    match tokio::time::timeout(QUEUE, room.acquire_owned()).await {
        Ok(Ok(permit)) => Ok(permit),
        Ok(Err(_)) | Err(_) => {
            Err(Failure::busy("too many calls are under way").hint("`daemon.calls` is how many may be"))
        }
    }
}

/// Work on a blocking thread, in the span of the request.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let span = tracing::Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work)).await.map_err(|error| {
        tracing::error!(%error, "a call broke off");
        Failure::new(StatusCode::INTERNAL_SERVER_ERROR, Kind::Failed, "the call broke off; the daemon's log says more")
    })
}
