//! SIGKILL of the real binary at every line of its journal (before it, in the middle of it, before it is synced, after it),
//! and at every step of uploading and announcing: consumers see a whole release, and the next run finishes.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::consumers::{Branch, Legacy, Seen};
use super::{IMAGE, World, answer, names, said};
use crate::git_server::git;
use crate::harness::{program, succeed};

/// Everything a release may have: two targets, a claim, a public address, a checkout, two signatures.
struct Everything {
    world: World,
    mirror: PathBuf,
    checkout: PathBuf,
}

impl Everything {
    fn new() -> Self {
        let world = World::new();
        let mirror = world.sshd.target("mirror");
        let checkout = world.castoff.scratch().join("checkout");
        succeed(program("git").args(["clone", "-q"]).arg(world.repository()).arg(&checkout));
        let secret = world.sshd.path("minisign");
        succeed(
            program("minisign").args(["-G", "-W", "-p"]).arg(world.sshd.path("minisign.pub")).arg("-s").arg(&secret),
        );
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let target = world.target(world.sshd.port, &world.images());
        let targets = format!("{{main: {target}, mirror: {{url: 'file://{}'}}}}", mirror.display());
        let more = format!(
            "  reserve: true\n  checkout: {}\n  public_url: 'file://{}/{{name}}'\n  minisign_key: {}\n",
            checkout.display(),
            mirror.display(),
            secret.display()
        );
        world.configure_targets(&targets, &more);
        Self { world, mirror, checkout }
    }

    fn legacy(&self) -> Legacy {
        Legacy::of(&self.checkout, &self.mirror)
    }

    /// Looks at what is served for as long as the work takes: never anything but these two releases, whole.
    fn watched<T>(&self, allowed: [u32; 2], work: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let (mut branch, legacy) = (Branch::of(&self.world.repository()), self.legacy());
                let images = self.world.images();
                let mut highest = 0;
                while !over.load(Ordering::SeqCst) {
                    let seen = branch.whole(&[&images, &self.mirror]);
                    assert!(allowed.contains(&seen) && seen >= highest, "{seen} is served, not {allowed:?}");
                    highest = seen;
                    match legacy.settled() {
                        Seen::Release(number) => assert!(allowed.contains(&number), "{number}, not {allowed:?}"),
                        Seen::Nothing => assert_eq!(allowed[0], 0),
                        Seen::Refused => unreachable!(),
                    }
                    std::thread::sleep(std::time::Duration::from_millis(3));
                }
            });
            let result = work();
            over.store(true, Ordering::SeqCst);
            watcher.join().unwrap();
            result
        })
    }

    /// Nothing is left of a release but its files, and every journal is closed.
    fn is_tidy(&self, number: u32, at: &str) {
        for folder in [&self.world.images(), &self.mirror] {
            let expected: std::collections::BTreeSet<String> =
                (1..=number).map(|number| format!("{IMAGE}-lxc-{number}.tar.xz")).collect();
            assert_eq!(names(folder).into_iter().collect::<std::collections::BTreeSet<_>>(), expected, "{at}");
        }
        assert_eq!(git(&self.world.repository(), &["for-each-ref", "refs/claims"]), "", "{at}");
        let journals = self.world.journal(1).parent().unwrap().to_owned();
        assert_eq!(names(&journals).len(), usize::try_from(number).unwrap().min(castoff::release::KEPT), "{at}");
        let text = std::fs::read_to_string(self.world.journal(number)).unwrap();
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["state"], &last["phase"]), (&"done".into(), &"done".into()), "{at}: {text}");
        assert_eq!(self.legacy().settled(), Seen::Release(number), "{at}");
    }
}

/// Every point that a release passes, with how often.
fn points(log: &Path) -> BTreeMap<String, usize> {
    let mut points = BTreeMap::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        if line.starts_with("release.") || line.starts_with("publish.") {
            *points.entry(line.to_owned()).or_default() += 1;
        }
    }
    points
}

/// Kills at every chosen point in turn; how many there were.
fn kill_at_each(over_ssh: bool, chosen: impl Fn(&str) -> bool) -> usize {
    let everything = Everything::new();
    let world = &everything.world;
    if !over_ssh {
        // Ten logins at the git server for each release are most of what it takes.
        world.publish_locally();
    }
    let log = world.castoff.scratch().join("points");
    let first = world.archive("first");
    let mut command = world.call(&["release.publish", IMAGE, "lxc", first.to_str().unwrap()]);
    succeed(command.env("CASTOFF_FAULT_LOG", &log));
    let mut number = 1;
    let mut killed = 0;
    for (point, count) in points(&log).iter().filter(|(point, _)| chosen(point)) {
        // How often libgit2 tells of its progress is a matter of time; of many more of a kind, three say it all.
        let most = if point == "publish.git.pushing" { 1 } else { 3 };
        for nth in 1..=(*count).min(most) {
            let at = format!("{point}@{nth}");
            let archive = world.archive(&at);
            everything.watched([number, number + 1], || {
                let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
                let output = command.env("CASTOFF_FAULT", &at).output().unwrap();
                // The child of git is killed in its own steps, and castoff then says so.
                let by_kill = output.status.signal() == Some(9);
                assert!(by_kill || point.starts_with("publish.git."), "{at}: {}", said(&output));
                assert!(!output.status.success() || point.starts_with("publish.git."), "{at} was not reached");
                killed += usize::from(!output.status.success());
                let served = world.cloned();
                assert!(served == number || served == number + 1, "killed at {at}: {served} after {number}");
                // Every other time by `release.resume`, which knows nothing yet of what was not written down.
                if killed % 2 == 0 {
                    answer(world.call(&["release.resume"]));
                }
                let report = world.publish(&archive);
                assert_eq!(report["version"], number + 1, "after {at}: {report}");
            });
            number += 1;
            everything.is_tidy(number, &at);
            let name = format!("debian-lxc-{number}.tar.xz");
            succeed(std::process::Command::new("cmp").arg(&archive).arg(world.images().join(name)));
        }
    }
    assert_eq!(world.cloned(), number);
    git(&world.repository(), &["fsck", "--strict", "--no-dangling"]);
    let verified = answer(world.call(&["release.verify", IMAGE, "lxc"]));
    assert!(verified["result"] == true && verified.to_string().contains("minisign signature"), "{verified}");
    killed
}

/// Kills at this moment of every line of the journal.
fn kill_at_each_line(over_ssh: bool, moment: &str) {
    let killed = kill_at_each(over_ssh, |point| point.starts_with("release.journal.") && point.ends_with(moment));
    assert!(killed >= 24, "{killed}");
}

#[test]
fn killed_before_a_line_of_the_journal() {
    kill_at_each_line(false, ".before");
}

#[test]
fn killed_in_the_middle_of_a_line_of_the_journal() {
    kill_at_each_line(false, ".torn");
}

#[test]
fn killed_before_a_line_of_the_journal_is_synced() {
    kill_at_each_line(false, ".written");
}

#[test]
fn killed_after_a_line_of_the_journal() {
    kill_at_each_line(true, ".after");
}

#[test]
fn killed_in_a_step_of_uploading_or_announcing() {
    let killed = kill_at_each(true, |point| point.starts_with("publish."));
    assert!(killed >= 12, "{killed}");
}
