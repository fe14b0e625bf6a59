//! Publishing into a real bare repository behind a real sshd, judged by git.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use castoff::error::Kind;
use castoff::manifest::{Artefact, Compression, Content, Manifest, Md5, Moment, archive_name};
use castoff::progress::Cancel;
use castoff::publish::git::{Author, Claim, Claimed, Credential, Git, Published, Release, Replacement};
use castoff::sign::ssh::{AllowedSigners, Judge, Key, Revoked, Signer};
use castoff::ssh::{Configuration, Files, Operator, Route, Wishes};
use castoff::vocab::{DiffId, Digest, ReleaseNumber, Secret};

use crate::git_server::{BRANCH, Server, bare, git, hook, other_commit};
use crate::harness::{program, succeed};
use crate::sign::Agent;

/// Release `number` of the image in flavour lxc, with this content.
pub(crate) fn release(image: &str, number: u32, content: &str) -> Release {
    let (image, flavour) = (image.parse().unwrap(), "lxc".parse().unwrap());
    let number = ReleaseNumber::new(number).unwrap();
    let archive = Artefact {
        name: archive_name(&image, &flavour, number, Compression::Xz).unwrap(),
        compression: Compression::Xz,
        size: content.len() as u64,
        sha256: Digest::of(content.as_bytes()),
        md5: Md5::of(content.as_bytes()),
    };
    let digest = Digest::of(content.as_bytes());
    let content = Content { diff_id: DiffId(digest), tar_size: 1, tree: digest, artefacts: vec![archive] };
    let mut manifest = Manifest::new(image, flavour, number, content);
    manifest.expires = Moment(4_000_000_000);
    let bytes = manifest.to_bytes().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let key = crate::publish::servers::key(folder.path(), "signer", "ed25519");
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    let allowed = AllowedSigners::parse(&format!("castoff {public}"), "allowed").unwrap();
    let signature = Signer::new(Key::File(key)).sign(&bytes, &Cancel::new()).unwrap();
    let judge = Judge { allowed: &allowed, revoked: &Revoked::default(), principal: "castoff", at: 0 };
    Release::new(&judge.believe(&bytes, &signature).unwrap(), None).unwrap()
}

/// The number at the branch's tip, all of its files being those of one release; 0 where there is none.
pub(crate) fn whole(repository: &Path, image: &str) -> u32 {
    git(repository, &["fsck", "--strict", "--no-dangling"]);
    let names = git(repository, &["ls-tree", "-r", "--name-only", BRANCH]);
    let own: Vec<&str> = names.lines().filter(|name| name.starts_with(&format!("versions/{image}-lxc_"))).collect();
    if own.is_empty() {
        return 0;
    }
    let prefix = format!("versions/{image}-lxc_");
    let expected =
        ["manifest.json", "manifest.json.sig", "version.txt", "version.txt.md5"].map(|name| prefix.clone() + name);
    assert_eq!(own, expected);
    let show = |name: &str| git(repository, &["show", &format!("{BRANCH}:{prefix}{name}")]);
    let manifest: serde_json::Value = serde_json::from_str(&show("manifest.json")).unwrap();
    assert_eq!(manifest["version"].to_string(), show("version.txt"));
    assert_eq!(manifest["artefacts"][0]["md5"], show("version.txt.md5"));
    show("version.txt").parse().unwrap()
}

