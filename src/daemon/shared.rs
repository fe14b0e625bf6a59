//! What every handler has at hand: the daemon, its phase, the request, and the answers all of them give.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use tokio::sync::{Semaphore, watch};

use super::answer::{Failure, Response};
use super::caller::{Caller, Users};
use super::calls::Calls;
use super::connections::{Connections, Entry};
use super::logs::Logs;
use super::metrics::Metrics;
use super::openapi::Tables;
use super::pillars::Pillars;
use super::queue::Jobs;
use super::state::State;
use super::timetable::Schedules;
use crate::config::Overrides;
use crate::error::{Error, Kind};

/// Where in its life the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Requests are answered.
    Serving,
    /// No new connections; answers close theirs.
    Closing,
    /// Idle connections are closed as well.
    Ending,
}

/// Everything that requests share.
pub(super) struct Daemon {
    pub(super) state: RwLock<Arc<State>>,
    pub(super) overrides: Overrides,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) reload_problem: Mutex<Option<String>>,
    pub(super) logs: Logs,
    pub(super) metrics: Metrics,
    pub(super) connections: Connections,
    pub(super) users: Users,
    pub(super) calls: Calls,
    pub(super) jobs: Arc<Jobs>,
    pub(super) schedules: Schedules,
    pub(super) pillars: Pillars,
    /// Who may look whether pillars can be made: few at a time, since files may hang.
    pub(super) probes: Arc<Semaphore>,
    pub(super) tables: Tables,
    pub(super) router: Router,
}

impl Daemon {
    /// The state in force.
    pub(super) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Where in its life the daemon is.
    pub(super) fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// To be told of the next phase.
    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Why the last reload kept the old configuration, if it did.
    pub(super) fn reload_problem(&self) -> Option<String> {
        self.reload_problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What handlers know of a request beside its head and body.
#[derive(Clone, Debug)]
pub(super) struct Info {
    /// The request's id.
    pub(super) id: Arc<str>,
    /// Who asks.
    pub(super) caller: Arc<Caller>,
    /// The door: `socket` or `tcp`.
    pub(super) door: &'static str,
    /// The configuration, access rules and settings in force when the request came.
    pub(super) state: Arc<State>,
    /// The connection, which counts as idle until it is said to be busy.
    pub(super) connection: Arc<Entry>,
}

/// What handlers share. Weak, since the daemon owns the router.
pub(super) type Shared = Weak<Daemon>;

/// The changing part of a path, or why it is none (`%ff` is no text).
pub(super) type Segment = Result<Path<String>, PathRejection>;

/// The text of a path's changing part.
pub(super) fn text_of(segment: Segment) -> Result<String, Failure> {
    segment.map(|Path(text)| text).map_err(|error| {
        Failure::new(StatusCode::BAD_REQUEST, Kind::Usage, format!("the path cannot be read: {}", error.body_text()))
    })
}

/// The answer for a caller who may not do this: 401 where nobody knows who it is.
pub(super) fn refusal(daemon: &Daemon, info: &Info, error: Error) -> Failure {
    daemon.metrics.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    tracing::warn!(who = info.caller.who(), door = info.door, reason = error.message(), "refused");
    if matches!(*info.caller, Caller::Anonymous) {
        return Failure::new(StatusCode::UNAUTHORIZED, Kind::Refused, "the daemon does not know who asks")
            .hint("send `Authorization: Bearer TOKEN`, or connect with a client certificate");
    }
    Failure::from(error)
}

/// The answer while the daemon falls apart.
pub(super) fn gone(info: &Info) -> Response {
    Failure::busy("the daemon ends").response(&info.id)
}
