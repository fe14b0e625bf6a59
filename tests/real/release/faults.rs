//! The rows of the failure matrix that are not a mere kill: what is served meanwhile, and that the same call then finishes.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use super::{IMAGE, World, answer, call, names, said};
use crate::git_server::{BRANCH, git, hook, other_commit};
use crate::publish::Small;
use crate::publish::servers::{Proxy, public, until};

const MIB: u64 = 1 << 20;

/// Not met by the tests of a debug build: 150 MiB are read, packed and sent.
const LARGE: usize = 150;

#[test]
fn a_link_lost_on_the_way_costs_no_more_than_a_step_of_the_journal() {
    let world = World::new();
    let proxy = Proxy::to(world.sshd.port);
    world.configure(proxy.port, "");
    let archive = world.large("large", LARGE);
    let size = std::fs::metadata(&archive).unwrap().len();
    proxy.cut_at(size * 6 / 10);
    let report = world.publish(&archive);
    let file = &report["targets"]["main"][0];
    assert!(file["reconnected"].as_u64().unwrap() >= 1, "{report}");
    assert!(file["sent"].as_u64().unwrap() <= size + 66 * MIB, "{report}");
    assert_eq!(world.served(), 1);
}

#[test]
fn a_flipped_bit_in_what_had_arrived_is_found_and_sent_again() {
    let world = World::new();
    let small = world.archive("small");
    world.publish(&small);
    let archive = world.large("large", LARGE);
    let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
    let status = command.env("CASTOFF_FAULT", "release.journal.uploading.note.after@2").output().unwrap().status;
    assert_eq!(status.signal(), Some(9));
    assert_eq!(world.served(), 1);
    let part = names(&world.images()).into_iter().find(|name| name.ends_with(".part")).unwrap();
    let part = world.images().join(part);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&part).unwrap();
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, 5).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[byte[0] ^ 1], 5).unwrap();
    drop(file);
    let report = world.publish(&archive);
    let file = &report["targets"]["main"][0];
    assert!(file["sent_again"].as_bool().unwrap(), "{report}");
    assert_eq!(world.served(), 2);
}

#[test]
fn a_killed_upload_goes_on_where_the_journal_says() {
    let world = World::new();
    let archive = world.large("large", LARGE);
    let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
    let status = command.env("CASTOFF_FAULT", "release.journal.uploading.note.after@2").output().unwrap().status;
    assert_eq!(status.signal(), Some(9));
    let status = answer(world.call(&["release.status", IMAGE, "lxc"]));
    let under_way = &status[IMAGE]["lxc"]["under_way"][0];
    assert_eq!(under_way["targets"]["main"]["debian-lxc-1.tar.xz"]["state"], "uploading", "{status}");
    let report = answer(world.call(&["release.resume"]));
    let file = &report[IMAGE]["lxc"]["targets"]["main"][0];
    assert!(file["resumed_at"].as_u64().unwrap() >= 120 * MIB, "{report}");
    assert_eq!((file["sent_again"].as_bool(), world.served()), (Some(false), 1));
}

#[test]
fn a_full_target_keeps_the_release_before_and_is_used_once_there_is_room() {
    let world = World::new();
    let images = world.images();
    let _small = Small::mount(&images, "2m");
    let small = world.archive("small");
    world.publish(&small);
    let archive = world.large("large", 4);
    let told = world.fail(&archive, 74);
    assert!(told.contains("not enough space at sftp://"), "{told}");
    assert_eq!(world.served(), 1);
    crate::harness::succeed(crate::harness::program("mount").args(["-o", "remount,size=64m"]).arg(&images));
    assert_eq!(world.publish(&archive)["version"], 2);
    assert_eq!(world.served(), 2);
}

#[test]
fn a_full_disk_of_our_own_ends_the_run_and_nothing_else() {
    let world = World::new();
    let small = world.archive("small");
    world.publish(&small);
    let state = world.castoff.state();
    std::fs::remove_dir_all(&state).unwrap();
    std::fs::create_dir(&state).unwrap();
    let _full = Small::mount(&state, "64k");
    let archive = world.archive("next");
    let output = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]).output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    assert_eq!(world.served(), 1);
    crate::harness::succeed(crate::harness::program("mount").args(["-o", "remount,size=64m"]).arg(&state));
    assert_eq!(world.publish(&archive)["version"], 2);
    assert_eq!(world.served(), 2);
}

