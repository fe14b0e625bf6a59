//! Calls that take long: into the queue at one end, out of it in a process of their own at the other.
//!
//! A job's call is a map `{arg: [{value, typed}..], kwarg: {name: {value, typed}}, minion: map or null}`; only this file knows.

use std::sync::Arc;
use std::time::Duration;

use super::arguments::{Given, Request, bind};
use super::{CallError, Caller, Context, dispatch, find, masking, unknown};
use crate::error::{Error, Kind, Result};
use crate::host::{fault, session::Identity};
use crate::job::{Claim, Failure, MARKER, Outcome, Queue, Recorder, State, Stopped, Submission};
use crate::pillar::Facts;
use crate::progress::Progress;
use crate::vocab::{JobId, Map, Value};

/// How long a function that was told to stop may take to remove its temporaries.
const GRACE: Duration = Duration::from_secs(5);

/// How long to keep trying to store how a job ended, on a full disk for instance.
const PATIENCE: Duration = Duration::from_mins(10);

/// A call that is to become a job.
#[derive(Clone, Debug, Default)]
pub struct LongCall {
    /// The function's name.
    pub function: String,
    /// Its arguments.
    pub request: Request,
    /// What the minion on whose behalf the call is made told of itself, as [`Facts::passed_in`] takes it.
    pub minion: Option<Map>,
}

/// Makes a job of a call. Arguments that do not fit are told now, not by a job that fails.
pub fn enqueue(queue: &Queue, call: LongCall, caller: &Caller) -> Result<JobId, CallError> {
    let Some(function) = find(&call.function) else { return Err(unknown(&call.function)) };
    let submission = submission(call, caller)?;
    queue.submit(&submission).map_err(|error| CallError::Failed { function, error })
}

/// The job of a call, its arguments checked.
pub(super) fn submission(call: LongCall, caller: &Caller) -> Result<Submission, CallError> {
    let Some(function) = find(&call.function) else { return Err(unknown(&call.function)) };
    let failed = |error| CallError::Failed { function, error };
    let shown = masking::masked(Some(function), &call.request);
    call.minion.as_ref().map(Facts::passed_in).transpose().map_err(failed)?;
    let written = encoded(&call);
    bind(function, call.request).map_err(|problem| problem.of(function))?;
    Ok(Submission { function: call.function, call: written, shown, ..of(caller) })
}

/// A submission of this caller.
pub(super) fn of(caller: &Caller) -> Submission {
    let Caller { who, door, request } = caller.clone();
    Submission { who, door, request, ..Submission::default() }
}

fn encoded(call: &LongCall) -> Value {
    let given =
        |given: &Given| Value::map([("value", given.value.clone()), ("typed", Value::from(given.typed.as_ref()))]);
    let named = call.request.named.iter().map(|(name, value)| (name.as_str(), given(value)));
    Value::map([
        ("arg", Value::list(call.request.positional.iter().map(given))),
        ("kwarg", Value::map(named)),
        ("minion", Value::from(call.minion.clone())),
    ])
}

fn decoded(call: &Value) -> Request {
    let given = |item: &Value| Given {
        value: item.get("value").cloned().unwrap_or_default(),
        typed: item.get("typed").and_then(Value::as_str).map(str::to_owned),
    };
    let empty = Map::new();
    let named = call.get("kwarg").and_then(Value::as_map).unwrap_or(&empty);
    Request {
        positional: call.get("arg").and_then(Value::as_list).unwrap_or_default().iter().map(given).collect(),
        named: named.iter().filter_map(|(name, item)| Some((name.as_str()?.to_owned(), given(item)))).collect(),
    }
}

/// Runs a queued job in this process, which is started for it and does nothing else.
///
/// False when the job went back into the queue since this process was told to end; true when it has ended, or is not for
/// this process to run.
pub fn run_job(queue: &Queue, id: JobId, context: Context) -> Result<bool> {
    // A session of its own: what the function starts is found by it, and a terminal's Ctrl-C does not reach it. Whoever
    // leads a process group already (started from a shell) is well without.
    let _leads_already = rustix::process::setsid();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Failed, "cannot wait for signals").caused_by(error))?;
    let state = runtime.block_on(async {
        // Before the claim: from there on whoever wants the job to end sends SIGTERM.
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
            .map_err(|error| Error::new(Kind::Failed, "cannot wait for SIGTERM").caused_by(error))?;
        let Some(claim) = queue.claim(id)? else { return Ok(None) };
        let recorder = Recorder::start(&claim)?;
        let outcome = ended(&claim, context, &recorder, &mut terminate).await?;
        recorder.finish();
        fault::point("job.run.before-finish");
        stored(&claim, outcome, &mut terminate).await.map(Some)
    });
    // The function's thread may still be at work: it ends with the process.
    runtime.shutdown_background();
    state.map(|state| state != Some(State::Queued))
}

