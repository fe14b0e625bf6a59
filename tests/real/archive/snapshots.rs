//! The tree holds still, the script runs in what holds still, and nothing of either stays.

use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::{acls_of, archive, castoff, container, dated, facts, listed, place, put};
use crate::faults::leftovers;
use crate::harness::{program, succeed};

fn script(folder: &Path, text: &str) {
    put(&folder.join("rootfs"), "sbin/makinastates-snapshot.sh", text);
    let path = folder.join("rootfs/sbin/makinastates-snapshot.sh");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    dated(folder);
}

const IMPERSONAL: &str = "#!/bin/sh
set -e
rm /etc/ssh/ssh_host_rsa_key
: > /etc/machine-id
echo made > /opt/made-by-the-script
mv /srv/salt /srv/salt.moved && mv /srv/salt.moved /srv/salt
echo again >> /opt/tool
echo impersonal
";

#[test]
fn the_script_changes_the_archive_and_never_the_container() {
    for method in ["overlay", "copy"] {
        let castoff = castoff();
        let folder = container(&castoff, "web");
        put(&folder.join("rootfs"), "etc/ssh/ssh_host_rsa_key", "key");
        put(&folder.join("rootfs"), "etc/machine-id", "0123456789abcdef0123456789abcdef\n");
        script(&folder, IMPERSONAL);
        let before = (facts(&folder), acls_of(&folder));
        let tried = castoff.call(&["mc_cloud_images.snapshot_lxc", "web", &format!("method={method}")]);
        assert_eq!((&tried["retcode"], &tried["stdout"]), (&0.into(), &"impersonal".into()), "{tried:#}");
        assert_eq!(tried["hygiene"]["refused"], serde_json::json!([]));
        let report = archive(&castoff, &["lxc", &format!("method={method}")]);
        assert_eq!(report["snapshot"]["method"], method);
        assert_eq!((facts(&folder), acls_of(&folder)), before, "{method}");
        let names = listed(&place(&castoff, "lxc", 1));
        assert!(names.contains(&"rootfs/opt/made-by-the-script".to_owned()));
        assert!(!names.contains(&"rootfs/etc/ssh/ssh_host_rsa_key".to_owned()));
        let restored = super::unpacked(&castoff, &place(&castoff, "lxc", 1));
        // Both names of the file that the script wrote to are still one.
        let inode = |name: &str| std::fs::metadata(restored.join("rootfs/opt").join(name)).unwrap().ino();
        assert_eq!(inode("tool"), inode("tool-again"), "{method}");
        let kept = acls_of(&restored);
        for block in before.1.iter().filter(|block| block.contains("1001")) {
            assert!(kept.contains(block), "{method}: {block}");
        }
        assert_eq!(leftovers(&castoff), Vec::<PathBuf>::new());
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(castoff.scratch().to_str().unwrap()), "{mounts}");
    }
}

#[test]
fn what_the_script_makes_is_dated_by_the_image_and_not_by_the_hour() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    script(&folder, "#!/bin/sh\necho made > /opt/made\nrm -f /opt/null\n");
    let first = archive(&castoff, &["lxc"]);
    std::fs::remove_file(place(&castoff, "lxc", 1)).unwrap();
    let again = archive(&castoff, &["lxc", "method=copy"]);
    assert_eq!((&again["reused"], &again["files"]), (&false.into(), &first["files"]));
}

#[test]
fn a_script_that_fails_fails_the_release_and_leaves_nothing() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    script(&folder, "#!/bin/sh\necho 'cannot be impersonal'\nexit 3\n");
    for function in ["snapshot_lxc", "archive_lxc"] {
        let said = castoff.fail(["call", "--retcode-passthrough", &format!("mc_cloud_images.{function}"), "web"], 1);
        assert!(said.contains("exited with 3") && said.contains("cannot be impersonal"), "{said}");
    }
    assert!(!place(&castoff, "lxc", 1).exists());
    assert_eq!(leftovers(&castoff), Vec::<PathBuf>::new());
}

