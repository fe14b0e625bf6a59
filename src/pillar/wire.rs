//! The one text of a pillar: a JSON document that Salt's YAML and JSON loaders read alike.
//!
//! One line and its end. ASCII but for what lies beyond the Basic Multilingual Plane: YAML reads JSON's escapes of that as
//! two halves, JSON has no other ones. A float always has a point, or YAML 1.1 takes it for text.

use std::fmt::Write as _;

use crate::error::Error;
use crate::outputter::python;
use crate::vocab::Value;

/// The document of a value.
pub fn document(value: &Value) -> String {
    let mut out = String::new();
    write(value, &mut out);
    out.push('\n');
    out
}

/// What stands for a pillar that could not be made: whoever merges it, Salt refuses to run states on it.
pub fn refusal(error: &Error) -> String {
    document(&Value::map([("_errors", Value::list([format!("castoff: {}", reason(error))]))]))
}

/// A failure in one line: message, causes, what to do.
pub fn reason(error: &Error) -> String {
    let mut text = error.message().to_owned();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let _infallible = write!(text, ": {error}");
        cause = error.source();
    }
    if let Some(hint) = error.next_step() {
        let _infallible = write!(text, " (hint: {hint})");
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn write(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Int(number) => {
            let _infallible = write!(out, "{number}");
        }
        Value::Float(number) => float(*number, out),
        Value::String(text) => string(text, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write(item, out);
            }
            out.push(']');
        }
        Value::Map(members) => {
            out.push('{');
            for (index, (key, member)) in members.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                match key.as_str() {
                    Some(text) => string(text, out),
                    None => string(&python::key_text(key), out),
                }
                out.push_str(": ");
                write(member, out);
            }
            out.push('}');
        }
    }
}

fn float(number: f64, out: &mut String) {
    if !number.is_finite() {
        // JSON has no word for these.
        return string(
            if number.is_nan() {
                "NaN"
            } else if number > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            },
            out,
        );
    }
    let text = python::float(number);
    match text.split_once('e') {
        Some((digits, exponent)) if !digits.contains('.') => {
            out.extend([digits, ".0e", exponent]);
        }
        _ => out.push_str(&text),
    }
}

fn string(text: &str, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(character),
            _ if u32::from(character) > 0xffff => out.push(character),
            _ => {
                let _infallible = write!(out, "\\u{:04x}", u32::from(character));
            }
        }
    }
    out.push('"');
}
