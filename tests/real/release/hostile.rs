//! Names with `..`, shell characters and line breaks, through every function that takes one: refused, nothing written.

use std::collections::BTreeSet;
use std::path::Path;

use super::{World, names, said};
use crate::git_server::{BRANCH, git};

const NAMES: [&str; 8] = [
    "../x",
    "a/../../x",
    "$(touch pwned)",
    "a;touch pwned",
    "a\ntouch pwned",
    "`touch pwned`",
    "..",
    "-oProxyCommand=x",
];

/// Everything below a folder.
fn all(folder: &Path, found: &mut BTreeSet<String>) {
    let Ok(items) = std::fs::read_dir(folder) else { return };
    for item in items {
        let path = item.unwrap().path();
        found.insert(path.display().to_string());
        if path.is_dir() && !path.is_symlink() {
            all(&path, found);
        }
    }
}

#[test]
fn hostile_names_are_refused_by_every_function() {
    let world = World::new();
    let archive = world.archive("one");
    let file = archive.to_str().unwrap();
    world.publish_locally();
    let tip = git(&world.repository(), &["rev-parse", BRANCH]);
    let look = || {
        let mut found = BTreeSet::new();
        all(world.castoff.scratch(), &mut found);
        all(&world.images(), &mut found);
        found.retain(|path| !path.contains("/state/git/"));
        found
    };
    // What a run leaves that does nothing.
    world.call(&["release.status", "debian", "lxc"]).output().unwrap();
    let before = look();
    let mut calls: Vec<Vec<String>> = Vec::new();
    for name in NAMES {
        let mut call = |arguments: &[&str]| calls.push(arguments.iter().map(|text| (*text).to_owned()).collect());
        for (image, flavour) in [(name, "lxc"), ("debian", name)] {
            call(&["release.publish", image, flavour, file]);
            for function in ["status", "history", "resume", "verify", "prune"] {
                call(&[&format!("release.{function}"), image, flavour]);
            }
            call(&["release.rollback", image, flavour, "1"]);
            call(&["release.withdraw", image, flavour, "1"]);
            call(&["mc_cloud_images.upload", image, flavour]);
            call(&["mc_cloud_images.publish_release", image, flavour]);
        }
        for function in ["upload_lxc", "upload_standalone", "publish_release_lxc", "publish_release_standalone"] {
            call(&[&format!("mc_cloud_images.{function}"), name]);
        }
    }
    let share = calls.len().div_ceil(4);
    std::thread::scope(|scope| {
        for calls in calls.chunks(share) {
            let world = &world;
            scope.spawn(move || {
                for call in calls {
                    // `--`: a name that looks like an option is a name here.
                    let mut arguments = vec!["--"];
                    arguments.extend(call.iter().map(String::as_str));
                    let output = world.call(&arguments).output().unwrap();
                    assert!(!output.status.success(), "{call:?}: {}", said(&output));
                    assert!(
                        !said(&output).contains('\u{1b}') && !said(&output).contains("panicked"),
                        "{}",
                        said(&output)
                    );
                }
            });
        }
    });
    let left: Vec<String> = look().difference(&before).cloned().collect();
    assert_eq!(left, [""; 0]);
    assert_eq!((names(&world.images()).len(), git(&world.repository(), &["rev-parse", BRANCH])), (0, tip));
}
