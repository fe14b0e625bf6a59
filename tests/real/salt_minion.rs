//! A masterless Salt minion of the tests: folders of its own, castoff's glue by files or by package, real salt-call.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Castoff, program, python_program, succeed};

pub(crate) const GLUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/salt");

/// How castoff's glue comes to Salt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Install {
    /// The folders are copied to `_modules` and its like, then synced.
    Files,
    /// `pip install`; Salt finds the entry point.
    Package,
}

/// A minion and the castoff beside it.
pub(crate) struct Minion {
    pub(crate) castoff: Castoff,
    pub(crate) root: PathBuf,
    install: Install,
    environment: Vec<(String, String)>,
}

impl Minion {
    /// A minion `m1` that finds the binary under test, no socket of this machine, and castoff's glue.
    pub(crate) fn new(install: Install) -> Self {
        Self::beside(Castoff::new(), install)
    }

    /// The same beside this castoff.
    pub(crate) fn beside(castoff: Castoff, install: Install) -> Self {
        let root = castoff.scratch().join("salt");
        std::fs::create_dir_all(root.join("states")).unwrap();
        std::fs::create_dir_all(root.join("pillar")).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_castoff"), castoff.scratch().join("castoff")).unwrap();
        let minion = Self { castoff, root, install, environment: Vec::new() };
        minion.configure("");
        match install {
            Install::Package => install_package(&minion.root.join("site")),
            Install::Files => {
                copy_glue(&minion.root.join("states"));
                minion.call(&["saltutil.sync_all"]);
            }
        }
        minion
    }

    /// The same with this in every environment.
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Writes the configuration, with these lines besides.
    pub(crate) fn configure(&self, lines: &str) {
        let root = self.root.display();
        let id = if lines.contains("\nid:") || lines.starts_with("id:") { "" } else { "id: m1\n" };
        let text = format!(
            "root_dir: {root}\n{id}file_client: local\nlog_file: {root}/log\nlog_level_logfile: info\n\
             file_roots: {{base: [{root}/states]}}\npillar_roots: {{base: [{root}/pillar]}}\n{lines}\n"
        );
        std::fs::write(self.root.join("minion"), text).unwrap();
    }

    /// A file below the file roots.
    pub(crate) fn state(&self, name: &str, text: &str) {
        std::fs::write(self.root.join("states").join(name), text).unwrap();
    }

    /// A program of Salt with this minion's surroundings.
    pub(crate) fn salt(&self, name: &str) -> Command {
        let mut command = python_program(name);
        let own = self.castoff.command(["--version"]);
        let path = format!("{}:{}", self.castoff.scratch().display(), std::env::var("PATH").unwrap());
        command
            .env("PYTHONWARNINGS", "ignore")
            .env_remove("PYTHONPATH")
            .env_remove("CASTOFF_SOCKET")
            .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .env("PATH", path)
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .arg(format!("--config-dir={}", self.root.display()));
        if self.install == Install::Package {
            command.env("PYTHONPATH", self.root.join("site"));
        }
        command
    }

    /// Runs salt-call; its output whatever came of it.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut command = self.salt("salt-call");
        command.args(["--local", "--out=json", "--out-indent=-1", "--log-level=error", "--retcode-passthrough"]);
        command.args(words).output().unwrap()
    }

    /// Calls a function, which must succeed; what it returned.
    pub(crate) fn call(&self, words: &[&str]) -> serde_json::Value {
        let output = self.run(words);
        assert!(output.status.success(), "{words:?}: {}", told(&output));
        let value: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(&output)));
        value["local"].clone()
    }

    /// Calls a function, which must fail without a traceback; everything it said.
    pub(crate) fn fail(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(!output.status.success(), "{words:?}: {}", told(&output));
        let told = told(&output);
        assert!(!told.contains("Traceback"), "{words:?}: {told}");
        told
    }

    /// The one state of a run.
    pub(crate) fn only_state(&self, words: &[&str]) -> serde_json::Value {
        let output = self.run(words);
        let value: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", told(&output)));
        let states = value["local"].as_object().unwrap_or_else(|| panic!("{words:?}: {}", told(&output)));
        assert_eq!(states.len(), 1, "{states:?}");
        states.values().next().unwrap().clone()
    }
}

