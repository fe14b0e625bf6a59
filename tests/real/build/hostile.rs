//! Steps that mean harm, and documents that do: contained, named, cleaned up.

use serde_json::json;

use super::{Workshop, nothing_left, run, step, tar};

#[test]
fn a_step_that_means_harm_is_contained_and_named() {
    let shop = Workshop::new();
    let secret = shop.write("secret", "host's");
    let free = || {
        let told = rustix::fs::statvfs(shop.castoff.scratch()).unwrap();
        told.f_bavail * told.f_frsize
    };
    let floor = (free() - (300 << 20)).to_string();
    let fill =
        "while :; do dd if=/dev/zero of=/root/fill bs=1048576 count=64 2>/dev/null conv=notrunc oflag=append; done";
    // What is tried, what stands against it, and what the report must name.
    let cases = [
        ("f(){ f|f& }; f; sleep 600", "CASTOFF_BUILD_PROCESSES", "64", "64 are allowed"),
        (fill, "CASTOFF_BUILD_DISK_FLOOR", floor.as_str(), "must stay"),
        ("sleep 600", "CASTOFF_BUILD_TIMEOUT", "2", "it ran longer than 2 s"),
    ];
    for (line, key, value, named) in cases {
        let file = shop.document(&[shop.plan("one", &[run(line)], &tar(), "out.tar")]);
        let begun = std::time::Instant::now();
        let output =
            shop.castoff.command(["call", "--out=json", "build.run"]).arg(file).env(key, value).output().unwrap();
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let comment = report["local"]["images"]["one"]["comment"].as_str().unwrap_or_else(|| panic!("{report:#}"));
        assert!(comment.contains("was killed") && comment.contains(named), "{line}: {comment}");
        assert!(begun.elapsed().as_secs() < 120, "{line}");
        assert!(!shop.path("out.tar").exists());
    }
    let kept = shop.castoff.call(&["build.failed"]);
    assert_eq!(kept.as_array().unwrap().len(), 2, "what filled the disk is gone: {kept}");
    let quiet = [
        "mount -t tmpfs x /tmp 2>/dev/null; umount /proc 2>/dev/null; exit 0",
        "kill -9 -1; true",
        "(sleep 1000 &) ; exit 0",
    ];
    for line in quiet {
        shop.build(&[shop.plan("one", &[run(line)], &tar(), "out.tar")]);
    }
    let spy = format!("cat /proc/1/root{0} {0} 2>/dev/null | grep host && exit 9; exit 0", secret.display());
    let report = shop.build(&[shop.plan("one", &[run(&spy)], &tar(), "out.tar")]);
    assert_eq!(report["result"], true, "{report:#}");
    nothing_left(&shop);
}

#[test]
fn links_in_the_tree_lead_nobody_out_of_it() {
    let shop = Workshop::new();
    let outside = shop.path("outside");
    std::fs::create_dir(&outside).unwrap();
    shop.write("in/file", "x");
    let at = outside.display();
    let steps = [
        run(&format!("ln -s {at} /out; mkdir -p /etc; ln -s {at}/hosts /etc/alias; ln -s /../../../../..{at} /up")),
        step(json!({ "make-directory": { "path": format!("{at}") } })),
        step(json!({ "upload": { "source": shop.path("in/file"), "to": "/out/file" } })),
        step(json!({ "append-line": { "path": "/etc/alias", "line": "x" } })),
        step(json!({ "write-file": { "path": "/up/w", "content": "x", "mode": 0o644 } })),
        step(json!({ "copy-in": { "source": shop.path("in"), "into": "/up" } })),
        step(json!({ "make-directory": { "path": "/out/../../../../../made" } })),
        step(json!({ "remove": { "path": "/up/w" } })),
    ];
    let report = shop.build(&[shop.plan("one", &steps, &tar(), "out.tar")]);
    assert_eq!(report["result"], true, "{report:#}");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "nothing got out");
    let listing = super::listing(&shop.path("out.tar"));
    assert!(listing.contains("/outside/file"), "{listing}");
}

#[test]
fn documents_that_are_wrong_are_refused_with_all_their_problems() {
    let shop = Workshop::new();
    let bad = |name: &str| super::plan(name, &json!("empty"), &[], &[]);
    for name in ["../x", "/etc/x", "a:b", "-x", ""] {
        let output = shop.try_build(&[bad(name)]);
        assert!(String::from_utf8_lossy(&output.stderr).contains("name of an image"), "{name}: {output:?}");
    }
    let cycle = |name: &str, parent: &str| super::plan(name, &json!({ "plan": parent }), &[], &[]);
    let output = shop.try_build(&[cycle("a", "b"), cycle("b", "c"), cycle("c", "a"), cycle("d", "gone"), bad("d")]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.contains("a -> b -> c -> a") && told.contains("no parent `gone`") && told.contains("duplicate"),
        "{told}"
    );
    assert!(!shop.castoff.state().join("trees").exists());
}
