//! Schedules as an operator meets them: the real daemon, real time, its death at the worst moments. What is remembered is
//! set back or forward in the database, so that nobody waits for a night to pass.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::{Value as Json, json};

use super::{Place, wait_for};

/// A place whose daemon looks every second.
fn place(schedules: &str) -> Place {
    let place = Place::new().with("CASTOFF_SCHEDULE_TICK", "1").with("TZ", "UTC");
    place.write("castoff.yaml", schedules);
    place
}

fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// The pattern of the instant ten minutes ago, every day, in UTC.
fn ten_minutes_ago() -> String {
    let minute = (now() - 600).div_euclid(60);
    format!("{} {} * * *", minute.rem_euclid(60), minute.div_euclid(60).rem_euclid(24))
}

fn entry(name: &str, function: &str, more: &str) -> String {
    format!("schedules:\n  {name}: {{function: {function}, cron: \"{}\", {more}}}\n", ten_minutes_ago())
}

fn database(place: &Place) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(place.path("state/jobs/jobs.sqlite")).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    connection
}

/// Sets a column of the one schedule of the test.
fn set(place: &Place, assignment: &str) {
    let changed = database(place).execute(&format!("UPDATE schedules SET {assignment} WHERE name = 'it'"), []);
    assert_eq!(changed.unwrap(), 1);
}

fn listed(place: &Place) -> Json {
    place.call(r#"{"fun": "schedule.list"}"#).json()["return"].clone()
}

/// The schedule `it` once the daemon has seen it and `fits` says so.
fn when(place: &Place, what: &str, fits: impl Fn(&Json) -> bool) -> Json {
    wait_for(&format!("{what}; log:\n{}", place.log()), || {
        let it = listed(place)["it"].clone();
        (it["runs"].is_u64() && fits(&it)).then_some(it)
    })
}

fn jobs(place: &Place) -> Vec<Json> {
    place.get("/v1/jobs").json()["jobs"].as_array().unwrap().clone()
}

/// The daemon has seen the schedule once, and is gone.
fn seen_before(place: &Place) {
    let daemon = place.daemon();
    let it = when(place, "the first look", |_| true);
    assert_eq!((&it["runs"], &it["misfires"], &it["state"]), (&json!(0), &json!(0), &json!("on")), "{it}");
    assert!(daemon.stop().success());
}

fn days_ago(days: i64) -> String {
    format!("served = {}", now() - days * 86_400)
}

#[test]
fn what_fell_due_while_the_daemon_was_away_runs_once_and_the_past_before_the_first_look_never() {
    let place = place(&entry("it", "test.arg", "args: [1, x], kwargs: {token: hunter2}"));
    seen_before(&place);
    set(&place, &days_ago(3));
    let daemon = place.daemon();
    let it = when(&place, "a success", |it| it["last_result"] == "success");
    assert_eq!((&it["runs"], &it["misfires"], &it["overlaps"]), (&json!(1), &json!(2), &json!(0)), "{it}");
    assert_eq!(it["arguments"], json!({"arg": [1, "x"], "kwarg": {"token": "***"}}));
    assert!(it["last_success"].as_str().unwrap().ends_with("+00:00") && it["next"].as_array().unwrap().len() == 3);
    let found = jobs(&place);
    let [job] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((&job["fun"], &job["who"], &job["request_id"]), (&json!("test.arg"), &json!("schedule"), &json!("it")));
    assert_eq!((&it["job"], &job["state"]), (&job["id"], &json!("done")));
    assert!(daemon.stop().success());
    // The same without a daemon.
    let (code, text, _) = place.run(&["call", "--out=json", "schedule.list"]);
    let text: Json = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &text["local"]["it"]), (0, &it));
    assert!(!place.log().contains("hunter2"));
}

