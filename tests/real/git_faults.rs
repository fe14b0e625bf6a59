//! SIGKILL at every point of publishing and of bringing a checkout forward, damage to the clone, a clock put back, judged by
//! git: a whole release, before and after.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use castoff::publish::git::{Git, Published, Replacement};
use castoff::vocab::ReleaseNumber;

use crate::git::{release, whole};
use crate::git_server::{BRANCH, Server, bare, git};
use crate::harness::{program, succeed};

/// The binary with a variable of fault injection in its environment.
fn program_with(folder: &Path, variable: &str, value: &str) -> PathBuf {
    let path = folder.join("with-fault");
    std::fs::write(&path, format!("#!/bin/sh\n{variable}='{value}' exec {} \"$@\"\n", env!("CARGO_BIN_EXE_castoff")))
        .unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn points(log: &Path) -> BTreeMap<String, usize> {
    let mut points = BTreeMap::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        *points.entry(line.to_owned()).or_default() += 1;
    }
    points
}

#[test]
fn a_killed_publisher_leaves_a_whole_release_and_the_next_run_finishes() {
    let server = Server::start();
    let repository = server.repository();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("points");
    let state = folder.path().join("state");
    let recorder = program_with(folder.path(), "CASTOFF_FAULT_LOG", log.to_str().unwrap());
    server.client(&state).program(recorder).publish(&release("debian", 1, "1")).unwrap();
    let points = points(&log);
    for expected in ["clone-made", "fetched", "committed", "before-push", "pushing", "pushed", "proved"] {
        assert!(points.contains_key(&format!("publish.git.{expected}")), "{expected} in {points:?}");
    }
    let mut number = 1;
    for (point, count) in &points {
        for nth in 1..=*count {
            number += 1;
            let at = format!("{point}@{nth}");
            // A fresh clone now and then: its making can be cut off too.
            if point.contains("clone-made") || number % 5 == 0 {
                std::fs::remove_dir_all(&state).unwrap();
            }
            let next = release("debian", number, &number.to_string());
            let killer = program_with(folder.path(), "CASTOFF_FAULT", &at);
            if let Ok(published) = server.client(&state).program(killer).publish(&next) {
                // How often libgit2 tells of its progress is a matter of time.
                assert!(point == "publish.git.pushing" && nth > 1, "{at} was not reached: {published:?}");
                continue;
            }
            let served = whole(&repository, "debian");
            assert!(
                served == number - 1 || served == number,
                "killed at {at}: {served} is served, {number} was published"
            );
            server.client(&state).publish(&next).unwrap();
            assert_eq!(whole(&repository, "debian"), number, "after {at}");
        }
    }
    let left: Vec<_> = std::fs::read_dir(state.join("git")).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "{left:?}");
}

#[test]
fn a_checkout_never_shows_a_version_before_its_md5() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let (state, checkout) = (folder.path().join("state"), folder.path().join("checkout"));
    let client = server.client(&state);
    client.publish(&release("debian", 1, "1")).unwrap();
    git(folder.path(), &["clone", "-q", server.repository().to_str().unwrap(), "checkout"]);
    let read = |name: &str| {
        std::fs::read_to_string(checkout.join("versions/debian-lxc_").as_os_str().to_str().unwrap().to_owned() + name)
            .unwrap()
    };
    let clean = || {
        assert_eq!(git(&checkout, &["status", "--porcelain"]), "");
        git(&checkout, &["rev-parse", "HEAD"])
    };
    let log = folder.path().join("points");
    let recorder = program_with(folder.path(), "CASTOFF_FAULT_LOG", log.to_str().unwrap());
    client.publish(&release("debian", 2, "2")).unwrap();
    let tip = server.client(&state).program(recorder).fast_forward(&checkout).unwrap();
    assert_eq!((clean(), read("version.txt").as_str()), (tip, "2"));

    // Every rename of a file is such a point too.
    let mut number = 2;
    let mut between = 0;
    for (point, count) in &points(&log) {
        for nth in 1..=*count {
            number += 1;
            let before = (read("version.txt"), read("version.txt.md5"));
            client.publish(&release("debian", number, &number.to_string())).unwrap();
            let at = format!("{point}@{nth}");
            let killer = program_with(folder.path(), "CASTOFF_FAULT", &at);
            server.client(&state).program(killer).fast_forward(&checkout).unwrap_err();
            let (version, md5) = (read("version.txt"), read("version.txt.md5"));
            assert!(version == before.0 || md5 != before.1, "killed at {at}: a new version with an old MD5");
            between += usize::from(version == before.0 && md5 != before.1);
            client.fast_forward(&checkout).unwrap();
            assert_eq!(
                (clean(), read("version.txt")),
                (git(&server.repository(), &["rev-parse", BRANCH]), number.to_string())
            );
        }
    }
    assert!(between > 0, "no kill came between the two files");
    assert_eq!(client.fast_forward(&checkout).unwrap(), clean());
}

