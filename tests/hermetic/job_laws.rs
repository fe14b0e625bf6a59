//! The laws of the queue against a model: whatever happens in whatever order, each job is where the model says.

use std::collections::BTreeMap;

use castoff::error::{Error, Kind};
use castoff::job::{Claim, Event, EventKind, Failure, Filter, Outcome, Queue, Recorder, State, Submission};
use castoff::progress::{Progress, Unit};
use castoff::vocab::{JobId, Value};
use proptest::prelude::*;

/// How many processes a job may wear out in these tests.
const ATTEMPTS: u32 = 3;

#[derive(Clone, Debug)]
enum Step {
    Submit,
    Claim(usize),
    Finish(usize, How),
    /// The process of a job dies.
    Die(usize),
    Recover(usize),
    CancelUnlessHeld(usize),
    Retry(usize),
    NoteFailedStart(usize),
    /// The queue is opened anew, as by another process.
    Reopen,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Done,
    Failed,
    Interrupted,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let which = 0..6_usize;
    let how = prop_oneof![Just(How::Done), Just(How::Failed), Just(How::Interrupted)];
    let step = prop_oneof![
        3 => Just(Step::Submit),
        6 => which.clone().prop_map(Step::Claim),
        4 => (which.clone(), how).prop_map(|(which, how)| Step::Finish(which, how)),
        4 => which.clone().prop_map(Step::Die),
        4 => which.clone().prop_map(Step::Recover),
        1 => which.clone().prop_map(Step::CancelUnlessHeld),
        1 => which.clone().prop_map(Step::Retry),
        1 => which.prop_map(Step::NoteFailedStart),
        1 => Just(Step::Reopen),
    ];
    prop::collection::vec(step, 1..60)
}

/// What must be true of one job.
#[derive(Debug)]
struct Model {
    state: State,
    attempts: u32,
    life: Vec<State>,
}

impl Model {
    fn becomes(&mut self, state: State) {
        assert!(!self.state.is_final(), "{self:?} is to become {state:?}");
        self.state = state;
        self.life.push(state);
    }
}

struct World {
    folder: tempfile::TempDir,
    queue: Queue,
    jobs: Vec<(JobId, Model)>,
    claims: BTreeMap<JobId, Claim>,
}

impl World {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Submit if self.jobs.len() < 6 => {
                let id = self.queue.submit(&submission()).unwrap();
                self.learn(id);
            }
            Step::Reopen => self.queue = Queue::open(self.folder.path()).unwrap(),
            Step::Submit => {}
            Step::Claim(which)
            | Step::Finish(which, _)
            | Step::Die(which)
            | Step::Recover(which)
            | Step::CancelUnlessHeld(which)
            | Step::Retry(which)
            | Step::NoteFailedStart(which) => {
                if let Some(id) = self.jobs.get(*which).map(|(id, _)| *id) {
                    self.take_with(step, *which, id);
                }
            }
        }
    }

    fn learn(&mut self, id: JobId) {
        self.jobs.push((id, Model { state: State::Queued, attempts: 0, life: vec![State::Queued] }));
    }

    fn take_with(&mut self, step: &Step, which: usize, id: JobId) {
        let is_held = self.claims.contains_key(&id);
        let model = &mut self.jobs[which].1;
        match step {
            Step::Claim(_) => {
                let claim = self.queue.claim(id).unwrap();
                assert_eq!(claim.is_some(), model.state == State::Queued, "{model:?}");
                if let Some(claim) = claim {
                    model.attempts += 1;
                    assert_eq!(claim.attempt(), model.attempts);
                    model.becomes(State::Running);
                    self.claims.insert(id, claim);
                }
            }
            Step::Finish(_, how) => {
                let Some(claim) = self.claims.remove(&id) else { return };
                let (outcome, state) = match how {
                    How::Done => (Outcome::Done(Value::from("result"), 3), State::Done),
                    How::Failed => (Outcome::Failed(failure()), State::Failed),
                    How::Interrupted => (Outcome::Interrupted, State::Queued),
                };
                if state == State::Queued {
                    model.attempts -= 1;
                }
                model.becomes(state);
                assert_eq!(claim.finish(&outcome).unwrap(), state);
            }
            Step::Die(_) => drop(self.claims.remove(&id)),
            Step::Recover(_) => {
                let expected = match model.state {
                    State::Running if !is_held && model.attempts < ATTEMPTS => Some(State::Queued),
                    State::Running if !is_held => Some(State::Failed),
                    _ => None,
                };
                let job = self.queue.get(id).unwrap();
                assert_eq!(self.queue.recover(&job, ATTEMPTS).unwrap(), expected);
                expected.into_iter().for_each(|state| model.becomes(state));
            }
            Step::CancelUnlessHeld(_) => {
                // A held one would be this very process's.
                if is_held {
                    return;
                }
                let cancelled = self.queue.cancel(id, "somebody", std::time::Duration::ZERO);
                if model.state.is_final() {
                    assert_eq!(cancelled.unwrap_err().kind(), Kind::Conflict);
                } else {
                    assert_eq!(cancelled.unwrap().state, State::Cancelled);
                    model.becomes(State::Cancelled);
                }
            }
            Step::Retry(_) => {
                let retried = self.queue.retry(id, Submission { who: "bob".to_owned(), ..Submission::default() });
                if matches!(model.state, State::Failed | State::Cancelled) {
                    let retried = retried.unwrap();
                    let job = self.queue.get(retried).unwrap();
                    assert_eq!((job.retry_of, job.who.as_str(), job.function.as_str()), (Some(id), "bob", "f.g"));
                    assert_eq!(self.queue.call(retried).unwrap(), submission().call);
                    self.learn(retried);
                } else {
                    assert_eq!(retried.unwrap_err().kind(), Kind::Conflict);
                }
            }
            Step::NoteFailedStart(_) => {
                self.queue.note_failed_start(id, "no program", ATTEMPTS).unwrap();
                if model.state == State::Queued {
                    model.attempts += 1;
                    if model.attempts >= ATTEMPTS {
                        model.becomes(State::Failed);
                    }
                }
            }
            Step::Submit | Step::Reopen => {}
        }
    }

    fn check(&self) {
        for (id, model) in &self.jobs {
            let job = self.queue.get(*id).unwrap();
            assert_eq!((job.state, job.attempts), (model.state, model.attempts), "{model:?}");
            assert_eq!(job.finished.is_some(), model.state.is_final());
            assert_eq!(job.result.is_some(), model.state == State::Done);
            assert_eq!(job.retcode, (model.state == State::Done).then_some(3));
            assert_eq!(job.error.is_some(), model.state == State::Failed);
            let events = self.queue.events_after(*id, 0, 1000).unwrap();
            let numbers: Vec<u64> = events.iter().map(|event| event.sequence).collect();
            assert_eq!(numbers, (1..=job.last_event).collect::<Vec<_>>());
            let life: Vec<State> = events.iter().filter_map(state_of).collect();
            assert_eq!(life, model.life);
            let ends = events.iter().filter(|event| event.kind == EventKind::End).count();
            assert_eq!(ends, usize::from(model.state.is_final()));
            assert!(ends == 0 || events.last().unwrap().kind == EventKind::End);
        }
        let counts: u64 = self.queue.counts().unwrap().into_iter().map(|(_, count)| count).sum();
        assert_eq!(counts, self.jobs.len() as u64);
    }
}

