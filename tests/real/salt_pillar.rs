//! castoff's external pillar in Salt's own pillar compile: the module, the `cmd_yaml` recipe, and every way to fail.

use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::salt_minion::{Daemon, Install, Minion, told};

const PREFIX: &str = "makina-states.cloud.images";

/// What `castoff pillar` says of a minion, through the daemon.
fn own(minion: &Minion, daemon: &Daemon, id: &str) -> Value {
    let mut command = minion.castoff.command(["pillar", "--", id]);
    command.env("CASTOFF_SOCKET", &daemon.socket);
    serde_json::from_str(&crate::harness::succeed(&mut command)).unwrap()
}

/// Salt has exactly castoff's pillar.
fn equal(minion: &Minion, daemon: &Daemon) {
    let expected = own(minion, daemon, "m1");
    assert_eq!(expected[PREFIX]["note"], "only for m1", "{expected:#}");
    assert_eq!(expected[PREFIX]["lxc"]["images"]["makina-states-trusty"]["lxc_tarball_ver"], "25", "{expected:#}");
    assert_eq!(minion.call(&["pillar.items", "unmask=True"]), expected);
}

/// A state that shows whether states ran, and whether they do.
fn witness(minion: &Minion) -> impl Fn() -> bool + use<> {
    let file = minion.root.join("ran");
    minion.state("witness.sls", &json!({file.to_str().unwrap(): {"file.touch": []}}).to_string());
    move || file.exists() && std::fs::remove_file(&file).is_ok()
}

/// `state.apply` refuses with these words, and no state runs.
fn refuses(minion: &Minion, ran: &impl Fn() -> bool, words: &str) {
    let output = minion.run(&["state.apply", "witness"]);
    let told = told(&output);
    assert!(!output.status.success() && !ran(), "{told}");
    assert!(told.contains("Pillar failed to render") && told.contains(words), "no `{words}` in {told}");
    assert!(minion.run(&["test.ping"]).status.success(), "a minion without a pillar still answers");
}

fn compiles_and_refuses(install: Install) {
    let minion = Minion::new(install);
    let ran = witness(&minion);
    let daemon = Daemon::start(&minion.castoff);
    let socket = daemon.socket.display().to_string();
    for lines in [
        format!("ext_pillar: [castoff: {socket}]"),
        format!("ext_pillar: [castoff: [{socket}, 5]]"),
        format!("ext_pillar: [castoff: {{socket: {socket}, timeout: 5}}]"),
        format!("castoff.socket: {socket}\next_pillar:\n- castoff:"),
    ] {
        minion.configure(&lines);
        equal(&minion, &daemon);
    }
    assert!(minion.run(&["state.apply", "witness"]).status.success() && ran());

    // The module hands the delivered pillar to castoff, whose settings hold what only the pillar has.
    let settings = minion.call(&["mc_cloud_images.settings"]);
    assert_eq!(
        (&settings["note"], &settings["lxc"]["cron_hour"]),
        (&json!("only for m1"), &json!("5")),
        "{settings:#}"
    );

    // A source that breaks is told with file and line, mended it works again; nothing empty in between.
    let database = daemon.root.join("database.yaml");
    let good = std::fs::read_to_string(&database).unwrap();
    std::fs::write(&database, "cloud_settings:\n  images: [\n").unwrap();
    refuses(&minion, &ran, "database.yaml");
    std::fs::write(&database, good).unwrap();
    equal(&minion, &daemon);

    drop(daemon);
    refuses(&minion, &ran, "does not answer");
}

#[test]
fn the_pillar_module_compiles_and_refuses_when_its_files_are_copied() {
    compiles_and_refuses(Install::Files);
}

#[test]
fn the_pillar_module_compiles_and_refuses_when_pip_installs_it() {
    compiles_and_refuses(Install::Package);
}

#[test]
fn the_recipe_without_python_compiles_and_refuses() {
    for kind in ["cmd_yaml", "cmd_json"] {
        let minion = Minion::new(Install::Package);
        let socket = minion.castoff.scratch().join("castoff.sock");
        let minion = minion.with("CASTOFF_SOCKET", socket.to_str().unwrap());
        let ran = witness(&minion);
        let daemon = Daemon::start(&minion.castoff);
        let quiet = if kind == "cmd_json" { " --quiet" } else { "" };
        minion.configure(&format!("ext_pillar:\n- {kind}: castoff pillar{quiet} -- '%s'"));
        equal(&minion, &daemon);
        assert!(minion.run(&["state.apply", "witness"]).status.success() && ran());

        std::fs::write(daemon.root.join("database.yaml"), "cloud_settings: [\n").unwrap();
        refuses(&minion, &ran, "database.yaml");
        drop(daemon);
        // A socket that is there and refuses.
        drop(std::fs::remove_file(&socket));
        drop(UnixListener::bind(&socket).unwrap());
        refuses(&minion, &ran, "castoff");
    }
}

