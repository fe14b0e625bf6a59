//! Long calls over HTTP: 202, the job, its events with replay, its end.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value as Json, json};

use super::{Place, begin, request, wait_for};

/// A place with a small root filesystem, and the call that makes an image of it.
fn place() -> (Place, String) {
    let place = Place::new();
    place.write("rootfs/etc/hostname", "web\n");
    let source = format!("dir:{}", place.path("rootfs").display());
    let call = json!({"fun": "image.pack", "arg": [source, "store:example/web:1"]}).to_string();
    (place, call)
}

fn ended(place: &Place, job: &str) -> Json {
    wait_for("the job to end", || {
        let job = place.get(&format!("/v1/jobs/{job}")).json();
        matches!(job["state"].as_str()?, "done" | "failed" | "cancelled").then_some(job)
    })
}

#[test]
fn a_long_call_is_a_job_that_can_be_followed_and_replayed() {
    let (place, call) = place();
    let daemon = place.daemon();
    let reply = place.ask("POST", "/v1/call", &[("X-Request-Id", "pack-1")], &call);
    assert_eq!(reply.status, 202, "{}", reply.body);
    let id = reply.json()["job"].as_str().unwrap().to_owned();
    assert_eq!(reply.header("location"), Some(format!("/v1/jobs/{id}").as_str()));
    let path = format!("/v1/jobs/{id}/events");
    let stream = begin(&place.path("run/c.sock"), request("GET", &path, &[], "").as_bytes());
    let lines: Vec<String> = BufReader::new(stream).lines().map(Result::unwrap).collect();
    assert!(lines[0].starts_with("HTTP/1.1 200") && lines.iter().any(|line| line == "content-type: text/event-stream"));
    let told = |name: &str| -> Vec<String> {
        lines.iter().filter_map(|line| Some(line.strip_prefix(name)?.to_owned())).collect()
    };
    let (ids, events) = (told("id: "), told("event: "));
    assert_eq!(ids, (1..=ids.len()).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!((events.first().map(String::as_str), events.last().map(String::as_str)), (Some("state"), Some("end")));
    assert!(events.iter().any(|event| event == "progress"), "{events:?}");
    for data in told("data: ") {
        serde_json::from_str::<Json>(&data).unwrap();
    }
    let last = ids.len();
    let replay = place.ask("GET", &path, &[("Last-Event-ID", &(last - 1).to_string())], "");
    assert!(replay.body.contains(&format!("\n\nid: {last}\nevent: end\ndata: ")), "{}", replay.body);
    assert!(!replay.body.contains(&format!("id: {}\n", last - 1)), "{}", replay.body);
    assert_eq!(place.ask("GET", &path, &[("Last-Event-ID", &last.to_string())], "").status, 204);
    assert_eq!(place.ask("GET", &path, &[("Last-Event-ID", "x")], "").status, 400);

    let job = ended(&place, &id);
    assert_eq!((&job["state"], &job["retcode"], &job["error"]), (&json!("done"), &json!(0), &Json::Null), "{job}");
    assert_eq!(
        (&job["fun"], &job["door"], &job["request_id"]),
        (&json!("image.pack"), &json!("socket"), &json!("pack-1"))
    );
    assert_eq!(place.get("/v1/jobs?state=done").json()["jobs"][0]["id"], id.as_str());
    assert_eq!(place.get("/v1/jobs?state=failed").json()["jobs"], json!([]));
    let list = place.call(r#"{"fun": "image.list"}"#);
    assert!(list.body.contains("example/web:1"), "{}", list.body);
    wait_for("the end to be logged", || place.log().contains("job ended").then_some(()));
    assert!(daemon.stop().success());
}

#[test]
fn who_waits_gets_the_result_and_who_errs_no_job() {
    let (place, call) = place();
    let _daemon = place.daemon();
    let reply = place.ask("POST", "/v1/call", &[("Prefer", "respond-async, wait=50")], &call);
    assert_eq!((reply.status, &reply.json()["retcode"]), (200, &json!(0)), "{}", reply.body);
    assert!(reply.json()["return"].is_object() && reply.json()["job"].is_string());
    let wrong = place.call(r#"{"fun": "image.pack", "kwarg": {"sauce": "store:a/b:1"}}"#);
    assert_eq!((wrong.status, &wrong.json()["error"]["kind"]), (400, &json!("usage")));
    assert_eq!(place.get("/v1/jobs").json()["jobs"].as_array().unwrap().len(), 1);
    let failing =
        place.ask("POST", "/v1/call", &[("Prefer", "wait=50")], r#"{"fun": "image.pack", "arg": ["store:a/b:1"]}"#);
    assert_eq!((failing.status, &failing.json()["error"]["kind"]), (404, &json!("not-found")), "{}", failing.body);
    let job = place.get(failing.header("location").unwrap()).json();
    assert_eq!((&job["state"], &job["error"]["kind"]), (&json!("failed"), &json!("not-found")), "{job}");
}

#[test]
fn a_job_is_cancelled_once_and_an_unknown_one_not_at_all() {
    let (place, call) = place();
    let _daemon = place.daemon();
    let id = place.call(&call).json()["job"].as_str().unwrap().to_owned();
    let reply = place.ask("DELETE", &format!("/v1/jobs/{id}"), &[], "");
    // It may have been done just before.
    assert!(matches!(reply.status, 200 | 409), "{}", reply.body);
    ended(&place, &id);
    assert_eq!(place.ask("DELETE", &format!("/v1/jobs/{id}"), &[], "").status, 409);
    assert_eq!(place.get("/v1/jobs/01arz3ndektsv4rrffq69g5fav").status, 404);
    assert_eq!(place.get("/v1/jobs/..%2f..%2fx").status, 400);
    assert_eq!(place.get("/v1/jobs?limit=-1").status, 400);
}
