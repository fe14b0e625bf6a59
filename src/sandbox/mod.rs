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
//! [`worker`] starts castoff itself in such namespaces. Knows no images, plans or engines.
//!
//! Services are kept from starting by `policy-rc.d` alone. A stand-in for `start-stop-daemon` or `systemctl`, as
//! debootstrap has one, would have to be mounted over a file of dpkg's or systemd's, and those packages could then not
//! be upgraded; what a script starts in spite of the policy ends with the command.

mod cgroup;
mod filter;
mod inner;
mod machine_id;
mod mounts;
mod outer;
mod output;
pub mod overlay;
mod run;
mod stand_ins;
mod supervise;
mod terminal;
mod watch;
mod wire;
pub mod worker;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

pub use terminal::{Relay, Terminal};
use watch::Limits;
use worker::Task;

use crate::progress::Cancel;

/// A tree to run commands in, and what they may reach from there.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// None: the host's own root filesystem, for a program of the host.
    tree: Option<PathBuf>,
    program: PathBuf,
    network: bool,
    environment: BTreeMap<String, String>,
    limits: Limits,
    cancel: Cancel,
    binds: Vec<(PathBuf, PathBuf, bool)>,
    stdin: Option<Vec<u8>>,
    working_directory: Option<PathBuf>,
    log: Option<(PathBuf, u64)>,
    no_sync: bool,
    keep_machine_id: bool,
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
    /// By which means each limit was kept, and what was wished and could not be had.
    pub means: Vec<String>,
}

impl Sandbox {
    /// A sandbox on this root filesystem, without network, without limits.
    pub fn new(tree: impl Into<PathBuf>) -> Self {
        Self::on(Some(tree.into()), false)
    }

    /// A sandbox for programs of the host: they see the host's files and network and keep every capability that castoff
    /// has, but their mounts and processes end with them. The command's first word is looked up in the usual folders.
    pub fn of_host() -> Self {
        Self::on(None, true)
    }

    fn on(tree: Option<PathBuf>, network: bool) -> Self {
        // A program of the host shall find no user's settings.
        let home = if tree.is_some() { "/root" } else { "/nonexistent" };
        let environment = [("PATH", PATH), ("HOME", home), ("LANG", "C.UTF-8"), ("TERM", "dumb")];
        Self {
            tree,
            program: "/proc/self/exe".into(),
            network,
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            limits: Limits::default(),
            cancel: Cancel::new(),
            binds: Vec::new(),
            stdin: None,
            working_directory: None,
            log: None,
            no_sync: false,
            keep_machine_id: false,
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
        self.limits.time = Some(limit);
        self
    }

    /// Kills a command that has more processes and threads than this at a time. Where the kernel can hold it to that, it
    /// cannot fork faster than it is found out.
    #[must_use]
    pub fn processes(mut self, most: u32) -> Self {
        self.limits.processes = Some(most);
        self
    }

    /// Kills a command that uses more memory than this, files that it maps not counted.
    #[must_use]
    pub fn memory(mut self, bytes: u64) -> Self {
        self.limits.memory = Some(bytes);
        self
    }

    /// Kills a command as soon as fewer bytes than this are free on the file system of `path`.
    #[must_use]
    pub fn floor(mut self, path: impl Into<PathBuf>, bytes: u64) -> Self {
        self.limits.floor = Some((path.into(), bytes));
        self
    }

    /// Answers everything by which a command waits for the disk with success at once.
    #[must_use]
    pub fn no_sync(mut self, no_sync: bool) -> Self {
        self.no_sync = no_sync;
        self
    }

    /// Writes all that commands print into a file as well, which is made anew and gets at most so many bytes.
    #[must_use]
    pub fn log(mut self, path: impl Into<PathBuf>, most: u64) -> Self {
        self.log = Some((path.into(), most));
        self
    }

    /// What commands read from their standard input, which is empty otherwise.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Some(bytes.into());
        self
    }

    /// Where commands start, instead of `/`.
    #[must_use]
    pub fn working_directory(mut self, path: impl Into<PathBuf>) -> Self {
        self.working_directory = Some(path.into());
        self
    }

    /// Puts the tree's machine id back as it was before each command: no two machines may have the one that a package
    /// makes when it is installed.
    #[must_use]
    pub fn keep_machine_id(mut self, keep: bool) -> Self {
        self.keep_machine_id = keep;
        self
    }

    /// Kills the command when somebody sets this to true.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: Arc<AtomicBool>) -> Self {
        self.cancel = Cancel::shared(cancel);
        self
    }

    /// Kills the command when somebody wishes so.
    #[must_use]
    pub fn cancel(mut self, cancel: &Cancel) -> Self {
        self.cancel = cancel.clone();
        self
    }

    /// Shows a file or folder of the host at a place in the tree while commands run; a missing place is made for that
    /// time. Devices and setuid programs in it do not work.
    #[must_use]
    pub fn bind(mut self, host: impl Into<PathBuf>, place: impl Into<PathBuf>, read_only: bool) -> Self {
        self.binds.push((host.into(), place.into(), read_only));
        self
    }

    /// The program whose `main` calls [`entry`], when it is not the running one (a test's).
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// The tree as messages name it.
    fn shown(&self) -> std::path::Display<'_> {
        self.tree.as_deref().unwrap_or(Path::new("/")).display()
    }
}

/// Where commands are looked up.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The first argument of the outer stage.
const OUTER: &str = "castoff-sandbox-outer";

/// The first argument of the inner stage.
const INNER: &str = "castoff-sandbox-inner";

/// Runs a stage of a sandbox or of a worker, when that is what this process was started for; `main` calls it before
/// anything else. `tasks` is what workers can be told to do.
pub fn entry(arguments: impl IntoIterator<Item = OsString>, tasks: &[(&str, Task)]) -> Option<ExitCode> {
    let stage = arguments.into_iter().nth(1)?;
    let outcome = match stage.to_str()? {
        OUTER => outer::run(),
        INNER => inner::run(),
        other => return worker::entry(other, tasks),
    };
    Some(wire::close(outcome))
}
