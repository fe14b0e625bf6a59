//! The one hall behind every door: find the row, check the arguments, run.

use super::arguments::{Problem, Request, bind};
use super::{Context, Function, GROUPS};
use crate::error::{Error, Kind};
use crate::vocab::{Value, nearest};

/// Why a call gave no result.
#[derive(Debug)]
pub enum CallError {
    /// There is no function of this name.
    Unknown {
        /// The name that was asked for.
        name: String,
        /// Up to three functions that were probably meant.
        nearest: Vec<&'static str>,
    },
    /// The function has no such keyword arguments.
    Keywords {
        /// The function.
        function: &'static Function,
        /// What is wrong, in Salt's words.
        problem: String,
        /// What was probably meant.
        hint: Option<String>,
    },
    /// The arguments do not fit the function.
    Arguments {
        /// The function.
        function: &'static Function,
        /// What is wrong, in Python's words.
        problem: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The function ran and failed.
    Failed {
        /// The function.
        function: &'static Function,
        /// Its failure.
        error: Error,
    },
}

impl CallError {
    /// As the one error that crosses doors which have no words of Salt's to keep.
    pub fn into_error(self) -> Error {
        let with_hint = |error: Error, hint: Option<String>| match hint {
            Some(hint) => error.hint(hint),
            None => error,
        };
        match self {
            Self::Unknown { name, nearest } => {
                let hint = match nearest.as_slice() {
                    [] => "`sys.list_functions` lists all functions".to_owned(),
                    near => format!("did you mean `{}`?", near.join("`, `")),
                };
                let shown: String = name.chars().take(128).flat_map(char::escape_debug).collect();
                Error::new(Kind::NotFound, format!("there is no function `{shown}`")).hint(hint)
            }
            Self::Keywords { function, problem, hint } | Self::Arguments { function, problem, hint } => {
                with_hint(Error::new(Kind::Usage, format!("{}: {problem}", function.name)), hint)
            }
            Self::Failed { error, .. } => error,
        }
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Function({})", self.name)
    }
}

/// Every function, in order of name.
pub fn functions() -> Vec<&'static Function> {
    let mut all: Vec<&'static Function> = GROUPS.iter().copied().flatten().collect();
    all.sort_unstable_by_key(|function| function.name);
    all
}

/// The function of this name.
pub fn find(name: &str) -> Option<&'static Function> {
    GROUPS.iter().copied().flatten().find(|function| function.name == name)
}

/// There is no function of this name.
pub(super) fn unknown(name: &str) -> CallError {
    let known = functions().into_iter().map(|function| function.name);
    CallError::Unknown { name: name.to_owned(), nearest: nearest(name, known) }
}

impl Problem {
    /// As the error of a call of this function.
    pub(super) fn of(self, function: &'static Function) -> CallError {
        let Self { keywords, message: problem, hint } = self;
        if keywords {
            CallError::Keywords { function, problem, hint }
        } else {
            CallError::Arguments { function, problem, hint }
        }
    }
}

/// Runs the function of this name with these arguments.
pub fn dispatch(name: &str, request: Request, context: &Context) -> Result<Value, CallError> {
    let Some(function) = find(name) else { return Err(unknown(name)) };
    let call = bind(function, request).map_err(|problem| problem.of(function))?;
    tracing::debug!(function = name, test = call.test, "calling");
    (function.run)(&call, context).map_err(|error| CallError::Failed { function, error })
}

/// Whether a result says itself that the work failed: `False`, or a map whose `result` or `success` is false.
///
/// A null `result` is no failure: it means that `test=True` found something to do.
pub fn reports_failure(result: &Value) -> bool {
    let is_false = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(value) => !value,
        Value::Int(number) => *number == 0,
        Value::Float(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
    };
    match result {
        Value::Bool(value) => !value,
        Value::Map(_) => ["result", "success"].iter().any(|key| result.get(key).is_some_and(is_false)),
        _ => false,
    }
}
