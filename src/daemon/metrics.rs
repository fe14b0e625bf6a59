//! What the daemon counts, as Prometheus reads it (text format 0.0.4).

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use axum::http::StatusCode;

/// The routes that are told apart; a hostile path makes no new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `POST /v1/call`.
    Call,
    /// `GET /v1/pillar/ID`.
    Pillar,
    /// `POST /v1/pillar`.
    Pillars,
    /// `GET /v1/functions`.
    Functions,
    /// `GET /openapi.json`.
    Openapi,
    /// `GET /healthz`.
    Healthz,
    /// `GET /readyz`.
    Readyz,
    /// `GET /metrics`.
    Metrics,
    /// `/v1/log-level`.
    LogLevel,
    /// `/v1/jobs` and all below.
    Jobs,
    /// Anything else.
    Other,
}

impl Route {
    const ALL: [Self; 11] = [
        Self::Call,
        Self::Pillar,
        Self::Pillars,
        Self::Functions,
        Self::Openapi,
        Self::Healthz,
        Self::Readyz,
        Self::Metrics,
        Self::LogLevel,
        Self::Jobs,
        Self::Other,
    ];

    /// The route of a path.
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/v1/call" => Self::Call,
            "/v1/pillar" => Self::Pillars,
            "/v1/functions" => Self::Functions,
            "/openapi.json" => Self::Openapi,
            "/healthz" => Self::Healthz,
            "/readyz" => Self::Readyz,
            "/metrics" => Self::Metrics,
            "/v1/log-level" => Self::LogLevel,
            "/v1/jobs" => Self::Jobs,
            other if other.starts_with("/v1/pillar/") => Self::Pillar,
            other if other.starts_with("/v1/jobs/") => Self::Jobs,
            _ => Self::Other,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Pillar => "pillar",
            Self::Pillars => "pillars",
            Self::Functions => "functions",
            Self::Openapi => "openapi",
            Self::Healthz => "healthz",
            Self::Readyz => "readyz",
            Self::Metrics => "metrics",
            Self::LogLevel => "log_level",
            Self::Jobs => "jobs",
            Self::Other => "other",
        }
    }
}

/// The statuses that are told apart; the last counts every other.
const STATUSES: [u16; 23] =
    [200, 202, 204, 304, 400, 401, 403, 404, 405, 408, 409, 411, 413, 415, 422, 429, 431, 500, 501, 503, 504, 507, 0];

/// Upper ends of the latency histogram's buckets, in microseconds.
const BUCKETS: [u64; 15] = [
    100, 250, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
    30_000_000,
];

#[derive(Debug, Default)]
struct PerRoute {
    statuses: [AtomicU64; STATUSES.len()],
    buckets: [AtomicU64; BUCKETS.len() + 1],
    micros: AtomicU64,
}

/// All counters.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    routes: [PerRoute; Route::ALL.len()],
    /// Open connections.
    pub(super) connections: AtomicI64,
    /// Connections ever accepted.
    pub(super) accepted: AtomicU64,
    /// Connections closed to make room for another.
    pub(super) evicted: AtomicU64,
    /// TLS handshakes that failed.
    pub(super) handshakes_failed: AtomicU64,
    /// Calls refused for who asked.
    pub(super) refused: AtomicU64,
    /// Reloads that worked.
    pub(super) reloads: AtomicU64,
    /// Reloads that kept the old configuration.
    pub(super) reloads_failed: AtomicU64,
}

impl Metrics {
    /// One request is answered.
    pub(super) fn observe(&self, route: Route, status: StatusCode, took: Duration) {
        let per = &self.routes[route as usize];
        let slot = STATUSES.iter().position(|known| *known == status.as_u16()).unwrap_or(STATUSES.len() - 1);
        per.statuses[slot].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BUCKETS.iter().position(|end| micros <= *end).unwrap_or(BUCKETS.len());
        per.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        per.micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// The text; `more` adds what others count.
    pub(super) fn text(&self, more: impl FnOnce(&mut Text)) -> String {
        let mut text = Text(String::with_capacity(8192));
        text.family("castoff_build_info", "gauge", "The program that answers.");
        text.line("castoff_build_info", &format!("version=\"{}\"", env!("CARGO_PKG_VERSION")), 1);
        self.requests(&mut text);
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let gauge = |counter: &AtomicI64| counter.load(Ordering::Relaxed);
        text.one("castoff_connections", "gauge", "Open connections.", gauge(&self.connections));
        text.one("castoff_connections_total", "counter", "Connections accepted.", count(&self.accepted));
        text.one(
            "castoff_connections_evicted_total",
            "counter",
            "Idle connections closed to make room.",
            count(&self.evicted),
        );
        text.one(
            "castoff_tls_handshakes_failed_total",
            "counter",
            "TLS handshakes that failed.",
            count(&self.handshakes_failed),
        );
        text.one("castoff_refused_total", "counter", "Requests refused for who asked.", count(&self.refused));
        text.one("castoff_reloads_total", "counter", "Reloads of the configuration.", count(&self.reloads));
        text.one(
            "castoff_reloads_failed_total",
            "counter",
            "Reloads that kept the old configuration.",
            count(&self.reloads_failed),
        );
        more(&mut text);
        text.0
    }

    fn requests(&self, text: &mut Text) {
        text.family("castoff_requests_total", "counter", "Requests answered.");
        for (route, per) in Route::ALL.iter().zip(&self.routes) {
            for (status, counter) in STATUSES.iter().zip(&per.statuses) {
                let value = counter.load(Ordering::Relaxed);
                if value > 0 {
                    let status = if *status == 0 { "other".to_owned() } else { status.to_string() };
                    let labels = format!("route=\"{}\",status=\"{status}\"", route.word());
                    text.line("castoff_requests_total", &labels, value);
                }
            }
        }
        text.family("castoff_request_seconds", "histogram", "From a request's head to its answer's head.");
        for (route, per) in Route::ALL.iter().zip(&self.routes) {
            let counts: Vec<u64> = per.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect();
            let total: u64 = counts.iter().sum();
            if total == 0 {
                continue;
            }
            let word = route.word();
            let mut below = 0;
            for (end, count) in BUCKETS.iter().zip(&counts) {
                below += count;
                let labels = format!("route=\"{word}\",le=\"{}\"", seconds(*end));
                text.line("castoff_request_seconds_bucket", &labels, below);
            }
            text.line("castoff_request_seconds_bucket", &format!("route=\"{word}\",le=\"+Inf\""), total);
            let sum = seconds(per.micros.load(Ordering::Relaxed));
            text.line("castoff_request_seconds_sum", &format!("route=\"{word}\""), sum);
            text.line("castoff_request_seconds_count", &format!("route=\"{word}\""), total);
        }
    }
}

fn seconds(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64()
}

/// The text format under construction.
pub(super) struct Text(String);

impl Text {
    /// Begins a family of samples.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _infallible = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// Adds a sample; `labels` as they stand between the braces.
    pub(super) fn line(&mut self, name: &str, labels: &str, value: impl std::fmt::Display) {
        let _infallible = if labels.is_empty() {
            writeln!(self.0, "{name} {value}")
        } else {
            writeln!(self.0, "{name}{{{labels}}} {value}")
        };
    }

    /// A family of one sample without labels.
    pub(super) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.line(name, "", value);
    }
}
