//! From a container to its archive, through the real binary; judged by GNU tar, getfacl, xz, zstd and sha256sum.

mod faults;
mod hostile;
mod hygiene;
mod same;
mod snapshots;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Castoff, program, require_root, succeed};
use crate::sandbox::busybox_tree;

/// A castoff whose containers lie in its scratch folder.
pub(super) fn castoff() -> Castoff {
    require_root();
    let castoff = Castoff::new();
    let lxc = castoff.scratch().join("lxc");
    std::fs::create_dir(&lxc).unwrap();
    castoff.with("CASTOFF_LXC_PATH", lxc.to_str().unwrap())
}

/// A container of this name: busybox, what Salt has, ACLs, links, a device, a sparse file, a pillar.
pub(super) fn container(castoff: &Castoff, name: &str) -> PathBuf {
    let folder = castoff.scratch().join("lxc").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("config"), format!("lxc.uts.name = {name}\n")).unwrap();
    let rootfs = folder.join("rootfs");
    std::fs::rename(busybox_tree(castoff.scratch()), &rootfs).unwrap();
    fill(&rootfs);
    dated(&folder);
    folder
}

fn fill(rootfs: &Path) {
    for (path, text) in [
        ("etc/salt/minion", "master: salt\n"),
        ("etc/cron.d/salt_update", "* * * * * root true\n"),
        ("etc/hostname", "image\n"),
        ("srv/salt/top.sls", "base: {}\n"),
        ("srv/makina-states/README", "makina-states\n"),
        ("srv/pillar/secret.sls", "password: canary-of-the-pillar\n"),
        ("srv/projects/one/pillar/init.sls", "password: canary-of-the-pillar\n"),
        ("srv/projects/one/data", "data\n"),
        ("usr/bin/salt-call", "#!/bin/sh\n"),
        ("var/log/salt/minion", "log\n"),
        ("home/user/file", "file\n"),
        ("opt/tool", "tool\n"),
    ] {
        put(rootfs, path, text);
    }
    std::fs::hard_link(rootfs.join("opt/tool"), rootfs.join("opt/tool-again")).unwrap();
    symlink("tool", rootfs.join("opt/tool-link")).unwrap();
    succeed(program("mkfifo").arg(rootfs.join("opt/pipe")));
    succeed(program("mknod").arg(rootfs.join("opt/null")).args(["c", "1", "3"]));
    put(rootfs, "usr/lib/su", "su\n");
    std::fs::set_permissions(rootfs.join("usr/lib/su"), PermissionsExt::from_mode(0o4755)).unwrap();
    put(rootfs, "usr/lib/ping", "ping\n");
    succeed(program("setcap").arg("cap_net_raw+ep").arg(rootfs.join("usr/lib/ping")));
    succeed(program("truncate").args(["-s", "3M"]).arg(rootfs.join("home/user/sparse")));
    let acl = |entry: &str, path: &str| succeed(program("setfacl").args(["-m", entry]).arg(rootfs.join(path)));
    acl("u:1001:rwx,g:33:r-x", "srv/projects/one");
    acl("d:u:1001:rwx,d:g:33:r-x", "srv/projects/one");
    acl("u:1001:r--", "home/user/file");
    acl("d:u:1002:rwx", "var/log/salt");
    succeed(program("chown").args(["1001:33"]).arg(rootfs.join("home/user/file")));
}

pub(super) fn put(rootfs: &Path, path: &str, text: &str) {
    let path = rootfs.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// Gives everything a time with fractions of a second.
pub(super) fn dated(folder: &Path) {
    succeed(program("find").arg(folder).args([
        "-depth",
        "-exec",
        "touch",
        "-h",
        "-d",
        "2024-05-06T07:08:09.75Z",
        "{}",
        ";",
    ]));
}

pub(super) fn sum(program_name: &str, file: &Path) -> String {
    succeed(program(program_name).arg(file)).split(' ').next().unwrap().to_owned()
}

/// The SHA-256 of what a command prints.
pub(super) fn sum_of(command: &mut Command) -> String {
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let sum = succeed(program("sha256sum").stdin(child.stdout.take().unwrap()));
    assert!(child.wait().unwrap().success());
    sum.split(' ').next().unwrap().to_owned()
}

/// The names in an archive as GNU tar lists them, sorted.
pub(super) fn listed(archive: &Path) -> Vec<String> {
    let text = succeed(program("tar").arg("-tJf").arg(archive));
    text.lines().map(|line| line.trim_start_matches("./").trim_end_matches('/').to_owned()).collect()
}

/// Unpacks with GNU tar as an operator does.
pub(super) fn unpacked(castoff: &Castoff, archive: &Path) -> PathBuf {
    let folder = tempfile::Builder::new().prefix("unpacked-").tempdir_in(castoff.scratch()).unwrap().keep();
    let mut tar = program("tar");
    tar.args(["--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpJf"])
        .arg(archive)
        .arg("-C")
        .arg(&folder);
    succeed(&mut tar);
    folder
}

/// What find(1) says of a tree, without what stays out of archives, and links counted where they are a file's.
pub(super) fn facts(folder: &Path) -> Vec<String> {
    let format = "%P %y %m %U %G %l %Ts";
    let mut find = program("find");
    find.arg(folder).args(["-mindepth", "1", "-type", "d", "-printf", &format!("{format}\\n")]);
    find.args(["-o", "-mindepth", "1", "-printf", &format!("{format} %n\\n")]).env("LC_ALL", "C");
    kept(succeed(&mut find).lines().map(str::to_owned))
}

/// What getfacl says of a tree, a block an entry, without what stays out of archives.
pub(super) fn acls_of(folder: &Path) -> Vec<String> {
    let text = succeed(program("getfacl").args(["-n", "-R", "-P", "."]).current_dir(folder).env("LC_ALL", "C"));
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty() && !block.starts_with("# file: .\n"));
    kept(blocks.map(|block| block.trim_start_matches("# file: ").to_owned()))
}

