//! SIGKILL at every named point, a disk that is full, two at once: a name means a whole archive, and nothing stays.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;

use super::{archive, castoff, container, dated, place, put};
use crate::faults::leftovers;
use crate::harness::{Castoff, program, succeed};
use crate::space::Tmpfs;

const NO_SPACE: i32 = 74;

fn points(castoff: &Castoff, arguments: &[&str]) -> BTreeMap<String, usize> {
    let log = castoff.scratch().join("points");
    succeed(castoff.command(arguments).env("CASTOFF_FAULT_LOG", &log));
    let mut points = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        *points.entry(line.to_owned()).or_insert(0) += 1;
    }
    std::fs::remove_file(log).unwrap();
    points
}

fn no_mounts(castoff: &Castoff) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(castoff.scratch().to_str().unwrap()), "{mounts}");
}

#[test]
fn a_kill_at_any_point_leaves_no_half_archive_and_the_same_call_finishes() {
    for method in ["overlay", "copy"] {
        let castoff = castoff().with("CASTOFF_RELEASE_FLAVORS", "{lxc: {compressions: [xz, zstd:1]}}");
        let folder = container(&castoff, "web");
        put(&folder.join("rootfs"), "sbin/makinastates-snapshot.sh", "echo impersonal > /opt/impersonal\n");
        dated(&folder);
        let method = format!("method={method}");
        let arguments = ["call", "--out=json", "release.archive", "web", "lxc", method.as_str()];
        let reached = points(&castoff, &arguments);
        let path = place(&castoff, "lxc", 1);
        let wanted = std::fs::read(&path).unwrap();
        for name in
            ["release.snapshot.taken", "release.archive.wrote", "release.archive.recorded", "sandbox.run.started"]
        {
            assert!(reached.contains_key(name), "{reached:?}");
        }
        let times = |count: usize| [1, count.div_ceil(2), count];
        for (point, count) in reached {
            let mut each = times(count).to_vec();
            each.dedup();
            for nth in each {
                for file in [path.clone(), path.with_file_name("web-lxc-1.tar.zst")] {
                    let _none = std::fs::remove_file(file);
                }
                let killed =
                    castoff.command(arguments).env("CASTOFF_FAULT", format!("{point}@{nth}")).output().unwrap();
                assert_eq!(killed.status.signal(), Some(9), "{point}@{nth}: {killed:?}");
                no_mounts(&castoff);
                if path.exists() {
                    assert_eq!(std::fs::read(&path).unwrap(), wanted, "{point}@{nth}");
                }
                let zst = path.with_file_name("web-lxc-1.tar.zst");
                if zst.exists() {
                    succeed(program("zstd").arg("-qt").arg(zst));
                }
                archive(&castoff, &["lxc", &method]);
                assert_eq!(std::fs::read(&path).unwrap(), wanted, "{point}@{nth}");
                assert_eq!(leftovers(&castoff), Vec::<PathBuf>::new(), "{point}@{nth}");
            }
        }
    }
}

/// A container whose archive has some megabytes.
fn heavy(castoff: &Castoff) {
    let folder = container(castoff, "web");
    let mut bytes = Vec::new();
    std::fs::File::open("/dev/urandom").unwrap().take(6 << 20).read_to_end(&mut bytes).unwrap();
    std::fs::write(folder.join("rootfs/opt/noise"), bytes).unwrap();
}

