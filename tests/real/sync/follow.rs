//! The good days: releases come, hosts follow, operators go back and forth.

use serde_json::{Value, json};

use super::publisher::{FLAVOUR, IMAGE, Publisher, size};
use super::{assert_is, call, current, facts, host, run, status, trees};
use crate::harness::{Castoff, program, succeed};
use crate::publish::servers::{Apache, Sshd};

const PUBLIC: &str = "<DirectoryMatch \"/pub(/|$)\">\nRequire all granted\n</DirectoryMatch>\n";

/// Apache with an open folder, and a publisher to it.
pub(super) fn web() -> (Apache, Publisher) {
    let apache = Apache::start_with(false, PUBLIC);
    let url = format!("http://127.0.0.1:{}/pub", apache.port);
    let publisher = Publisher::new(&apache.path("pub"), &url);
    succeed(program("chmod").arg("755").arg(apache.path("")));
    (apache, publisher)
}

#[test]
fn a_host_follows_over_patches_keeps_earlier_releases_and_goes_back() {
    let (_apache, mut publisher) = web();
    let host = host(&publisher, &publisher.url);
    publisher.release(1, 1, &[]);
    let first = run(&host);
    assert_eq!(
        (&first["result"], &first["route"], &first["from"], &first["to"]),
        (&json!(true), &json!("full"), &Value::Null, &json!(1)),
        "{first:#}"
    );
    assert_is(&host, &publisher, 1);
    let again = run(&host);
    assert_eq!((&again["changed"], &again["why"]), (&json!(false), &json!("release 1 is current")), "{again:#}");

    for number in 2..=5 {
        let from: Vec<u32> = (number.max(4) - 3..number).collect();
        publisher.release(number, 1, &from);
        let plan = call(&host, &["sync.run", "test=True"])["images"][format!("{IMAGE}/{FLAVOUR}")].clone();
        assert_eq!((&plan["result"], &plan["to"], &plan["route"]), (&Value::Null, &json!(number), &json!("1 patch")));
        assert_eq!(run_is_at(&host), number - 1, "a plan changes nothing");
        let report = run(&host);
        assert_eq!((&report["result"], &report["route"]), (&json!(true), &json!("1 patch")), "{report:#}");
        let (moved, full) = (report["moved"].as_u64().unwrap(), size(&publisher.archive_path(number)));
        assert!(moved * 20 < full, "{moved} bytes moved, the whole has {full}");
        assert_is(&host, &publisher, number);
    }
    let found = status(&host);
    assert_eq!(
        (&found["current"], &found["kept"], &found["highest"]),
        (&json!(5), &json!([3, 4, 5]), &json!(5)),
        "{found:#}"
    );
    assert!(!trees(&host).join("2").exists());
    assert_eq!(facts(&trees(&host).join("3")), facts(&publisher.tree(3)));

    // Back, and staying there, and forward again.
    let back = call(&host, &["sync.rollback", IMAGE]);
    assert_eq!((&back["to"], &back["pin"]), (&json!(4), &json!(4)), "{back:#}");
    assert_is(&host, &publisher, 4);
    let held = run(&host);
    assert_eq!(
        (&held["result"], &held["why"]),
        (&json!(true), &json!("pinned to release 4, release 4 is current")),
        "{held:#}"
    );
    call(&host, &["sync.unpin", IMAGE]);
    let forward = run(&host);
    assert_eq!((&forward["to"], &forward["route"]), (&json!(5), &json!("none")), "{forward:#}");
    assert_is(&host, &publisher, 5);

    // Pinned, a host does not follow, and keeps what it is pinned to.
    let pinned = call(&host, &["sync.pin", &format!("{IMAGE}/{FLAVOUR}"), "3"]);
    assert_eq!(pinned["to"], 3);
    for number in 6..=8 {
        publisher.release(number, 1, &[number - 1]);
        assert_eq!(run(&host)["to"], 3);
    }
    call(&host, &["sync.unpin", IMAGE]);
    let report = run(&host);
    // The patches of two releases in between were not seen: only a full file leads from what is held.
    assert_eq!(
        (&report["result"], &report["route"], &report["to"]),
        (&json!(true), &json!("full"), &json!(8)),
        "{report:#}"
    );
    assert_is(&host, &publisher, 8);
    let error = call(&host, &["sync.pin", IMAGE, "1"]);
    assert_eq!(error["to"], 8);
    let report = run(&host);
    assert_eq!((&report["result"], &report["kind"]), (&json!(false), &json!("not-found")), "{report:#}");
    assert_is(&host, &publisher, 8);
}

