//! Pillars: `GET /v1/pillar/ID`, `POST /v1/pillar`.
//!
//! Every failure has the body `{"_errors": ["castoff: reason"]}`: whoever merges it into a pillar makes Salt refuse.

use axum::extract::{Extension, Path, State};

use super::access;
use super::answer::{Failure, Response};
use super::health::refusal;
use super::request::Info;
use super::routes::Shared;
use crate::error::{Error, Kind};
use crate::vocab::MinionId;

/// `GET /v1/pillar/ID`.
pub(super) async fn one(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    Path(id): Path<String>,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return Failure::busy("the daemon ends").pillar_response() };
    let id: MinionId = match id.parse() {
        Ok(id) => id,
        Err(error) => return Failure::from(error).pillar_response(),
    };
    if let Err(error) = access::may_have_pillar(&info.caller, &id) {
        return refusal(&daemon, &info, error).pillar_response();
    }
    Failure::from(Error::new(Kind::Unsupported, "pillars are not in this version")).pillar_response()
}
