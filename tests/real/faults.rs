//! SIGKILL in the real binary at every named point of writing an image, judged by skopeo, docker and Python: a name means
//! the old image or the new one, whole; the same command finishes afterwards and leaves nothing behind.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Castoff, DockerImage, docker, docker_host, program, succeed};

pub(crate) const MAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/image_make.py");

/// An archive of `docker save`, written by Python: two layers, ACLs, a hard link, a deletion.
pub(crate) fn make(archive: &Path, name: &str, content: &str, more: &[&str]) {
    succeed(program("python3").arg(MAKE).arg(archive).args([name, content]).args(more));
}

/// The ID of the image at a reference as skopeo reads it, every blob of it included.
pub(crate) fn judged(reference: &str) -> String {
    let copy = tempfile::tempdir().unwrap();
    let mut skopeo = program("skopeo");
    skopeo.args(["--insecure-policy", "copy", "-q"]);
    if reference.starts_with("docker-daemon:") {
        skopeo.args(["--src-daemon-host", &docker_host()]);
    }
    succeed(skopeo.arg(reference).arg(format!("dir:{}", copy.path().display())));
    let manifest: Value = serde_json::from_slice(&std::fs::read(copy.path().join("manifest.json")).unwrap()).unwrap();
    manifest["config"]["digest"].as_str().unwrap().to_owned()
}

/// Every file and folder below, as paths.
pub(crate) fn below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).into_iter().flatten() {
        let path = item.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            found.extend(below(&path));
        }
        found.push(path);
    }
    found.sort();
    found
}

/// What a killed run may leave and the next one must sweep.
pub(crate) fn leftovers(castoff: &Castoff) -> Vec<PathBuf> {
    let transient = ["tmp", "store/castoff/tmp", "store/castoff/leases"].map(|name| castoff.state().join(name));
    let is_leftover = |path: &PathBuf| {
        path.file_name().unwrap().to_string_lossy().starts_with(".castoff-")
            || transient.iter().any(|folder| path.parent() == Some(folder))
    };
    below(castoff.scratch()).into_iter().filter(is_leftover).collect()
}

/// The store holds what it says.
pub(crate) fn assert_store_is_whole(castoff: &Castoff) {
    let found = castoff.call(&["store.verify"]);
    assert_eq!((&found["result"], &found["mismatches"]), (&true.into(), &Value::Array(Vec::new())), "{found}");
}

/// One command that gives `destination` another image, to be killed again and again.
struct Storm<'a> {
    castoff: &'a Castoff,
    /// What skopeo and docker call the destination.
    place: String,
    /// The arguments of the call.
    arguments: Vec<String>,
    /// Brings back the state before the command.
    restore: Box<dyn Fn() + 'a>,
}

impl Storm<'_> {
    fn command(&self) -> Command {
        self.castoff.command(["call", "--out=json"].map(str::to_owned).iter().chain(&self.arguments))
    }

    /// The points the command reaches, each with how often.
    fn points(&self) -> BTreeMap<String, usize> {
        let log = self.castoff.scratch().join("points");
        succeed(self.command().env("CASTOFF_FAULT_LOG", &log));
        let mut points = BTreeMap::new();
        for line in std::fs::read_to_string(&log).unwrap().lines() {
            *points.entry(line.to_owned()).or_default() += 1;
        }
        points
    }

    /// Kills at every point; the points there were.
    fn rage(&self) -> Vec<String> {
        (self.restore)();
        let old = judged(&self.place);
        let points = self.points();
        let new = judged(&self.place);
        assert_ne!(old, new);
        for (point, count) in &points {
            let mut times = vec![1, count.div_ceil(2), *count];
            times.dedup();
            for nth in times {
                self.kill(&format!("{point}@{nth}"), &old, &new);
            }
        }
        points.into_keys().collect()
    }

    fn kill(&self, at: &str, old: &str, new: &str) {
        (self.restore)();
        let killed = self.command().env("CASTOFF_FAULT", at).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{at}: {}", String::from_utf8_lossy(&killed.stderr));
        let found = judged(&self.place);
        assert!(found == old || found == new, "killed at {at}: {} is {found}", self.place);
        let again = self.command().output().unwrap();
        assert!(again.status.success(), "after {at}: {}", String::from_utf8_lossy(&again.stderr));
        assert_eq!(judged(&self.place), new, "after {at}");
        assert_eq!(leftovers(self.castoff), Vec::<PathBuf>::new(), "after {at}");
        assert_store_is_whole(self.castoff);
    }
}

