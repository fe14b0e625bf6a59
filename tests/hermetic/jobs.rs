//! Jobs through the real binary: run, watched, killed, cancelled, and never run by two at once.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use castoff::function::{Caller, LongCall, Request, enqueue};
use castoff::job::{Event, EventKind, Job, Launch, Limits, Queue, State, Supervisor};
use castoff::vocab::{JobId, Value};

/// A state folder with its queue.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) queue: Queue,
}

pub(crate) const LIMITS: Limits = Limits { parallel: 2, attempts: 3, keep_days: 30, keep: 1000 };

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(folder.path()).unwrap();
        Self { folder, queue }
    }

    pub(crate) fn submit(&self, function: &str, words: &[&str]) -> JobId {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        let caller = Caller { who: "ann".to_owned(), door: "test".to_owned(), request: "r1".to_owned() };
        let request = Request::from_words(&words, &[]);
        enqueue(&self.queue, LongCall { function: function.to_owned(), request, minion: None }, &caller).unwrap()
    }

    pub(crate) fn environment(&self) -> Vec<(&'static str, PathBuf)> {
        vec![
            ("CASTOFF_CONFIG", "/dev/null".into()),
            ("CASTOFF_STATE_DIR", self.folder.path().into()),
            ("CASTOFF_ENGINE", "store".into()),
        ]
    }

    pub(crate) fn runner(&self, id: JobId) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_castoff"));
        command.arg("job-run").arg(id.to_string()).envs(self.environment());
        command
    }

    pub(crate) fn launch(&self) -> Launch {
        let environment = self.environment().into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Launch { program: env!("CARGO_BIN_EXE_castoff").into(), environment }
    }

    pub(crate) fn supervise(&self) -> Supervisor {
        Supervisor::start(&self.queue, LIMITS, self.launch()).unwrap()
    }

    pub(crate) fn job(&self, id: JobId) -> Job {
        self.queue.get(id).unwrap()
    }

    pub(crate) fn events(&self, id: JobId) -> Vec<Event> {
        self.queue.events_after(id, 0, 100_000).unwrap()
    }

    /// The states a job went through, as its events tell.
    pub(crate) fn life(&self, id: JobId) -> Vec<String> {
        let state = |event: &Event| Some(event.data.get("state")?.as_str()?.to_owned());
        self.events(id).iter().filter(|event| event.kind == EventKind::State).filter_map(state).collect()
    }
}

/// Waits for something to become true; fails with `what` after a minute.
pub(crate) fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ends with the test, however that ends.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_job_runs_in_a_process_of_its_own_and_keeps_its_result() {
    let place = Place::new();
    let id = place.submit("test.arg", &["1", "010", "[a, {b: yes}]", "name=x", "password=hunter2"]);
    assert_eq!(place.job(id).state, State::Queued);
    let output = place.runner(id).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let job = place.job(id);
    assert_eq!((job.state, job.retcode, job.attempts), (State::Done, Some(0), 1));
    let wanted = r#"{"args": [1, 10, ["a", {"b": true}]], "kwargs": {"name": "x", "password": "hunter2"}}"#;
    assert_eq!(job.result, Some(castoff::document::parse_json(wanted, "wanted").unwrap()));
    assert_eq!((job.who.as_str(), job.door.as_str(), job.request.as_str()), ("ann", "test", "r1"));
    assert_eq!(place.life(id), ["queued", "running", "done"]);
    assert_eq!(place.events(id).last().unwrap().kind, EventKind::End);
    // A second process finds nothing to do.
    assert!(place.runner(id).status().unwrap().success());
    assert_eq!(place.job(id), job);
}

#[test]
fn text_arguments_keep_the_words_that_were_typed() {
    let place = Place::new();
    let id = place.submit("image.inspect", &["docker-archive:/nowhere/010"]);
    assert!(place.runner(id).status().unwrap().success());
    let job = place.job(id);
    let error = job.error.unwrap();
    assert_eq!((job.state, error.kind.as_str()), (State::Failed, "not-found"), "{error:?}");
    assert!(error.message.contains("/nowhere/010"), "{error:?}");
}

