//! The daemon as root, asked by users of several groups: the kernel says who asks, their groups what they may.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::harness::{Castoff, program, succeed};

/// A user without any group of ours.
const NOBODY: &str = "65534";

/// A group every Debian has, which stands for `salt`.
const SALT_GROUP: &str = "games";

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A daemon whose socket lies where every user may reach it, open to all: so that only the daemon decides.
fn daemon(castoff: &Castoff) -> (tempfile::TempDir, String, Daemon) {
    use std::os::unix::fs::PermissionsExt as _;
    for group in ["castoff", "castoff-admin"] {
        succeed(program("groupadd").args(["--system", "--force", group]));
    }
    let folder = tempfile::Builder::new().prefix("castoff-daemon").tempdir_in("/var/tmp").unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let socket = folder.path().join("c.sock").display().to_string();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut command =
        castoff.command(["daemon", "--socket", &socket, "--socket-mode=0666", "--salt-group", SALT_GROUP]);
    let child = command.stderr(log).stdout(Stdio::null()).spawn().unwrap();
    let daemon = Daemon(child);
    let began = Instant::now();
    while curl(&["/healthz"], &socket, &["--reuid=0", "--regid=0", "--clear-groups"]).0 != 200 {
        assert!(began.elapsed() < Duration::from_secs(30), "the daemon does not answer");
        std::thread::sleep(Duration::from_millis(20));
    }
    (folder, socket, daemon)
}

/// Status and body that `curl` gets as this user.
fn curl(arguments: &[&str], socket: &str, identity: &[&str]) -> (u16, String) {
    let (path, more) = arguments.split_first().unwrap();
    let mut command: Command = program("setpriv");
    command.args(identity).args(["curl", "-sS", "--unix-socket", socket, "-w", "\n%{http_code}"]).args(more);
    let output = command.arg(format!("http://castoff{path}")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
    (status.parse().unwrap_or(0), body.to_owned())
}

#[test]
fn groups_decide_what_a_user_may_call() {
    let castoff = Castoff::new();
    let (folder, socket, _daemon) = daemon(&castoff);
    let identity = |group: &str| {
        let regid = format!("--regid={group}");
        [format!("--reuid={NOBODY}"), regid, "--clear-groups".to_owned()]
    };
    let call = |identity: &[String], body: &str| {
        let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
        curl(&["/v1/call", "-d", body], &socket, &identity)
    };
    let ping = r#"{"fun": "test.ping"}"#;
    let change = r#"{"fun": "image.gc", "kwarg": {"test": true}}"#;
    let shadow = r#"{"fun": "image.inspect", "arg": ["tar:/etc/shadow"]}"#;
    for (group, rights) in [
        ("nogroup", [403, 403, 403]),
        (SALT_GROUP, [200, 403, 403]),
        ("castoff", [200, 403, 403]),
        // Both can take long: they are jobs.
        ("castoff-admin", [200, 202, 202]),
    ] {
        let statuses = [ping, change, shadow].map(|body| call(&identity(group), body).0);
        assert_eq!(statuses, rights, "{group}");
    }
    let (status, body) = call(&identity("castoff"), change);
    let error: Json = serde_json::from_str(&body).unwrap();
    assert_eq!((status, error["error"]["kind"].as_str()), (403, Some("refused")));
    assert!(error["error"]["hint"].as_str().unwrap().contains("castoff-admin"), "{body}");
    for (path, member, admin) in
        [("/v1/log-level", 403, 200), ("/v1/jobs", 200, 200), ("/metrics", 200, 200), ("/v1/functions", 200, 200)]
    {
        let ask = |group: &str| {
            let identity = identity(group);
            curl(&[path], &socket, &identity.iter().map(String::as_str).collect::<Vec<_>>()).0
        };
        assert_eq!((ask("castoff"), ask("castoff-admin")), (member, admin), "{path}");
    }
    let pillar = |group: &str| {
        let identity = identity(group);
        curl(&["/v1/pillar/web-1"], &socket, &identity.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let (status, body) = pillar("nogroup");
    assert!(status == 403 && body.starts_with("{\"_errors\": "), "{body}");
    assert_ne!(pillar("castoff").0, 403);
    let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains("uid 65534") && log.contains("refused"), "{log}");
}

/// A user of the name services, whose groups are not those of the process that asks.
#[test]
fn memberships_come_from_the_name_services_too() {
    let castoff = Castoff::new();
    let (_folder, socket, _daemon) = daemon(&castoff);
    let name = format!("castoff-test-{}", std::process::id());
    succeed(program("useradd").args(["--system", "--no-create-home", "--groups", "castoff", &name]));
    let id = succeed(Command::new("id").args(["-u", &name])).trim().to_owned();
    let uid = format!("--reuid={id}");
    let identity = [uid.as_str(), "--regid=65534", "--clear-groups"];
    let found = [r#"{"fun": "test.ping"}"#, r#"{"fun": "image.gc", "kwarg": {"test": true}}"#]
        .map(|body| curl(&["/v1/call", "-d", body], &socket, &identity).0);
    succeed(program("userdel").arg(&name));
    assert_eq!(found, [200, 403]);
}

#[test]
fn a_socket_that_keeps_a_user_out_is_an_error_for_them() {
    let castoff = Castoff::new();
    let (folder, socket, _daemon) = daemon(&castoff);
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).unwrap();
    let state = folder.path().join("state");
    let output = program("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_castoff")])
        .args(["pillar", "--", "web-1"])
        .env("CASTOFF_CONFIG", "/dev/null")
        .env("CASTOFF_STATE_DIR", &state)
        .env("CASTOFF_SOCKET", &socket)
        .output()
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(77), "{stdout}{stderr}");
    assert!(stdout.starts_with("{\"_errors\": ["), "{stdout}");
    assert!(stderr.contains("may not connect"), "{stderr}");
}

