//! One request from its head to its answer: id, caller, route, count, log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use hyper::body::{Body as _, Incoming};
use tower::ServiceExt as _;
use tracing::Instrument as _;

use super::answer::{Failure, Response};
use super::caller::{Caller, Peer};
use super::connections::Entry;
use super::metrics::Route;
use super::shared::{Daemon, Info, Phase};
use super::state::State;
use crate::error::Kind;
use crate::host;

/// The largest head of a request, in bytes.
pub(super) const HEAD_BYTES: usize = 32 << 10;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Answers a request.
pub(super) async fn answer(
    daemon: Arc<Daemon>,
    peer: Arc<Peer>,
    connection: Arc<Entry>,
    request: hyper::Request<Incoming>,
) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let route = Route::of(request.uri().path());
    let span = tracing::info_span!("request", request_id = %id);
    if request.body().is_end_stream() {
        connection.busy();
    }
    let mut response = if size_of_head(&request) > HEAD_BYTES {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        Failure::new(status, Kind::Limit, format!("the request's head has more than {HEAD_BYTES} bytes")).response(&id)
    } else {
        routed(&daemon, &peer, &connection, &id, request).instrument(span.clone()).await
    };
    connection.idle();
    let took = began.elapsed();
    daemon.metrics.observe(route, response.status(), took);
    span.in_scope(|| tracing::debug!(?route, status = response.status().as_u16(), ?took, "answered"));
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    if daemon.phase() != Phase::Serving {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// About how many bytes the request line and headers have.
fn size_of_head(request: &hyper::Request<Incoming>) -> usize {
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    request.headers().iter().fold(target, |size, (name, value)| size + name.as_str().len() + value.len() + 4)
}

async fn routed(
    daemon: &Arc<Daemon>,
    peer: &Peer,
    connection: &Arc<Entry>,
    id: &Arc<str>,
    request: hyper::Request<Incoming>,
) -> Response {
    let state = daemon.state();
    let caller = match identify(daemon, &state, peer, request.headers()).await {
        Ok(caller) => caller,
        Err(failure) => {
            daemon.metrics.refused.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(peer = peer.key(), reason = failure.line(), "caller refused");
            let pillar = Route::of(request.uri().path()) == Route::Pillar;
            return if pillar { failure.pillar_response() } else { failure.response(id) };
        }
    };
    let door = match peer {
        Peer::Process { .. } => "socket",
        Peer::Machine { .. } => "tcp",
    };
    let info = Info { id: Arc::clone(id), caller, door, state, connection: Arc::clone(connection) };
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(info);
    match daemon.router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(infallible) => match infallible {},
    }
}

/// Who asks.
async fn identify(daemon: &Daemon, state: &State, peer: &Peer, headers: &HeaderMap) -> Result<Arc<Caller>, Failure> {
    match peer {
        Peer::Process { uid, gid } => Ok(daemon.users.caller(*uid, *gid, &state.config).await?),
        Peer::Machine { names, .. } => {
            if let Some(shown) = headers.get(header::AUTHORIZATION) {
                let token = shown
                    .to_str()
                    .ok()
                    .and_then(|shown| shown.split_once(' '))
                    .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                    .and_then(|(_, token)| state.access.of_token(token.trim(), host::clock::now()));
                return token.map(Arc::new).ok_or_else(|| {
                    Failure::new(StatusCode::UNAUTHORIZED, Kind::Refused, "the token is unknown or has expired")
                });
            }
            Ok(Arc::new(state.access.of_certificate(names).unwrap_or(Caller::Anonymous)))
        }
    }
}

/// The caller's request id where it is harmless in logs and headers, else one of our own.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(|id| {
        (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    });
    given.map_or_else(
        || {
            let began = host::clock::started();
            Arc::from(format!("{:x}-{:x}", began.as_micros(), COUNT.fetch_add(1, Ordering::Relaxed)))
        },
        Arc::from,
    )
}
