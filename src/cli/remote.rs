//! `castoff call --daemon`: the same call, made by the daemon; a long one is followed to its end.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use super::client::{Answer, Client, Question, kind_of_status};
use crate::document;
use crate::error::{Error, Kind, Result};
use crate::function::{self, Accepts, CallError, Function, Given, Request};
use crate::host;
use crate::outputter::{Outputter, Style};
use crate::progress::{Event, Sink, Unit};
use crate::vocab::{Map, Reference, Value, nearest};

/// How long a daemon that is restarted may be away while one of its jobs is followed.
const ABSENCE: Duration = Duration::from_mins(2);

/// What the function returned, with its return code.
type Outcome = Result<(Value, u8), CallError>;

/// Makes the call; `sink` hears of a long one's progress.
pub(super) fn call(
    client: &Client,
    name: &str,
    request: Request,
    minion: Option<&Map>,
    sink: &dyn Sink,
) -> Result<Outcome> {
    let row = function::find(name);
    let body = one_line(&body(name, row, request, minion)?);
    // What changes something may take its time here as it does without the daemon.
    let within = row.is_some_and(|row| !row.changes).then(|| client.patience());
    let answer = client.ask(&Question::post("/v1/call", body), within)?;
    let json = parsed(&answer)?;
    if answer.status != 200 && answer.status != 202 {
        return failure(name, row, &answer, &json);
    }
    match json.get("job").and_then(Json::as_str) {
        Some(job) if json.get("return").is_none() => follow(client, row, name, job, sink),
        _ => result(&answer).map(Ok),
    }
}

/// Return value and code of an answer; the value keeps its order and is read as strictly as any input.
fn result(answer: &Answer) -> Result<(Value, u8)> {
    let text = String::from_utf8_lossy(&answer.body);
    let whole = document::parse_json(&text, "the daemon's answer")?;
    let code = match whole.get("retcode") {
        Some(Value::Int(code)) => u8::try_from(*code).unwrap_or(1),
        _ => 1,
    };
    Ok((whole.get("return").cloned().unwrap_or_default(), code))
}

fn parsed(answer: &Answer) -> Result<Json> {
    serde_json::from_slice(&answer.body).map_err(|error| {
        Error::new(Kind::Unavailable, format!("the daemon's answer (status {}) is not JSON", answer.status))
            .caused_by(error)
            .hint("is it a daemon of castoff that listens at `socket`?")
    })
}

/// Why the call has no result, in the words it would have had in this process.
fn failure(name: &str, row: Option<&'static Function>, answer: &Answer, json: &Json) -> Result<Outcome> {
    let told = json.get("error").cloned().unwrap_or_default();
    let text = |key: &str| told.get(key).and_then(Json::as_str).map(str::to_owned);
    let error = error_of(&told, kind_of_status(answer.status));
    let problem = || text("message").unwrap_or_default();
    Ok(Err(match (text("fault").as_deref(), row) {
        (Some("unknown"), _) => {
            let known = function::functions().into_iter().map(|function| function.name);
            CallError::Unknown { name: name.to_owned(), nearest: nearest(name, known) }
        }
        (Some("keywords"), Some(function)) => CallError::Keywords { function, problem: problem(), hint: text("hint") },
        (Some("arguments"), Some(function)) => {
            CallError::Arguments { function, problem: problem(), hint: text("hint") }
        }
        (Some("failed"), Some(function)) => CallError::Failed { function, error },
        _ => return Err(error),
    }))
}