/// The usual root of a machine of its own: an `/etc` with nothing else, which only the daemon sees.
#[test]
fn a_database_that_vanishes_from_the_usual_root_is_a_broken_source() {
    for (policy, is_answered) in [("fail", false), ("last-good", true)] {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir_all(path("castoff/pillar")).unwrap();
        let database = path("castoff/pillar/database.yaml");
        std::fs::write(&database, "vms: {lxc: {node: [web-1]}}\n").unwrap();
        let script =
            "mount -t tmpfs etc /etc && mkdir /etc/castoff && mount --bind \"$1\" /etc/castoff && shift && exec \"$@\"";
        let mut command = program("unshare");
        command.args(["--mount", "sh", "-c", script, "sh", &path("castoff"), env!("CARGO_BIN_EXE_castoff"), "daemon"]);
        command.args(["--socket", &path("c.sock"), "--state-dir", &path("state")]);
        command
            .env("CASTOFF_CONFIG", "/dev/null")
            .env("CASTOFF_ON_ERROR", policy)
            .env("CASTOFF_MINION_ID", "controller");
        let _daemon = Daemon(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let root = ["--reuid=0", "--regid=0", "--clear-groups"];
        let began = Instant::now();
        while curl(&["/v1/pillar/web-1"], &path("c.sock"), &root).0 != 200 {
            assert!(began.elapsed() < Duration::from_secs(30), "the daemon does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::rename(&database, format!("{database}.off")).unwrap();
        let (status, body) = curl(&["/v1/pillar/web-1"], &path("c.sock"), &root);
        assert_eq!(status == 200, is_answered, "{policy}: {status} {body}");
        assert_eq!(body.starts_with("{\"_errors\": "), !is_answered, "{policy}: {body}");
        // Settings are not those of a host without a database either.
        let call = r#"{"fun": "mc_cloud_images.settings"}"#;
        let (status, body) = curl(&["/v1/call", "-d", call], &path("c.sock"), &root);
        assert_eq!(status == 200, is_answered, "{policy}: {status} {body}");
    }
}

/// systemd reads the units as they are; what it says about the missing binary is not about them.
#[test]
fn the_units_are_what_systemd_takes() {
    let folder = tempfile::tempdir().unwrap();
    let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/systemd");
    for name in ["castoff.service", "castoff.socket"] {
        let text = std::fs::read_to_string(source.join(name)).unwrap();
        let text = text.replace("/usr/bin/castoff", env!("CARGO_BIN_EXE_castoff"));
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let units = ["castoff.service", "castoff.socket"].map(|name| folder.path().join(name));
    let output = program("systemd-analyze").arg("verify").args(units).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<&str> = told.lines().filter(|line| line.contains("castoff")).collect();
    assert!(ours.is_empty(), "{ours:?}");
}
