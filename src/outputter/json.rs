//! JSON as Python's `json.dumps(ensure_ascii=False)` writes it, and always valid.
//!
//! Where Python writes `NaN` and `Infinity`, which no other reader of JSON takes, this writes them as strings.

use std::fmt::Write as _;

use super::{Style, python};
use crate::vocab::{Key, Value};

pub(super) fn write(value: &Value, style: &Style) -> String {
    let indent = match style.indent {
        None => Some(4),
        Some(width) => usize::try_from(width).ok().map(|width| width.min(256)),
    };
    let mut writer = Writer { out: String::new(), indent };
    writer.value(value, 0);
    writer.out
}

struct Writer {
    out: String,
    indent: Option<usize>,
}

impl Writer {
    fn value(&mut self, value: &Value, level: usize) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            Value::Int(number) => self.out.push_str(&number.to_string()),
            Value::Float(number) => {
                let text = float(*number);
                if number.is_finite() { self.out.push_str(&text) } else { self.string(&text) }
            }
            Value::String(text) => self.string(text),
            Value::List(items) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    self.separate(index, level + 1);
                    self.value(item, level + 1);
                }
                self.close(items.is_empty(), level, ']');
            }
            Value::Map(map) => {
                self.out.push('{');
                for (index, (key, value)) in map.iter().enumerate() {
                    self.separate(index, level + 1);
                    self.key(key);
                    self.out.push_str(": ");
                    self.value(value, level + 1);
                }
                self.close(map.is_empty(), level, '}');
            }
        }
    }

    fn key(&mut self, key: &Key) {
        match key {
            Key::Null => self.string("null"),
            Key::Bool(true) => self.string("true"),
            Key::Bool(false) => self.string("false"),
            Key::Int(number) => self.string(&number.to_string()),
            Key::Float(bits) => self.string(&float(f64::from_bits(*bits))),
            Key::String(text) => self.string(text),
        }
    }

    fn separate(&mut self, index: usize, level: usize) {
        if index > 0 {
            self.out.push(',');
        }
        match self.indent {
            Some(_) => self.line(level),
            None if index > 0 => self.out.push(' '),
            None => {}
        }
    }

    fn close(&mut self, empty: bool, level: usize, bracket: char) {
        if !empty && self.indent.is_some() {
            self.line(level);
        }
        self.out.push(bracket);
    }

    fn line(&mut self, level: usize) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', level * self.indent.unwrap_or(0)));
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                '\0'..='\x1f' => {
                    let _infallible = write!(self.out, "\\u{:04x}", u32::from(character));
                }
                other => self.out.push(other),
            }
        }
        self.out.push('"');
    }
}

fn float(number: f64) -> String {
    match number {
        _ if number.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        finite => python::float(finite),
    }
}
