//! Jobs through a real daemon: begun, waited for, followed, ended; and what becomes of them when it is killed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::Duration;

use serde_json::{Value, json};

use crate::jobs::{Killed, wait_for};

/// A daemon with a state folder and a socket of its own.
struct Daemon {
    folder: tempfile::TempDir,
    process: Killed,
}

struct Answer {
    status: u16,
    headers: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = Killed(Self::spawn(&folder, &[]));
        let daemon = Self { folder, process };
        daemon.wait();
        daemon
    }

    fn spawn(folder: &tempfile::TempDir, environment: &[(&str, &str)]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_castoff"))
            .arg("daemon")
            .arg("--socket")
            .arg(folder.path().join("socket"))
            .env("CASTOFF_CONFIG", "/dev/null")
            .env("CASTOFF_STATE_DIR", folder.path().join("state"))
            .env("CASTOFF_JOBS_PARALLEL", "2")
            .env("CASTOFF_ENGINE", "store")
            .envs(environment.iter().copied())
            .spawn()
            .unwrap()
    }

    fn wait(&self) {
        wait_for("the daemon", || UnixStream::connect(self.socket()).is_ok());
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Kills the daemon at once and starts another one.
    fn restart(&mut self, environment: &[(&str, &str)]) {
        let _gone = self.process.0.kill();
        self.process.0.wait().unwrap();
        self.process = Killed(Self::spawn(&self.folder, environment));
        self.wait();
    }

    fn open(&self, method: &str, path: &str, headers: &str, body: &str) -> BufReader<UnixStream> {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n");
        stream.write_all(format!("{head}{headers}\r\n{body}").as_bytes()).unwrap();
        BufReader::new(stream)
    }

    fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let mut text = String::new();
        self.open(method, path, headers, body).read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, headers: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    fn call(&self, headers: &str, function: &str, arguments: Value) -> Answer {
        let body = json!({"fun": function, "arg": arguments}).to_string();
        self.ask("POST", "/v1/call", &format!("Content-Type: application/json\r\n{headers}"), &body)
    }

    fn begin(&self, function: &str, arguments: Value) -> String {
        let answer = self.call("", function, arguments);
        assert_eq!(answer.status, 202, "{}", answer.body);
        let id = answer.json()["job"].as_str().unwrap().to_owned();
        assert!(answer.headers.contains(&format!("location: /v1/jobs/{id}")), "{}", answer.headers);
        id
    }

    fn job(&self, id: &str) -> Value {
        let answer = self.ask("GET", &format!("/v1/jobs/{id}"), "", "");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    }

    fn wait_for_state(&self, id: &str, state: &str) {
        wait_for(state, || self.job(id)["state"] == state);
    }
}

/// Server-sent events as they come, up to the end of the stream or as many as wanted: number, kind, data.
fn events(stream: BufReader<UnixStream>, most: usize) -> Vec<(u64, String, Value)> {
    let mut found = Vec::new();
    let (mut number, mut kind) = (0, String::new());
    for line in stream.lines().map_while(Result::ok) {
        if let Some(text) = line.strip_prefix("id: ") {
            number = text.parse().unwrap();
        } else if let Some(text) = line.strip_prefix("event: ") {
            kind = text.to_owned();
        } else if let Some(text) = line.strip_prefix("data: ") {
            found.push((number, kind.clone(), serde_json::from_str(text).unwrap()));
            if found.len() == most {
                break;
            }
        }
    }
    found
}

