//! The timetable: every schedule, configured or castoff's own, with what it calls, and why it is off if it is.
//!
//! Made anew for each look, from the configuration and the image settings as they are then. Starts nothing.

use std::str::FromStr as _;
use std::time::Duration;

use super::arguments::{Request, bind};
use super::{CallError, Function, LongCall, find, unknown};
use crate::config::{Config, GRACE, Scheduled};
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::job::Remembered;
use crate::outputter::python;
use crate::schedule::{Cron, Instant, Schedule, Zone, jitter};
use crate::settings::{PILLAR_TTL, Service};
use crate::vocab::Value;

/// The function that runs a schedule by hand, which none may call.
pub(super) const RUN: &str = "schedule.run";

/// Every schedule, in order of name.
#[derive(Clone, Debug, Default)]
pub struct Timetable {
    /// The rows.
    pub rows: Vec<Row>,
}

/// One schedule.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// What it calls.
    pub call: LongCall,
    /// When.
    pub plan: Plan,
}

/// When a schedule runs.
#[derive(Clone, Debug)]
pub enum Plan {
    /// At these times.
    On(Box<Schedule>),
    /// Never, and why.
    Off(String),
    /// Not as long as something is broken: what was remembered stays.
    Broken(String),
}

impl Timetable {
    /// The timetable of this host.
    pub fn new(config: &Config, settings: &Service) -> Self {
        let host = Host::of(config);
        let configured = config.schedules.entries.iter().map(|entry| configured(entry, &host));
        let mut rows: Vec<Row> = configured.chain([images(config, settings, &host), sync(config, &host)]).collect();
        rows.sort_by(|one, other| one.name.cmp(&other.name));
        Self { rows }
    }

    /// The row of this name.
    pub fn row(&self, name: &str) -> Result<&Row> {
        self.rows.iter().find(|row| row.name == name).ok_or_else(|| {
            let near = crate::vocab::nearest(name, self.rows.iter().map(|row| row.name.as_str()));
            let error = Error::new(Kind::NotFound, format!("there is no schedule `{}`", name.escape_debug()));
            match near.first() {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("`castoff call schedule.list` lists them"),
            }
        })
    }
}

impl Row {
    /// When it runs, where it does.
    pub fn schedule(&self) -> Option<&Schedule> {
        match &self.plan {
            Plan::On(schedule) => Some(schedule),
            Plan::Off(_) | Plan::Broken(_) => None,
        }
    }

    /// Why it does not run, where it does not.
    pub fn why_off(&self) -> Option<&str> {
        match &self.plan {
            Plan::On(_) => None,
            Plan::Off(why) | Plan::Broken(why) => Some(why),
        }
    }

    /// What tells this schedule from what had its name before: another one starts afresh.
    pub fn pattern(&self) -> Option<String> {
        self.schedule().map(|schedule| schedule.cron.to_string())
    }

    /// Whether two periods have passed without a success.
    pub fn is_late(&self, remembered: &Remembered, now: Instant) -> bool {
        let Some(schedule) = self.schedule().filter(|_| remembered.pattern == self.pattern()) else { return false };
        // What it did before it was changed, or switched on again, says nothing of what it does now.
        let success = remembered.succeeded.map_or(i64::MIN, |at| at.div_euclid(1000));
        schedule.is_late(success.max(remembered.since), now)
    }
}

/// Refuses a configured schedule whose function does not exist or does not take its arguments.
pub fn check_schedules(config: &Config) -> Result<()> {
    config.schedules.entries.iter().try_for_each(|entry| callable(entry).map(drop))
}

/// What the rows have in common.
struct Host {
    name: Result<String, String>,
    zone: Result<Zone, String>,
}

impl Host {
    fn of(config: &Config) -> Self {
        let name = match &config.minion_id {
            Some(id) => Ok(id.to_string()),
            None => host::process::host_name(),
        };
        let told = |error: Error| match error.next_step() {
            Some(hint) => format!("{error}: {hint}"),
            None => error.to_string(),
        };
        Self {
            name: name.map_err(told),
            zone: host::clock::zone().and_then(|name| Zone::from_str(&name)).map_err(told),
        }
    }

    fn delay(&self, schedule: &str, window: Duration) -> Result<Duration, String> {
        if window.is_zero() {
            return Ok(Duration::ZERO);
        }
        self.name.clone().map(|host| jitter(&host, schedule, window))
    }
}

