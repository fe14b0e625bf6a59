//! The commands of `contrib/MIGRATION.md`, in their order, with a real Salt whose answers before the move are by hand.

use std::path::Path;
use std::process::Command;

use crate::harness::{Castoff, python_program, succeed};
use crate::readme::examples_of;

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

/// Only Salt can render it.
const DATABASE: &str = "
cloud_settings:
  cloud: {root: ROOT}
  images:
    lxc:
      default: {{ salt['test.echo']('harbour') }}
      images: {harbour: {flavors: [lxc]}}
vms: {lxc: {node-1.example.net: [web-1.example.net]}}
baremetal_hosts: [node-1.example.net]
";

/// What the old module answers for that database; the images that castoff also knows are left to its defaults.
fn before(root: &Path) -> serde_json::Value {
    let image = |name: &str| serde_json::json!({"builder_ref": format!("{name}-lxc-ref.foo.net"), "flavors": ["lxc", "standalone"]});
    let url = "https://downloads.sourceforge.net/makinacorpus/makina-states/harbour-lxc-7.tar.xz";
    let mut images = serde_json::json!({"harbour": {
        "builder_ref": "harbour-lxc-ref.foo.net", "flavors": ["lxc"], "lxc_tarball": url, "lxc_url": url,
        "lxc_tarball_md5": "0123456789abcdef0123456789abcdef", "lxc_tarball_name": "harbour-lxc-7.tar.xz",
        "lxc_tarball_ver": "7",
    }});
    for name in ["bionic", "xenial", "vivid", "trusty", "precise"] {
        let name = format!("makina-states-{name}");
        images[&name] = image(&name);
    }
    serde_json::json!({"makina-states.cloud.images": {
        "root": root, "kvm": {"images": {}}, "git_url": "ssh://github.com/makinacorpus/makina-states",
        "sftp_url": "frs.sourceforge.net:/home/frs/project/makinacorpus/makina-states", "sftp_user": "kiorky",
        "lxc": {"images_root": "/var/lib/lxc", "cron_sync": true, "default": "harbour", "images": images,
                "cron_hour": "3", "cron_minute": "3"},
    }})
}

/// Salt as a master and a masterless minion below this folder; `ext_pillar` as YAML.
fn salt(folder: &Path, ext_pillar: &str) {
    let shown = folder.display();
    for empty in ["var/cache/salt/master/proc", "srv", "bin"] {
        std::fs::create_dir_all(folder.join(empty)).unwrap();
    }
    let common =
        format!("root_dir: {shown}\nfile_roots: {{base: [{shown}/srv]}}\npillar_roots: {{base: [{shown}/srv]}}\n");
    std::fs::write(folder.join("minion"), format!("{common}file_client: local\nid: controller.example.net\n")).unwrap();
    let dirs = format!("pillar_dirs: [{CHECKOUT}/contrib/salt/castoff_salt/pillar]\n");
    std::fs::write(folder.join("master"), format!("{common}{dirs}ext_pillar: {ext_pillar}\n")).unwrap();
    for name in ["salt-call", "salt-run"] {
        let program = python_program(name).get_program().to_owned();
        let text = format!("#!/bin/sh\nexec '{}' -c '{shown}' -l error \"$@\"\n", program.to_string_lossy());
        let wrapper = folder.join("bin").join(name);
        std::fs::write(&wrapper, text).unwrap();
        succeed(Command::new("chmod").arg("0755").arg(&wrapper));
    }
}

#[test]
fn the_steps_lead_from_the_old_answers_to_the_same_new_ones() {
    let castoff = Castoff::new();
    let folder = castoff.scratch().to_owned();
    let (root, versions) = (folder.join("makina-states"), folder.join("makina-states/versions"));
    std::fs::create_dir_all(&versions).unwrap();
    std::fs::create_dir_all(folder.join("etc/makina-states")).unwrap();
    std::fs::write(versions.join("harbour-lxc_version.txt"), "7").unwrap();
    std::fs::write(versions.join("harbour-lxc_version.txt.md5"), "0123456789abcdef0123456789abcdef").unwrap();
    let database = DATABASE.replace("ROOT", &root.display().to_string());
    std::fs::write(folder.join("etc/makina-states/database.sls"), database).unwrap();
    std::fs::write(folder.join("old-pillar.json"), before(&root).to_string()).unwrap();
    std::fs::write(folder.join("grains.yaml"), "makina.lxc: false\n").unwrap();
    let old = format!("cmd_json: cat {}/old-pillar.json", folder.display());
    salt(&folder, &format!("[{old}]"));

    let pillar_root = folder.join("etc/castoff/pillar").display().to_string();
    let castoff = castoff
        .with("CASTOFF_PILLAR_ROOT", pillar_root)
        .with("CASTOFF_MINION_ID", "controller.example.net")
        .with("CASTOFF_GRAINS", folder.join("grains.yaml").display().to_string())
        .with("CASTOFF_SOCKET", folder.join("castoff.sock").display().to_string());
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_castoff"), folder.join("bin/castoff")).unwrap();
    let path = format!("{}/bin:{}", folder.display(), std::env::var("PATH").unwrap());
    let own = castoff.command(["--version"]);
    let play = |part: &str| {
        let examples = examples_of("contrib/MIGRATION.md", &format!("console {part}"));
        assert!(!examples.is_empty(), "{part}");
        for example in examples {
            let text = example.command.replace("/etc/", &format!("{}/etc/", folder.display()));
            let mut shell = Command::new("bash");
            shell.args(["-o", "pipefail", "-euc", &text]).current_dir(&folder).env("PATH", &path);
            shell.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
            shell.env("PYTHONPATH", format!("{CHECKOUT}/contrib/salt"));
            succeed(&mut shell);
        }
    };
    play("dump");
    play("look");
    play("compare");
    let new: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("new.json")).unwrap()).unwrap();
    assert_eq!(new["lxc"]["images"]["harbour"]["lxc_tarball_ver"], "7");
    salt(&folder, &format!("[{old}, castoff: ]"));
    play("attached");
}
