//! The Salt states in `states/`, with the sample pillar, under the real salt-call.

use std::process::Command;

use crate::harness::{Castoff, python_program, succeed};

const CHECKOUT: &str = env!("CARGO_MANIFEST_DIR");

fn salt_call(castoff: &Castoff, words: &[&str]) -> serde_json::Value {
    let root = castoff.scratch().join("salt");
    std::fs::create_dir_all(&root).unwrap();
    std::fs::write(
        root.join("minion"),
        format!(
            "root_dir: {}\nfile_client: local\ncastoff.binary: {}\n",
            root.display(),
            env!("CARGO_BIN_EXE_castoff")
        ),
    )
    .unwrap();
    let own = castoff.command(["--version"]);
    let mut command: Command = python_program("salt-call");
    command
        .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .arg("--local")
        .arg(format!("--config-dir={}", root.display()))
        .arg(format!("--file-root={CHECKOUT}/states"))
        .arg(format!("--pillar-root={CHECKOUT}/pillar"))
        .args(["--out=json", "--log-level=error", "--retcode-passthrough"])
        .args(words);
    let told = succeed(&mut command);
    serde_json::from_str::<serde_json::Value>(&told).unwrap_or_else(|error| panic!("{error}: {told}"))["local"].clone()
}

#[test]
fn the_states_render_with_the_sample_pillar() {
    let castoff = Castoff::new();
    let states = salt_call(&castoff, &["state.show_sls", "castoff"]);
    assert_eq!(states["castoff-configuration"]["__sls__"], "castoff.install", "{states:#}");
    assert!(states.get("castoff-package").is_none(), "no package is named: {states:#}");
    let pillar = r#"pillar={"castoff": {"package": "salt://castoff.deb"}}"#;
    let states = salt_call(&castoff, &["state.show_sls", "castoff.install", pillar]);
    assert!(states["castoff-package-file"]["file"].to_string().contains("salt://castoff.deb"), "{states:#}");
    assert!(states["castoff-package"]["pkg"].to_string().contains("/var/cache/castoff/castoff.deb"), "{states:#}");
}

#[test]
fn the_configuration_state_writes_a_file_that_castoff_reads() {
    let castoff = Castoff::new();
    let file = castoff.scratch().join("castoff.yaml");
    let pillar = serde_json::json!({"castoff": {
        "config_file": file, "config": {"engine": "store", "store": {"keep": 7, "max_size": "20GiB"}},
    }});
    let result = salt_call(&castoff, &["state.apply", "castoff.install", &format!("pillar={pillar}")]);
    assert!(result.as_object().unwrap().values().all(|state| state["result"] == true), "{result:#}");
    let told = succeed(castoff.command(["--config"]).arg(&file).args(["call", "--out=json", "sys.config"]));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["local"]["store.keep"]["value"], 7, "{told:#}");
    assert_eq!(told["local"]["store.max_size"]["value"], 20_u64 << 30);
}

#[test]
fn the_image_state_makes_an_image_once() {
    let castoff = Castoff::new();
    let rootfs = castoff.scratch().join("root fs");
    std::fs::create_dir_all(rootfs.join("etc")).unwrap();
    std::fs::write(rootfs.join("etc/hostname"), "made by a state\n").unwrap();
    let pillar = serde_json::json!({"castoff": {"images": {
        "store:state/made:1": {"rootfs": rootfs, "changes": ["CMD [\"/sbin/init\", \"a b\"]"]},
    }}});
    let pillar = format!("pillar={pillar}");
    salt_call(&castoff, &["saltutil.sync_all"]);
    let only = |result: serde_json::Value| result.as_object().unwrap().values().next().unwrap().clone();

    let state = only(salt_call(&castoff, &["state.apply", "castoff.image", &pillar, "test=True"]));
    assert_eq!(state["result"], serde_json::Value::Null, "{state:#}");
    assert!(
        !castoff.state().join("store/index.json").exists()
            || !castoff.run(["call", "image.list"]).contains("state/made")
    );

    let state = only(salt_call(&castoff, &["state.apply", "castoff.image", &pillar]));
    let image = castoff.call(&["image.inspect", "store:state/made:1"]);
    let new = &state["changes"]["store:state/made:1"]["new"];
    assert_eq!((&state["result"], &new["image_id"]), (&true.into(), &image["image_id"]), "{state:#}");
    assert!(image.to_string().contains("a b"), "{image:#}");

    let state = only(salt_call(&castoff, &["state.apply", "castoff.image", &pillar]));
    assert_eq!(state["changes"], serde_json::json!({}), "{state:#}");
}

#[test]
fn the_nightly_run_is_the_daemons_or_crons_and_never_both() {
    let castoff = Castoff::new();
    let root = castoff.scratch().join("root");
    std::fs::create_dir(&root).unwrap();
    let settings = |hour: &str| {
        format!(
            "makina-states.cloud.images: {{root: {}, lxc: {{cron_sync: true, cron_hour: '{hour}', cron_minute: '7'}}}}",
            root.display()
        )
    };
    let castoff = castoff.with("CASTOFF_SETTINGS", settings("4"));
    let (config, file) = (castoff.scratch().join("castoff.yaml"), castoff.scratch().join("castoff-sync-images"));
    let pillar = |by: &str| {
        let pillar = serde_json::json!({"castoff": {
            "crons": by, "cron_file": file, "config_file": config, "executable": env!("CARGO_BIN_EXE_castoff"),
        }});
        format!("pillar={pillar}")
    };
    let drop_in = castoff.scratch().join("castoff.d/60-crons.yaml");
    let off = |castoff: &Castoff| {
        let told = succeed(castoff.command(["--config"]).arg(&config).args(["call", "--out=json", "schedule.list"]));
        told.contains("cron runs it")
    };
    salt_call(&castoff, &["saltutil.sync_all"]);
    let apply = |by: &str| salt_call(&castoff, &["state.apply", "castoff.crons", &pillar(by)]);

    let result = apply("cron");
    assert!(result.as_object().unwrap().values().all(|state| state["result"] == true), "{result:#}");
    let text = std::fs::read_to_string(&file).unwrap();
    let line = text.lines().find(|line| line.contains("mc_lxc.sync_images")).unwrap();
    let fields: Vec<&str> = line.splitn(7, ' ').collect();
    assert_eq!(fields[..6], ["7", "4", "*", "*", "*", "root"], "{line}");
    // Debian's cron reads no file with a dot in its name.
    assert!(!file.file_name().unwrap().to_str().unwrap().contains('.'));
    assert!(drop_in.is_file() && off(&castoff));
    // It says nothing where all went well, since cron mails whatever is said.
    let own = castoff.command(["--version"]);
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", fields[6]]).envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() || said.contains("hint: "), "{output:?}");

    let result = apply("daemon");
    assert!(result.as_object().unwrap().values().all(|state| state["result"] == true), "{result:#}");
    assert!(!file.exists() && !drop_in.exists() && !off(&castoff));
}