#[test]
fn a_disk_that_fills_up_takes_only_the_own_part_away() {
    let castoff = castoff();
    heavy(&castoff);
    let disk = Tmpfs::mount(castoff.scratch().join("disk"), "16m");
    let folder = castoff.scratch().join("disk");
    std::fs::write(folder.join("web-lxc-1.tar.xz.part"), "somebody's").unwrap();
    std::fs::write(folder.join("web-lxc-0.tar.xz"), "the old one").unwrap();
    let path = folder.join("web-lxc-1.tar.xz");
    let target = format!("absolute_tarball={}", path.display());
    let call = ["call", "--retcode-passthrough", "mc_cloud_images.archive_lxc", "web", &target];

    disk.fill_up_to(512 << 10);
    let said = castoff.fail(call, NO_SPACE);
    assert!(said.contains("not enough space: need"), "{said}");

    std::fs::remove_file(folder.join("ballast")).unwrap();
    disk.fill_up_to(4 << 20);
    let said = castoff.fail(call, NO_SPACE);
    assert!(said.contains(&format!("cannot write `{}`", path.display())) && said.contains("No space left"), "{said}");
    let mut left: Vec<_> =
        std::fs::read_dir(&folder).unwrap().map(|item| item.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, ["ballast", "web-lxc-0.tar.xz", "web-lxc-1.tar.xz.part"]);
    assert_eq!(leftovers(&castoff), Vec::<PathBuf>::new());

    std::fs::remove_file(folder.join("ballast")).unwrap();
    succeed(&mut castoff.command(call));
    succeed(program("xz").arg("-t").arg(&path));
}

#[test]
fn a_snapshot_that_does_not_fit_is_refused_before_the_first_byte() {
    let castoff = castoff();
    heavy(&castoff);
    let _disk = Tmpfs::mount(castoff.scratch().join("disk"), "3m");
    let tmpdir = format!("tmpdir={}", castoff.scratch().join("disk").display());
    let call = ["call", "--retcode-passthrough", "mc_cloud_images.archive_lxc", "web", "method=copy", &tmpdir];
    let said = castoff.fail(call, NO_SPACE);
    assert!(said.contains("not enough space: need"), "{said}");
    assert_eq!(std::fs::read_dir(castoff.scratch().join("disk")).unwrap().count(), 0);
}

#[test]
fn two_at_once_never_work_on_one_release() {
    let castoff = castoff();
    container(&castoff, "web");
    archive(&castoff, &["standalone"]);
    let lock = castoff.state().join("release/locks/web/lxc.lock");
    let ready = castoff.scratch().join("ready");
    let mut holder = program("flock")
        .arg("--no-fork")
        .arg(&lock)
        .args(["sh", "-c", "touch \"$0\"; exec sleep 1000"])
        .arg(&ready)
        .spawn()
        .unwrap();
    let began = std::time::Instant::now();
    while !ready.exists() {
        assert!(began.elapsed().as_secs() < 10, "flock does not start");
    }
    let output =
        castoff.command(["call", "--retcode-passthrough", "mc_cloud_images.archive_lxc", "web"]).output().unwrap();
    archive(&castoff, &["standalone"]);
    succeed(program("kill").arg(holder.id().to_string()));
    let _ended = holder.wait();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(73) && said.contains("is being released already"), "{said}");
}

#[test]
fn a_job_that_is_cancelled_in_the_middle_leaves_nothing() {
    let castoff = castoff();
    heavy(&castoff);
    let folder = castoff.scratch().join("lxc/web");
    let text: String =
        (0..3_000_000).map(|number: u64| format!("{:x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    put(&folder.join("rootfs"), "opt/slow", &text);
    let log = castoff.scratch().join("points");
    let mut command = castoff.command(["call", "release.archive", "web", "lxc"]);
    let mut child = command.env("CASTOFF_FAULT_LOG", &log).spawn().unwrap();
    let began = std::time::Instant::now();
    while !std::fs::read_to_string(&log).is_ok_and(|points| points.contains("release.archive.opened")) {
        assert!(began.elapsed().as_secs() < 120, "nothing is written");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    succeed(program("kill").args(["-INT", &child.id().to_string()]));
    let status = child.wait().unwrap();
    assert!(!status.success());
    assert!(!place(&castoff, "lxc", 1).exists());
    no_mounts(&castoff);
    std::fs::remove_file(folder.join("rootfs/opt/slow")).unwrap();
    archive(&castoff, &["standalone"]);
    assert_eq!(leftovers(&castoff), Vec::<PathBuf>::new(), "what an interrupted run left is swept by the next");
}
