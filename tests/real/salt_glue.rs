//! castoff's Salt modules and states under the real salt-call, without a daemon: the binary answers, or nobody.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{python_program, succeed};
use crate::salt_minion::{GLUE, Install, Minion};

/// The modules of a folder that the generator made, by name.
fn generated(folder: &Path) -> BTreeMap<String, String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "py"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .filter(|(_, text)| text.contains("Made by contrib/salt/generate.py"))
        .collect()
}

#[test]
fn the_committed_modules_are_those_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    succeed(
        python_program("python")
            .arg(format!("{GLUE}/generate.py"))
            .arg(env!("CARGO_BIN_EXE_castoff"))
            .arg(folder.path()),
    );
    let made = generated(folder.path());
    assert!(made.contains_key("mc_cloud_images.py"), "{:?}", made.keys());
    let committed = generated(Path::new(&format!("{GLUE}/castoff_salt/modules")));
    assert!(made == committed, "contrib/salt lags behind the table: run `contrib/salt/generate.py CASTOFF`");
}

#[test]
fn the_package_has_castoffs_version() {
    let version = env!("CARGO_PKG_VERSION");
    for (file, line) in [
        ("pyproject.toml", format!("version = \"{version}\"")),
        ("castoff_salt/__init__.py", format!("__version__ = \"{version}\"")),
    ] {
        assert!(std::fs::read_to_string(format!("{GLUE}/{file}")).unwrap().contains(&line), "{file}: no `{line}`");
    }
}

