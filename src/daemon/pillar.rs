//! Pillars: `GET /v1/pillar/ID`, `POST /v1/pillar`.
//!
//! Every failure has the body `{"_errors": ["castoff: reason"]}`: whoever merges it into a pillar makes Salt refuse.

use std::collections::HashSet;
use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use bytes::Bytes;

use super::access;
use super::answer::{Failure, Response, json_text};
use super::body;
use super::shared::{Daemon, Info, Segment, Shared, refusal, text_of};
use crate::document;
use crate::error::{Error, Kind};
use crate::pillar::wire;
use crate::settings::Document;
use crate::vocab::{Key, MinionId, Value};

/// The most minions in one question.
const MOST_MINIONS: usize = 50_000;

/// `GET /v1/pillar/ID`.
pub(super) async fn one(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    id: Segment,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return Failure::busy("the daemon ends").pillar_response() };
    match pillar(&daemon, &info, id, &uri, &headers).await {
        Ok(response) => response,
        Err(failure) => failure.pillar_response(),
    }
}

async fn pillar(
    daemon: &Daemon,
    info: &Info,
    id: Segment,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, Failure> {
    let id: MinionId = text_of(id)?.parse()?;
    let prefixed = prefixed(uri.query().unwrap_or_default())?;
    access::may_have_pillar(&info.caller, &id).map_err(|error| refusal(daemon, info, error))?;
    let answers = daemon.pillars.documents(&info.state, vec![id], prefixed).await?;
    let document = answers.into_iter().next().unwrap_or_else(|| Err(Error::new(Kind::Failed, "no answer")))?;
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|tags| names(tags, &document.etag));
    let mut response = if known {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        json_text(StatusCode::OK, document.json.clone())
    };
    describe(&document, response.headers_mut());
    Ok(response)
}

/// The headers that tell what the document is and how good.
fn describe(document: &Document, headers: &mut HeaderMap) {
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::AGE, HeaderValue::from(document.age.as_secs()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Some(stale) = document.stale {
        headers.insert(header::WARNING, HeaderValue::from_static("110 castoff \"Response is Stale\""));
        headers.insert("castoff-stale", HeaderValue::from(stale.as_secs()));
    }
}

/// Whether an `If-None-Match` names the entity tag (RFC 9110, 13.1.2: compared weakly).
fn names(tags: &HeaderValue, etag: &str) -> bool {
    let tags = tags.to_str().unwrap_or_default();
    tags.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

/// What a query says about the prefix; it may say nothing else.
fn prefixed(query: &str) -> Result<bool, Failure> {
    let mut prefixed = true;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        prefixed = match pair.split_once('=') {
            Some(("prefixed", "true" | "True" | "1")) => true,
            Some(("prefixed", "false" | "False" | "0")) => false,
            _ => {
                return Err(Failure::new(StatusCode::BAD_REQUEST, Kind::Usage, "the query means nothing here")
                    .hint("`?prefixed=true` or `?prefixed=false`"));
            }
        };
    }
    Ok(prefixed)
}

/// `POST /v1/pillar` with `{"minions": ["a", …], "prefixed": true}`.
pub(super) async fn many(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    request: Request<Body>,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return Failure::busy("the daemon ends").pillar_response() };
    match pillars(&daemon, &info, request).await {
        Ok(response) => response,
        Err(failure) => failure.pillar_response(),
    }
}

async fn pillars(daemon: &Daemon, info: &Info, request: Request<Body>) -> Result<Response, Failure> {
    access::may_ask(&info.caller).map_err(|error| refusal(daemon, info, error))?;
    if info.door == "tcp" {
        body::require_json(request.headers())?;
    }
    let limits = &info.state.config.daemon;
    let bytes = body::read(request.into_body(), limits.body_size, limits.idle).await?;
    info.connection.busy();
    let (names, prefixed) = question(&bytes)?;
    let (mut ids, mut errors, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for name in names {
        let wanted = name.parse().and_then(|id| access::may_have_pillar(&info.caller, &id).map(|()| id));
        match wanted {
            _ if !seen.insert(name.clone()) => {}
            Ok(id) => ids.push(id),
            Err(error) => errors.push((name, wire::reason(&error))),
        }
    }
    let answers = daemon.pillars.bulk(&info.state, &ids, prefixed).await?;
    let mut pieces: Vec<Bytes> = vec![Bytes::from_static(b"{\"pillars\": {")];
    let mut comma = "";
    for (id, answer) in ids.iter().zip(answers) {
        match answer {
            Ok(document) => {
                pieces.push(Bytes::from(format!("{comma}\"{id}\": ")));
                pieces.push(document.json.slice(..document.json.len().saturating_sub(1)));
                comma = ", ";
            }
            Err(error) => errors.push((id.to_string(), wire::reason(&error))),
        }
    }
    let errors = wire::document(&Value::map(errors));
    pieces.push(Bytes::from(format!("}}, \"errors\": {}}}\n", errors.trim_end())));
    // Documents are shared with the cache: however many there are, and however slowly they are read, they are not copied.
    let body = Body::from_stream(futures_util::stream::iter(pieces.into_iter().map(Ok::<_, Infallible>)));
    Ok(json_text(StatusCode::OK, body))
}

/// Names and prefix of a body.
fn question(bytes: &Bytes) -> Result<(Vec<String>, bool), Failure> {
    let wrong = |what: &str| {
        Failure::new(StatusCode::BAD_REQUEST, Kind::Usage, what)
            .hint("send {\"minions\": [\"web-1\", …], \"prefixed\": true}")
    };
    let text = std::str::from_utf8(bytes).map_err(|_| wrong("the body is not UTF-8"))?;
    let Value::Map(mut members) = document::parse_json(text, "body")? else {
        return Err(wrong("the body is no map"));
    };
    let minions = members.shift_remove(&Key::from("minions"));
    let prefixed = members.shift_remove(&Key::from("prefixed")).unwrap_or(Value::Bool(true));
    let (Some(Value::List(minions)), Value::Bool(prefixed), true) = (minions, prefixed, members.is_empty()) else {
        return Err(wrong("the body has something else than a list `minions` and a boolean `prefixed`"));
    };
    if minions.len() > MOST_MINIONS {
        return Err(Failure::from(Error::new(
            Kind::Limit,
            format!("more than {MOST_MINIONS} minions in one question"),
        )));
    }
    let name = |item: Value| match item {
        Value::String(name) => Ok(name),
        _ => Err(wrong("`minions` holds what is no text")),
    };
    Ok((minions.into_iter().map(name).collect::<Result<_, _>>()?, prefixed))
}
