//! What a function gets: its checked arguments, and what it may use of its surroundings.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::pillar::Facts;
use crate::progress::{Cancel, Progress};
use crate::settings::Service;
use crate::vocab::{Key, Map, Reference, Value};

/// A call whose arguments were checked against the function's row.
///
/// The getters take names of declared arguments; `maybe_*` gives none for an argument that is null, the others make
/// that a usage error that names the argument.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// The function's name.
    pub function: String,
    /// Every declared argument by name, defaults filled in.
    pub arguments: Map,
    /// Further positional arguments, where the function takes them.
    pub extra: Vec<Value>,
    /// Further keyword arguments, where the function takes them.
    pub more: Map,
    /// Whether only to say what would be done.
    pub test: bool,
}

impl Call {
    /// The argument as it is; null when there is none of that name.
    pub fn value(&self, name: &str) -> &Value {
        self.arguments.get(&Key::from(name)).unwrap_or(&Value::Null)
    }

    /// The text of an argument.
    pub fn text(&self, name: &str) -> Result<&str> {
        self.maybe_text(name).ok_or_else(|| self.missing(name))
    }

    /// The text of an argument, if it is given.
    pub fn maybe_text(&self, name: &str) -> Option<&str> {
        self.value(name).as_str()
    }

    /// Whether an argument is true; null is false.
    pub fn boolean(&self, name: &str) -> bool {
        self.maybe_boolean(name).unwrap_or(false)
    }

    /// Whether an argument is true, if it is given.
    pub fn maybe_boolean(&self, name: &str) -> Option<bool> {
        match self.value(name) {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> Result<i64> {
        self.maybe_integer(name).ok_or_else(|| self.missing(name))
    }

    /// A whole number, if it is given.
    pub fn maybe_integer(&self, name: &str) -> Option<i64> {
        match self.value(name) {
            Value::Int(value) => i64::try_from(*value).ok(),
            _ => None,
        }
    }

    /// An image reference.
    pub fn reference(&self, name: &str) -> Result<Reference> {
        self.text(name)?.parse()
    }

    /// An image reference, if it is given.
    pub fn maybe_reference(&self, name: &str) -> Result<Option<Reference>> {
        self.maybe_text(name).map(str::parse).transpose()
    }

    /// A path of this host.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// A path of this host, if it is given.
    pub fn maybe_path(&self, name: &str) -> Option<PathBuf> {
        self.maybe_text(name).map(PathBuf::from)
    }

    /// The items of a list; none for null.
    pub fn list(&self, name: &str) -> &[Value] {
        self.value(name).as_list().unwrap_or_default()
    }

    /// The texts of a list; an item of another type is a usage error.
    pub fn texts(&self, name: &str) -> Result<Vec<String>> {
        let text = |item: &Value| match item {
            Value::String(text) => Ok(text.clone()),
            other => Err(Error::new(
                Kind::Usage,
                format!("{}: `{name}` must hold texts, not a {}", self.function, other.type_name()),
            )),
        };
        self.list(name).iter().map(text).collect()
    }

    /// The members of a map, if it is given.
    pub fn mapping(&self, name: &str) -> Option<&Map> {
        self.value(name).as_map()
    }

    fn missing(&self, name: &str) -> Error {
        Error::new(Kind::Usage, format!("{}: `{name}` is required", self.function))
    }
}

/// Who calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// Their name, as logs and jobs have it.
    pub who: String,
    /// The door they came through.
    pub door: String,
    /// The id of their request, if their door gives them one.
    pub request: String,
}

/// What a function may use of its surroundings.
#[derive(Clone, Debug)]
pub struct Context {
    /// castoff's configuration.
    pub config: Config,
    /// Who hears of progress.
    pub progress: Progress,
    /// What the function says about its result besides returning it.
    pub retcode: Retcode,
    /// Who calls; the user of this process unless the door says otherwise.
    pub caller: Caller,
    /// Image settings and pillars; one for as long as the process lives.
    pub settings: Arc<Service>,
    /// What the minion on whose behalf the call is made told of itself; none: this host.
    pub facts: Option<Facts>,
    /// Whether SIGINT and SIGTERM are the wish that the call ends: in a process that does nothing besides.
    pub ends_by_signal: bool,
    pub(super) cancel: Cancel,
    pub(super) listening: Arc<std::sync::Once>,
}

impl Context {
    /// Surroundings with this configuration and this listener, and settings of their own.
    pub fn new(config: Config, progress: Progress) -> Self {
        let settings = Service::open(&config);
        Self::with_settings(config, progress, settings)
    }

    /// Surroundings that share the settings with others.
    pub fn with_settings(config: Config, progress: Progress, settings: Arc<Service>) -> Self {
        let who = format!("uid {}", rustix::process::getuid().as_raw());
        let caller = Caller { who, door: "command line".to_owned(), request: String::new() };
        Self {
            config,
            progress,
            retcode: Retcode::default(),
            caller,
            settings,
            facts: None,
            ends_by_signal: false,
            cancel: Cancel::default(),
            listening: Arc::new(std::sync::Once::new()),
        }
    }

    /// The token that long work looks at. A function that asks for it promises to look: from then on the signals that
    /// would have ended this process set it.
    pub fn cancel(&self) -> Result<&Cancel> {
        let mut outcome = Ok(());
        if self.ends_by_signal {
            let cancel = self.cancel.clone();
            self.listening.call_once(|| outcome = host::signals::at_end(move || cancel.cancel()));
        }
        outcome.map(|()| &self.cancel)
    }

    /// Asks the call to end.
    pub fn end(&self) {
        self.cancel.cancel();
    }

    /// The return code of a result: what its function set, else 1 where the result itself says that it failed.
    pub fn retcode_of(&self, result: &Value) -> u8 {
        match self.retcode.get() {
            0 => u8::from(super::reports_failure(result)),
            code => code,
        }
    }
}

/// The return code a function gives its result, 0 unless it says otherwise; clones share it.
///
/// Only for a function whose result is worth having although it means failure; others return an error.
#[derive(Clone, Debug, Default)]
pub struct Retcode(Arc<AtomicU8>);

impl Retcode {
    /// The code.
    pub fn get(&self) -> u8 {
        self.0.load(Ordering::Relaxed)
    }

    /// Makes this the code.
    pub fn set(&self, code: u8) {
        self.0.store(code, Ordering::Relaxed);
    }
}
