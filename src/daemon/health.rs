//! How the daemon is: alive, ready, in numbers, and how much it logs.

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{Request, StatusCode};
use serde_json::json;

use super::access;
use super::answer::{Failure, Response, json_text, typed};
use super::body;
use super::caller::Caller;
use super::request::Info;
use super::routes::Shared;
use super::server::{Daemon, Phase};
use crate::error::Kind;

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> Response {
    json_text(StatusCode::OK, json!({"alive": true}).to_string())
}

/// `GET /readyz`: 200 where queries can be answered; what is wrong is told to who may know.
pub(super) async fn ready(State(daemon): State<Shared>, Extension(info): Extension<Info>) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    let mut reasons: Vec<String> = Vec::new();
    let mut ready = true;
    if daemon.phase() != Phase::Serving {
        ready = false;
        reasons.push("the daemon is about to stop".to_owned());
    }
    reasons.extend(daemon.reload_problem().map(|why| format!("the last reload failed: {why}")));
    let mut told = json!({"ready": ready});
    if !matches!(*info.caller, Caller::Anonymous) {
        told["reasons"] = json!(reasons);
    }
    json_text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, told.to_string())
}

/// `GET /metrics`.
pub(super) async fn metrics(State(daemon): State<Shared>, Extension(info): Extension<Info>) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    let text = daemon.metrics.text(|text| {
        text.one("castoff_calls", "gauge", "Calls under way.", daemon.calls.under_way());
    });
    typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// What the level of the log is called in scopes.
const LOG_LEVEL: &str = "daemon.log_level";

/// `GET /v1/log-level`.
pub(super) async fn log_level(State(daemon): State<Shared>, Extension(info): Extension<Info>) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    match access::may_administer(&info.caller, LOG_LEVEL) {
        Ok(()) => json_text(StatusCode::OK, json!({"level": daemon.logs.level()}).to_string()),
        Err(error) => refuse(&daemon, &info, error),
    }
}

/// `PUT /v1/log-level` with `{"level": "debug"}`.
pub(super) async fn set_log_level(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    request: Request<Body>,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    if let Err(error) = access::may_administer(&info.caller, LOG_LEVEL) {
        return refuse(&daemon, &info, error);
    }
    match change_log_level(&daemon, &info, request).await {
        Ok(response) => response,
        Err(failure) => failure.response(&info.id),
    }
}

async fn change_log_level(daemon: &Daemon, info: &Info, request: Request<Body>) -> Result<Response, Failure> {
    let bytes = body::read(request.into_body(), 1024, info.state.config.daemon.idle).await?;
    let level = serde_json::from_slice::<serde_json::Value>(&bytes)
        .ok()
        .and_then(|body| body.get("level")?.as_str().map(str::to_owned))
        .ok_or_else(|| {
            Failure::new(StatusCode::BAD_REQUEST, Kind::Usage, "the body names no level")
                .hint("send `{\"level\": \"debug\"}`")
        })?;
    let before = daemon.logs.level();
    daemon.logs.set_level(&level)?;
    tracing::info!(who = info.caller.who(), door = info.door, before, level, "log level changed");
    Ok(json_text(StatusCode::OK, json!({"level": level}).to_string()))
}

/// The answer for a caller who may not do this: 401 where nobody knows who it is.
pub(super) fn refusal(daemon: &Daemon, info: &Info, error: crate::error::Error) -> Failure {
    daemon.metrics.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    tracing::warn!(who = info.caller.who(), door = info.door, reason = error.message(), "refused");
    if matches!(*info.caller, Caller::Anonymous) {
        return Failure::new(StatusCode::UNAUTHORIZED, Kind::Refused, "the daemon does not know who asks")
            .hint("send `Authorization: Bearer TOKEN`, or connect with a client certificate");
    }
    Failure::from(error)
}

fn refuse(daemon: &Daemon, info: &Info, error: crate::error::Error) -> Response {
    refusal(daemon, info, error).response(&info.id)
}

/// The answer while the daemon falls apart.
pub(super) fn gone(info: &Info) -> Response {
    Failure::busy("the daemon ends").response(&info.id)
}
