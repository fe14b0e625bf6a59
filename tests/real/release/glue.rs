//! Releases as Salt states and Ansible tasks.

use serde_json::Value;

use super::sf::{host, world};
use super::{IMAGE, names};
use crate::ansible::{ansible, linked};
use crate::archive::{container, put};
use crate::harness::{Castoff, succeed};
use crate::salt_minion::{Install, Minion};

/// `castoff` with everything that this one's commands get, the configuration among it.
fn configured(castoff: Castoff) -> Castoff {
    let config = castoff.scratch().join("castoff.yaml").display().to_string();
    castoff.with("CASTOFF_CONFIG", config)
}

#[test]
fn the_salt_state_releases_once_or_follows_the_container() {
    let mut world = world("debian: {flavors: [lxc]}");
    let folder = container(&world.castoff, IMAGE);
    let castoff = configured(std::mem::replace(&mut world.castoff, Castoff::new()));
    let minion = Minion::beside(castoff, Install::Package);
    minion.state("once.sls", "debian:\n  castoff_image.released: []\n");
    minion.state("follow.sls", "debian:\n  castoff_image.released:\n    - flavors: [lxc]\n    - follow: True\n");
    minion.state("wrong.sls", "debain:\n  castoff_image.released: []\n");

    let would = minion.only_state(&["state.apply", "once", "test=True"]);
    assert_eq!(would["result"], Value::Null, "{would}");
    assert_eq!(names(&world.images()), [""; 0]);
    let done = minion.only_state(&["state.apply", "once"]);
    assert_eq!((&done["result"], &done["changes"]["debian/lxc"]["new"]), (&true.into(), &1.into()), "{done}");
    assert_eq!(world.served(), 1);
    put(&folder.join("rootfs"), "opt/new", "new\n");
    let left = minion.only_state(&["state.apply", "once"]);
    assert_eq!((&left["result"], &left["changes"]), (&true.into(), &serde_json::json!({})), "{left}");
    let followed = minion.only_state(&["state.apply", "follow"]);
    assert_eq!(followed["changes"]["debian/lxc"], serde_json::json!({"old": 1, "new": 2}), "{followed}");
    let content = minion.only_state(&["state.apply", "follow"]);
    assert_eq!((&content["result"], &content["changes"]), (&true.into(), &serde_json::json!({})), "{content}");
    assert_eq!(world.served(), 2);
    let output = minion.run(&["state.apply", "wrong"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!output.status.success() && said.contains("no image `debain`"), "{said}");
}

const PLAYBOOK: &str = "
- hosts: localhost
  connection: local
  gather_facts: false
  module_defaults:
    castoff.castoff.release: {executable: PROGRAM, socket: NOWHERE}
  tasks:
    - castoff.castoff.release: {name: debian, flavors: [lxc], state: current}
      check_mode: true
      register: would
    - castoff.castoff.release: {name: debian, flavors: [lxc]}
      register: first
    - castoff.castoff.release: {name: debian, flavors: [lxc], state: current}
      register: same
    - ansible.builtin.copy: {dest: CONTAINER/rootfs/opt/new, content: new}
    - castoff.castoff.release: {name: debian, flavors: [lxc], state: current}
      register: second
    - castoff.castoff.release: {name: debian, flavors: [lxc], state: rolled_back, version: 1}
      register: back
    - castoff.castoff.release: {name: debian, flavors: [lxc], state: rolled_back, version: 1}
      register: back_again
    - castoff.castoff.release: {name: debian, flavors: [lxc], state: withdrawn, version: 7}
      register: other
    - castoff.castoff.release: {name: debain, state: current}
      register: wrong
      ignore_errors: true
    - ansible.builtin.assert:
        that:
          - would is changed and would.versions.lxc == 'the next release'
          - first is changed and first.versions.lxc == 1
          - same is not changed
          - second is changed and second.versions.lxc == 2
          - \"'debian/lxc: 1' in second.diff.before and 'debian/lxc: 2' in second.diff.after\"
          - back is changed and back.versions.lxc == 3
          - back_again is not changed
          - other is not changed
          - wrong is failed and wrong.kind == 'not-found'
";

const HOST_PLAYBOOK: &str = "
- hosts: localhost
  connection: local
  gather_facts: false
  module_defaults:
    castoff.castoff.sync: {executable: PROGRAM, socket: NOWHERE}
  tasks:
    - castoff.castoff.sync: {}
      check_mode: true
      register: would
    - castoff.castoff.sync: {}
      register: first
    - castoff.castoff.sync: {images: [debian/lxc]}
      register: same
    - castoff.castoff.sync: {images: [debian/lxc], state: pinned, version: 3}
      register: pinned
    - castoff.castoff.sync: {images: [debian/lxc], state: followed}
      register: followed
    - castoff.castoff.sync: {images: [debian/lxc], state: rolled_back, version: 9}
      register: wrong
      ignore_errors: true
    - ansible.builtin.assert:
        that:
          - would is changed
          - first is changed and first.images['debian/lxc'].to == 3
          - same is not changed
          - pinned is changed and followed is changed
          - wrong is failed and wrong.kind == 'not-found'
";

fn play(castoff: &Castoff, playbook: &str) {
    let home = castoff.scratch().join("ansible");
    std::fs::create_dir_all(&home).unwrap();
    let program = castoff.scratch().join("castoff");
    if !program.exists() {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_castoff"), &program).unwrap();
    }
    let file = home.join("play.yml");
    let text = playbook
        .replace("PROGRAM", program.to_str().unwrap())
        .replace("NOWHERE", home.join("no.sock").to_str().unwrap())
        .replace("CONTAINER", castoff.scratch().join("lxc").join(IMAGE).to_str().unwrap());
    std::fs::write(&file, text).unwrap();
    let own = castoff.command(["--version"]);
    let mut ansible = ansible("ansible-playbook", &home, &linked(&home));
    succeed(ansible.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?)))).arg("--diff").arg(&file));
}

#[test]
fn ansible_releases_goes_back_and_brings_hosts_along() {
    let mut world = world("debian: {flavors: [lxc]}");
    container(&world.castoff, IMAGE);
    world.castoff = configured(world.castoff);
    play(&world.castoff, PLAYBOOK);
    assert_eq!(world.served(), 3);
    play(&host(&world), HOST_PLAYBOOK);
}
