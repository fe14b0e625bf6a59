//! Getting in: host keys, our keys, the agent, jump hosts, and what the operator's ssh configuration says.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use castoff::error::Kind;
use castoff::progress::Cancel;
use castoff::publish::Access;
use castoff::ssh::{Configuration, Connection, Files, Patience, Route};

use super::servers::{Sshd, key, public, until};
use super::{Run, Sample, access, connect_as, operator};
use crate::harness::succeed;

#[test]
fn a_changed_host_key_ends_it_before_we_say_who_we_are() {
    let sshd = Sshd::start("");
    let folder = sshd.target("images");
    let other = key(&sshd.path(""), "other", "ed25519");
    let mut access = access(&sshd, sshd.port);
    let known = sshd.path("changed");
    std::fs::write(&known, format!("[127.0.0.1]:{} {}\n", sshd.port, public(&other))).unwrap();
    access.wishes.known_hosts = vec![known];
    let error = connect_as(&sshd, sshd.port, &folder, &access).err().unwrap();
    assert_eq!(error.kind(), Kind::Refused);
    let shown = succeed(Command::new("ssh-keygen").arg("-lf").arg(sshd.path("host_ed25519.pub")));
    let fingerprint = shown.split_whitespace().nth(1).unwrap();
    assert!(error.message().contains(fingerprint), "{error}");
    until("the server to see the end", || sshd.log().contains("[preauth]"));
    for word in ["Accepted", "Failed", "authenticating user", "Postponed"] {
        assert!(!sshd.log().contains(word), "{}", sshd.log());
    }
}

#[test]
fn only_pinned_types_are_asked_for_and_pins_are_enough() {
    let sshd = Sshd::start("");
    let folder = sshd.target("images");
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let mut access = access(&sshd, sshd.port);
        access.wishes.known_hosts = vec![sshd.known_hosts(kind, &[sshd.port])];
        connect_as(&sshd, sshd.port, &folder, &access).unwrap();
        access.wishes.known_hosts = vec!["/nonexistent/known_hosts".into()];
        access.wishes.pins = vec![public(&sshd.path(&format!("host_{kind}"))).parse().unwrap()];
        connect_as(&sshd, sshd.port, &folder, &access).unwrap();
    }
    let mut nobody = access(&sshd, sshd.port);
    nobody.wishes.known_hosts = vec!["/nonexistent/known_hosts".into()];
    let error = connect_as(&sshd, sshd.port, &folder, &nobody).err().unwrap();
    assert!(error.message().contains("no host key of"), "{error}");
    // Names that ssh-keygen has hashed.
    let hashed = sshd.known_hosts("ed25519", &[sshd.port]);
    succeed(Command::new("ssh-keygen").args(["-q", "-H", "-f"]).arg(&hashed).stderr(Stdio::null()));
    assert!(std::fs::read_to_string(&hashed).unwrap().starts_with("|1|"));
    nobody.wishes.known_hosts = vec![hashed];
    connect_as(&sshd, sshd.port, &folder, &nobody).unwrap();
}

#[test]
fn keys_of_each_type_and_keys_that_are_refused() {
    let sshd = Sshd::start("");
    let folder = sshd.target("images");
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let file = key(&sshd.path(""), &format!("user_{kind}"), kind);
        let mut access = access(&sshd, sshd.port);
        access.wishes.identity_files = vec![file.clone()];
        let error = connect_as(&sshd, sshd.port, &folder, &access).err().unwrap();
        assert_eq!(error.kind(), Kind::Refused, "{}", error.render());
        assert!(error.message().contains("refused the key"), "{error}");
        sshd.authorize(&file);
        connect_as(&sshd, sshd.port, &folder, &access).unwrap_or_else(|error| panic!("{kind}: {}", error.render()));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = connect_as(&sshd, sshd.port, &folder, &access).err().unwrap();
        assert!(error.message().contains("others may read"), "{error}");
    }
    let mut access = access(&sshd, sshd.port);
    let garbage = sshd.path("garbage");
    std::fs::write(&garbage, "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary-of-the-key\n").unwrap();
    std::fs::set_permissions(&garbage, std::fs::Permissions::from_mode(0o600)).unwrap();
    let strange = key(&sshd.path(""), "strange", "ed25519");
    access.wishes.identity_files = vec![garbage, sshd.path("absent"), strange];
    let error = connect_as(&sshd, sshd.port, &folder, &access).err().unwrap().render();
    assert!(
        error.contains("garbage`: ") && error.contains("absent` does not exist") && error.contains("strange"),
        "{error}"
    );
    assert!(!error.contains("canary"), "{error}");
}

#[test]
fn the_agents_key_is_used_and_only_the_one_that_is_named() {
    let sshd = Sshd::start("");
    let folder = sshd.target("images");
    let socket = sshd.path("agent");
    let mut agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    until("the agent", || socket.exists());
    let noise = key(&sshd.path(""), "noise", "ed25519");
    for file in [&noise, &sshd.path("id")] {
        succeed(Command::new("ssh-add").arg("-q").arg(file).env("SSH_AUTH_SOCK", &socket));
    }
    let mut operator = operator(&sshd.path(""));
    operator.agent = Some(socket);
    let target = format!("sftp://root@127.0.0.1:{}{}", sshd.port, folder.display()).parse().unwrap();
    let mut access = access(&sshd, sshd.port);
    access.wishes.identity_files = Vec::new();
    castoff::publish::open(&target, &access, &operator, &Cancel::new()).unwrap();
    // Named, its private half is not even needed.
    std::fs::rename(sshd.path("id"), sshd.path("gone")).unwrap();
    access.wishes.identity_files = vec![sshd.path("id")];
    let before = sshd.log().matches("Failed publickey").count();
    let result = castoff::publish::open(&target, &access, &operator, &Cancel::new());
    let _stopped = agent.kill();
    let _reaped = agent.wait();
    result.unwrap();
    assert_eq!(sshd.log().matches("Failed publickey").count(), before, "the other key was not offered");
}

