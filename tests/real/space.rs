//! Full file systems through the real binary: told before the first byte where it can be known, else when it happens;
//! the old image keeps its name.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::faults::{assert_store_is_whole, below, judged, leftovers, make};
use crate::harness::{Castoff, program, require_root, succeed};

/// A small file system that vanishes with this value.
pub(crate) struct Tmpfs(PathBuf);

impl Tmpfs {
    pub(crate) fn mount(folder: PathBuf, size: &str) -> Self {
        require_root();
        std::fs::create_dir_all(&folder).unwrap();
        succeed(program("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "castoff-test"]).arg(&folder));
        Self(folder)
    }

    /// The bytes that `df` says are free.
    fn free(&self) -> u64 {
        let text = succeed(program("df").args(["-B1", "--output=avail"]).arg(&self.0));
        text.lines().last().unwrap().trim().parse().unwrap()
    }

    /// Leaves so many bytes free.
    pub(crate) fn fill_up_to(&self, left: u64) {
        std::fs::write(self.0.join("ballast"), vec![1; usize::try_from(self.free() - left).unwrap()]).unwrap();
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _gone = program("umount").arg("-l").arg(&self.0).status();
    }
}

const NO_SPACE: i32 = 74;
const NAME: &str = "castoff-test-space:1";

fn call(castoff: &Castoff, arguments: &[&str]) -> String {
    castoff.fail([&["call", "--retcode-passthrough"], arguments].concat(), NO_SPACE)
}

/// A castoff whose state is on 6 MiB, with a small image in its store; and archives that fit and that do not.
fn small_state() -> (Castoff, Tmpfs) {
    let castoff = Castoff::new();
    let disk = Tmpfs::mount(castoff.state(), "6m");
    for (file, bytes) in [("small.tar", "300000"), ("other.tar", "400000"), ("large.tar", "6000000")] {
        make(&castoff.scratch().join(file), NAME, file, &[bytes]);
    }
    make(&castoff.scratch().join("large-gzip.tar"), NAME, "gzip", &["6000000", "gzip"]);
    castoff.call(&["image.pack", "docker-archive:small.tar", &format!("store:{NAME}")]);
    (castoff, disk)
}

fn stored(castoff: &Castoff) -> String {
    judged(&format!("oci:{}:{NAME}", castoff.state().join("store").display()))
}

#[test]
fn too_large_an_image_is_refused_before_the_first_byte() {
    let (castoff, disk) = small_state();
    let old = stored(&castoff);
    let free = disk.free();
    let before = below(&castoff.state());
    for function in ["image.pack", "image.copy"] {
        let said = call(&castoff, &[function, "docker-archive:large.tar", &format!("store:{NAME}")]);
        assert!(said.contains(&format!("have {free} on `{}`", castoff.state().display())), "{said}");
        // What the layers take, and little more.
        let need: u64 = said.split("need ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!((6_000_000..7_500_000).contains(&need), "{said}");
        assert_eq!(disk.free(), free, "nothing was written");
        assert_eq!(below(&castoff.state()), before);
    }
    assert_eq!(stored(&castoff), old);
    assert_store_is_whole(&castoff);
}

#[test]
fn compressed_layers_that_would_fill_the_disk_are_refused_on_the_way() {
    let (castoff, disk) = small_state();
    let (old, free) = (stored(&castoff), disk.free());
    let said = call(&castoff, &["image.pack", "docker-archive:large-gzip.tar", &format!("store:{NAME}")]);
    assert!(said.contains("cannot unfold compressed content"), "{said}");
    assert!(said.contains("hint: ") && said.contains("tmpdir"), "{said}");
    assert_eq!((stored(&castoff), disk.free()), (old, free));
    assert_eq!(leftovers(&castoff), Vec::<PathBuf>::new());
    assert_store_is_whole(&castoff);
}

#[test]
fn an_image_under_a_further_name_needs_no_space_for_its_layers() {
    let (castoff, disk) = small_state();
    disk.fill_up_to(1_200_000);
    assert!(
        call(&castoff, &["image.copy", "docker-archive:small.tar", "store:castoff-test-space:3"]).contains("need 13")
    );
    castoff.call(&["image.copy", &format!("store:{NAME}"), "store:castoff-test-space:2"]);
    let listed = castoff.call(&["image.list", "engine=store"]);
    let names: Vec<&Value> = listed["store"].as_array().unwrap().iter().map(|image| &image["names"]).collect();
    assert!(names.contains(&&serde_json::json!([NAME, "castoff-test-space:2"])), "{listed}");
}

/// The check before the first byte is passed, then somebody takes the space: the disk is full in the middle.
#[test]
fn space_that_is_taken_meanwhile_is_a_clear_error() {
    let (castoff, disk) = small_state();
    let old = stored(&castoff);
    let destination = format!("store:{NAME}");
    for left in [0_u64, 4096, 100_000, 300_000] {
        // castoff waits to tell of its first fault point, which comes after the check, until somebody opens the pipe.
        let gate = castoff.scratch().join("gate");
        succeed(program("mkfifo").arg(&gate));
        let mut command = castoff.command(["call", "--retcode-passthrough", "image.pack"]);
        command.args(["docker-archive:other.tar", &destination]).env("CASTOFF_FAULT_LOG", &gate);
        let running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = || std::fs::read_dir(castoff.state().join("store/castoff/tmp")).unwrap().count() > 0;
        while !begun() {
            std::thread::sleep(Duration::from_millis(5));
        }
        disk.fill_up_to(left);
        let _open = std::fs::File::options().read(true).write(true).open(&gate).unwrap();
        let output = running.wait_with_output().unwrap();
        std::fs::remove_file(&gate).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(NO_SPACE), "with {left} bytes left: {said}");
        assert!(said.contains("No space left on device"), "{said}");
        std::fs::remove_file(castoff.state().join("ballast")).unwrap();
        assert_eq!(stored(&castoff), old);
        assert_eq!(leftovers(&castoff), Vec::<PathBuf>::new());
        assert_store_is_whole(&castoff);
    }
    castoff.call(&["image.pack", "docker-archive:other.tar", &destination]);
    assert_ne!(stored(&castoff), old);
}

#[test]
fn archives_and_layouts_on_a_full_disk_stay_what_they_were() {
    let castoff = Castoff::new();
    let disk = Tmpfs::mount(castoff.scratch().join("disk"), "4m");
    make(&castoff.scratch().join("small.tar"), NAME, "small", &[]);
    make(&castoff.scratch().join("large.tar"), NAME, "large", &["6000000"]);
    for destination in
        ["docker-archive:disk/image.tar", "oci-archive:disk/oci.tar", "oci:disk/layout:t", "tar:disk/tree.tar"]
    {
        castoff.call(&["image.pack", "docker-archive:small.tar", destination]);
        let before = contents(&disk.0);
        let said = call(&castoff, &["image.pack", "docker-archive:large.tar", destination]);
        assert!(said.contains("not enough space: need "), "{said}");
        assert_eq!(contents(&disk.0), before, "{destination}");
    }
}

fn contents(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = below(folder).into_iter().filter(|path| path.is_file());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}
