//! `POST /v1/call`: from a body to `function::dispatch`, and to an answer and a line in the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{Request as HttpRequest, StatusCode};
use bytes::Bytes;

use super::answer::{Failure, Response, json_text, one_line};
use super::calls::{blocking, enter};
use super::shared::{Daemon, Info, Shared, gone, refusal};
use super::{access, body, jobs};
use crate::document;
use crate::error::{Error, Kind, Result};
use crate::function::{self, CallError, Context, Function, Given, LongCall, Request};
use crate::pillar::Facts;
use crate::progress::Progress;
use crate::vocab::{Key, Map, Value};

/// Counts a call for as long as it runs, even if it panics.
struct Running<'daemon>(&'daemon Daemon);

impl<'daemon> Running<'daemon> {
    fn begin(daemon: &'daemon Daemon) -> Self {
        daemon.calls.under_way.send_modify(|count| *count += 1);
        Self(daemon)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.calls.under_way.send_modify(|count| *count -= 1);
    }
}

/// A call as its body has it.
struct Invocation {
    function: &'static Function,
    request: Request,
    /// The arguments as the log shows them.
    shown: String,
    /// What the minion on whose behalf this is told of itself.
    facts: Option<Facts>,
    /// The same as it came.
    minion: Option<Map>,
}

/// `POST /v1/call`.
pub(super) async fn handle(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    request: HttpRequest<Body>,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    match call(&daemon, &info, request).await {
        Ok(response) => response,
        Err(failure) => failure.response(&info.id),
    }
}

async fn call(daemon: &Arc<Daemon>, info: &Info, request: HttpRequest<Body>) -> Result<Response, Failure> {
    let limits = &info.state.config.daemon;
    access::may_ask(&info.caller).map_err(|error| refusal(daemon, info, error))?;
    if info.door == "tcp" {
        body::require_json(request.headers())?;
    }
    let wait = jobs::wait_of(request.headers());
    let bytes = body::read(request.into_body(), limits.body_size, limits.idle).await?;
    info.connection.busy();
    let invocation = {
        let permit = enter(Arc::clone(&daemon.calls.parsing)).await?;
        blocking(move || {
            let _permit = permit;
            Invocation::parse(&bytes)
        })
        .await??
    };
    access::may_call(&info.caller, invocation.function)
        .and_then(|()| access::may_give(&info.caller, invocation.function, &invocation.request))
        .map_err(|error| match error.kind() {
            Kind::Refused => refusal(daemon, info, error),
            _ => Failure::from(error),
        })?;
    if invocation.function.name == "job.retry" {
        jobs::may_retry(daemon, info, &invocation.request).await?;
    }
    if invocation.function.long {
        return queue(daemon, info, invocation, wait).await;
    }
    let permit = enter(daemon.calls.running()).await?;
    let changes = invocation.function.changes;
    let work = {
        let (daemon, info) = (Arc::clone(daemon), info.clone());
        blocking(move || {
            let _permit = permit;
            let _running = Running::begin(&daemon);
            run(&info, invocation)
        })
    };
    if changes {
        return work.await?;
    }
    match tokio::time::timeout(limits.deadline, work).await {
        Ok(answer) => answer?,
        Err(_) => Err(Failure::late(format!("no answer within {} seconds", limits.deadline.as_secs()))
            .hint("`daemon.deadline` is how long a query may take")),
    }
}

/// Makes a job of a call that takes long.
async fn queue(
    daemon: &Arc<Daemon>,
    info: &Info,
    invocation: Invocation,
    wait: Option<Duration>,
) -> Result<Response, Failure> {
    let Invocation { function, request, shown, minion, .. } = invocation;
    let caller = caller(info);
    let who = caller.who.clone();
    let call = LongCall { function: function.name.to_owned(), request, minion };
    let queued = jobs::look(daemon, info, move |open| Ok(function::enqueue(&open.queue, call, &caller))).await?;
    let id = queued.map_err(|error| Failure::from(error).or_later())?;
    tracing::info!(who, door = info.door, function = function.name, arguments = shown, job = %id, "queued");
    jobs::queued(daemon, info, id, wait).await
}

/// Who calls, as functions and jobs know it.
fn caller(info: &Info) -> function::Caller {
    function::Caller { who: info.caller.who(), door: info.door.to_owned(), request: info.id.to_string() }
}

