//! Group `job`: what the daemon made of calls that take long.

use std::time::Duration;

use super::long::of;
use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::error::{Error, Kind, Result};
use crate::job::{Filter, Job, Queue, State};
use crate::vocab::{JobId, Value};

const ID: Argument = Argument::required("id", Accepts::Text, "The job's id");

pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes(
        "job.cancel",
        "End a job: a queued one at once; a running one is told to end, and killed when it does not.\n\nReturns the job as it stands then; one that was done just before stays done.\n\n    castoff call job.cancel 01arz3ndektsv4rrffq69g5fav",
        &[
            ID,
            Argument::optional(
                "grace",
                Accepts::Int,
                Default::Int(10),
                "Seconds that a running job has to end by itself, up to 600",
            ),
        ],
        cancel,
    ),
    Function::reads(
        "job.events",
        "Return what a job has told so far: states, progress, messages, its end.\n\nEach event has a number; `after` continues behind the last one seen. A message `dropped` stands for events that were too many to keep.\n\n    castoff call job.events 01arz3ndektsv4rrffq69g5fav",
        &[
            ID,
            Argument::optional("after", Accepts::Int, Default::Int(0), "Only events with greater numbers"),
            Argument::optional("limit", Accepts::Int, Default::Int(1000), "The most events to return, up to 10000"),
        ],
        events,
    ),
    Function::reads(
        "job.list",
        "Return the jobs, the newest first: calls that take long, which the daemon runs in processes of their own.\n\nSecret arguments are masked. Jobs that ended are forgotten after jobs.keep_days, and beyond jobs.keep.\n\n    castoff call job.list state=running",
        &[
            Argument::optional(
                "state",
                Accepts::Text,
                Default::Null,
                "Only those that are queued, running, done, failed or cancelled",
            ),
            Argument::optional("limit", Accepts::Int, Default::Int(50), "The most jobs to return, up to 1000"),
        ],
        list,
    ),
    Function::changes(
        "job.retry",
        "Put the call of a job that failed or was cancelled into the queue again, as a new job; return its id.\n\nThe daemon runs it; a job that died with its process is run again without this.\n\n    castoff call job.retry 01arz3ndektsv4rrffq69g5fav",
        &[ID],
        retry,
    ),
    Function::reads(
        "job.show",
        "Return a job: its call, its state, and its result or why it failed.\n\n    castoff call job.show 01arz3ndektsv4rrffq69g5fav",
        &[ID],
        |call, context| Ok(queue(context)?.get(id(call)?)?.to_value()),
    ),
];

fn queue(context: &Context) -> Result<Queue> {
    Queue::open(&context.config.state_dir)
}

fn id(call: &Call) -> Result<JobId> {
    call.text("id")?.parse()
}

/// A number from 0 to `most`.
fn number(call: &Call, name: &str, most: u32) -> Result<u32> {
    let given = call.integer(name)?;
    u32::try_from(given)
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| Error::new(Kind::Usage, format!("{}: `{name}` is 0 to {most}, not {given}", call.function)))
}

fn cancel(call: &Call, context: &Context) -> Result<Value> {
    let (queue, id) = (queue(context)?, id(call)?);
    let grace = Duration::from_secs(number(call, "grace", 600)?.into());
    let job = queue.get(id)?;
    if call.test && !job.state.is_final() {
        return Ok(Value::map([
            ("result", Value::Null),
            ("comment", Value::from(format!("job {id} is {} and would be cancelled", job.state.word()))),
        ]));
    }
    Ok(queue.cancel(id, &context.caller.who, grace)?.to_value())
}

fn retry(call: &Call, context: &Context) -> Result<Value> {
    let (queue, id) = (queue(context)?, id(call)?);
    let job = queue.get(id)?;
    if call.test && matches!(job.state, State::Failed | State::Cancelled) {
        return Ok(Value::map([
            ("result", Value::Null),
            ("comment", Value::from(format!("job {id} is {} and would be tried again", job.state.word()))),
        ]));
    }
    let id = queue.retry(id, of(&context.caller))?;
    Ok(Value::map([("job", id.to_string())]))
}

fn list(call: &Call, context: &Context) -> Result<Value> {
    let filter = Filter {
        state: call.maybe_text("state").map(str::parse).transpose()?,
        most: Some(number(call, "limit", 1000)?),
        before: None,
        who: None,
    };
    Ok(Value::list(queue(context)?.list(&filter)?.iter().map(Job::to_value)))
}

fn events(call: &Call, context: &Context) -> Result<Value> {
    let (queue, id) = (queue(context)?, id(call)?);
    let after = call.integer("after")?;
    let after = u64::try_from(after)
        .map_err(|error| Error::new(Kind::Usage, format!("job.events: `after` cannot be {after}")).caused_by(error))?;
    queue.get(id)?;
    let events = queue.events_after(id, after, number(call, "limit", 10_000)?)?;
    Ok(Value::list(events.iter().map(crate::job::Event::to_value)))
}