#[test]
fn a_server_that_declines_the_push_is_quoted_and_the_next_run_goes_on_from_there() {
    let world = World::new();
    let small = world.archive("small");
    world.publish(&small);
    hook(&world.repository(), "pre-receive", "echo 'releases are frozen until Monday' >&2; exit 1");
    let archive = world.archive("next");
    let told = world.fail(&archive, 77);
    assert!(told.contains("push-declined") && told.contains("releases are frozen until Monday"), "{told}");
    assert_eq!((world.served(), names(&world.images()).len()), (1, 2));
    std::fs::remove_file(world.repository().join("hooks/pre-receive")).unwrap();
    let report = world.publish(&archive);
    assert_eq!((&report["version"], &report["targets"]["main"][0]["already_there"]), (&2.into(), &true.into()));
    assert_eq!(world.served(), 2);
}

#[test]
fn somebody_elses_commit_stays_below_ours() {
    let world = World::new();
    let archive = world.archive("one");
    let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
    let status = command.env("CASTOFF_FAULT", "publish.git.before-push").output().unwrap().status;
    assert!(!status.success());
    let other = other_commit(&world.repository(), "unrelated", "content");
    git(&world.repository(), &["update-ref", &format!("refs/heads/{BRANCH}"), &other]);
    assert_eq!(world.publish(&archive)["version"], 1);
    assert_eq!(git(&world.repository(), &["rev-parse", &format!("{BRANCH}^")]), other);
    assert_eq!(world.served(), 1);
}

#[test]
fn a_clock_that_was_put_back_confuses_no_state() {
    let world = World::new();
    let tree = git(&world.repository(), &["rev-parse", &format!("{BRANCH}^{{tree}}")]);
    let mut command = crate::harness::program("git");
    command.arg("-C").arg(world.repository()).args(["-c", "user.name=a", "-c", "user.email=a@b", "commit-tree"]);
    // To that commit's committer it is 2096 already.
    let later = crate::harness::succeed(
        command.args(["-p", BRANCH, "-m", "tomorrow", &tree]).env("GIT_COMMITTER_DATE", "4000000000 +0000"),
    );
    git(&world.repository(), &["update-ref", &format!("refs/heads/{BRANCH}"), later.trim()]);
    for number in 1..=2 {
        let archive = world.archive(&number.to_string());
        let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
        command.env("CASTOFF_FAULT", "release.journal.pushed.done.before").output().unwrap();
        assert_eq!(world.served(), number);
        // Every line says that it was written before the ones above it.
        let journal = std::fs::read_to_string(world.journal(number)).unwrap();
        assert!(journal.lines().count() > 5, "{journal}");
        world.publish(&archive);
        assert_eq!(world.served(), number);
        let time = git(&world.repository(), &["log", "-1", "--format=%ct", BRANCH]);
        assert_eq!(time, (4_000_000_000 + u64::from(number)).to_string());
    }
}

