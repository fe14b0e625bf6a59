//! SIGKILL of the real binary at every line of its journal, before, in the middle of and after it, and at every step of
//! uploading and announcing: consumers see a whole release, and the same call finishes.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use super::{IMAGE, World, names, said};
use crate::git_server::git;
use crate::harness::succeed;

/// Everything a release may have: two targets, a claim, a public address, a checkout.
fn world() -> World {
    let world = World::new();
    let mirror = world.sshd.target("mirror");
    let checkout = world.castoff.scratch().join("checkout");
    succeed(crate::harness::program("git").args(["clone", "-q"]).arg(world.repository()).arg(&checkout));
    let target = world.target(world.sshd.port, &world.images());
    let targets = format!("{{main: {target}, mirror: {{url: 'file://{}'}}}}", mirror.display());
    let more = format!(
        "  reserve: true\n  checkout: {}\n  public_url: 'file://{}/{{name}}'\n",
        checkout.display(),
        mirror.display()
    );
    world.configure_targets(&targets, &more);
    world
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
fn kill_at_each(chosen: impl Fn(&str) -> bool) -> usize {
    let world = world();
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
            let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
            let output = command.env("CASTOFF_FAULT", &at).output().unwrap();
            // The child of git is killed in its own steps, and castoff then says so.
            let by_kill = output.status.signal() == Some(9);
            assert!(by_kill || point.starts_with("publish.git."), "{at}: {}", said(&output));
            assert!(!output.status.success() || point.starts_with("publish.git."), "{at} was not reached");
            killed += usize::from(!output.status.success());
            let served = world.served();
            assert!(served == number || served == number + 1, "killed at {at}: {served} is served after {number}");
            if served > number {
                assert_eq!(world.served_from(&world.sshd.path("mirror")), served, "{at}");
            }
            let report = world.publish(&archive);
            number += 1;
            assert_eq!(world.served(), number, "after {at}: {report}");
            assert_eq!(world.served_from(&world.sshd.path("mirror")), number, "after {at}");
            let name = format!("debian-lxc-{number}.tar.xz");
            succeed(std::process::Command::new("cmp").arg(&archive).arg(world.images().join(name)));
        }
    }
    // Nothing half is left anywhere, no claim, and the checkout has followed.
    let parts = |folder: &Path| names(folder).into_iter().filter(|name| !name.ends_with(".tar.xz")).count();
    assert_eq!((parts(&world.images()), parts(&world.sshd.path("mirror"))), (0, 0));
    assert_eq!(git(&world.repository(), &["for-each-ref", "refs/claims"]), "");
    let version = world.castoff.scratch().join("checkout/versions/debian-lxc_version.txt");
    assert_eq!(std::fs::read_to_string(version).unwrap(), number.to_string());
    killed
}

#[test]
fn killed_before_a_line_of_the_journal() {
    let killed = kill_at_each(|point| point.starts_with("release.journal.") && point.ends_with(".before"));
    assert!(killed >= 16, "{killed}");
}

#[test]
fn killed_in_the_middle_of_a_line_of_the_journal() {
    let killed = kill_at_each(|point| point.starts_with("release.journal.") && point.ends_with(".torn"));
    assert!(killed >= 16, "{killed}");
}

#[test]
fn killed_after_a_line_of_the_journal() {
    let killed = kill_at_each(|point| point.starts_with("release.journal.") && point.ends_with(".after"));
    assert!(killed >= 16, "{killed}");
}

#[test]
fn killed_in_a_step_of_uploading_or_announcing() {
    let killed = kill_at_each(|point| point.starts_with("publish."));
    assert!(killed >= 12, "{killed}");
}
