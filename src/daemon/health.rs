//! How the daemon is: alive, ready, in numbers, and how much it logs.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::http::{Request, StatusCode};
use serde_json::json;

use super::access;
use super::answer::{Failure, Response, json_text, typed};
use super::caller::Caller;
use super::metrics::Text;
use super::shared::{Daemon, Info, Phase, Shared, gone, refusal};
use super::{body, jobs};
use crate::error::{Error, Kind};
use crate::function::{self, Row, Timetable};
use crate::job::Remembered;
use crate::pillar::{self as cache, wire};
use crate::schedule::Instant;
use crate::settings::PILLAR_TTL;

/// `GET /healthz`: the process answers.
pub(super) async fn alive() -> Response {
    json_text(StatusCode::OK, json!({"alive": true}).to_string())
}

/// `GET /readyz`: 200 where queries can be answered, degraded or not; what is wrong is told to who may know.
pub(super) async fn ready(State(daemon): State<Shared>, Extension(info): Extension<Info>) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    let mut reasons: Vec<String> = Vec::new();
    let mut ready = true;
    if daemon.phase() != Phase::Serving {
        ready = false;
        reasons.push("the daemon is about to stop".to_owned());
    }
    match pillars(&daemon, &info).await {
        Ok(degraded) => reasons.extend(degraded),
        Err(reason) => {
            ready = false;
            reasons.push(reason);
        }
    }
    reasons.extend(daemon.jobs.trouble().map(|why| format!("jobs: {why}")));
    reasons.extend(daemon.reload_problem().map(|why| format!("the last reload failed: {why}")));
    reasons.extend(daemon.schedules.shortcomings());
    let mut told = json!({"ready": ready});
    if ready && !reasons.is_empty() {
        told["degraded"] = json!(true);
    }
    if !matches!(*info.caller, Caller::Anonymous) {
        told["reasons"] = json!(reasons);
    }
    json_text(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, told.to_string())
}

/// Whether pillars can be made, and in what they fall short; a host without any image database need not.
async fn pillars(daemon: &Daemon, info: &Info) -> Result<Option<String>, String> {
    /// How long the files may take.
    const PATIENCE: Duration = Duration::from_secs(2);
    let settings = Arc::clone(&info.state.settings);
    let configured = info.state.config.pillar_root.is_some();
    let probes = Arc::clone(&daemon.probes);
    let probe = async {
        let permit = probes.acquire_owned().await.map_err(|error| Error::new(Kind::Failed, error.to_string()))?;
        let document = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let base = settings.base()?;
            if base.source.database.is_none() && !configured {
                return Ok(None);
            }
            settings.document(&base.host.id, true, PILLAR_TTL).map(Some)
        });
        document.await.map_err(|error| Error::new(Kind::Failed, "the probe broke off").caused_by(error))?
    };
    match tokio::time::timeout(PATIENCE, probe).await {
        Err(_) => Err("the pillar's files do not answer".to_owned()),
        Ok(Err(error)) => Err(wire::reason(&error)),
        Ok(Ok(None)) => Ok(None),
        Ok(Ok(Some(document))) => Ok(document
            .stale
            .map(|stale| format!("the pillar's sources have been broken for {} seconds", stale.as_secs()))),
    }
}

/// `GET /metrics`.
pub(super) async fn metrics(State(daemon): State<Shared>, Extension(info): Extension<Info>) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    let counted = tokio::time::timeout(
        Duration::from_secs(2),
        jobs::look(&daemon, &info, |open| Ok((open.queue.counts()?, open.queue.schedules()?))),
    )
    .await;
    let (table, now, counted_images) = (daemon.schedules.table(), function::now(), daemon.schedules.images());
    let text = daemon.metrics.text(|text| {
        text.one("castoff_calls", "gauge", "Calls under way.", daemon.calls.under_way());
        // Where the database of jobs does not answer, the samples are missing.
        if let Ok(Ok((counts, remembered))) = counted {
            text.family("castoff_jobs", "gauge", "Jobs by state.");
            for (state, count) in counts {
                text.line("castoff_jobs", &format!("state=\"{}\"", state.word()), count);
            }
            if let Ok(now) = now {
                schedules(text, &table, &remembered, now);
            }
        }
        if let Some(images) = counted_images {
            images.write(text);
        }
        let settings = info.state.settings.metrics();
        caches(text, &[("database", &settings.database), ("answers", &settings.answers)]);
        text.one("castoff_cache_invalidations_total", "counter", "Invalidations on request.", settings.invalidations);
    });
    typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
}

