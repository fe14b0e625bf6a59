//! What breaking it on purpose found: descriptors and devices of the host, damage, times to come, detours.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Workshop, content, plan, run, step, tar};
use crate::harness::{program, succeed};

#[test]
fn nothing_that_the_caller_has_open_and_no_device_is_reached_from_a_tree() {
    let shop = Workshop::new();
    let line = "ls /proc/self/fd/9/ && exit 9; busybox mknod /dev/own c 1 3 || exit 6; cat /dev/own && exit 8; busybox unshare -U true && exit 7; exit 0";
    let file = shop.document(&[shop.plan("one", &[run(line)], &tar(), "out.tar")]);
    let mut shell = shop.castoff.command(["call", "--out=json", "build.run"]);
    shell.arg(&file);
    let words: Vec<_> =
        std::iter::once(shell.get_program()).chain(shell.get_args()).map(|word| word.to_owned()).collect();
    let mut opened = program("bash");
    opened.args(["-c", "exec 9</; exec \"$0\" \"$@\""]).args(words);
    for (key, value) in shell.get_envs() {
        if let Some(value) = value {
            opened.env(key, value);
        }
    }
    let output = opened.process_group(0).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(told["local"]["result"], true, "{told:#}");
}

#[test]
fn a_damaged_layer_is_told_and_made_anew_by_force() {
    let shop = Workshop::new();
    let plans = [shop.plan("one", &[run("echo good > /root/good")], &tar(), "out.tar")];
    assert_eq!(shop.build(&plans)["result"], true);
    let layers = shop.castoff.state().join("trees/layers");
    let found = succeed(program("find").arg(layers).args(["-path", "*/tree/root/good"]));
    std::fs::write(found.trim(), "evil\n").unwrap();
    let output = shop.castoff.command(["call", "--out=json", "store.verify"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stdout).contains("force=True"), "{output:?}");
    assert_eq!(shop.build_with(&plans, &["force=True"])["result"], true);
    assert_eq!(content(&shop.path("out.tar"), "root/good"), "good\n");
    assert_eq!(shop.castoff.call(&["store.verify"])["result"], true);
}

#[test]
fn times_to_come_in_a_base_make_no_builds_that_differ() {
    let shop = Workshop::new();
    let late = shop.write("late/late", "x");
    succeed(program("touch").args(["-d", "2100-01-01"]).arg(&late));
    succeed(program("tar").arg("-C").arg(shop.path("late")).arg("-rf").arg(shop.path("base.tar")).arg("late"));
    let plans = [shop.plan("one", &[run("echo x > /root/new")], &tar(), "out.tar")];
    assert_eq!(shop.build(&plans)["result"], true);
    std::fs::rename(shop.path("out.tar"), shop.path("first.tar")).unwrap();
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(shop.build_with(&plans, &["force=True"])["result"], true);
    succeed(program("cmp").arg(shop.path("first.tar")).arg(shop.path("out.tar")));
}

#[test]
fn what_was_asked_for_by_name_stays() {
    let shop = Workshop::new();
    let policy = "#!/bin/sh\nexit 101\n";
    let steps = [
        step(json!({ "write-file": { "path": "/var/log/dpkg.log", "content": "asked for\n", "mode": 0o640 } })),
        run("echo 0123456789abcdef0123456789abcdef > /etc/machine-id"),
        step(
            json!({ "write-file": { "path": "/etc/machine-id", "content": "0123456789abcdef0123456789abcdef\n", "mode": 0o444 } }),
        ),
        run(": > /etc/machine-id"),
        run(&format!(
            "printf '{}' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d",
            policy.replace('\n', "\\n")
        )),
        run("true"),
    ];
    let report = shop.build(&[shop.plan("one", &steps, &tar(), "out.tar")]);
    assert_eq!(report["result"], true, "{report:#}");
    let out = shop.path("out.tar");
    assert_eq!(content(&out, "var/log/dpkg.log"), "asked for\n");
    assert_eq!(content(&out, "etc/machine-id"), "");
    assert_eq!(content(&out, "usr/sbin/policy-rc.d"), policy);
}

