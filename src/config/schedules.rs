//! What runs at which times: the tree `schedules`, read strictly; a mistake is told with its file, line and field.
//!
//! Whether the functions exist and take these arguments is not known here.

use std::collections::BTreeMap;
use std::time::Duration;

use super::key::{Key, boolean, lay_over, number};
use crate::document;
use crate::error::{Error, Kind, Result};
use crate::outputter::python;
use crate::schedule::{Cron, Zone};
use crate::vocab::{Map, Value, nearest};

/// A run that is later than this is left out, unless the schedule says otherwise.
pub const GRACE: Duration = Duration::from_hours(6);

/// No jitter or grace is longer.
const LONGEST: u64 = 31 * 86_400;

/// What an entry may say.
const FIELDS: [&str; 8] = ["function", "args", "kwargs", "cron", "timezone", "jitter", "grace", "enabled"];

/// The names of what castoff schedules itself.
const BUILT_IN: [&str; 2] = ["lxc.sync_images", "sync"];

/// What is configured about schedules.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedules {
    /// The entries, in order of name.
    pub entries: Vec<Scheduled>,
    /// How often the daemon looks what is due.
    pub tick: Duration,
    /// Whether the image settings' `cron_sync` is the daemon's to follow.
    pub sync_images: bool,
    /// The tree as it is configured.
    pub(super) tree: Map,
    /// Where entries (`NAME`) and fields (`NAME.FIELD`) stand.
    pub(super) places: BTreeMap<String, String>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Scheduled {
    /// Its name.
    pub name: String,
    /// What to call.
    pub function: String,
    /// With which positional arguments.
    pub args: Vec<Value>,
    /// With which keyword arguments.
    pub kwargs: Map,
    /// When, five fields.
    pub cron: String,
    /// The zone of these; none: the host's.
    pub zone: Option<Zone>,
    /// The window in which this host has its own delay.
    pub jitter: Duration,
    /// A run that is later is left out.
    pub grace: Duration,
    /// Whether it runs at all.
    pub enabled: bool,
    places: BTreeMap<String, String>,
}

impl Default for Schedules {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            tick: Duration::from_secs(10),
            sync_images: true,
            tree: Map::new(),
            places: BTreeMap::new(),
        }
    }
}

impl Schedules {
    /// Reads the tree, whole by now.
    pub(super) fn parse(&mut self) -> Result<()> {
        let mut entries = Vec::new();
        for (key, value) in &self.tree {
            entries.push(self.entry(&python::key_text(key), value)?);
        }
        entries.sort_by(|one, other| one.name.cmp(&other.name));
        self.entries = entries;
        Ok(())
    }

    fn entry(&self, name: &str, value: &Value) -> Result<Scheduled> {
        let below = format!("{name}.");
        let own = self.places.iter().filter(|(path, _)| *path == name || path.starts_with(&below));
        let places: BTreeMap<String, String> = own.map(|(path, place)| (path.clone(), place.clone())).collect();
        let mut entry = Scheduled {
            name: name.to_owned(),
            function: String::new(),
            args: Vec::new(),
            kwargs: Map::new(),
            cron: String::new(),
            zone: None,
            jitter: Duration::ZERO,
            grace: GRACE,
            enabled: true,
            places,
        };
        if let Some(why) = wrong_name(name) {
            return Err(entry.wrong("", why));
        }
        let Value::Map(fields) = value else {
            return Err(entry.wrong("", format!("a map is expected, not a {}", value.type_name())));
        };
        for (key, value) in fields {
            let field = python::key_text(key);
            entry.take(&field, value)?;
        }
        for (field, is_missing) in [("function", entry.function.is_empty()), ("cron", entry.cron.is_empty())] {
            if is_missing {
                return Err(entry.wrong("", format!("`{field}` is missing")));
            }
        }
        // Whether it ever fires does not depend on the zone.
        let judged = Cron::parse(&entry.cron, entry.zone.unwrap_or(Zone::UTC));
        judged.map_err(|error| entry.caused("cron", &error))?;
        Ok(entry)
    }
}