fn new_tries(published: Published) -> u32 {
    match published {
        Published::New { tries, .. } => tries,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_release_is_one_commit_with_the_originals_subject_and_files() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let client = server.client(state.path()).author(Author { name: "Quay".into(), email: "quay@example.net".into() });
    assert_eq!(new_tries(client.publish(&release("debian", 1, "one")).unwrap()), 1);
    let repository = server.repository();
    assert_eq!(whole(&repository, "debian"), 1);
    assert_eq!(
        git(&repository, &["log", "-1", "--format=%s|%an|%ae", BRANCH]),
        "new release debian/lxc/1|Quay|quay@example.net"
    );
    // Without a newline, as `wc -c` counts.
    assert_eq!(git(&repository, &["cat-file", "-s", &format!("{BRANCH}:versions/debian-lxc_version.txt")]), "1");
    assert_eq!(git(&repository, &["cat-file", "-s", &format!("{BRANCH}:versions/debian-lxc_version.txt.md5")]), "32");

    assert!(matches!(client.publish(&release("debian", 1, "one")).unwrap(), Published::Already { .. }));
    let highest = ReleaseNumber::FIRST;
    assert_eq!(client.publish(&release("debian", 1, "other")).unwrap(), Published::Conflict { highest });
    client.publish(&release("debian", 3, "three")).unwrap();
    let highest = ReleaseNumber::new(3).unwrap();
    assert_eq!(client.publish(&release("debian", 2, "two")).unwrap(), Published::Conflict { highest });
    client.publish(&release("ubuntu", 1, "one")).unwrap();
    assert_eq!((whole(&repository, "debian"), whole(&repository, "ubuntu")), (3, 1));
    assert_eq!(git(&repository, &["rev-list", "--count", BRANCH]), "4");

    let tip = client.read(&["versions/debian-lxc_version.txt", "versions/none"]).unwrap();
    assert_eq!(tip.commit.unwrap(), git(&repository, &["rev-parse", BRANCH]));
    assert_eq!(tip.files["versions/debian-lxc_version.txt"].as_deref(), Some(&b"3"[..]));
    assert_eq!(tip.files["versions/none"], None);
}

#[test]
fn local_repositories_empty_ones_and_wrong_branches() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.git");
    bare(&path);
    let client = |address: &str, branch: &str| {
        Git::new(address.parse().unwrap(), branch, &folder.path().join("state")).program(env!("CARGO_BIN_EXE_castoff"))
    };
    client(path.to_str().unwrap(), BRANCH).publish(&release("debian", 1, "one")).unwrap();
    client(&format!("file://{}", path.display()), BRANCH).publish(&release("debian", 2, "two")).unwrap();
    assert_eq!(whole(&path, "debian"), 2);
    let error = client(path.to_str().unwrap(), "mian").publish(&release("debian", 3, "x")).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.render().contains("did you mean `main`?"), "{error}");

    let empty = folder.path().join("empty.git");
    std::fs::create_dir(&empty).unwrap();
    git(&empty, &["init", "-q", "--bare", "-b", BRANCH]);
    assert_eq!(client(empty.to_str().unwrap(), BRANCH).read(&["x"]).unwrap().commit, None);
    client(empty.to_str().unwrap(), BRANCH).publish(&release("debian", 1, "one")).unwrap();
    assert_eq!(whole(&empty, "debian"), 1);
    let absent = client("/nonexistent/a.git", BRANCH).read(&[]).unwrap_err();
    assert!(absent.render().contains("/nonexistent/a.git"), "{absent}");
}

#[test]
fn every_kind_of_key_opens_the_door_and_no_secret_is_seen() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let agent = Agent::start(state.path());
    succeed(program("ssh-add").arg("-q").arg(server.path("key")).env("SSH_AUTH_SOCK", &agent.socket));
    let secret = |text: &str| Some(Secret::new(text.to_owned()));
    let read = |name: &str| Secret::new(std::fs::read_to_string(server.path(name)).unwrap());
    // The program records what a look at the process list or its environment would show.
    let spy = state.path().join("spy");
    let seen = state.path().join("seen");
    std::fs::write(
        &spy,
        format!(
            "#!/bin/sh\n{{ echo \"$@\"; env; }} >>{}\nexec {} \"$@\"\n",
            seen.display(),
            env!("CARGO_BIN_EXE_castoff")
        ),
    )
    .unwrap();
    std::fs::set_permissions(&spy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let cases = [
        vec![Credential::File(server.path("key"), None)],
        vec![Credential::File(server.path("locked"), secret("canary-passphrase"))],
        vec![Credential::Memory(read("key"), None)],
        vec![Credential::Memory(read("locked"), secret("canary-passphrase"))],
        vec![Credential::Agent(agent.socket.clone())],
        vec![Credential::File(server.path("stranger"), None), Credential::File(server.path("key"), None)],
    ];
    for (number, credentials) in (1..).zip(cases) {
        assert!(!format!("{credentials:?}").contains("canary") && !format!("{credentials:?}").contains("PRIVATE"));
        let client = server.client(state.path()).program(&spy).credentials(credentials);
        client.publish(&release("debian", number, "x")).unwrap();
        assert_eq!(whole(&server.repository(), "debian"), number);
    }
    let before = server.log().matches("Connection from").count();
    for credentials in [
        vec![],
        vec![Credential::File(server.path("stranger"), None)],
        vec![Credential::File(server.path("locked"), secret("canary-wrong"))],
        vec![Credential::Memory(read("locked"), secret("canary-wrong"))],
        vec![
            Credential::Memory(Secret::new("canary-key".to_owned()), None),
            Credential::File("/nonexistent/key".into(), None),
        ],
    ] {
        let client = server.client(state.path()).program(&spy).credentials(credentials);
        let error = client.publish(&release("debian", 9, "x")).unwrap_err();
        assert!(!format!("{}{client:?}", error.render()).contains("canary"), "{error}");
        assert_eq!(error.kind(), Kind::Refused, "{error:?}");
    }
    assert!(
        server.log().matches("Connection from").count() <= before + 5,
        "refused keys are not offered again and again"
    );
    let seen = std::fs::read_to_string(seen).unwrap();
    assert!(seen.contains("castoff-git") && !seen.contains("canary") && !seen.contains("PRIVATE"), "{seen}");
    assert_eq!(whole(&server.repository(), "debian"), 6);
}

