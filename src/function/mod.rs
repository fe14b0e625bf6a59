//! The function table: every capability of castoff, declared once.
//!
//! A [`Function`] is a row: name, typed arguments, documentation, whether it changes anything, and what to run. Command
//! line help, `sys.doc`, `sys.argspec` and every door's argument checks come from the row. All doors end in `dispatch`.
//! Knows no terminal, HTTP, colour or exit code.

use crate::config::Config;
use crate::error::Result;
use crate::progress::Progress;
use crate::vocab::{Map, Value};

/// One callable function: a row of the table.
pub struct Function {
    /// `module.function`.
    pub name: &'static str,
    /// First sentence: what it does; then whatever its caller must know, and an example.
    pub doc: &'static str,
    /// Its arguments, in positional order.
    pub arguments: &'static [Argument],
    /// Whether further keyword arguments are taken (`**kwargs`).
    pub takes_more: bool,
    /// Whether it changes anything; if so it takes `test=True` as well, and then only says what it would do.
    pub changes: bool,
    /// The work.
    pub run: fn(&Call, &Context) -> Result<Value>,
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
    /// A map.
    Map,
    /// An image reference.
    Reference,
    /// A path of this host.
    Path,
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

/// A call whose arguments were checked against the function's row.
#[derive(Clone, Debug)]
pub struct Call {
    /// The function's name.
    pub function: String,
    /// Every declared argument by name, defaults filled in, then what `takes_more` allowed.
    pub arguments: Map,
    /// Further positional arguments, where the function takes them.
    pub extra: Vec<Value>,
    /// Whether only to say what would be done.
    pub test: bool,
}

/// What a function may use of its surroundings.
#[derive(Clone, Debug)]
pub struct Context {
    /// castoff's configuration.
    pub config: Config,
    /// Who hears of progress.
    pub progress: Progress,
}
