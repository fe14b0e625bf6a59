//! The worker: castoff again, as root of a mount and pid namespace of its own, doing what it was told to in Rust.
//!
//! ```text
//! castoff ── outer stage (ordinary users: new user namespace; new mount and pid namespaces)
//!              └─ first process (PID 1: own /proc; reaps orphans)
//!                   └─ the worker (runs a task of the table that `main` gave to `sandbox::entry`)
//! ```
//!
//! Nothing a worker mounts is seen outside, and when it, castoff or a stage between ends, the kernel ends every
//! process of its pid namespace and with them the mounts. The network stays the host's. A task is named: this room
//! knows none. Lines of JSON go down and up (`lines`).

mod died;
mod handle;
mod ids;
mod lines;
mod port;
mod refusal;
mod stage;

pub use handle::Worker;
pub use ids::{Ids, Range};
pub use port::Port;

use std::process::ExitCode;

use crate::error::Result;

/// What a worker can be told to do: its result is any JSON value.
pub type Task = fn(&mut Port) -> Result<serde_json::Value>;

/// The first argument of the outer stage.
pub(super) const OUTER: &str = "castoff-worker-outer";

/// The first argument of the first process.
const FIRST: &str = "castoff-worker-first";

/// The first argument of the worker itself.
const TASK: &str = "castoff-worker";

/// Runs a stage of a worker if this is the name of one.
pub(super) fn entry(stage: &str, tasks: &[(&str, Task)]) -> Option<ExitCode> {
    match stage {
        OUTER => Some(stage::outer()),
        FIRST => Some(stage::first()),
        TASK => Some(port::serve(tasks)),
        _ => None,
    }
}
