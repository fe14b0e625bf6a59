//! An `images.json` of little-vm-helper, unchanged: built from packages of the host's own archive, booted under qemu to a login
//! on ttyS0; judged by what the machine says of itself, by e2fsck and debugfs, and by mmdebstrap's own choice of packages.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Castoff, program, require_root, succeed};

struct Forest {
    castoff: Castoff,
    dir: PathBuf,
}

impl Forest {
    fn new(document: &Value) -> Self {
        let castoff = Castoff::new();
        let dir = castoff.scratch().join("vm");
        std::fs::create_dir_all(&dir).unwrap();
        let this = Self { castoff, dir };
        this.write("images.json", &serde_json::to_string_pretty(document).unwrap());
        this
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn image(&self, name: &str) -> PathBuf {
        self.dir.join("images").join(name)
    }

    fn lvh(&self, more: &[&str]) -> Output {
        let suite = own_suite();
        let dir = self.dir.display().to_string();
        let words = [&["lvh", "images", "build", "--dir", &dir, "--pkg-repo", &suite], more].concat();
        self.castoff.command(words).output().unwrap()
    }

    fn build(&self, more: &[&str]) -> String {
        let output = self.lvh(more);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}\n{told}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    }
}

fn own_suite() -> String {
    succeed(program("sh").args(["-c", ". /etc/os-release; printf %s \"$VERSION_CODENAME\""]))
}

/// What a file of an ext4 image holds.
fn in_image(image: &Path, file: &str) -> String {
    succeed(program("debugfs").args(["-R", &format!("cat {file}")]).arg(image))
}

fn packages_of(status: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for paragraph in status.split("\n\n") {
        let field = |name: &str| {
            paragraph.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
        };
        if field("Status:") == "install ok installed" {
            found.insert(format!("{} {}", field("Package:"), field("Version:")));
        }
    }
    found
}

#[test]
fn a_base_and_a_child_are_built_boot_and_hold_what_was_asked() {
    require_root();
    let forest = Forest::new(&json!([
        { "name": "base.img", "packages": ["less"], "image_size": "3G", "actions": [
            { "comment": "no password", "type": "run-command", "op": { "Cmd": "passwd -d root" } },
            { "type": "copy-in", "op": { "LocalPath": "files", "RemoteDir": "/opt" } }] },
        { "name": "child.qcow2", "parent": "base.img", "packages": ["jq"], "image_size": "+1G", "actions": [
            { "type": "set-hostname", "op": { "Hostname": "forest-child" } },
            { "type": "mkdir", "op": { "Dir": "/srv/deep/er" } },
            { "type": "upload", "op": { "File": "files/one", "Dest": "/srv/one" } },
            { "type": "chmod", "op": { "Permissions": "0750", "File": "/srv/one" } },
            { "type": "append-line", "op": { "File": "/srv/one", "Line": "more" } },
            { "type": "link", "op": { "Target": "/srv/one", "Link": "/srv/alias" } },
            { "type": "tar-in", "op": { "TarFile": "in.tar", "RemoteDir": "/srv/deep" } }] }
    ]));
    forest.write("files/one", "one");
    succeed(
        program("tar").args(["-cf"]).arg(forest.dir.join("in.tar")).arg("-C").arg(forest.dir.join("files")).arg("one"),
    );
    let lines = forest.build(&[]);
    assert_eq!(
        lines,
        "image:base.img   cachedImageUsed:false cachedImageDeleted:\nimage:child.qcow2 cachedImageUsed:false cachedImageDeleted:\n"
    );
    let base = forest.image("base.img");
    succeed(program("e2fsck").args(["-fn"]).arg(&base));
    assert_eq!(std::fs::metadata(&base).unwrap().len(), 3 << 30);
    assert_eq!(in_image(&base, "/opt/files/one"), "one");

    // The packages are those that mmdebstrap takes for the same words, one by one, with their versions.
    let sources = forest.castoff.call(&["build.sources", &own_suite()]);
    let floor = forest.castoff.scratch().join("floor");
    let mut mmdebstrap = program("mmdebstrap");
    mmdebstrap
        .args(["--quiet", "--mode=root", "--dpkgopt=force-unsafe-io", "--include=linux-image-amd64,less", &own_suite()])
        .arg(&floor);
    mmdebstrap.args(sources["text"].as_str().unwrap().lines());
    succeed(&mut mmdebstrap);
    let expected = packages_of(&std::fs::read_to_string(floor.join("var/lib/dpkg/status")).unwrap());
    assert_eq!(packages_of(&in_image(&base, "/var/lib/dpkg/status")), expected);

    let child = forest.image("child.qcow2");
    let info: Value =
        serde_json::from_str(&succeed(program("qemu-img").args(["info", "--output=json"]).arg(&child))).unwrap();
    assert_eq!((&info["format"], &info["virtual-size"]), (&"qcow2".into(), &(4u64 << 30).into()));
    let command = "hostname; cat /srv/one; stat -c %a /srv/one; readlink /srv/alias; ls -d /srv/deep/er; jq --version; cat /opt/files/one; systemctl is-system-running >/dev/null; echo; uname -s";
    let booted = forest.castoff.call(&[
        "image.boot",
        &child.display().to_string(),
        &format!("command={command}"),
        "timeout=600",
    ]);
    assert_eq!(booted["result"], true, "{booted:#}");
    let said = booted.to_string();
    for wanted in ["forest-child", "one\\nmore\\n750", "/srv/deep/er", "jq-1", "Linux"] {
        assert!(said.contains(wanted), "{wanted} in {booted:#}");
    }

    // Nothing changed: nothing is done. A file that the child alone took changes the child alone.
    assert!(forest.build(&[]).lines().all(|line| line.contains("cachedImageUsed:true")));
    std::fs::write(forest.dir.join("in.tar"), std::fs::read(forest.dir.join("in.tar")).unwrap().repeat(1)).unwrap();
    assert!(forest.build(&[]).lines().all(|line| line.contains("cachedImageUsed:true")), "the same bytes are the same");
    forest.write("files/one", "two");
    let lines = forest.build(&[]);
    assert!(lines.lines().all(|line| line.contains("cachedImageUsed:false")), "{lines}");
    assert!(lines.contains("was replaced: changed: source"), "{lines}");
    assert_eq!(in_image(&base, "/opt/files/one"), "two");
}