fn state_of(event: &Event) -> Option<State> {
    (event.kind == EventKind::State).then(|| event.data.get("state").unwrap().as_str().unwrap().parse().unwrap())
}

fn submission() -> Submission {
    Submission {
        function: "f.g".to_owned(),
        call: Value::map([("x", Value::list([1, 2]))]),
        shown: Value::map([("arg", Value::from("***"))]),
        who: "ann".to_owned(),
        ..Submission::default()
    }
}

fn failure() -> Failure {
    Failure::from(&Error::new(Kind::Failed, "it broke").caused_by("a cause").hint("mend it"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_job_is_where_the_model_says(steps in steps()) {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(folder.path()).unwrap();
        let mut world = World { folder, queue, jobs: Vec::new(), claims: BTreeMap::new() };
        for step in &steps {
            world.take(step);
            world.check();
        }
    }
}

#[test]
fn a_failure_is_kept_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(folder.path()).unwrap();
    let id = queue.submit(&submission()).unwrap();
    queue.claim(id).unwrap().unwrap().finish(&Outcome::Failed(failure())).unwrap();
    let job = Queue::open(folder.path()).unwrap().get(id).unwrap();
    let error = job.error.unwrap();
    assert_eq!((error.kind.as_str(), error.message.as_str()), ("failed", "it broke"));
    assert_eq!((error.causes, error.hint), (vec!["a cause".to_owned()], Some("mend it".to_owned())));
}

#[test]
fn too_many_events_lose_the_oldest_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(folder.path()).unwrap();
    let id = queue.submit(&submission()).unwrap();
    let claim = queue.claim(id).unwrap().unwrap();
    let recorder = Recorder::start(&claim).unwrap();
    let progress = Progress::new(recorder.clone());
    let long = "x".repeat(3000);
    for number in 0..5000_u32 {
        progress.line(format!("{number} {}", if number % 10 == 0 { &long } else { "" }));
        if number % 1000 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
    }
    drop(progress.stage("last", Some(7), Unit::Bytes));
    recorder.finish();
    claim.finish(&Outcome::Done(Value::Null, 0)).unwrap();
    let all = queue.events_after(id, 0, 100_000).unwrap();
    let bytes: usize = all.iter().map(|event| event.json().len()).sum();
    assert!(bytes <= (1 << 20) + 4096 && all.len() <= 2010, "{bytes} bytes in {} events", all.len());
    // Kept and dropped ones together are all there were; nothing is numbered twice.
    let numbers: Vec<u64> = all.iter().map(|event| event.sequence).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]));
    let mut next = 1;
    for event in &all {
        let dropped = match event.data.get("dropped") {
            Some(Value::Int(count)) if event.sequence != next => u64::try_from(*count).unwrap(),
            _ => 1,
        };
        assert_eq!(next + dropped - 1, event.sequence, "{event:?}");
        next = event.sequence + 1;
    }
    assert_eq!(next - 1, queue.get(id).unwrap().last_event);
    // States are all there, and so is what was said last.
    assert_eq!(all.iter().filter_map(state_of).collect::<Vec<_>>(), [State::Queued, State::Running, State::Done]);
    let stages: Vec<&str> = all.iter().filter_map(|event| event.data.get("phase")?.as_str()).collect();
    assert_eq!(stages, ["started", "advanced", "finished"]);
    // Any cursor gives what is behind it, in pages as well.
    let mut paged = Vec::new();
    loop {
        let after = paged.last().map_or(0, |event: &Event| event.sequence);
        let page = queue.events_after(id, after, 7).unwrap();
        if page.is_empty() {
            break;
        }
        paged.extend(page);
    }
    assert_eq!(paged, all);
}