/// The glue's own tests: daemons that hang, drip, lie and break off.
#[test]
fn the_client_bears_every_kind_of_daemon() {
    succeed(
        python_program("python")
            .args(["-W", "ignore", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/salt_client.py"), "-q"])
            .env("PYTHONPATH", format!("{GLUE}/castoff_salt/utils"))
            .env("PYTHONDONTWRITEBYTECODE", "1"),
    );
}

/// What `sys.argspec` says of castoff's functions, by the names that Salt has for them.
fn argspecs(minion: &Minion, module: &str, name: &str) {
    let own = minion.castoff.call(&["sys.argspec", module]);
    let salts = minion.call(&["sys.argspec", name]);
    let own = own.as_object().unwrap();
    assert!(!own.is_empty());
    for (function, spec) in own {
        let renamed = function.replacen(module, name, 1);
        assert_eq!(&salts[&renamed], spec, "{function}");
    }
    assert_eq!(salts.as_object().unwrap().len(), own.len(), "{salts:#}");
}

fn modules_work(minion: &Minion) {
    for (module, name) in [("mc_cloud_images", "mc_cloud_images"), ("image", "castoff_image")] {
        argspecs(minion, module, name);
    }
    let documentation = minion.call(&["sys.doc", "mc_cloud_images.pack_docker"]);
    let text = documentation["mc_cloud_images.pack_docker"].as_str().unwrap();
    assert!(text.contains("salt-call mc_cloud_images.pack_docker group/name:1"), "{text}");
    assert!(!text.contains("castoff call"), "{text}");

    let status = minion.call(&["castoff.status"]);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"), "{status:#}");
    assert_eq!(
        (&status["mc_cloud_images"]["is"], &status["mc_cloud_images"]["shadowed"]),
        (&json!("castoff"), &json!([]))
    );

    // Every type arrives as it was, whatever it looks like to YAML.
    let words = ["castoff.call", "test.kwarg", "a='010'", "b=[1, null, {é: 'yes'}]", "c=x=y", "d='{}'", "e=-3", "f="];
    let told = minion.call(&words);
    let salts = minion.call(&["test.kwarg", words[2], words[3], words[4], words[5], words[6], words[7]]);
    let without_salts = |value: &Value| -> BTreeMap<String, Value> {
        value
            .as_object()
            .unwrap()
            .iter()
            .filter(|(key, _)| !key.starts_with("__"))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    assert_eq!(without_salts(&told), without_salts(&salts));

    let failure = minion.fail(&["castoff_image.inspect", "store:not/there:1"]);
    assert!(failure.contains("the store has no image `not/there:1`") && failure.contains("hint: "), "{failure}");
    assert_eq!(minion.run(&["castoff.call", "test.retcode", "7"]).status.code(), Some(7));
}

#[test]
fn modules_work_when_their_files_are_copied() {
    modules_work(&Minion::new(Install::Files));
}

#[test]
fn modules_work_when_pip_installs_them() {
    modules_work(&Minion::new(Install::Package));
}

#[test]
fn image_states_say_do_and_are_content() {
    let minion = Minion::new(Install::Package);
    let rootfs = minion.castoff.scratch().join("root fs");
    std::fs::create_dir_all(rootfs.join("etc")).unwrap();
    std::fs::write(rootfs.join("etc/hostname"), "made by a state\n").unwrap();
    let image = "store:state/made:1";
    let states = json!({image: {"castoff_image.packed": [
        {"source": format!("dir:{}", rootfs.display())}, {"changes": ["CMD [\"/sbin/init\", \"a b\"]"]}, {"follow": true},
    ]}});
    minion.state("made.sls", &states.to_string());
    minion.state("gone.sls", &json!({image: {"castoff_image.absent": []}}).to_string());
    let images = || minion.castoff.call(&["image.list", "engine=store"])["store"].to_string();

    let state = minion.only_state(&["state.apply", "made", "test=True"]);
    assert_eq!((&state["result"], images().contains("state/made")), (&Value::Null, false), "{state:#}");
    assert!(state["changes"][image]["new"].is_object(), "{state:#}");

    let state = minion.only_state(&["state.apply", "made"]);
    assert_eq!(state["result"], true, "{state:#}");
    let told = minion.castoff.call(&["image.inspect", image]);
    assert_eq!(state["changes"][image]["new"]["image_id"], told["image_id"], "{state:#}");
    assert!(told.to_string().contains("a b"), "{told:#}");

    let state = minion.only_state(&["state.apply", "made"]);
    assert_eq!((&state["result"], &state["changes"]), (&json!(true), &json!({})), "{state:#}");

    std::fs::write(rootfs.join("etc/hostname"), "changed\n").unwrap();
    let state = minion.only_state(&["state.apply", "made"]);
    assert_eq!(state["changes"][image]["old"]["image_id"], told["image_id"], "{state:#}");

    let state = minion.only_state(&["state.apply", "gone", "test=True"]);
    assert_eq!((&state["result"], images().contains("state/made")), (&Value::Null, true), "{state:#}");
    let state = minion.only_state(&["state.apply", "gone"]);
    assert_eq!((&state["result"], images().contains("state/made")), (&json!(true), false), "{state:#}");
    let state = minion.only_state(&["state.apply", "gone"]);
    assert_eq!((&state["result"], &state["changes"]), (&json!(true), &json!({})), "{state:#}");

    // A source that is not there is a failure with castoff's own words.
    std::fs::remove_dir_all(&rootfs).unwrap();
    let state = minion.only_state(&["state.apply", "made"]);
    assert_eq!(state["result"], false, "{state:#}");
    assert!(state["comment"].as_str().unwrap().contains("root fs"), "{state:#}");
}

/// A minion where nothing of castoff is but its glue.
fn without_castoff() -> Minion {
    let minion = Minion::new(Install::Files);
    minion.configure("castoff.binary: /nonexistent/castoff");
    minion
}

#[test]
fn a_minion_without_castoff_says_so() {
    let minion = without_castoff();
    let host = succeed(python_program("python").args(["-c", "import socket; print(socket.gethostname(), end='')"]));
    for words in [&["castoff_image.list"][..], &["castoff.call", "test.ping"], &["mc_cloud_images.pack_docker", "x"]] {
        let told = minion.fail(words);
        assert!(told.contains(&format!("castoff is not installed on {host}")), "{told}");
    }
    assert_eq!(minion.run(&["castoff.status"]).status.code(), Some(2));
}
