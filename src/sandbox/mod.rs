//! Runs one command in one tree, as root of that tree and of nothing else.
//!
//! ```text
//! castoff ── outer stage (new mount, pid, ipc, uts, cgroup and, without network, net namespaces)
//!              └─ inner stage (PID 1: mounts, pivot_root, capabilities dropped; reaps)
//!                   └─ the command
//! ```
//!
//! Both stages are this program again, told apart by a hidden first argument that [`entry`] looks at before any
//! thread starts; so nothing here forks or is unsafe. Each stage is killed when the one above it ends, and with PID 1
//! ends everything below it: a killed castoff leaves no process, and its mounts were in a namespace of their own.
//! Knows no images, plans or engines.

mod inner;
mod mounts;
mod outer;
mod run;
mod stand_ins;
mod wire;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A tree to run commands in, and what they may reach from there.
#[derive(Clone, Debug)]
pub struct Sandbox {
    tree: PathBuf,
    program: PathBuf,
    network: bool,
    environment: BTreeMap<String, String>,
    limit: Option<Duration>,
    cancel: Arc<AtomicBool>,
}

/// How a command in a sandbox ended.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxReport {
    /// Its exit code; 128 + the signal's number where a signal ended it.
    pub exit: i32,
    /// The last lines it printed.
    pub tail: Vec<String>,
    /// How long it ran.
    pub seconds: f64,
}

impl Sandbox {
    /// A sandbox on this root filesystem, without network, without a time limit.
    pub fn new(tree: impl Into<PathBuf>) -> Self {
        let environment = [
            ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            ("HOME", "/root"),
            ("LANG", "C.UTF-8"),
            ("TERM", "dumb"),
        ];
        Self {
            tree: tree.into(),
            program: "/proc/self/exe".into(),
            network: false,
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            limit: None,
            cancel: Arc::default(),
        }
    }

    /// Whether commands see the host's network and its resolver; else they have a loopback of their own.
    #[must_use]
    pub fn network(mut self, network: bool) -> Self {
        self.network = network;
        self
    }

    /// Sets a variable of the commands' environment, which holds nothing of castoff's own.
    #[must_use]
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Kills a command that runs longer than this.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Kills the command when somebody sets this to true.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: Arc<AtomicBool>) -> Self {
        self.cancel = cancel;
        self
    }

    /// The program whose `main` calls [`entry`], when it is not the running one (a test's).
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }
}

/// The first argument of the outer stage.
const OUTER: &str = "castoff-sandbox-outer";

/// The first argument of the inner stage.
const INNER: &str = "castoff-sandbox-inner";

/// Runs a stage of a sandbox, when that is what this process was started for; `main` calls it before anything else.
pub fn entry(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let stage = arguments.into_iter().nth(1)?;
    let outcome = match stage.to_str()? {
        OUTER => outer::run(),
        INNER => inner::run(),
        _ => return None,
    };
    Some(wire::close(outcome))
}
