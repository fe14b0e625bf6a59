//! The second build: what is found, what is made anew, and what outlives a kill.

use std::os::unix::process::CommandExt as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Workshop, content, hits, nothing_left, plan, run, step, tar};
use crate::harness::{program, succeed};

/// A base and two children, one of which has a file copied in.
fn forest(shop: &Workshop, last: &str) -> Vec<Value> {
    let child = |name: &str, steps: &[Value]| {
        let outputs = [json!({ "form": tar(), "path": shop.path(&format!("{name}.tar")) })];
        plan(name, &json!({ "plan": "base" }), steps, &outputs)
    };
    vec![
        shop.plan("base", &[run("echo base > /root/base")], &tar(), "base-out.tar"),
        child(
            "copies",
            &[
                step(json!({ "copy-in": { "source": shop.path("in"), "into": "/root" } })),
                run("cat /root/in/file > /root/seen"),
            ],
        ),
        child("plain", &[run("echo one > /root/one"), run(last)]),
    ]
}

#[test]
fn only_what_changed_is_made_anew() {
    let shop = Workshop::new();
    shop.write("in/file", "first");
    let first = shop.build(&forest(&shop, "echo last > /root/last"));
    assert_eq!(first["result"], true, "{first:#}");
    assert_eq!(hits(&first, "base"), [false, false]);
    assert_eq!(first["snapshots"], "overlay", "{first:#}");

    let begun = Instant::now();
    let second = shop.build(&forest(&shop, "echo last > /root/last"));
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(second["snapshots"], Value::Null, "nothing was run: {second:#}");
    for image in ["base", "copies", "plain"] {
        assert!(hits(&second, image).iter().all(|hit| *hit), "{second:#}");
        assert_eq!(second["images"][image]["outputs"][0]["hit"], true, "{second:#}");
    }

    // A copied file: its own image only. The checkout's times are none of it.
    shop.write("in/file", "second");
    let copied = shop.build(&forest(&shop, "echo last > /root/last"));
    assert_eq!(hits(&copied, "copies"), [false, false], "{copied:#}");
    assert_eq!(hits(&copied, "plain"), [true, true], "{copied:#}");
    assert!(copied["images"]["copies"]["steps"][0]["reason"].as_str().unwrap().contains("source"), "{copied:#}");
    assert_eq!(content(&shop.path("copies.tar"), "root/seen"), "second");
    std::fs::File::open(shop.path("in/file")).unwrap().set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(hits(&shop.build(&forest(&shop, "echo last > /root/last")), "copies"), [true, true]);

    let last = shop.build(&forest(&shop, "echo other > /root/last"));
    assert_eq!(hits(&last, "plain"), [true, false], "{last:#}");
    assert!(last["images"]["plain"]["steps"][1]["reason"].as_str().unwrap().contains("command"), "{last:#}");
    // What was made before is still known.
    let back = shop.build(&forest(&shop, "echo last > /root/last"));
    assert_eq!(hits(&back, "plain"), [true, true], "{back:#}");
    assert_eq!(content(&shop.path("plain.tar"), "root/last"), "last\n");
    nothing_left(&shop);
}

#[test]
fn the_same_change_twice_is_one_layer() {
    let shop = Workshop::new();
    let (make, undo) = (run("echo x > /root/x; touch -d @1000 /root"), run("rm /root/x; touch -d @1000 /root"));
    let steps = [make.clone(), undo.clone(), make.clone(), undo, make];
    let report = shop.build(&[shop.plan("one", &steps, &tar(), "out.tar")]);
    assert_eq!(report["result"], true, "{report:#}");
    assert_eq!(content(&shop.path("out.tar"), "root/x"), "x\n");
    nothing_left(&shop);
}