#[test]
fn a_long_call_is_answered_with_a_job_and_waited_for_when_preferred() {
    let daemon = Daemon::start();
    let id = daemon.begin("test.sleep", json!([0]));
    daemon.wait_for_state(&id, "done");
    let job = daemon.job(&id);
    assert_eq!((&job["return"], &job["retcode"], &job["fun"]), (&json!(true), &json!(0), &json!("test.sleep")));
    assert!(job["who"].as_str().unwrap().contains("uid") && job["door"] == "socket", "{job}");

    let waited = daemon.call("Prefer: respond-async, wait=30\r\n", "test.sleep", json!([1]));
    assert_eq!((waited.status, &waited.json()["return"]), (200, &json!(true)), "{}", waited.body);
    let failed = daemon.call("Prefer: wait=30\r\n", "image.inspect", json!(["docker-archive:/nonexistent/x"]));
    assert_eq!((failed.status, &failed.json()["error"]["kind"]), (404, &json!("not-found")), "{}", failed.body);
    let impatient = daemon.call("Prefer: wait=0\r\n", "test.sleep", json!([1]));
    assert_eq!(impatient.status, 202);
    let wrong = daemon.call("", "test.sleep", json!(["x"]));
    assert_eq!((wrong.status, &wrong.json()["error"]["kind"]), (400, &json!("usage")), "{}", wrong.body);

    let list = daemon.ask("GET", "/v1/jobs?state=done&limit=10", "", "").json();
    assert!(list["jobs"].as_array().unwrap().iter().any(|listed| listed["id"] == id.as_str()), "{list}");
    for (path, status) in [
        ("/v1/jobs?state=nonsense", 400),
        ("/v1/jobs?limit=99999", 400),
        ("/v1/jobs?odd=1", 400),
        ("/v1/jobs/nonsense", 400),
        ("/v1/jobs/..%2f..%2fetc", 400),
        ("/v1/jobs/00000000000000000000000000", 404),
        ("/v1/jobs/00000000000000000000000000/events", 404),
    ] {
        let answer = daemon.ask("GET", path, "", "");
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
        assert!(answer.json()["error"]["message"].is_string(), "{path}");
    }
    let metrics = daemon.ask("GET", "/metrics", "", "").body;
    assert!(metrics.contains("castoff_jobs{state=\"failed\"} 1"), "{metrics}");
}