#[test]
fn a_checkout_that_somebody_works_in_is_left_alone() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let checkout = folder.path().join("checkout");
    let client = server.client(&folder.path().join("state"));
    client.publish(&release("debian", 1, "1")).unwrap();
    git(folder.path(), &["clone", "-q", server.repository().to_str().unwrap(), "checkout"]);
    client.publish(&release("debian", 2, "2")).unwrap();
    let version = checkout.join("versions/debian-lxc_version.txt");
    let refused = |why: &str| {
        let error = client.fast_forward(&checkout).unwrap_err();
        assert!(error.render().contains(why), "{why}: {}", error.render());
    };
    std::fs::write(&version, "mine").unwrap();
    refused("was changed there");
    assert_eq!(std::fs::read_to_string(&version).unwrap(), "mine");
    git(&checkout, &["add", "-A"]);
    refused("staged");
    git(&checkout, &["commit", "-q", "-m", "mine"]);
    refused("commits that the branch has not");
    git(&checkout, &["checkout", "-q", "-b", "other"]);
    refused("not on the branch");
    git(&checkout, &["checkout", "-q", BRANCH]);
    git(&checkout, &["reset", "-q", "--hard", "HEAD~1"]);
    std::fs::rename(checkout.join("versions"), folder.path().join("away")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("away"), checkout.join("versions")).unwrap();
    refused("is none");
    assert_eq!(std::fs::read_to_string(folder.path().join("away/debian-lxc_version.txt")).unwrap(), "1");
}

#[test]
fn a_broken_clone_is_made_anew() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let client = server.client(state.path());
    client.publish(&release("debian", 1, "one")).unwrap();
    let clone = std::fs::read_dir(state.path().join("git"))
        .unwrap()
        .map(|item| item.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "git"))
        .unwrap();
    for broken in ["objects", "HEAD", "refs"] {
        let path = clone.join(broken);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).unwrap()
        } else {
            std::fs::write(&path, "x").unwrap()
        }
        assert_eq!(client.read(&["versions/debian-lxc_version.txt"]).unwrap().files.len(), 1, "{broken}");
    }
    client.publish(&release("debian", 2, "two")).unwrap();
    assert_eq!(whole(&server.repository(), "debian"), 2);
}

/// Every file below the folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|item| item.unwrap().path())
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .collect();
    found.sort();
    found
}

#[test]
fn whatever_a_power_failure_leaves_of_the_clone_costs_no_release() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let client = server.client(state.path());
    let publish = |number: u32| {
        client.publish(&release("debian", number, &number.to_string())).unwrap();
        assert_eq!(whole(&server.repository(), "debian"), number);
    };
    publish(1);
    publish(2);
    let clone = files(&state.path().join("git")).into_iter().find(|path| path.ends_with("HEAD")).unwrap();
    let clone = clone.parent().unwrap();
    let mut number = 2;
    for round in 0..24 {
        let objects = files(&clone.join("objects"));
        let path = &objects[round % objects.len()];
        let mut bytes = std::fs::read(path).unwrap();
        std::fs::remove_file(path).unwrap();
        match round % 4 {
            0 => bytes.clear(),
            1 => bytes.truncate(bytes.len() / 2),
            2 => {
                let middle = bytes.len() / 2;
                bytes[middle] ^= 0x10;
            }
            _ => {}
        }
        if round % 4 < 3 {
            std::fs::write(path, bytes).unwrap();
        }
        number += 1;
        publish(number);
    }
}

#[test]
fn time_goes_on_where_a_clock_was_put_back() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let repository = server.repository();
    let tree = git(&repository, &["rev-parse", &format!("{BRANCH}^{{tree}}")]);
    let mut command = program("git");
    command.arg("-C").arg(&repository).args(["-c", "user.name=a", "-c", "user.email=a@b", "commit-tree", "-p", BRANCH]);
    let later = succeed(command.args(["-m", "tomorrow", &tree]).env("GIT_COMMITTER_DATE", "4000000000 +0200"));
    git(&repository, &["update-ref", &format!("refs/heads/{BRANCH}"), later.trim_end()]);
    server.client(state.path()).publish(&release("debian", 1, "one")).unwrap();
    assert_eq!(git(&repository, &["log", "-1", "--format=%at %ct", BRANCH]), "4000000001 4000000001");
}

#[test]
fn a_withdrawn_number_is_used_up_even_for_what_had_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.git");
    bare(&path);
    let client = Git::new(path.to_str().unwrap().parse().unwrap(), BRANCH, &folder.path().join("state"))
        .program(env!("CARGO_BIN_EXE_castoff"));
    client.publish(&release("debian", 1, "one")).unwrap();
    let names = ["manifest.json", "manifest.json.sig", "version.txt", "version.txt.md5"];
    let mut changes: BTreeMap<String, Option<Vec<u8>>> =
        names.iter().map(|name| (format!("versions/debian-lxc_{name}"), None)).collect();
    changes.insert("versions/debian-lxc_withdrawn.txt".to_owned(), Some(b"1".to_vec()));
    client.replace(&Replacement { subject: "withdraw".into(), changes, expected: [].into() }).unwrap();
    let highest = ReleaseNumber::FIRST;
    for content in ["one", "other"] {
        assert_eq!(client.publish(&release("debian", 1, content)).unwrap(), Published::Conflict { highest });
    }
    assert!(matches!(client.publish(&release("debian", 2, "one")).unwrap(), Published::New { .. }));
}