#[test]
fn what_is_later_than_its_grace_is_left_out_and_told() {
    let place = place(&entry("it", "test.ping", "grace: 60"));
    seen_before(&place);
    set(&place, &days_ago(3));
    let _daemon = place.daemon();
    let it = when(&place, "misfires", |it| it["misfires"] == 3);
    assert_eq!((&it["runs"], &it["last_run"], jobs(&place).len()), (&json!(0), &Json::Null, 0), "{it}");
    assert!(place.log().contains("missed, and too late now"), "{}", place.log());
}

#[test]
fn the_daemons_death_between_due_and_run_neither_loses_nor_doubles_the_run() {
    for point in ["schedule.due", "schedule.before-commit", "schedule.after-commit", "job.start.before-spawn"] {
        let place = place(&entry("it", "test.ping", ""));
        seen_before(&place);
        set(&place, &days_ago(1));
        let mut command = place.command(&["daemon"]);
        command.env("CASTOFF_FAULT", point);
        let mut killed = place.started(command);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&killed.ended()), Some(9), "{point}");
        drop(killed);
        let _daemon = place.daemon();
        let it = when(&place, point, |it| it["last_result"] == "success");
        assert_eq!((&it["runs"], jobs(&place).len()), (&json!(1), 1), "{point}: {it}");
    }
}

#[test]
fn one_run_at_a_time_whoever_begins_it() {
    let place = place(&entry("it", "test.sleep", "args: [600]"));
    seen_before(&place);
    set(&place, &days_ago(1));
    let _daemon = place.daemon();
    let it = when(&place, "a run", |it| it["state"] == "running" && it["job"].is_string());
    set(&place, &days_ago(1));
    let after = when(&place, "an overlap", |it| it["overlaps"] == 1);
    assert_eq!((&after["runs"], &after["job"]), (&json!(1), &it["job"]), "{after}");
    let (code, _, told) = place.run(&["call", "--retcode-passthrough", "schedule.run", "it"]);
    assert!(code == 73 && told.contains(it["job"].as_str().unwrap()), "{code} {told}");
    let cancelled = place.ask("DELETE", &format!("/v1/jobs/{}", it["job"].as_str().unwrap()), &[], "");
    assert_eq!(cancelled.status, 200, "{}", cancelled.body);
    when(&place, "the end", |it| it["last_result"] == "cancelled" && it["state"] == "on");

    // By hand, without the daemon; killed, it leaves nothing in the way.
    let mut by_hand = place.command(&["call", "schedule.run", "it"]);
    let mut by_hand = by_hand.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    when(&place, "the run by hand", |it| it["state"] == "running" && it["job"].is_null());
    set(&place, &days_ago(1));
    when(&place, "another overlap", |it| it["overlaps"] == 2);
    by_hand.kill().unwrap();
    by_hand.wait().unwrap();
    set(&place, &days_ago(1));
    when(&place, "a run after it", |it| it["state"] == "running" && it["job"].is_string());
}

