//! Pillars: `GET /v1/pillar/ID`, `POST /v1/pillar`.
//!
//! Requests queue for a few threads, which take all that wait at once: they share one look at the sources' files, begun
//! after the last of them came. So a thousand questions cost the file system what one costs, no answer is older than its
//! question, and a file system that hangs holds these threads and nobody else's.
//!
//! Every failure has the body `{"_errors": ["castoff: reason"]}`: whoever merges it into a pillar makes Salt refuse.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, Uri, header};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::access;
use super::answer::{Failure, Response, json_text};
use super::body;
use super::health::refusal;
use super::request::Info;
use super::routes::{Segment, Shared, text_of};
use super::server::Daemon;
use super::state::State as Settings;
use crate::document;
use crate::error::{Context as _, Error, Kind, Result};
use crate::pillar::{Sweep, wire};
use crate::settings::{Document, PILLAR_TTL};
use crate::vocab::{Key, MinionId, Value};

/// How many requests may wait before others hear 503.
const QUEUE: usize = 4096;

/// How many are taken at once.
const BATCH: usize = 256;

/// How many threads answer: one may be at work on a changed database while the other serves what is unchanged.
const THREADS: usize = 2;

/// How many minions of a question for many are answered at a time.
const PIECE: usize = 500;

/// The most minions in one question.
const MOST_MINIONS: usize = 50_000;

type Answer = Result<Arc<Document>>;

/// A question to the threads.
struct Ask {
    state: Arc<Settings>,
    ids: Vec<MinionId>,
    prefixed: bool,
    answer: oneshot::Sender<Vec<Answer>>,
}

/// The queue and its threads.
#[derive(Debug)]
pub(super) struct Pillars {
    asks: mpsc::Sender<Ask>,
}

impl Pillars {
    /// Starts the threads; they end with this value.
    pub(super) fn start() -> Result<Self> {
        let (asks, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new()
                .name("pillar".to_owned())
                .spawn(move || work(&waiting))
                .context(|| "cannot start a thread for pillars")?;
        }
        Ok(Self { asks })
    }

    /// The documents of these minions, in their order.
    pub(super) async fn documents(
        &self,
        state: &Arc<Settings>,
        ids: Vec<MinionId>,
        prefixed: bool,
    ) -> Result<Vec<Answer>, Failure> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { state: Arc::clone(state), ids, prefixed, answer };
        self.asks.try_send(ask).map_err(|_| Failure::busy("too many pillars are asked for at once"))?;
        let limit = state.config.daemon.deadline;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(_)) => {
                Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, Kind::Failed, "the pillar's thread broke off"))
            }
            Err(_) => Err(late(limit)),
        }
    }

    /// The same for many, a piece after another, so that single questions do not wait for all of them.
    async fn bulk(&self, state: &Arc<Settings>, ids: &[MinionId], prefixed: bool) -> Result<Vec<Answer>, Failure> {
        let limit = state.config.daemon.deadline;
        let all = async {
            let mut answers = Vec::with_capacity(ids.len());
            for piece in ids.chunks(PIECE) {
                answers.extend(self.documents(state, piece.to_vec(), prefixed).await?);
            }
            Ok(answers)
        };
        tokio::time::timeout(limit, all).await.map_err(|_| late(limit))?
    }
}

fn late(limit: Duration) -> Failure {
    Failure::late(format!("no pillar within {} seconds", limit.as_secs()))
        .hint("are the files below `pillar_root` on a file system that hangs?")
}

fn work(waiting: &Mutex<mpsc::Receiver<Ask>>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let taken = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv_many(&mut batch, BATCH);
        if taken == 0 {
            return;
        }
        let sweep = Sweep::default();
        for ask in batch.drain(..) {
            // Who waits no longer, since the deadline is over, needs no answer.
            if ask.answer.is_closed() {
                continue;
            }
            let document = |id| ask.state.settings.document_in(&sweep, id, ask.prefixed, PILLAR_TTL);
            let answers =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask.ids.iter().map(document).collect()));
            if let Ok(answers) = answers {
                // They may have gone meanwhile.
                let _unheard = ask.answer.send(answers);
            } else {
                tracing::error!("a pillar broke off: this is a mistake in castoff");
            }
        }
    }
}

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