#[test]
fn a_changed_or_unknown_host_key_stops_before_anything_is_sent() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let other = Server::start();
    let listing = succeed(program("ssh-keygen").arg("-lf").arg(server.path("host_ed25519")));
    let fingerprint = listing.split(' ').nth(1).unwrap();
    for pins in [vec![], vec![other.pin("host_ed25519")], vec![other.pin("host_rsa"), other.pin("host_ed25519")]] {
        let error =
            server.client(state.path()).trusted(server.pinned(pins)).publish(&release("debian", 1, "x")).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused, "{error:?}");
        let shown = error.render();
        assert!(
            shown.contains("host key") && (shown.contains("nothing was sent") || shown.contains("ssh-keyscan")),
            "{shown}"
        );
    }
    let log = server.log();
    assert!(!log.contains("publickey") && !log.contains("Accepted"), "{log}");
    // The server prefers its ed25519 key: that the other type is pinned has to be told to it.
    for pins in [
        vec![server.pin("host_rsa")],
        vec![fingerprint.parse().unwrap()],
        vec![other.pin("host_rsa"), server.pin("host_rsa")],
    ] {
        server.client(state.path()).trusted(server.pinned(pins)).read(&[]).unwrap();
    }
}

#[test]
fn a_declined_push_is_an_error_with_the_servers_words() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let client = server.client(state.path());
    let repository = server.repository();
    for name in ["pre-receive", "update"] {
        hook(&repository, name, "echo 'frozen until \u{1b}[1mMonday' >&2; exit 1");
        let error = client.publish(&release("debian", 1, "one")).unwrap_err();
        let shown = error.render();
        assert_eq!(error.kind(), Kind::Refused, "{shown}");
        assert!(
            shown.contains("push-declined") && shown.contains("hook declined") && shown.contains("Monday"),
            "{shown}"
        );
        assert!(!shown.contains('\u{1b}'), "{shown}");
        assert_eq!(whole(&repository, "debian"), 0);
        std::fs::remove_file(repository.join("hooks").join(name)).unwrap();
    }
    assert_eq!(new_tries(client.publish(&release("debian", 1, "one")).unwrap()), 1);
    assert_eq!(whole(&repository, "debian"), 1);
}

/// An `update` hook that puts another commit on the branch while the first push is under way.
fn race(repository: &Path, commit: &str) {
    let script = format!("rm hooks/update && git update-ref refs/heads/{BRANCH} {commit}");
    hook(repository, "update", &script);
}

#[test]
fn an_unrelated_commit_in_between_stays_below_the_release() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let repository = server.repository();
    let other = other_commit(&repository, "README", "hello");
    race(&repository, &other);
    let tries = new_tries(server.client(state.path()).publish(&release("debian", 1, "one")).unwrap());
    assert_eq!((tries, whole(&repository, "debian")), (2, 1));
    assert_eq!(git(&repository, &["rev-parse", &format!("{BRANCH}^")]), other);
    assert_eq!(git(&repository, &["show", &format!("{BRANCH}:README")]), "hello");
}

