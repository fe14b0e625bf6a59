//! What one run leaves and another finds: numbers that were given up, withdrawn or only uploaded, and what is removed when.

use super::{IMAGE, World, answer, call, names, said};
use crate::git_server::git;
use crate::publish::servers::Proxy;

/// Runs a call that is killed at this point.
fn killed(world: &World, point: &str, arguments: &[&str]) {
    let output = world.call(arguments).env("CASTOFF_FAULT", point).output().unwrap();
    assert!(!output.status.success(), "{point} was not reached: {}", said(&output));
}

fn summary(world: &World) -> String {
    let status = answer(world.call(&["release.status", IMAGE, "lxc"]));
    status[IMAGE]["lxc"]["summary"].as_str().unwrap().to_owned()
}

#[test]
fn a_number_that_was_withdrawn_is_not_used_for_other_content_by_who_was_late() {
    let world = World::new();
    let other = world.another("theirs");
    let ours = world.archive("ours");
    // We have everything in place for release 1 when somebody announces another release 1, and withdraws it.
    killed(&world, "release.journal.pushed.intent.after", &["release.publish", IMAGE, "lxc", ours.to_str().unwrap()]);
    let theirs = world.archive("theirs");
    let report = answer(call(&other, &["release.publish", IMAGE, "lxc", theirs.to_str().unwrap()]));
    assert_eq!(report["version"], 1);
    answer(call(&other, &["release.withdraw", IMAGE, "lxc", "1"]));
    assert_eq!(world.publish(&ours)["version"], 2);
    assert_eq!(world.cloned(), 2);
    let expected = ["debian-lxc-1.tar.xz", "debian-lxc-2.tar.xz"];
    assert_eq!(names(&world.images()), expected);
    // The file of release 1 that nobody ever announced is ours to remove.
    let report = answer(world.call(&["release.prune", IMAGE, "lxc", "keep=1"]));
    assert_eq!(report["removed"]["main"], serde_json::json!(["debian-lxc-1.tar.xz"]), "{report}");
}

#[test]
fn a_withdrawal_that_is_killed_is_finished_by_resume() {
    for point in ["release.journal.withdrawn.intent.after", "publish.git.proved", "release.journal.withdrawn.done.torn"]
    {
        let world = World::new();
        let checkout = world.castoff.scratch().join("checkout");
        let mut clone = crate::harness::program("git");
        crate::harness::succeed(clone.args(["clone", "-q"]).arg(world.repository()).arg(&checkout));
        world.configure_more(&format!("  checkout: {}\n", checkout.display()));
        let archive = world.archive("one");
        world.publish(&archive);
        killed(&world, point, &["release.withdraw", IMAGE, "lxc", "1"]);
        let told = summary(&world);
        assert!(told.contains("castoff call release.withdraw debian lxc 1` to finish"), "{point}: {told}");
        let report = answer(world.call(&["release.resume"]));
        assert_eq!(report[IMAGE]["lxc"]["withdrawn"], 1, "{point}: {report}");
        assert!(!checkout.join("versions/debian-lxc_version.txt").exists(), "{point}");
        assert_eq!(world.cloned(), 0, "{point}");
        let told = summary(&world);
        assert_eq!(told, "nothing is served: release 1 was withdrawn", "{point}");
        // The same content again is a release of its own.
        assert_eq!(world.publish(&archive)["version"], 2, "{point}");
        assert_eq!(world.cloned(), 2, "{point}");
    }
}

#[test]
fn what_was_only_to_be_uploaded_is_never_announced_by_resume() {
    for point in ["signed.intent.after", "uploading.intent.after", "named.done.after"] {
        let world = World::new();
        let archive = world.archive("one");
        let folder = world.castoff.scratch().join("lxc");
        std::fs::create_dir(&folder).unwrap();
        std::fs::copy(&archive, folder.join("debian-lxc-1.tar.xz")).unwrap();
        let root = format!("root={}", folder.display());
        killed(&world, &format!("release.journal.{point}"), &["mc_cloud_images.upload_lxc", IMAGE, root.as_str()]);
        for _ in 0..2 {
            let report = answer(world.call(&["release.resume"]));
            assert!(report.to_string().contains("upload"), "{point}: {report}");
            assert_eq!((world.served(), names(&world.images()).len()), (0, 1), "{point}");
            assert!(summary(&world).contains("waits to be announced"), "{point}: {}", summary(&world));
        }
        answer(world.call(&["mc_cloud_images.publish_release", IMAGE, "lxc", &root]));
        assert_eq!((world.served(), world.cloned()), (1, 1));
        assert!(!summary(&world).contains("under way"), "{}", summary(&world));
    }
}