/// The error that a map with `kind`, `message`, `causes` and `hint` stands for.
fn error_of(told: &Json, otherwise: Kind) -> Error {
    let text = |key: &str| told.get(key).and_then(Json::as_str);
    let kind = text("kind").and_then(Kind::of_word).unwrap_or(otherwise);
    let causes = told.get("causes").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
    let chain = causes.iter().rev().filter_map(Json::as_str).fold(None, |below: Option<Error>, cause| {
        let error = Error::new(kind, cause);
        Some(match below {
            Some(below) => error.caused_by(below),
            None => error,
        })
    });
    let mut error = Error::new(kind, text("message").unwrap_or("the daemon gives no reason"));
    if let Some(chain) = chain {
        error = error.caused_by(chain);
    }
    match text("hint") {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Tells of a job until it ends, across restarts of the daemon; then its result.
fn follow(client: &Client, row: Option<&'static Function>, name: &str, job: &str, sink: &dyn Sink) -> Result<Outcome> {
    sink.event(&Event::Line(format!("the daemon runs this as job {job}")));
    let mut last = 0;
    let mut heard = std::time::Instant::now();
    loop {
        let question = Question { after: Some(last), ..Question::get(format!("/v1/jobs/{job}/events")) };
        let mut event = Incoming::default();
        let mut ended = false;
        let status = client.lines(&question, |line| {
            heard = std::time::Instant::now();
            if let Some((number, kind, data)) = event.line(line) {
                last = number;
                ended |= kind == "end";
                tell(sink, &kind, &data);
            }
        });
        match status {
            Ok(204) => break,
            Ok(200) if ended => break,
            Ok(200) => {}
            Ok(503) | Err(_) if heard.elapsed() < ABSENCE => std::thread::sleep(Duration::from_millis(200)),
            Ok(status) => {
                let answer = client.ask(&Question::get(format!("/v1/jobs/{job}")), Some(client.patience()))?;
                let answer = Answer { status, ..answer };
                return failure(name, row, &answer, &parsed(&answer)?);
            }
            Err(error) => {
                return Err(error.hint(format!("`castoff call --daemon job.show {job}` tells what became of the call")));
            }
        }
    }
    let answer = client.ask(&Question::get(format!("/v1/jobs/{job}")), Some(client.patience()))?;
    let record = parsed(&answer)?;
    if answer.status != 200 {
        return failure(name, row, &answer, &record);
    }
    match record.get("state").and_then(Json::as_str) {
        Some("done") => result(&answer).map(Ok),
        Some("cancelled") => {
            let who = record.get("cancelled_by").and_then(Json::as_str).unwrap_or("somebody");
            Err(Error::new(Kind::Interrupted, format!("job {job} was cancelled by {who}")))
        }
        _ => {
            let error = error_of(record.get("error").unwrap_or(&Json::Null), Kind::Failed);
            Ok(Err(match row {
                Some(function) => CallError::Failed { function, error },
                None => return Err(error),
            }))
        }
    }
}

/// A server-sent event under way.
#[derive(Default)]
struct Incoming {
    id: u64,
    kind: String,
    data: String,
}

impl Incoming {
    /// Takes a line; number, kind and data when it was the one that ends an event.
    fn line(&mut self, line: &str) -> Option<(u64, String, Json)> {
        match line.split_once(':') {
            None if line.is_empty() => {
                let whole = std::mem::take(self);
                if whole.kind.is_empty() {
                    return None;
                }
                return Some((whole.id, whole.kind, serde_json::from_str(&whole.data).unwrap_or_default()));
            }
            Some(("id", number)) => self.id = number.trim().parse().unwrap_or(self.id),
            Some(("event", kind)) => kind.trim().clone_into(&mut self.kind),
            Some(("data", data)) => self.data.push_str(data.trim_start()),
            _ => {}
        }
        None
    }
}

/// Tells the sink what an event of a job says.
fn tell(sink: &dyn Sink, kind: &str, data: &Json) {
    let text = |key: &str| data.get(key).and_then(Json::as_str);
    let number = |key: &str| data.get(key).and_then(Json::as_u64);
    match (kind, text("phase")) {
        ("progress", Some("started")) => sink.event(&Event::Started {
            stage: text("stage").unwrap_or_default().to_owned(),
            total: number("total"),
            unit: if text("unit") == Some("bytes") { Unit::Bytes } else { Unit::Items },
        }),
        ("progress", Some("advanced")) => sink.event(&Event::Advanced { done: number("done").unwrap_or_default() }),
        ("progress", Some("finished")) => sink.event(&Event::Finished),
        ("state", _) => {
            if let Some(state) = text("state") {
                sink.event(&Event::Line(format!("the job is {state}")));
            }
        }
        ("message", _) => {
            if let Some(line) = text("line") {
                sink.event(&Event::Line(line.to_owned()));
            } else if let Some(warning) = text("warning") {
                sink.event(&Event::Warning(warning.to_owned()));
            } else if let Some(dropped) = number("dropped") {
                sink.event(&Event::Line(format!("{dropped} lines were not kept")));
            }
        }
        _ => {}
    }
}

/// The body of the call: texts as they were typed, paths absolute, since the daemon stands elsewhere.
fn body(name: &str, row: Option<&Function>, request: Request, minion: Option<&Map>) -> Result<Value> {
    let arguments = row.map(|row| row.arguments).unwrap_or_default();
    let mut positional = Vec::new();
    for (at, given) in request.positional.into_iter().enumerate() {
        positional.push(sent(arguments.get(at).map(|argument| argument.accepts), given)?);
    }
    let mut named = Vec::new();
    for (key, given) in request.named {
        let accepts = arguments.iter().find(|argument| argument.name == key).map(|argument| argument.accepts);
        named.push((key, sent(accepts, given)?));
    }
    let mut members = vec![("fun", Value::from(name)), ("arg", Value::List(positional)), ("kwarg", Value::map(named))];
    members.extend(minion.map(|minion| ("minion", Value::Map(minion.clone()))));
    Ok(Value::map(members))
}

fn sent(accepts: Option<Accepts>, given: Given) -> Result<Value> {
    let scalar = matches!(given.value, Value::Bool(_) | Value::Int(_) | Value::Float(_));
    let value = match (accepts, given.typed) {
        (
            Some(Accepts::Text | Accepts::Reference | Accepts::Tree | Accepts::Path | Accepts::List | Accepts::Items),
            Some(typed),
        ) if scalar => Value::from(typed),
        _ => given.value,
    };
    let Value::String(text) = value else { return Ok(value) };
    Ok(Value::from(match accepts {
        Some(Accepts::Path) if !text.is_empty() => absolute(Path::new(&text))?,
        Some(Accepts::Reference) => reference(text)?,
        Some(Accepts::Tree) => tree(text)?,
        _ => text,
    }))
}

fn absolute(path: &Path) -> Result<String> {
    host::fs::absolute(path).map(|path| path.to_string_lossy().into_owned())
}

/// The reference with its path made absolute; one that is wrong is the daemon's to judge.
fn reference(text: String) -> Result<String> {
    let whole = |path: PathBuf| host::fs::absolute(&path);
    Ok(match text.parse() {
        Ok(Reference::Dir(path)) => Reference::Dir(whole(path)?).to_string(),
        Ok(Reference::Tar(path)) => Reference::Tar(whole(path)?).to_string(),
        Ok(Reference::DockerArchive { file, name }) => {
            Reference::DockerArchive { file: whole(file)?, name }.to_string()
        }
        Ok(Reference::Oci { directory, tag }) => Reference::Oci { directory: whole(directory)?, tag }.to_string(),
        Ok(Reference::OciArchive { file, tag }) => Reference::OciArchive { file: whole(file)?, tag }.to_string(),
        Ok(Reference::Default(_) | Reference::DockerDaemon(_) | Reference::Store(_) | Reference::Registry(_))
        | Err(_) => text,
    })
}

/// A directory or tar made absolute, a reference as any other; what could be either is what exists here.
fn tree(text: String) -> Result<String> {
    let path = Path::new(&text);
    let says_path = path.is_absolute() || text.starts_with("./") || text.starts_with("../");
    match text.parse::<Reference>() {
        _ if says_path => absolute(path),
        Ok(Reference::Default(_)) | Err(_) if host::fs::exists(path)? => absolute(path),
        _ => reference(text),
    }
}

fn one_line(value: &Value) -> String {
    Outputter::Json.write(value, &Style { indent: Some(-1), ..Style::default() })
}