#[test]
fn another_publisher_of_the_same_number_wins_or_agrees() {
    for (theirs, same) in [("other", false), ("one", true)] {
        let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
        let repository = server.repository();
        // The other publisher's commit is ready before ours, and lands in the middle of our push.
        let begin = git(&repository, &["rev-parse", BRANCH]);
        server.client(state.path()).publish(&release("debian", 1, theirs)).unwrap();
        let other = git(&repository, &["rev-parse", BRANCH]);
        git(&repository, &["update-ref", &format!("refs/heads/{BRANCH}"), &begin]);
        race(&repository, &other);
        let published = server.client(state.path()).publish(&release("debian", 1, "one")).unwrap();
        match published {
            Published::Already { commit } if same => assert_eq!(commit, other),
            Published::Conflict { highest } if !same => assert_eq!(highest, ReleaseNumber::FIRST),
            wrong => panic!("{wrong:?}"),
        }
        assert_eq!((whole(&repository, "debian"), git(&repository, &["rev-parse", BRANCH])), (1, other));
    }
}

#[test]
fn what_makes_no_sense_at_the_tip_is_not_published_over() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let (client, repository) = (server.client(state.path()), server.repository());
    let stand = |name: &str, content: &str| {
        let commit = other_commit(&repository, name, content);
        git(&repository, &["update-ref", &format!("refs/heads/{BRANCH}"), &commit]);
    };
    stand("versions/debian-lxc_version.txt", "");
    assert_eq!(client.publish(&release("debian", 1, "x")).unwrap_err().kind(), Kind::Corrupt);
    // A release by a publisher without manifests.
    stand("versions/debian-lxc_version.txt", "7\n");
    let highest = ReleaseNumber::new(7).unwrap();
    assert_eq!(client.publish(&release("debian", 7, "x")).unwrap(), Published::Conflict { highest });
    stand("versions/debian-lxc_manifest.json", "{\"format\": 2}");
    assert_eq!(client.publish(&release("debian", 8, "x")).unwrap_err().kind(), Kind::Unsupported);
    stand("versions/ubuntu-lxc_manifest.json/x", "x");
    assert_eq!(client.publish(&release("ubuntu", 1, "x")).unwrap_err().kind(), Kind::Conflict);
    stand("folder", "x");
    let below = Replacement {
        subject: "x".to_owned(),
        changes: [("folder/x".to_owned(), Some(b"x".to_vec()))].into(),
        expected: [].into(),
    };
    let error = client.replace(&below).unwrap_err();
    assert!(error.kind() == Kind::Conflict && error.render().contains("`folder` is no folder"), "{error:?}");
    for odd in ["a\nparent 0", "a <b>"] {
        let author = Author { name: odd.to_owned(), email: "a@b".to_owned() };
        let error = server
            .client(state.path())
            .author(author)
            .replace(&Replacement { changes: [("x".to_owned(), Some(b"x".to_vec()))].into(), ..below.clone() });
        assert_eq!(error.unwrap_err().kind(), Kind::Usage, "{odd}");
    }
}

#[test]
fn a_lost_connection_is_told_from_a_lost_release() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let (client, repository) = (server.client(state.path()), server.repository());
    // The branch has moved when the server dies, and nobody says so.
    hook(
        &repository,
        "reference-transaction",
        "[ \"$1\" = committed ] && rm hooks/reference-transaction && kill -9 $PPID; exit 0",
    );
    client.publish(&release("debian", 1, "one")).unwrap();
    assert_eq!(whole(&repository, "debian"), 1);
    // It dies before anything was decided.
    hook(&repository, "pre-receive", "rm hooks/pre-receive; kill -9 $PPID; exit 1");
    let error = client.publish(&release("debian", 2, "two")).unwrap_err();
    assert_eq!((error.kind(), whole(&repository, "debian")), (Kind::Unavailable, 1), "{error:?}");
    client.publish(&release("debian", 2, "two")).unwrap();
    assert_eq!(whole(&repository, "debian"), 2);
}