impl Scheduled {
    fn take(&mut self, field: &str, value: &Value) -> Result<()> {
        let text = || match value {
            Value::String(text) if !text.is_empty() => Ok(text.clone()),
            other => Err(self.wrong(field, format!("a text is expected, not a {}", other.type_name()))),
        };
        match field {
            "function" => self.function = text()?,
            "cron" => self.cron = text()?,
            "timezone" => self.zone = Some(text()?.parse().map_err(|error| self.caused(field, &error))?),
            "args" => match value {
                Value::List(items) => self.args = items.clone(),
                other => return Err(self.wrong(field, format!("a list is expected, not a {}", other.type_name()))),
            },
            "kwargs" => match value {
                Value::Map(members) => self.kwargs = members.clone(),
                other => return Err(self.wrong(field, format!("a map is expected, not a {}", other.type_name()))),
            },
            "jitter" => self.jitter = self.seconds(field, value)?,
            "grace" => self.grace = self.seconds(field, value)?,
            "enabled" => match value {
                Value::Bool(value) => self.enabled = *value,
                other => {
                    return Err(self.wrong(field, format!("true or false is expected, not a {}", other.type_name())));
                }
            },
            unknown => {
                let near = nearest(unknown, FIELDS);
                let hint = match near.first() {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the fields are `{}`", FIELDS.join("`, `")),
                };
                return Err(self.wrong(unknown, "there is no such field").hint(hint));
            }
        }
        Ok(())
    }

    fn seconds(&self, field: &str, value: &Value) -> Result<Duration> {
        let seconds = match value {
            Value::Int(number) => u64::try_from(*number).ok().filter(|seconds| *seconds <= LONGEST),
            _ => None,
        };
        seconds
            .map(Duration::from_secs)
            .ok_or_else(|| self.wrong(field, format!("seconds from 0 to {LONGEST} are expected")))
    }

    /// What is wrong with a field (or with the entry, where the field has no name), with where that stands.
    pub fn wrong(&self, field: &str, what: impl std::fmt::Display) -> Error {
        let path = if field.is_empty() { self.name.clone() } else { format!("{}.{field}", self.name) };
        let place = self.places.get(&path).or_else(|| self.places.get(&self.name));
        let place = place.map_or_else(|| "configuration".to_owned(), Clone::clone);
        Error::new(Kind::Usage, format!("{place}: schedules.{}: {what}", path.escape_debug()))
    }

    /// The same, where another room said why.
    pub fn caused(&self, field: &str, error: &Error) -> Error {
        let wrong = self.wrong(field, error.message());
        match error.next_step() {
            Some(hint) => wrong.hint(hint),
            None => wrong,
        }
    }
}

/// Why this cannot name a schedule: it names a file, a label of metrics, a word of the command line.
fn wrong_name(name: &str) -> Option<&'static str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) || name.starts_with(['.', '-']) {
        return Some("a name has up to 64 letters, digits, `.`, `_` and `-`, and begins with none of the last two");
    }
    BUILT_IN.contains(&name).then_some("that is the name of a schedule of castoff's own")
}

pub(super) const SCHEDULES: Key = Key {
    name: "schedules",
    environment: "CASTOFF_SCHEDULES",
    accepts: "a map in YAML",
    doc: "What the daemon runs at which times: `NAME: {function, args, kwargs, cron, timezone, jitter, grace, enabled}`",
    set: |config, text| {
        match document::parse(text, "schedules").map_err(|error| error.to_string())? {
            Value::Null => {}
            map @ Value::Map(_) => lay_over(&mut config.schedules.tree, &map),
            other => return Err(format!("a map is expected, not a {}", other.type_name())),
        }
        Ok(())
    },
    get: |config| Value::Map(config.schedules.tree.clone()),
};

pub(super) const TICK: Key = Key {
    name: "schedule.tick",
    environment: "CASTOFF_SCHEDULE_TICK",
    accepts: "seconds from 1 to 59",
    doc: "How often the daemon looks which schedules are due",
    set: |config, text| {
        let seconds = number(text)?;
        if !(1..60).contains(&seconds) {
            return Err(format!("{seconds} is not from 1 to 59"));
        }
        config.schedules.tick = Duration::from_secs(seconds);
        Ok(())
    },
    get: |config| Value::from(config.schedules.tick.as_secs()),
};

pub(super) const SYNC_IMAGES: Key = Key {
    name: "schedule.sync_images",
    environment: "CASTOFF_SCHEDULE_SYNC_IMAGES",
    accepts: "`true` or `false`",
    doc: "Whether the daemon runs `mc_lxc.sync_images` at the times of the image settings; false where cron does",
    set: |config, text| boolean(text).map(|value| config.schedules.sync_images = value),
    get: |config| Value::from(config.schedules.sync_images),
};
