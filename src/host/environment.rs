//! Environment variables, read in one place.

use std::ffi::OsString;

use crate::error::{Error, Kind, Result};

/// The variable as it is, if it is set and not empty.
pub fn raw(name: &str) -> Option<OsString> {
    #[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The variable as text, if it is set and not empty.
pub fn text(name: &str) -> Result<Option<String>> {
    raw(name)
        .map(|value| {
            value
                .into_string()
                .map_err(|_| Error::new(Kind::Usage, format!("environment variable {name} is not UTF-8")))
        })
        .transpose()
}
