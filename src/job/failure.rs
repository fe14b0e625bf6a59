//! Why a job failed, as it is kept and shown.

use crate::error::{Error, Result};
use crate::vocab::Value;

/// A failure that outlives its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The word of its [`crate::error::Kind`].
    pub kind: String,
    /// What happened to what.
    pub message: String,
    /// Why, the nearest cause first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

impl Failure {
    /// As a map with `kind`, `message`, `causes` and `hint`.
    pub fn to_value(&self) -> Value {
        Value::map([
            ("kind", Value::from(self.kind.as_str())),
            ("message", Value::from(self.message.as_str())),
            ("causes", Value::list(&self.causes)),
            ("hint", Value::from(self.hint.as_ref())),
        ])
    }

    /// What [`Failure::to_value`] made.
    pub(super) fn from_value(value: &Value) -> Self {
        let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let causes = value.get("causes").and_then(Value::as_list).unwrap_or_default();
        Self {
            kind: text("kind").unwrap_or_default(),
            message: text("message").unwrap_or_default(),
            causes: causes.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            hint: text("hint"),
        }
    }
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let mut causes = Vec::new();
        let mut cause = std::error::Error::source(error);
        while let Some(found) = cause {
            causes.push(found.to_string());
            cause = found.source();
        }
        Self {
            kind: error.kind().word().to_owned(),
            message: error.message().to_owned(),
            causes,
            hint: error.next_step().map(str::to_owned),
        }
    }
}

/// The value in a text of the database.
pub(super) fn parsed(text: &str, what: &str) -> Result<Value> {
    crate::document::parse_json(text, what)
}

/// The value as the text that goes into the database.
pub(super) fn written(value: &Value) -> String {
    let style = crate::outputter::Style { indent: Some(-1), ..crate::outputter::Style::default() };
    crate::outputter::Outputter::Json.write(value, &style)
}
