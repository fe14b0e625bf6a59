//! LXC container directories on this host, without LXC: found by name or by root, running or not.

use std::path::Path;
use std::process::{Child, Stdio};

use castoff::engine::lxc::LxcContainer;
use castoff::error::Kind;

use crate::harness::{program, require_root};
use crate::sandbox::busybox_tree;

fn container(lxc_path: &Path, name: &str, config: &str) {
    std::fs::create_dir_all(lxc_path.join(name).join("rootfs")).unwrap();
    std::fs::write(lxc_path.join(name).join("config"), config).unwrap();
}

#[test]
fn a_container_is_found_by_name_and_by_root() {
    let folder = tempfile::tempdir().unwrap();
    container(
        folder.path(),
        "makina-states-bionic",
        "lxc.include = /usr/share/lxc/config/common.conf\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n",
    );
    let found = LxcContainer::find("makina-states-bionic", folder.path()).unwrap();
    assert_eq!(found.rootfs, folder.path().join("makina-states-bionic/rootfs"));
    assert_eq!(found.includes, ["/usr/share/lxc/config/common.conf"]);
    let map = castoff::rootfs::idmap::IdMap::parse_lxc_config(&found.config).unwrap().unwrap();
    assert_eq!(map.user(100_033), Some(33));
    assert_eq!(LxcContainer::of_rootfs(&found.rootfs).unwrap().as_ref(), Some(&found));
    assert_eq!(LxcContainer::of_rootfs(folder.path()).unwrap(), None);

    let elsewhere = folder.path().join("elsewhere");
    container(folder.path(), "moved", &format!("lxc.rootfs.path = dir:{}\n", elsewhere.display()));
    let moved = LxcContainer::find("moved", folder.path()).unwrap();
    assert_eq!(moved.rootfs, elsewhere);
    assert_eq!(moved.existing_rootfs().unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn hostile_and_unknown_names_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    container(folder.path(), "web", "");
    for name in ["../web", "web/../web", "/etc", "..", "", "web\n", "$(id)", "web;id"] {
        assert_eq!(LxcContainer::find(name, folder.path()).unwrap_err().kind(), Kind::Usage, "{name:?}");
    }
    let error = LxcContainer::find("wbe", folder.path()).unwrap_err();
    assert_eq!((error.kind(), error.next_step()), (Kind::NotFound, Some("did you mean `web`?")));
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn a_container_with_a_process_in_its_root_runs() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    container(folder.path(), "web", "");
    let tree = busybox_tree(folder.path());
    std::fs::remove_dir(folder.path().join("web/rootfs")).unwrap();
    std::fs::rename(tree, folder.path().join("web/rootfs")).unwrap();
    let found = LxcContainer::find("web", folder.path()).unwrap();
    assert!(!found.is_running().unwrap());
    let mut sleep = program("chroot");
    sleep.arg(&found.rootfs).args(["/bin/sleep", "1000"]).stdin(Stdio::null());
    let running = Running(sleep.spawn().unwrap());
    // chroot(8) needs a moment to enter.
    let began = std::time::Instant::now();
    while !found.is_running().unwrap() {
        assert!(began.elapsed().as_secs() < 10, "the process in the root is not seen");
    }
    assert!(found.running().unwrap().unwrap().contains(&format!("process {}", running.0.id())));
    drop(running);
    assert!(!found.is_running().unwrap());
}

#[test]
fn a_container_whose_monitor_listens_runs() {
    use std::os::linux::net::SocketAddrExt;
    let folder = tempfile::tempdir().unwrap();
    container(folder.path(), "web", "");
    let found = LxcContainer::find("web", folder.path()).unwrap();
    let name = found.directory.join("command");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name.to_str().unwrap()).unwrap();
    let socket = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    assert!(found.is_running().unwrap());
    drop(socket);
    assert!(!found.is_running().unwrap());
}
