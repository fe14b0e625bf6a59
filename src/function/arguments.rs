//! From what a caller gave to a checked [`Call`]: names, counts and types against the function's row.
//!
//! Pure. Problems are told in the words of Python's own argument errors, as `salt-call` does.

use indexmap::IndexMap;

use super::{Accepts, Argument, Call, Function};
use crate::outputter::python;
use crate::vocab::{Key, Map, Reference, Value, nearest};

/// One argument as a caller gave it.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Given {
    /// What its door made of it.
    pub value: Value,
    /// The words that were typed, where a door guessed the type; arguments that are text take them.
    pub typed: Option<String>,
}

impl From<Value> for Given {
    fn from(value: Value) -> Self {
        Self { value, typed: None }
    }
}

/// A call as a door received it: positional and keyword arguments.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Request {
    /// Positional arguments.
    pub positional: Vec<Given>,
    /// Keyword arguments.
    pub named: IndexMap<String, Given>,
}

/// What is wrong with a request: Salt's or Python's words for it, and what to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    /// Whether it is about keyword arguments that the function does not have.
    pub(super) keywords: bool,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl From<String> for Problem {
    fn from(message: String) -> Self {
        Self { keywords: false, message, hint: None }
    }
}

/// The checked call, or what is wrong with the request.
pub(super) fn bind(function: &Function, request: Request) -> Result<Call, Problem> {
    let mut call = Call { function: function.name.to_owned(), ..Call::default() };
    let mut given: IndexMap<&'static str, Given> = IndexMap::new();
    let short = function.name.rsplit('.').next().unwrap_or(function.name);

    let mut unknown = Vec::new();
    for (name, value) in request.named {
        if let Some(argument) = function.arguments.iter().find(|argument| argument.name == name) {
            given.insert(argument.name, value);
        } else if function.changes && name == "test" {
            call.test = coerce(Accepts::Bool, value, "test")? == Value::Bool(true);
        } else if name.starts_with("__") {
            // A Salt master adds `__pub_*` to what it publishes.
        } else if function.takes_more {
            call.more.insert(Key::String(name), value.value);
        } else {
            unknown.push((name, value.value));
        }
    }
    if !unknown.is_empty() {
        return Err(not_valid(function, &unknown));
    }

    let count = request.positional.len();
    if count > function.arguments.len() && !function.takes_extra {
        return Err(too_many(function, short, count).into());
    }
    let mut positional = request.positional.into_iter();
    for (argument, value) in function.arguments.iter().zip(positional.by_ref()) {
        if given.insert(argument.name, value).is_some() {
            return Err(format!("{short}() got multiple values for argument '{}'", argument.name).into());
        }
    }
    call.extra = positional.map(|given| given.value).collect();

    let missing: Vec<&str> = function
        .arguments
        .iter()
        .filter(|argument| argument.default.is_none() && !given.contains_key(argument.name))
        .map(|argument| argument.name)
        .collect();
    if !missing.is_empty() {
        return Err(missing_arguments(short, &missing).into());
    }
    for argument in function.arguments {
        let value = resolve(argument, given.swap_remove(argument.name))?;
        call.arguments.insert(Key::from(argument.name), value);
    }
    Ok(call)
}

/// Salt's words for keyword arguments that a function does not have, and what was probably meant.
fn not_valid(function: &Function, unknown: &[(String, Value)]) -> Problem {
    let shown: Vec<String> = unknown.iter().map(|(name, value)| format!("{name}={}", python::text(value))).collect();
    let known = function.arguments.iter().map(|argument| argument.name);
    let known: Vec<&str> = known.chain(function.changes.then_some("test")).collect();
    let meant: Vec<String> = unknown
        .iter()
        .filter_map(|(name, _)| {
            nearest(name, known.iter().copied()).first().map(|near| format!("`{near}` for `{name}`"))
        })
        .collect();
    Problem {
        keywords: true,
        message: format!("The following keyword arguments are not valid: {}", shown.join(", ")),
        hint: (!meant.is_empty()).then(|| format!("did you mean {}?", meant.join(", "))),
    }
}

/// Python's words for too many positional arguments.
fn too_many(function: &Function, short: &str, count: usize) -> String {
    let most = function.arguments.len();
    let least = function.arguments.iter().filter(|argument| argument.default.is_none()).count();
    let range = if least == most { most.to_string() } else { format!("from {least} to {most}") };
    let noun = if most == 1 && least == most { "argument" } else { "arguments" };
    let were = if count == 1 { "was" } else { "were" };
    format!("{short}() takes {range} positional {noun} but {count} {were} given")
}

