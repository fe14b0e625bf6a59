//! The function table as JSON, for people and generators: `/v1/functions` and `/openapi.json`.

use axum::extract::{Extension, State};
use axum::http::StatusCode;
use bytes::Bytes;

use super::access;
use super::answer::{Response, json_text};
use super::openapi::Tables;
use super::shared::{Info, Shared, gone, refusal};

/// `GET /v1/functions`.
pub(super) async fn table(State(daemon): State<Shared>, Extension(info): Extension<Info>) -> Response {
    show(&daemon, &info, |tables| tables.functions.clone())
}

/// `GET /openapi.json`.
pub(super) async fn openapi(State(daemon): State<Shared>, Extension(info): Extension<Info>) -> Response {
    show(&daemon, &info, |tables| tables.openapi.clone())
}

fn show(daemon: &Shared, info: &Info, text: impl FnOnce(&Tables) -> Bytes) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(info) };
    match access::may_ask(&info.caller) {
        Ok(()) => json_text(StatusCode::OK, text(&daemon.tables)),
        Err(error) => refusal(&daemon, info, error).response(&info.id),
    }
}