fn kept(lines: impl Iterator<Item = String>) -> Vec<String> {
    let is_out = |line: &String| {
        ["rootfs/srv/pillar", "rootfs/srv/projects/one/pillar", "acls.txt", "rootfs/acls.txt"]
            .iter()
            .any(|path| line.strip_prefix(path).is_some_and(|rest| rest.starts_with(['/', ' ', '\n'])))
    };
    let mut lines: Vec<String> = lines.filter(|line| !is_out(line)).collect();
    lines.sort();
    lines
}

/// The report of `release.archive` of the container `web`.
pub(super) fn archive(castoff: &Castoff, arguments: &[&str]) -> Value {
    castoff.call(&[&["release.archive", "web"], arguments].concat())
}

pub(super) fn place(castoff: &Castoff, flavour: &str, number: u32) -> PathBuf {
    castoff.scratch().join(format!("lxc/web-{flavour}-{number}.tar.xz"))
}

#[test]
fn gnu_tar_restores_the_container_with_every_acl_and_every_sum_is_true() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let before = (facts(&folder), acls_of(&folder));
    let path = castoff.call(&["mc_cloud_images.archive_lxc", "web", "lxc"]);
    let path = PathBuf::from(path.as_str().unwrap());
    assert_eq!(path, place(&castoff, "lxc", 1));
    succeed(program("xz").arg("-t").arg(&path));
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);

    let report = archive(&castoff, &["lxc"]);
    assert_eq!(report["reused"], true, "{report:#}");
    let file = &report["files"][0];
    assert_eq!(file["sha256"], sum("sha256sum", &path));
    assert_eq!(file["md5"], sum("md5sum", &path));
    assert_eq!(file["size"], std::fs::metadata(&path).unwrap().len());
    let plain = sum_of(program("xz").arg("-dc").arg(&path));
    assert_eq!(report["diff_id"], format!("sha256:{plain}"));

    let restored = unpacked(&castoff, &path);
    assert_eq!(facts(&restored), before.0);
    assert_eq!(acls_of(&restored), before.1);
    let capability = succeed(program("getcap").arg(restored.join("rootfs/usr/lib/ping")));
    assert!(capability.contains("cap_net_raw"), "{capability}");
    assert_eq!((facts(&folder), acls_of(&folder)), before, "the container is as it was");
    let sparse = std::fs::metadata(restored.join("rootfs/home/user/sparse")).unwrap();
    assert_eq!((sparse.len(), sparse.blocks()), (3 << 20, 0));
    assert_eq!(
        sum("sha256sum", &restored.join("rootfs/bin/busybox")),
        sum("sha256sum", &folder.join("rootfs/bin/busybox"))
    );
}

#[test]
fn the_acl_texts_in_the_archive_bring_lost_acls_back() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    archive(&castoff, &["lxc"]);
    let restored = unpacked(&castoff, &place(&castoff, "lxc", 1));
    let wanted = acls_of(&restored);
    succeed(program("setfacl").args(["-R", "-P", "-b", "."]).current_dir(&restored));
    assert_ne!(acls_of(&restored), wanted);
    succeed(program("setfacl").arg("--restore=acls.txt").current_dir(&restored));
    assert_eq!(acls_of(&restored), wanted);

    succeed(program("setfacl").args(["-R", "-P", "-b", "."]).current_dir(&restored));
    succeed(program("setfacl").arg("--restore=acls.txt").current_dir(restored.join("rootfs")));
    assert_eq!(acls_of(&restored), wanted, "all ACLs of this container are in the listed parts");
    assert!(!folder.join("acls.txt").exists(), "the container itself got none");
}

