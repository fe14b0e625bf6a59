//! YAML and JSON texts as values, with the places they came from.
//!
//! YAML is read as Salt reads it: YAML 1.1 types, leading zeros dropped, dates kept as text, `<<` merged, a key that
//! stands twice is an error. Whatever is read may be hostile: depth, size and what aliases unfold to are bounded.
//! Pure: takes text and a name to call it by.

mod argument;
mod flow;
mod json;
mod spanned_json;
mod yaml;

pub use argument::argument;
pub use json::parse_json;
pub use spanned_json::parse_json_spanned;

use crate::error::{Error, Kind, Result};
use crate::vocab::{Key, Map, Value};

/// The deepest nesting of lists and maps that is read; what is printed as JSON stays below the limits of its readers.
pub const MAX_DEPTH: usize = 100;

/// The most scalars, lists and maps that one text may stand for, aliases unfolded.
pub const MAX_NODES: usize = 2_000_000;

/// The most of them that aliases may stand for: some 100 MiB, where 5,000 machines with 40 shared values each take half.
pub const MAX_COPIED: usize = 400_000;

/// A place in a text, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

/// A value whose parts know their places.
#[derive(Clone, Debug, PartialEq)]
pub struct Spanned {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub node: Node,
}

/// What stands at one place of a document.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// A value without parts.
    Scalar(Value),
    /// A list.
    List(Vec<Spanned>),
    /// A map: key, its place, value.
    Map(Vec<(Key, Place, Spanned)>),
}

impl Spanned {
    /// The value, places forgotten.
    pub fn into_value(self) -> Value {
        match self.node {
            Node::Scalar(value) => value,
            Node::List(items) => Value::List(items.into_iter().map(Self::into_value).collect()),
            Node::Map(members) => {
                Value::Map(members.into_iter().map(|(key, _, value)| (key, value.into_value())).collect::<Map>())
            }
        }
    }

    /// The part under these keys and indices.
    pub fn at(&self, path: &[&str]) -> Option<&Self> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match &self.node {
            Node::Scalar(_) => None,
            Node::List(items) => items.get(first.parse::<usize>().ok()?)?.at(rest),
            Node::Map(members) => {
                members.iter().find(|(key, _, _)| key.as_str() == Some(*first)).and_then(|(_, _, value)| value.at(rest))
            }
        }
    }
}

/// The one document in a YAML text; an empty text is null. `name` is what errors call it.
pub fn parse(text: &str, name: &str) -> Result<Value> {
    parse_spanned(text, name).map(Spanned::into_value)
}

/// The one document in a YAML text, with the places of its parts.
pub fn parse_spanned(text: &str, name: &str) -> Result<Spanned> {
    yaml::load(text).map_err(|problem| problem.into_error(name))
}

/// What is wrong with a text, and where.
#[derive(Clone, Debug, PartialEq)]
struct Problem {
    kind: Kind,
    place: Place,
    what: String,
}

impl Problem {
    fn new(place: Place, what: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, place, what: what.into() }
    }

    fn limit(place: Place, what: impl Into<String>) -> Self {
        Self { kind: Kind::Limit, place, what: what.into() }
    }

    /// The error `NAME:LINE:COLUMN: what`.
    fn into_error(self, name: &str) -> Error {
        Error::new(self.kind, format!("{name}:{}:{}: {}", self.place.line, self.place.column, self.what))
    }
}
