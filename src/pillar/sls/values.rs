//! Values of pillars and values of templates, each as the other.

use minijinja::value::{Value as Jinja, ValueKind};

use crate::vocab::{Key, Map, Value};

/// A value for templates.
pub(super) fn to_jinja(value: &Value) -> Jinja {
    match value {
        Value::Null => Jinja::from(()),
        Value::Bool(value) => Jinja::from(*value),
        Value::Int(number) => i64::try_from(*number).map_or_else(|_| Jinja::from(*number), Jinja::from),
        Value::Float(number) => Jinja::from(*number),
        Value::String(text) => Jinja::from(text.as_str()),
        Value::List(items) => items.iter().map(to_jinja).collect(),
        Value::Map(members) => {
            Jinja::from_pairs(members.iter().map(|(key, value)| (to_jinja(&Value::from(key.clone())), to_jinja(value))))
        }
    }
}

/// A template's value; what is not defined is null, what is neither data nor text is its text.
pub(super) fn from_jinja(value: &Jinja) -> Result<Value, minijinja::Error> {
    Ok(match value.kind() {
        ValueKind::Undefined | ValueKind::None => Value::Null,
        ValueKind::Bool => Value::Bool(value.is_true()),
        ValueKind::Number if value.is_integer() => {
            i128::try_from(value.clone()).map_or_else(|_| Value::from(value.to_string()), Value::Int)
        }
        ValueKind::Number => f64::try_from(value.clone()).map(Value::Float)?,
        ValueKind::Seq | ValueKind::Iterable => {
            Value::List(value.try_iter()?.map(|item| from_jinja(&item)).collect::<Result<_, _>>()?)
        }
        ValueKind::Map => {
            let mut map = Map::new();
            for key in value.try_iter()? {
                let member = from_jinja(&value.get_item(&key)?)?;
                let key = Key::try_from(from_jinja(&key)?).unwrap_or_else(|_| Key::String(key.to_string()));
                map.insert(key, member);
            }
            Value::Map(map)
        }
        _ => Value::from(value.to_string()),
    })
}
