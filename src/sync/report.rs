//! What is told about one image.

use std::time::Instant;

use super::followed::Followed;
use crate::error::{Error, Result};
use crate::vocab::{Map, ReleaseNumber, Value};

/// What happened to one image, or would.
pub(super) struct Report {
    members: Map,
    warnings: Vec<Value>,
    moved: u64,
    reason: String,
    begun: Instant,
    test: bool,
}

impl Report {
    /// Nothing has happened yet.
    pub(super) fn new(followed: &Followed, test: bool) -> Self {
        let mut report = Self {
            members: Map::new(),
            warnings: Vec::new(),
            moved: 0,
            reason: String::new(),
            begun: Instant::now(),
            test,
        };
        report.set("result", true);
        report.set("image", followed.image.as_str());
        report.set("flavor", followed.flavour.as_str());
        report.set("changed", false);
        report
    }

    /// Whether only to say what would be done.
    pub(super) fn test(&self) -> bool {
        self.test
    }

    fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.members.insert(name.into(), value.into());
    }

    /// What was current when it began.
    pub(super) fn from(&mut self, number: Option<ReleaseNumber>) {
        self.set("from", number.map(ReleaseNumber::get));
        self.set("to", number.map(ReleaseNumber::get));
    }

    /// What is served, and who signed it.
    pub(super) fn served(&mut self, number: ReleaseNumber, key: &str) {
        self.set("served", number.get());
        self.set("signed_by", key);
    }

    /// What is current now, or would be, and why.
    pub(super) fn to(&mut self, number: ReleaseNumber, why: String) {
        self.set("to", number.get());
        // Null is what `test=True` answers when there is something to do.
        if self.test {
            self.set("result", Value::Null);
        } else {
            self.set("changed", true);
        }
        self.reason = why;
    }

    /// Nothing is to be done, and why.
    pub(super) fn nothing(&mut self, why: String) {
        self.route("none");
        self.reason = why;
    }

    /// Why, as far as it is known.
    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// The way the bytes came.
    pub(super) fn route(&mut self, route: &str) {
        self.set("route", route);
    }

    /// The bytes that would be fetched.
    pub(super) fn would_move(&mut self, bytes: u64) {
        self.set("would_move", bytes);
    }

    /// The count of what went over lines.
    pub(super) fn moved(&mut self) -> &mut u64 {
        &mut self.moved
    }

    /// Something did not go as it should, and what is done instead.
    pub(super) fn warn(&mut self, error: &Error, instead: &str) {
        let mut text = error.message().to_owned();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        self.warnings.push(Value::from(format!("{text}; {instead}")));
    }

    /// What unpacking did.
    pub(super) fn unpacked(&mut self, unpacked: Value) {
        self.set("unpacked", unpacked);
    }

    /// Whether the tar is kept for the next patch.
    pub(super) fn kept_tar(&mut self, kept: bool) {
        self.set("tar_kept", kept);
    }

    /// Releases that were removed.
    pub(super) fn removed(&mut self, removed: &[ReleaseNumber]) {
        self.set("removed", Value::list(removed.iter().map(|number| number.get())));
    }

    /// Releases that are there, and the one an operator wants.
    pub(super) fn kept(&mut self, kept: &[ReleaseNumber], pin: Option<ReleaseNumber>) {
        self.set("kept", Value::list(kept.iter().map(|number| number.get())));
        self.set("pin", pin.map(ReleaseNumber::get));
    }

    /// The report, with the failure if it was one.
    pub(super) fn close(mut self, result: Result<()>) -> Value {
        self.set("moved", self.moved);
        self.set("seconds", self.begun.elapsed().as_secs_f64());
        match result {
            Ok(()) => self.set("why", self.reason.clone()),
            Err(error) => {
                self.set("result", false);
                self.set("why", error.render());
                self.set("kind", error.kind().word());
            }
        }
        if !self.warnings.is_empty() {
            let warnings = std::mem::take(&mut self.warnings);
            self.set("warnings", Value::List(warnings));
        }
        Value::Map(self.members)
    }
}