#[test]
fn a_number_that_is_overtaken_leaves_no_temporary_file_and_no_claim() {
    let world = World::new();
    world.configure_more("  reserve: true\n");
    let other = world.another("theirs");
    let ours = world.archive("ours");
    killed(&world, "release.journal.uploaded.done.after", &["release.publish", IMAGE, "lxc", ours.to_str().unwrap()]);
    assert!(names(&world.images())[0].ends_with(".part"));
    let claims = || git(&world.repository(), &["for-each-ref", "--format=%(refname)", "refs/claims"]);
    assert_eq!(claims(), "refs/claims/debian/lxc/1");
    // Who comes meanwhile takes the next number, and we the one after that.
    let theirs = world.archive("theirs");
    let report = answer(call(&other, &["release.publish", IMAGE, "lxc", theirs.to_str().unwrap()]));
    assert_eq!(report["version"], 2);
    assert_eq!(world.publish(&ours)["version"], 3);
    assert_eq!((names(&world.images()), claims()), (vec!["debian-lxc-3.tar.xz".to_owned()], String::new()));
    assert_eq!(world.cloned(), 3);
}

#[test]
fn what_is_unchanged_meanwhile_leaves_no_temporary_file() {
    let world = World::new();
    let (one, two) = (world.archive("one"), world.archive("two"));
    world.publish(&one);
    killed(&world, "release.journal.uploaded.done.after", &["release.publish", IMAGE, "lxc", two.to_str().unwrap()]);
    assert_eq!(names(&world.images()).len(), 2);
    assert_eq!(world.publish(&one)["outcome"], "unchanged");
    assert_eq!(names(&world.images()), ["debian-lxc-1.tar.xz"]);
    assert_eq!(answer(world.call(&["release.status", IMAGE, "lxc"]))[IMAGE]["lxc"]["under_way"], serde_json::json!([]));
}

#[test]
fn a_foreign_file_at_one_target_costs_the_number_and_no_file_but_ours() {
    let world = World::new();
    let mirror = world.sshd.target("mirror");
    let target = world.target(world.sshd.port, &world.images());
    let targets = format!("{{a: {target}, b: {{url: 'file://{}'}}}}", mirror.display());
    world.configure_targets(&targets, "  reserve: true\n");
    let foreign = mirror.join("debian-lxc-1.tar.xz");
    std::fs::write(&foreign, "somebody's").unwrap();
    let archive = world.archive("one");
    let told = world.fail(&archive, 73);
    assert!(told.contains("with other content"), "{told}");
    let claims = || git(&world.repository(), &["for-each-ref", "--format=%(refname)", "refs/claims"]);
    assert_eq!(claims(), "refs/claims/debian/lxc/1");
    assert_eq!(world.publish(&archive)["version"], 2);
    assert_eq!(claims(), "");
    let report = answer(world.call(&["release.prune", IMAGE, "lxc", "keep=1"]));
    let own = serde_json::json!(["debian-lxc-1.tar.xz"]);
    assert_eq!((&report["removed"]["a"], &report["removed"]["b"]), (&own, &serde_json::json!([])), "{report}");
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "somebody's");
    assert_eq!(names(&world.images()), ["debian-lxc-2.tar.xz"]);
}

#[test]
fn a_target_that_is_no_folder_costs_no_number() {
    let world = World::new();
    let mirror = world.sshd.path("mirror");
    std::fs::write(&mirror, "no folder").unwrap();
    let target = world.target(world.sshd.port, &mirror);
    world.configure_targets(&format!("{{main: {target}}}"), "");
    let archive = world.archive("one");
    for _ in 0..2 {
        assert!(world.fail(&archive, 73).contains("is not a folder"));
    }
    std::fs::remove_file(&mirror).unwrap();
    std::fs::create_dir(&mirror).unwrap();
    assert_eq!(world.publish(&archive)["version"], 1);
}