const NAME: &str = "castoff-test-faults:1";

/// A castoff with the archives of an old and a new image.
fn prepared(name: &str, subject: &str) -> Castoff {
    let castoff = Castoff::new();
    let content = |which: &str| format!("{which} {subject} {}", std::process::id());
    make(&castoff.scratch().join("old.tar"), name, &content("old"), &["3000"]);
    // Compressed layers are spooled: that is a place to be killed at, too.
    make(&castoff.scratch().join("new.tar"), name, &content("new"), &["200000", "gzip"]);
    castoff
}

/// Brings back state folder and target folder as they were when this was made.
fn snapshot(castoff: &Castoff) -> Box<dyn Fn() + '_> {
    let saved = castoff.scratch().join("saved");
    let folders = ["state", "target"];
    std::fs::create_dir(&saved).unwrap();
    for folder in folders {
        let source = castoff.scratch().join(folder);
        std::fs::create_dir_all(&source).unwrap();
        succeed(program("cp").arg("-a").arg(source).arg(&saved));
    }
    Box::new(move || {
        for folder in folders {
            std::fs::remove_dir_all(castoff.scratch().join(folder)).unwrap();
            succeed(program("cp").arg("-a").arg(saved.join(folder)).arg(castoff.scratch()));
        }
    })
}

/// Kills what packs `new.tar` over a destination in files that holds `old.tar`.
fn storm_in_files(castoff: &Castoff, destination: &str, place: String) -> Vec<String> {
    std::fs::create_dir(castoff.scratch().join("target")).unwrap();
    castoff.call(&["image.pack", "docker-archive:old.tar", destination]);
    let arguments = ["image.pack", "docker-archive:new.tar", destination, "keep_old=False"].map(str::to_owned).to_vec();
    Storm { castoff, place, arguments, restore: snapshot(castoff) }.rage()
}

fn assert_reached(points: &[String], wanted: &[&str]) {
    for point in wanted {
        assert!(points.iter().any(|reached| reached == point), "`{point}` was not reached: {points:?}");
    }
}

#[test]
fn killed_while_writing_to_the_store() {
    let castoff = prepared(NAME, "store");
    let place = format!("oci:{}:{NAME}", castoff.state().join("store").display());
    let points = storm_in_files(&castoff, &format!("store:{NAME}"), place);
    assert_reached(
        &points,
        &[
            "engine.sink.writing",
            "host.fs.temporary-made",
            "oci.blob.before-sync",
            "oci.blob.after-rename",
            "oci.index.before-write",
            "store.image.before-index",
            "store.image.after-index",
            "store.gc.after-index",
            "store.gc.after-blob",
        ],
    );
    // Of all that was begun and killed only the one image is left.
    castoff.call(&["image.gc", "keep=0"]);
    let blobs = std::fs::read_dir(castoff.state().join("store/blobs/sha256")).unwrap().count();
    assert_eq!(blobs, 3, "configuration, manifest and layer");
}

#[test]
fn killed_while_packing_an_image_of_the_store_in_place() {
    let castoff = prepared(NAME, "store-in-place");
    let name = format!("store:{NAME}");
    castoff.call(&["image.copy", "docker-archive:old.tar", &name]);
    let place = format!("oci:{}:{NAME}", castoff.state().join("store").display());
    let arguments = ["image.pack", &name, "keep_old=False"].map(str::to_owned).to_vec();
    let storm = Storm { castoff: &castoff, place, arguments, restore: snapshot(&castoff) };
    assert_reached(&storm.rage(), &["engine.sink.writing", "store.gc.after-blob"]);
}