/// Runs the call, and notes what it changed: who, through which door, what, with what result.
fn run(info: &Info, invocation: Invocation) -> Result<Response, Failure> {
    let Invocation { function, request, shown, facts, .. } = invocation;
    let began = Instant::now();
    let (config, settings) = (&info.state.config, &info.state.settings);
    let mut context = Context::with_settings((**config).clone(), Progress::silent(), Arc::clone(settings));
    context.facts = facts;
    context.caller = caller(info);
    let result = function::dispatch(function.name, request, &context);
    let (who, door, seconds) = (info.caller.who(), info.door, began.elapsed().as_secs_f64());
    let answer = match result {
        Ok(value) => Ok((context.retcode_of(&value), value)),
        Err(error) => Err(Failure::from(error)),
    };
    let told = match &answer {
        Ok((0, _)) => "ok".to_owned(),
        Ok((code, _)) => format!("retcode {code}"),
        Err(failure) => failure.for_log(),
    };
    if function.changes {
        tracing::info!(who, door, function = function.name, arguments = shown, result = told, seconds, "called");
    } else {
        tracing::debug!(who, door, function = function.name, arguments = shown, result = told, seconds, "called");
    }
    let (retcode, value) = answer?;
    let text = format!("{{\"return\": {}, \"retcode\": {retcode}, \"request_id\": \"{}\"}}", one_line(&value), info.id);
    Ok(json_text(StatusCode::OK, text))
}

impl Invocation {
    fn parse(bytes: &Bytes) -> Result<Self, Failure> {
        let wrong = |what: String| {
            Failure::from(Error::new(Kind::Usage, what)).hint(
                "send {\"fun\": \"module.function\", \"arg\": […], \"kwarg\": {…}}, or \"words\": [\"name=value\", …]",
            )
        };
        let text = std::str::from_utf8(bytes).map_err(|_| wrong("the body is not UTF-8".to_owned()))?;
        let Value::Map(mut members) = document::parse_json(text, "body")? else {
            return Err(wrong("the body is no map".to_owned()));
        };
        let mut take = |name: &str| members.shift_remove(&Key::from(name)).filter(|value| *value != Value::Null);
        let (name, positional, named, minion) = (take("fun"), take("arg"), take("kwarg"), take("minion"));
        let words = take("words");
        if let Some((unknown, _)) = members.first() {
            let unknown = crate::outputter::python::key_text(unknown);
            return Err(wrong(format!("the body has a member `{unknown}`, which means nothing")));
        }
        let Some(Value::String(name)) = name else {
            return Err(wrong("`fun` is not the name of a function".to_owned()));
        };
        let positional = match positional {
            None => Vec::new(),
            Some(Value::List(items)) => items,
            Some(_) => return Err(wrong("`arg` is no list".to_owned())),
        };
        let named = match named {
            None => Map::new(),
            Some(Value::Map(members)) => members,
            Some(_) => return Err(wrong("`kwarg` is no map".to_owned())),
        };
        let Some(function) = function::find(&name) else {
            let known = function::functions().into_iter().map(|function| function.name);
            return Err(Failure::from(CallError::Unknown { nearest: crate::vocab::nearest(&name, known), name }));
        };
        let minion = match minion {
            None => None,
            Some(Value::Map(told)) => Some(told),
            Some(_) => return Err(wrong("`minion` is no map".to_owned())),
        };
        let facts = minion.as_ref().map(Facts::passed_in).transpose()?;
        let mut request = match words {
            None => Request::default(),
            Some(Value::List(items)) => {
                let words: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                Request::from_words(
                    &words.ok_or_else(|| wrong("`words` holds something that is no text".to_owned()))?,
                    &[],
                )
            }
            Some(_) => return Err(wrong("`words` is no list".to_owned())),
        };
        request.positional.splice(0..0, positional.into_iter().map(Given::from));
        for (name, given) in Request::from(named).named {
            if request.named.contains_key(&name) {
                return Err(wrong(format!("`{name}` is in `words` and in `kwarg`")));
            }
            request.named.insert(name, given);
        }
        Ok(Self { function, shown: shown(function, &request), request, facts, minion })
    }
}

/// The arguments in one line, without secrets, cut where they are long.
fn shown(function: &Function, request: &Request) -> String {
    const MOST: usize = 4000;
    let mut text = one_line(&function::masked(Some(function), request));
    if let Some((cut, _)) = text.char_indices().nth(MOST) {
        text.truncate(cut);
        text.push('…');
    }
    text
}