#[test]
fn jobs_that_ended_are_forgotten_by_age_and_number_and_others_never() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(folder.path()).unwrap();
    let ids: Vec<JobId> = (0..6).map(|_| queue.submit(&submission()).unwrap()).collect();
    let held = queue.claim(ids[0]).unwrap().unwrap();
    for id in &ids[1..5] {
        queue.claim(*id).unwrap().unwrap().finish(&Outcome::Done(Value::Null, 0)).unwrap();
    }
    assert_eq!(queue.prune(30, 1000).unwrap(), 0);
    assert_eq!(queue.prune(30, 2).unwrap(), 2);
    let left: Vec<JobId> = queue.list(&Filter::default()).unwrap().iter().map(|job| job.id).collect();
    assert_eq!(left.len(), 4);
    assert!([ids[0], ids[3], ids[4], ids[5]].iter().all(|id| left.contains(id)), "{left:?} of {ids:?}");
    assert_eq!(queue.events_after(ids[1], 0, 10).unwrap(), []);
    assert_eq!(queue.get(ids[1]).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(queue.prune(30, 0).unwrap(), 2);
    assert_eq!(held.finish(&Outcome::Done(Value::Null, 0)).unwrap(), State::Done);
    let leases = std::fs::read_dir(folder.path().join("jobs/leases")).unwrap().count();
    assert_eq!(leases, 0);
}

#[test]
fn a_damaged_or_foreign_database_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(folder.path()).unwrap();
    for _ in 0..50 {
        queue.submit(&submission()).unwrap();
    }
    drop(queue);
    let file = folder.path().join("jobs/jobs.sqlite");
    let whole = std::fs::read(&file).unwrap();

    std::fs::write(&file, b"this is no database, and long enough to be taken for one at first sight".repeat(100))
        .unwrap();
    let told = Queue::open(folder.path()).unwrap_err();
    assert_eq!(told.kind(), Kind::Corrupt, "{told:?}");
    assert!(told.render().contains("jobs.sqlite") && told.render().contains("hint: "), "{told:?}");

    // Every page behind the first is another's garbage.
    let mut garbled = whole.clone();
    garbled[4096..].fill(0x5a);
    std::fs::write(&file, &garbled).unwrap();
    let told = Queue::open(folder.path()).and_then(|queue| queue.list(&Filter::default())).unwrap_err();
    assert_eq!(told.kind(), Kind::Corrupt, "{told:?}");

    // `user_version` is the big-endian number at offset 60 of the file (SQLite's file format, section 1.3).
    let mut newer = whole.clone();
    newer[60..64].copy_from_slice(&3_u32.to_be_bytes());
    std::fs::write(&file, &newer).unwrap();
    let told = Queue::open(folder.path()).unwrap_err();
    assert_eq!(told.kind(), Kind::Unsupported, "{told:?}");
    assert!(told.message().contains("version 3"), "{told:?}");

    std::fs::write(&file, &whole).unwrap();
    assert_eq!(Queue::open(folder.path()).unwrap().list(&Filter::default()).unwrap().len(), 50);
}

#[test]
fn the_queue_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(folder.path()).unwrap();
    let large = Submission { call: Value::from("x".repeat(5 << 20)), ..submission() };
    assert_eq!(queue.submit(&large).unwrap_err().kind(), Kind::Limit);
    let id = queue.submit(&submission()).unwrap();
    let result = Value::from("x".repeat(5 << 20));
    queue.claim(id).unwrap().unwrap().finish(&Outcome::Done(result, 0)).unwrap();
    let error = queue.get(id).unwrap().error.unwrap();
    assert!(error.kind == "limit" && error.message.contains("the job is done, but"), "{error:?}");
    for number in 0..1000 {
        let who = format!("caller {}", number % 2);
        queue.submit(&Submission { who, ..submission() }).unwrap();
        if number == 998 {
            let own = Submission { who: "caller 0".to_owned(), ..submission() };
            assert_eq!(queue.submit(&own).unwrap_err().kind(), Kind::Unavailable);
        }
    }
    let told = queue.submit(&submission()).unwrap_err();
    assert!(told.kind() == Kind::Unavailable && told.message().contains("1000 jobs wait"), "{told:?}");
}