#[test]
fn an_overlay_is_not_taken_where_it_would_hide_something() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    succeed(program("mknod").arg(folder.join("rootfs/opt/whiteout")).args(["c", "0", "0"]));
    let report = archive(&castoff, &["lxc"]);
    assert_eq!(report["snapshot"]["method"], "copy", "{report:#}");
    assert!(report["snapshot"]["passed_over"].to_string().contains("whiteouts to overlayfs"), "{report:#}");
    assert!(listed(&place(&castoff, "lxc", 1)).contains(&"rootfs/opt/whiteout".to_owned()));
    let arguments = ["call", "--retcode-passthrough", "release.archive", "web", "lxc", "method=overlay"];
    castoff.fail(arguments, 76);
}

#[test]
fn blocks_are_shared_where_the_file_system_can() {
    let castoff = castoff();
    let image = castoff.scratch().join("xfs.img");
    succeed(program("truncate").args(["-s", "320M"]).arg(&image));
    succeed(program("mkfs.xfs").args(["-q", "-m", "reflink=1"]).arg(&image));
    let _mounted = Mounted::image(&image, &castoff.scratch().join("lxc"));
    let folder = container_on(&castoff);
    let report = archive(&castoff, &["lxc"]);
    assert_eq!(report["snapshot"]["method"], "reflink", "{report:#}");
    let shared = (facts(&folder), acls_of(&folder));
    let restored = super::unpacked(&castoff, &place(&castoff, "lxc", 1));
    assert_eq!((facts(&restored), acls_of(&restored)), shared);
    let other = archive(&castoff, &["lxc", "method=copy"]);
    assert_eq!((&other["reused"], &other["files"]), (&true.into(), &report["files"]));
}

/// A container whose tree was made elsewhere and copied here.
fn container_on(castoff: &crate::harness::Castoff) -> PathBuf {
    let elsewhere = super::castoff();
    let made = container(&elsewhere, "web");
    let folder = castoff.scratch().join("lxc/web");
    succeed(program("cp").args(["-a"]).arg(&made).arg(&folder));
    folder
}

struct Mounted(PathBuf);

impl Mounted {
    fn image(image: &Path, place: &Path) -> Self {
        succeed(program("mount").args(["-o", "loop"]).arg(image).arg(place));
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _gone = program("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_running_container_is_refused_unless_that_is_accepted() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let mut sleep = program("chroot");
    sleep.arg(folder.join("rootfs")).args(["/bin/sleep", "1000"]).stdin(Stdio::null());
    let mut running = sleep.spawn().unwrap();
    let root = format!("/proc/{}/root", running.id());
    let began = std::time::Instant::now();
    while std::fs::read_link(&root).unwrap() != folder.join("rootfs") {
        assert!(began.elapsed().as_secs() < 10, "chroot does not enter");
    }
    let arguments = ["call", "--retcode-passthrough", "mc_cloud_images.archive_lxc", "web"];
    let refused = castoff.command(arguments).output().unwrap();
    let accepted =
        castoff.command(["call", "--out=json", "release.archive", "web", "lxc", "live=True"]).output().unwrap();
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(refused.status.code(), Some(73), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is running"), "{refused:?}");
    assert!(accepted.status.success(), "{accepted:?}");
    let accepted: serde_json::Value = serde_json::from_slice(&accepted.stdout).unwrap();
    assert_eq!(accepted["local"]["snapshot"]["method"], "copy", "an overlay would show what runs");
}

#[test]
fn a_container_that_changes_under_an_overlay_is_not_released() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let mut noise = Vec::new();
    std::fs::File::open("/dev/urandom").unwrap().take(8 << 20).read_to_end(&mut noise).unwrap();
    std::fs::write(folder.join("rootfs/opt/noise"), noise).unwrap();
    let gate = castoff.scratch().join("points");
    let arguments = ["call", "--retcode-passthrough", "release.archive", "web", "lxc", "method=overlay"];
    let mut command = castoff.command(arguments);
    let child = command.env("CASTOFF_FAULT_LOG", &gate).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = std::time::Instant::now();
    while !std::fs::read_to_string(&gate).is_ok_and(|points| points.contains("release.archive.opened")) {
        assert!(began.elapsed().as_secs() < 60, "the archive is not begun");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    put(&folder.join("rootfs"), "opt/new", "");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(73), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("changed while it was released"), "{output:?}");
    assert!(!place(&castoff, "lxc", 1).exists());
    assert_eq!(leftovers(&castoff), Vec::<PathBuf>::new());
}
