//! Pillars over HTTP: the document that `castoff pillar` prints, fresh, or a refusal that Salt heeds.

use serde_json::json;

use super::{Place, wait_for};

const DATABASE: &str = "\
cloud_settings:
  images: {lxc: {default: IMAGE}}
  images_web-1: {lxc: {cron_hour: '7'}}
vms: {lxc: {node-1: [web-1, web-2]}}
";

fn place() -> Place {
    let place = Place::new();
    place.write("pillar/database.yaml", &DATABASE.replace("IMAGE", "first"));
    let root = place.path("pillar").display().to_string();
    place.with("CASTOFF_PILLAR_ROOT", root)
}

const PREFIX: &str = "makina-states.cloud.images";

#[test]
fn the_answer_is_the_document_that_the_command_prints_with_and_without_the_daemon() {
    let place = place();
    let mut computed = Vec::new();
    for (id, prefixed) in [("web-1", true), ("web-1", false), ("web-2", true), ("stranger", true), ("stranger", false)]
    {
        let (code, stdout, stderr) = place.run(&["pillar", &format!("--prefixed={prefixed}"), "--", id]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{id}");
        computed.push((id, prefixed, stdout));
    }
    let _daemon = place.daemon();
    for (id, prefixed, text) in computed {
        let reply = place.get(&format!("/v1/pillar/{id}?prefixed={prefixed}"));
        assert_eq!((reply.status, reply.body.as_str()), (200, text.as_str()), "{id}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let (code, stdout, stderr) = place.run(&["pillar", &format!("--prefixed={prefixed}"), "--", id]);
        assert_eq!((code, stdout, stderr.as_str()), (0, text, ""), "{id}");
    }
    let hour = |id: &str| place.get(&format!("/v1/pillar/{id}")).json()[PREFIX]["lxc"]["cron_hour"].clone();
    assert_eq!((hour("web-1"), hour("web-2")), (json!("7"), json!("3")));
    assert_eq!(place.get("/v1/pillar/stranger").json(), json!({PREFIX: {}}));
}

#[test]
fn an_unchanged_document_is_not_sent_again_and_an_edited_one_at_once() {
    let place = place();
    let _daemon = place.daemon();
    let first = place.get("/v1/pillar/web-1");
    let etag = first.header("etag").unwrap().to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"') && first.header("age").is_some());
    for tag in [etag.as_str(), &format!("W/{etag}"), &format!("\"x\", {etag}"), "*"] {
        let again = place.ask("GET", "/v1/pillar/web-1", &[("If-None-Match", tag)], "");
        assert_eq!((again.status, again.body.as_str(), again.header("etag")), (304, "", Some(etag.as_str())), "{tag}");
    }
    assert_eq!(place.ask("GET", "/v1/pillar/web-1", &[("If-None-Match", "\"x\"")], "").status, 200);
    for round in 0..20 {
        place.write("pillar/database.yaml", &DATABASE.replace("IMAGE", &format!("image-{round}")));
        let reply = place.ask("GET", "/v1/pillar/web-1", &[("If-None-Match", &etag)], "");
        assert_eq!(reply.json()[PREFIX]["lxc"]["default"], format!("image-{round}"), "{}", reply.status);
    }
}

#[test]
fn ids_and_queries_that_are_none_are_refused_in_the_form_that_salt_heeds() {
    let place = place();
    let _daemon = place.daemon();
    let long = "a".repeat(254);
    for (path, status) in [
        ("a;b", 400),
        ("%2e%2e", 400),
        ("..%2f..%2fetc%2fpasswd", 400),
        ("-rf", 400),
        ("$(id)", 400),
        ("a%00b", 400),
        ("%C3%A9", 400),
        ("%ff", 400),
        (long.as_str(), 400),
        ("web-1?prefixed=maybe", 400),
        ("web-1?limited=true", 400),
    ] {
        let reply = place.get(&format!("/v1/pillar/{path}"));
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
        let errors = reply.json()["_errors"].clone();
        assert!(errors[0].as_str().is_some_and(|reason| reason.starts_with("castoff: ")), "{path}: {}", reply.body);
        assert_eq!(reply.json().as_object().unwrap().len(), 1);
    }
}

#[test]
fn many_pillars_come_in_one_answer_and_what_is_wrong_with_some_beside_them() {
    let place = place();
    let _daemon = place.daemon();
    let reply = place.ask("POST", "/v1/pillar", &[], r#"{"minions": ["web-1", "x;y", "web-1", "other"]}"#);
    assert_eq!(reply.status, 200, "{}", reply.body);
    let json = reply.json();
    assert_eq!(json["pillars"]["web-1"], place.get("/v1/pillar/web-1").json());
    assert_eq!(json["pillars"]["other"], json!({PREFIX: {}}));
    assert_eq!(json["pillars"].as_object().unwrap().len(), 2);
    assert!(json["errors"]["x;y"].as_str().unwrap().contains("not a minion id"));
    let bare = place.ask("POST", "/v1/pillar", &[], r#"{"minions": ["web-2"], "prefixed": false}"#).json();
    assert_eq!(bare["pillars"]["web-2"]["lxc"]["default"], "first");
    for body in [
        "{}",
        r#"{"minions": "web-1"}"#,
        r#"{"minions": [1]}"#,
        r#"{"minions": [], "x": 1}"#,
        "[",
        r#"{"minions": [], "prefixed": 1}"#,
    ] {
        let reply = place.ask("POST", "/v1/pillar", &[], body);
        assert_eq!((reply.status, reply.json()["_errors"].is_array()), (400, true), "{body}");
    }
    let five_thousand: Vec<String> = (0..5000).map(|number| format!("vm-{number}")).collect();
    let reply = place.ask("POST", "/v1/pillar", &[], &json!({"minions": five_thousand}).to_string());
    assert_eq!(reply.json()["pillars"].as_object().unwrap().len(), 5000);
}

#[test]
fn a_broken_source_is_a_refusal_and_never_an_empty_pillar() {
    let place = place();
    let _daemon = place.daemon();
    assert_eq!(place.get("/readyz").json(), json!({"ready": true, "reasons": []}));
    place.write("pillar/database.yaml", "vms: {lxc: [");
    let reply = place.get("/v1/pillar/web-1");
    assert!(reply.status >= 400, "{}", reply.body);
    assert!(
        reply.json()["_errors"][0].as_str().unwrap().contains("database.yaml:2:1: while parsing"),
        "{}",
        reply.body
    );
    let ready = place.get("/readyz");
    assert_eq!((ready.status, &ready.json()["ready"]), (503, &json!(false)));
    assert!(ready.body.contains("database.yaml:2:1: while parsing"), "{}", ready.body);
    let bulk = place.ask("POST", "/v1/pillar", &[], r#"{"minions": ["web-1"]}"#).json();
    assert_eq!((bulk["pillars"].as_object().unwrap().len(), bulk["errors"]["web-1"].is_string()), (0, true));
    place.write("pillar/database.yaml", DATABASE);
    assert_eq!(place.get("/v1/pillar/web-1").status, 200);
    assert_eq!(place.get("/readyz").status, 200);
}

#[test]
fn the_last_good_answer_says_that_it_is_one() {
    let place = place().with("CASTOFF_ON_ERROR", "last-good");
    let _daemon = place.daemon();
    let good = place.get("/v1/pillar/web-1");
    assert_eq!(good.header("castoff-stale"), None);
    place.write("pillar/database.yaml", "vms: {lxc: [");
    let stale = wait_for("a second to pass", || {
        let stale = place.get("/v1/pillar/web-1");
        (stale.header("castoff-stale")? != "0").then_some(stale)
    });
    assert_eq!((stale.status, &stale.body), (200, &good.body));
    assert!(stale.header("warning").unwrap().starts_with("110 "));
    let ready = place.get("/readyz");
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("broken for"), "{}", ready.body);
    // A minion that was never asked for has no last good answer.
    let other = place.get("/v1/pillar/web-2");
    assert!(other.status == 200 || other.json()["_errors"].is_array(), "{}", other.body);
}
