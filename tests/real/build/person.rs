//! An ordinary user builds as root does: the same bytes, by subordinate ids.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::{Value, json};

use super::{Workshop, plan, run, step, tar};
use crate::harness::{program, require_root, succeed};

/// Another group that the user is in, on every Debian.
const GROUP: &str = "games";

/// A user of this machine that goes with this value.
pub(super) struct Person {
    name: String,
}

impl Person {
    pub(super) fn new() -> Self {
        require_root();
        let name = format!("castoff-b{}", std::process::id());
        succeed(program("useradd").args([
            "--create-home",
            "--add-subids-for-system",
            "--system",
            "--groups",
            GROUP,
            &name,
        ]));
        Self { name }
    }

    pub(super) fn number(&self, flag: &str) -> String {
        succeed(program("id").args([flag, &self.name])).trim().to_owned()
    }

    /// The test's castoff as this user, with its state in that folder.
    fn castoff(&self, folder: &Path, arguments: &[&str]) -> std::process::Output {
        program("setpriv")
            .args(["--reuid", &self.number("-u"), "--regid", &self.number("-g"), "--init-groups", "--"])
            .arg(env!("CARGO_BIN_EXE_castoff"))
            .args(["call", "--out=json"])
            .args(arguments)
            .env("CASTOFF_CONFIG", "/dev/null")
            .env("CASTOFF_STATE_DIR", folder.join("state"))
            .env("HOME", folder)
            .env("CASTOFF_ENGINE", "store")
            .current_dir(folder)
            .output()
            .unwrap()
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _gone = program("userdel").args(["--remove", &self.name]).output();
    }
}

#[test]
fn an_ordinary_user_gets_the_bytes_that_root_gets() {
    let person = Person::new();
    let shop = Workshop::new();
    std::fs::set_permissions(shop.castoff.scratch(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(folder.path(), Some(person.number("-u").parse().unwrap()), None).unwrap();
    // What only that group may read is read, and no command in the tree is in it.
    let file = shop.write("in/file", "content");
    succeed(program("chgrp").arg(GROUP).arg(&file));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let steps = [
        step(json!({ "copy-in": { "source": shop.path("in"), "into": "/root" } })),
        run(
            "echo x > /root/x; chmod 4711 /root/x; mkdir /root/d; chmod 1777 /root/d; rm /bin/yes; id -G > /root/groups",
        ),
        step(json!({ "link": { "target": "x", "links": ["/root/y"] } })),
    ];
    let base = json!({ "tar": shop.path("base.tar") });
    let plans = |place: &Path| -> Value {
        let output = |form: Value, name: &str| json!({ "form": form, "path": place.join(name) });
        let disk = json!({ "disk": { "layout": "whole", "format": "qcow2", "size": { "exactly": 64 << 20 } } });
        json!([plan(
            "one",
            &base,
            &steps,
            &[output(tar(), "out.tar"), output(disk, "out.qcow2"), output(json!("squashfs"), "out.squashfs")]
        )])
    };
    let report = shop.build(plans(&shop.path("")).as_array().unwrap());
    assert_eq!(report["result"], true, "{report:#}");
    assert_eq!(super::content(&shop.path("out.tar"), "root/groups"), "0\n");

    let file = folder.path().join("plans.json");
    std::fs::write(&file, plans(folder.path()).to_string()).unwrap();
    let output = person.castoff(folder.path(), &["build.run", file.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{told}"));
    assert_eq!(report["local"]["result"], true, "{told}");
    for name in ["out.tar", "out.qcow2", "out.squashfs"] {
        succeed(program("cmp").arg(shop.path(name)).arg(folder.path().join(name)));
    }
    // Trees belong to ids that the user cannot remove alone: castoff can.
    let output = person.castoff(folder.path(), &["store.verify"]);
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verified["local"]["result"], true, "{verified:#}");
    assert!(verified["local"]["layers_of_trees"].as_u64().unwrap() >= 3, "{verified:#}");
}

#[test]
fn a_missing_range_of_ids_is_named() {
    require_root();
    let name = format!("castoff-n{}", std::process::id());
    succeed(program("useradd").args(["--no-create-home", "--system", &name]));
    let person = Person { name };
    let shop = Workshop::new();
    std::fs::set_permissions(shop.castoff.scratch(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), Some(person.number("-u").parse().unwrap()), None).unwrap();
    let file = shop.document(&[shop.plan("one", &[run("true")], &tar(), "out.tar")]);
    let output = person.castoff(folder.path(), &["build.run", file.to_str().unwrap()]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("/etc/subuid"), "{told}");
}

#[test]
fn a_device_that_only_root_can_make_is_named_and_those_in_dev_are_in_no_image() {
    let person = Person::new();
    let shop = Workshop::new();
    std::fs::set_permissions(shop.castoff.scratch(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), Some(person.number("-u").parse().unwrap()), None).unwrap();
    let build = |place: &str| -> String {
        let more = tempfile::tempdir().unwrap();
        std::fs::create_dir(more.path().join(place)).unwrap();
        succeed(program("mknod").arg(more.path().join(place).join("disk")).args(["b", "7", "0"]));
        let base = shop.path(&format!("{place}.tar"));
        std::fs::copy(shop.path("base.tar"), &base).unwrap();
        succeed(program("tar").arg("-C").arg(more.path()).arg("-rf").arg(&base).arg(format!("{place}/disk")));
        let out = folder.path().join("out.tar");
        let output = json!({ "form": tar(), "path": out });
        let file = shop.document(&[plan("one", &json!({ "tar": base }), &[run("true")], &[output])]);
        let told = person.castoff(folder.path(), &["build.run", file.to_str().unwrap()]);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{told:?}"));
        told["local"]["images"]["one"]["comment"].as_str().unwrap_or("built").to_owned()
    };
    assert_eq!(build("dev"), "built");
    let told = build("srv");
    assert!(told.contains("cannot make the device `/srv/disk`") && told.contains("only root"), "{told}");
}

#[test]
fn a_bootstrap_of_an_ordinary_user_is_that_of_root() {
    let person = Person::new();
    let shop = Workshop::new();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(folder.path(), Some(person.number("-u").parse().unwrap()), None).unwrap();
    let base = shop.bootstrap(&["less"]);
    let more = json!({ "packages": { "install": ["jq"], "recommends": null } });
    let steps = [json!({ "action": more, "network": true })];
    let plans = |place: &Path| [plan("one", &base, &steps, &[json!({ "form": tar(), "path": place.join("out.tar") })])];
    let report = shop.build(&plans(&shop.path("")));
    assert_eq!(report["result"], true, "{report:#}");
    let file = folder.path().join("plans.json");
    std::fs::write(&file, json!(plans(folder.path())).to_string()).unwrap();
    let output = person.castoff(folder.path(), &["build.run", file.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(report["local"]["result"], true, "{report:#}");
    succeed(program("cmp").arg(shop.path("out.tar")).arg(folder.path().join("out.tar")));
}
