//! The function table: every capability of castoff, declared once.
//!
//! A [`Function`] is a row: name, typed arguments, documentation, whether it changes anything, and what to run. Command
//! line help, `sys.doc`, `sys.argspec` and every door's argument checks come from the row. All doors end in
//! [`dispatch()`]. Knows no terminal, HTTP, colour or exit code.
//!
//! To add a function, add a row to the `FUNCTIONS` of a group; to add a group, add a file and a line in [`GROUPS`].

mod archives;
mod arguments;
mod boot;
mod build;
mod cache;
mod call;
mod catalogue;
mod dispatch;
mod doctor;
mod due;
mod forest;
mod forest_build;
mod forest_open;
mod forest_pull;
mod image;
mod job;
mod long;
mod lxc_build;
mod masking;
mod mc_cloud_images;
mod mc_lxc;
mod plan;
mod release;
mod releases;
mod salt;
mod schedule;
mod settings;
mod sf_release;
mod store;
mod sync;
mod sys;
mod test;
mod timetable;
mod words;

pub use arguments::{Given, Request};
pub use call::{Call, Caller, Context, Retcode};
pub use dispatch::{CallError, dispatch, find, functions, reports_failure};
pub use due::{SCHEDULER, now, shortcomings, start_due};
pub use long::{LongCall, enqueue, run_job};
pub use masking::masked;
pub use timetable::{Plan, Row, Timetable, check_schedules};

use dispatch::unknown;

use crate::error::Result;
use crate::vocab::Value;

/// The table: one group a module of functions.
const GROUPS: &[&[Function]] = &[
    build::FUNCTIONS,
    boot::FUNCTIONS,
    cache::FUNCTIONS,
    doctor::FUNCTIONS,
    forest_pull::FUNCTIONS,
    forest::FUNCTIONS,
    image::FUNCTIONS,
    job::FUNCTIONS,
    lxc_build::FUNCTIONS,
    mc_cloud_images::FUNCTIONS,
    mc_lxc::FUNCTIONS,
    plan::FUNCTIONS,
    release::FUNCTIONS,
    releases::FUNCTIONS,
    schedule::FUNCTIONS,
    settings::FUNCTIONS,
    sf_release::FUNCTIONS,
    store::FUNCTIONS,
    sync::FUNCTIONS,
    sys::FUNCTIONS,
    test::FUNCTIONS,
];

/// One callable function: a row of the table.
#[expect(clippy::struct_excessive_bools, reason = "independent properties, each a column of the table")]
pub struct Function {
    /// `module.function`.
    pub name: &'static str,
    /// First sentence: what it does; then whatever its caller must know, and an example.
    pub doc: &'static str,
    /// Its arguments, in positional order.
    pub arguments: &'static [Argument],
    /// Whether further positional arguments are taken (`*args`).
    pub takes_extra: bool,
    /// Whether further keyword arguments are taken (`**kwargs`).
    pub takes_more: bool,
    /// Whether it changes anything; if so it takes `test=True` as well, and then only says what it would do.
    pub changes: bool,
    /// Whether it can take long: the daemon then makes a job of the call.
    pub long: bool,
    /// The work.
    pub run: fn(&Call, &Context) -> Result<Value>,
}

impl Function {
    /// A row for a function that only looks.
    pub const fn reads(
        name: &'static str,
        doc: &'static str,
        arguments: &'static [Argument],
        run: fn(&Call, &Context) -> Result<Value>,
    ) -> Self {
        Self { name, doc, arguments, takes_extra: false, takes_more: false, changes: false, long: false, run }
    }

    /// A row for a function that changes something, and so takes `test=True`.
    pub const fn changes(
        name: &'static str,
        doc: &'static str,
        arguments: &'static [Argument],
        run: fn(&Call, &Context) -> Result<Value>,
    ) -> Self {
        Self { changes: true, ..Self::reads(name, doc, arguments, run) }
    }

    /// The same row, taking further positional arguments.
    #[must_use]
    pub const fn with_extra(self) -> Self {
        Self { takes_extra: true, ..self }
    }

    /// The same row, taking further keyword arguments.
    #[must_use]
    pub const fn with_more(self) -> Self {
        Self { takes_more: true, ..self }
    }

    /// The same row, for work that can take long.
    #[must_use]
    pub const fn long(self) -> Self {
        Self { long: true, ..self }
    }

