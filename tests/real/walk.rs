//! Walking a directory and unpacking a tar, judged by Python, GNU tar, getfacl and getcap.

use std::io::Write as _;
use std::path::Path;

use castoff::progress::Progress;
use castoff::rootfs::unpack::{UnpackOptions, UnpackReport, unpack};
use castoff::rootfs::walk::{DirectoryLayer, WalkOptions, WalkReport};
use castoff::rootfs::{Limits, ReadAt};

use crate::harness::{program, require_root, succeed};

const MAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/tree_make.py");
const FACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/tree_facts.py");

/// A tree with everything that gets lost.
fn make_tree(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    succeed(program("python3").arg(MAKE).arg(folder));
}

/// What Python says of a tree or a tar.
fn facts(kind: &str, path: &Path) -> String {
    succeed(program("python3").arg(FACTS).arg(kind).arg(path))
}

fn assert_same(left: &str, right: &str) {
    let missing: Vec<&str> = left.lines().filter(|line| !right.lines().any(|other| other == *line)).collect();
    let added: Vec<&str> = right.lines().filter(|line| !left.lines().any(|other| other == *line)).collect();
    assert!(
        left == right && left.lines().count() > 1,
        "only left:\n{}\nonly right:\n{}",
        missing.join("\n"),
        added.join("\n")
    );
}

fn walk(root: &Path) -> (DirectoryLayer, WalkReport) {
    DirectoryLayer::open(root, &WalkOptions::default(), Limits::default(), &Progress::silent()).unwrap()
}

/// Writes the whole virtual tar with reads of `step` bytes.
fn write_tar(layer: &DirectoryLayer, file: &Path, step: usize) {
    let mut out = std::fs::File::create(file).unwrap();
    let mut buffer = vec![0; step];
    let mut offset = 0;
    while offset < layer.size() {
        let count = layer.read_at(&mut buffer, offset).unwrap();
        assert!(count > 0, "nothing at {offset} of {}", layer.size());
        out.write_all(&buffer[..count]).unwrap();
        offset += count as u64;
    }
}

fn unpack_file(tar: &Path, target: &Path, options: UnpackOptions) -> castoff::error::Result<UnpackReport> {
    unpack(&std::fs::read(tar).unwrap(), target, options, Limits::default(), &Progress::silent())
}

#[test]
fn the_virtual_tar_says_what_the_file_system_says() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let (tree, tar) = (scratch.path().join("tree"), scratch.path().join("walked.tar"));
    make_tree(&tree);
    let (layer, report) = walk(&tree);
    write_tar(&layer, &tar, 1 << 20);
    assert_same(&facts("dir", &tree), &facts("tar", &tar));
    assert_eq!(report.sockets.lines(), ["socket"]);
    assert!(report.unreadable.is_empty() && report.mounts.is_empty() && report.vanished.is_empty());
    assert_eq!((report.hard_links, report.sparse_files), (3, 2));
    // 64 MiB and 1 MiB of holes are not in the archive.
    assert!(layer.size() < 8 << 20, "{}", layer.size());
}

#[test]
fn every_read_size_gives_the_same_bytes() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    make_tree(&tree);
    let (layer, _) = walk(&tree);
    let whole = scratch.path().join("whole.tar");
    write_tar(&layer, &whole, 64 << 20);
    let whole = std::fs::read(whole).unwrap();
    for step in [1000, 65_536, 100_003] {
        let part = scratch.path().join("part.tar");
        write_tar(&layer, &part, step);
        assert!(std::fs::read(part).unwrap() == whole, "reads of {step} bytes differ");
    }
    let (again, _) = walk(&tree);
    let part = scratch.path().join("again.tar");
    write_tar(&again, &part, 4096);
    assert!(std::fs::read(part).unwrap() == whole, "a second walk differs");
    // Backwards, so that the cursor helps nowhere.
    let mut block = [0; 512];
    for offset in (0..layer.size() as usize).step_by(512).rev() {
        layer.read_exact_at(&mut block, offset as u64).unwrap();
        assert!(block[..] == whole[offset..][..512], "the block at {offset} differs");
    }
}

#[test]
fn gnu_tar_unpacks_the_virtual_tar_to_the_same_tree() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let (tree, tar, out) = (scratch.path().join("tree"), scratch.path().join("walked.tar"), scratch.path().join("out"));
    make_tree(&tree);
    write_tar(&walk(&tree).0, &tar, 1 << 20);
    std::fs::create_dir(&out).unwrap();
    // Without --acls GNU tar restores ACLs as the xattrs they are, but hands default ACLs down first (docker-pack.md):
    // with `--delay-directory-restore` it does so after their children exist.
    succeed(
        program("tar")
            .args(["--xattrs", "--xattrs-include=*", "--delay-directory-restore", "--numeric-owner", "-xpf"])
            .arg(&tar)
            .arg("-C")
            .arg(&out),
    );
    assert_same(&facts("dir", &tree), &facts("dir", &out));
}

#[test]
fn unpacking_gives_the_tree_back() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let (tree, tar, out) = (scratch.path().join("tree"), scratch.path().join("walked.tar"), scratch.path().join("out"));
    make_tree(&tree);
    write_tar(&walk(&tree).0, &tar, 1 << 20);
    let report = unpack_file(&tar, &out, UnpackOptions::default()).unwrap();
    assert_same(&facts("dir", &tree), &facts("dir", &out));
    let lines = |program_name: &str, arguments: &[&str], root: &Path| {
        let text = succeed(program(program_name).args(arguments).arg(".").current_dir(root));
        // Both list a directory in the order the file system has.
        let between = if program_name == "getfacl" { "\n\n" } else { "\n" };
        let mut items: Vec<String> = text.split(between).map(|item| item.trim().replace('\n', " ")).collect();
        items.retain(|item| !item.contains("socket"));
        items.sort();
        items.join("\n")
    };
    assert_same(&lines("getfacl", &["-R", "-n", "-p"], &tree), &lines("getfacl", &["-R", "-n", "-p"], &out));
    assert_same(&lines("getcap", &["-r", "-n"], &tree), &lines("getcap", &["-r", "-n"], &out));
    assert!(lines("getcap", &["-r", "-n"], &out).contains("rootid=100000"));
    assert!(report.ownership_ignored.is_empty() && report.devices_skipped.is_empty());
    // Holes stay holes.
    use std::os::unix::fs::MetadataExt as _;
    let sparse = std::fs::metadata(out.join("sparse")).unwrap();
    assert!(sparse.size() == 64 << 20 && sparse.blocks() * 512 < 1 << 20, "{} blocks", sparse.blocks());
    // And walked again it is the same archive, byte for byte.
    let again = scratch.path().join("again.tar");
    write_tar(&walk(&out).0, &again, 1 << 20);
    assert!(std::fs::read(&tar).unwrap() == std::fs::read(&again).unwrap(), "the second archive differs");
}
