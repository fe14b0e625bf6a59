//! Several publishers of one image, who share nothing but the server.

use super::{IMAGE, World, answer, call, names, said};
use crate::git_server::{BRANCH, git};

#[test]
fn who_comes_second_to_a_number_takes_the_next() {
    let world = World::new();
    let other = world.another("theirs");
    let ours = world.archive("ours");
    let mut command = world.call(&["release.publish", IMAGE, "lxc", ours.to_str().unwrap()]);
    assert!(!command.env("CASTOFF_FAULT", "release.journal.pushed.intent.after").output().unwrap().status.success());
    let theirs = world.archive("theirs");
    let report = answer(call(&other, &["release.publish", IMAGE, "lxc", theirs.to_str().unwrap()]));
    assert_eq!((&report["version"], world.served_from(&world.sshd.path("theirs"))), (&1.into(), 1));
    assert_eq!(world.publish(&ours)["version"], 2);
    assert_eq!(world.served(), 2);
}

#[test]
fn the_same_content_from_two_publishers_is_one_release() {
    let world = World::new();
    let other = world.another("theirs");
    let archive = world.archive("same");
    let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
    assert!(!command.env("CASTOFF_FAULT", "release.journal.pushed.intent.after").output().unwrap().status.success());
    assert_eq!(answer(call(&other, &["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]))["version"], 1);
    let report = world.publish(&archive);
    assert_eq!((&report["version"], world.served()), (&1.into(), 1), "{report}");
    assert_eq!(git(&world.repository(), &["rev-list", "--count", BRANCH]), "2");
}

#[test]
fn a_foreign_file_under_our_name_is_never_touched() {
    let world = World::new();
    let foreign = world.images().join("debian-lxc-1.tar.xz");
    std::fs::write(&foreign, "somebody's").unwrap();
    let archive = world.archive("one");
    let told = world.fail(&archive, 73);
    assert!(told.contains("with other content") && told.contains("the next run takes the next number"), "{told}");
    assert_eq!((world.served(), std::fs::read_to_string(&foreign).unwrap().as_str()), (0, "somebody's"));
    assert_eq!(world.publish(&archive)["version"], 2);
    assert_eq!((world.served(), std::fs::read_to_string(&foreign).unwrap().as_str()), (2, "somebody's"));
}

#[test]
fn publishers_at_once_have_a_number_each() {
    for reserve in [false, true] {
        let world = World::new();
        world.configure(world.sshd.port, if reserve { "  reserve: true\n" } else { "" });
        let others = [world.another("second"), world.another("third")];
        let mut runs = Vec::new();
        for (at, castoff) in std::iter::once(&world.castoff).chain(&others).enumerate() {
            let archive = world.archive(&format!("content-{at}"));
            let mut command = call(castoff, &["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
            runs.push(std::thread::spawn(move || command.output().unwrap()));
        }
        let mut numbers = Vec::new();
        for run in runs {
            let output = run.join().unwrap();
            assert!(output.status.success(), "{}", said(&output));
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            numbers.push(report["local"]["version"].as_u64().unwrap());
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 3, "{numbers:?}");
        let last = *numbers.last().unwrap();
        let folders = ["images", "second", "third"].map(|name| world.sshd.path(name));
        let name = format!("debian-lxc-{last}.tar.xz");
        let folder = folders.iter().find(|folder| names(folder).contains(&name)).unwrap();
        assert_eq!(u64::from(world.served_from(folder)), last);
        assert_eq!(git(&world.repository(), &["rev-list", "--count", BRANCH]), "4");
        assert_eq!(git(&world.repository(), &["for-each-ref", "refs/claims"]), "");
    }
}