#[test]
fn killed_while_writing_an_archive() {
    let castoff = prepared(NAME, "archive");
    let file = castoff.scratch().join("target/image.tar");
    let destination = format!("docker-archive:{}", file.display());
    let points = storm_in_files(&castoff, &destination, destination.clone());
    assert_reached(&points, &["engine.sink.writing", "oci.archive.before-persist", "oci.archive.after-persist"]);
    assert_eq!(below(file.parent().unwrap()), std::slice::from_ref(&file));
    succeed(program("python3").args(["-c", "import sys, tarfile; tarfile.open(sys.argv[1]).getmembers()"]).arg(&file));
}

#[test]
fn an_archive_is_the_old_one_byte_for_byte_until_it_is_the_new_one() {
    let castoff = prepared(NAME, "bytes");
    let file = castoff.scratch().join("target.tar");
    let destination = format!("docker-archive:{}", file.display());
    castoff.call(&["image.pack", "docker-archive:new.tar", &destination]);
    let new = std::fs::read(&file).unwrap();
    for (point, expected) in [
        ("engine.sink.writing", b"old".as_slice()),
        ("oci.archive.before-persist", b"old"),
        ("host.fs.after-rename", &new),
    ] {
        std::fs::write(&file, "old").unwrap();
        let mut command = castoff.command(["call", "image.pack", "docker-archive:new.tar", &destination]);
        let killed = command.env("CASTOFF_FAULT", point).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}");
        assert!(std::fs::read(&file).unwrap() == expected, "{point}");
    }
}

#[test]
fn killed_while_writing_a_layout() {
    let castoff = prepared(NAME, "layout");
    let destination = format!("oci:{}:tag", castoff.scratch().join("target/layout").display());
    let points = storm_in_files(&castoff, &destination, destination.clone());
    assert_reached(&points, &["engine.sink.writing", "oci.blob.after-rename", "oci.index.before-write"]);
}

/// Kills a command that gives an image of the Docker engine, loaded by docker from `old.tar`, another content.
fn storm_in_docker(castoff: &Castoff, image: &DockerImage, arguments: &[&str]) -> Vec<String> {
    let old = castoff.scratch().join("old.tar");
    let restore = move || {
        // castoff's own folder is made anew each time, which is a time to be killed at, too.
        if castoff.state().exists() {
            std::fs::remove_dir_all(castoff.state()).unwrap();
        }
        for id in docker(&["images", "-q", "--no-trunc", image.0.split(':').next().unwrap()]).lines() {
            docker(&["rmi", "-f", id]);
        }
        docker(&["load", "-q", "-i", old.to_str().unwrap()]);
    };
    let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let place = format!("docker-daemon:{}", image.0);
    let storm = Storm { castoff, place, arguments, restore: Box::new(restore) };
    let points = storm.rage();
    let inspected = docker(&["image", "inspect", "-f", "{{.Id}}", &image.0]);
    assert_eq!(inspected.trim(), judged(&storm.place));
    points
}

#[test]
fn killed_while_loading_into_docker() {
    let image = DockerImage::unique("faults-load");
    let castoff = prepared(&image.0, "load");
    let destination = format!("docker-daemon:{}", image.0);
    let points =
        storm_in_docker(&castoff, &image, &["image.pack", "docker-archive:new.tar", &destination, "keep_old=False"]);
    assert_reached(
        &points,
        &[
            "engine.sink.writing",
            "engine.docker.before-load",
            "engine.docker.after-load",
            "engine.docker.before-tag",
            "engine.docker.after-tag",
            "engine.sink.docker.before-remove",
        ],
    );
}

#[test]
fn killed_while_packing_an_image_of_docker_in_place() {
    let image = DockerImage::unique("faults-in-place");
    let castoff = prepared(&image.0, "in-place");
    let points =
        storm_in_docker(&castoff, &image, &["mc_cloud_images.pack_docker", &format!("docker-daemon:{}", image.0)]);
    assert_reached(&points, &["host.fs.temporary-made", "engine.sink.writing", "engine.docker.after-load"]);
}