#[test]
fn prune_leaves_what_a_rollback_under_way_names() {
    let world = World::new();
    for number in 1..=3 {
        let archive = world.archive(&number.to_string());
        world.publish(&archive);
    }
    killed(&world, "release.journal.pushed.intent.after", &["release.rollback", IMAGE, "lxc", "1"]);
    let report = answer(world.call(&["release.prune", IMAGE, "lxc", "keep=1"]));
    assert_eq!(report["removed"]["main"], serde_json::json!(["debian-lxc-2.tar.xz"]), "{report}");
    let report = answer(world.call(&["release.resume"]));
    assert_eq!(report[IMAGE]["lxc"]["version"], 4, "{report}");
    let manifest = git(&world.repository(), &["show", "main:versions/debian-lxc_manifest.json"]);
    assert!(manifest.contains("debian-lxc-1.tar.xz"), "{manifest}");
    assert_eq!(answer(world.call(&["release.verify", IMAGE, "lxc"]))["result"], true);
}

#[test]
fn a_rollback_sends_no_file() {
    let world = World::new();
    let proxy = Proxy::to(world.sshd.port);
    let large = world.large("large", 8);
    world.publish(&large);
    let small = world.archive("small");
    world.publish(&small);
    world.configure(proxy.port, "");
    let report = answer(world.call(&["release.rollback", IMAGE, "lxc", "1"]));
    assert_eq!((&report["version"], &report["targets"]["main"][0]["sent"]), (&3.into(), &0.into()), "{report}");
    // The server hashes what it has.
    let carried = proxy.sent() + proxy.received();
    assert!(carried < 256 << 10, "{carried} bytes were carried");
}

#[test]
fn the_page_says_what_is_served_what_is_under_way_and_what_to_do() {
    let world = World::new();
    assert_eq!(summary(&world), "nothing is served yet");
    let one = world.archive("one");
    world.publish(&one);
    let told = summary(&world);
    for words in ["release 1 is served since ", "debian-lxc-1.tar.xz (", "sftp://root@127.0.0.1:", "expires "] {
        assert!(told.contains(words), "{words} in {told}");
    }
    assert!(!told.contains("next: "), "{told}");
    let two = world.archive("two");
    killed(&world, "release.journal.uploaded.done.after", &["release.publish", IMAGE, "lxc", two.to_str().unwrap()]);
    let told = summary(&world);
    for words in [
        "release 1 is served",
        "release 2 is under way: `uploaded` done at ",
        "nobody is at work",
        "main: debian-lxc-2.tar.xz has arrived, not verified yet",
        "next: `castoff call release.resume debian lxc` to finish it",
    ] {
        assert!(told.contains(words), "{words} in {told}");
    }
    // As a person calls it.
    let mut command = world.castoff.command(["call", "release.status", IMAGE, "lxc"]);
    command.env("CASTOFF_CONFIG", world.castoff.scratch().join("castoff.yaml"));
    let shown = crate::harness::succeed(&mut command);
    assert!(shown.contains("release 1 is served since"), "{shown}");
    // What is under way is told without the branch too.
    let away = world.castoff.scratch().join("away.git");
    std::fs::rename(world.repository(), &away).unwrap();
    let output = world.call(&["release.status", IMAGE, "lxc"]).output().unwrap();
    assert!(!output.status.success());
    let said = said(&output);
    assert!(said.contains("what is served cannot be told") && said.contains("release 2 is under way"), "{said}");
    std::fs::rename(&away, world.repository()).unwrap();
    answer(world.call(&["release.resume"]));
    assert!(summary(&world).starts_with("release 2 is served"), "{}", summary(&world));
}

#[test]
fn a_key_that_others_may_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let archive = world.archive("one");
    for name in ["id", "signer"] {
        let key = world.sshd.path(name);
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        let accepted = world.sshd.log().matches("Accepted publickey").count();
        let told = world.fail(&archive, 77);
        assert!(told.contains(&format!("others may read the key file `{}`", key.display())), "{told}");
        let more = world.sshd.log().matches("Accepted publickey").count() - accepted;
        assert_eq!(more == 0, name == "id", "{more} logins");
        assert_eq!((world.served(), names(&world.images()).len()), (0, 0));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(world.publish(&archive)["version"], 1);
}