#[test]
fn a_second_run_hears_at_once_that_the_first_is_at_work() {
    let world = World::new();
    let proxy = Proxy::to(world.sshd.port);
    world.configure(proxy.port, "");
    let archive = world.archive("one");
    proxy.hold_replies(true);
    let mut first = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
    let mut first = first.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap();
    until("the first run to connect", || proxy.sent() > 0);
    let begun = Instant::now();
    let told = world.fail(&archive, 73);
    let took = begun.elapsed();
    assert!(told.contains("busy: `debian/lxc` is being released already"), "{told}");
    assert!(told.contains(&format!("process {}", first.id())), "{told}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    proxy.hold_replies(false);
    assert!(first.wait().unwrap().success());
    assert_eq!(world.served(), 1);
}

#[test]
fn a_changed_host_key_stops_before_anything_is_shown_or_sent() {
    let world = World::new();
    let small = world.archive("small");
    world.publish(&small);
    let wrong = world.sshd.path("wrong_hosts");
    let line = public(&world.sshd.path("signer"));
    std::fs::write(&wrong, format!("[127.0.0.1]:{} {line}\n", world.sshd.port)).unwrap();
    let configuration = world.castoff.scratch().join("castoff.yaml");
    let right = std::fs::read_to_string(&configuration).unwrap();
    let known = world.sshd.known_hosts("ed25519", &[world.sshd.port]).display().to_string();
    let archive = world.archive("next");
    // The target's, and the repository's.
    for key in ["known_hosts: ", "git_known_hosts: "] {
        let place = if key.starts_with("git") { format!("  {key}{known}") } else { format!(", {key}{known}") };
        assert!(right.contains(&place), "{right}");
        let text = right.replace(&place, &place.replace(&known, wrong.to_str().unwrap()));
        std::fs::write(&configuration, text).unwrap();
        let accepted = world.sshd.log().matches("Accepted publickey").count();
        let told = world.fail(&archive, 77);
        assert!(told.contains("host key"), "{told}");
        let more = world.sshd.log().matches("Accepted publickey").count() - accepted;
        // The branch was read before the target was tried.
        assert!(if key.starts_with("git") { more == 0 } else { more >= 1 }, "{key} {more}");
        assert_eq!((world.served(), names(&world.images()).len()), (1, 1));
    }
    std::fs::write(&configuration, right).unwrap();
    assert_eq!(world.publish(&archive)["version"], 2);
}

#[test]
fn a_target_that_is_down_keeps_no_other_from_its_files() {
    let world = World::new();
    let mirror = world.sshd.target("mirror");
    let target = world.target(world.sshd.port, &world.sshd.path("not-there"));
    let targets = format!("{{a: {target}, b: {{url: 'file://{}'}}}}", mirror.display());
    world.configure_targets(&targets, "");
    let archive = world.archive("one");
    assert!(world.fail(&archive, 66).contains("is not at the target `a`"));
    assert_eq!((names(&mirror), world.served_from(&mirror)), (vec!["debian-lxc-1.tar.xz".to_owned()], 0));
    world.sshd.target("not-there");
    let report = answer(call(&world.castoff, &["release.resume", IMAGE, "lxc"]));
    let shown = &report[IMAGE]["lxc"]["targets"];
    assert_eq!((&shown["a"][0]["already_there"], &shown["b"][0]["already_there"]), (&false.into(), &true.into()));
    assert_eq!(world.served_from(&mirror), 1);
}

#[test]
fn a_damaged_journal_is_told_and_the_world_says_the_rest() {
    let world = World::new();
    let archive = world.archive("one");
    let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
    command.env("CASTOFF_FAULT", "release.journal.pushed.done.before").output().unwrap();
    let mut bytes = std::fs::read(world.journal(1)).unwrap();
    bytes[20] ^= 1;
    std::fs::write(world.journal(1), bytes).unwrap();
    assert!(world.fail(&archive, 65).contains("is damaged in line 1"));
    std::fs::remove_file(world.journal(1)).unwrap();
    assert_eq!(world.publish(&archive)["outcome"], "unchanged");
    assert_eq!(world.served(), 1);
}

#[test]
fn nothing_is_announced_before_hosts_can_fetch_it() {
    let world = World::new();
    let mirror = world.sshd.target("mirror");
    world.configure(
        world.sshd.port,
        &format!("  public_url: 'file://{}/{{name}}'\n  public_wait: 1\n", mirror.display()),
    );
    let archive = world.archive("one");
    assert!(world.fail(&archive, 69).contains("cannot be fetched"));
    assert_eq!((world.served(), names(&world.images()).len()), (0, 1));
    // Half a file, then all of it.
    let bytes = std::fs::read(&archive).unwrap();
    let there = mirror.join("debian-lxc-1.tar.xz");
    std::fs::write(&there, &bytes[..bytes.len() / 2]).unwrap();
    assert!(world.fail(&archive, 69).contains("cannot be fetched"));
    assert_eq!(world.served(), 0);
    std::fs::write(&there, &bytes).unwrap();
    world.publish(&archive);
    assert_eq!(world.served(), 1);
}
