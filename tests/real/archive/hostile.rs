//! A root filesystem full of links out of the tree, and names that are none.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::{archive, castoff, container, listed, place, put, unpacked};
use crate::harness::{Castoff, program, succeed};

const CANARY: &str = "canary-of-the-host";

/// Replaces what is there by a link.
fn link(rootfs: &Path, name: &str, target: impl AsRef<Path>) {
    let path = rootfs.join(name);
    if path.is_dir() && !path.is_symlink() {
        std::fs::remove_dir_all(&path).unwrap();
    }
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    symlink(target, path).unwrap();
}

fn plain(castoff: &Castoff, flavour: &str) -> Vec<u8> {
    let output = program("xz").arg("-dc").arg(place(castoff, flavour, 1)).output().unwrap();
    assert!(output.status.success());
    output.stdout
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn no_link_leads_out_of_the_tree_in_any_flavour() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let rootfs = folder.join("rootfs");
    let host = castoff.scratch().join("host");
    put(&host, "salt/secret", CANARY);
    put(&host, "pki/secret", CANARY);
    link(&rootfs, "etc/salt", host.join("salt"));
    link(&rootfs, "var/log", &host);
    link(&rootfs, "usr/bin", "../../../../../../../../../../usr/bin");
    link(&rootfs, "srv/salt", host.join("salt/secret"));
    link(&rootfs, "salt-venv", host.join("salt"));
    link(&rootfs, "opt/proc", "/proc/self/root");
    link(&rootfs, "opt/fd", "/proc/self/fd/3");
    link(&rootfs, "opt/self", "self");
    link(&rootfs, "opt/around", "../opt/about");
    link(&rootfs, "opt/about", "around");
    link(&folder, "hook", host.join("salt/secret"));
    for number in 0..45 {
        link(&rootfs, &format!("chain/{number}"), format!("{}", number + 1));
    }
    for flavour in ["lxc", "standalone"] {
        let report = archive(&castoff, &[flavour]);
        assert!(!holds(&plain(&castoff, flavour), CANARY), "{flavour}");
        if flavour == "standalone" {
            let stopped = report["chosen"]["links_not_followed"].to_string();
            assert!(stopped.contains("var/log") && stopped.contains("usr/bin"), "{report:#}");
            let names = listed(&place(&castoff, flavour, 1));
            assert!(
                names.contains(&"etc/salt".to_owned()) && !names.iter().any(|name| name.starts_with("usr/")),
                "{names:?}"
            );
        }
    }
    let restored = unpacked(&castoff, &place(&castoff, "lxc", 1));
    assert_eq!(std::fs::read_link(restored.join("rootfs/etc/salt")).unwrap(), host.join("salt"));
    assert_eq!(std::fs::read_link(restored.join("rootfs/opt/self")).unwrap(), Path::new("self"));
}

#[test]
fn pillars_stay_out_wherever_their_links_lead() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let rootfs = folder.join("rootfs");
    put(&rootfs, "data/real/top.sls", "canary-of-the-pillar\n");
    link(&rootfs, "srv/pillar", "/data/real");
    link(&rootfs, "srv/mastersalt-pillar", "/");
    put(&rootfs, "etc/makina-states/database.sls", "canary-of-the-pillar\n");
    put(&rootfs, "var/cache/salt/master/minions/web/data.p", "canary-of-the-pillar\n");
    let report = archive(&castoff, &["lxc"]);
    archive(&castoff, &["standalone"]);
    for flavour in ["lxc", "standalone"] {
        assert!(!holds(&plain(&castoff, flavour), "canary-of-the-pillar"), "{flavour}");
    }
    assert!(report["chosen"]["left_out"].to_string().contains("rootfs/data/real"), "{report:#}");
    let names = listed(&place(&castoff, "lxc", 1));
    assert!(names.contains(&"rootfs/opt/tool".to_owned()), "a link to the root leaves nothing else out");
}

#[test]
fn names_of_any_bytes_come_back_as_they_were() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let rootfs = folder.join("rootfs/opt");
    let long = "l".repeat(255);
    for name in [
        &b"new\nline"[..],
        b"back\\slash",
        b"\xff\xfe",
        b" ",
        b"-rf",
        b"$(id)",
        b"'quo\"te",
        "ä".as_bytes(),
        long.as_bytes(),
    ] {
        std::fs::write(rootfs.join(std::ffi::OsStr::from_bytes(name)), name).unwrap();
        succeed(
            program("setfacl").args(["-m", "u:1001:r--", "--"]).arg(rootfs.join(std::ffi::OsStr::from_bytes(name))),
        );
    }
    let deep = (0..14).fold(rootfs, |folder, _| folder.join("d".repeat(200)));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("file"), "deep").unwrap();
    archive(&castoff, &["lxc"]);
    let restored = unpacked(&castoff, &place(&castoff, "lxc", 1));
    assert_eq!(super::facts(&restored), super::facts(&folder));
    assert_eq!(super::acls_of(&restored), super::acls_of(&folder));
}

#[test]
fn names_of_images_and_flavours_are_refused_before_anything_is_touched() {
    let castoff = castoff();
    container(&castoff, "web");
    let before = crate::faults::below(castoff.scratch());
    for name in ["../web", "web/../web", "/etc", "web\n", "$(id)", "web;id", "WEB", ".web", "web..web", "{root}"] {
        let output =
            castoff.command(["call", "--retcode-passthrough", "mc_cloud_images.archive_lxc", name]).output().unwrap();
        assert!(matches!(output.status.code(), Some(64 | 66)), "{name:?}: {output:?}");
    }
    for flavour in ["../lxc", "lxc;id", "LXC", "none"] {
        let output =
            castoff.command(["call", "--retcode-passthrough", "release.archive", "web", flavour]).output().unwrap();
        assert!(matches!(output.status.code(), Some(64 | 66)), "{flavour:?}: {output:?}");
    }
    assert_eq!(crate::faults::below(castoff.scratch()), before);
}
