//! What one word of a command line means: Salt's rules for arguments.

use super::{flow, yaml};
use crate::vocab::Value;

/// The value of an argument as `salt-call` 3008.3 types it; a word that is no YAML is the text it is.
///
/// Text with tabs or line breaks is never taken for YAML, nor are digits with underscores; maps must begin with `{`
/// and lists with `[`; `#` begins no comment.
pub fn argument(word: &str) -> Value {
    let text = || Value::from(word);
    let trimmed = python_trim(word);
    let is_marker = matches!(trimmed, "" | "---" | "...");
    let is_grouped = word.contains('_') && trimmed.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_');
    if is_marker || is_grouped || word.contains(['\t', '\r', '\n']) || !word.chars().all(is_readable) {
        return text();
    }
    if word == "None" {
        return Value::Null;
    }
    if word.starts_with(['[', '{']) {
        return flow::collection(word).unwrap_or_else(text);
    }
    if trimmed.starts_with(':') && trimmed.contains('#') {
        // libyaml refuses an empty key; without `#` any map ends up as text anyway.
        return text();
    }
    let Ok(parsed) = yaml::load(word) else { return text() };
    match parsed.into_value() {
        // Salt looks for the brackets only where no `#` stands.
        Value::Map(_) | Value::List(_) if !word.contains('#') => text(),
        // What stands behind `#` would be lost.
        Value::String(_) | Value::Null if word.contains('#') => text(),
        Value::String(inner) if inner.is_empty() && matches!(word, "|" | "!") => text(),
        Value::Null if word == "!" => text(),
        value => value,
    }
}

/// `str.strip()`: Unicode white space, and the four separators that Python counts in.
fn python_trim(text: &str) -> &str {
    text.trim_matches(|character: char| character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character))
}

/// Whether PyYAML's reader lets the character pass, and takes it for no line break.
fn is_readable(character: char) -> bool {
    !character.is_control() && !matches!(character, '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
}
