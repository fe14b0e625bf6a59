//! `castoff daemon` as its callers see it: the real binary on a socket in a temporary folder, asked with bytes on that
//! socket.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

mod calls;
mod client;
mod jobs;
mod life;
mod limits;
mod pillars;
mod schedules;
mod tls;

/// How long anything may take before the test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `found` finds something.
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder with a socket, a state folder, a pillar root, a log.
struct Place {
    folder: tempfile::TempDir,
    environment: Vec<(String, String)>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("pillar")).unwrap();
        std::fs::write(folder.path().join("castoff.yaml"), "").unwrap();
        Self { folder, environment: Vec::new() }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // As an editor does it: nobody sees half a file.
        let draft = path.with_extension("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &path).unwrap();
        path
    }

    /// castoff with these arguments, told nothing by the machine's own configuration.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_castoff"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("CASTOFF_CONFIG", self.path("castoff.yaml"))
            .env("CASTOFF_STATE_DIR", self.path("state"))
            .env("CASTOFF_SOCKET", self.path("run/c.sock"))
            .env("CASTOFF_MINION_ID", "controller")
            .env("CASTOFF_ENGINE", "store")
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock")
            .envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Exit code, stdout and stderr of castoff with these arguments.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
    }

    /// A daemon that answers.
    fn daemon(&self) -> Daemon<'_> {
        let daemon = self.started(self.command(&["daemon"]));
        wait_for("the daemon to answer", || self.exchange(b"GET /healthz HTTP/1.0\r\n\r\n"));
        daemon
    }

    /// A daemon of this command, which may not answer yet.
    fn started(&self, mut command: Command) -> Daemon<'_> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).unwrap();
        Daemon { place: self, child: command.stderr(log).stdout(Stdio::null()).spawn().unwrap() }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// What comes back for these bytes until the end; none where nobody answers.
    fn exchange(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut stream = UnixStream::connect(self.path("run/c.sock")).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The answer may come, and the daemon hang up, before all is sent.
        let _sent = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _until_it_hangs_up = stream.read_to_end(&mut answer);
        (!answer.is_empty()).then_some(answer)
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let request = request(method, path, headers, body);
        let answer = self.exchange(request.as_bytes()).unwrap_or_else(|| panic!("no answer; log:\n{}", self.log()));
        Reply::parse(&answer)
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "")
    }

    /// The answer to a call with this body.
    fn call(&self, body: &str) -> Reply {
        self.ask("POST", "/v1/call", &[], body)
    }
}

fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> String {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: castoff\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// A running daemon; killed with this value.
struct Daemon<'place> {
    place: &'place Place,
    child: Child,
}

impl Daemon<'_> {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Tells it to end and waits for that.
    fn stop(mut self) -> ExitStatus {
        self.signal(rustix::process::Signal::TERM);
        self.ended()
    }

    fn ended(&mut self) -> ExitStatus {
        let place = self.place;
        wait_for(&format!("the daemon to end; log:\n{}", place.log()), || self.child.try_wait().unwrap())
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// An answer.
#[derive(Debug)]
struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Reply {
    fn parse(bytes: &[u8]) -> Self {
        let mut reader = BufReader::new(bytes);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{line}"));
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        let mut body = Vec::new();
        if headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked") {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size).unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("{size}"));
                let mut chunk = vec![0; size + 2];
                reader.read_exact(&mut chunk).unwrap();
                if size == 0 {
                    break;
                }
                body.extend_from_slice(&chunk[..size]);
            }
        } else {
            reader.read_to_end(&mut body).unwrap();
        }
        Self { status, headers, body: String::from_utf8(body).unwrap() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// Puts a program of this name before all others on the path of the place: a shell script.
fn fake(place: Place, name: &str, script: &str) -> Place {
    use std::os::unix::fs::PermissionsExt as _;
    let file = place.write(&format!("bin/{name}"), &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = std::env::var("PATH").unwrap_or_default();
    let first = place.path("bin").display().to_string();
    place.with("PATH", format!("{first}:{path}"))
}

/// A query that takes until `release` is called: `sys.doctor` asks a program for its version.
fn with_slow_query(place: Place) -> Place {
    let (begun, go) = (place.path("begun"), place.path("go"));
    let script = format!(
        "echo >> '{}'; while [ -e '{}' ] && ! [ -e '{}' ]; do sleep 0.02; done; echo skopeo version 1",
        begun.display(),
        begun.display(),
        go.display()
    );
    fake(place, "skopeo", &script)
}

const SLOW: &str = r#"{"fun": "sys.doctor"}"#;

/// Waits until that many slow queries are under way.
fn slow_begun(place: &Place, count: usize) {
    wait_for("the slow query to begin", || {
        let begun = std::fs::read_to_string(place.path("begun")).unwrap_or_default();
        (begun.lines().count() >= count).then_some(())
    });
}

fn release(place: &Place) {
    place.write("go", "");
}

/// Sends bytes and keeps the connection.
fn begin(socket: &Path, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

/// The rest of an answer.
fn finish(mut stream: UnixStream) -> Reply {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    Reply::parse(&answer)
}
