//! Results and failures as HTTP answers.

use std::error::Error as _;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::error::{Error, Kind};
use crate::function::CallError;
use crate::outputter::{Outputter, Style};
use crate::pillar::wire;
use crate::vocab::Value;

/// An answer.
pub(super) type Response = axum::http::Response<Body>;

/// JSON text with this status.
pub(super) fn json_text(status: StatusCode, text: impl Into<Body>) -> Response {
    typed(status, "application/json", text)
}

/// A body of this type with this status.
pub(super) fn typed(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A value as JSON in one line.
pub(super) fn one_line(value: &Value) -> String {
    Outputter::Json.write(value, &Style { indent: Some(-1), ..Style::default() })
}

/// Why a request has no result.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// What of a call was wrong, for clients that speak as `castoff call` does.
    fault: Option<&'static str>,
    retry_after: Option<u32>,
}

impl Failure {
    /// A failure with a status of its own.
    pub(super) fn new(status: StatusCode, kind: Kind, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: kind.word(),
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            fault: None,
            retry_after: None,
        }
    }

    /// Too much at once: come back later.
    pub(super) fn busy(message: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, Kind::Limit, message) }
    }

    /// The time for an answer is up.
    pub(super) fn late(message: impl Into<String>) -> Self {
        Self::new(StatusCode::GATEWAY_TIMEOUT, Kind::Unavailable, message)
    }

    /// The same with when to come back, if coming back may help.
    pub(super) fn or_later(self) -> Self {
        if self.kind != Kind::Unavailable.word() {
            return self;
        }
        Self { retry_after: Some(5), ..self }
    }

    /// The same with what to do next.
    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// Kind and reason for the log; what is wrong with arguments quotes them, and they may be secret.
    pub(super) fn for_log(&self) -> String {
        match self.fault {
            Some("keywords" | "arguments") => self.kind.to_owned(),
            _ => format!("{}: {}", self.kind, self.line()),
        }
    }

    /// Message and causes in one line.
    pub(super) fn line(&self) -> String {
        let mut line = self.message.clone();
        for cause in &self.causes {
            line.push_str(": ");
            line.push_str(cause);
        }
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// The answer, in the form every route but the pillar's has.
    pub(super) fn response(&self, request_id: &str) -> Response {
        let mut error = json!({
            "kind": self.kind,
            "message": self.message,
            "causes": self.causes,
            "hint": self.hint,
        });
        if let Some(fault) = self.fault {
            error["fault"] = json!(fault);
        }
        self.with_body(json!({"error": error, "request_id": request_id}).to_string())
    }

    /// The answer in the form that makes Salt refuse when it is merged into a pillar.
    pub(super) fn pillar_response(&self) -> Response {
        let hint = self.hint.as_ref().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
        let reason = format!("castoff: {}{hint}", self.line());
        self.with_body(wire::document(&Value::map([("_errors", Value::list([reason]))])))
    }

    fn with_body(&self, text: String) -> Response {
        let mut response = json_text(self.status, text);
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"castoff\""));
        }
        response
    }
}

/// The status of a kind of failure.
fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::Usage => StatusCode::BAD_REQUEST,
        Kind::Refused => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Limit => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::Corrupt => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Kind::Unavailable | Kind::Interrupted => StatusCode::SERVICE_UNAVAILABLE,
        Kind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(below) = cause {
            causes.push(below.to_string());
            cause = below.source();
        }
        Self {
            causes,
            hint: error.next_step().map(str::to_owned),
            ..Self::new(status_of(error.kind()), error.kind(), error.message())
        }
    }
}

impl From<&crate::job::Failure> for Failure {
    fn from(failure: &crate::job::Failure) -> Self {
        let kind = Kind::of_word(&failure.kind).unwrap_or(Kind::Failed);
        Self {
            causes: failure.causes.clone(),
            hint: failure.hint.clone(),
            fault: Some("failed"),
            ..Self::new(status_of(kind), kind, failure.message.clone())
        }
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let usage = |fault, problem: String, hint: Option<String>| Self {
            hint,
            fault: Some(fault),
            ..Self::new(StatusCode::BAD_REQUEST, Kind::Usage, problem)
        };
        match error {
            CallError::Unknown { name, nearest } => {
                let hint = match nearest.as_slice() {
                    [] => "`castoff call sys.list_functions` lists all functions".to_owned(),
                    near => format!("did you mean `{}`?", near.join("`, `")),
                };
                Self {
                    hint: Some(hint),
                    fault: Some("unknown"),
                    ..Self::new(StatusCode::NOT_FOUND, Kind::NotFound, format!("'{name}' is not available."))
                }
            }
            CallError::Keywords { problem, hint, .. } => usage("keywords", problem, hint),
            CallError::Arguments { problem, hint, .. } => usage("arguments", problem, hint),
            CallError::Failed { error, .. } => Self { fault: Some("failed"), ..Self::from(error) },
        }
    }
}
