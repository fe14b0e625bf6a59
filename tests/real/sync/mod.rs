//! Hosts that follow releases. The publisher is GNU tar, xz, zstd, sha256sum and ssh-keygen; servers are real.

mod follow;
mod hostile;
mod kill;
mod lines;
mod patches;
mod publisher;

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Castoff, program, succeed};
use publisher::{FLAVOUR, IMAGE, Publisher, WHO};

/// A castoff that follows the publisher's image by `source`.
fn host(publisher: &Publisher, source: &str) -> Castoff {
    let castoff = Castoff::new();
    let folder = castoff.scratch().join("images");
    castoff
        .with("CASTOFF_SYNC_SOURCE", source)
        .with("CASTOFF_SYNC_BRANCH", "main")
        .with("CASTOFF_SYNC_IMAGES", format!("{IMAGE}/{FLAVOUR}"))
        .with("CASTOFF_SYNC_ALLOWED_SIGNERS", publisher.allowed_signers().display().to_string())
        .with("CASTOFF_SYNC_SIGNER", WHO)
        .with("CASTOFF_SYNC_FOLDER", folder.display().to_string())
}

/// What a `sync` function returned, whether or not that is a success.
fn call(castoff: &Castoff, arguments: &[&str]) -> Value {
    let output = castoff.command(["call", "--out=json"].iter().chain(arguments)).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let json: Value = serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error} in:\n{text}\n{}", String::from_utf8_lossy(&output.stderr)));
    json["local"].clone()
}

/// The report of one run for the one image.
fn run(castoff: &Castoff) -> Value {
    call(castoff, &["sync.run"])["images"][format!("{IMAGE}/{FLAVOUR}")].clone()
}

fn status(castoff: &Castoff) -> Value {
    call(castoff, &["sync.status"])[format!("{IMAGE}/{FLAVOUR}")].clone()
}

fn trees(castoff: &Castoff) -> PathBuf {
    castoff.scratch().join("images").join(IMAGE).join(FLAVOUR)
}

fn current(castoff: &Castoff) -> PathBuf {
    trees(castoff).join("current")
}

/// What other programs say of a tree: names, types, modes, owners, times, links, ACLs, xattrs, contents.
pub(crate) fn facts(tree: &Path) -> String {
    let tree = tree.canonicalize().unwrap();
    let find = succeed(program("find").current_dir(&tree).args([".", "-printf", "%P|%y|%m|%U:%G|%T@|%l|%n\n"]));
    let mut lines: Vec<&str> = find.lines().collect();
    lines.sort_unstable();
    let acls = succeed(program("getfacl").current_dir(&tree).args(["-RPn", "."]));
    let xattrs = succeed(program("getfattr").current_dir(&tree).args(["-RPhd", "-m", "-", "-e", "hex", "."]));
    let sums = succeed(
        Command::new("sh")
            .current_dir(&tree)
            .args(["-c", "find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum"]),
    );
    let mut blocks: Vec<&str> = acls.split("\n\n").chain(xattrs.split("\n\n")).collect();
    blocks.sort_unstable();
    format!("{}\n{}\n{sums}", lines.join("\n"), blocks.join("\n\n"))
}

/// Every name below, without the state of a run.
fn names(folder: &Path) -> Vec<PathBuf> {
    crate::faults::below(folder)
}

fn assert_is(castoff: &Castoff, publisher: &Publisher, number: u32) {
    assert_eq!(std::fs::read_link(current(castoff)).unwrap(), Path::new(&number.to_string()));
    assert_eq!(facts(&current(castoff)), facts(&publisher.tree(number)), "release {number}");
}
