//! `settings.invalidate` and `settings.cache`: the kept answers to settings and pillars, and what became of them.

use std::time::Duration;

use super::{Call, Context, Function};
use crate::error::Result;
use crate::pillar::Metrics;
use crate::vocab::Value;

pub(super) const FUNCTIONS: &[Function] = &[
    Function::reads(
        "settings.cache",
        "Return the counters of kept settings and pillars: hits, misses, errors, last good answers, times.\n\nThey are \
         those of the process that answers: the daemon's, or this one's.\n\n    castoff call settings.cache",
        &[],
        counters,
    ),
    Function::changes(
        "settings.invalidate",
        "Forget every kept answer to settings and pillars, last good ones too; return how many there were.\n\nEdited files \
         are noticed without it; what is not a file (this host's name, being a container) is looked at again only \
         now.\n\n    castoff call settings.invalidate",
        &[],
        invalidate,
    ),
];

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn counters(_: &Call, context: &Context) -> Result<Value> {
    let metrics = context.settings.metrics();
    Ok(Value::map([
        ("database", shown(&metrics.database)),
        ("answers", shown(&metrics.answers)),
        ("invalidations", Value::from(metrics.invalidations)),
    ]))
}

#[expect(clippy::unnecessary_wraps, reason = "the signature of every function")]
fn invalidate(call: &Call, context: &Context) -> Result<Value> {
    let kept = if call.test { context.settings.metrics().answers.entries } else { context.settings.invalidate() };
    Ok(Value::map([
        ("result", if call.test { Value::Null } else { Value::from(true) }),
        ("forgotten", Value::from(kept)),
    ]))
}

fn shown(metrics: &Metrics) -> Value {
    let seconds = |time: Duration| Value::from(time.as_secs_f64());
    Value::map([
        ("hits", Value::from(metrics.hits)),
        ("misses", Value::from(metrics.misses)),
        ("errors", Value::from(metrics.errors)),
        ("stale", Value::from(metrics.stale)),
        ("entries", Value::from(metrics.entries)),
        ("bytes", Value::from(metrics.bytes)),
        ("load_seconds", seconds(metrics.load_time)),
        ("longest_load_seconds", seconds(metrics.longest_load)),
        ("oldest_hit_seconds", seconds(metrics.oldest_hit)),
    ])
}
