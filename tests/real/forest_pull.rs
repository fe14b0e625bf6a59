//! Disk images out of images and into them, over a real registry; zstd, skopeo and umoci judge.

use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use crate::faults::{assert_store_is_whole, leftovers};
use crate::harness::{Castoff, program, succeed};
use crate::registry_server::{Server, noise, skopeo};

/// An archive of this kind, as a reference.
fn made(folder: &Path, kind: &str) -> String {
    let archive = folder.join(format!("{kind}.tar"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/forest_make.py");
    succeed(program("python3").arg(script).arg(&archive).arg(kind));
    format!("docker-archive:{}", archive.display())
}

fn texts(value: &serde_json::Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

#[test]
fn what_is_pushed_is_pulled_with_its_holes_and_nothing_is_done_twice() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let registry = Server::registry(&folder.join("registry"), "");
    let images = folder.join("vm/images");
    std::fs::create_dir_all(&images).unwrap();
    let content = [vec![0; 32 << 20], noise(1 << 20), vec![0; 3 << 20]].concat();
    std::fs::write(images.join("base.qcow2"), &content).unwrap();
    std::fs::write(images.join("k8s.img"), b"small").unwrap();
    succeed(program("zstd").args(["-q", "--rm"]).arg(images.join("k8s.img")));

    let there = registry.name("group/vm:1");
    let push = ["forest.push", "base.qcow2,k8s.img.zst", &there, "dir=vm"];
    let sent = castoff.call(&push);
    std::fs::OpenOptions::new()
        .write(true)
        .open(images.join("base.qcow2"))
        .unwrap()
        .set_modified(std::time::SystemTime::now())
        .unwrap();
    let again = castoff.call(&push);
    assert_eq!((&again["digest"], &again["bytes"]["out"]), (&sent["digest"], &0.into()), "equal files, equal image");

    // Another program's word for what is in it.
    let layout = folder.join("layout");
    skopeo(&["copy", &there, &format!("oci:{}:1", layout.display())]);
    let bundle = folder.join("bundle");
    succeed(program("umoci").args(["unpack", "--image"]).arg(format!("{}:1", layout.display())).arg(&bundle));
    let packed = bundle.join("rootfs/data/images/base.qcow2.zst");
    assert!(succeed(program("zstd").args(["-l", "-v"]).arg(&packed)).contains("36.0 MiB"), "the size is in the frame");
    assert_eq!(program("zstd").args(["-d", "-q", "-c"]).arg(&packed).output().unwrap().stdout, content);

    let other = Castoff::new();
    let proxy = Server::before(&registry, folder, &[]);
    let there = format!("127.0.0.1:{}/group/vm:1", proxy.port);
    let dry = other.call(&["forest.pull", &there, "test=True"]);
    assert!(dry["result"].is_null() && !other.scratch().join("_data").exists(), "{dry}");
    let done = other.call(&["forest.pull", &there]);
    assert_eq!(texts(&done["images"]), ["_data/images/base.qcow2", "_data/images/k8s.img"]);
    assert_eq!(done["digest"], sent["digest"]);
    let base = other.scratch().join("_data/images/base.qcow2");
    assert_eq!(std::fs::read(&base).unwrap(), content);
    assert!(base.metadata().unwrap().blocks() * 512 < 4 << 20, "zeros are holes");
    let fetched = proxy.blobs().len();

    let inode = base.metadata().unwrap().ino();
    let again = other.call(&["forest.pull", &there]);
    assert_eq!((texts(&again["reused"]).len(), texts(&again["written"]).len()), (2, 0), "{again}");
    assert_eq!(proxy.blobs().len(), fetched);
    // Only its time is another: the content decides.
    std::fs::File::open(&base).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    assert_eq!(texts(&other.call(&["forest.pull", &there])["reused"]).len(), 2);
    assert_eq!(base.metadata().unwrap().ino(), inode);
    // A changed one is brought out again, and that is said.
    std::fs::write(other.scratch().join("_data/images/k8s.img"), b"SMALL").unwrap();
    let mended = other.call(&["forest.pull", &there]);
    assert_eq!(texts(&mended["replaced"]), ["_data/images/k8s.img"]);
    assert_eq!(std::fs::read(other.scratch().join("_data/images/k8s.img")).unwrap(), b"small");
    assert_eq!(proxy.blobs().len(), fetched, "nothing is fetched twice");
    assert_store_is_whole(&other);

    let grown =
        castoff.call(&["forest.push", "base.qcow2", &registry.name("group/vm:2"), "dir=vm", &format!("base={there}")]);
    assert_eq!(grown["layers"].as_array().unwrap().len(), 2, "{grown}");
    let both = other.call(&["forest.pull", &registry.name("group/vm:2"), "dir=both"]);
    assert_eq!(texts(&both["images"]).len(), 2, "{both}");
}

#[test]
fn every_file_is_reported_and_the_packed_one_stays_only_when_asked() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let archive = made(folder, "lvh");
    let layout = format!("oci:{}:1", folder.join("layout").display());
    castoff.call(&["image.copy", &archive, &layout, "compression=gzip"]);
    castoff.call(&["image.copy", &archive, "store:lvh:1"]);
    castoff.call(&["image.copy", &archive, &format!("dir:{}", folder.join("tree").display())]);
    let tree = format!("dir:{}", folder.join("tree").display());
    for (number, source) in [&archive, &layout, "store:lvh:1", &tree].into_iter().enumerate() {
        let dir = format!("out{number}");
        let done = castoff.call(&["forest.pull", source, &format!("dir={dir}")]);
        let name = |path: &str| format!("{dir}/images/{path}");
        assert_eq!(texts(&done["files"]), ["first.img", "kind_6.1.qcow2", "sub/two.img"].map(name), "{source}: {done}");
        assert_eq!(std::fs::read(folder.join(name("sub/two.img"))).unwrap(), b"onetwo", "all frames");
        let kind = folder.join(name("kind_6.1.qcow2")).metadata().unwrap();
        assert!(kind.len() == 8_000_003 && kind.blocks() < 64, "{kind:?}");
        let kept = castoff.call(&["forest.pull", source, &format!("dir={dir}"), "cache=True"]);
        assert_eq!((texts(&kept["files"]).len(), texts(&kept["images"]).len()), (5, 3), "{kept}");
        succeed(program("zstd").args(["-q", "-t"]).arg(folder.join(name("kind_6.1.qcow2.zst"))));
        assert!(!folder.join(&dir).join("images/etc-of-the-image").exists());
    }
}

#[test]
fn hostile_entries_are_named_and_nothing_is_written() {
    let castoff = Castoff::new().with("CASTOFF_LIMITS_LAYER_SIZE", "100MiB");
    let folder = castoff.scratch();
    for (kind, code, words) in [
        ("symlink", 77, "`/data/images/evil` is refused: it is a symbolic link"),
        ("hardlink", 77, "is refused: it is a hard link"),
        ("device", 77, "`/data/images/evil` is refused: it is a device"),
        ("fifo", 77, "`/data/images/evil` is refused: it is a named pipe"),
        ("dotdot", 77, "evil` has a `..` component"),
        ("absolute", 77, "`/data/images/evil` is refused: its name is absolute"),
        ("newline", 77, "its name is none that a disk image has"),
        ("double", 77, "another entry becomes the same file"),
        ("unnamed", 77, "it has no name without `.zst`"),
        ("nothing-there", 66, "no folder `/data/images`"),
        ("damaged", 65, "data/images/evil.zst"),
        ("garbage", 65, "data/images/evil.zst"),
        ("empty", 65, "data/images/evil.zst"),
        ("bomb", 70, "data/images/evil.zst"),
        ("second", 65, "data/images/b.img.zst"),
    ] {
        let source = match kind {
            "nothing-there" => {
                std::fs::create_dir_all(folder.join("bare")).unwrap();
                format!("dir:{}", folder.join("bare").display())
            }
            kind => made(folder, kind),
        };
        let dir = folder.join(format!("out-{kind}"));
        let call = ["call", "--retcode-passthrough", "forest.pull", &source, &format!("dir={}", dir.display())];
        let output = castoff.command(call).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{kind}: {told}");
        assert!(told.contains(words), "{kind}: {told}");
        let there: Vec<PathBuf> =
            crate::faults::below(&dir).into_iter().filter(|path| path.is_file() || path.is_symlink()).collect();
        assert_eq!(there, Vec::<PathBuf>::new(), "{kind}: what is damaged inside leaves nothing of the others either");
    }
    // The merge makes a folder of a link that something is put below, so nothing gets out.
    let inside = castoff.call(&["forest.pull", &made(folder, "below-a-link"), "dir=inside"]);
    assert_eq!(texts(&inside["files"]), ["inside/images/first.img", "inside/images/sub/evil"], "{inside}");
    assert!(folder.join("inside/images/sub").symlink_metadata().unwrap().is_dir());
    let empty = castoff.call(&["forest.pull", &made(folder, "nothing"), "dir=none"]);
    assert_eq!(texts(&empty["files"]).len(), 0, "{empty}");
    for bad in [&["../x"][..], &["/etc/passwd"], &["a\nb"], &["none"]] {
        let call = ["call", "--retcode-passthrough", "forest.push", bad[0], "oci:layout:1"];
        let output = castoff.command(call).output().unwrap();
        assert!(matches!(output.status.code(), Some(64 | 66)), "{bad:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn damage_in_one_file_changes_nothing_that_is_there() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let images = folder.join("_data/images");
    std::fs::create_dir_all(&images).unwrap();
    std::fs::write(images.join("a.img"), b"mine").unwrap();
    let call = ["call", "--retcode-passthrough", "forest.pull", &made(folder, "second")];
    let error = castoff.fail(call, 65);
    assert!(error.contains("b.img.zst"), "{error}");
    let there = crate::faults::below(&images);
    assert_eq!(there, [images.join("a.img")]);
    assert_eq!(std::fs::read(images.join("a.img")).unwrap(), b"mine");
    // A tar of a root filesystem is judged by the same rule as a layer.
    succeed(
        program("tar")
            .args(["-P", "--transform=s,^_data,/data,", "-cf"])
            .arg(folder.join("absolute.tar"))
            .arg("-C")
            .args([folder.as_os_str(), "_data".as_ref()]),
    );
    let source = format!("tar:{}", folder.join("absolute.tar").display());
    let error = castoff.fail(["call", "--retcode-passthrough", "forest.pull", &source], 77);
    assert!(error.contains("its name is absolute"), "{error}");
}

#[test]
fn a_link_that_waits_in_the_folder_is_not_followed() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let source = made(folder, "lvh");
    let images = folder.join("_data/images");
    std::fs::create_dir_all(&images).unwrap();
    std::fs::write(folder.join("victim"), b"mine").unwrap();
    std::os::unix::fs::symlink(folder.join("victim"), images.join("first.img")).unwrap();
    castoff.call(&["forest.pull", &source]);
    assert_eq!(std::fs::read(folder.join("victim")).unwrap(), b"mine");
    assert!(!images.join("first.img").is_symlink());
    std::fs::remove_dir_all(images.join("sub")).unwrap();
    std::os::unix::fs::symlink("/nonexistent", images.join("sub")).unwrap();
    let error = castoff.fail(["call", "--retcode-passthrough", "forest.pull", &source], 73);
    assert!(error.contains("is in the way"), "{error}");
}

#[test]
fn every_point_may_be_the_last_and_the_same_command_finishes() {
    let castoff = Castoff::new();
    let folder = castoff.scratch();
    let source = made(folder, "lvh");
    let log = folder.join("points");
    succeed(castoff.command(["call", "forest.pull", &source, "dir=first"]).env("CASTOFF_FAULT_LOG", &log));
    let mut points: Vec<String> = std::fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    points.sort();
    let mut counted: Vec<(String, usize)> = Vec::new();
    for point in points {
        match counted.last_mut() {
            Some((last, count)) if *last == point => *count += 1,
            _ => counted.push((point, 1)),
        }
    }
    assert!(counted.iter().any(|(point, _)| point.starts_with("engine.extract.")), "{counted:?}");
    for (number, (point, count)) in counted.iter().enumerate() {
        for nth in [1, *count] {
            let other = Castoff::new();
            let dir = other.scratch().join(format!("out{number}"));
            let arguments = ["call", "--out=json", "forest.pull", &source, &format!("dir={}", dir.display())];
            let killed = other.command(arguments).env("CASTOFF_FAULT", format!("{point}@{nth}")).output().unwrap();
            assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
            for (name, size) in [("first.img", 5), ("kind_6.1.qcow2", 8_000_003), ("sub/two.img", 6)] {
                let found = std::fs::metadata(dir.join("images").join(name)).map(|found| found.len()).unwrap_or(size);
                assert_eq!(found, size, "{point}: a name means a whole file");
            }
            succeed(&mut other.command(arguments));
            assert_eq!(std::fs::read(dir.join("images/sub/two.img")).unwrap(), b"onetwo", "after {point}");
            assert_eq!(leftovers(&other), Vec::<PathBuf>::new(), "after {point}");
        }
    }
}