#[test]
fn without_a_daemon_the_binary_answers() {
    let minion = Minion::new(Install::Package);
    let root = minion.castoff.scratch().join("root");
    crate::salt_minion::pillar_root(&root);
    let minion = minion.with("CASTOFF_PILLAR_ROOT", root.to_str().unwrap()).with("CASTOFF_MINION_ID", "controller");
    let ran = witness(&minion);
    minion.configure("ext_pillar:\n- castoff:");
    let mut command = minion.castoff.command(["pillar", "--", "m1"]);
    command.env("CASTOFF_PILLAR_ROOT", &root).env("CASTOFF_MINION_ID", "controller");
    let expected: Value = serde_json::from_str(&crate::harness::succeed(&mut command)).unwrap();
    assert_eq!(expected[PREFIX]["note"], "only for m1");
    assert_eq!(minion.call(&["pillar.items", "unmask=True"]), expected);

    std::fs::remove_file(root.join("database.yaml")).unwrap();
    refuses(&minion, &ran, "castoff");
    minion.configure("castoff.binary: /nonexistent\next_pillar:\n- castoff:");
    refuses(&minion, &ran, "castoff is not installed on ");
}

#[test]
fn an_id_of_an_enemy_is_refused_and_never_run() {
    let minion = Minion::new(Install::Package);
    let ran = witness(&minion);
    let daemon = Daemon::start(&minion.castoff);
    let socket = daemon.socket.display();
    let pwned = minion.castoff.scratch().join("pwned");
    let hostile = [format!("x;touch {}", pwned.display()), "$(id)".to_owned(), "..".to_owned(), "-h".to_owned()];
    for id in &hostile {
        // Salt itself refuses ids with a slash.
        let id = id.replace('/', ".");
        let shown = serde_json::to_string(&id).unwrap();
        minion.configure(&format!("id: {shown}\next_pillar: [castoff: {socket}]"));
        refuses(&minion, &ran, "is not a minion id");
    }
    // In the recipe the shell sees the id: quotes hold what has none.
    let minion = minion.with("CASTOFF_SOCKET", daemon.socket.to_str().unwrap());
    for id in ["x;touch pwned", "$(touch pwned)", "`touch pwned`"] {
        minion.configure(&format!("id: {}\next_pillar:\n- cmd_yaml: castoff pillar -- '%s'", json!(id)));
        refuses(&minion, &ran, "is not a minion id");
    }
    let left: Vec<_> =
        [minion.root.join("pwned"), pwned, "pwned".into()].into_iter().filter(|path| path.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_daemon_that_hangs_stops_nothing_for_long() {
    let minion = Minion::new(Install::Package);
    let ran = witness(&minion);
    let socket = minion.castoff.scratch().join("castoff.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    minion.configure(&format!("ext_pillar: [castoff: {{socket: {}, timeout: 0.5}}]", socket.display()));
    let began = Instant::now();
    refuses(&minion, &ran, "gave no whole answer within 0.5 s");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
}

#[test]
fn without_castoff_the_delivered_pillar_says_what_castoff_would() {
    let minion = Minion::new(Install::Package);
    let root = minion.castoff.scratch().join("root");
    crate::salt_minion::pillar_root(&root);
    let mut command = minion.castoff.command(["pillar", "--", "m1"]);
    command.env("CASTOFF_PILLAR_ROOT", &root).env("CASTOFF_MINION_ID", "controller");
    let mut pillar: Value = serde_json::from_str(&crate::harness::succeed(&mut command)).unwrap();
    pillar["makina-states.cloud.root"] = json!(root.join("checkout"));
    pillar["makina-states.cloud.images.lxc.cron_minute"] = json!("17");
    pillar["makina-states"] = json!({"sf_user": "somebody", "nodetypes": {}});
    std::fs::write(minion.root.join("pillar/top.sls"), "base: {'*': [delivered]}").unwrap();
    std::fs::write(minion.root.join("pillar/delivered.sls"), pillar.to_string()).unwrap();
    let calls = [
        &["mc_cloud_images.settings"][..],
        &["mc_cloud_images.get_vars"],
        &["mc_cloud_images.get_vars", "flavor=lxc", "container=imgbuild-makina-states-trusty"],
        &["mc_cloud_images.guess_template_env", "makina-states-bionic", "clone_from=ubuntu-xenial"],
    ];
    let answers = || calls.map(|words| minion.call(words));
    let castoffs = answers();
    assert_eq!(castoffs[0]["lxc"]["cron_minute"], "17", "{:#}", castoffs[0]);
    minion.configure("castoff.binary: /nonexistent/castoff");
    for (words, (castoffs, delivered)) in calls.iter().zip(castoffs.iter().zip(&answers())) {
        assert_eq!(delivered, castoffs, "{words:?}");
    }
}
