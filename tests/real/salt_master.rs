//! A real Salt master and minion on loopback, with castoff's daemon beside the master.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Castoff, python_program, succeed};
use crate::ports::free_port;
use crate::salt_minion::{Daemon, Running, copy_glue, install_package, wait_for};

/// A master with the glue as a package, a minion `m1` that gets it from the master's file roots.
struct Pair {
    castoff: Castoff,
    root: PathBuf,
    _processes: [Running; 2],
}

impl Pair {
    fn start() -> Self {
        let castoff = Castoff::new();
        let root = castoff.scratch().to_path_buf();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_castoff"), root.join("castoff")).unwrap();
        for folder in ["master", "minion", "states"] {
            std::fs::create_dir_all(root.join(folder)).unwrap();
        }
        install_package(&root.join("site"));
        copy_glue(&root.join("states"));
        configure(&root);
        let processes = ["master", "minion"].map(|name| {
            let mut command = surroundings(&castoff, &format!("salt-{name}"), name);
            Running::start(&mut command, &root.join(format!("{name}.out")))
        });
        let pair = Self { castoff, root, _processes: processes };
        wait_for("the minion's key", 90, || pair.master("salt-key", &["--list=un"])["minions_pre"].get(0).cloned());
        succeed(surroundings(&pair.castoff, "salt-key", "master").args(["--yes", "--accept=m1"]));
        wait_for("the minion", 90, || (pair.try_salt(&["test.ping"])? == json!(true)).then_some(()));
        pair
    }

    /// What a program of the master printed.
    fn master(&self, program: &str, words: &[&str]) -> Value {
        let mut command = surroundings(&self.castoff, program, "master");
        let told = succeed(command.args(["--out=json", "--out-indent=-1", "--log-level=quiet"]).args(words));
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{program} {words:?}: {error}: {told}"))
    }

    /// What the minion answers to a command of the master.
    fn call(&self, words: &[&str]) -> Value {
        let mut command = surroundings(&self.castoff, "salt", "master");
        command
            .args(["--static", "--out=json", "--out-indent=-1", "--log-level=quiet", "--timeout=30", "m1"])
            .args(words);
        let output = command.output().unwrap();
        let value: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{words:?}: {error}: {}", crate::salt_minion::told(&output)));
        assert!(output.status.success() && value.get("m1").is_some(), "{words:?}: {value:#}");
        value["m1"].clone()
    }

    fn try_salt(&self, words: &[&str]) -> Option<Value> {
        let mut command = surroundings(&self.castoff, "salt", "master");
        let output =
            command.args(["--static", "--out=json", "--log-level=quiet", "--timeout=3", "m1"]).args(words).output();
        serde_json::from_slice::<Value>(&output.unwrap().stdout).ok()?.get("m1").cloned()
    }
}

/// A program of Salt; the master's see the package, the minion's only what the master syncs.
fn surroundings(castoff: &Castoff, program: &str, side: &str) -> Command {
    let root = castoff.scratch();
    let mut command = python_program(program);
    let own = castoff.command(["--version"]);
    command
        .env("PYTHONWARNINGS", "ignore")
        .env_remove("PYTHONPATH")
        .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("PATH", format!("{}:{}", root.display(), std::env::var("PATH").unwrap()))
        .arg(format!("--config-dir={}", root.join(side).display()));
    if side == "master" {
        command.env("PYTHONPATH", root.join("site"));
    }
    command
}

fn configure(root: &Path) {
    let [publish, answer] = [(); 2].map(|()| free_port());
    let shown = root.display();
    let master = format!(
        "root_dir: {shown}/master\ninterface: 127.0.0.1\npublish_port: {publish}\nret_port: {answer}\nuser: root\n\
         worker_threads: 2\nfile_roots: {{base: [{shown}/states]}}\npillar_roots: {{base: [{shown}/nothing]}}\n\
         castoff.socket: {shown}/castoff.sock\next_pillar:\n- castoff:\n"
    );
    let minion = format!(
        "root_dir: {shown}/minion\nid: m1\nmaster: 127.0.0.1\nmaster_port: {answer}\npublish_port: {publish}\nuser: root\n\
         castoff.socket: {shown}/castoff.sock\nacceptance_wait_time: 1\nrandom_startup_delay: 0\n"
    );
    std::fs::write(root.join("master/master"), master).unwrap();
    std::fs::write(root.join("minion/minion"), minion).unwrap();
}

#[test]
fn a_master_serves_castoffs_pillar_modules_states_and_runner() {
    let pair = Pair::start();
    let daemon = Daemon::start(&pair.castoff);
    pair.call(&["saltutil.sync_all"]);

    let mut command = pair.castoff.command(["pillar", "--", "m1"]);
    let expected: Value = serde_json::from_str(&succeed(command.env("CASTOFF_SOCKET", &daemon.socket))).unwrap();
    assert_eq!(expected["makina-states.cloud.images"]["note"], "only for m1");
    assert_eq!(pair.call(&["pillar.items", "unmask=True"]), expected);

    // A module of the minion, with the pillar that the master delivered; what a master adds to a call stays out.
    assert_eq!(pair.call(&["mc_cloud_images.settings"])["note"], "only for m1");
    assert_eq!(pair.call(&["castoff.call", "test.kwarg", "a=1", "b='010'"]), json!({"a": 1, "b": "010"}));

    // A state whose work the daemon does as a job.
    let rootfs = pair.root.join("rootfs");
    std::fs::create_dir_all(rootfs.join("etc")).unwrap();
    let image = "store:master/made:1";
    let state = json!({image: {"castoff_image.packed": [{"source": format!("dir:{}", rootfs.display())}]}});
    std::fs::write(pair.root.join("states/made.sls"), state.to_string()).unwrap();
    for (words, result, changed) in [
        (&["state.apply", "made", "test=True"][..], Value::Null, true),
        (&["state.apply", "made"], json!(true), true),
        (&["state.apply", "made"], json!(true), false),
    ] {
        let states = pair.call(words);
        let state = states.as_object().unwrap().values().next().unwrap();
        assert_eq!((&state["result"], state["changes"] != json!({})), (&result, changed), "{state:#}");
    }
    assert!(pair.castoff.call(&["image.list", "engine=store"]).to_string().contains("master/made:1"));

    // The runner on the master.
    assert_eq!(pair.master("salt-run", &["castoff.pillar", "m1"]), expected);
    let checked = pair.master("salt-run", &["castoff.check"]);
    assert_eq!(
        (&checked["result"], &checked["asked"], &checked["errors"]),
        (&json!(true), &json!(1), &json!({})),
        "{checked:#}"
    );
    let mut hostile = surroundings(&pair.castoff, "salt-run", "master");
    let output =
        hostile.args(["--out=json", "--log-level=quiet", "castoff.check", "m1,x;y,stranger"]).output().unwrap();
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(!output.status.success() && checked["errors"]["x;y"].is_string(), "{checked:#}");
    assert_eq!(checked["no_members"], json!(["stranger"]), "{checked:#}");

    // Without the daemon the master has no pillar to give, and the minion runs no states.
    drop(daemon);
    let refused = pair.call(&["state.apply", "made"]).to_string();
    assert!(refused.contains("Pillar failed to render") && refused.contains("does not answer"), "{refused}");
    let mut pillar = surroundings(&pair.castoff, "salt-run", "master");
    let output = pillar.args(["--out=json", "castoff.pillar", "m1"]).output().unwrap();
    let told = crate::salt_minion::told(&output);
    assert!(!output.status.success() && told.contains("does not answer") && !told.contains("Traceback"), "{told}");
}
