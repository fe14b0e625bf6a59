//! Paths and their handlers.

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::{Method, StatusCode};
use axum::routing::{get, post};

use super::answer::{Failure, Response};
use super::shared::{Info, Shared};
use super::{call, functions, health, job_events, jobs, pillar};
use crate::error::Kind;

/// Every route.
pub(super) fn router(daemon: Shared) -> Router {
    Router::new()
        .route("/v1/call", post(call::handle))
        .route("/v1/pillar", post(pillar::many))
        .route("/v1/pillar/{id}", get(pillar::one))
        .route("/v1/jobs", get(jobs::list))
        .route("/v1/jobs/{id}", get(jobs::one).delete(jobs::cancel))
        .route("/v1/jobs/{id}/events", get(job_events::stream))
        .route("/v1/functions", get(functions::table))
        .route("/openapi.json", get(functions::openapi))
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/v1/log-level", get(health::log_level).put(health::set_log_level))
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown)
        .with_state(daemon)
}

async fn unknown(State(_): State<Shared>, Extension(info): Extension<Info>) -> Response {
    Failure::new(StatusCode::NOT_FOUND, Kind::NotFound, "there is nothing at this path")
        .hint("`GET /openapi.json` lists every path")
        .response(&info.id)
}

async fn wrong_method(Extension(info): Extension<Info>, request: Request) -> Response {
    let method = if request.method() == Method::GET { "GET" } else { "this method" };
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, Kind::Usage, format!("{method} does not fit this path"))
        .response(&info.id)
}
