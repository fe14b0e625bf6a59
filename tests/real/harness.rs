//! What every test with real parts needs: the binary, a state folder of its own, the test's own Docker Engine.
//!
//! A missing part fails the test with how to get it; nothing here skips. `make test` installs and starts every part.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The `castoff` under test with a state folder that vanishes with this value.
pub(crate) struct Castoff {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Castoff {
    /// A fresh state folder, the embedded store as default engine, the test's Docker Engine as `docker-daemon:`.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), environment: Vec::new() }
    }

    /// The same with this environment variable in every command.
    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// A folder for the test's files, beside the state folder.
    pub(crate) fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// castoff's state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A command of the binary, to be run or changed further. Sees no configuration of this machine.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_castoff"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("CASTOFF_CONFIG", "/dev/null")
            .env("CASTOFF_STATE_DIR", self.state())
            .env("CASTOFF_ENGINE", "store")
            .env("DOCKER_HOST", std::env::var("CASTOFF_TEST_DOCKER_HOST").unwrap_or_else(|_| NO_ENGINE.to_owned()))
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary, which must succeed; what it printed.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> String {
        succeed(&mut self.command(arguments))
    }

    /// Calls a function, which must succeed; what it returned.
    pub(crate) fn call(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.run(["call", "--out=json"].iter().chain(arguments));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in:\n{text}"));
        json.get("local").unwrap_or_else(|| panic!("no `local` in:\n{text}")).clone()
    }

    /// Runs the binary, which must fail with this exit code; what it said on stderr.
    pub(crate) fn fail<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>, code: i32) -> String {
        let output = self.command(arguments).output().expect("castoff starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{}", told(&output));
        stderr
    }
}

/// An address where no engine answers: a test that forgot its engine shall not touch the user's.
const NO_ENGINE: &str = "unix:///nonexistent/castoff-test-has-no-engine.sock";

/// The address of the Docker Engine that belongs to the tests.
pub(crate) fn docker_host() -> String {
    std::env::var("CASTOFF_TEST_DOCKER_HOST").expect(
        "CASTOFF_TEST_DOCKER_HOST is not set: run the tests with `make test`, which starts an engine of its own",
    )
}

/// Runs the docker client against the test's engine; it must succeed; what it printed.
pub(crate) fn docker(arguments: &[&str]) -> String {
    succeed(Command::new("docker").env("DOCKER_HOST", docker_host()).env_remove("DOCKER_CONTEXT").args(arguments))
}

/// Runs a command in a container of the image, without a network (the test's engine has none), and removes it.
pub(crate) fn docker_run(image: &str, arguments: &[&str]) -> String {
    docker(&[&["run", "--rm", "--network=none", image], arguments].concat())
}

/// An image name in the test's engine that is removed with this value.
pub(crate) struct DockerImage(pub(crate) String);

impl DockerImage {
    /// A name no other test has.
    pub(crate) fn unique(subject: &str) -> Self {
        Self(format!("castoff-test-{subject}-{}:latest", std::process::id()))
    }
}

impl Drop for DockerImage {
    fn drop(&mut self) {
        // It may never have been made; the engine itself goes away after the tests.
        let _gone = Command::new("docker").env("DOCKER_HOST", docker_host()).args(["rmi", "-f", &self.0]).output();
    }
}

/// A program of this machine as a command; a missing one fails with how to get it.
pub(crate) fn program(name: &str) -> Command {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file());
    Command::new(found.unwrap_or_else(|| panic!("`{name}` is not installed: `make test` installs what the tests need")))
}

/// A program of the tests' Python environment (`tests/real/requirements.txt`): `python`, `salt-call`, `docker-squash`.
pub(crate) fn python_program(name: &str) -> Command {
    let folder = std::env::var("CASTOFF_TEST_VENV")
        .expect("CASTOFF_TEST_VENV is not set: run the tests with `make test`, which makes the Python environment");
    let path = Path::new(&folder).join("bin").join(name);
    assert!(path.is_file(), "`{}` does not exist: `make test` installs it", path.display());
    Command::new(path)
}

/// Runs the command, which must succeed; what it printed.
pub(crate) fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", told(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn told(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n--- stdout\n{}--- stderr\n{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Fails unless this process is root, as ownership, devices and foreign ACLs need.
pub(crate) fn require_root() {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: run `make test` as root");
}

mod selftest {
    use super::*;

    #[test]
    fn the_binary_runs_in_its_own_state_folder() {
        let castoff = Castoff::new();
        let output = castoff.command(["--version"]).output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
        assert!(castoff.state().starts_with(castoff.scratch()));
    }

    #[test]
    fn the_tests_engine_is_not_the_users() {
        let host = docker_host();
        assert_ne!(host, "unix:///var/run/docker.sock", "the tests' engine must be their own");
        assert!(!docker(&["version", "--format", "{{.Server.Version}}"]).trim().is_empty());
    }
}
