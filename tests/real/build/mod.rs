//! Plans carried out by the real binary, as root and as an ordinary user; judged by tar, find, e2fsck, unsquashfs, skopeo.

mod again;
mod container;
mod faults;
mod hostile;
mod outputs;
mod person;
mod steps;

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Castoff, program, succeed};

/// A castoff, a small root filesystem of busybox, and a document of plans.
pub(crate) struct Workshop {
    pub(crate) castoff: Castoff,
}

impl Workshop {
    pub(crate) fn new() -> Self {
        Self::with(Castoff::new())
    }

    pub(crate) fn with(castoff: Castoff) -> Self {
        let this = Self { castoff };
        busybox_tar(&this.path("base.tar"));
        this
    }

    /// A file or folder beside the plans.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.castoff.scratch().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    /// A plan on the busybox tree with these steps and one output.
    pub(crate) fn plan(&self, name: &str, steps: &[Value], form: &Value, output: &str) -> Value {
        let base = json!({ "tar": self.path("base.tar") });
        plan(name, &base, steps, &[json!({ "form": form, "path": self.path(output) })])
    }

    /// A small system of this machine's own suite, with these packages.
    pub(crate) fn bootstrap(&self, packages: &[&str]) -> Value {
        let told = succeed(&mut self.castoff.command(["call", "--out=json", "build.sources"]));
        let archive: Value = serde_json::from_str(&told).unwrap();
        let archive = &archive["local"];
        json!({ "bootstrap": {
            "suite": archive["suite"],
            "sources": { "files": [["sources.list", archive["text"]]] },
            "architecture": archive["architecture"],
            "variant": "minbase",
            "packages": packages,
        }})
    }

    pub(crate) fn document(&self, plans: &[Value]) -> PathBuf {
        self.write("plans.json", &serde_json::to_string_pretty(plans).unwrap())
    }

    /// Builds; the report.
    pub(crate) fn build(&self, plans: &[Value]) -> Value {
        self.build_with(plans, &[])
    }

    pub(crate) fn build_with(&self, plans: &[Value], more: &[&str]) -> Value {
        let file = self.document(plans);
        let output = self.castoff.command(["call", "--out=json", "build.run"]).arg(file).args(more).output().unwrap();
        // A failed image is in the report, and the exit code says so too.
        let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        told["local"].clone()
    }

    /// Builds, and does not mind how it ends.
    pub(crate) fn try_build(&self, plans: &[Value]) -> Output {
        let file = self.document(plans);
        self.castoff.command(["call", "--out=json", "build.run"]).arg(file).output().unwrap()
    }
}

pub(crate) fn plan(name: &str, base: &Value, steps: &[Value], outputs: &[Value]) -> Value {
    json!({ "name": name, "base": base, "steps": steps, "outputs": outputs, "place": "" })
}

/// A step without network.
pub(crate) fn step(action: Value) -> Value {
    json!({ "action": action, "network": false })
}

pub(crate) fn run(line: &str) -> Value {
    step(json!({ "run": { "command": { "shell": line }, "environment": {} } }))
}

pub(crate) fn tar() -> Value {
    json!({ "tar": { "compression": "none" } })
}

/// A root filesystem of busybox alone.
pub(crate) fn busybox_tar(to: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["bin", "etc", "usr/sbin", "root", "tmp", "dev", "proc", "sys", "var/log"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed by `make test`");
    let applets =
        "sh cat ls echo mkdir chmod ln rm sleep dd id stat find touch mount umount kill ps hostname yes head wc cp";
    for applet in applets.split(' ') {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(root.join("etc/hostname"), "before\n").unwrap();
    std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n127.0.1.1 before before.lan\n").unwrap();
    std::fs::write(root.join("etc/no-end"), "one").unwrap();
    succeed(
        program("tar")
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1600000000"])
            .arg("-cf")
            .arg(to)
            .arg("-C")
            .arg(root)
            .arg("."),
    );
}

/// What tar says of an archive: one line an entry, times among it.
pub(crate) fn listing(archive: &Path) -> String {
    succeed(program("tar").args(["--numeric-owner", "--full-time", "--utc", "-tvf"]).arg(archive))
}

/// A file of an archive.
pub(crate) fn content(archive: &Path, name: &str) -> String {
    succeed(program("tar").args(["-xOf"]).arg(archive).arg(name))
}

/// Which steps of an image were found, base first.
pub(crate) fn hits(report: &Value, image: &str) -> Vec<bool> {
    let steps = report["images"][image]["steps"].as_array().unwrap_or_else(|| panic!("{report:#}"));
    steps.iter().map(|step| step["hit"].as_bool().unwrap()).collect()
}

/// Fails unless the store of trees is whole and nothing of a build is left on this machine.
pub(crate) fn nothing_left(workshop: &Workshop) {
    let verified = workshop.castoff.call(&["store.verify"]);
    assert_eq!(verified["result"], true, "{verified:#}");
    let state = workshop.castoff.state().display().to_string();
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(&state), "{mounts}");
    let run = workshop.castoff.state().join("trees/run");
    let left: Vec<_> = std::fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}
