//! Request bodies: whole, bounded in size and time.

use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::answer::Failure;
use crate::error::Kind;

/// Refuses what a browser may be made to send to an address of this host without asking its user.
pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Failure> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Ok(());
    }
    Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Kind::Usage, "the body is not called JSON")
        .hint("send it with the header `Content-Type: application/json`"))
}

/// The whole body of a request.
pub(super) async fn read(body: Body, most: u64, patience: Duration) -> Result<Bytes, Failure> {
    let limit = usize::try_from(most).unwrap_or(usize::MAX);
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Err(_) => Err(Failure::new(StatusCode::REQUEST_TIMEOUT, Kind::Unavailable, "the body did not arrive in time")),
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Failure::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Kind::Limit,
            format!("the body has more than {most} bytes"),
        )
        .hint("`daemon.body_size` is the limit")),
        Ok(Err(error)) => {
            Err(Failure::new(StatusCode::BAD_REQUEST, Kind::Usage, format!("the body broke off: {error}")))
        }
    }
}
