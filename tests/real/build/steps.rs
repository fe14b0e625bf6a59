//! Every action, and what it leaves in the tree.

use serde_json::json;

use super::{Workshop, content, hits, listing, nothing_left, run, step, tar};

#[test]
fn every_action_does_what_it_says() {
    let shop = Workshop::new();
    shop.write("in/folder/a", "a");
    shop.write("in/folder/deep/b", "b");
    std::os::unix::fs::symlink("../../../../etc/passwd", shop.path("in/folder/out")).unwrap();
    shop.write("in/file", "file");
    std::os::unix::fs::chown(shop.path("in/folder/a"), Some(33), Some(34)).unwrap();
    crate::harness::succeed(
        crate::harness::program("tar")
            .args(["-cf"])
            .arg(shop.path("in.tar"))
            .arg("-C")
            .arg(shop.path("in"))
            .arg("folder"),
    );
    let steps = [
        run("echo $SOURCE_DATE_EPOCH > /root/epoch; id -u > /root/id; hostname > /root/name; ls /sys > /dev/null"),
        step(json!({ "make-directory": { "path": "/opt/x/y" } })),
        step(json!({ "make-directory": { "path": "/opt/x/y" } })),
        step(json!({ "copy-in": { "source": shop.path("in/folder"), "into": "/opt" } })),
        step(json!({ "upload": { "source": shop.path("in/file"), "to": "/opt/x" } })),
        step(json!({ "upload": { "source": shop.path("in/file"), "to": "/opt/renamed" } })),
        step(json!({ "tar-in": { "source": shop.path("in.tar"), "into": "/opt/x" } })),
        step(json!({ "append-line": { "path": "/etc/no-end", "line": "two" } })),
        step(json!({ "append-line": { "path": "/etc/new", "line": "only" } })),
        step(json!({ "change-mode": { "path": "/opt/renamed", "mode": 0o4755 } })),
        step(json!({ "link": { "target": "/opt/renamed", "links": ["/opt/link", "/etc/no-end-2", "/opt/x/y"] } })),
        step(json!({ "link": { "target": "/bin/busybox", "links": ["/opt/link"] } })),
        step(json!({ "set-hostname": { "name": "after" } })),
        step(json!({ "write-file": { "path": "/etc/written", "content": "x\n", "mode": 0o600 } })),
        step(json!({ "remove": { "path": "/bin/yes" } })),
        step(json!({ "remove": { "path": "/bin/never-was" } })),
    ];
    let report = shop.build(&[shop.plan("one", &steps, &tar(), "out.tar")]);
    assert_eq!(report["result"], true, "{report:#}");
    let out = shop.path("out.tar");
    let text = |name: &str| content(&out, name);
    assert_eq!((text("root/epoch"), text("root/id")), ("1600000000\n".into(), "0\n".into()));
    assert_eq!(
        (text("opt/folder/deep/b"), text("opt/x/file"), text("opt/renamed")),
        ("b".into(), "file".into(), "file".into())
    );
    assert_eq!(text("opt/x/folder/a"), "a");
    assert_eq!(
        (text("etc/no-end"), text("etc/new"), text("etc/written")),
        ("one\ntwo\n".into(), "only\n".into(), "x\n".into())
    );
    assert_eq!(text("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 after before.lan\n");
    assert_eq!(text("etc/hostname"), "after\n");
    let listing = listing(&out);
    for line in [
        "opt/link -> /bin/busybox",
        "opt/x/y/renamed -> /opt/renamed",
        "etc/no-end-2 -> /opt/renamed",
        "opt/folder/out -> ../../../../etc/passwd",
    ] {
        assert!(listing.contains(line), "{line} in\n{listing}");
    }
    let owned: Vec<&str> = listing.lines().filter(|line| line.contains(" 33/34 ")).collect();
    assert!(owned.len() == 2 && owned.iter().all(|line| line.ends_with("folder/a")), "owners stay: {owned:?}");
    assert!(listing.contains("-rwsr-xr-x 0/0") && !listing.contains("bin/yes"), "{listing}");
    assert!(!listing.contains("2026"), "nothing tells when it was built:\n{listing}");
    nothing_left(&shop);
}

#[test]
fn what_failed_is_told_kept_and_never_taken_for_a_result() {
    let shop = Workshop::new();
    let steps = |second: &str| [run("echo first > /root/first"), run(second), run("echo third > /root/third")];
    let broken = [shop.plan("one", &steps("echo about to fail; echo x > /root/half; exit 7"), &tar(), "out.tar")];
    for _ in 0..2 {
        let report = shop.build(&broken);
        assert_eq!(
            (&report["result"], &report["images"]["one"]["result"]),
            (&false.into(), &false.into()),
            "{report:#}"
        );
        let comment = report["images"]["one"]["comment"].as_str().unwrap();
        assert!(comment.contains("about to fail") && comment.contains("exit code 7"), "{comment}");
        assert!(comment.contains("kept for you"), "{comment}");
        assert!(!shop.path("out.tar").exists());
    }
    let kept = shop.castoff.call(&["build.failed"]);
    assert_eq!(kept.as_array().unwrap().len(), 2, "{kept}");
    let looked = shop.castoff.run(["call", "build.shell", r#"command=["cat", "/root/first", "/root/half"]"#]);
    assert!(looked.contains("true") || looked.contains("True"), "{looked}");
    let changed = shop.castoff.call(&[
        "build.shell",
        r#"command=["sh", "-c", "test -e /root/first && test -e /root/half && rm /root/half"]"#,
    ]);
    assert_eq!(changed["exit"], 0, "{changed}");
    let again = shop.castoff.call(&["build.shell", r#"command=["cat", "/root/half"]"#]);
    assert_eq!(again["exit"], 0, "what a shell changes is gone: {again}");

    let mended = [shop.plan("one", &steps("echo well > /root/well"), &tar(), "out.tar")];
    let report = shop.build(&mended);
    assert_eq!((&report["result"], hits(&report, "one")), (&true.into(), vec![true, true, false, false]), "{report:#}");
    assert!(!listing(&shop.path("out.tar")).contains("half"));
    nothing_left(&shop);
}

#[test]
fn services_are_kept_from_starting_and_the_host_leaves_no_trace() {
    let shop = Workshop::new();
    let steps = [
        run("cp /usr/sbin/policy-rc.d /root/policy; cat /etc/resolv.conf > /root/resolver || true"),
        run("ls -la /dev > /root/dev"),
    ];
    let report = shop.build(&[shop.plan("one", &steps, &tar(), "out.tar")]);
    assert_eq!(report["result"], true, "{report:#}");
    let out = shop.path("out.tar");
    assert!(content(&out, "root/policy").contains("exit 101"));
    let listing = listing(&out);
    for trace in ["usr/sbin/policy-rc.d", "etc/resolv.conf", "dev/null", "etc/machine-id"] {
        assert!(!listing.contains(trace), "{trace} in\n{listing}");
    }
}