fn run_is_at(castoff: &Castoff) -> u32 {
    std::fs::read_link(current(castoff)).unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn a_chain_of_patches_is_followed_and_a_damaged_base_costs_the_whole_file() {
    let (_folder, mut publisher) = Publisher::local();
    let host = host(&publisher, &publisher.url);
    publisher.release(1, 1, &[]);
    assert_eq!(run(&host)["result"], true);
    for number in 2..=4 {
        publisher.grow(number, 1);
        publisher.pack(number);
        publisher.announce(number, &[number - 1]);
        let row = publisher.published()["patches"][0].clone();
        std::fs::write(publisher.place.join(format!("row-{number}")), row.to_string()).unwrap();
    }
    publisher.change("key", |manifest| {
        let rows = (2..=4).map(|number| std::fs::read_to_string(host_row(&manifest["urls"][0], number)).unwrap());
        manifest["patches"] = rows.map(|row| serde_json::from_str::<Value>(&row).unwrap()).collect();
    });
    let report = run(&host);
    assert_eq!((&report["result"], &report["route"]), (&json!(true), &json!("3 patches")), "{report:#}");
    assert_is(&host, &publisher, 4);

    publisher.release(5, 1, &[4]);
    for kept in super::names(&host.state().join("sync/tars")) {
        let mut bytes = std::fs::read(&kept).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&kept, bytes).unwrap();
    }
    let report = run(&host);
    assert_eq!((&report["result"], &report["route"]), (&json!(true), &json!("full")), "{report:#}");
    assert!(report["warnings"][0].as_str().unwrap().contains("fetching the whole file instead"), "{report:#}");
    assert_is(&host, &publisher, 5);
}

fn host_row(url: &Value, number: u32) -> String {
    url.as_str().unwrap().replace("file://", "").replace("{name}", &format!("row-{number}"))
}

#[test]
fn manifests_and_files_come_from_git_from_sftp_and_from_a_mirror() {
    let sshd = Sshd::start("");
    let place = sshd.target("served");
    let mut publisher = Publisher::new(&place, &format!("sftp://root@127.0.0.1:{}{}", sshd.port, place.display()));
    publisher.release(1, 2, &[]);
    let with_keys = |host: Castoff| {
        host.with("CASTOFF_SYNC_IDENTITY_FILE", sshd.path("id").display().to_string())
            .with("CASTOFF_SYNC_KNOWN_HOSTS", sshd.known_hosts("ed25519", &[sshd.port]).display().to_string())
    };
    let repository = tempfile::tempdir().unwrap();
    let git = |arguments: &[&str]| {
        let mut command = program("git");
        command.current_dir(repository.path()).args(["-c", "user.name=x", "-c", "user.email=x@localhost"]);
        succeed(command.args(arguments));
    };
    git(&["init", "-q", "-b", "main"]);
    succeed(program("cp").arg("-r").arg(place.join("versions")).arg(repository.path()));
    git(&["add", "."]);
    git(&["commit", "-qm", "new release"]);
    let over_ssh = format!("git:ssh://root@127.0.0.1:{}{}", sshd.port, repository.path().display());
    let local = format!("git:{}", repository.path().display());
    for source in [publisher.url.clone(), over_ssh, local] {
        let host = with_keys(host(&publisher, &source));
        let report = run(&host);
        assert_eq!(report["result"], true, "{source}: {report:#}");
        assert!(report["moved"].as_u64().unwrap() >= size(&publisher.archive_path(1)), "{report:#}");
        assert_is(&host, &publisher, 1);
    }
    // The mirror is asked first; one that has nothing costs a warning on the way, not the release.
    let mirror = tempfile::tempdir().unwrap();
    for has_it in [false, true] {
        if has_it {
            std::fs::copy(
                publisher.archive_path(1),
                mirror.path().join(publisher.archive_path(1).file_name().unwrap()),
            )
            .unwrap();
        }
        let host = host(&publisher, &format!("file://{}", place.display()))
            .with("CASTOFF_SYNC_MIRROR", format!("file://{}/{{name}}", mirror.path().display()));
        let host = if has_it { host } else { with_keys(host) };
        let report = run(&host);
        assert_eq!(report["result"], true, "{report:#}");
        assert_is(&host, &publisher, 1);
    }
}

#[test]
fn the_short_command_tells_a_person_and_one_process_works_at_a_time() {
    let (_folder, mut publisher) = Publisher::local();
    let host = host(&publisher, &publisher.url);
    publisher.release(1, 1, &[]);
    let plan = host.run(["sync", "--test"]);
    assert!(plan.contains("route:\n") || plan.contains("route"), "{plan}");
    assert!(!current(&host).exists());
    let told = host.run(["sync", IMAGE]);
    assert!(told.contains("it is served"), "{told}");
    assert_is(&host, &publisher, 1);
    host.fail(["sync", "nothing-like-it"], 66);
    let lock = host.state().join("sync/images").join(IMAGE).join(FLAVOUR).join("lock");
    let file = std::fs::File::open(&lock).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let begun = std::time::Instant::now();
    let busy = run(&host);
    assert_eq!((&busy["result"], &busy["kind"]), (&json!(false), &json!("conflict")), "{busy:#}");
    assert!(begun.elapsed().as_secs() < 5);
}
