//! Walking a directory and unpacking a tar, judged by Python, GNU tar, getfacl and getcap.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use castoff::error::Kind;

use castoff::progress::Progress;
use castoff::rootfs::acl::PasswdNames;
use castoff::rootfs::flatten::{FlattenOptions, Flattener};
use castoff::rootfs::idmap::IdMap;
use castoff::rootfs::tar::{Positioned, Scanner};
use castoff::rootfs::unpack::{Content, UnpackOptions, UnpackReport, Unpacker};
use castoff::rootfs::walk::{DirectoryLayer, WalkOptions, WalkReport};
use castoff::rootfs::{Entry, EntryKind, Limits, ReadAt, aclfile};

use crate::harness::{program, require_root, succeed};

const MAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/tree_make.py");
const FACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/tree_facts.py");

/// A tree with everything that gets lost.
pub(crate) fn make_tree(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    succeed(program("python3").arg(MAKE).arg(folder));
}

/// What Python says of a tree or a tar.
pub(crate) fn facts(kind: &str, path: &Path) -> String {
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

pub(crate) fn walk(root: &Path) -> (DirectoryLayer, WalkReport) {
    DirectoryLayer::open(root, &WalkOptions::default(), Limits::default(), &Progress::silent()).unwrap()
}

/// Writes the whole virtual tar with reads of `step` bytes.
pub(crate) fn write_tar(layer: &DirectoryLayer, file: &Path, step: usize) {
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

/// Unpacks a tar the way `dir:` targets are: merged first, with hard links between the names the merge found.
pub(crate) fn unpack_file(tar: &Path, target: &Path, options: UnpackOptions) -> castoff::error::Result<UnpackReport> {
    let layers: [Arc<dyn ReadAt>; 1] = [Arc::new(std::fs::read(tar).unwrap())];
    let mut flattener = Flattener::new(FlattenOptions::default(), Limits::default());
    flattener.add_tree(&mut Scanner::new(Positioned::new(&*layers[0], 0), Limits::default()))?;
    let flat = flattener.finish(&layers)?;
    let mut unpacker = Unpacker::new(target, options)?;
    for found in flat.entries(&layers) {
        let mut found = found?;
        if let Some(first) = found.group.filter(|first| *first != found.entry.path) {
            found.entry.kind = EntryKind::Hardlink { target: first };
        }
        let content = found.content.as_ref().map(|content| Content::of(&*layers[content.layer], &content.member));
        unpacker.add(&found.entry, content.as_ref())?;
    }
    unpacker.finish()
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

#[test]
fn what_gnu_tar_wrote_is_unpacked_as_gnu_tar_read_it() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let (tree, tar) = (scratch.path().join("tree"), scratch.path().join("gnu.tar"));
    make_tree(&tree);
    for (number, format) in [["--format=pax", "--sparse"], ["--format=gnu", "--sparse"]].into_iter().enumerate() {
        let mut command = program("tar");
        command.args(format).args(["--numeric-owner", "--exclude=./socket"]);
        if format[0] == "--format=pax" {
            command.args(["--acls", "--xattrs", "--xattrs-include=*"]);
        }
        succeed(command.arg("-cf").arg(&tar).arg("-C").arg(&tree).arg("."));
        let out = scratch.path().join(format!("out{number}"));
        unpack_file(&tar, &out, UnpackOptions::default()).unwrap();
        if format[0] == "--format=pax" {
            assert_same(&facts("dir", &tree), &facts("dir", &out));
        } else {
            // GNU's own form has neither xattrs nor nanoseconds: names, contents, holes, links, owners must be right.
            let plain = |path: &Path| -> String {
                let mut text = String::new();
                for line in facts("dir", path).lines() {
                    let mut fact: serde_json::Value = serde_json::from_str(line).unwrap();
                    let time = fact[1]["mtime"].as_i64().unwrap();
                    fact[1]["mtime"] = time.div_euclid(1_000_000_000).into();
                    fact[1]["xattrs"] = serde_json::Value::Null;
                    text += &format!("{fact}\n");
                }
                text
            };
            assert_same(&plain(&tree), &plain(&out));
        }
    }
}

#[test]
fn getfacl_text_is_written_and_read_as_getfacl_does() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let tree = scratch.path().join("tree");
    make_tree(&tree);
    let mut ours = Vec::new();
    let entries: Vec<Entry> = walk(&tree).0.entries().collect();
    // A hard link has what its first name has.
    for entry in &entries {
        let mut entry = entry.clone();
        if let EntryKind::Hardlink { target } = &entry.kind {
            let first = entries.iter().find(|first| first.path == *target).unwrap();
            entry = Entry { path: entry.path.clone(), ..first.clone() };
        }
        aclfile::write(&entry, &mut ours).unwrap();
    }
    let theirs = program("getfacl").args(["-R", "-n", "."]).current_dir(&tree).output().unwrap();
    let blocks = |text: &[u8]| {
        let text: String = text.iter().map(|byte| char::from(*byte)).collect();
        let mut blocks: Vec<String> = text.split("\n\n").map(|block| block.trim().replace('\n', " | ")).collect();
        blocks.retain(|block| !block.contains("# file: socket"));
        blocks.sort();
        blocks.join("\n")
    };
    assert_same(&blocks(&theirs.stdout), &blocks(&ours));
    let names = PasswdNames::new(b"", b"");
    assert_eq!(aclfile::parse(&ours, &names).unwrap(), {
        let mut files = aclfile::parse(&theirs.stdout, &names).unwrap();
        files.remove(&b"socket"[..]);
        files
    });
}

#[test]
fn a_shifted_tree_is_read_as_its_container_sees_it() {
    require_root();
    let scratch = tempfile::tempdir().unwrap();
    let (plain, shifted) = (scratch.path().join("plain"), scratch.path().join("shifted"));
    for (root, base) in [(&plain, 0u32), (&shifted, 100_000)] {
        std::fs::create_dir(root).unwrap();
        std::fs::create_dir(root.join("d")).unwrap();
        std::fs::write(root.join("d/f"), "content").unwrap();
        let id = |id: u32| (base + id).to_string();
        let path = |name: &str| root.join(name).into_os_string();
        for (name, owner) in [("d/f", id(33) + ":" + &id(44)), ("d", id(0) + ":" + &id(0)), ("", id(0) + ":" + &id(0))]
        {
            succeed(program("chown").arg(owner).arg(path(name)));
        }
        succeed(program("setfacl").arg("-m").arg(format!("u:{}:rw-,g:{}:r--", id(1001), id(1002))).arg(path("d/f")));
        succeed(program("setfacl").arg("-d").arg("-m").arg(format!("u:{}:rwx", id(1003))).arg(path("d")));
        let mut setcap = program("setcap");
        if base != 0 {
            setcap.arg("-n").arg(id(0));
        }
        succeed(setcap.arg("cap_net_raw+ep").arg(path("d/f")));
        for name in ["d/f", "d", ""] {
            succeed(program("touch").args(["-d", "2020-02-02 02:02:02.123456789 UTC"]).arg(path(name)));
        }
    }
    let options = WalkOptions { idmap: Some(IdMap::parse("0:100000:65536").unwrap()), ..WalkOptions::default() };
    let open = |root: &Path, options: &WalkOptions| {
        DirectoryLayer::open(root, options, Limits::default(), &Progress::silent())
    };
    let (one, _) = open(&plain, &WalkOptions::default()).unwrap();
    let (other, _) = open(&shifted, &options).unwrap();
    assert_eq!(one.entries().collect::<Vec<_>>(), other.entries().collect::<Vec<_>>());
    let error = open(&plain, &options).unwrap_err();
    assert!(error.kind() == Kind::Usage && error.render().contains("`/` names the uid 0"), "{error:?}");
}