#[test]
fn standalone_has_what_is_documented_and_no_pillar() {
    let castoff = castoff();
    container(&castoff, "web");
    let path = castoff.call(&["mc_cloud_images.archive_standalone", "web"]);
    assert_eq!(path, place(&castoff, "standalone", 1).to_str().unwrap());
    let expected = [
        "etc/cron.d/salt_update",
        "etc/salt",
        "etc/salt/minion",
        "srv/makina-states",
        "srv/makina-states/README",
        "srv/salt",
        "srv/salt/top.sls",
        "usr/bin/salt-call",
        "var/log/salt",
        "var/log/salt/minion",
    ];
    assert_eq!(listed(&place(&castoff, "standalone", 1)), expected);
}

#[test]
fn a_configured_flavour_takes_and_leaves_what_it_says_in_both_compressions() {
    let castoff = castoff().with(
        "CASTOFF_RELEASE_FLAVORS",
        "{mini: {root: rootfs, include: [opt, srv], leave_out: [opt/pipe, opt/null], compressions: [zstd:3]}}",
    );
    container(&castoff, "web");
    let report = archive(&castoff, &["mini"]);
    let zst = castoff.scratch().join("lxc/web-mini-1.tar.zst");
    succeed(program("zstd").arg("-qt").arg(&zst));
    let plain = sum_of(program("zstd").arg("-qdc").arg(&zst));
    assert_eq!(report["diff_id"], format!("sha256:{plain}"));
    assert_eq!(plain, sum_of(program("xz").arg("-dc").arg(place(&castoff, "mini", 1))));
    assert_eq!(report["files"][1]["sha256"], sum("sha256sum", &zst));
    let names = listed(&place(&castoff, "mini", 1));
    assert!(names.contains(&"srv/projects/one/data".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("pillar") || name.contains("pipe")), "{names:?}");
    castoff.fail(["call", "--retcode-passthrough", "release.archive", "web", "mimi"], 66);
}

#[test]
fn shifted_ids_become_the_containers_own() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let config = "lxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n";
    std::fs::write(folder.join("config"), config).unwrap();
    std::fs::remove_file(folder.join("rootfs/usr/lib/ping")).unwrap();
    succeed(program("setfacl").args(["-R", "-P", "-b"]).arg(folder.join("rootfs")));
    // Without CAP_CHOWN's clearing of setuid: find shows what is there afterwards.
    succeed(program("chown").args(["-hR", "100000:100033"]).arg(folder.join("rootfs")));
    succeed(program("setfacl").args(["-m", "u:101001:rwx"]).arg(folder.join("rootfs/opt/tool")));
    let report = archive(&castoff, &["lxc"]);
    assert_eq!(report["snapshot"]["idmap_undone"], "u:0:100000:65536,g:0:100000:65536");
    let restored = unpacked(&castoff, &place(&castoff, "lxc", 1));
    let tool = std::fs::metadata(restored.join("rootfs/opt/tool")).unwrap();
    assert_eq!((tool.uid(), tool.gid()), (0, 33));
    let acl = succeed(program("getfacl").args(["-n", "-c"]).arg(restored.join("rootfs/opt/tool")));
    assert!(acl.contains("user:1001:rwx"), "{acl}");
    let text = std::fs::read_to_string(restored.join("acls.txt")).unwrap();
    assert!(text.contains("user:1001:rwx") && !text.contains("101001"), "{text}");

    castoff.call(&["mc_cloud_images.save_acls", "web", "lxc"]);
    let own = std::fs::metadata(folder.join("rootfs/acls.txt")).unwrap();
    assert_eq!((own.uid(), own.gid()), (100_000, 100_033), "what lies in the container belongs to its root");
    let text = std::fs::read_to_string(folder.join("acls.txt")).unwrap();
    assert!(text.contains("user:101001:rwx"), "on this host its own ids hold: {text}");
}

#[test]
fn saved_acls_are_those_of_getfacl_and_follow_no_link() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let canary = castoff.scratch().join("canary");
    std::fs::write(&canary, "mine").unwrap();
    for place in ["acls.txt", "rootfs/acls.txt"] {
        symlink(&canary, folder.join(place)).unwrap();
    }
    let test = castoff.call(&["mc_cloud_images.save_acls_lxc", "web", "test=True"]);
    assert_eq!(test["result"], Value::Null);
    let files = castoff.call(&["mc_cloud_images.save_acls_standalone", "web"]);
    let wanted = ["rootfs/acls.txt", "acls.txt"].map(|file| folder.join(file).display().to_string());
    assert_eq!(files, serde_json::json!(wanted));
    assert_eq!(std::fs::read_to_string(&canary).unwrap(), "mine");
    let wanted = acls_of(&folder);
    assert!(wanted.iter().any(|block| block.contains("default:user:1001:rwx")));
    succeed(program("setfacl").args(["-R", "-P", "-b", "."]).current_dir(&folder));
    succeed(program("setfacl").arg("--restore=acls.txt").current_dir(&folder));
    assert_eq!(acls_of(&folder), wanted);
}