#[test]
fn a_server_that_is_gone_or_silent_costs_the_deadline_and_no_more() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::start();
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let client = |port: u16, deadline: u64| {
        Git::new(format!("ssh://root@127.0.0.1:{port}/a.git").parse().unwrap(), BRANCH, state.path())
            .program(env!("CARGO_BIN_EXE_castoff"))
            .trusted(server.pinned(vec![server.pin("host_ed25519")]))
            .deadline(Duration::from_secs(deadline))
    };
    let begin = Instant::now();
    let error = client(port, 2).read(&[]).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(client(port, 300).cancelled_by(cancel).read(&[]).unwrap_err().kind(), Kind::Interrupted);
    drop(silent);
    assert_eq!(client(port, 300).read(&[]).unwrap_err().kind(), Kind::Unavailable);
    let left: Vec<_> =
        std::fs::read_dir(state.path().join("git")).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".tmp")), "{left:?}");
}

#[test]
fn eight_publishers_at_once_all_come_through_or_all_but_one_step_back() {
    let server = Server::start();
    let states: Vec<_> = (0..8).map(|_| tempfile::tempdir().unwrap()).collect();
    let all = |image: &(dyn Fn(usize) -> String + Sync), number: u32| -> Vec<Published> {
        std::thread::scope(|scope| {
            let publishers: Vec<_> = states
                .iter()
                .enumerate()
                .map(|(at, state)| {
                    let client = server.client(state.path());
                    let release = release(&image(at), number, &format!("content {at}"));
                    scope.spawn(move || client.publish(&release).unwrap())
                })
                .collect();
            publishers.into_iter().map(|publisher| publisher.join().unwrap()).collect()
        })
    };
    for published in all(&|at| format!("image{at}"), 1) {
        assert!(new_tries(published) <= 8);
    }
    for at in 0..8 {
        assert_eq!(whole(&server.repository(), &format!("image{at}")), 1);
    }
    assert_eq!(git(&server.repository(), &["rev-list", "--count", BRANCH]), "9");
    let one = all(&|_| "same".to_owned(), 1);
    let new = one.iter().filter(|published| matches!(published, Published::New { .. })).count();
    let back =
        one.iter().filter(|published| **published == Published::Conflict { highest: ReleaseNumber::FIRST }).count();
    assert_eq!((new, back), (1, 7), "{one:?}");
    assert_eq!(whole(&server.repository(), "same"), 1);
}

#[test]
fn a_number_is_claimed_by_one_and_given_back_by_that_one() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let client = server.client(state.path());
    let claim = |claimant: &str| Claim {
        image: "debian".parse().unwrap(),
        flavour: "lxc".parse().unwrap(),
        number: ReleaseNumber::FIRST,
        claimant: claimant.to_owned(),
        at: 1_795_224_960,
    };
    let (ours, theirs) = (claim("one\nhost"), claim("two"));
    for _ in 0..2 {
        assert_eq!(client.claim(&ours).unwrap(), Claimed::Ours);
        assert_eq!(client.claim(&theirs).unwrap(), Claimed::Theirs("one\\nhost".to_owned()));
    }
    assert!(git(&server.repository(), &["for-each-ref", "--format=%(refname)"]).contains("refs/claims/debian/lxc/1"));
    assert_eq!(client.drop_claim(&theirs).unwrap_err().kind(), Kind::Conflict);
    client.drop_claim(&ours).unwrap();
    client.drop_claim(&ours).unwrap();
    assert_eq!(client.claim(&theirs).unwrap(), Claimed::Ours);
    let odd = Claim { image: "debian.lock".parse().unwrap(), ..claim("x") };
    assert_eq!(client.claim(&odd).unwrap_err().kind(), Kind::Usage);
    git(&server.repository(), &["fsck", "--strict"]);
}

