//! Named points at which a test may kill the process.
//!
//! `CASTOFF_FAULT=NAME` (or `NAME@N` for the N-th time it is reached) makes the real binary end with SIGKILL there;
//! `CASTOFF_FAULT_LOG=FILE` appends the name of every point that is reached. Unset, a point costs one atomic load.

use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Plan {
    target: Option<(String, usize)>,
    log: Option<std::ffi::OsString>,
    reached: AtomicUsize,
}

static PLAN: OnceLock<Option<Plan>> = OnceLock::new();

fn plan() -> Option<&'static Plan> {
    PLAN.get_or_init(|| {
        let target = super::environment::raw("CASTOFF_FAULT").map(|text| {
            let text = text.to_string_lossy().into_owned();
            match text.split_once('@').and_then(|(name, nth)| Some((name.to_owned(), nth.parse().ok()?))) {
                Some(target) => target,
                None => (text, 1),
            }
        });
        let log = super::environment::raw("CASTOFF_FAULT_LOG");
        (target.is_some() || log.is_some()).then(|| Plan { target, log, reached: AtomicUsize::new(0) })
    })
    .as_ref()
}

/// Marks a place where the work could be cut off; tests kill the process here.
pub fn point(name: &str) {
    let Some(plan) = plan() else { return };
    if let Some(log) = &plan.log
        && let Ok(mut file) = std::fs::OpenOptions::new().append(true).create(true).open(log)
    {
        let _best_effort = writeln!(file, "{name}");
    }
    if let Some((target, nth)) = &plan.target
        && target == name
        && plan.reached.fetch_add(1, Ordering::SeqCst) + 1 == *nth
        && let Some(own) = rustix::process::Pid::from_raw(std::process::id().cast_signed())
    {
        let _never_returns = rustix::process::kill_process(own, rustix::process::Signal::KILL);
    }
}
