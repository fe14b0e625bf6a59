//! Things found by the way that a report must name: the first ones by path, the rest by number.

use super::entry::shown;
use crate::vocab::Value;

/// How many findings of a kind are named; millions of them would say no more and fill the memory.
const NAMED: usize = 1000;

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The path it was found at.
    pub path: Vec<u8>,
    /// What about it, in words.
    pub what: String,
}

/// Findings of one kind, in the order they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The first of them.
    pub named: Vec<Finding>,
    /// How many there are in all.
    pub total: u64,
}

impl Findings {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// One more.
    pub(crate) fn add(&mut self, path: &[u8], what: impl Into<String>) {
        self.total += 1;
        if self.named.len() < NAMED {
            self.named.push(Finding { path: path.to_vec(), what: what.into() });
        }
    }

    /// One line for each that is named, and one for the number of the rest.
    pub fn lines(&self) -> Vec<String> {
        let line = |finding: &Finding| match finding.what.as_str() {
            "" => shown(&finding.path),
            what => format!("{}: {what}", shown(&finding.path)),
        };
        let mut lines: Vec<String> = self.named.iter().map(line).collect();
        let rest = self.total - self.named.len() as u64;
        if rest > 0 {
            lines.push(format!("and {rest} more"));
        }
        lines
    }

    /// The lines as a list.
    pub fn to_value(&self) -> Value {
        Value::list(self.lines())
    }
}
