//! Values in Python's notation: what `repr`, `str` and `type` say of them.

use std::fmt::Write as _;

use crate::vocab::{Key, Map, Value};

/// `repr(value)`.
pub fn repr(value: &Value) -> String {
    let mut text = String::new();
    write_repr(value, &mut text);
    text
}

/// `str(value)`: a string as it is, anything else as `repr` has it.
pub fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => repr(other),
    }
}

/// `str(key)`.
pub fn key_text(key: &Key) -> String {
    match key {
        Key::String(text) => text.clone(),
        other => key_repr(other),
    }
}

/// `repr(key)`.
pub fn key_repr(key: &Key) -> String {
    match key {
        Key::Null => "None".to_owned(),
        Key::Bool(true) => "True".to_owned(),
        Key::Bool(false) => "False".to_owned(),
        Key::Int(number) => number.to_string(),
        Key::Float(bits) => float(f64::from_bits(*bits)),
        Key::String(text) => {
            let mut quoted = String::with_capacity(text.len() + 2);
            write_string(text, &mut quoted);
            quoted
        }
    }
}

/// `repr(tuple(items))`.
pub fn tuple(items: &[Value]) -> String {
    let inside: Vec<String> = items.iter().map(repr).collect();
    match inside.as_slice() {
        [only] => format!("({only},)"),
        all => format!("({})", all.join(", ")),
    }
}

/// The name of the value's type.
pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "NoneType",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float",
        Value::String(_) => "str",
        Value::List(_) => "list",
        Value::Map(_) => "dict",
    }
}

fn write_repr(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("None"),
        Value::Bool(true) => out.push_str("True"),
        Value::Bool(false) => out.push_str("False"),
        Value::Int(number) => {
            let _infallible = write!(out, "{number}");
        }
        Value::Float(number) => out.push_str(&float(*number)),
        Value::String(text) => write_string(text, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                write_repr(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => write_map(map, out),
    }
}

fn write_map(map: &Map, out: &mut String) {
    out.push('{');
    for (index, (key, value)) in map.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        out.push_str(&key_repr(key));
        out.push_str(": ");
        write_repr(value, out);
    }
    out.push('}');
}

/// Python quotes with `'` unless only that one occurs inside.
fn write_string(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if character == quote => {
                out.push('\\');
                out.push(quote);
            }
            _ if is_printable(character) => out.push(character),
            _ => {
                let code = u32::from(character);
                let _infallible = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(quote);
}

/// `str.isprintable` of one character: neither control, format, surrogate, private, unassigned, nor a separator.
fn is_printable(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    // Rust's debug notation escapes by the same classes, and grapheme extenders only at the start of a string.
    let mut pair = String::from("a");
    pair.push(character);
    pair.escape_debug().nth(1) == Some(character)
}

/// `repr(float)`: the shortest digits that read back the same; an exponent below 1e-4 and from 1e16.
pub fn float(number: f64) -> String {
    if number.is_nan() {
        return "nan".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "inf".to_owned() } else { "-inf".to_owned() };
    }
    let scientific = format!("{number:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if number != 0.0 && !(-4..16).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    let plain = format!("{number}");
    if plain.contains('.') { plain } else { plain + ".0" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Left sides as Python 3.11 prints them.
    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (expected, number) in [
            ("0.0", 0.0),
            ("-0.0", -0.0),
            ("1.0", 1.0),
            ("0.1", 0.1),
            ("1e+16", 1e16),
            ("1234567890123456.0", 1_234_567_890_123_456.0),
            ("0.0001", 0.0001),
            ("1e-05", 0.00001),
            ("1.5e+300", 1.5e300),
            ("1.7976931348623157e+308", f64::MAX),
            ("5e-324", 5e-324),
            ("nan", f64::NAN),
            ("-inf", f64::NEG_INFINITY),
        ] {
            assert_eq!(float(number), expected);
        }
    }

    /// Left sides as Python 3.11 prints them.
    #[test]
    fn strings_are_quoted_as_python_quotes_them() {
        for (expected, text) in [
            (r"'a'", "a"),
            (r#""it's""#, "it's"),
            (r#"'it\'s "x"'"#, "it's \"x\""),
            (r"'\x00\x1b\x7f\xa0\xad'", "\u{0}\u{1b}\u{7f}\u{a0}\u{ad}"),
            (r"'é\u200b\u2028😀\U000e0001'", "é\u{200b}\u{2028}😀\u{e0001}"),
            ("'\u{301}x'", "\u{301}x"),
            (r"'\\ \n\r\t'", "\\ \n\r\t"),
        ] {
            assert_eq!(repr(&Value::from(text)), expected);
        }
    }
}
