//! `castoff pillar` as Salt's `cmd_yaml` and `cmd_json` meet it: the real binary, its stdout, stderr and exit code.

use std::process::Command;

use serde_json::{Value, json};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/pillar");
const PREFIX: &str = "makina-states.cloud.images";

fn castoff(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_castoff"));
    command
        .args(arguments)
        .env_clear()
        .env("CASTOFF_STATE_DIR", "/nonexistent")
        .env("CASTOFF_SOCKET", "/nonexistent/castoff.sock")
        .env("CASTOFF_MINION_ID", "controller.example.net")
        .env("CASTOFF_PILLAR_ROOT", SAMPLE)
        .env("CASTOFF_SETTINGS", format!("{{images_root: {SAMPLE}/makina-states}}"));
    command
}

/// Exit code, stdout, stderr.
fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn document(minion: &str) -> Value {
    let (code, stdout, stderr) = run(&mut castoff(&["pillar", "--", minion]));
    assert_eq!((code, stderr.as_str()), (0, ""), "{minion}: {stdout}");
    assert!(stdout.ends_with('\n') && stdout.lines().count() == 1, "one document in one line: {stdout:?}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn every_kind_of_member_gets_the_sample_and_strangers_get_nothing() {
    let members = [
        "controller.example.net",
        "standby.example.net",
        "node-1.example.net",
        "node-2.example.net",
        "spare-1.example.net",
        "web-1.example.net",
        "web-3.example.net",
        "db-1.example.net",
        "build-1.example.net",
    ];
    for member in members {
        let settings = &document(member)[PREFIX];
        assert_eq!(settings["root"], json!(format!("{SAMPLE}/makina-states")), "{member}");
        assert_eq!(settings["git_url"], json!("ssh://git.example.net/images"), "{member}");
        let minute = if member == "node-2.example.net" { "37" } else { "3" };
        assert_eq!(settings["lxc"]["cron_minute"], json!(minute), "{member}");
        assert_eq!(settings["lxc"]["cron_hour"], json!("4"), "{member}");
        let images = &settings["lxc"]["images"];
        assert_eq!(images["makina-states-trusty"]["lxc_tarball_ver"], json!("25"), "{member}");
        let url = "https://images.example.net/acme-base/acme-base-lxc-3.tar.xz";
        assert_eq!(images["acme-base"]["lxc_tarball"], json!(url), "{member}");
        assert_eq!(
            images["acme-next"],
            json!({"builder_ref": "acme-next-build.example.net", "flavors": ["lxc", "standalone"]})
        );
    }
    for stranger in ["legacy-1.example.net", "web-4.example.net", "example.net", "0"] {
        assert_eq!(document(stranger), json!({PREFIX: {}}), "{stranger}");
    }
    let (_, bare, _) = run(&mut castoff(&["pillar", "--prefixed=false", "--", "web-4.example.net"]));
    assert_eq!(bare, "{}\n");
}

/// Whatever happens, stdout has one document, and without a pillar that is `_errors` alone.
#[test]
fn without_a_pillar_stdout_makes_salt_refuse_and_the_exit_code_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    write("broken/database.yaml", "vms: [\n");
    write("empty/database.yaml", "# nothing\n");
    write("castoff.yaml", "pillar_rot: /x\n");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let root = |name: &str| format!("--pillar-root={}", path(name));
    let cases: Vec<(i32, Vec<String>, &str)> = vec![
        (64, vec!["x;echo y: 1".into()], "is not a minion id"),
        (64, vec!["--".into(), "-rf".into()], "begins with `-`"),
        (64, vec!["-rf".into()], "unexpected argument"),
        (64, vec!["$(id)".into()], "is not a minion id"),
        (64, vec!["..".into()], "is not a minion id"),
        (64, vec![String::new()], "it is empty"),
        (64, vec!["a".repeat(254)], "254 bytes"),
        (64, vec![], "<MINION>"),
        (64, vec!["a".into(), "b".into()], "unexpected argument 'b'"),
        (64, vec!["--prefixed=maybe".into(), "a".into()], "maybe"),
        (64, vec!["--nonsense".into(), "a".into()], "--nonsense"),
        (64, vec!["--engine=none".into(), "a".into()], "`engine`"),
        (64, vec![format!("--config={}", path("castoff.yaml")), "a".into()], "`pillar_rot`"),
        (66, vec![root("absent"), "a".into()], "is not a folder"),
        (66, vec![root("."), "a".into()], "no database"),
        (65, vec![root("empty"), "a".into()], "is empty"),
        (64, vec![root("broken"), "a".into()], "database.yaml:2:1"),
    ];
    for (wanted, arguments, told) in cases {
        let arguments: Vec<&str> = std::iter::once("pillar").chain(arguments.iter().map(String::as_str)).collect();
        let (code, stdout, stderr) = run(&mut castoff(&arguments));
        let value: Value =
            serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {stdout}"));
        let reasons = value["_errors"].as_array().unwrap_or_else(|| panic!("{arguments:?}: {stdout}"));
        assert_eq!((code, value.as_object().unwrap().len(), reasons.len()), (wanted, 1, 1), "{arguments:?}: {stdout}");
        let reason = reasons[0].as_str().unwrap();
        assert!(reason.starts_with("castoff: ") && reason.contains(told), "{arguments:?}: {reason}");
        assert!(stderr.starts_with("error: ") && stderr.contains(told), "{arguments:?}: {stderr}");
        let quiet: Vec<&str> = ["pillar", "--quiet"].into_iter().chain(arguments.iter().copied().skip(1)).collect();
        assert_eq!(run(&mut castoff(&quiet)), (wanted, stdout, String::new()), "{quiet:?}");
    }
}

#[test]
fn an_id_that_is_no_utf_8_is_refused_in_the_same_way() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut command = castoff(&["pillar", "--quiet", "--"]);
    command.arg(std::ffi::OsStr::from_bytes(b"a\xff"));
    let (code, stdout, stderr) = run(&mut command);
    assert_eq!((code, stderr.as_str()), (64, ""));
    assert!(stdout.starts_with("{\"_errors\": [\"castoff: "), "{stdout}");
}

#[test]
fn warnings_and_logs_never_reach_the_streams_of_a_pillar() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("database.yaml"), "baremetal_hosts: [a]\n").unwrap();
    std::fs::write(folder.path().join("database.json"), "{").unwrap();
    for level in ["debug", "warning"] {
        let (code, stdout, stderr) =
            run(castoff(&["pillar", "a"]).env("CASTOFF_PILLAR_ROOT", folder.path()).env("CASTOFF_LOG", level));
        assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    }
}
