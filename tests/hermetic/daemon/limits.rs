//! Callers that are slow, many or large, and whom they do not hurt.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::{PATIENCE, Place, SLOW, begin, finish, release, request, slow_begun, wait_for, with_slow_query};

#[test]
fn a_head_that_is_too_large_is_refused() {
    let place = Place::new();
    let _daemon = place.daemon();
    let large = "x".repeat(40_000);
    let reply = place.ask("GET", "/healthz", &[("X-Large", &large)], "");
    assert_eq!((reply.status, reply.json()["error"]["kind"].as_str()), (431, Some("limit")));
    // So large that it is not even read, and the answer may be lost with what is still on its way.
    let vast = request("GET", "/healthz", &[("X-Large", &"x".repeat(4_000_000))], "");
    assert!(place.exchange(vast.as_bytes()).is_none_or(|answer| answer.starts_with(b"HTTP/1.1 431")));
    let many: Vec<(String, &str)> = (0..100).map(|number| (format!("X-{number}"), "1")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(place.ask("GET", "/healthz", &many, "").status, 431);
    assert_eq!(place.get(&format!("/{large}")).status, 431);
    for nonsense in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET\r\n\r\n", b"\0\0\0\0\r\n\r\n"] {
        let answer = place.exchange(nonsense).unwrap_or_default();
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(place.get("/healthz").status, 200);
}

#[test]
fn connections_that_send_nothing_are_closed_for_those_that_do() {
    let place = Place::new().with("CASTOFF_DAEMON_CONNECTIONS", "64");
    let _daemon = place.daemon();
    let socket = place.path("run/c.sock");
    let half = "POST /v1/call HTTP/1.1\r\nHost: castoff\r\nContent-Length: 100\r\n\r\n{";
    let mut slow = Vec::new();
    for number in 0..600 {
        slow.push(begin(&socket, if number % 2 == 0 { b"GET /healthz HT" } else { half.as_bytes() }));
        if number % 50 == 0 {
            assert_eq!(place.call(r#"{"fun": "test.ping"}"#).status, 200);
        }
    }
    let value = |name: &str| -> u64 {
        let metrics = place.get("/metrics").body;
        let line = metrics.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    // Those that were told to go are gone in a moment.
    wait_for("no more connections than may be", || (value("castoff_connections") <= 64).then_some(()));
    assert!(value("castoff_connections_evicted_total") >= 500);
}

#[test]
fn a_connection_with_work_under_way_is_not_closed_for_another() {
    let place = with_slow_query(Place::new()).with("CASTOFF_DAEMON_CONNECTIONS", "8");
    let _daemon = place.daemon();
    let socket = place.path("run/c.sock");
    let busy = begin(&socket, request("POST", "/v1/call", &[], SLOW).as_bytes());
    slow_begun(&place, 1);
    let idle: Vec<UnixStream> = (0..100).map(|_| begin(&socket, b"")).collect();
    assert_eq!(place.get("/healthz").status, 200);
    release(&place);
    assert_eq!(finish(busy).status, 200);
    drop(idle);
}

#[test]
fn slow_heads_bodies_and_idle_connections_run_out_of_time() {
    let place = Place::new().with("CASTOFF_DAEMON_IDLE", "1");
    let _daemon = place.daemon();
    let socket = place.path("run/c.sock");
    let closed = |mut stream: UnixStream| {
        let mut rest = Vec::new();
        let _reset = stream.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    };
    let began = Instant::now();
    let head = begin(&socket, b"GET /healthz HTTP/1.1\r\nHost:");
    let silent = begin(&socket, b"");
    let kept = begin(&socket, b"GET /healthz HTTP/1.1\r\nHost: castoff\r\n\r\n");
    let body = begin(&socket, b"POST /v1/call HTTP/1.1\r\nHost: castoff\r\nContent-Length: 10\r\n\r\n{");
    let head = closed(head);
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408"), "{head}");
    assert_eq!(closed(silent), "");
    assert!(closed(kept).starts_with("HTTP/1.1 200"));
    assert!(closed(body).starts_with("HTTP/1.1 408"));
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn a_caller_that_does_not_read_its_answer_is_let_go() {
    let place = Place::new().with("CASTOFF_DAEMON_IDLE", "1");
    let _daemon = place.daemon();
    let mut stream = UnixStream::connect(place.path("run/c.sock")).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    // Pipelined until neither side takes more.
    let question = b"GET /v1/functions HTTP/1.1\r\nHost: castoff\r\n\r\n".repeat(100);
    while stream.write_all(&question).is_ok() {}
    wait_for("the connection to be closed", || {
        let metrics = place.get("/metrics").body;
        metrics.lines().any(|line| line == "castoff_connections 1").then_some(())
    });
}

#[test]
fn a_caller_that_goes_away_takes_nothing_with_it() {
    let place = with_slow_query(Place::new());
    let daemon = place.daemon();
    let socket = place.path("run/c.sock");
    let gone = begin(&socket, request("POST", "/v1/call", &[], SLOW).as_bytes());
    slow_begun(&place, 1);
    drop(gone);
    release(&place);
    assert_eq!(place.call(r#"{"fun": "test.ping"}"#).status, 200);
    assert!(daemon.stop().success());
}
