//! The job queue on a full disk: what cannot be kept is refused, what has ended is kept as soon as there is room.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use castoff::error::Kind;
use castoff::job::{Filter, Queue, State, Submission};
use castoff::vocab::Value;

use crate::harness::Castoff;
use crate::space::Tmpfs;

fn sleeping(seconds: &str) -> Submission {
    let given = Value::map([("value", Value::from(seconds)), ("typed", Value::from(seconds))]);
    Submission {
        function: "test.sleep".to_owned(),
        call: Value::map([("arg", Value::list([given]))]),
        shown: Value::map([("arg", Value::list([seconds]))]),
        who: "test".to_owned(),
        ..Submission::default()
    }
}

#[test]
fn a_full_disk_refuses_jobs_and_damages_none() {
    let castoff = Castoff::new();
    let _disk = Tmpfs::mount(castoff.state(), "2m");
    let queue = Queue::open(&castoff.state()).unwrap();
    let large = Submission { call: Value::from("x".repeat(60_000)), ..sleeping("0") };
    let mut kept = 0;
    let told = loop {
        match queue.submit(&large) {
            Ok(_) => kept += 1,
            Err(error) => break error,
        }
    };
    assert!(kept > 3, "{told:?}");
    assert_eq!(told.kind(), Kind::NoSpace, "{told:?}");
    assert!(told.render().contains("jobs.sqlite") && told.render().contains("hint: "), "{told:?}");
    drop(queue);
    let again = Queue::open(&castoff.state()).and_then(|queue| queue.list(&Filter::default())).unwrap();
    assert_eq!(again.len(), kept);
    assert!(again.iter().all(|job| job.state == State::Queued));
}

#[test]
fn what_ends_on_a_full_disk_is_kept_once_there_is_room() {
    let castoff = Castoff::new();
    let disk = Tmpfs::mount(castoff.state(), "2m");
    let queue = Queue::open(&castoff.state()).unwrap();
    let id = queue.submit(&sleeping("2")).unwrap();
    let mut command = castoff.command(["job-run", &id.to_string()]);
    let mut runner = command.stderr(Stdio::piped()).spawn().unwrap();
    while queue.get(id).unwrap().state != State::Running {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    disk.fill_up_to(0);
    let mut said = BufReader::new(runner.stderr.take().unwrap());
    let mut lines = String::new();
    while !lines.contains("has ended, which cannot be stored yet") {
        assert_ne!(said.read_line(&mut lines).unwrap(), 0, "{lines}");
    }
    std::fs::remove_file(castoff.state().join("ballast")).unwrap();
    assert!(runner.wait().unwrap().success(), "{lines}");
    let job = queue.get(id).unwrap();
    assert_eq!((job.state, job.attempts), (State::Done, 1), "{lines}");
}