/// A forest whose base is an image that is there already: no packages, so no archive.
fn on_busybox(actions: &Value) -> Forest {
    let forest = Forest::new(&json!([{ "name": "child.img", "parent": "present.img", "actions": actions }]));
    let tree = forest.castoff.scratch().join("tree");
    std::fs::create_dir(&tree).unwrap();
    let tar = forest.castoff.scratch().join("base.tar");
    crate::build::busybox_tar(&tar);
    succeed(program("tar").arg("-xf").arg(&tar).arg("-C").arg(&tree));
    std::fs::create_dir_all(forest.dir.join("images")).unwrap();
    let image = forest.image("present.img");
    succeed(program("truncate").args(["-s", "64M"]).arg(&image));
    succeed(program("mke2fs").args(["-q", "-F", "-t", "ext4", "-d"]).arg(&tree).arg(&image));
    forest
}

#[test]
fn a_parent_that_nobody_declared_is_an_image_that_is_there() {
    require_root();
    let forest = on_busybox(&json!([{ "type": "run-command", "op": { "Cmd": "echo child > /root/child" } }]));
    assert_eq!(forest.build(&[]), "image:child.img  cachedImageUsed:false cachedImageDeleted:\n");
    assert_eq!(in_image(&forest.image("child.img"), "/root/child"), "child\n");
    assert_eq!(std::fs::metadata(forest.image("child.img")).unwrap().len(), 64 << 20);
    assert!(forest.build(&[]).contains("cachedImageUsed:true"));
    // Its bytes are part of the child.
    succeed(program("debugfs").args(["-w", "-R", "write /etc/hostname /root/new"]).arg(forest.image("present.img")));
    let lines = forest.build(&[]);
    assert!(lines.contains("cachedImageUsed:false") && lines.contains("changed: content"), "{lines}");
    assert!(!in_image(&forest.image("child.img"), "/root/new").is_empty());
}