pub(crate) fn told(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Copies the glue's folders below a file root, as the README says.
pub(crate) fn copy_glue(roots: &Path) {
    for kind in ["modules", "pillar", "runners", "states", "utils"] {
        let to = roots.join(format!("_{kind}"));
        std::fs::create_dir_all(&to).unwrap();
        for file in std::fs::read_dir(format!("{GLUE}/castoff_salt/{kind}")).unwrap() {
            let file = file.unwrap();
            if file.path().extension().is_some_and(|extension| extension == "py") {
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    }
}

/// Installs the glue with pip into this folder, which PYTHONPATH may then name.
pub(crate) fn install_package(site: &Path) {
    // Building leaves files in the source's folder.
    let source = tempfile::tempdir().unwrap();
    let copy = source.path().join("salt");
    succeed(program("cp").arg("-r").arg(GLUE).arg(&copy));
    succeed(
        python_program("pip")
            .args(["install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"])
            .args(["--root-user-action=ignore", "--target"])
            .arg(site)
            .arg(&copy),
    );
}

/// A pillar root with one controller, two compute nodes and their machines.
pub(crate) fn pillar_root(folder: &Path) {
    std::fs::create_dir_all(folder.join("checkout/versions")).unwrap();
    for (name, text) in [("_version.txt", "25"), ("_version.txt.md5", "2ff98b3b2ff98b3b2ff98b3b2ff98b3b")] {
        std::fs::write(folder.join(format!("checkout/versions/makina-states-trusty-lxc{name}")), text).unwrap();
    }
    let database = json!({
        "cloud_settings": {
            "cloud": {"root": folder.join("checkout")},
            "images": {"lxc": {"cron_hour": "5", "images": {"démo": {"builder_ref": "demo.example.net"}}}},
            "images_m1": {"note": "only for m1", "yes": "yes", "time": "12:30:45", "nothing": null},
        },
        "vms": {"lxc": {"node1.example.net": ["m1", "m2"]}, "kvm": {"node2.example.net": {"k1": {}}}},
        "baremetal_hosts": {},
    });
    std::fs::write(folder.join("database.yaml"), database.to_string()).unwrap();
}

/// A process that is stopped with this value: TERM, then KILL, the whole group.
pub(crate) struct Running(Child);

impl Running {
    /// Starts the command in a process group of its own, its output in this file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).process_group(0);
        Self(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Fails once the process has ended.
    pub(crate) fn still_runs(&mut self, log: &Path) {
        if let Some(status) = self.0.try_wait().unwrap() {
            panic!("{status}:\n{}", std::fs::read_to_string(log).unwrap());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let signal = |signal| rustix::process::kill_process_group(group, signal).is_ok();
        signal(rustix::process::Signal::TERM);
        let end = Instant::now() + Duration::from_secs(20);
        while self.0.try_wait().unwrap().is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
        // Whoever is left of the group, its leader or children that outlived it.
        signal(rustix::process::Signal::KILL);
        self.0.wait().unwrap();
    }
}

/// Waits until this gives something; fails after this many seconds, saying what was waited for.
pub(crate) fn wait_for<T>(what: &str, seconds: u64, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {seconds} s for {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A daemon of castoff over a pillar root, reached through a socket of its own.
pub(crate) struct Daemon {
    pub(crate) socket: PathBuf,
    pub(crate) root: PathBuf,
    _process: Running,
}

impl Daemon {
    /// Starts it beside this castoff, whose commands then reach it with `CASTOFF_SOCKET`.
    pub(crate) fn start(castoff: &Castoff) -> Self {
        let (socket, root) = (castoff.scratch().join("castoff.sock"), castoff.scratch().join("root"));
        if !root.exists() {
            pillar_root(&root);
        }
        let log = castoff.scratch().join("daemon.log");
        let mut command = castoff.command(["daemon"]);
        command.env("CASTOFF_SOCKET", &socket).env("CASTOFF_PILLAR_ROOT", &root).env("CASTOFF_MINION_ID", "controller");
        let mut process = Running::start(&mut command, &log);
        wait_for("castoff's daemon", 30, || {
            process.still_runs(&log);
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
        Self { socket, root, _process: process }
    }
}