/// The call of an entry, or what is wrong with it.
fn callable(entry: &Scheduled) -> Result<LongCall> {
    if entry.function == RUN {
        return Err(entry.wrong("function", format!("`{RUN}` is for people; name the function itself")));
    }
    let Some(function) = find(&entry.function) else {
        return Err(entry.caused("function", &unknown(&entry.function).into_error()));
    };
    let mut request = Request::from(entry.kwargs.clone());
    request.positional = entry.args.iter().cloned().map(Into::into).collect();
    fitting(function, &request).map_err(|error| {
        let field = if entry.kwargs.is_empty() { "args" } else { "kwargs" };
        entry.caused(field, &error.into_error())
    })?;
    Ok(LongCall { function: entry.function.clone(), request, minion: None })
}

fn fitting(function: &'static Function, request: &Request) -> Result<(), CallError> {
    bind(function, request.clone()).map(drop).map_err(|problem| problem.of(function))
}

fn configured(entry: &Scheduled, host: &Host) -> Row {
    let plan = || {
        if !entry.enabled {
            return Err(Plan::Off("`enabled` is false".to_owned()));
        }
        let zone = match entry.zone {
            Some(zone) => zone,
            None => host.zone.clone().map_err(Plan::Broken)?,
        };
        let delay = host.delay(&entry.name, entry.jitter).map_err(Plan::Broken)?;
        let cron = Cron::parse(&entry.cron, zone).map_err(|error| Plan::Off(error.to_string()))?;
        Ok(Schedule { cron, delay, grace: entry.grace })
    };
    // Whoever runs by hand what is off runs it with its arguments.
    let (call, plan) = match callable(entry) {
        Ok(call) => (call, plan().map_or_else(|off| off, |schedule| Plan::On(Box::new(schedule)))),
        Err(error) => {
            let call = LongCall { function: entry.function.clone(), ..LongCall::default() };
            (call, Plan::Off(error.to_string()))
        }
    };
    Row { name: entry.name.clone(), call, plan }
}

/// castoff's own schedule of a function without arguments.
fn built_in(name: &str, function: &str, plan: impl FnOnce() -> Result<Schedule, Plan>) -> Row {
    let plan = match (find(function), plan()) {
        (None, _) => Plan::Off(format!("this castoff has no function {function}")),
        (Some(_), Ok(schedule)) => Plan::On(Box::new(schedule)),
        (Some(_), Err(off)) => off,
    };
    Row { name: name.to_owned(), call: LongCall { function: function.to_owned(), ..LongCall::default() }, plan }
}

/// The times of the image settings; the operator chose them for one controller, so there is no delay.
fn images(config: &Config, settings: &Service, host: &Host) -> Row {
    built_in("lxc.sync_images", "mc_lxc.sync_images", || {
        if !config.schedules.sync_images {
            return Err(Plan::Off("`schedule.sync_images` is false: cron runs it".to_owned()));
        }
        let broken = |error: Error| Plan::Broken(format!("the image settings cannot be made: {error}"));
        let document = settings.settings(None, PILLAR_TTL).map_err(broken)?;
        let lxc = document.value.get("lxc").cloned().unwrap_or_default();
        if lxc.get("cron_sync") != Some(&Value::Bool(true)) {
            let found = lxc.get("cron_sync").map_or_else(|| "not set".to_owned(), python::text);
            return Err(Plan::Off(format!(
                "the image setting `lxc.cron_sync` is {found}; `castoff call settings.explain lxc.cron_sync` tells why"
            )));
        }
        let field = |name: &str| lxc.get(name).map(python::text).unwrap_or_default();
        let zone = host.zone.clone().map_err(Plan::Broken)?;
        let cron = Cron::daily(&field("cron_hour"), &field("cron_minute"), zone).map_err(|error| {
            Plan::Off(format!("the image settings `lxc.cron_hour` and `lxc.cron_minute` are no time: {error}"))
        })?;
        Ok(Schedule { cron, delay: Duration::ZERO, grace: GRACE })
    })
}

fn sync(config: &Config, host: &Host) -> Row {
    built_in("sync", "sync.run", || {
        let Some(pattern) = &config.sync.schedule else {
            return Err(Plan::Off("`sync.schedule` is none".to_owned()));
        };
        let zone = host.zone.clone().map_err(Plan::Broken)?;
        let cron = Cron::parse(pattern, zone).map_err(|error| Plan::Off(error.to_string()))?;
        let delay = host.delay("sync", config.sync.jitter).map_err(Plan::Broken)?;
        Ok(Schedule { cron, delay, grace: GRACE })
    })
}
