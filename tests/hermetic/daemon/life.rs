//! Beginning, reload, end, and the handover to the next daemon.

use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use super::{Daemon, PATIENCE, Place, SLOW, begin, finish, release, request, slow_begun, wait_for, with_slow_query};

#[test]
fn the_socket_has_its_mode_from_the_first_moment_and_is_gone_at_the_end() {
    let place = Place::new().with("CASTOFF_SOCKET_MODE", "0660");
    let daemon = place.daemon();
    let found = std::fs::symlink_metadata(place.path("run/c.sock")).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o660);
    assert_eq!(std::fs::metadata(place.path("run")).unwrap().permissions().mode() & 0o777, 0o755);
    let names =
        || std::fs::read_dir(place.path("run")).unwrap().map(|item| item.unwrap().file_name()).collect::<Vec<_>>();
    assert_eq!(names().len(), 2, "{:?}", names());
    assert!(daemon.stop().success());
    assert_eq!(names(), ["c.sock.lock"]);
}

#[test]
fn a_second_daemon_is_refused_and_a_dead_ones_socket_replaced() {
    let place = Place::new();
    let mut first = place.daemon();
    let (code, _, stderr) = place.run(&["daemon"]);
    assert_eq!(code, 73, "{stderr}");
    assert!(stderr.contains("another castoff daemon"), "{stderr}");
    assert_eq!(place.get("/healthz").status, 200);
    first.child.kill().unwrap();
    first.ended();
    assert!(place.path("run/c.sock").exists());
    let second = place.daemon();
    assert_eq!(place.get("/healthz").status, 200);
    assert!(second.stop().success());
}

#[test]
fn what_is_not_a_dead_daemons_socket_is_left_alone() {
    let place = Place::new();
    place.write("run/c.sock", "precious");
    let (code, _, stderr) = place.run(&["daemon"]);
    assert_eq!((code, stderr.contains("is no socket")), (73, true), "{stderr}");
    assert_eq!(std::fs::read_to_string(place.path("run/c.sock")).unwrap(), "precious");
    std::fs::remove_file(place.path("run/c.sock")).unwrap();
    let _other = UnixListener::bind(place.path("run/c.sock")).unwrap();
    let (code, _, stderr) = place.run(&["daemon"]);
    assert_eq!((code, stderr.contains("another program listens")), (73, true), "{stderr}");
    std::fs::set_permissions(place.path("run"), std::fs::Permissions::from_mode(0o777)).unwrap();
    let (code, _, stderr) = place.run(&["daemon"]);
    assert_eq!((code, stderr.contains("others may replace files")), (77, true), "{stderr}");
}

#[test]
fn sigterm_lets_what_is_under_way_finish() {
    for signal in [Signal::TERM, Signal::INT] {
        let place = with_slow_query(Place::new());
        let mut daemon = place.daemon();
        let socket = place.path("run/c.sock");
        let slow = begin(&socket, request("POST", "/v1/call", &[], SLOW).as_bytes());
        slow_begun(&place, 1);
        daemon.signal(signal);
        wait_for("the socket to be gone", || (!socket.exists()).then_some(()));
        release(&place);
        let reply = finish(slow);
        assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
        assert!(daemon.ended().success());
        assert!(place.log().contains("every request is answered"), "{}", place.log());
    }
}

#[test]
fn the_end_does_not_wait_for_ever() {
    let place = with_slow_query(Place::new()).with("CASTOFF_DAEMON_DRAIN", "1");
    let mut daemon = place.daemon();
    let _slow = begin(&place.path("run/c.sock"), request("POST", "/v1/call", &[], SLOW).as_bytes());
    slow_begun(&place, 1);
    daemon.signal(Signal::TERM);
    assert!(daemon.ended().success());
    assert!(place.log().contains("still under way"), "{}", place.log());
    release(&place);
}

#[test]
fn a_broken_configuration_is_told_and_not_taken() {
    let place = Place::new();
    place.write("castoff.yaml", "daemon: {body_size: 1000}");
    let daemon = place.daemon();
    let body = format!("{{\"fun\": \"test.echo\", \"arg\": [\"{}\"]}}", "x".repeat(2000));
    assert_eq!(place.call(&body).status, 413);
    let reload = |text: &str, counter: &str| {
        place.write("castoff.yaml", text);
        daemon.signal(Signal::HUP);
        wait_for(counter, || place.get("/metrics").body.lines().any(|line| line == counter).then_some(()));
    };
    reload("daemon: {body_size: [", "castoff_reloads_failed_total 1");
    assert_eq!(place.call(&body).status, 413);
    let ready = place.get("/readyz");
    assert!(ready.status == 200 && ready.body.contains("the last reload failed"), "{}", ready.body);
    reload("listen: 0.0.0.0:0\ndaemon: {body_size: 1MiB}", "castoff_reloads_failed_total 2");
    assert_eq!(place.call(&body).status, 413);
    reload("daemon: {body_size: 1MiB}", "castoff_reloads_total 1");
    assert_eq!(place.call(&body).status, 200);
    assert!(!place.get("/readyz").body.contains("reload"));
    assert!(daemon.stop().success());
}

