//! Python's notation wrapped at 80 columns, as `pprint.pformat` of Python 3.11 does it.

use std::cmp::Ordering;

use super::{Style, is_python_space, python, python_lines_with_ends, python_order};
use crate::vocab::{Key, Map, Value};

const WIDTH: i64 = 80;

pub(super) fn write(value: &Value, style: &Style) -> String {
    let per_level = style.indent.filter(|width| *width >= 0).unwrap_or(1).min(256);
    let mut printer = Printer { out: String::new(), per_level };
    printer.format(value, 0, 0, 1);
    printer.out
}

struct Printer {
    out: String,
    per_level: i64,
}

/// How many columns a text takes.
fn columns(text: &str) -> i64 {
    i64::try_from(text.chars().count()).unwrap_or(i64::MAX)
}

fn spaces(count: i64) -> String {
    " ".repeat(usize::try_from(count).unwrap_or(0))
}

impl Printer {
    /// `PrettyPrinter._format`; `level` is what the method it dispatches to gets.
    fn format(&mut self, value: &Value, indent: i64, allowance: i64, level: usize) {
        let flat = repr(value);
        if columns(&flat) <= WIDTH - indent - allowance {
            self.out.push_str(&flat);
            return;
        }
        match value {
            Value::Map(map) => self.map(map, indent, allowance, level),
            Value::List(items) => self.list(items, indent, allowance, level),
            Value::String(text) if !text.is_empty() => self.string(text, indent, allowance, level),
            Value::String(_) | Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.out.push_str(&flat);
            }
        }
    }

    fn open(&mut self, bracket: char) {
        self.out.push(bracket);
        self.out.push_str(&spaces(self.per_level - 1));
    }

    fn map(&mut self, map: &Map, indent: i64, allowance: i64, level: usize) {
        self.open('{');
        let indent = indent + self.per_level;
        let members = sorted(map);
        for (index, (key, value)) in members.iter().enumerate() {
            let last = index + 1 == members.len();
            let key = python::key_repr(key);
            self.out.push_str(&key);
            self.out.push_str(": ");
            self.format(value, indent + columns(&key) + 2, if last { allowance + 1 } else { 1 }, level + 1);
            if !last {
                self.out.push_str(",\n");
                self.out.push_str(&spaces(indent));
            }
        }
        self.out.push('}');
    }

    fn list(&mut self, items: &[Value], indent: i64, allowance: i64, level: usize) {
        self.open('[');
        let indent = indent + self.per_level;
        for (index, item) in items.iter().enumerate() {
            let last = index + 1 == items.len();
            if index > 0 {
                self.out.push_str(",\n");
                self.out.push_str(&spaces(indent));
            }
            self.format(item, indent, if last { allowance + 1 } else { 1 }, level + 1);
        }
        self.out.push(']');
    }

    /// `PrettyPrinter._pprint_str`: adjacent literals, broken behind white space.
    fn string(&mut self, text: &str, mut indent: i64, mut allowance: i64, level: usize) {
        if level == 1 {
            indent += 1;
            allowance += 1;
        }
        let width = WIDTH - indent;
        let lines: Vec<&str> = python_lines_with_ends(text).collect();
        let mut chunks: Vec<String> = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let last_line = index + 1 == lines.len();
            let whole = repr_text(line);
            if columns(&whole) <= width - if last_line { allowance } else { 0 } {
                chunks.push(whole);
                continue;
            }
            let parts = words(line);
            let mut current = String::new();
            for (number, part) in parts.iter().enumerate() {
                let candidate = format!("{current}{part}");
                let at_end = last_line && number + 1 == parts.len();
                if columns(&repr_text(&candidate)) > width - if at_end { allowance } else { 0 } {
                    if !current.is_empty() {
                        chunks.push(repr_text(&current));
                    }
                    current = (*part).to_owned();
                } else {
                    current = candidate;
                }
            }
            if !current.is_empty() {
                chunks.push(repr_text(&current));
            }
        }
        let joined = chunks.join(&format!("\n{}", spaces(indent)));
        if level == 1 && chunks.len() > 1 {
            self.out.extend(["(", &joined, ")"]);
        } else {
            self.out.push_str(&joined);
        }
    }
}

fn repr_text(text: &str) -> String {
    python::key_repr(&Key::from(text))
}

/// `re.findall(r'\S*\s*', line)` without the empty end: words with the white space behind them.
fn words(line: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = line;
    while !rest.is_empty() {
        let word = rest.find(is_python_space).unwrap_or(rest.len());
        let end = rest[word..].find(|character| !is_python_space(character)).map_or(rest.len(), |more| word + more);
        let (part, after) = rest.split_at(end);
        parts.push(part);
        rest = after;
    }
    parts
}

/// Like `python::repr`, with the keys of maps in `pprint`'s order.
fn repr(value: &Value) -> String {
    match value {
        Value::List(items) => format!("[{}]", items.iter().map(repr).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let members: Vec<String> = sorted(map)
                .into_iter()
                .map(|(key, value)| format!("{}: {}", python::key_repr(key), repr(value)))
                .collect();
            format!("{{{}}}", members.join(", "))
        }
        scalar => python::repr(scalar),
    }
}

/// Members by key; keys that Python cannot compare go by the name of their type.
fn sorted(map: &Map) -> Vec<(&Key, &Value)> {
    let class = |key: &Key| match key {
        Key::Null => "<class 'NoneType'>",
        Key::Bool(_) => "<class 'bool'>",
        Key::Int(_) => "<class 'int'>",
        Key::Float(_) => "<class 'float'>",
        Key::String(_) => "<class 'str'>",
    };
    // Numbers compare with each other; beside them only text and None are left, and "N" < "b", "f", "i" < "s".
    let family = |key: &Key| match key {
        Key::Bool(_) | Key::Int(_) | Key::Float(_) => "<class 'int'>",
        other => class(other),
    };
    let mut members: Vec<(&Key, &Value)> = map.iter().collect();
    members.sort_by(|(left, _), (right, _)| {
        family(left).cmp(family(right)).then_with(|| python_order(left, right).unwrap_or(Ordering::Equal))
    });
    members
}
