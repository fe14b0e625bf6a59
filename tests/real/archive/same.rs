//! Equal trees, equal bytes; what is there already is kept, or never trusted.

use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use super::{archive, castoff, container, dated, fill, place, put, sum};
use crate::harness::{Castoff, program, succeed};
use crate::sandbox::busybox_tree;

/// The container of `super::container`, made in another order under another umask.
fn made_otherwise(castoff: &Castoff) -> PathBuf {
    let folder = castoff.scratch().join("lxc/web");
    let rootfs = folder.join("rootfs");
    std::fs::create_dir_all(&folder).unwrap();
    let tree = busybox_tree(castoff.scratch());
    std::fs::create_dir(&rootfs).unwrap();
    let mut names: Vec<_> = std::fs::read_dir(&tree).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    for name in names.iter().rev() {
        let (from, to) = (tree.join(name), rootfs.join(name));
        std::fs::create_dir(&to).unwrap();
        let mut inner: Vec<_> = std::fs::read_dir(&from).unwrap().map(|item| item.unwrap().path()).collect();
        inner.sort_by(|left, right| right.cmp(left));
        for path in inner {
            std::fs::rename(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
    for number in 0..50 {
        put(&rootfs, &format!("opt/{number}"), "gone soon");
    }
    for number in 0..50 {
        std::fs::remove_file(rootfs.join(format!("opt/{number}"))).unwrap();
    }
    fill(&rootfs);
    std::fs::write(folder.join("config"), "lxc.uts.name = web\n").unwrap();
    dated(&folder);
    folder
}

/// More than one block of xz, quickly compressed, with no holes.
fn large(folder: &Path) {
    put(&folder.join("rootfs"), "opt/large", &"castoff casts off\n".repeat(3_000_000));
    dated(folder);
}

/// What runs castoff, its environment, and its arguments.
type Way = (Words, &'static [(&'static str, &'static str)], Words);
type Words = &'static [&'static str];

#[test]
fn equal_trees_make_equal_bytes_whatever_order_umask_zone_locale_processors_or_snapshot() {
    let mut sums = Vec::new();
    let ways: [Way; 4] = [
        (&[], &[("TZ", "UTC"), ("LC_ALL", "C")], &["method=overlay"]),
        (&["taskset", "-c", "0"], &[("TZ", "Asia/Kolkata"), ("LC_ALL", "tr_TR.UTF-8")], &["method=copy"]),
        (&["sh", "-c", "umask 077; exec \"$@\"", "sh"], &[("TZ", "America/St_Johns")], &["method=copy"]),
        (&["sh", "-c", "umask 0; exec \"$@\"", "sh"], &[("LANG", "de_DE.UTF-8")], &["method=overlay"]),
    ];
    for (number, (before, environment, arguments)) in ways.iter().enumerate() {
        let castoff = castoff();
        let folder = if number % 2 == 0 { container(&castoff, "web") } else { made_otherwise(&castoff) };
        large(&folder);
        let call = castoff.command([&["call", "release.archive", "web", "lxc"], *arguments].concat());
        let mut command = match before {
            [] => program("env"),
            [first, rest @ ..] => {
                let mut command = program(first);
                command.args(rest);
                command
            }
        };
        command.arg(call.get_program()).args(call.get_args()).current_dir(castoff.scratch());
        command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
        succeed(command.envs(environment.iter().copied()));
        let path = place(&castoff, "lxc", 1);
        sums.push((sum("sha256sum", &path), std::fs::metadata(&path).unwrap().mode() & 0o7777));
        let blocks = succeed(program("xz").args(["--robot", "-l"]).arg(&path));
        let totals: Vec<&str> = blocks.lines().last().unwrap().split('\t').collect();
        assert!(totals[2].parse::<u32>().unwrap() >= 3, "{blocks}");
        assert_eq!(totals[6], "CRC64", "{blocks}");
    }
    assert!(sums.windows(2).all(|pair| pair[0] == pair[1]), "{sums:?}");
}

#[test]
fn no_time_is_later_than_source_date_epoch_or_the_newest_file() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    succeed(program("touch").args(["-d", "2024-06-01T00:00:00.9Z"]).arg(folder.join("rootfs/opt/tool")));
    succeed(program("touch").args(["-d", "2030-01-01T00:00:00Z"]).arg(folder.join("rootfs/opt")));
    let report = archive(&castoff, &["lxc"]);
    assert_eq!(report["source_date"], 1_717_200_000);
    let times = |path: &Path| {
        let text = succeed(program("tar").args(["--full-time", "--utc", "-tvJf"]).arg(path).env("LC_ALL", "C"));
        let mut times: Vec<String> =
            text.lines().map(|line| line.split_whitespace().skip(3).take(2).collect::<Vec<_>>().join(" ")).collect();
        times.sort();
        times.dedup();
        times
    };
    assert_eq!(times(&place(&castoff, "lxc", 1)), ["2024-05-06 07:08:09", "2024-06-01 00:00:00"]);
    let castoff = castoff.with("SOURCE_DATE_EPOCH", "86400");
    archive(&castoff, &["lxc"]);
    assert_eq!(times(&place(&castoff, "lxc", 1)), ["1970-01-02 00:00:00"]);
}

#[test]
fn what_castoff_made_of_the_same_tree_is_kept_and_anything_else_is_not_trusted() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let first = archive(&castoff, &["lxc"]);
    let path = place(&castoff, "lxc", 1);
    let whole = std::fs::read(&path).unwrap();
    let inode = std::fs::metadata(&path).unwrap().ino();
    let again = archive(&castoff, &["lxc"]);
    assert_eq!((&again["reused"], &again["files"]), (&true.into(), &first["files"]));
    assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode, "it was not touched");

    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let anew = archive(&castoff, &["lxc"]);
    assert_eq!((&anew["reused"], &anew["files"]), (&false.into(), &first["files"]));
    assert_eq!(std::fs::read(&path).unwrap(), whole);

    put(&folder.join("rootfs"), "opt/new", "new");
    let other = archive(&castoff, &["lxc"]);
    assert_eq!(other["reused"], false);
    assert_ne!(other["tree"], first["tree"]);

    let foreign = place(&castoff, "standalone", 1);
    std::fs::write(&foreign, "somebody's").unwrap();
    let said = castoff.fail(["call", "--retcode-passthrough", "mc_cloud_images.archive_standalone", "web"], 73);
    assert!(said.contains("no record of it"), "{said}");
    assert_eq!(std::fs::read_to_string(&foreign).unwrap(), "somebody's");
    castoff.call(&["mc_cloud_images.archive_standalone", "web", "force=True"]);
    succeed(program("xz").arg("-t").arg(&foreign));
    std::fs::remove_file(&foreign).unwrap();
    symlink("/etc/passwd", &foreign).unwrap();
    castoff.fail(["call", "--retcode-passthrough", "mc_cloud_images.archive_standalone", "web"], 73);
}

#[test]
fn a_preview_writes_nothing_and_says_what_would_be_made() {
    let castoff = castoff();
    container(&castoff, "web");
    let before = crate::faults::below(castoff.scratch());
    let shown = archive(&castoff, &["lxc", "test=True"]);
    assert_eq!(shown["result"], serde_json::Value::Null);
    assert_eq!(shown["changes"]["files"][0], place(&castoff, "lxc", 1).to_str().unwrap());
    for function in ["snapshot_lxc", "save_acls_lxc", "archive_lxc"] {
        castoff.call(&[&format!("mc_cloud_images.{function}"), "web", "test=True"]);
    }
    assert_eq!(crate::faults::below(castoff.scratch()), before);
    let made = archive(&castoff, &["lxc"]);
    assert_eq!(made["tar_size"], shown["changes"]["tar_size"]);
    let shown = archive(&castoff, &["lxc", "test=True"]);
    assert_eq!(shown["changes"]["diff_id"], made["diff_id"]);
}
