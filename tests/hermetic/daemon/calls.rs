//! `POST /v1/call` and what describes it.

use serde_json::json;

use super::{Place, SLOW, begin, finish, release, request, slow_begun, with_slow_query};

#[test]
fn a_call_gives_value_code_and_request_id() {
    let place = Place::new();
    let _daemon = place.daemon();
    let reply = place.ask(
        "POST",
        "/v1/call",
        &[("X-Request-Id", "ci-42.a_b")],
        r#"{"fun": "test.arg", "arg": [1, "two", null], "kwarg": {"é": [true, 1.5]}}"#,
    );
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-request-id"), Some("ci-42.a_b"));
    let value = json!({"args": [1, "two", null], "kwargs": {"é": [true, 1.5]}});
    assert_eq!(reply.json(), json!({"return": value, "retcode": 0, "request_id": "ci-42.a_b"}));
    assert_eq!(place.call(r#"{"fun": "test.false"}"#).json()["retcode"], 1);
    assert_eq!(place.call(r#"{"fun": "test.retcode", "arg": [7]}"#).json()["retcode"], 7);
}

#[test]
fn a_request_id_that_could_forge_a_line_of_the_log_is_replaced() {
    let place = Place::new();
    let _daemon = place.daemon();
    let long = "x".repeat(65);
    for odd in ["a b", "a\"b", "é", "", long.as_str()] {
        let reply = place.ask("GET", "/healthz", &[("X-Request-Id", odd)], "");
        let id = reply.header("x-request-id").unwrap();
        assert!(id != odd && id.len() < 40 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-'), "{odd}: {id}");
    }
}

#[test]
fn failures_have_the_status_of_their_kind_a_message_and_a_hint() {
    let place = Place::new();
    let _daemon = place.daemon();
    for (body, status, kind, part) in [
        (r#"{"fun": "test.pong"}"#, 404, "not-found", "did you mean `test.ping`"),
        (r#"{"fun": "test.ping", "arg": [1]}"#, 400, "usage", "takes 0 positional arguments but 1 was given"),
        (r#"{"fun": "test.ping", "kwarg": {"x": 1}}"#, 400, "usage", "not valid: x=1"),
        (r#"{"fun": "image.inspect", "arg": ["store:a/b:1"]}"#, 404, "not-found", "store:a/b:1"),
        (r#"{"fun": "image.inspect", "arg": ["dir:relative"]}"#, 400, "usage", "give the absolute path"),
        (r#"{"fun": "image.verify", "arg": ["a:1", "b:1", 17]}"#, 400, "usage", "give the absolute path"),
        (r#"{"fun": "image.inspect", "arg": ["docker-daemon:a/b:1"]}"#, 503, "unavailable", "/nonexistent/docker.sock"),
    ] {
        let reply = place.ask("POST", "/v1/call", &[("Prefer", "wait=50")], body);
        let error = reply.json()["error"].clone();
        assert_eq!((reply.status, &error["kind"]), (status, &json!(kind)), "{body}: {}", reply.body);
        assert!(error["causes"].is_array() && reply.body.contains(part), "{body}: {}", reply.body);
        assert_eq!(reply.json()["request_id"].as_str(), reply.header("x-request-id"));
    }
}

#[test]
fn a_body_that_is_no_call_is_refused_with_what_is_wrong() {
    let place = Place::new().with("CASTOFF_DAEMON_BODY_SIZE", "64KiB");
    let _daemon = place.daemon();
    let deep = format!("{{\"fun\": \"test.echo\", \"arg\": [{}{}]}}", "[".repeat(5000), "]".repeat(5000));
    let large = format!("{{\"fun\": \"test.echo\", \"arg\": [\"{}\"]}}", "x".repeat(70_000));
    for (body, status, part) in [
        ("", 400, "body:1:"),
        ("nonsense", 400, "body:1:"),
        ("[]", 400, "no map"),
        ("{}", 400, "`fun`"),
        (r#"{"fun": 1}"#, 400, "`fun`"),
        (r#"{"fun": "test.ping", "fun": "test.true"}"#, 400, "stands twice"),
        (r#"{"fun": "test.ping", "args": []}"#, 400, "`args`"),
        (r#"{"fun": "test.ping", "arg": {}}"#, 400, "`arg` is no list"),
        (r#"{"fun": "test.ping", "kwarg": []}"#, 400, "`kwarg` is no map"),
        (r#"{"fun": "test.ping", "minion": "me"}"#, 400, "`minion` is no map"),
        (r#"{"fun": "test.ping", "minion": {"pillar": 1}}"#, 400, "`pillar`"),
        (r#"{"fun": "test.ping"} {}"#, 400, "trailing"),
        (deep.as_str(), 400, "recursion"),
        (large.as_str(), 413, "65536 bytes"),
    ] {
        let reply = place.call(body);
        let shown = &body[..body.len().min(60)];
        assert_eq!(reply.status, status, "{shown}: {}", reply.body);
        assert!(reply.body.contains(part), "{shown}: {}", reply.body);
    }
    let mut bytes = request("POST", "/v1/call", &[], "{\"fun\": \"test.ping \"}").into_bytes();
    let at = bytes.len() - 3;
    bytes[at] = 0xff;
    let reply = super::Reply::parse(&place.exchange(&bytes).unwrap());
    assert_eq!((reply.status, reply.body.contains("not UTF-8")), (400, true), "{}", reply.body);
    assert_eq!(place.get("/healthz").status, 200);
}

#[test]
fn paths_and_methods_that_do_not_exist_say_so_in_json() {
    let place = Place::new();
    let _daemon = place.daemon();
    assert_eq!(place.get("/v1/nothing").json()["error"]["kind"], "not-found");
    assert_eq!(place.get("/v1/../../etc/passwd").status, 404);
    let reply = place.get("/v1/call");
    assert_eq!((reply.status, reply.header("allow")), (405, Some("POST")));
    assert_eq!(reply.json()["error"]["kind"], "usage");
}

#[test]
fn the_table_and_its_openapi_description_hold_every_function() {
    let place = Place::new();
    let _daemon = place.daemon();
    let names = place.call(r#"{"fun": "sys.list_functions"}"#).json()["return"].clone();
    let names: Vec<&str> = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(names.contains(&"image.pack") && names.len() > 20);
    let table = place.get("/v1/functions").json();
    let rows = table["functions"].as_array().unwrap();
    assert_eq!(rows.iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
    let pack = rows.iter().find(|row| row["name"] == "image.pack").unwrap();
    assert_eq!((&pack["changes"], &pack["long"], &pack["takes_more"]), (&json!(true), &json!(true), &json!(false)));
    let source = &pack["arguments"][0];
    assert_eq!(
        (&source["name"], &source["required"], &source["accepts"]),
        (&json!("source"), &json!(true), &json!("image reference"))
    );
    let openapi = place.get("/openapi.json").json();
    assert_eq!(openapi["openapi"], "3.1.0");
    for name in names {
        let schema = &openapi["components"]["schemas"][name];
        assert_eq!(schema["properties"]["fun"]["const"], name);
    }
    for path in [
        "/v1/call",
        "/v1/pillar/{minion}",
        "/v1/pillar",
        "/v1/jobs",
        "/v1/jobs/{id}",
        "/v1/jobs/{id}/events",
        "/metrics",
    ] {
        assert!(openapi["paths"][path].is_object(), "{path}");
    }
}

#[test]
fn every_changing_call_is_logged_with_who_and_what_and_never_with_a_secret() {
    let place = Place::new().with("CASTOFF_LOG_FORMAT", "json");
    let daemon = place.daemon();
    let body = r#"{"fun": "image.remove", "kwarg": {"image": "store:a/b:1"}}"#;
    place.ask("POST", "/v1/call", &[("X-Request-Id", "remove-1")], body);
    place.call(r#"{"fun": "image.gc", "kwarg": {"max_size": "1GiB", "api_token": "hunter2"}}"#);
    place.ask("PUT", "/v1/log-level", &[], r#"{"level": "trace"}"#);
    place.call(r#"{"fun": "test.kwarg", "kwarg": {"db": {"password": "hunter2"}, "url": "https://me:hunter2@h/"}}"#);
    place.ask("GET", "/healthz", &[("Authorization", "Bearer hunter2")], "");
    assert!(daemon.stop().success());
    let log = place.log();
    assert!(!log.contains("hunter2"), "{log}");
    let lines: Vec<serde_json::Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let called = lines.iter().find(|line| line["message"] == "called" && line["function"] == "image.remove").unwrap();
    assert_eq!((&called["door"], &called["span"]["request_id"]), (&json!("socket"), &json!("remove-1")));
    assert!(called["who"].as_str().unwrap().contains(&format!("uid {}", rustix::process::getuid().as_raw())));
    assert!(called["arguments"].as_str().unwrap().contains("store:a/b:1"));
    assert!(called["result"].as_str().unwrap().starts_with("not-found: "), "{called}");
}

#[test]
fn the_level_of_the_log_changes_while_the_daemon_runs() {
    let place = Place::new().with("CASTOFF_LOG", "error");
    let _daemon = place.daemon();
    assert_eq!(place.get("/v1/log-level").json(), json!({"level": "error"}));
    place.call(r#"{"fun": "test.ping"}"#);
    assert_eq!(place.log(), "");
    assert_eq!(place.ask("PUT", "/v1/log-level", &[], r#"{"level": "debug"}"#).status, 200);
    place.call(r#"{"fun": "test.ping"}"#);
    assert!(place.log().contains("test.ping"), "{}", place.log());
    let reply = place.ask("PUT", "/v1/log-level", &[], r#"{"level": "loud"}"#);
    assert_eq!((reply.status, &reply.json()["error"]["kind"]), (400, &json!("usage")));
    assert_eq!(place.get("/v1/log-level").json(), json!({"level": "debug"}));
}

#[test]
fn a_query_has_a_deadline_and_calls_beyond_the_limit_are_told_to_come_back() {
    let place = with_slow_query(Place::new()).with("CASTOFF_DAEMON_CALLS", "1").with("CASTOFF_DAEMON_DEADLINE", "3");
    let _daemon = place.daemon();
    let first = begin(&place.path("run/c.sock"), request("POST", "/v1/call", &[], SLOW).as_bytes());
    slow_begun(&place, 1);
    let second = place.call(r#"{"fun": "test.ping"}"#);
    assert_eq!((second.status, second.header("retry-after")), (503, Some("1")), "{}", second.body);
    assert_eq!(place.get("/healthz").status, 200);
    let first = finish(first);
    assert_eq!(first.status, 504, "{}", first.body);
    release(&place);
    super::wait_for("room for calls", || (place.call(r#"{"fun": "test.ping"}"#).status == 200).then_some(()));
}

#[test]
fn metrics_count_what_happened() {
    let place = Place::new();
    let _daemon = place.daemon();
    for _ in 0..3 {
        place.call(r#"{"fun": "test.ping"}"#);
    }
    place.call(r#"{"fun": "test.pong"}"#);
    let reply = place.get("/metrics");
    assert!(reply.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    for line in [
        "castoff_requests_total{route=\"call\",status=\"200\"} 3",
        "castoff_requests_total{route=\"call\",status=\"404\"} 1",
        "castoff_request_seconds_count{route=\"call\"} 4",
        "castoff_request_seconds_bucket{route=\"call\",le=\"+Inf\"} 4",
        "castoff_jobs{state=\"queued\"} 0",
        "castoff_cache_hits_total{cache=\"answers\"} 0",
    ] {
        assert!(reply.body.lines().any(|found| found == line), "{line} is not in\n{}", reply.body);
    }
    // Prometheus refuses a family that is described twice, and a sample without a family.
    let mut families = std::collections::BTreeSet::new();
    for line in reply.body.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        assert!(families.insert(line.split(' ').next().unwrap()), "{line}");
    }
    for line in reply.body.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(families.contains(name) || families.contains(family), "{line}");
        assert!(line.rsplit(' ').next().unwrap().parse::<f64>().is_ok(), "{line}");
    }
}
