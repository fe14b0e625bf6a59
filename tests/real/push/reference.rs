//! Reference containers: copies that are whole, or not there.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::process::ExitStatusExt as _;

use super::hosts::{BUILDER, Cloud, IMAGE, content};
use crate::harness::{program, succeed};
use crate::sync::facts;

const CALL: [&str; 3] = ["mc_cloud_lxc.sync_image_reference_containers", BUILDER, IMAGE];

#[test]
fn a_copy_has_everything_but_locks_and_an_equal_one_is_left_alone() {
    let cloud = Cloud::new(&[]);
    cloud.build("one", 1);
    let script = cloud.lxc.join(BUILDER).join("rootfs/sbin/makinastates-snapshot.sh");
    let (source, copy) = (cloud.lxc.join(BUILDER).join("rootfs"), cloud.lxc.join(IMAGE).join("rootfs"));
    let made = cloud.call(&[CALL[0], CALL[1], CALL[2], "snapshot=False", "force=False"]);
    assert_eq!((&made["result"], &made["created"]), (&true.into(), &true.into()), "{made:#}");
    let config = std::fs::read_to_string(cloud.lxc.join(IMAGE).join("config")).unwrap();
    let wanted = format!("lxc.uts.name = {IMAGE}\nlxc.rootfs.path = dir:{}\n", copy.display());
    assert_eq!(config, wanted);
    assert!(!copy.join("data/lock").exists());
    std::fs::remove_file(source.join("data/lock")).unwrap();
    std::fs::write(source.join(".ms_version"), "1\n").unwrap();
    for name in [".ms_version", "data"] {
        succeed(program("touch").arg("-d").arg("2020-01-01").args([source.join(name), copy.join(name)]));
    }
    assert_eq!(facts(&copy), facts(&source));
    let inode = |path: &std::path::Path| std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(path).unwrap());
    cloud.call(&[CALL[0], CALL[1], CALL[2], "snapshot=False"]);
    let before = inode(&copy);
    let same = cloud.call(&[CALL[0], CALL[1], CALL[2], "snapshot=False"]);
    assert_eq!((&same["result"], &same["changed"], inode(&copy)), (&true.into(), &false.into(), before), "{same:#}");

    succeed(program("cp").args(["/bin/busybox"]).arg(source.join("sbin/sh")));
    std::fs::create_dir_all(source.join("bin")).unwrap();
    succeed(program("cp").args(["/bin/busybox"]).arg(source.join("bin/sh")));
    std::fs::write(&script, "#!/bin/sh\necho gone > /etc/personal\n").unwrap();
    succeed(program("chmod").arg("755").arg(&script));
    for changed in [true, false] {
        let report = cloud.call(&["mc_cloud_images.sync_container", BUILDER, IMAGE]);
        assert_eq!((&report["result"], &report["changed"]), (&true.into(), &changed.into()), "{report:#}");
    }
    assert_eq!(std::fs::read_to_string(copy.join("etc/personal")).unwrap(), "gone\n");
    assert!(!source.join("etc/personal").exists());
}

#[test]
fn what_is_missing_running_or_hostile_is_refused_and_nothing_appears() {
    let cloud = Cloud::new(&[]);
    let call = |arguments: &[&str], code: i32| {
        cloud.castoff.fail(["call", "--retcode-passthrough"].iter().chain(arguments), code)
    };
    call(&CALL, 66);
    cloud.build("one", 1);
    for name in ["../x", "a/b", "", "x;y", "-x", "a\nb"] {
        call(&[CALL[0], BUILDER, name], 64);
        call(&[CALL[0], name, IMAGE], 64);
    }
    // What a monitor listens on (lxc_make_abstract_socket_name).
    let name = cloud.lxc.join(BUILDER).join("command");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name.to_str().unwrap()).unwrap();
    let monitor = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let running = call(&CALL, 73);
    assert!(running.contains("is running"), "{running}");
    assert!(!cloud.lxc.join(IMAGE).exists());
    let forced = cloud.call(&[CALL[0], CALL[1], CALL[2], "force=True"]);
    drop(monitor);
    assert_eq!(forced["result"], true, "{forced:#}");
}

#[test]
fn killed_at_any_point_a_container_is_whole_or_missing_and_the_next_run_finishes() {
    let points = [
        "unpack.staging.made",
        "release.reference.copied",
        "release.reference.script-done",
        "release.reference.before-rename",
        "release.reference.created",
        "release.reference.before-swap",
        "release.reference.swapped",
    ];
    let cloud = Cloud::new(&[]);
    let copy = cloud.lxc.join(IMAGE);
    for (number, point) in points.into_iter().enumerate() {
        let replaces = point.ends_with("swap") || point.ends_with("swapped") || number == 0;
        let _none = std::fs::remove_dir_all(&copy);
        if replaces {
            cloud.build("before", 1);
            assert_eq!(cloud.call(&CALL)["result"], true);
        }
        cloud.build("after", 1);
        let killed = cloud.castoff.command(["call"].iter().chain(&CALL)).env("CASTOFF_FAULT", point).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        if replaces || copy.exists() {
            content(&copy.join("rootfs"));
            assert!(copy.join("config").exists());
        }
        assert_eq!(cloud.call(&CALL)["result"], true, "after {point}");
        assert_eq!(content(&copy.join("rootfs")), "after");
        let left: Vec<_> = crate::faults::below(&cloud.lxc)
            .into_iter()
            .filter(|path| path.to_string_lossy().contains(".castoff-"))
            .collect();
        assert!(left.is_empty(), "after {point}: {left:?}");
    }
}
