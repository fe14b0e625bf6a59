//! Every secret of a release has a canary in it: none sings in a log, an argument, an environment, a journal, a manifest, or
//! an error.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{IMAGE, World, said};
use crate::harness::{program, succeed};
use crate::publish::servers::{Apache, PASSWORD};

const PASSPHRASE: &str = "canary-of-the-passphrase";
const MINISIGN: &str = "canary-of-minisign";

fn secret(path: &Path, text: &str) {
    std::fs::write(path, format!("{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// What the process and all below it have in arguments and environment, at this moment.
fn overheard(root: u32) -> Vec<u8> {
    let mut parents = std::collections::BTreeMap::new();
    for item in std::fs::read_dir("/proc").unwrap() {
        let Some(pid) = item.unwrap().file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        parents.insert(pid, rest.split(' ').nth(1).unwrap().parse::<u32>().unwrap());
    }
    let mut family = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| family.contains(parent) && !family.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        family.extend(more);
    }
    let read =
        |pid: &u32| ["cmdline", "environ"].map(|name| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default());
    family.iter().flat_map(read).flatten().collect()
}

/// Runs the command to its end, listening; what it said, and what was overheard.
fn listened(command: &mut Command) -> (bool, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let log = std::fs::File::create(folder.path().join("log")).unwrap();
    let mut child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
    let mut heard = Vec::new();
    let mut looks = 0;
    let status = loop {
        heard.extend(overheard(child.id()));
        looks += 1;
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
    };
    assert!(looks > 5, "{looks}");
    heard.extend(std::fs::read(folder.path().join("log")).unwrap());
    (status.success(), heard)
}

#[test]
fn no_secret_is_anywhere_but_in_its_file() {
    let world = World::new();
    let apache = Apache::start(false);
    let path = |name: &str| world.sshd.path(name);
    let locked = path("locked");
    succeed(program("ssh-keygen").args(["-q", "-N", PASSPHRASE, "-t", "ed25519", "-f"]).arg(&locked));
    secret(&path("passphrase"), PASSPHRASE);
    let mut minisign = program("minisign")
        .args(["-G", "-p"])
        .arg(path("minisign.pub"))
        .arg("-s")
        .arg(path("minisign"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    minisign.stdin.take().unwrap().write_all(format!("{MINISIGN}\n{MINISIGN}\n").as_bytes()).unwrap();
    assert!(minisign.wait().unwrap().success());
    std::fs::set_permissions(path("minisign"), std::fs::Permissions::from_mode(0o600)).unwrap();
    secret(&path("minisign-password"), MINISIGN);
    secret(&path("web-password"), PASSWORD);

    let configure = |passphrase: &Path, minisign: &Path, web: &Path| {
        let target = world.target(world.sshd.port, &world.images());
        let web = format!("{{url: 'http://me@127.0.0.1:{}/dav/', secret_file: {}}}", apache.port, web.display());
        let more = format!(
            "  minisign_key: {}\n  minisign_password_file: {}\n  signing_passphrase_file: {}\n",
            path("minisign").display(),
            minisign.display(),
            passphrase.display()
        );
        world.configure_targets(&format!("{{main: {target}, web: {web}}}"), &more);
        let file = world.castoff.scratch().join("castoff.yaml");
        let text = std::fs::read_to_string(&file).unwrap();
        let signer = format!("signing_key: {}", path("signer").display());
        std::fs::write(&file, text.replace(&signer, &format!("signing_key: {}", locked.display()))).unwrap();
    };
    let right = [path("passphrase"), path("minisign-password"), path("web-password")];
    let wrong = path("wrong");
    secret(&wrong, "canary-that-is-wrong");
    let mut heard = Vec::new();
    // All right, then each of them wrong: errors are where secrets slip out.
    for at in [None, Some(0), Some(1), Some(2)] {
        let file = |own: usize| if at == Some(own) { wrong.as_path() } else { right[own].as_path() };
        configure(file(0), file(1), file(2));
        let archive = world.archive(&format!("content-{at:?}"));
        let mut command = world.call(&["-l", "trace", "release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
        let (success, told) = listened(&mut command);
        assert_eq!(success, at.is_none(), "{at:?}: {}", String::from_utf8_lossy(&told));
        heard.extend(told);
    }
    configure(&right[0], &right[1], &right[2]);
    for function in ["release.verify", "release.status", "release.history"] {
        let mut command = world.call(&["-l", "trace", function, IMAGE, "lxc"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        heard.extend(said(&output).into_bytes());
    }
    // The lines of the keys themselves, which nobody may quote either.
    let keys: Vec<String> = ["id", "locked", "minisign"]
        .iter()
        .flat_map(|name| {
            let text = std::fs::read_to_string(path(name)).unwrap();
            text.lines().filter(|line| line.len() > 40 && !line.contains(' ')).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    assert!(keys.len() > 8, "{}", keys.len());
    for canary in keys.iter().map(String::as_str).chain(["canary", &base64(PASSWORD)]) {
        let found = heard.windows(canary.len()).any(|window| window == canary.as_bytes());
        assert!(!found, "`{canary}` in {}", String::from_utf8_lossy(&heard));
        let places = Command::new("grep")
            .args(["-r", "-l", "-a", "-F", "-e", canary])
            .args([world.castoff.state(), world.repository(), world.images(), apache.path("dav"), path("log")])
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&places.stdout), "", "{canary}");
    }
}

/// As the header of a request has it.
fn base64(password: &str) -> String {
    let script = "import base64, sys; print(base64.b64encode(('me:' + sys.argv[1]).encode()).decode())";
    succeed(program("python3").args(["-c", script, password])).trim().to_owned()
}