/// What is known of schedules.
fn schedules(text: &mut Text, table: &Timetable, remembered: &[Remembered], now: Instant) {
    type Sample = fn(&Row, &Remembered, Instant) -> Option<f64>;
    #[expect(clippy::cast_precision_loss, reason = "counters and milliseconds since 1970 are far below 2^53")]
    const FAMILIES: [(&str, &str, &str, Sample); 9] = [
        ("last_success_timestamp_seconds", "gauge", "When the last success ended.", |_, known, _| {
            known.succeeded.map(|at| at as f64 / 1000.0)
        }),
        ("last_run_timestamp_seconds", "gauge", "When the last run began.", |_, known, _| {
            known.started.map(|at| at as f64 / 1000.0)
        }),
        ("last_result", "gauge", "Whether the last run that ended was a success.", |_, known, _| {
            known.result.as_ref().map(|result| f64::from(u8::from(result == "success")))
        }),
        (
            "next_run_timestamp_seconds",
            "gauge",
            "When it runs next, its delay included; in the past: it is overdue.",
            |row, known, _| row.schedule()?.following(known.served).map(|at| at as f64),
        ),
        ("late", "gauge", "Whether two periods have passed without a success.", |row, known, now| {
            Some(f64::from(u8::from(row.is_late(known, now))))
        }),
        ("running", "gauge", "Whether a job of it has not ended.", |_, known, _| {
            Some(f64::from(u8::from(known.is_under_way)))
        }),
        ("runs_total", "counter", "Runs that were begun.", |_, known, _| Some(known.runs as f64)),
        ("overlaps_total", "counter", "Runs left out since the one before had not ended.", |_, known, _| {
            Some(known.overlaps as f64)
        }),
        ("misfires_total", "counter", "Runs that were missed.", |_, known, _| Some(known.misfires as f64)),
    ];
    text.family("castoff_schedule_enabled", "gauge", "Whether the schedule is on.");
    for row in &table.rows {
        let labels = format!("schedule=\"{}\"", row.name);
        text.line("castoff_schedule_enabled", &labels, u8::from(row.schedule().is_some()));
    }
    for (name, kind, help, sample) in FAMILIES {
        let name = format!("castoff_schedule_{name}");
        text.family(&name, kind, help);
        for row in &table.rows {
            let known = remembered.iter().find(|known| known.name == row.name);
            if let Some(value) = known.and_then(|known| sample(row, known, now)) {
                text.line(&name, &format!("schedule=\"{}\"", row.name), value);
            }
        }
    }
}

/// The counters of the settings' caches.
fn caches(text: &mut Text, caches: &[(&str, &cache::Metrics)]) {
    type Sample = fn(&cache::Metrics) -> f64;
    #[expect(clippy::cast_precision_loss, reason = "counters far below 2^53")]
    const FAMILIES: [(&str, &str, &str, Sample); 9] = [
        ("hits_total", "counter", "Answers from the cache.", |counts| counts.hits as f64),
        ("misses_total", "counter", "Answers that were made.", |counts| counts.misses as f64),
        ("errors_total", "counter", "Answers that could not be made.", |counts| counts.errors as f64),
        ("stale_total", "counter", "Last good answers given instead.", |counts| counts.stale as f64),
        ("load_seconds_total", "counter", "Time spent making answers.", |counts| counts.load_time.as_secs_f64()),
        ("longest_load_seconds", "gauge", "The longest time one took.", |counts| counts.longest_load.as_secs_f64()),
        ("oldest_hit_seconds", "gauge", "Age of the oldest answer given since the last look.", |counts| {
            counts.oldest_hit.as_secs_f64()
        }),
        ("entries", "gauge", "Answers kept.", |counts| counts.entries as f64),
        ("bytes", "gauge", "Their size, about.", |counts| counts.bytes as f64),
    ];
    for (name, kind, help, sample) in FAMILIES {
        let name = format!("castoff_cache_{name}");
        text.family(&name, kind, help);
        for (cache, counts) in caches {
            text.line(&name, &format!("cache=\"{cache}\""), sample(counts));
        }
    }
}

/// What the level of the log is called in scopes.
const LOG_LEVEL: &str = "daemon.log_level";

/// `GET /v1/log-level`.
pub(super) async fn log_level(State(daemon): State<Shared>, Extension(info): Extension<Info>) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    match access::may_administer(&info.caller, LOG_LEVEL) {
        Ok(()) => json_text(StatusCode::OK, json!({"level": daemon.logs.level()}).to_string()),
        Err(error) => refuse(&daemon, &info, error),
    }
}

/// `PUT /v1/log-level` with `{"level": "debug"}`.
pub(super) async fn set_log_level(
    State(daemon): State<Shared>,
    Extension(info): Extension<Info>,
    request: Request<Body>,
) -> Response {
    let Some(daemon) = daemon.upgrade() else { return gone(&info) };
    if let Err(error) = access::may_administer(&info.caller, LOG_LEVEL) {
        return refuse(&daemon, &info, error);
    }
    match change_log_level(&daemon, &info, request).await {
        Ok(response) => response,
        Err(failure) => failure.response(&info.id),
    }
}

async fn change_log_level(daemon: &Daemon, info: &Info, request: Request<Body>) -> Result<Response, Failure> {
    let bytes = body::read(request.into_body(), 1024, info.state.config.daemon.idle).await?;
    let level = serde_json::from_slice::<serde_json::Value>(&bytes)
        .ok()
        .and_then(|body| body.get("level")?.as_str().map(str::to_owned))
        .ok_or_else(|| {
            Failure::new(StatusCode::BAD_REQUEST, Kind::Usage, "the body names no level")
                .hint("send `{\"level\": \"debug\"}`")
        })?;
    let before = daemon.logs.level();
    daemon.logs.set_level(&level)?;
    tracing::info!(who = info.caller.who(), door = info.door, before, level, "log level changed");
    Ok(json_text(StatusCode::OK, json!({"level": level}).to_string()))
}

fn refuse(daemon: &Daemon, info: &Info, error: Error) -> Response {
    refusal(daemon, info, error).response(&info.id)
}
