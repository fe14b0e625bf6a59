//! What is said when a worker ends without a result.

use std::process::ExitStatus;

use crate::error::{Error, Kind};

/// The failure of a worker that said nothing more, with the last lines it printed.
pub(super) fn error(name: &str, status: Option<ExitStatus>, reason: Option<String>, tail: &[String]) -> Error {
    let how =
        reason.or_else(|| status.map(|status| status.to_string())).unwrap_or_else(|| "it closed its pipes".into());
    let mut cause = tail.join("\n");
    if !cause.is_empty() {
        cause.push('\n');
    }
    cause.push_str(&how);
    let error = Error::new(Kind::Failed, format!("the worker for `{name}` died")).caused_by(cause);
    if how.contains("signal 9") || how.contains("signal: 9") {
        return error.hint("somebody killed it, or the kernel when memory ran out (`dmesg` tells)");
    }
    error
}