#[test]
fn files_are_replaced_and_removed_only_as_they_were_known() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let (client, repository) = (server.client(state.path()), server.repository());
    client.publish(&release("debian", 1, "one")).unwrap();
    let path = "versions/debian-lxc_manifest.json".to_owned();
    let bytes = client.read(&[&path]).unwrap().files[&path].clone().unwrap();
    let replacement = |expected: &[u8]| Replacement {
        subject: "withdraw debian/lxc/1".to_owned(),
        changes: [(path.clone(), None)].into(),
        expected: [(path.clone(), Some(Digest::of(expected)))].into(),
    };
    assert_eq!(client.replace(&replacement(b"something else")).unwrap_err().kind(), Kind::Conflict);
    assert_eq!(new_tries(client.replace(&replacement(&bytes)).unwrap()), 1);
    assert!(matches!(client.replace(&replacement(&bytes)).unwrap(), Published::Already { .. }));
    assert!(!git(&repository, &["ls-tree", "-r", "--name-only", BRANCH]).contains("manifest.json\n"));
    for bad in ["../x", "/x", ".git/config", "a//b", "a/.GIT/b", ""] {
        let changes = [(bad.to_owned(), Some(b"x".to_vec()))].into();
        let replacement = Replacement { subject: "x".to_owned(), changes, expected: [].into() };
        assert_eq!(client.replace(&replacement).unwrap_err().kind(), Kind::Usage, "{bad}");
    }
}

#[test]
fn this_machines_git_configuration_leads_nowhere_else() {
    let (server, state) = (Server::start(), tempfile::tempdir().unwrap());
    let etc = state.path().join("etc");
    std::fs::create_dir(&etc).unwrap();
    let trap = format!("[url \"/nonexistent/\"]\n  insteadOf = ssh://root@127.0.0.1:{}/\n", server.port);
    std::fs::write(etc.join("gitconfig"), trap).unwrap();
    // The program with another /etc, in a mount namespace of its own.
    let elsewhere = |name: &str, program: &str| {
        let script = format!(
            "#!/bin/sh\nexec unshare -m sh -c 'mount -t overlay none -o lowerdir={}:/etc /etc && exec \"$0\" \"$@\"' {program} \"$@\"\n",
            etc.display()
        );
        let path = state.path().join(name);
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    let heeding = format!("/usr/bin/env GIT_CONFIG_NOSYSTEM=0 {}", env!("CARGO_BIN_EXE_castoff"));
    let caught = server.client(state.path()).program(elsewhere("heeding", &heeding)).read(&[]).unwrap_err();
    assert!(caught.render().contains("unsupported URL"), "the trap is none: {caught:?}");
    let client = server.client(state.path()).program(elsewhere("as-it-is", env!("CARGO_BIN_EXE_castoff")));
    client.publish(&release("debian", 1, "one")).unwrap();
    client.publish(&release("debian", 2, "two")).unwrap();
    assert_eq!(whole(&server.repository(), "debian"), 2);
}

#[test]
fn the_operators_ssh_configuration_leads_through_a_jump_host() {
    let (server, jump, state) = (Server::start(), Server::start(), tempfile::tempdir().unwrap());
    let known = state.path().join("known_hosts");
    let line = |server: &Server| {
        let key = std::fs::read_to_string(server.path("host_ed25519.pub")).unwrap();
        format!("[127.0.0.1]:{} {key}", server.port)
    };
    std::fs::write(&known, line(&server) + &line(&jump)).unwrap();
    let config = state.path().join("config");
    let text = format!(
        "Host quay\n  HostName 127.0.0.1\n  Port {}\n  User root\n  IdentityFile {}\n  ProxyJump hop\n\
         Host hop\n  HostName 127.0.0.1\n  Port {}\n  User root\n  IdentityFile {}\n\
         Host *\n  UserKnownHostsFile {}\n",
        server.port,
        server.path("key").display(),
        jump.port,
        jump.path("key").display(),
        known.display()
    );
    std::fs::write(&config, text).unwrap();
    let configuration = Configuration::read(&Operator::current().unwrap(), &Files::Only(config)).unwrap();
    let route = Route::plan(&configuration, &"quay".parse().unwrap(), &Wishes::default()).unwrap();
    let address = format!("ssh://quay{}", server.repository().display());
    let client = Git::new(address.parse().unwrap(), BRANCH, state.path())
        .program(env!("CARGO_BIN_EXE_castoff"))
        .along(&route)
        .unwrap();
    client.publish(&release("debian", 1, "one")).unwrap();
    assert_eq!(whole(&server.repository(), "debian"), 1);
    assert!(jump.log().contains("Accepted publickey"), "{}", jump.log());
    drop(jump);
    assert_eq!(client.publish(&release("debian", 2, "two")).unwrap_err().kind(), Kind::Unavailable);
}
