//! What bollard's errors mean to castoff's callers.

use bollard::errors::Error as Cause;

use crate::error::{Error, Kind};

/// The failure of a request, with what was being done.
pub(super) fn engine_error(cause: Cause, doing: impl Into<String>) -> Error {
    match cause {
        Cause::DockerResponseServerError { status_code, message } => {
            let kind = match status_code {
                400 => Kind::Usage,
                401 | 403 => Kind::Refused,
                404 => Kind::NotFound,
                409 => Kind::Conflict,
                503 => Kind::Unavailable,
                _ => kind_of_words(&message),
            };
            Error::new(kind, doing).caused_by(format!("the engine answered {status_code}: {}", message.trim()))
        }
        Cause::DockerStreamError { error } => said(&error, doing),
        Cause::RequestTimeoutError => {
            Error::new(Kind::Unavailable, doing).caused_by("the engine did not answer in time")
        }
        Cause::SocketNotFoundError(path) => {
            Error::new(Kind::Unavailable, doing).caused_by(format!("there is no socket at `{path}`"))
        }
        Cause::IOError { err } => Error::new(crate::error::kind_of_io(&err), doing).caused_by(err),
        cause @ (Cause::HyperResponseError { .. } | Cause::HyperLegacyError { .. }) => {
            Error::new(Kind::Unavailable, doing).caused_by(innermost(&cause))
        }
        other => Error::new(Kind::Failed, doing).caused_by(other),
    }
}

/// A failure the engine told in words, inside a response that began with status 200.
pub(super) fn said(words: &str, doing: impl Into<String>) -> Error {
    Error::new(kind_of_words(words), doing).caused_by(format!("the engine said: {}", words.trim()))
}

/// The engine has no codes for these: its words are all there is.
fn kind_of_words(words: &str) -> Kind {
    if words.contains("no space left on device") {
        Kind::NoSpace
    } else if words.contains("invalid diffID")
        || words.contains("unexpected EOF")
        || words.contains("invalid tar header")
    {
        Kind::Corrupt
    } else {
        Kind::Failed
    }
}

/// The whole chain in one line: hyper's outer layers say only `client error (Connect)`.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}