#[test]
fn a_run_by_hand_counts_and_through_the_daemon_it_is_a_job() {
    let place = place(&entry("it", "test.retcode", "args: [3], enabled: false"));
    let (code, _, _) = place.run(&["call", "--retcode-passthrough", "schedule.run", "it"]);
    assert_eq!(code, 3);
    let _daemon = place.daemon();
    let it = when(&place, "the first look", |_| true);
    assert_eq!(
        (&it["state"], &it["why"], &it["last_result"]),
        (&json!("off"), &json!("`enabled` is false"), &json!("failed"))
    );
    let reply = place.ask("POST", "/v1/call", &[("Prefer", "wait=50")], r#"{"fun": "schedule.run", "arg": ["it"]}"#);
    assert_eq!((reply.status, &reply.json()["retcode"]), (200, &json!(3)), "{}", reply.body);
    let it = when(&place, "the second run", |it| it["runs"] == 2);
    assert_eq!((&it["job"], &it["last_result"]), (&reply.json()["job"], &json!("failed")), "{it}");
    let reply = place.ask("POST", "/v1/call", &[("Prefer", "wait=50")], r#"{"fun": "schedule.run", "arg": ["its"]}"#);
    assert!(reply.status == 404 && reply.body.contains("did you mean `it`?"), "{}", reply.body);
}

#[test]
fn without_a_success_in_two_periods_it_is_late_and_the_daemon_degraded() {
    let place = place(&entry("it", "test.false", ""));
    seen_before(&place);
    let long_ago = now() - 4 * 86_400;
    set(
        &place,
        &format!("since = {long_ago}, succeeded = {long_ago} * 1000, result = 'failed', why = 'a canary died'"),
    );
    let (code, text, _) = place.run(&["call", "--force-color", "schedule.list"]);
    assert!(code == 1 && text.contains("\u{1b}[0;31m"), "red is missing: {text:?}");
    let _daemon = place.daemon();
    let it = when(&place, "lateness", |it| it["state"] == "late");
    assert!(it["why"].as_str().unwrap().contains("a canary died"), "{it}");
    let ready = wait_for("a degraded daemon", || {
        let ready = place.get("/readyz");
        ready.json()["degraded"].is_boolean().then_some(ready)
    });
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)), "{}", ready.body);
    assert!(ready.body.contains("schedule `it` had no success"), "{}", ready.body);
    assert!(place.get("/metrics").body.contains("castoff_schedule_late{schedule=\"it\"} 1\n"));
    set(&place, &format!("succeeded = {} * 1000", now()));
    when(&place, "punctuality", |it| it["state"] == "on");
    wait_for("a daemon that is well", || place.get("/readyz").json()["degraded"].is_null().then_some(()));
}

#[test]
fn sighup_reads_schedules_again_and_a_changed_one_begins_afresh() {
    let place = place("");
    let daemon = place.daemon();
    assert!(listed(&place)["it"].is_null());
    place.write("castoff.yaml", &entry("it", "test.ping", ""));
    daemon.signal(Signal::HUP);
    when(&place, "the new schedule", |it| it["state"] == "on");
    place.write("castoff.yaml", &entry("it", "test.pong", ""));
    daemon.signal(Signal::HUP);
    wait_for("the refusal", || place.get("/readyz").body.contains("the last reload failed").then_some(()));
    assert_eq!(listed(&place)["it"]["function"], "test.ping");
    // Off for some days, then on again at another time of the day: nothing is made up for.
    place.write("castoff.yaml", "schedules: {it: {function: test.ping, cron: \"0 0 1 1 *\", enabled: false}}\n");
    daemon.signal(Signal::HUP);
    when(&place, "the end of it", |it| it["state"] == "off");
    let is_off =
        || database(&place).query_row("SELECT pattern IS NULL FROM schedules", [], |row| row.get::<_, bool>(0));
    wait_for("the look at what is off", || is_off().unwrap().then_some(()));
    set(&place, &days_ago(3));
    place.write("castoff.yaml", &entry("it", "test.ping", ""));
    daemon.signal(Signal::HUP);
    when(&place, "it again", |it| it["state"] == "on");
    wait_for("the look", || (!is_off().unwrap()).then_some(()));
    let it = when(&place, "it", |_| true);
    assert_eq!((&it["runs"], &it["misfires"]), (&json!(0), &json!(0)), "{it}");
}