#[test]
fn a_plan_is_explained_without_running_it() {
    let shop = Workshop::new();
    shop.write("in/file", "first");
    let plans = forest(&shop, "echo last > /root/last");
    let explained = shop.build_with(&plans, &["test=True"]);
    let of = |explained: &Value, image: &str| {
        let found = explained.as_array().unwrap().iter().find(|one| one["name"] == image).unwrap().clone();
        found["steps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|step| (step["hit"].as_bool().unwrap(), step["reason"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&explained, "base")[0], (false, "never made before".into()), "{explained:#}");
    assert!(!shop.castoff.state().join("trees").exists(), "looking makes nothing");
    shop.build(&plans);
    let changed = forest(&shop, "echo other > /root/last");
    let explained = shop.build_with(&changed, &["test=True"]);
    let plain = of(&explained, "plain");
    assert!(plain[0].0, "{explained:#}");
    assert!(plain[1].1.as_str().unwrap().contains("action.run.command"), "{explained:#}");
    std::fs::remove_file(shop.path("in/file")).unwrap();
    std::fs::remove_dir(shop.path("in")).unwrap();
    let missing = shop.try_build(&changed);
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("is not there"), "{missing:?}");
}

#[test]
fn a_file_castoff_did_not_write_is_moved_aside_and_a_folder_refused() {
    let shop = Workshop::new();
    shop.write("out.tar", "somebody's");
    let plans = [shop.plan("one", &[run("true")], &tar(), "out.tar")];
    let report = shop.build(&plans);
    let output = &report["images"]["one"]["outputs"][0];
    assert_eq!(report["result"], true, "{report:#}");
    assert!(output["replaced"].as_str().unwrap().contains("did not write"), "{report:#}");
    let aside = output["moved_to"].as_str().unwrap();
    assert_eq!(std::fs::read_to_string(aside).unwrap(), "somebody's");

    // Changed since, by one byte and with its old time.
    let path = shop.path("out.tar");
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[2000] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    let report = shop.build(&plans);
    let output = &report["images"]["one"]["outputs"][0];
    assert!(output["replaced"].as_str().unwrap().contains("changed since"), "{report:#}");
    // A copy put back is the same: its bytes are.
    let copy = shop.path("copy");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::rename(&copy, &path).unwrap();
    assert_eq!(shop.build(&plans)["images"]["one"]["outputs"][0]["hit"], true);

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = shop.try_build(&plans);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("not a regular file"), "{refused:?}");
    assert!(path.is_dir());
}

#[test]
fn a_failed_build_leaves_the_previous_file() {
    let shop = Workshop::new();
    shop.build(&[shop.plan("one", &[run("echo good > /root/x")], &tar(), "out.tar")]);
    let report = shop.build(&[shop.plan("one", &[run("exit 1")], &tar(), "out.tar")]);
    assert_eq!(report["result"], false);
    assert_eq!(content(&shop.path("out.tar"), "root/x"), "good\n");
}

#[test]
fn a_killed_build_leaves_nothing_and_the_next_one_goes_on() {
    let shop = Workshop::new();
    shop.write("in/file", "first");
    let plans = forest(&shop, "echo last > /root/last");
    let file = shop.document(&plans);
    for point in [
        "trees.layer.before-rename",
        "trees.record.kept",
        "build.step.done",
        "build.output.announced",
        "build.output.before-rename",
        "build.output.after-rename",
    ] {
        for nth in [1, 2, 4] {
            let mut command = shop.castoff.command(["call", "build.run"]);
            command.arg(&file).env("CASTOFF_FAULT", format!("{point}@{nth}")).env("CASTOFF_BUILD_JOBS", "1");
            let _killed_inside = command.output().unwrap();
        }
    }
    let report = shop.build(&plans);
    assert_eq!(report["result"], true, "{report:#}");
    assert_eq!(content(&shop.path("plain.tar"), "root/last"), "last\n");
    let beside = std::fs::read_dir(shop.castoff.scratch()).unwrap().map(|entry| entry.unwrap().file_name());
    let aside: Vec<_> = beside.filter(|name| name.to_string_lossy().contains(".aside-")).collect();
    assert!(aside.is_empty(), "castoff's own files are known for its own: {aside:?}");
    nothing_left(&shop);
}

#[test]
fn a_build_whose_castoff_is_killed_takes_everything_with_it() {
    let shop = Workshop::new();
    let mark = format!("castoff-test-{}", std::process::id());
    let plans = [shop.plan(
        "one",
        &[run(&format!("(while :; do sleep 1; done) & echo {mark} > /dev/null; sleep 1000"))],
        &tar(),
        "out.tar",
    )];
    let file = shop.document(&plans);
    let mut child = shop.castoff.command(["call", "build.run"]).arg(&file).process_group(0).spawn().unwrap();
    let alive = || {
        let found = std::process::Command::new("pgrep").args(["-f", "sleep 1000"]).output().unwrap();
        let text = String::from_utf8_lossy(&found.stdout).into_owned();
        text.lines()
            .filter(|pid| {
                std::fs::read_link(format!("/proc/{pid}/root"))
                    .is_ok_and(|root| root.starts_with(shop.castoff.state()) || root == std::path::Path::new("/"))
            })
            .count()
    };
    let until = Instant::now() + Duration::from_secs(60);
    while alive() == 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(alive() > 0, "the step never began");
    child.kill().unwrap();
    child.wait().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while alive() > 0 {
        assert!(Instant::now() < until, "something outlived its castoff");
        std::thread::sleep(Duration::from_millis(50));
    }
    let well = [shop.plan("one", &[run("true")], &tar(), "out.tar")];
    assert_eq!(shop.build(&well)["result"], true);
    nothing_left(&shop);
}

#[test]
fn garbage_is_collected_and_what_is_needed_stays() {
    let shop = Workshop::new();
    shop.write("in/file", "first");
    let plans = forest(&shop, "echo last > /root/last");
    shop.build(&plans);
    let kept = shop.castoff.call(&["image.gc"]);
    assert_eq!(kept["trees"]["layers"], 0, "{kept:#}");
    assert!(shop.build(&plans)["snapshots"].is_null());
    let text =
        shop.castoff.command(["call", "--out=json", "image.gc"]).env("CASTOFF_BUILD_MAX_SIZE", "1").output().unwrap();
    let gone: Value = serde_json::from_slice(&text.stdout).unwrap();
    assert_eq!(gone["local"]["trees"]["size"], 0, "{gone:#}");
    let again = shop.build(&plans);
    assert_eq!(hits(&again, "base"), [false, false], "{again:#}");
    assert_eq!(again["images"]["base"]["outputs"][0]["hit"], true, "the file is still the result: {again:#}");
}

#[test]
fn what_nobody_used_for_long_and_failed_trees_are_collected() {
    let shop = Workshop::new();
    let failing = shop.plan("one", &[run("exit 3")], &tar(), "out.tar");
    let failed = shop.build(&[failing]);
    assert_eq!(failed["result"], false, "{failed:#}");
    let state = shop.castoff.state().to_owned();
    for name in ["archives/old/fetched", "archives/young/fetched", "caches/old/x", "caches/young/x", "digests/old"] {
        let path = state.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    for name in ["archives/old/fetched", "caches/old", "digests/old"] {
        succeed(program("touch").args(["-d", "3 days ago"]).arg(state.join(name)));
    }
    let collect = |key: &str, value: &str| -> Value {
        let output = shop.castoff.command(["call", "--out=json", "image.gc"]).env(key, value).output().unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))["local"].clone()
    };
    let report = collect("CASTOFF_BUILD_KEEP_DAYS", "2");
    assert_eq!(report["trees"]["failed"], 0, "{report:#}");
    let left = |folder: &str| -> Vec<String> {
        let entries = std::fs::read_dir(state.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).filter(|name| name != "lock").collect()
    };
    assert_eq!((left("archives"), left("caches")), (vec!["young".to_owned()], vec!["young".to_owned()]));
    // The tar's own digest is new.
    assert_eq!(left("digests").len(), 1, "{:?}", left("digests"));
    assert_eq!(shop.castoff.call(&["build.failed"]).as_array().unwrap().len(), 1);
    let report = collect("CASTOFF_BUILD_MAX_SIZE", "1");
    assert_eq!((&report["trees"]["failed"], &report["trees"]["size"]), (&json!(1), &json!(0)), "{report:#}");
    assert_eq!(shop.castoff.call(&["build.failed"]), json!([]));
}