/// How the job's function ends, or that it does not although it was told to.
async fn ended(
    claim: &Claim,
    context: Context,
    recorder: &Arc<Recorder>,
    terminate: &mut tokio::signal::unix::Signal,
) -> Result<Outcome> {
    let job = claim.job()?;
    let call = claim.call()?;
    let progress = Progress::new(Arc::clone(recorder) as Arc<_>);
    let caller = Caller { who: job.who.clone(), door: job.door.clone(), request: job.request.clone() };
    let facts = call.get("minion").and_then(Value::as_map).map(Facts::passed_in).transpose()?;
    let context = Context { progress, caller, facts, ..context };
    let ending = context.clone();
    fault::point("job.run.before-function");
    let (tell, mut told) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("job".to_owned())
        .spawn(move || {
            let outcome = outcome(&job.function, &call, &context);
            // Nobody listens any more when the process is about to be killed.
            let _unheard = tell.send(outcome);
        })
        .map_err(|error| Error::new(Kind::Failed, "cannot start the job's thread").caused_by(error))?;
    let gone = || Outcome::Failed(Failure::from(&Error::new(Kind::Failed, "the job's thread is gone")));
    let outcome = tokio::select! {
        outcome = &mut told => outcome.unwrap_or_else(|_| gone()),
        _ = terminate.recv() => {
            ending.end();
            recorder.stop();
            let own = Identity::own()?;
            own.signal_others(&format!("{MARKER}={}", claim.id()), rustix::process::Signal::TERM)?;
            return Ok(match tokio::time::timeout(GRACE, told).await {
                Ok(Ok(Outcome::Done(value, retcode))) => Outcome::Done(value, retcode),
                Ok(_) | Err(_) => Outcome::Interrupted,
            });
        }
    };
    if matches!(outcome, Outcome::Done(..)) {
        return Ok(outcome);
    }
    // A machine that shuts down ends the function's programs and this process in any order: theirs is no failure then.
    let told_to_end = tokio::time::timeout(Duration::from_millis(200), terminate.recv()).await.is_ok();
    Ok(if told_to_end { Outcome::Interrupted } else { outcome })
}

/// Calls the function and says how it ended.
fn outcome(function: &str, call: &Value, context: &Context) -> Outcome {
    let run = std::panic::AssertUnwindSafe(|| dispatch(function, decoded(call), context));
    match std::panic::catch_unwind(run) {
        Ok(Ok(value)) => {
            let retcode = context.retcode_of(&value);
            Outcome::Done(value, retcode)
        }
        Ok(Err(error)) => Outcome::Failed(Failure::from(&error.into_error())),
        Err(payload) if payload.is::<Stopped>() => Outcome::Interrupted,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("for no told reason");
            let error = Error::new(Kind::Failed, format!("`{function}` panicked: {text}"))
                .hint("this is a mistake in castoff: please report it");
            Outcome::Failed(Failure::from(&error))
        }
    }
}

/// Stores how the job ended, again and again while there is no room for it.
async fn stored(claim: &Claim, outcome: Outcome, terminate: &mut tokio::signal::unix::Signal) -> Result<State> {
    let begun = std::time::Instant::now();
    loop {
        let error = match claim.finish(&outcome) {
            Ok(state) => return Ok(state),
            Err(error) => error,
        };
        let may_pass = matches!(error.kind(), Kind::NoSpace | Kind::Unavailable);
        if !may_pass || begun.elapsed() > PATIENCE {
            return Err(error);
        }
        tracing::error!("job {} has ended, which cannot be stored yet: {}", claim.id(), error.render());
        if tokio::time::timeout(Duration::from_secs(1), terminate.recv()).await.is_ok() {
            return Err(error);
        }
    }
}