#[test]
fn outputs_that_collide_and_sources_that_lead_elsewhere_are_refused() {
    let shop = Workshop::new();
    let base = json!({ "tar": shop.path("base.tar") });
    let build = |steps: &[Value], outputs: &[(&str, Value)]| {
        let outputs: Vec<Value> =
            outputs.iter().map(|(path, form)| json!({ "form": form, "path": shop.path(path) })).collect();
        let output = shop.try_build(&[plan("one", &base, steps, &outputs)]);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    for outputs in [
        [("d/out.tar", tar()), ("./d/../d/out.tar", tar())],
        [("tree", json!("directory")), ("tree/out.tar", tar())],
        [("tree/out.tar", tar()), ("tree", json!("directory"))],
    ] {
        let told = build(&[], &outputs);
        assert!(told.contains("both make"), "{told}");
    }
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret"), shop.path("link")).unwrap();
    std::os::unix::fs::symlink(outside.path(), shop.path("folder")).unwrap();
    for action in [
        json!({ "copy-in": { "source": shop.path("link"), "into": "/root" } }),
        json!({ "upload": { "source": shop.path("folder/secret"), "to": "/root/x" } }),
    ] {
        let told = build(&[step(action)], &[("out.tar", tar())]);
        assert!(told.contains("leads out of") && told.contains("secret"), "{told}");
    }
    let told = build(&[step(json!({ "upload": { "source": shop.path(""), "to": "/root/x" } }))], &[("out.tar", tar())]);
    assert!(told.contains("an upload is one file"), "{told}");
}

#[test]
fn all_that_is_wrong_in_a_document_is_told_with_its_place() {
    let shop = Workshop::new();
    let good = shop.plan("good", &[run("true")], &tar(), "out.tar");
    let mut unknown = good.clone();
    unknown["steps"][0]["netwrok"] = json!(true);
    let mut wrong = good.clone();
    wrong["base"] = json!("emtpy");
    wrong["outputs"][0]["form"] = json!("sqashfs");
    let output = shop.try_build(&[good.clone(), unknown, wrong]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    for word in ["wrong in 3 places", "netwrok", "emtpy", "sqashfs"] {
        assert!(told.contains(word), "{word}: {told}");
    }
    let text = std::fs::read_to_string(shop.path("plans.json")).unwrap();
    let line = text.lines().position(|line| line.contains("emtpy")).unwrap() + 1;
    assert!(told.contains(&format!("plans.json:{line}:")), "{line}: {told}");
    let steps = [
        step(json!({ "set-hostname": { "name": "evil\n6.6.6.6 deb" } })),
        step(json!({ "change-mode": { "path": "/root", "mode": 0o10_0644 } })),
        step(json!({ "link": { "target": "x", "links": [] } })),
    ];
    let output = shop.try_build(&[good.clone(), shop.plan("bad", &steps, &tar(), "bad.tar"), good]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    for word in ["step 1", "no host name", "step 2", "no mode", "step 3", "duplicate", "plans.json:"] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

#[test]
fn a_cancelled_step_leaves_nothing() {
    let shop = Workshop::new();
    let file = shop.document(&[shop.plan("one", &[run("echo up > /root/up; sleep 1000")], &tar(), "out.tar")]);
    std::fs::create_dir_all(shop.castoff.state()).unwrap();
    let mut child = shop.castoff.command(["call", "build.run"]).arg(file).spawn().unwrap();
    let run = shop.castoff.state().join("trees/run");
    let begun = std::time::Instant::now();
    // Folders come and go while find looks.
    let started = || {
        let found = program("find").arg(shop.castoff.state()).args(["-path", "*/root/up"]).output().unwrap();
        !found.stdout.is_empty()
    };
    while !started() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the step did not start");
        std::thread::sleep(Duration::from_millis(50));
    }
    succeed(program("kill").args(["-INT", &child.id().to_string()]));
    assert!(!child.wait().unwrap().success());
    let left: Vec<_> = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(left, Vec::<std::path::PathBuf>::new());
}
