//! Jobs: calls that take long, kept until they ended and for some time after.
//!
//! ```text
//! STATE/jobs/                     0700, files 0600
//!   jobs.sqlite                   calls, states, results, events (schema in `database.rs`); -wal and -shm beside it
//!   leases/ID                     flock, held by the process that runs the job for as long as it lives
//!   schedules/NAME                flock, held by whoever runs a schedule outside of the queue's order
//!   supervisor                    flock, held by the one process that starts jobs
//! ```
//!
//! ```text
//! queued ──claim──> running ──> done | failed | cancelled
//!    ^                 │
//!    └── its process died (up to `jobs.attempts` times), or was told to end ──┘
//! ```
//!
//! Promises: a job that was answered with an id is on the disk. One process at a time runs a job: the kernel keeps the
//! lease, and takes it away the moment its holder dies, however it dies; a heartbeat could be late on a loaded machine
//! and is only shown. A job whose lease is free while it says `running` is run again. A job ends once.
//! Knows not what a call does: it moves calls, states and leases. Functions finish when they are run again.

mod cancel;
mod database;
mod end;
mod events;
mod failure;
mod lease;
mod notices;
mod queue;
mod record;
mod recorder;
mod schedules;
mod schema;
mod supervisor;

pub use events::{Event, EventKind};
pub use failure::Failure;
pub use lease::{Claim, Outcome};
pub use notices::Notice;
pub use queue::{Filter, Queue};
pub use record::{Job, State, Submission};
pub use recorder::{Recorder, Stopped};
pub use schedules::{Flight, Remembered, Served};
pub use supervisor::{Launch, Limits, Supervisor};

/// The environment of a job's process holds its id under this name; so what it started is found when it is dead.
pub const MARKER: &str = "CASTOFF_JOB";
