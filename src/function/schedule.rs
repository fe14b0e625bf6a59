//! Group `schedule`: what runs at which times, and running it now.

use super::due::{now, why_late};
use super::timetable::{RUN, Row, Timetable};
use super::{Accepts, Argument, Call, CallError, Context, Function, check_schedules, dispatch, masking};
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::job::{MARKER, Queue, Remembered};
use crate::schedule::{Instant, Zone};
use crate::vocab::{JobId, Key, Map, Value};

const LIST: &str = "Return every schedule: what it calls, when it runs next, how the last run ended, or why it is off.

`state` is `on`, `running`, `off`, or `late`: no success in two periods, which makes the return code 1. Times are those of
the schedule's zone, delay included. The daemon starts what is due; without one this reads what the last one remembered.

    castoff call schedule.list";

const RUN_NOW: &str = "Run what a schedule calls now; return what that returned.

Refused while a run of the schedule goes on, and the daemon starts none meanwhile. How it ends counts as a run of the
schedule. One that is off can be run, too.

    castoff call schedule.run sync";

/// How many of the next times are shown.
const UPCOMING: usize = 3;

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::reads("schedule.list", LIST, &[], list),
    Function::changes(RUN, RUN_NOW, &[Argument::required("name", Accepts::Text, "The schedule's name")], run).long(),
];

fn list(_: &Call, context: &Context) -> Result<Value> {
    let table = Timetable::new(&context.config, &context.settings);
    let queue = Queue::open(&context.config.state_dir)?;
    let (remembered, now) = (queue.schedules()?, now()?);
    let mut rows = Vec::new();
    for row in &table.rows {
        let known = remembered.iter().find(|known| known.name == row.name);
        let is_running = match known {
            Some(known) => known.is_under_way || queue.schedule_is_flown(&row.name)?,
            None => false,
        };
        let is_late = known.is_some_and(|known| row.is_late(known, now));
        if is_late {
            context.retcode.set(1);
        }
        rows.push((row.name.clone(), shown(row, known, is_running, now)));
    }
    Ok(Value::map(rows))
}

fn shown(row: &Row, known: Option<&Remembered>, is_running: bool, now: Instant) -> Value {
    let zone = row.schedule().map_or(Zone::UTC, |schedule| schedule.cron.zone());
    let moment = |at: Option<i64>| Value::from(at.map(|at| zone.show(at.div_euclid(1000))));
    let is_late = known.is_some_and(|known| row.is_late(known, now));
    let (state, why) = match (row.why_off(), known) {
        (Some(why), _) => ("off", Some(why.to_owned())),
        (None, Some(known)) if is_late => ("late", Some(why_late(row, known))),
        (None, _) if is_running => ("running", None),
        (None, Some(_)) => ("on", None),
        (None, None) => ("on", Some("no daemon has looked at it yet".to_owned())),
    };
    let mut members = Map::new();
    let mut set = |name: &str, value: Value| drop(members.insert(Key::from(name), value));
    set("state", state.into());
    if let Some(why) = why {
        set("why", why.into());
    }
    set("function", row.call.function.as_str().into());
    if !(row.call.request.positional.is_empty() && row.call.request.named.is_empty()) {
        set("arguments", masking::masked(super::find(&row.call.function), &row.call.request));
    }
    if let Some(schedule) = row.schedule() {
        set("schedule", schedule.cron.to_string().into());
        set("delay", schedule.delay.as_secs().into());
        set("next", Value::list(schedule.upcoming(now, UPCOMING).into_iter().map(|at| zone.show(at))));
    }
    if let Some(known) = known {
        set("last_run", moment(known.started));
        set("last_success", moment(known.succeeded));
        set("last_result", Value::from(known.result.clone()));
        if let Some(why) = &known.why {
            set("last_why", why.as_str().into());
        }
        set("job", Value::from(known.job.clone()));
        set("runs", known.runs.into());
        set("overlaps", known.overlaps.into());
        set("misfires", known.misfires.into());
    }
    Value::Map(members)
}

fn run(call: &Call, context: &Context) -> Result<Value> {
    check_schedules(&context.config)?;
    let table = Timetable::new(&context.config, &context.settings);
    let row = table.row(call.text("name")?)?;
    let (name, function) = (row.name.as_str(), row.call.function.as_str());
    if super::find(function).is_none() {
        return Err(Error::new(Kind::Unsupported, format!("this castoff has no function {function}")));
    }
    if call.test {
        return Ok(Value::map([
            ("result", Value::Null),
            ("comment", Value::from(format!("`{function}` would be called for schedule `{name}`"))),
        ]));
    }
    let queue = Queue::open(&context.config.state_dir)?;
    let job = host::environment::text(MARKER)?.map(|id| id.parse::<JobId>()).transpose()?;
    let flight = queue.schedule_flight(name, row.pattern().as_deref(), job)?;
    host::fault::point("schedule.run.begun");
    match dispatch(function, row.call.request.clone(), context).map_err(CallError::into_error) {
        Ok(value) => {
            let code = context.retcode_of(&value);
            context.retcode.set(code);
            flight.end(code, None)?;
            Ok(value)
        }
        Err(error) => {
            if let Err(lost) = flight.end(1, Some(&error)) {
                tracing::error!(error = lost.render(), schedule = name, "the end of the run is not remembered");
            }
            Err(error)
        }
    }
}