/// A daemon that is started as systemd starts one with a socket.
fn activated<'place>(
    place: &'place Place,
    listener: &UnixListener,
    notify: Option<&std::path::Path>,
) -> Daemon<'place> {
    let daemon = place.command(&["daemon"]);
    let mut command = Command::new("/bin/sh");
    command.args([
        "-c",
        "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" daemon 3<&0 </dev/null",
        env!("CARGO_BIN_EXE_castoff"),
    ]);
    command.env_clear().envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener.try_clone().unwrap())));
    if let Some(notify) = notify {
        command.env("NOTIFY_SOCKET", notify);
    }
    place.started(command)
}

#[test]
fn systemd_hands_the_socket_over_and_hears_how_the_daemon_is() {
    let place = Place::new();
    std::fs::create_dir(place.path("run")).unwrap();
    let listener = UnixListener::bind(place.path("run/c.sock")).unwrap();
    let notify = UnixDatagram::bind(place.path("notify")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let heard = || {
        let mut bytes = [0; 256];
        let length = notify.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    };
    let mut daemon = activated(&place, &listener, Some(&place.path("notify")));
    assert_eq!(heard(), "READY=1");
    assert_eq!(place.get("/healthz").status, 200);
    daemon.signal(Signal::HUP);
    let reloading = heard();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(heard(), "READY=1");
    daemon.signal(Signal::TERM);
    assert_eq!(heard(), "STOPPING=1");
    assert!(daemon.ended().success());
    assert!(place.path("run/c.sock").exists(), "the socket is systemd's");
}

#[test]
fn no_request_is_lost_when_the_daemon_is_restarted_behind_systemds_socket() {
    let place = Place::new();
    std::fs::create_dir(place.path("run")).unwrap();
    let listener = UnixListener::bind(place.path("run/c.sock")).unwrap();
    rustix::net::listen(&listener, 1024).unwrap();
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut daemon = activated(&place, &listener, None);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let reply = place.call(r#"{"fun": "test.ping"}"#);
                    assert_eq!(reply.status, 200, "{}", reply.body);
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..4 {
            let before = asked.load(Ordering::Relaxed);
            wait_for("some requests", || (asked.load(Ordering::Relaxed) > before + 50).then_some(()));
            daemon.signal(Signal::TERM);
            assert!(daemon.ended().success());
            daemon = activated(&place, &listener, None);
        }
        let before = asked.load(Ordering::Relaxed);
        wait_for("some requests", || (asked.load(Ordering::Relaxed) > before + 50).then_some(()));
        stop.store(true, Ordering::Relaxed);
    });
    assert!(daemon.stop().success());
}

#[test]
fn callers_in_the_queue_at_the_end_are_answered() {
    let place = with_slow_query(Place::new());
    let mut daemon = place.daemon();
    let socket = place.path("run/c.sock");
    let slow = begin(&socket, request("POST", "/v1/call", &[], SLOW).as_bytes());
    slow_begun(&place, 1);
    // While the daemon stands still these only get as far as the kernel.
    daemon.signal(Signal::STOP);
    let waiting: Vec<_> = (0..20).map(|_| begin(&socket, request("GET", "/healthz", &[], "").as_bytes())).collect();
    daemon.signal(Signal::TERM);
    daemon.signal(Signal::CONT);
    for stream in waiting {
        assert_eq!(finish(stream).status, 200);
    }
    release(&place);
    assert_eq!(finish(slow).status, 200);
    assert!(daemon.ended().success());
}

#[test]
fn an_idle_connection_that_is_kept_may_ask_once_more_at_the_end() {
    let place = Place::new();
    let mut daemon = place.daemon();
    let socket = place.path("run/c.sock");
    let mut kept = begin(&socket, b"GET /healthz HTTP/1.1\r\nHost: castoff\r\n\r\n");
    let mut first = [0; 1024];
    let length = std::io::Read::read(&mut kept, &mut first).unwrap();
    assert!(first[..length].starts_with(b"HTTP/1.1 200"));
    daemon.signal(Signal::TERM);
    wait_for("the socket to be gone", || (!socket.exists()).then_some(()));
    std::thread::sleep(Duration::from_millis(20));
    std::io::Write::write_all(&mut kept, b"GET /healthz HTTP/1.1\r\nHost: castoff\r\n\r\n").unwrap();
    let reply = finish(kept);
    assert_eq!((reply.status, reply.header("connection")), (200, Some("close")));
    assert!(daemon.ended().success());
}
