//! The words of a command line as a request, as `salt-call` takes them apart.

use super::arguments::{Given, Request};
use crate::document;
use crate::vocab::Value;

impl Request {
    /// `NAME=VALUE` words as keyword arguments, the others as positional ones, each typed by
    /// [`document::argument`]; the keyword arguments in `no_parse` stay the text they are.
    pub fn from_words(words: &[String], no_parse: &[String]) -> Self {
        let mut request = Self::default();
        for word in words {
            if let Some((name, text)) = keyword(word) {
                let raw = no_parse.iter().any(|raw| raw == name);
                let value = if raw { Value::from(text) } else { document::argument(text) };
                request.named.insert(name.to_owned(), Given { value, typed: Some(text.to_owned()) });
            } else {
                let value = without_job_ids(document::argument(word));
                request.positional.push(Given { value, typed: Some(word.clone()) });
            }
        }
        request
    }
}

/// Name and value of a word that is a keyword argument: Salt's `^([^\d\W][\w.-]*)=(?!=)(.*)$`.
fn keyword(word: &str) -> Option<(&str, &str)> {
    let (name, text) = word.split_once('=')?;
    // Python's `$` lets one line break at the end pass, and drops it.
    let text = text.strip_suffix('\n').unwrap_or(text);
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let starts_well = name.starts_with(|first: char| is_word(first) && !is_decimal(first));
    let goes_on_well = name.chars().all(|character| is_word(character) || matches!(character, '.' | '-'));
    (starts_well && goes_on_well && !text.starts_with('=') && !text.contains('\n')).then_some((name, text))
}

/// Whether the character is a decimal digit of any script (category Nd, most of which are blocks of ten).
fn is_decimal(character: char) -> bool {
    const ZEROS: [u32; 38] = [
        0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
        0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620,
        0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0,
    ];
    ZEROS.iter().any(|zero| (*zero..zero + 10).contains(&u32::from(character)))
}

/// Salt turns twenty digits back into text: they are a job's ID.
fn without_job_ids(value: Value) -> Value {
    match value {
        Value::Int(number) if number.to_string().len() == 20 => Value::from(number.to_string()),
        other => other,
    }
}