/// Python's words for required arguments that are not there.
fn missing_arguments(short: &str, missing: &[&str]) -> String {
    let quoted: Vec<String> = missing.iter().map(|name| format!("'{name}'")).collect();
    let list = match quoted.as_slice() {
        [only] => only.clone(),
        [first, second] => format!("{first} and {second}"),
        [init @ .., last] => format!("{}, and {last}", init.join(", ")),
        [] => String::new(),
    };
    let noun = if missing.len() == 1 { "argument" } else { "arguments" };
    format!("{short}() missing {} required positional {noun}: {list}", missing.len())
}

/// The value of one declared argument.
fn resolve(argument: &Argument, given: Option<Given>) -> Result<Value, Problem> {
    match (given, argument.default) {
        (None, default) => Ok(default.map_or(Value::Null, super::Default::value)),
        (Some(given), Some(default)) if given.value == Value::Null => Ok(default.value()),
        (Some(given), _) => coerce(argument.accepts, given, argument.name),
    }
}

/// The given value as the type that the argument accepts.
fn coerce(accepts: Accepts, given: Given, name: &str) -> Result<Value, Problem> {
    let wrong = |value: &Value| {
        Problem::from(format!("argument '{name}' must be {}, not {}", described(accepts), shown(value)))
    };
    match accepts {
        Accepts::Any => Ok(given.value),
        Accepts::Text | Accepts::Tree => text(given).map(Value::String).map_err(|value| wrong(&value)),
        Accepts::Path => match text(given) {
            Ok(path) if !path.is_empty() && !path.contains('\0') => Ok(Value::String(path)),
            Ok(path) => Err(wrong(&Value::String(path))),
            Err(value) => Err(wrong(&value)),
        },
        Accepts::Reference => {
            let reference = text(given).map_err(|value| wrong(&value))?;
            match reference.parse::<Reference>() {
                Ok(_) => Ok(Value::String(reference)),
                Err(error) => Err(Problem {
                    hint: error.next_step().map(str::to_owned),
                    ..Problem::from(format!("argument '{name}': {error}"))
                }),
            }
        }
        Accepts::Bool => boolean(&given.value).map(Value::Bool).ok_or_else(|| wrong(&given.value)),
        Accepts::Int => whole_number(&given.value).map(Value::from).ok_or_else(|| wrong(&given.value)),
        Accepts::List | Accepts::Items if matches!(given.value, Value::List(_)) => Ok(given.value),
        Accepts::List => {
            let whole = text(given).map_err(|value| wrong(&value))?;
            Ok(Value::list(whole.split(',').map(str::trim).filter(|item| !item.is_empty())))
        }
        Accepts::Items => text(given).map(|whole| Value::list([whole])).map_err(|value| wrong(&value)),
        Accepts::Map => match given.value {
            Value::Map(map) => Ok(Value::Map(map)),
            other => Err(wrong(&other)),
        },
    }
}

fn whole_number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => i64::try_from(*number).ok(),
        Value::String(digits) => digits.parse().ok(),
        _ => None,
    }
}

fn described(accepts: Accepts) -> String {
    match accepts {
        Accepts::Any | Accepts::Text => accepts.to_string(),
        Accepts::Reference => format!("an {accepts}"),
        _ => format!("a {accepts}"),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null | Value::List(_) | Value::Map(_) => python::type_name(value).to_owned(),
        scalar => python::repr(scalar),
    }
}

/// The text the caller meant; a value that is no scalar comes back.
fn text(given: Given) -> Result<String, Value> {
    match given.value {
        Value::String(text) => Ok(text),
        Value::Null | Value::List(_) | Value::Map(_) => Err(given.value),
        scalar => Ok(given.typed.unwrap_or_else(|| python::text(&scalar))),
    }
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Int(0) => Some(false),
        Value::Int(1) => Some(true),
        Value::String(word) => match word.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The members of a keyword map as a request's keyword arguments.
impl From<Map> for Request {
    fn from(map: Map) -> Self {
        let named = map.into_iter().map(|(key, value)| (python::key_text(&key), Given::from(value))).collect();
        Self { positional: Vec::new(), named }
    }
}
