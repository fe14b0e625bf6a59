//! SIGKILL in the real binary at every named point of a job's life; a restart finishes the job, once.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use castoff::job::{EventKind, State};
use castoff::vocab::JobId;

use crate::jobs::{Killed, Place, wait_for};

/// A root filesystem with a few files, the largest of so many bytes.
fn tree(folder: &Path, bytes: usize) -> PathBuf {
    let root = folder.join("rootfs");
    std::fs::create_dir_all(root.join("etc")).unwrap();
    std::fs::write(root.join("etc/hostname"), "castoff\n").unwrap();
    std::fs::write(root.join("large"), vec![7; bytes]).unwrap();
    root
}

/// The points that a command reaches, each with how often.
fn points(command: &mut Command, folder: &Path) -> BTreeMap<String, usize> {
    let log = folder.join("points");
    let output = command.env("CASTOFF_FAULT_LOG", &log).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let mut points = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines().filter(|line| !line.is_empty()) {
        *points.entry(line.to_owned()).or_default() += 1;
    }
    std::fs::remove_file(&log).unwrap();
    points
}

fn kill_at(command: &mut Command, point: &str) {
    let output = command.env("CASTOFF_FAULT", point).output().unwrap();
    assert_eq!(output.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Temporaries of castoff anywhere below.
fn temporaries(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with(".castoff-") {
            found.push(path);
        } else if path.is_dir() {
            found.extend(temporaries(&path));
        }
    }
    found
}

fn call(place: &Place, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_castoff"));
    command.args(["call", "--out=json"]).args(words).envs(place.environment());
    command
}

#[test]
fn a_job_that_is_killed_anywhere_is_finished_by_the_next_process() {
    let place = Place::new();
    let source = format!("dir:{}", tree(place.folder.path(), 300_000).display());
    let target = place.folder.path().join("out.tar");
    let submit = || place.submit("image.pack", &[&source, &format!("docker-archive:{}:a:1", target.display())]);
    let points = points(&mut place.runner(submit()), place.folder.path());
    let whole = std::fs::read(&target).unwrap();
    for wanted in [
        "job.claim.leased",
        "job.claim.before-commit",
        "job.claim.after-commit",
        "job.run.before-function",
        "job.run.before-finish",
        "job.finish.before-commit",
        "job.finish.after-commit",
    ] {
        assert_eq!(points.get(wanted), Some(&1), "{points:?}");
    }
    for point in points.keys() {
        let _old = std::fs::remove_file(&target);
        let id = submit();
        kill_at(&mut place.runner(id), point);
        let had_ended = place.job(id).state == State::Done;
        assert_eq!(had_ended, point == "job.finish.after-commit", "{point}");
        let supervisor = place.supervise();
        wait_for("the job", || place.job(id).state == State::Done);
        supervisor.stop();
        assert!(std::fs::read(&target).unwrap() == whole, "{point}");
        assert_eq!(temporaries(place.folder.path()), Vec::<PathBuf>::new(), "{point}");
        let ends = place.events(id).iter().filter(|event| event.kind == EventKind::End).count();
        assert_eq!(ends, 1, "{point}");
    }
}

#[test]
fn a_call_that_was_answered_is_kept_and_one_that_was_not_is_not() {
    let place = Place::new();
    let first = place.submit("test.ping", &[]);
    place.queue.cancel(first, "ann", Duration::ZERO).unwrap();
    let retry = ["job.retry", &first.to_string()];
    let points = points(&mut call(&place, &retry), place.folder.path());
    assert_eq!(points.keys().collect::<Vec<_>>(), ["job.submit.after-commit", "job.submit.before-commit"]);
    for (point, kept) in [("job.submit.before-commit", 0), ("job.submit.after-commit", 1)] {
        let before = place.queue.list(&Default::default()).unwrap().len();
        kill_at(&mut call(&place, &retry), point);
        assert_eq!(place.queue.list(&Default::default()).unwrap().len(), before + kept, "{point}");
    }
    let supervisor = place.supervise();
    wait_for("every job", || place.queue.list(&Default::default()).unwrap().iter().all(|job| job.state.is_final()));
    supervisor.stop();
}

#[test]
fn a_wish_to_cancel_holds_although_whoever_wished_it_is_killed() {
    let place = Place::new();
    for (point, was_wished) in [
        ("job.cancel.before-commit", false),
        ("job.cancel.after-commit", true),
        ("job.cancel.wished", true),
        ("job.cancel.signalled", true),
    ] {
        let id = place.submit("test.sleep", &["600"]);
        let mut runner = Killed(place.runner(id).spawn().unwrap());
        wait_for("a running job", || place.job(id).state == State::Running);
        kill_at(&mut call(&place, &["job.cancel", &id.to_string()]), point);
        assert_eq!(place.job(id).cancelled_by.is_some(), was_wished, "{point}");
        if was_wished {
            runner.0.kill().unwrap();
            runner.0.wait().unwrap();
            let supervisor = place.supervise();
            wait_for("the end", || place.job(id).state == State::Cancelled);
            supervisor.stop();
        } else {
            let printed = call(&place, &["job.cancel", &id.to_string()]).output().unwrap();
            assert!(printed.status.success(), "{printed:?}");
            assert_eq!(place.job(id).state, State::Cancelled);
        }
    }
}

/// A pack under way that takes long enough to be met in the middle: its result is slow to compress.
fn packing(place: &Place) -> (JobId, PathBuf) {
    let root = tree(place.folder.path(), 400_000_000);
    let target = place.folder.path().join("out.tar");
    let destination = format!("docker-archive:{}:a:1", target.display());
    let id = place.submit("image.pack", &[&format!("dir:{}", root.display()), &destination, "compression=gzip"]);
    (id, target)
}

#[test]
fn what_is_cancelled_in_the_middle_leaves_nothing_behind() {
    let place = Place::new();
    let (id, target) = packing(&place);
    let mut runner = Killed(place.runner(id).spawn().unwrap());
    wait_for("a temporary file", || !temporaries(place.folder.path()).is_empty());
    let job = place.queue.cancel(id, "bob", Duration::from_secs(30)).unwrap();
    assert_eq!((job.state, job.cancelled_by.as_deref()), (State::Cancelled, Some("bob")));
    assert!(runner.0.wait().unwrap().success(), "it ended by itself");
    assert_eq!(temporaries(place.folder.path()), Vec::<PathBuf>::new());
    assert!(!target.exists());
}

#[test]
fn what_is_told_to_end_in_the_middle_leaves_nothing_behind_and_is_done_later() {
    let place = Place::new();
    let (id, target) = packing(&place);
    let mut runner = Killed(place.runner(id).spawn().unwrap());
    wait_for("a temporary file", || !temporaries(place.folder.path()).is_empty());
    assert!(place.job(id).holder.unwrap().signal(rustix::process::Signal::TERM).unwrap());
    assert_eq!(runner.0.wait().unwrap().code(), Some(75));
    assert_eq!((place.job(id).state, place.job(id).attempts), (State::Queued, 0));
    assert_eq!(temporaries(place.folder.path()), Vec::<PathBuf>::new());
    assert!(!target.exists());
    let supervisor = place.supervise();
    wait_for("the job", || place.job(id).state == State::Done);
    supervisor.stop();
    assert!(target.exists());
}
