//! What building images may use of the machine, and where packages come from. Keys, and what they set.

use std::time::Duration;

use super::key::{Key, at_least_one, lay_over, maybe, number};
use super::parse_size;
use crate::document;
use crate::vocab::{Map, Value};

/// Everything that may be configured about builds.
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    /// Plans at once.
    pub jobs: u32,
    /// How long what is known of an archive of packages is taken for true.
    pub archive_ttl: Duration,
    /// Lines of `sources.list` by suite, for suites that the host's own apt does not tell.
    pub sources: Map,
    /// The most processes a step may have at once.
    pub processes: u32,
    /// The most memory a step may take, in bytes; none: no limit.
    pub memory: Option<u64>,
    /// A step ends when fewer bytes than these are free where trees are.
    pub disk_floor: u64,
    /// How long a step may run; none: no limit.
    pub timeout: Option<Duration>,
    /// Results of steps that nobody used for so many days are collected; none: they stay.
    pub keep_days: Option<u32>,
    /// The most bytes that results of steps may take; none: no limit.
    pub max_size: Option<u64>,
}

impl Default for Build {
    fn default() -> Self {
        Self {
            jobs: 2,
            archive_ttl: Duration::from_hours(1),
            sources: Map::new(),
            processes: 4096,
            memory: None,
            disk_floor: 256 << 20,
            timeout: None,
            keep_days: Some(30),
            max_size: None,
        }
    }
}

const SIZE: &str = "bytes, or a number with a unit such as `20GiB`, or `none`";

pub(super) const JOBS: Key = Key {
    name: "build.jobs",
    environment: "CASTOFF_BUILD_JOBS",
    accepts: "a whole number from 1 on",
    doc: "Images that are built at once, where none waits for another",
    set: |config, text| at_least_one(text).map(|value| config.build.jobs = value),
    get: |config| Value::from(config.build.jobs),
};

pub(super) const ARCHIVE_TTL: Key = Key {
    name: "build.archive_ttl",
    environment: "CASTOFF_BUILD_ARCHIVE_TTL",
    accepts: "seconds",
    doc: "How long what is known of an archive of packages is taken for true before a build looks again",
    set: |config, text| number(text).map(|value: u32| config.build.archive_ttl = Duration::from_secs(value.into())),
    get: |config| Value::from(config.build.archive_ttl.as_secs()),
};

pub(super) const SOURCES: Key = Key {
    name: "build.sources",
    environment: "CASTOFF_BUILD_SOURCES",
    accepts: "a map in YAML",
    doc: "Where the packages of a suite come from; else as the host's own apt has it for its distribution",
    set: |config, text| {
        match document::parse(text, "build.sources").map_err(|error| error.to_string())? {
            Value::Null => {}
            map @ Value::Map(_) => lay_over(&mut config.build.sources, &map),
            other => return Err(format!("a map is expected, not a {}", other.type_name())),
        }
        Ok(())
    },
    get: |config| Value::Map(config.build.sources.clone()),
};

pub(super) const PROCESSES: Key = Key {
    name: "build.processes",
    environment: "CASTOFF_BUILD_PROCESSES",
    accepts: "a whole number from 1 on",
    doc: "The most processes a step of a build may have at once",
    set: |config, text| at_least_one(text).map(|value| config.build.processes = value),
    get: |config| Value::from(config.build.processes),
};

pub(super) const MEMORY: Key = Key {
    name: "build.memory",
    environment: "CASTOFF_BUILD_MEMORY",
    accepts: SIZE,
    doc: "The most memory a step of a build may take",
    set: |config, text| maybe(text, parse_size).map(|value| config.build.memory = value),
    get: |config| Value::from(config.build.memory),
};

pub(super) const DISK_FLOOR: Key = Key {
    name: "build.disk_floor",
    environment: "CASTOFF_BUILD_DISK_FLOOR",
    accepts: "bytes, or a number with a unit such as `1GiB`",
    doc: "A step of a build is ended when less than this is free where trees are kept",
    set: |config, text| parse_size(text).map(|value| config.build.disk_floor = value),
    get: |config| Value::from(config.build.disk_floor),
};

pub(super) const TIMEOUT: Key = Key {
    name: "build.timeout",
    environment: "CASTOFF_BUILD_TIMEOUT",
    accepts: "seconds, or `none`",
    doc: "How long one step of a build may run",
    set: |config, text| {
        maybe(text, number::<u32>)
            .map(|value| config.build.timeout = value.map(|value| Duration::from_secs(value.into())))
    },
    get: |config| Value::from(config.build.timeout.map(|timeout| timeout.as_secs())),
};

pub(super) const KEEP_DAYS: Key = Key {
    name: "build.keep_days",
    environment: "CASTOFF_BUILD_KEEP_DAYS",
    accepts: "a whole number, or `none`",
    doc: "`image.gc` removes results of build steps, and trees of failed ones, that nobody used for so many days",
    set: |config, text| maybe(text, number).map(|value| config.build.keep_days = value),
    get: |config| Value::from(config.build.keep_days),
};

pub(super) const MAX_SIZE: Key = Key {
    name: "build.max_size",
    environment: "CASTOFF_BUILD_MAX_SIZE",
    accepts: SIZE,
    doc: "`image.gc` removes results of build steps, those used longest ago first, until they take no more",
    set: |config, text| maybe(text, parse_size).map(|value| config.build.max_size = value),
    get: |config| Value::from(config.build.max_size),
};
