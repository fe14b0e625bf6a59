//! Every form of output, and that equal plans give equal bytes wherever they are built.

use serde_json::{Value, json};

use super::{Workshop, content, plan, run, step, tar};
use crate::harness::{Castoff, program, succeed};

fn forms(shop: &Workshop) -> Vec<Value> {
    let disk = |layout: &str, format: &str, size: Value| json!({ "disk": { "layout": layout, "format": format, "size": size } });
    let output = |form: Value, path: &str| json!({ "form": form, "path": shop.path(path) });
    vec![
        output(tar(), "out.tar"),
        output(json!({ "tar": { "compression": "zstd" } }), "out.tar.zst"),
        output(json!({ "tar": { "compression": "xz" } }), "out.tar.xz"),
        output(json!({ "tar": { "compression": "gzip" } }), "out.tar.gz"),
        output(json!("squashfs"), "out.squashfs"),
        output(disk("whole", "raw", json!({ "exactly": 64 << 20 })), "out.img"),
        output(disk("whole", "qcow2", json!({ "exactly": 64 << 20 })), "out.qcow2"),
        output(disk("whole", "qcow2-zstd", json!("fitting")), "small.qcow2"),
    ]
}

fn build_in(folder: &std::path::Path) -> Workshop {
    let _ = folder;
    let shop = Workshop::new();
    shop.write("in/file", "content");
    let steps = [
        step(json!({ "copy-in": { "source": shop.path("in"), "into": "/root" } })),
        run(
            "date > /dev/null; touch /root/now; ln /root/now /root/again; mkdir /root/d; dd if=/dev/zero of=/root/zeros bs=1024 count=100 2>/dev/null",
        ),
    ];
    let one = plan("one", &json!({ "tar": shop.path("base.tar") }), &steps, &forms(&shop));
    let report = shop.build(&[one]);
    assert_eq!(report["result"], true, "{report:#}");
    shop
}

#[test]
fn equal_plans_give_equal_bytes_in_different_places() {
    let (one, other) = (build_in("a".as_ref()), build_in("b".as_ref()));
    for name in
        ["out.tar", "out.tar.zst", "out.tar.xz", "out.tar.gz", "out.squashfs", "out.img", "out.qcow2", "small.qcow2"]
    {
        let same = program("cmp").arg(one.path(name)).arg(other.path(name)).output().unwrap();
        assert!(same.status.success(), "{name}: {}", String::from_utf8_lossy(&same.stdout));
    }
    let out = |name: &str| one.path(name);
    succeed(program("e2fsck").args(["-fn"]).arg(out("out.img")));
    assert_eq!(std::fs::metadata(out("out.img")).unwrap().len(), 64 << 20);
    assert_eq!(succeed(program("debugfs").args(["-R", "cat /root/in/file"]).arg(out("out.img"))), "content");
    assert_eq!(succeed(program("unsquashfs").args(["-cat"]).arg(out("out.squashfs")).arg("root/in/file")), "content");
    let info: Value =
        serde_json::from_str(&succeed(program("qemu-img").args(["info", "--output=json"]).arg(out("out.qcow2"))))
            .unwrap();
    assert_eq!((&info["format"], &info["virtual-size"]), (&"qcow2".into(), &(64 << 20).into()));
    for name in ["out.tar.zst", "out.tar.xz", "out.tar.gz"] {
        assert_eq!(content(&out(name), "root/in/file"), "content", "{name}");
    }
}

#[test]
fn folders_and_images_are_outputs_too_and_bases_again() {
    let shop = Workshop::new();
    let outputs = [
        json!({ "form": "directory", "path": shop.path("folder") }),
        json!({ "form": { "image": { "reference": "store:castoff-test/built:1" } }, "path": null }),
        json!({ "form": { "disk": { "layout": "whole", "format": "raw", "size": { "exactly": 64 << 20 } } }, "path": shop.path("disk.img") }),
    ];
    let base = json!({ "tar": shop.path("base.tar") });
    let plans = |line: &str| [plan("one", &base, &[run(line)], &outputs)];
    let report = shop.build(&plans("echo one > /root/x; chmod 4755 /root/x"));
    assert_eq!(report["result"], true, "{report:#}");
    assert_eq!(std::fs::read_to_string(shop.path("folder/root/x")).unwrap(), "one\n");
    let again = shop.build(&plans("echo one > /root/x; chmod 4755 /root/x"));
    assert_eq!(again["snapshots"], Value::Null, "{again:#}");
    let changed = shop.build(&plans("echo two > /root/x; chmod 4755 /root/x"));
    assert_eq!(changed["result"], true, "{changed:#}");
    assert_eq!(std::fs::read_to_string(shop.path("folder/root/x")).unwrap(), "two\n");

    let from = |base: Value| {
        let report = shop.build(&[plan(
            "next",
            &base,
            &[run("cat /root/x /bin/busybox | wc -c > /root/y")],
            &[json!({ "form": tar(), "path": shop.path("next.tar") })],
        )]);
        assert_eq!(report["result"], true, "{report:#}");
        let listing = super::listing(&shop.path("next.tar"));
        assert!(listing.contains("-rwsr-xr-x 0/0"), "{listing}");
        content(&shop.path("next.tar"), "root/x")
    };
    assert_eq!(from(json!({ "directory": shop.path("folder") })), "two\n");
    assert_eq!(from(json!({ "image": "store:castoff-test/built:1" })), "two\n");
    assert_eq!(from(json!({ "disk": shop.path("disk.img") })), "two\n");
    let skopeo = succeed(
        program("skopeo")
            .arg("inspect")
            .arg("--config")
            .arg(format!("oci:{}:castoff-test/built:1", shop.castoff.state().join("store").display())),
    );
    assert!(skopeo.contains("rootfs"), "{skopeo}");
    super::nothing_left(&shop);
}

#[test]
fn copies_stand_in_where_overlays_cannot_be() {
    // tmpfs without user xattrs on older kernels, or a state folder that is an overlay itself: here, an overlay.
    crate::harness::require_root();
    let folder = tempfile::tempdir().unwrap();
    for name in ["lower", "upper", "work", "merged"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    let options = format!("lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work", folder.path().display());
    let merged = folder.path().join("merged");
    succeed(program("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(&merged));
    let outcome = std::panic::catch_unwind(|| {
        let shop = Workshop::with(Castoff::new().with("CASTOFF_STATE_DIR", merged.join("state").display().to_string()));
        let plans =
            [shop.plan("one", &[run("echo a > /root/a; rm /bin/yes"), run("echo b > /root/b")], &tar(), "out.tar")];
        let report = shop.build(&plans);
        assert_eq!(report["result"], true, "{report:#}");
        assert!(["copy", "reflink"].contains(&report["snapshots"].as_str().unwrap()), "{report:#}");
        assert!(report["warnings"][0].as_str().unwrap().contains("no overlays"), "{report:#}");
        let other = Workshop::new();
        let there =
            [other.plan("one", &[run("echo a > /root/a; rm /bin/yes"), run("echo b > /root/b")], &tar(), "out.tar")];
        other.build(&there);
        succeed(program("cmp").arg(shop.path("out.tar")).arg(other.path("out.tar")));
    });
    succeed(program("umount").arg(&merged));
    outcome.unwrap();
}
