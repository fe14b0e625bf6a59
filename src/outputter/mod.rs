//! Value to text: the outputters that Salt's users know.
//!
//! Pure: whether there is a terminal is the caller's knowledge. Every text comes without a final newline, and may be
//! empty; what `salt-call` strips at the end is stripped here too.

mod color;
mod highstate;
mod json;
mod nested;
mod pprint;
pub mod python;
mod yaml;

use std::cmp::Ordering;

use crate::vocab::{Key, Map, Value};

/// A way of writing values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outputter {
    /// An indented tree, the default.
    Nested,
    /// JSON, in the order of the value.
    Json,
    /// YAML as PyYAML writes it, keys sorted.
    Yaml,
    /// The report of a state run; anything else is nested.
    Highstate,
    /// `key: value` a line.
    Text,
    /// Python's notation, in one line.
    Raw,
    /// Python's notation, wrapped at 80 columns.
    Pprint,
}

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct Style {
    /// Spaces a level; negative means one line.
    pub indent: Option<i64>,
    /// Whether to colour.
    pub color: bool,
    /// The return code of what is shown; failure is red.
    pub retcode: u8,
    /// How much of each state the report of a state run shows.
    pub states: StateDetail,
    /// Whether the report of a state run leaves out what was well before.
    pub changes_only: bool,
}

/// How much of each state the report of a state run shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateDetail {
    /// Which states get a line only.
    pub mode: StateMode,
    /// Whether states are called by their ID instead of their name.
    pub by_id: bool,
}

/// Which states of a run get a line only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StateMode {
    /// None.
    #[default]
    Full,
    /// All.
    Terse,
    /// All that did not fail.
    Mixed,
    /// All that neither failed nor changed anything.
    Changes,
}

impl Outputter {
    /// The outputter of this name.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "nested" => Self::Nested,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "highstate" => Self::Highstate,
            "txt" | "text" => Self::Text,
            "raw" => Self::Raw,
            "pprint" => Self::Pprint,
            _ => return None,
        })
    }

    /// The names of all outputters.
    pub const NAMES: [&'static str; 7] = ["highstate", "json", "nested", "pprint", "raw", "txt", "yaml"];

    /// The value as text.
    pub fn write(self, value: &Value, style: &Style) -> String {
        let text = match self {
            Self::Nested => nested::write(value, style, 0),
            Self::Json => json::write(value, style),
            Self::Yaml => yaml::write(value, style),
            Self::Highstate => highstate::write(value, style).unwrap_or_else(|| nested::write(value, style, 0)),
            Self::Text => text(value),
            Self::Raw => python::text(value),
            Self::Pprint => pprint::write(value, style),
        };
        text.trim_end_matches(is_python_space).to_owned()
    }
}

/// `str.isspace` of one character.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// A line a key; a text of several lines gives as many.
fn text(value: &Value) -> String {
    match value {
        Value::Map(map) => {
            let mut lines = Vec::new();
            for (key, value) in map {
                let key = python::key_text(key);
                match value {
                    Value::String(text) => lines.extend(python_lines(text).map(|line| format!("{key}: {line}"))),
                    other => lines.push(format!("{key}: {}", python::repr(other))),
                }
            }
            lines.join("\n")
        }
        other => python::text(other),
    }
}

/// `str.splitlines()`.
fn python_lines(text: &str) -> impl Iterator<Item = &str> {
    python_lines_with_ends(text).map(|line| {
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix(is_line_end).unwrap_or(line)
    })
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// `str.splitlines(True)`.
fn python_lines_with_ends(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (at, end) = rest
            .char_indices()
            .find(|(_, character)| is_line_end(*character))
            .or_else(|| rest.char_indices().next_back())?;
        let mut length = at + end.len_utf8();
        if end == '\r' && rest[length..].starts_with('\n') {
            length += 1;
        }
        let (line, after) = rest.split_at(length);
        rest = after;
        Some(line)
    })
}

/// How Python orders two keys; none where it cannot.
fn python_order(left: &Key, right: &Key) -> Option<Ordering> {
    enum Comparable<'key> {
        Int(i128),
        Float(f64),
        Text(&'key str),
    }
    fn comparable(key: &Key) -> Option<Comparable<'_>> {
        Some(match key {
            Key::Null => return None,
            Key::Bool(value) => Comparable::Int(i128::from(*value)),
            Key::Int(number) => Comparable::Int(*number),
            Key::Float(bits) => Comparable::Float(f64::from_bits(*bits)),
            Key::String(text) => Comparable::Text(text),
        })
    }
    #[expect(clippy::cast_precision_loss, reason = "a key beyond 2^53 beside a float key only changes places")]
    match (comparable(left)?, comparable(right)?) {
        (Comparable::Int(left), Comparable::Int(right)) => Some(left.cmp(&right)),
        (Comparable::Float(left), Comparable::Float(right)) => Some(left.total_cmp(&right)),
        (Comparable::Int(left), Comparable::Float(right)) => Some((left as f64).total_cmp(&right)),
        (Comparable::Float(left), Comparable::Int(right)) => Some(left.total_cmp(&(right as f64))),
        (Comparable::Text(left), Comparable::Text(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// The members in Python's order of their keys; none when Python cannot order them.
fn python_sorted(map: &Map) -> Option<Vec<(&Key, &Value)>> {
    let mut members: Vec<(&Key, &Value)> = map.iter().collect();
    let (first, _) = *members.first()?;
    if members.len() > 1 && members.iter().any(|(key, _)| python_order(first, key).is_none()) {
        return None;
    }
    members.sort_by(|(left, _), (right, _)| python_order(left, right).unwrap_or(Ordering::Equal));
    Some(members)
}