#[test]
fn the_way_through_two_jump_hosts_carries_a_whole_upload() {
    let (first, second, target) = (Sshd::start(""), Sshd::start(""), Sshd::start(""));
    let folder = target.target("images");
    for server in [&first, &second] {
        server.authorize(&target.path("id"));
    }
    let known: String = [&first, &second, &target]
        .map(|server| format!("[127.0.0.1]:{} {}\n", server.port, public(&server.path("host_ed25519"))))
        .concat();
    std::fs::write(target.path("known"), known).unwrap();
    let configuration = format!(
        "Host first second target\n  HostName 127.0.0.1\n  User root\n  IdentityFile {0}/id\n  UserKnownHostsFile {0}/known\n\
         Host first\n  Port {1}\nHost second\n  Port {2}\nHost target\n  Port {3}\n  ProxyJump first,second\n",
        target.path("").display(),
        first.port,
        second.port,
        target.port
    );
    std::fs::write(target.path("config"), configuration).unwrap();
    let access = Access { ssh_configuration: Files::Only(target.path("config")), ..Access::default() };
    let url = format!("sftp://target{}", folder.display()).parse().unwrap();
    let mut store = castoff::publish::open(&url, &access, &operator(&target.path("")), &Cancel::new())
        .unwrap_or_else(|error| panic!("{}", error.render()));
    let sample = Sample::new(30 << 20, 10);
    Run::of(&sample, "image-10.tar.xz").run(store.as_mut(), 0).unwrap();
    assert!(sample.is_at(&folder.join("image-10.tar.xz")));
    drop(store);
    assert!(first.log().contains("Accepted publickey") && second.log().contains("Accepted publickey"));
}

#[test]
fn a_server_that_says_nothing_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let sshd = Sshd::start("");
    let access = access(&sshd, port);
    let configuration = Configuration::read(&operator(&sshd.path("")), &Files::Nothing).unwrap();
    let route =
        Route::plan(&configuration, &format!("root@127.0.0.1:{port}").parse().unwrap(), &access.wishes).unwrap();
    let patience = Patience { silence: Duration::from_secs(1), ..Patience::default() };
    let begun = Instant::now();
    let error = Connection::open(&route, patience, &Cancel::new()).err().unwrap();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.render().contains("no sign of life"), "{}", error.render());
    assert!(begun.elapsed() < Duration::from_secs(10));
    let cancel = Cancel::new();
    cancel.cancel();
    assert_eq!(Connection::open(&route, Patience::default(), &cancel).err().unwrap().kind(), Kind::Interrupted);
}

/// What `ssh -G` says of a host under this configuration.
fn told_by_ssh(file: &Path, host: &str, keyword: &str) -> Vec<String> {
    let text = succeed(Command::new("ssh").arg("-G").arg("-F").arg(file).arg(host));
    let of = |line: &str| line.split_once(' ').filter(|(name, _)| *name == keyword).map(|(_, value)| value.to_owned());
    text.lines().filter_map(of).collect()
}

#[test]
fn configurations_mean_what_ssh_says_they_mean() {
    let folder = tempfile::tempdir().unwrap();
    let more = folder.path().join("more.conf");
    std::fs::write(&more, "Host inner*\n  Port 2300\nHost *\n  IdentityFile /keys/%h-%r-%p\n").unwrap();
    let file = folder.path().join("config");
    let text = format!(
        "# comment\nHost a \"b\" !c\n  User = first\n  User second\nHost *.example.org !bad.example.org\n  Port 2200\n\
         HOST short\n  hostname %h.example.org\n\tProxyJump u@jump:2222,other\nInclude {}\nHost c a\n  Port 99 # note\n\
         Host *\n  UserKnownHostsFile /k/one \"/k/t wo\" # end\n  HashKnownHosts yes\n  SendEnv LANG LC_*\n",
        more.display()
    );
    std::fs::write(&file, text).unwrap();
    let configuration = Configuration::read(&operator(folder.path()), &Files::Only(file.clone())).unwrap();
    for host in ["a", "b", "c", "x.example.org", "bad.example.org", "short", "inner1", "else"] {
        let ours = configuration.of(host, None, None).unwrap();
        assert_eq!(told_by_ssh(&file, host, "hostname"), std::slice::from_ref(&ours.host_name), "{host}");
        assert_eq!(told_by_ssh(&file, host, "port"), [ours.port.unwrap_or(22).to_string()], "{host}");
        assert_eq!(told_by_ssh(&file, host, "user"), [ours.user.clone().unwrap_or("root".to_owned())], "{host}");
        let jumps = told_by_ssh(&file, host, "proxyjump");
        let own: Vec<String> = ours.jumps.iter().map(|jump| jump.host.clone()).collect();
        assert_eq!(jumps.concat().contains("jump"), own == ["jump", "other"], "{host}");
    }
    let ours = configuration.of("short", None, None).unwrap();
    assert_eq!(ours.identity_files, [Path::new("/keys/short.example.org-root-22")]);
    assert_eq!(ours.known_hosts.unwrap()[..2], [Path::new("/k/one"), Path::new("/k/t wo")]);
}

#[test]
fn the_system_file_of_this_debian_works() {
    let home = tempfile::tempdir().unwrap();
    let configuration = Configuration::read(&operator(home.path()), &Files::Usual).unwrap();
    configuration.of("web.sourceforge.net", None, None).unwrap();
}