#[test]
fn events_are_streamed_as_they_come_and_replayed_behind_the_last_one_seen() {
    let daemon = Daemon::start();
    let id = daemon.begin("test.sleep", json!([3]));
    let path = format!("/v1/jobs/{id}/events");
    let first = events(daemon.open("GET", &path, "", ""), 4);
    assert_eq!(first.iter().map(|event| event.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert_eq!(daemon.job(&id)["state"], "running", "they came before the end");
    let rest = events(daemon.open("GET", &path, "Last-Event-ID: 4\r\n", ""), usize::MAX);
    let seen: Vec<u64> = first.iter().chain(&rest).map(|event| event.0).collect();
    assert_eq!(seen, (1..=seen.len() as u64).collect::<Vec<_>>());
    let last = rest.last().unwrap();
    assert_eq!((last.1.as_str(), &last.2["state"], &last.2["retcode"]), ("end", &json!("done"), &json!(0)));
    let whole = events(daemon.open("GET", &path, "", ""), usize::MAX);
    assert_eq!(whole, [first, rest].concat());
    assert!(whole.iter().any(|event| event.1 == "progress" && event.2["done"] == 30), "{whole:?}");
    let after = daemon.ask("GET", &format!("{path}?after={}", seen.len()), "", "");
    assert_eq!((after.status, after.body.as_str()), (204, ""));
    assert_eq!(daemon.ask("GET", &path, "Last-Event-ID: x\r\n", "").status, 400);
}

#[test]
fn a_job_is_ended_over_http() {
    let daemon = Daemon::start();
    let id = daemon.begin("test.sleep", json!([600]));
    daemon.wait_for_state(&id, "running");
    let follower = daemon.open("GET", &format!("/v1/jobs/{id}/events"), "", "");
    let answer = daemon.ask("DELETE", &format!("/v1/jobs/{id}"), "", "");
    assert_eq!((answer.status, &answer.json()["state"]), (200, &json!("cancelled")), "{}", answer.body);
    assert_eq!(events(follower, usize::MAX).last().unwrap().2["state"], "cancelled");
    assert_eq!(daemon.ask("DELETE", &format!("/v1/jobs/{id}"), "", "").status, 409);
    let again = daemon.call("", "job.retry", json!([id]));
    let again = again.json()["return"]["job"].as_str().unwrap().to_owned();
    daemon.wait_for_state(&again, "running");
    assert_eq!(daemon.job(&again)["retry_of"], id.as_str());
    let cancelled = daemon.call("", "job.cancel", json!([again]));
    assert_eq!(cancelled.json()["return"]["state"], "cancelled", "{}", cancelled.body);
}

#[test]
fn jobs_outlive_a_killed_daemon_and_queued_ones_are_run_by_the_next() {
    let mut daemon = Daemon::start();
    let running: Vec<String> = (0..2).map(|_| daemon.begin("test.sleep", json!([3]))).collect();
    for id in &running {
        daemon.wait_for_state(id, "running");
    }
    let queued = daemon.begin("test.sleep", json!([0]));
    let before: Vec<Value> = running.iter().map(|id| daemon.job(id)["pid"].clone()).collect();
    daemon.restart(&[]);
    let after: Vec<Value> = running.iter().map(|id| daemon.job(id)["pid"].clone()).collect();
    assert_eq!(before, after);
    for id in running.iter().chain([&queued]) {
        daemon.wait_for_state(id, "done");
        assert_eq!(daemon.job(id)["attempts"], 1);
    }
}

#[test]
fn a_daemon_that_is_killed_while_it_starts_or_recovers_a_job_loses_none() {
    let mut daemon = Daemon::start();
    for point in
        ["job.start.before-spawn", "job.start.after-spawn", "job.recover.before-commit", "job.recover.after-commit"]
    {
        let id = if point.starts_with("job.start") {
            // The fault waits for the job; it may come before the answer.
            daemon.restart(&[("CASTOFF_FAULT", point)]);
            let body = json!({"fun": "test.sleep", "arg": [0]}).to_string();
            let mut answer = daemon.open("POST", "/v1/call", "Content-Type: application/json\r\n", &body);
            let _killed_before_it = answer.read_to_end(&mut Vec::new());
            None
        } else {
            daemon.restart(&[]);
            let id = daemon.begin("test.sleep", json!([2]));
            daemon.wait_for_state(&id, "running");
            let pid = i32::try_from(daemon.job(&id)["pid"].as_i64().unwrap()).unwrap();
            daemon.process.0.kill().unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
            daemon.process.0.wait().unwrap();
            daemon.process = Killed(Daemon::spawn(&daemon.folder, &[("CASTOFF_FAULT", point)]));
            Some(id)
        };
        wait_for(point, || daemon.process.0.try_wait().unwrap().is_some());
        daemon.restart(&[]);
        let newest =
            || daemon.ask("GET", "/v1/jobs?limit=1", "", "").json()["jobs"][0]["id"].as_str().unwrap().to_owned();
        let id = id.unwrap_or_else(newest);
        daemon.wait_for_state(&id, "done");
        let states = events(daemon.open("GET", &format!("/v1/jobs/{id}/events"), "", ""), usize::MAX);
        assert_eq!(states.iter().filter(|event| event.1 == "end").count(), 1, "{point}");
    }
}

#[test]
fn sigterm_ends_the_daemon_at_once_although_jobs_run_and_are_followed() {
    let mut daemon = Daemon::start();
    let id = daemon.begin("test.sleep", json!([4]));
    daemon.wait_for_state(&id, "running");
    let follower = daemon.open("GET", &format!("/v1/jobs/{id}/events"), "", "");
    let began = std::time::Instant::now();
    let pid = rustix::process::Pid::from_raw(daemon.process.0.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(daemon.process.0.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let seen = events(follower, usize::MAX);
    assert!(!seen.is_empty() && seen.iter().all(|event| event.1 != "end"), "{seen:?}");
    daemon.restart(&[]);
    let last = seen.last().unwrap().0;
    let path = format!("/v1/jobs/{id}/events");
    let rest = events(daemon.open("GET", &path, &format!("Last-Event-ID: {last}\r\n"), ""), usize::MAX);
    assert_eq!(rest.first().unwrap().0, last + 1);
    assert_eq!(rest.last().unwrap().2["state"], "done");
}

#[test]
fn a_damaged_job_database_takes_nothing_else_with_it() {
    let mut daemon = Daemon::start();
    let id = daemon.begin("test.sleep", json!([0]));
    daemon.wait_for_state(&id, "done");
    let file = daemon.folder.path().join("state/jobs/jobs.sqlite");
    daemon.process.0.kill().unwrap();
    daemon.process.0.wait().unwrap();
    for more in ["", "-wal", "-shm"] {
        let _absent = std::fs::remove_file(format!("{}{more}", file.display()));
    }
    std::fs::write(&file, "rubbish ".repeat(2000)).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    daemon.restart(&[]);
    let ping = daemon.call("", "test.ping", json!([]));
    assert_eq!((ping.status, &ping.json()["return"]), (200, &json!(true)));
    let refused = daemon.call("", "test.sleep", json!([0]));
    assert_eq!((refused.status, &refused.json()["error"]["kind"]), (422, &json!("corrupt")), "{}", refused.body);
    assert!(refused.json()["error"]["hint"].as_str().unwrap().contains("a new one is made"), "{}", refused.body);
    let ready = daemon.ask("GET", "/readyz", "", "");
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("jobs: the job database"), "{}", ready.body);
    // The operator does as told; no restart is needed.
    std::fs::remove_file(&file).unwrap();
    let id = daemon.begin("test.sleep", json!([0]));
    daemon.wait_for_state(&id, "done");
}