    /// The part of the name before the dot.
    pub fn module(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(module, _)| module)
    }

    /// The first sentence of the documentation.
    pub fn summary(&self) -> &'static str {
        self.doc.lines().next().unwrap_or_default()
    }

    /// How it is called: `module.function image [acls=True]`.
    pub fn usage(&self) -> String {
        let argument = |argument: &Argument| match argument.default {
            None => argument.name.to_owned(),
            Some(default) => format!("[{}={default}]", argument.name),
        };
        let mut words = vec![self.name.to_owned()];
        words.extend(self.arguments.iter().map(argument));
        words.extend(self.takes_extra.then(|| "[ARG…]".to_owned()));
        words.extend(self.takes_more.then(|| "[KEY=VALUE…]".to_owned()));
        words.extend(self.changes.then(|| "[test=False]".to_owned()));
        words.join(" ")
    }

    /// The whole documentation: text, usage, then every argument with its meaning.
    pub fn manual(&self) -> String {
        let mut lines = vec![self.doc.to_owned(), String::new(), format!("Usage: {}", self.usage())];
        if !self.arguments.is_empty() || self.changes {
            lines.extend([String::new(), "Arguments:".to_owned()]);
        }
        for argument in self.arguments {
            let default = argument.default.map_or_else(String::new, |default| format!(", default {default}"));
            lines.push(format!("    {} ({}{default})", argument.name, argument.accepts));
            lines.push(format!("        {}", argument.doc));
        }
        if self.changes {
            lines.push("    test (boolean, default False)".to_owned());
            lines.push("        Only say what would be done.".to_owned());
        }
        if self.long {
            lines.extend([String::new(), "Can take long: the daemon makes a job of it (see job.show).".to_owned()]);
        }
        lines.join("\n")
    }
}

/// One argument of a function.
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// What it must be.
    pub accepts: Accepts,
    /// Its default; without one it is required.
    pub default: Option<Default>,
    /// One sentence: meaning, unit.
    pub doc: &'static str,
    /// Whether its value is shown nowhere, whatever its name.
    pub secret: bool,
}

impl Argument {
    /// An argument that must be given.
    pub const fn required(name: &'static str, accepts: Accepts, doc: &'static str) -> Self {
        Self { name, accepts, default: None, doc, secret: false }
    }

    /// An argument with a default; an explicit null means the default too.
    pub const fn optional(name: &'static str, accepts: Accepts, default: Default, doc: &'static str) -> Self {
        Self { name, accepts, default: Some(default), doc, secret: false }
    }

    /// The same argument, its value to be shown nowhere.
    #[must_use]
    pub const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// Whether its value is to be shown nowhere: it says so, or its name does.
    pub fn is_secret(&self) -> bool {
        self.secret || masking::names_a_secret(self.name)
    }
}

/// What an argument must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    /// Anything.
    Any,
    /// Text; numbers and booleans that YAML made of it are turned back into the text the caller typed where possible.
    Text,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A list, or text with commas.
    List,
    /// A list, or one text that is its only item and may hold commas.
    Items,
    /// A map.
    Map,
    /// An image reference.
    Reference,
    /// A directory or tar of a root filesystem, or an image reference.
    Tree,
    /// A path of this host.
    Path,
}

impl std::fmt::Display for Accepts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Any => "anything",
            Self::Text => "text",
            Self::Bool => "boolean",
            Self::Int => "whole number",
            Self::List => "list, or text with commas",
            Self::Items => "list, or one text",
            Self::Map => "map",
            Self::Reference => "image reference",
            Self::Tree => "directory, tar file or image reference",
            Self::Path => "path",
        })
    }
}

/// The default of an argument, as `sys.argspec` shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Default {
    /// `None`.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Text.
    Text(&'static str),
}

impl Default {
    /// The value that stands for the argument when the caller does not give it.
    pub fn value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::from(value),
            Self::Text(value) => Value::from(value),
        }
    }
}

impl std::fmt::Display for Default {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Null => formatter.write_str("None"),
            Self::Bool(true) => formatter.write_str("True"),
            Self::Bool(false) => formatter.write_str("False"),
            Self::Int(value) => write!(formatter, "{value}"),
            Self::Text(value) => write!(formatter, "'{value}'"),
        }
    }
}
