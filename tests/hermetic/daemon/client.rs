//! castoff as the client of its daemon: the same words, codes and bytes as without it.

use std::os::unix::net::UnixListener;

use super::{Place, wait_for};

#[test]
fn a_call_through_the_daemon_prints_and_exits_as_one_without_it() {
    let place = Place::new();
    place.write("rootfs/etc/hostname", "web\n");
    let calls: &[&[&str]] = &[
        &["test.arg", "1", "010", "yes", "1.50", "[a, 1]", "é", "x=010", "y={a: null}", "z="],
        &["--out=json", "test.echo", "text=007"],
        &["--out=yaml", "test.kwarg", "a=[1, 2]"],
        &["test.false"],
        &["--retcode-passthrough", "test.retcode", "9"],
        &["test.pong"],
        &["test.ping", "1"],
        &["test.ping", "x=1"],
        &["--retcode-passthrough", "test.ping", "x=1"],
        &["image.inspect", "store:a/b:1"],
        &["--retcode-passthrough", "image.inspect", "store:a/b:1"],
        &["--retcode-passthrough", "image.inspect", "dir:/nonexistent/missing"],
        &["image.inspect", "docker-archive:/nonexistent/x.tar"],
        &["image.inspect", "dir:rootfs", "--out=json"],
        &["sys.doc", "test.echo"],
    ];
    let without: Vec<_> = calls.iter().map(|words| place.run(&[&["call"], *words].concat())).collect();
    let _daemon = place.daemon();
    for (words, expected) in calls.iter().zip(without) {
        let (code, stdout, stderr) = place.run(&[&["call", "--daemon"], *words].concat());
        // The daemon is told where a relative path leads.
        let stdout = stdout.replace(&format!("{}/", place.folder.path().display()), "");
        assert_eq!((code, stdout, stderr), expected, "{words:?}");
    }
}

#[test]
fn a_long_call_is_followed_to_its_result() {
    let place = Place::new();
    place.write("rootfs/etc/hostname", "web\n");
    let _daemon = place.daemon();
    let (code, stdout, stderr) = place.run(&[
        "call",
        "--daemon",
        "--out=json",
        "-l",
        "info",
        "image.pack",
        "dir:rootfs",
        "docker-archive:web.tar",
        "example/web:1",
    ]);
    let (code, stdout, stderr) = if code == 0 {
        (code, stdout, stderr)
    } else {
        place.run(&[
            "call",
            "--daemon",
            "--out=json",
            "-l",
            "info",
            "image.pack",
            "dir:rootfs",
            "docker-archive:web.tar",
        ])
    };
    assert_eq!(code, 0, "{stdout}{stderr}");
    assert!(serde_json::from_str::<serde_json::Value>(&stdout).unwrap()["local"].is_object(), "{stdout}");
    assert!(stderr.contains("the daemon runs this as job "), "{stderr}");
    assert!(place.path("web.tar").exists());
    let failing = ["call", "--daemon", "--retcode-passthrough", "image.pack", "store:a/b:1"];
    let without = ["call", "--retcode-passthrough", "image.pack", "store:a/b:1"];
    assert_eq!(place.run(&failing), place.run(&without));
}

#[test]
fn a_socket_that_nobody_serves_is_an_error_and_never_computed_around() {
    let place = Place::new();
    place.write("pillar/database.yaml", "vms: {lxc: {node: [web-1]}}\n");
    let root = place.path("pillar").display().to_string();
    let place = place.with("CASTOFF_PILLAR_ROOT", root);
    assert_eq!(place.run(&["pillar", "web-1"]).0, 0);
    let (code, _, stderr) = place.run(&["call", "--daemon", "test.ping"]);
    assert_eq!((code, stderr.contains("castoff daemon")), (69, true), "{stderr}");
    std::fs::create_dir(place.path("run")).unwrap();
    drop(UnixListener::bind(place.path("run/c.sock")).unwrap());
    let (code, stdout, stderr) = place.run(&["pillar", "web-1"]);
    assert_eq!(code, 69, "{stdout}{stderr}");
    assert!(stdout.starts_with("{\"_errors\": [\"castoff: the daemon does not answer at "), "{stdout}");
    assert!(stderr.contains("c.sock"), "{stderr}");
    let (code, stdout, stderr) = place.run(&["pillar", "--quiet", "web-1"]);
    assert_eq!((code, stdout.starts_with("{\"_errors\": "), stderr.as_str()), (69, true, ""));
}

#[test]
fn a_client_waits_for_a_daemon_that_is_restarted() {
    let place = Place::new();
    let mut daemon = place.daemon();
    daemon.child.kill().unwrap();
    daemon.ended();
    let client = place
        .command(&["call", "--daemon", "--out=json", "test.ping"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let _next = place.daemon();
    let output = client.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\n    \"local\": true\n}\n");
}

#[test]
fn minion_data_reaches_the_function_through_either_door() {
    let place = Place::new();
    place.write("minion.json", r#"{"pillar": {"makina-states.cloud.images": {"lxc": {"default": "from-minion"}}}}"#);
    let words = ["call", "--out=json", "--minion-data", "minion.json", "mc_cloud_images.settings"];
    let (code, computed, stderr) = place.run(&words);
    assert_eq!(code, 0, "{stderr}");
    assert!(computed.contains("\"from-minion\""), "{computed}");
    let _daemon = place.daemon();
    let through: Vec<&str> = ["call", "--daemon"].into_iter().chain(words[1..].iter().copied()).collect();
    assert_eq!(place.run(&through), (0, computed, String::new()));
    let (code, _, stderr) = place.run(&["call", "--minion-data", "missing.json", "mc_cloud_images.settings"]);
    assert!(code != 0 && stderr.contains("missing.json"), "{stderr}");
    wait_for("the daemon to answer", || (place.get("/healthz").status == 200).then_some(()));
}
