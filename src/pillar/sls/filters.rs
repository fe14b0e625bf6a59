//! Salt's filters that configuration is written with, beside those of Jinja itself.

use minijinja::value::Value as Jinja;
use minijinja::{Environment, Error, ErrorKind};

use super::values::{from_jinja, to_jinja};
use crate::document;
use crate::outputter::{Outputter, Style, python};
use crate::vocab::Value;

type Filtered = Result<Jinja, Error>;

/// Adds the filters, and makes values print as Python does: `True`, `None`, `['a']`.
pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_formatter(|output, state, value| {
        use minijinja::value::ValueKind;
        match value.kind() {
            ValueKind::Bool | ValueKind::None | ValueKind::Seq | ValueKind::Map | ValueKind::Number => {
                output.write_str(&python::text(&from_jinja(value)?)).map_err(Error::from)
            }
            _ => minijinja::escape_formatter(output, state, value),
        }
    });
    environment.add_filter("json", json);
    environment.add_filter("yaml", |value: &Jinja| json(value));
    environment.add_filter("yaml_encode", yaml_encode);
    environment.add_filter("yaml_dquote", |value: &Jinja| json(&Jinja::from(text(value)?)));
    environment
        .add_filter("yaml_squote", |value: &Jinja| text(value).map(|text| format!("'{}'", text.replace('\'', "''"))));
    environment.add_filter("load_json", |text: &str| loaded(document::parse_json(text, "load_json")));
    environment.add_filter("load_yaml", |text: &str| loaded(document::parse(text, "load_yaml")));
    environment.add_filter("quote", quote);
    environment.add_filter("to_bool", to_bool);
    environment.add_filter("sequence", |value: &Jinja| {
        let is_list = matches!(value.kind(), minijinja::value::ValueKind::Seq | minijinja::value::ValueKind::Iterable);
        if is_list { value.clone() } else { [value.clone()].into_iter().collect() }
    });
}

fn text(value: &Jinja) -> Result<String, Error> {
    from_jinja(value).map(|value| python::text(&value))
}

/// One line of JSON, which is YAML too: what `json` and `yaml` give in Salt, but for the spelling.
fn json(value: &Jinja) -> Filtered {
    defined(value)?;
    Ok(Jinja::from(Outputter::Json.write(&from_jinja(value)?, &Style { indent: Some(-1), ..Style::default() })))
}

/// A scalar so that YAML reads it back as what it was.
fn yaml_encode(value: &Jinja) -> Filtered {
    match from_jinja(value)? {
        Value::List(_) | Value::Map(_) => {
            Err(Error::new(ErrorKind::InvalidOperation, "yaml_encode takes a single value; use `yaml` or `json`"))
        }
        _ => json(value),
    }
}

fn defined(value: &Jinja) -> Result<(), Error> {
    if value.is_undefined() { Err(Error::from(ErrorKind::UndefinedError)) } else { Ok(()) }
}

fn loaded(parsed: crate::error::Result<Value>) -> Filtered {
    parsed.map(|value| to_jinja(&value)).map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

/// A word of a shell, as Python's `shlex.quote`.
fn quote(value: &Jinja) -> Result<String, Error> {
    let text = text(value)?;
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "@%+=:,./-_".contains(character);
    Ok(if !text.is_empty() && text.chars().all(is_plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\"'\"'"))
    })
}

fn to_bool(value: &Jinja) -> Result<bool, Error> {
    Ok(match from_jinja(value)? {
        Value::Bool(value) => value,
        Value::String(text) => matches!(text.to_lowercase().as_str(), "yes" | "1" | "true"),
        Value::Int(number) => number > 0,
        Value::Null => false,
        Value::Float(number) => number > 0.0,
        Value::List(items) => !items.is_empty(),
        Value::Map(members) => !members.is_empty(),
    })
}