#[test]
fn a_clock_that_was_set_back_neither_stops_a_schedule_nor_doubles_it() {
    let place = place(&entry("it", "test.ping", ""));
    seen_before(&place);
    let served = || {
        database(&place)
            .query_row("SELECT served FROM schedules WHERE name = 'it'", [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    // By days: it goes on from now.
    set(&place, &days_ago(-2));
    let daemon = place.daemon();
    wait_for("the clock to be noticed", || (served() <= now()).then_some(()));
    assert!(place.log().contains("the clock was set back"), "{}", place.log());
    assert!(daemon.stop().success());
    // By minutes: what was served stays served.
    let ahead = now() + 1800;
    set(&place, &format!("served = {ahead}"));
    let _daemon = place.daemon();
    wait_for("a tick", || {
        place.get("/metrics").body.contains("castoff_schedule_enabled{schedule=\"it\"} 1").then_some(())
    });
    assert_eq!((served(), when(&place, "it", |_| true)["runs"].clone()), (ahead, json!(0)));
}

#[test]
fn a_wrong_entry_is_told_with_file_line_and_field() {
    let place = place("");
    for (text, parts) in [
        (
            "schedules:\n  it:\n    function: test.ping\n    cron: \"61 3 * * *\"\n",
            &["line 4", "schedules.it.cron", "`61 3 * * *`"][..],
        ),
        ("schedules:\n  it:\n    function: test.ping\n    cron: \"0 3 31 2 *\"\n", &["line 4", "no day of 100 years"]),
        ("schedules:\n  it:\n    function: test.ping\n    cron: \"0 3 * * * *\"\n", &["line 4", "6 fields, not five"]),
        (
            "schedules:\n  it:\n    funktion: test.ping\n",
            &["line 3", "schedules.it.funktion", "did you mean `function`?"],
        ),
        ("schedules:\n  it: {function: test.ping}\n", &["line 2", "schedules.it: `cron` is missing"]),
        (
            "schedules:\n  it:\n    cron: \"0 3 * * *\"\n    function: test.pong\n",
            &["line 4", "schedules.it.function", "did you mean `test.ping`"],
        ),
        (
            "schedules:\n  it:\n    cron: \"0 3 * * *\"\n    function: image.gc\n    kwargs: {max_siz: 1}\n",
            &["line 5", "schedules.it.kwargs", "`max_size` for `max_siz`"],
        ),
        (
            "schedules:\n  it:\n    cron: \"0 3 * * *\"\n    function: test.ping\n    args: [1]\n",
            &["line 5", "schedules.it.args", "0 positional arguments"],
        ),
        (
            "schedules:\n  it:\n    cron: \"0 3 * * *\"\n    function: schedule.run\n    args: [it]\n",
            &["line 4", "`schedule.run` is for people"],
        ),
        (
            "schedules:\n  it:\n    cron: \"0 3 * * *\"\n    function: test.ping\n    timezone: Europe/Pariss\n",
            &["line 5", "schedules.it.timezone", "`Europe/Pariss`"],
        ),
        (
            "schedules:\n  it:\n    cron: \"0 3 * * *\"\n    function: test.ping\n    grace: soon\n",
            &["line 5", "schedules.it.grace", "seconds"],
        ),
        (
            "schedules:\n  it:\n    cron: \"0 3 * * *\"\n    function: test.ping\n    enabled: 'no'\n",
            &["line 5", "schedules.it.enabled"],
        ),
        ("schedules:\n  ../it: {function: test.ping, cron: \"0 3 * * *\"}\n", &["line 2", "up to 64 letters"]),
        ("schedules:\n  sync: {function: test.ping, cron: \"0 3 * * *\"}\n", &["line 2", "castoff's own"]),
        ("schedules:\n  it: 3\n", &["line 2", "a map is expected"]),
        ("sync.schedule: \"0 3 30 2 *\"\n", &["`sync.schedule`", "castoff.yaml", "no day of 100 years"]),
    ] {
        place.write("castoff.yaml", text);
        for words in [&["config"][..], &["daemon"]] {
            let (code, _, told) = place.run(words);
            assert_ne!(code, 0, "{words:?} took {text}");
            let file = place.path("castoff.yaml").display().to_string();
            for part in parts.iter().copied().chain([file.as_str()]) {
                assert!(told.contains(part), "{words:?}: `{part}` is not in\n{told}");
            }
        }
    }
    // A drop-in may change one field; a mistake is told where it stands.
    place.write("castoff.yaml", "schedules: {it: {function: test.ping, cron: \"0 3 * * *\"}}\n");
    let drop_in = place.write("castoff.d/it.yaml", "# off\nschedules:\n  it:\n    enabled: maybe\n");
    let (_, _, told) = place.run(&["config"]);
    assert!(told.contains(&format!("`{}`, line 4: schedules.it.enabled", drop_in.display())), "{told}");
}

#[test]
fn castoffs_own_schedules_say_why_they_are_off() {
    let list = |place: &Place| {
        let (code, text, told) = place.run(&["call", "--out=json", "schedule.list"]);
        assert_eq!(code, 0, "{told}");
        serde_json::from_str::<Json>(&text).unwrap()["local"].clone()
    };
    let bare = place("");
    let (_, functions, _) = bare.run(&["call", "--out=json", "sys.list_functions", "mc_lxc"]);
    let own = list(&bare);
    let why = if functions.contains("mc_lxc.sync_images") {
        "`lxc.cron_sync` is False"
    } else {
        "this castoff has no function mc_lxc.sync_images"
    };
    let told = &own["lxc.sync_images"];
    assert!(told["state"] == "off" && told["why"].as_str().unwrap().contains(why), "{told}");
    assert_eq!((&own["sync"]["state"], &own["sync"]["why"]), (&json!("off"), &json!("`sync.schedule` is none")));

    let on = bare.with("CASTOFF_SYNC_SCHEDULE", "17 3 * * *").with("TZ", "Asia/Kolkata");
    let sync = list(&on)["sync"].clone();
    assert_eq!((&sync["state"], &sync["schedule"]), (&json!("on"), &json!("17 3 * * * Asia/Kolkata")));
    let delay = sync["delay"].as_i64().unwrap();
    assert!((0..900).contains(&delay));
    // The time on the wall, by GNU date.
    let first = sync["next"][0].as_str().unwrap();
    assert!(first.ends_with("+05:30"), "{first}");
    let wall = |text: &str| {
        let output = std::process::Command::new("date").env("TZ", "Asia/Kolkata").args(["-d", text, "+%s"]).output();
        String::from_utf8(output.unwrap().stdout).unwrap().trim().parse::<i64>().unwrap()
    };
    assert_eq!(wall(first) - delay, wall(&format!("{} 03:17", &first[..10])));
    let other = list(&on.with("CASTOFF_MINION_ID", "another"))["sync"]["delay"].clone();
    assert_ne!(other, json!(delay), "every host has its own delay");
}

#[test]
fn every_metric_of_the_alert_rules_is_there() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/contrib/prometheus/castoff.rules.yml");
    let text = std::fs::read_to_string(path).unwrap();
    let rules = castoff::document::parse(&text, "castoff.rules.yml").unwrap();
    let groups = rules.get("groups").and_then(castoff::vocab::Value::as_list).unwrap();
    let rules = groups[0].get("rules").and_then(castoff::vocab::Value::as_list).unwrap();
    let place = place(&entry("it", "test.ping", ""));
    let _daemon = place.daemon();
    when(&place, "the first look", |_| true);
    let metrics = wait_for("what is counted", || {
        let metrics = place.get("/metrics").body;
        metrics.contains("castoff_store_bytes 0").then_some(metrics)
    });
    assert!(metrics.contains("castoff_schedule_next_run_timestamp_seconds{schedule=\"it\"} "), "{metrics}");
    assert!(rules.len() > 5);
    let mut families = std::collections::BTreeSet::new();
    for rule in rules {
        let expression = rule.get("expr").and_then(castoff::vocab::Value::as_str).unwrap();
        let names: Vec<&str> = expression
            .split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '_'))
            .filter(|word| word.starts_with("castoff_"))
            .collect();
        assert!(!names.is_empty(), "{expression}");
        for name in names {
            assert!(metrics.contains(&format!("\n# TYPE {name} ")), "{name} is not in\n{metrics}");
            families.insert(name.to_owned());
        }
    }
    assert!(families.len() > 6);
    if let Ok(output) = std::process::Command::new("promtool").args(["check", "rules", path]).output() {
        assert!(output.status.success(), "{output:?}");
    }
}
