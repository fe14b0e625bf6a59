//! What must not be released fails the release, each by its own name.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::{archive, castoff, container, place, put};
use crate::harness::Castoff;

fn refused(castoff: &Castoff, arguments: &[&str]) -> String {
    let call = ["call", "--retcode-passthrough", "mc_cloud_images.archive_lxc", "web"];
    castoff.fail([&call, arguments].concat(), 77)
}

#[test]
fn keys_and_identities_fail_the_release_unless_allowed_by_name() {
    for (kind, path, text) in [
        ("host-keys", "etc/ssh/ssh_host_ed25519_key", "key"),
        ("host-keys", "etc/dropbear/dropbear_rsa_host_key", "key"),
        ("machine-id", "etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("authorized-keys", "root/.ssh/authorized_keys", "ssh-ed25519 AAAA me\n"),
        ("authorized-keys", "home/user/.ssh/authorized_keys2", "ssh-ed25519 AAAA me\n"),
        ("salt-keys", "etc/salt/pki/minion/minion.pem", "key"),
        ("salt-keys", "etc/mastersalt/pki/master/minions/web", "key"),
    ] {
        let castoff = castoff();
        let folder = container(&castoff, "web");
        put(&folder.join("rootfs"), path, text);
        let said = refused(&castoff, &[]);
        assert!(said.contains(&format!("{kind}: rootfs/{path}")), "{said}");
        assert!(said.contains(&format!("allow={kind}")), "{said}");
        assert!(!place(&castoff, "lxc", 1).exists());
        let other = if kind == "host-keys" { "machine-id" } else { "host-keys" };
        refused(&castoff, &[&format!("allow={other}")]);
        refused(&castoff, &[&format!("allow={kind}:rootfs/elsewhere")]);
        let report = archive(&castoff, &["lxc", &format!("allow={kind}:rootfs/{path}")]);
        assert!(report["hygiene"]["allowed"].to_string().contains(path), "{report:#}");
    }
}

#[test]
fn what_is_empty_or_of_no_machine_is_no_finding() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let rootfs = folder.join("rootfs");
    put(&rootfs, "etc/machine-id", "uninitialized\n");
    put(&rootfs, "root/.ssh/authorized_keys", "");
    put(&rootfs, "etc/ssh/ssh_host_rsa_key.pub", "public");
    std::fs::create_dir_all(rootfs.join("var/lib/dbus")).unwrap();
    symlink("/etc/machine-id", rootfs.join("var/lib/dbus/machine-id")).unwrap();
    archive(&castoff, &["lxc"]);
}

#[test]
fn keys_are_found_behind_the_images_own_links() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let rootfs = folder.join("rootfs");
    put(&rootfs, "data/keys/somebody", "ssh-ed25519 AAAA me\n");
    symlink("../data/ssh", rootfs.join("root")).unwrap();
    std::fs::create_dir_all(rootfs.join("data/ssh")).unwrap();
    symlink("/data/keys", rootfs.join("data/ssh/.ssh")).unwrap();
    symlink("somebody", rootfs.join("data/keys/authorized_keys")).unwrap();
    let said = refused(&castoff, &[]);
    assert!(said.contains("authorized-keys: rootfs/data/keys/somebody"), "{said}");
}

#[test]
fn a_file_that_newly_gains_privileges_fails_the_release() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let versions = castoff.scratch().join("version.txt");
    let first = archive(&castoff, &["lxc", &format!("ver_file={}", versions.display())]);
    assert_eq!(first["hygiene"]["privileged"], serde_json::json!(["rootfs/usr/lib/ping", "rootfs/usr/lib/su"]));
    std::fs::write(&versions, "1").unwrap();
    let version = format!("ver_file={}", versions.display());
    archive(&castoff, &["lxc", &version]);
    assert!(place(&castoff, "lxc", 2).exists());
    std::fs::write(&versions, "2").unwrap();
    put(&folder.join("rootfs"), "opt/sh", "#!/bin/sh\n");
    std::fs::set_permissions(folder.join("rootfs/opt/sh"), PermissionsExt::from_mode(0o6755)).unwrap();
    let said = refused(&castoff, &[&version]);
    assert!(said.contains("new-privileged: rootfs/opt/sh") && said.contains("setuid, setgid"), "{said}");
    archive(&castoff, &["lxc", &version, "allow=new-privileged:rootfs/opt/sh"]);
}

#[test]
fn a_left_out_file_under_another_name_is_found() {
    let castoff = castoff();
    let folder = container(&castoff, "web");
    let rootfs = folder.join("rootfs");
    std::fs::hard_link(rootfs.join("srv/pillar/secret.sls"), rootfs.join("opt/harmless")).unwrap();
    let said = refused(&castoff, &[]);
    assert!(said.contains("left-out: rootfs/opt/harmless") && said.contains("rootfs/srv/pillar/secret.sls"), "{said}");
}
