//! Several runs at once on one image: one right result, and the store is whole.

use std::process::{Child, Stdio};

use crate::faults::{assert_store_is_whole, judged, leftovers, make};
use crate::harness::{Castoff, DockerImage, docker};

const CONFLICT: i32 = 73;

/// Runs the commands at the same time; exit code and stderr of each.
fn at_once(castoff: &Castoff, commands: &[Vec<&str>]) -> Vec<(Option<i32>, String)> {
    let start = |arguments: &Vec<&str>| {
        let mut command = castoff.command(["call", "--retcode-passthrough", "--out=json"].iter().chain(arguments));
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<Child> = commands.iter().map(start).collect();
    let end = |child: Child| {
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    running.into_iter().map(end).collect()
}

/// Every run succeeded or lost to another and says so; at least one succeeded.
fn assert_fair(ends: &[(Option<i32>, String)]) {
    for (code, said) in ends {
        assert!(matches!(code, Some(0 | CONFLICT)), "{code:?}: {said}");
        assert!(*code == Some(0) || said.contains("hint: "), "{said}");
    }
    assert!(ends.iter().any(|(code, _)| *code == Some(0)), "{ends:?}");
}

#[test]
fn runs_at_once_into_one_name_of_the_store() {
    let castoff = Castoff::new();
    let name = "castoff-test-races:1";
    make(&castoff.scratch().join("one.tar"), name, "one", &["1000000", "gzip"]);
    make(&castoff.scratch().join("two.tar"), name, "two", &["2000000"]);
    let place = format!("oci:{}:{name}", castoff.state().join("store").display());
    let destination = format!("store:{name}");
    let from = |source| vec!["image.pack", source, destination.as_str(), "keep_old=False"];
    // What either gives alone.
    let alone = ["docker-archive:one.tar", "docker-archive:two.tar"].map(|source| {
        castoff.call(&from(source));
        judged(&place)
    });
    for round in 0..3 {
        // The first in a store that is not there yet.
        if round == 0 {
            std::fs::remove_dir_all(castoff.state()).unwrap();
        }
        let one = from("docker-archive:one.tar");
        let ends = at_once(&castoff, &[one.clone(), from("docker-archive:two.tar"), one.clone(), one]);
        assert!(ends.iter().all(|(code, _)| *code == Some(0)), "{ends:?}");
        assert!(alone.contains(&judged(&place)));
        assert_store_is_whole(&castoff);
        assert_eq!(leftovers(&castoff), Vec::<std::path::PathBuf>::new());
    }
}

#[test]
fn runs_at_once_that_pack_one_image_of_the_store_in_place() {
    let castoff = Castoff::new();
    let name = "castoff-test-races:1";
    make(&castoff.scratch().join("one.tar"), name, "in place", &["3000000"]);
    let place = format!("oci:{}:{name}", castoff.state().join("store").display());
    let destination = format!("store:{name}");
    castoff.call(&["image.copy", "docker-archive:one.tar", &destination]);
    let pack = vec!["image.pack", &destination, "keep_old=False"];
    let ends = at_once(&castoff, &[pack.clone(), pack.clone(), pack.clone(), vec!["image.gc", "keep=0"], pack]);
    assert_fair(&ends);
    castoff.call(&["image.pack", "docker-archive:one.tar", "store:castoff-test-races:alone"]);
    assert_eq!(judged(&place), judged(&place.replace(name, "castoff-test-races:alone")));
    assert_store_is_whole(&castoff);
    assert_eq!(leftovers(&castoff), Vec::<std::path::PathBuf>::new());
}

#[test]
fn runs_at_once_on_one_image_of_docker() {
    let (image, other) = (DockerImage::unique("races"), DockerImage::unique("races-alone"));
    let castoff = Castoff::new();
    make(&castoff.scratch().join("one.tar"), &image.0, &format!("races {}", std::process::id()), &["1000000"]);
    castoff.call(&["image.pack", "docker-archive:one.tar", &format!("docker-daemon:{}", other.0)]);
    let right = docker(&["image", "inspect", "-f", "{{.Id}}", &other.0]);
    docker(&["rmi", &other.0]);
    docker(&["load", "-q", "-i", castoff.scratch().join("one.tar").to_str().unwrap()]);
    let name = format!("docker-daemon:{}", image.0);
    let in_place = vec!["image.pack", &name, "keep_old=False"];
    let over = vec!["image.pack", "docker-archive:one.tar", &name, "keep_old=False"];
    assert_fair(&at_once(&castoff, &[in_place.clone(), over.clone(), in_place, over]));
    assert_eq!(docker(&["image", "inspect", "-f", "{{.Id}}", &image.0]), right);
    assert_eq!(judged(&name), right.trim());
    assert_store_is_whole(&castoff);
    assert_eq!(leftovers(&castoff), Vec::<std::path::PathBuf>::new());
}
