//! Going back: an older release as the next one, a release withdrawn, old files removed.

use super::{IMAGE, World, answer, names, said};
use crate::git_server::{BRANCH, git};

fn released(count: u32) -> World {
    let world = World::new();
    for number in 1..=count {
        let archive = world.archive(&number.to_string());
        world.publish(&archive);
    }
    world
}

#[test]
fn a_rollback_announces_old_bytes_as_the_next_release() {
    let world = released(2);
    let before = names(&world.images());
    let plan = answer(world.call(&["release.rollback", IMAGE, "lxc", "1", "test=True"]));
    assert_eq!((&plan["version"], world.served()), (&3.into(), 2), "{plan}");
    let report = answer(world.call(&["release.rollback", IMAGE, "lxc", "1"]));
    assert_eq!((&report["version"], &report["file"]), (&3.into(), &"debian-lxc-1.tar.xz".into()));
    assert_eq!(names(&world.images()), before);
    assert_eq!(world.served(), 3);
    let verified = answer(world.call(&["release.verify", IMAGE, "lxc"]));
    assert_eq!(verified["result"], true, "{verified}");

    // What is gone, or is not what it was, cannot be gone back to.
    std::fs::write(world.images().join("debian-lxc-2.tar.xz"), "short").unwrap();
    let output = world.call(&["release.rollback", IMAGE, "lxc", "2"]).output().unwrap();
    assert_eq!(output.status.code(), Some(65), "{}", said(&output));
    let output = world.call(&["release.rollback", IMAGE, "lxc", "9"]).output().unwrap();
    assert_eq!(output.status.code(), Some(66), "{}", said(&output));
    assert_eq!(world.served(), 3);
}

#[test]
fn a_withdrawn_release_is_not_announced_and_its_number_not_used_again() {
    let world = released(2);
    let output = world.call(&["release.withdraw", IMAGE, "lxc", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(73), "{}", said(&output));
    answer(world.call(&["release.withdraw", IMAGE, "lxc", "2", "test=True"]));
    assert_eq!(world.served(), 2);
    answer(world.call(&["release.withdraw", IMAGE, "lxc", "2"]));
    let listed = git(&world.repository(), &["ls-tree", "-r", "--name-only", BRANCH]);
    assert_eq!(listed, "versions/debian-lxc_withdrawn.txt");
    assert_eq!(names(&world.images()).len(), 2);
    // Another publisher, who has no journal of it, counts on too.
    let other = world.another("images");
    let archive = world.archive("again");
    let report = answer(super::call(&other, &["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]));
    assert_eq!(report["version"], 3);
    let status = answer(world.call(&["release.status", IMAGE, "lxc"]));
    assert_eq!((&status[IMAGE]["lxc"]["version"], &status[IMAGE]["lxc"]["withdrawn"]), (&3.into(), &2.into()));
}

#[test]
fn prune_leaves_what_the_last_releases_name() {
    let world = released(5);
    answer(world.call(&["release.rollback", IMAGE, "lxc", "2"]));
    let name = |number: u32| format!("debian-lxc-{number}.tar.xz");
    let plan = answer(world.call(&["release.prune", IMAGE, "lxc", "keep=2", "test=True"]));
    let expected = serde_json::json!([name(1), name(3), name(4)]);
    assert_eq!(plan["removed"]["main"], expected, "{plan}");
    assert_eq!(names(&world.images()).len(), 5);
    let report = answer(world.call(&["release.prune", IMAGE, "lxc", "keep=2"]));
    assert_eq!(report["removed"]["main"], expected, "{report}");
    // Release 6 names the second file, release 5 its own.
    assert_eq!(names(&world.images()), [name(2), name(5)]);
    assert_eq!(world.served(), 6);
    assert_eq!(
        answer(world.call(&["release.prune", IMAGE, "lxc", "keep=2"]))["removed"]["main"],
        serde_json::json!([])
    );
    let output = world.call(&["release.prune", IMAGE, "lxc", "keep=0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn prune_leaves_what_is_under_way() {
    let world = released(1);
    let archive = world.archive("next");
    let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
    assert!(!command.env("CASTOFF_FAULT", "release.journal.named.done.after").output().unwrap().status.success());
    let report = answer(world.call(&["release.prune", IMAGE, "lxc", "keep=1"]));
    assert_eq!((&report["removed"]["main"], names(&world.images()).len()), (&serde_json::json!([]), 2));
    assert_eq!(world.publish(&archive)["version"], 2);
    assert_eq!(world.served(), 2);
}