#[test]
fn secrets_are_in_no_listing_event_or_argument_vector_and_nobody_else_reads_the_database() {
    let place = Place::new();
    let id =
        place.submit("test.kwarg", &["password=hunter2", "deep={api_token: hunter2, url: 'https://u:hunter2@h/'}"]);
    let shown = format!("{:?} {:?}", place.queue.list(&Default::default()).unwrap(), place.events(id));
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("***"), "{shown}");
    let jobs = place.folder.path().join("jobs");
    assert_eq!(mode(&jobs), 0o700);
    for name in std::fs::read_dir(&jobs).unwrap().map(|item| item.unwrap().path()) {
        assert_eq!(mode(&name) & 0o077, 0, "{}", name.display());
    }
    std::fs::set_permissions(jobs.join("jobs.sqlite"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let told = Queue::open(place.folder.path()).unwrap_err().render();
    assert!(told.contains("0644") && told.contains("chmod 0600"), "{told}");
}

#[test]
fn wrong_arguments_make_no_job() {
    let place = Place::new();
    for (function, words, told) in [
        ("test.nothing", vec![], "there is no function `test.nothing`"),
        ("test.sleep", vec![], "missing 1 required positional argument"),
        ("test.sleep", vec!["x"], "'length' must be a whole number"),
        ("image.copy", vec!["store:a", "store:b", "keep_odl=1"], "keep_odl"),
    ] {
        let words: Vec<String> = words.into_iter().map(str::to_owned).collect();
        let request = Request::from_words(&words, &[]);
        let call = LongCall { function: function.to_owned(), request, minion: None };
        let error = enqueue(&place.queue, call, &Caller::default()).unwrap_err().into_error();
        assert!(error.render().contains(told), "{error:?}");
    }
    assert_eq!(place.queue.list(&Default::default()).unwrap(), []);
}

#[test]
fn queued_jobs_run_in_order_and_no_more_at_once_than_allowed() {
    let place = Place::new();
    let ids: Vec<JobId> = (0..5).map(|_| place.submit("test.sleep", &["1"])).collect();
    let supervisor = place.supervise();
    let mut most = 0;
    wait_for("five jobs", || {
        let states: Vec<State> = ids.iter().map(|id| place.job(*id).state).collect();
        most = most.max(states.iter().filter(|state| **state == State::Running).count());
        states.iter().all(|state| *state == State::Done)
    });
    assert_eq!(most, 2);
    let starts: Vec<i64> = ids.iter().map(|id| place.job(*id).started.unwrap()).collect();
    // Two start side by side, in any order; the third only when one of them has ended.
    assert!(starts[0].max(starts[1]) < starts[2].min(starts[3]), "{starts:?}");
    assert!(starts[2].max(starts[3]) < starts[4], "{starts:?}");
    supervisor.stop();
}

#[test]
fn one_of_many_processes_gets_a_job() {
    let place = Place::new();
    for _ in 0..5 {
        let id = place.submit("test.sleep", &["1"]);
        let children: Vec<Child> = (0..8).map(|_| place.runner(id).spawn().unwrap()).collect();
        for child in children {
            assert!(child.wait_with_output().unwrap().status.success());
        }
        assert_eq!(place.life(id), ["queued", "running", "done"]);
        assert_eq!(place.job(id).attempts, 1);
    }
}

#[test]
fn a_job_outlives_its_supervisor_and_the_next_one_lets_it_be() {
    let place = Place::new();
    let id = place.submit("test.sleep", &["2"]);
    let first = place.supervise();
    wait_for("a running job", || place.job(id).state == State::Running);
    let holder = place.job(id).holder.unwrap();
    first.stop();
    assert!(holder.is_alive().unwrap());
    let second = place.supervise();
    wait_for("a job that is done", || place.job(id).state == State::Done);
    assert_eq!((place.job(id).attempts, place.job(id).holder), (1, Some(holder)));
    second.stop();
}

#[test]
fn a_job_whose_process_is_killed_is_run_again_up_to_a_limit() {
    let place = Place::new();
    let id = place.submit("test.sleep", &["600"]);
    let supervisor = place.supervise();
    for attempt in 1..=3 {
        wait_for("an attempt", || place.job(id).state == State::Running && place.job(id).attempts == attempt);
        assert!(place.job(id).holder.unwrap().signal(rustix::process::Signal::KILL).unwrap());
    }
    wait_for("the end", || place.job(id).state.is_final());
    let job = place.job(id);
    assert_eq!(job.state, State::Failed);
    assert!(job.error.unwrap().message.contains("died 3 times"));
    let wanted = ["queued", "running", "queued", "running", "queued", "running", "failed"];
    assert_eq!(place.life(id), wanted);
    supervisor.stop();
}

#[test]
fn sigterm_gives_a_job_back_and_does_not_count() {
    let place = Place::new();
    let id = place.submit("test.sleep", &["600"]);
    for _ in 0..5 {
        let child = place.runner(id).spawn().unwrap();
        let mut child = Killed(child);
        wait_for("a running job", || place.job(id).state == State::Running);
        place.job(id).holder.unwrap().signal(rustix::process::Signal::TERM).unwrap();
        assert_eq!(child.0.wait().unwrap().code(), Some(75));
        assert_eq!((place.job(id).state, place.job(id).attempts), (State::Queued, 0));
    }
}

#[test]
fn a_process_that_cannot_start_fails_the_job_with_the_reason() {
    let place = Place::new();
    let id = place.submit("test.ping", &[]);
    for program in ["/bin/false", "/nonexistent/castoff"] {
        let id = if program == "/bin/false" { id } else { place.submit("test.ping", &[]) };
        let launch = Launch { program: program.into(), environment: Vec::new() };
        let supervisor = Supervisor::start(&place.queue, LIMITS, launch).unwrap();
        wait_for("a failed job", || place.job(id).state == State::Failed);
        let error = place.job(id).error.unwrap();
        assert!(error.message.contains("could not be started 3 times"), "{error:?}");
        supervisor.stop();
    }
}

#[test]
fn a_queued_job_is_cancelled_at_once_and_a_finished_one_not_at_all() {
    let place = Place::new();
    let id = place.submit("test.ping", &[]);
    let job = place.queue.cancel(id, "bob", Duration::from_secs(1)).unwrap();
    assert_eq!((job.state, job.cancelled_by.as_deref()), (State::Cancelled, Some("bob")));
    assert!(place.runner(id).status().unwrap().success());
    assert_eq!(place.life(id), ["queued", "cancelled"]);
    let told = place.queue.cancel(id, "bob", Duration::from_secs(1)).unwrap_err();
    assert!(told.message().contains("is cancelled already"), "{told}");
    let nowhere = JobId::new(1, [0; 10]);
    assert!(place.queue.cancel(nowhere, "bob", Duration::from_secs(1)).unwrap_err().message().contains("there is no"));
}

#[test]
fn a_stopped_process_is_killed_after_the_grace() {
    let place = Place::new();
    let id = place.submit("test.sleep", &["600"]);
    let mut child = Killed(place.runner(id).spawn().unwrap());
    wait_for("a running job", || place.job(id).state == State::Running);
    place.job(id).holder.unwrap().signal(rustix::process::Signal::STOP).unwrap();
    let job = place.queue.cancel(id, "bob", Duration::from_millis(300)).unwrap();
    assert_eq!(job.state, State::Cancelled);
    assert_eq!(child.0.wait().unwrap().signal(), Some(9));
    assert_eq!(place.life(id), ["queued", "running", "cancelled"]);
}

#[test]
fn events_are_replayed_once_each_from_any_number() {
    let place = Place::new();
    let id = place.submit("test.sleep", &["3"]);
    let mut child = Killed(place.runner(id).stdout(Stdio::null()).spawn().unwrap());
    let mut seen = Vec::new();
    wait_for("the end event", || {
        let after = seen.last().map_or(0, |event: &Event| event.sequence);
        seen.extend(place.queue.events_after(id, after, 2).unwrap());
        seen.last().is_some_and(|event| event.kind == EventKind::End)
    });
    child.0.wait().unwrap();
    let numbers: Vec<u64> = seen.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    assert_eq!(seen, place.events(id));
    let done = |event: &Event| match event.data.get("done") {
        Some(Value::Int(done)) => Some(*done),
        _ => None,
    };
    let progress: Vec<i128> = seen.iter().filter_map(done).collect();
    assert!(progress.len() >= 4 && progress.windows(2).all(|pair| pair[0] <= pair[1]), "{progress:?}");
    assert_eq!(progress.last(), Some(&30));
}
