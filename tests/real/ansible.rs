//! The Ansible collection in `contrib/ansible`, under the real Ansible, against a daemon of the test's own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::harness::{Castoff, python_program, require_root, succeed};

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");
const PLUGINS: [(&str, &str); 6] = [
    ("module", "image"),
    ("module", "call"),
    ("module", "release"),
    ("module", "sync"),
    ("lookup", "settings"),
    ("inventory", "images"),
];

/// A cloud of one controller and one container; one image of its own, with a release.
const DATABASE: &str = "
cloud_settings:
  cloud: {root: ROOT}
  images:
    lxc:
      default: harbour
      images:
        harbour: {builder_ref: harbour-ref.example.net, flavors: [lxc]}
vms:
  lxc:
    node.example.net: [web.example.net]
baremetal_hosts: [node.example.net]
configurations:
  default: {}
";

/// `castoff daemon` on a socket in the scratch folder; ends with this value.
struct Daemon {
    process: Child,
    castoff: Castoff,
}

impl Daemon {
    fn start() -> Self {
        let castoff = Castoff::new();
        let root = castoff.scratch().join("pillar");
        let versions = castoff.scratch().join("makina-states/versions");
        std::fs::create_dir(&root).unwrap();
        std::fs::create_dir_all(&versions).unwrap();
        let data = DATABASE.replace("ROOT", &castoff.scratch().join("makina-states").display().to_string());
        std::fs::write(root.join("database.yaml"), data).unwrap();
        std::fs::write(versions.join("harbour-lxc_version.txt"), "7").unwrap();
        std::fs::write(versions.join("harbour-lxc_version.txt.md5"), "0123456789abcdef0123456789abcdef").unwrap();
        let castoff = castoff
            .with("CASTOFF_PILLAR_ROOT", root.display().to_string())
            .with("CASTOFF_MINION_ID", "controller.example.net");
        let socket = castoff.scratch().join("castoff.sock");
        let castoff = castoff.with("CASTOFF_SOCKET", socket.display().to_string());
        let process = castoff.command(["daemon"]).spawn().unwrap();
        let mut daemon = Self { process, castoff };
        let until = Instant::now() + Duration::from_secs(30);
        while std::os::unix::net::UnixStream::connect(daemon.socket()).is_err() {
            assert!(Instant::now() < until, "the daemon does not listen at {}", daemon.socket().display());
            assert!(daemon.process.try_wait().unwrap().is_none(), "the daemon ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    fn socket(&self) -> PathBuf {
        self.castoff.scratch().join("castoff.sock")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.process.kill().expect("the daemon is ours");
        self.process.wait().expect("the daemon is ours");
    }
}

/// An Ansible command that sees the collections of this folder and nothing of this machine's configuration.
pub(crate) fn ansible(name: &str, home: &Path, collections: &Path) -> Command {
    let configuration = home.join("ansible.cfg");
    std::fs::write(&configuration, "[defaults]\n").unwrap();
    let mut command = python_program(name);
    command
        .env("ANSIBLE_CONFIG", configuration)
        .current_dir(home)
        .env("HOME", home)
        .env("ANSIBLE_COLLECTIONS_PATH", collections)
        .envs([
            ("ANSIBLE_LOCALHOST_WARNING", "0"),
            ("ANSIBLE_INVENTORY_UNPARSED_WARNING", "0"),
            ("ANSIBLE_NOCOLOR", "1"),
            ("ANSIBLE_PIPELINING", "1"),
            ("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3"),
            ("LC_ALL", "C.UTF-8"),
        ]);
    command
}

/// A folder of collections that holds ours as it stands in the checkout.
pub(crate) fn linked(home: &Path) -> PathBuf {
    let collections = home.join("linked");
    std::fs::create_dir_all(collections.join("ansible_collections/castoff")).unwrap();
    let link = collections.join("ansible_collections/castoff/castoff");
    std::os::unix::fs::symlink(Path::new(CHECKOUT).join("contrib/ansible"), link).unwrap();
    collections
}

#[test]
fn the_collection_builds_installs_and_documents_every_plugin() {
    let home = tempfile::tempdir().unwrap();
    let (home, installed) = (home.path(), home.path().join("installed"));
    let source = Path::new(CHECKOUT).join("contrib/ansible");
    let galaxy = || ansible("ansible-galaxy", home, &installed);
    succeed(galaxy().args(["collection", "build", "--output-path"]).arg(home).arg(&source));
    let archive = home.join(concat!("castoff-castoff-", env!("CARGO_PKG_VERSION"), ".tar.gz"));
    assert!(archive.is_file(), "galaxy.yml has another version than Cargo.toml");
    succeed(galaxy().args(["collection", "install", "--offline", "-p"]).arg(&installed).arg(&archive));
    for (kind, plugin) in PLUGINS {
        let name = format!("castoff.castoff.{plugin}");
        let told = succeed(ansible("ansible-doc", home, &installed).args(["--json", "-t", kind, &name]));
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        let told = &told[&name];
        assert!(!told["examples"].as_str().unwrap().trim().is_empty(), "{name}");
        assert!(told["doc"]["options"]["socket"]["description"].is_array(), "{name}: {told:#}");
        assert_eq!(told["return"].is_object(), kind != "inventory", "{name}");
        let file = home.join("installed/ansible_collections/castoff/castoff/plugins");
        let folder = if kind == "module" { "modules" } else { kind };
        assert!(file.join(folder).join(format!("{plugin}.py")).is_file());
    }
    let shipped = std::fs::read_dir(source.join("plugins/modules")).unwrap().count();
    let listed = PLUGINS.iter().filter(|(kind, _)| *kind == "module").count();
    assert_eq!(shipped, listed, "a module is not in the list above");
}

#[test]
fn a_playbook_makes_images_calls_functions_and_reads_settings() {
    require_root();
    let daemon = Daemon::start();
    let scratch = daemon.castoff.scratch();
    let rootfs = scratch.join("rootfs");
    std::fs::create_dir_all(rootfs.join("etc")).unwrap();
    std::fs::write(rootfs.join("etc/hostname"), "web\n").unwrap();
    succeed(Command::new("setfacl").args(["-m", "u:1001:rw"]).arg(rootfs.join("etc/hostname")));
    drop(std::os::unix::net::UnixListener::bind(scratch.join("dead.sock")).unwrap());

    let variables = serde_json::json!({
        "socket": daemon.socket(), "scratch": scratch, "castoff": env!("CARGO_BIN_EXE_castoff"),
        "rootfs": rootfs, "member": "web.example.net", "image": "harbour", "builder_ref": "harbour-ref.example.net",
    });
    let own = daemon.castoff.command(["--version"]);
    let told = succeed(
        ansible("ansible-playbook", scratch, &linked(scratch))
            .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .arg(format!("{CHECKOUT}/tests/real/ansible.yml"))
            .args(["--extra-vars", &variables.to_string()]),
    );
    assert!(!told.contains("Traceback"), "{told}");

    // What castoff itself says of what the playbook left.
    let images = daemon.castoff.call(&["image.list", "engine=store"]).to_string();
    for (name, there) in [("web", true), ("called", true), ("copy", false), ("never", false)] {
        assert_eq!(images.contains(&format!("ansible/{name}:1")), there, "{name}: {images}");
    }
    let image = daemon.castoff.call(&["image.inspect", "store:ansible/web:1", "entries=True"]);
    assert_eq!(image["configuration"]["config"]["Cmd"], serde_json::json!(["/bin/app"]));
    assert_eq!(image["layers"].as_array().unwrap().len(), 1);
    assert!(image["entries"].to_string().contains("user:1001:rw-"), "{image:#}");
}

#[test]
fn the_images_are_an_inventory() {
    let daemon = Daemon::start();
    let scratch = daemon.castoff.scratch();
    let file = scratch.join("shop.castoff.yml");
    let collections = linked(scratch);
    let list = |text: String| {
        std::fs::write(&file, text).unwrap();
        let mut command = ansible("ansible-inventory", scratch, &collections);
        command.env("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "1").arg("--list").arg("-i").arg(&file);
        command
    };
    let configuration = format!(
        "plugin: castoff.castoff.images\nminion: web.example.net\nsocket: {}\n\
         compose: {{ansible_host: castoff_image.builder_ref}}\ngroups: {{released: castoff_released}}\n\
         keyed_groups: [{{key: castoff_released_flavors, prefix: flavor}}]\n",
        daemon.socket().display()
    );
    let told: serde_json::Value = serde_json::from_str(&succeed(&mut list(configuration.clone()))).unwrap();
    assert_eq!(told["released"]["hosts"], serde_json::json!(["harbour"]), "{told:#}");
    assert_eq!(told["flavor_lxc"]["hosts"], serde_json::json!(["harbour"]));
    let hosts = &told["castoff_images"]["hosts"];
    assert!(hosts.as_array().unwrap().contains(&"makina-states-bionic".into()), "{told:#}");
    // Ansible wraps what a playbook must not take for a template.
    let image = &told["_meta"]["hostvars"]["harbour"];
    assert_eq!(image["ansible_host"]["__ansible_unsafe"], "harbour-ref.example.net", "{image:#}");
    assert_eq!(image["castoff_image"]["lxc_tarball_ver"]["__ansible_unsafe"], "7");
    assert_eq!(image["castoff_released"], true);

    let output = list(configuration.replace("castoff.sock", "nothing.sock")).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("nothing.sock` does not exist"), "{told}");
    assert!(!told.contains("Traceback"), "{told}");
}