#[test]
fn a_parent_that_nobody_declared_may_be_qcow2_without_a_kernel_and_a_link() {
    require_root();
    let forest = on_busybox(&json!([]));
    let elsewhere = forest.castoff.scratch().join("elsewhere");
    succeed(
        program("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .args([&forest.image("present.img"), &elsewhere]),
    );
    std::os::unix::fs::symlink(&elsewhere, forest.image("linked.qcow2")).unwrap();
    forest.write("images.json", &json!([{ "name": "child.img", "parent": "linked.qcow2" }]).to_string());
    assert_eq!(forest.build(&[]), "image:child.img  cachedImageUsed:false cachedImageDeleted:\n");
    assert_eq!(in_image(&forest.image("child.img"), "/etc/hostname"), "before\n");
    assert!(forest.build(&[]).contains("cachedImageUsed:true"));
    assert!(forest.image("linked.qcow2").is_symlink());
    // Who wants it to boot is told what it lacks, and how to do without.
    forest.write(
        "images.json",
        &json!([{ "name": "child.img", "parent": "linked.qcow2", "bootable": true }]).to_string(),
    );
    let output = forest.lvh(&[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("there is no kernel") && told.contains("`\"bootable\": false`"), "{told}");
}

#[test]
fn what_fails_or_is_missing_is_named_and_the_hint_fits() {
    require_root();
    let upload = |file: &str| json!({ "type": "upload", "op": { "File": file, "Dest": "/root/x" } });
    let table = [
        (
            json!([{ "type": "chmod", "op": { "Permissions": "0600", "File": "/no" } }]),
            &["child.img: `set the mode of /no to 0600` failed: ", "Caused by: "][..],
        ),
        (
            json!([upload("first"), upload("second")]),
            &["/vm/first` is not there", "/vm/second` is not there", "hint: put each file where it is looked for"],
        ),
        (
            json!([{ "type": "run-command", "op": { "Cmd": "dd if=/dev/urandom of=/root/x bs=1M count=100" } }]),
            &["the tree does not fit", "hint: a size of at least ", "`\"image_size\": \"1"],
        ),
    ];
    for (actions, wanted) in table {
        let forest = on_busybox(&actions);
        let output = forest.lvh(&[]);
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8_lossy(&output.stderr);
        for wanted in wanted {
            assert!(told.contains(wanted), "{wanted}: {told}");
        }
        assert!(!told.contains("castoff doctor"), "{told}");
    }
}

#[test]
fn a_failed_image_is_never_taken_for_a_good_one() {
    require_root();
    let broken = json!([{ "type": "run-command", "op": { "Cmd": "echo the reason; exit 3" } }]);
    let forest = on_busybox(&broken);
    for _ in 0..2 {
        let output = forest.lvh(&[]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "");
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(told.contains("images errors:child.img: ") && told.contains("the reason"), "{told}");
        let line = told.lines().find(|line| line.starts_with("images errors:")).unwrap();
        assert!(line.ends_with("failed: exit code 3"), "one line announces no others: {line}");
        assert!(!forest.image("child.img").exists());
    }
}

#[test]
fn an_image_of_somebody_elses_is_moved_aside_and_the_sixth_case_is_one_of_castoffs() {
    require_root();
    let forest = on_busybox(&json!([]));
    forest.write("images/child.img", "somebody's");
    let lines = forest.build(&[]);
    assert!(lines.contains("cachedImageUsed:false cachedImageDeleted:") && lines.contains("did not write"), "{lines}");
    assert_eq!((lines.matches("moved to").count(), lines.matches("child.img.aside-1").count()), (1, 1), "{lines}");
    let aside: Vec<_> =
        std::fs::read_dir(forest.dir.join("images")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(aside.iter().any(|path| std::fs::read(path).unwrap() == b"somebody's"), "{aside:?}");
    // The sixth of lvh's own cases: what is there and recorded is used, and what builds on it is made.
    assert!(forest.build(&[]).contains("cachedImageUsed:true"));
    std::fs::write(
        forest.dir.join("images.json"),
        json!([{ "name": "child.img", "parent": "present.img", "actions": [] }, { "name": "next.img", "parent": "child.img" }]).to_string(),
    )
    .unwrap();
    let lines = forest.build(&["-i", "next.img"]);
    assert!(
        lines.contains("image:child.img  cachedImageUsed:true")
            && lines.contains("image:next.img   cachedImageUsed:false cachedImageDeleted:\n"),
        "{lines}"
    );
    succeed(program("e2fsck").args(["-fn"]).arg(forest.image("next.img")));
}
