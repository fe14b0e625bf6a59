//! The script with which an image makes itself impersonal, run in the snapshot and never in the container.

use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Kind, Result};
use crate::progress::Progress;
use crate::release::pattern::Pattern;
use crate::release::tree::Tree;
use crate::rootfs::{Entry, EntryKind};
use crate::sandbox::{Sandbox, SandboxReport};
use crate::vocab::Value;

/// What an image carries when it can be made impersonal.
pub const SCRIPT: &str = "/sbin/makinastates-snapshot.sh";

/// How long it may run: as long as the original let it.
const LIMIT: Duration = Duration::from_hours(1);

/// What became of the script.
#[derive(Clone, Debug, PartialEq)]
pub enum Script {
    /// Nobody asked for it.
    NotAsked,
    /// The image has none.
    Missing,
    /// It ran, and exited with 0.
    Ran(SandboxReport),
}

impl Script {
    /// In the form of a command's result, as the original returned it.
    pub fn to_value(&self) -> Value {
        let (comment, stdout, seconds) = match self {
            Self::NotAsked => ("not asked for".to_owned(), String::new(), 0.0),
            Self::Missing => (format!("the image has no {SCRIPT}"), String::new(), 0.0),
            Self::Ran(report) => (format!("ran {SCRIPT} in the snapshot"), report.tail.join("\n"), report.seconds),
        };
        Value::map([
            ("pid", Value::Null),
            ("retcode", 0.into()),
            ("stdout", stdout.into()),
            ("stderr", Value::from("")),
            ("seconds", seconds.into()),
            ("comment", comment.into()),
        ])
    }
}

/// Runs the script in the root filesystem of a snapshot of this tree, if it has one.
pub(in crate::release) fn run(tree: &Tree, rootfs: &Path, progress: &Progress) -> Result<Script> {
    let Some(mode) = script_mode(tree)? else {
        progress.warn(format!("the image has no {SCRIPT}: nothing made it impersonal"));
        return Ok(Script::Missing);
    };
    // One that may be executed says itself who is to read it.
    let command: &[&str] = if mode & 0o111 == 0 { &["/bin/sh", SCRIPT] } else { &[SCRIPT] };
    let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
    let report = Sandbox::new(rootfs).limit(LIMIT).run(&command, progress)?;
    if report.exit == 0 {
        return Ok(Script::Ran(report));
    }
    let failed = Error::new(Kind::Failed, format!("{SCRIPT} exited with {}", report.exit));
    Err(if report.tail.is_empty() { failed } else { failed.caused_by(report.tail.join("\n")) })
}

/// The mode of the script if there is one, links followed as the container would.
fn script_mode(tree: &Tree) -> Result<Option<u32>> {
    let pattern = Pattern::parse(&format!("rootfs{SCRIPT}"))?;
    let names = tree.names();
    let found = names.expand_through_links(&pattern, 0).found;
    let paths: Vec<Vec<u8>> = found.into_iter().map(|node| names.path(node)).collect();
    let mut entries = tree.items().map(|item| tree.entry(item));
    let is_script = |entry: &Entry| matches!(entry.kind, EntryKind::File { .. }) && paths.contains(&entry.path);
    Ok(entries.find(is_script).map(|entry| entry.mode))
}
