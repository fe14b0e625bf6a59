//! A release as it should go, and everything it leaves.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use super::{IMAGE, World, answer, names, said};
use crate::git_server::{BRANCH, git};
use crate::harness::{program, succeed};

#[test]
fn a_release_is_what_plain_programs_say_it_is() {
    let world = World::new();
    let archive = world.archive("one");
    let plan = answer(world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap(), "test=True"]));
    assert_eq!((&plan["version"], &plan["outcome"]), (&1.into(), &"to be released".into()), "{plan}");
    assert_eq!(names(&world.images()), [""; 0]);

    let report = world.publish(&archive);
    assert_eq!((&report["outcome"], &report["version"]), (&"released".into(), &1.into()), "{report}");
    assert_eq!(report["targets"]["main"][0]["verified"], "read-back");
    assert_eq!(world.served(), 1);
    assert_eq!(names(&world.images()), ["debian-lxc-1.tar.xz"]);
    assert_eq!(git(&world.repository(), &["log", "-1", "--format=%s", BRANCH]), "new release debian/lxc/1");

    // What a manifest says of the bare tar is what xz and sha256sum say.
    let text = git(&world.repository(), &["show", &format!("{BRANCH}:versions/debian-lxc_manifest.json")]);
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    let script = format!("xz -dc '{}' | sha256sum", archive.display());
    let bare = succeed(Command::new("sh").args(["-c", &script]));
    assert_eq!(manifest["diff_id"], format!("sha256:{}", &bare[..64]));

    // As a consumer with plain sftp fetches it.
    let fetched = world.castoff.scratch().join("fetched");
    let known = world.sshd.known_hosts("ed25519", &[world.sshd.port]);
    succeed(
        program("sftp")
            .args(["-q", "-P", &world.sshd.port.to_string(), "-i"])
            .arg(world.sshd.path("id"))
            .args(["-F", "/dev/null", "-o", &format!("UserKnownHostsFile={}", known.display())])
            .arg(format!("root@127.0.0.1:{}/debian-lxc-1.tar.xz", world.images().display()))
            .arg(&fetched),
    );
    succeed(Command::new("cmp").arg(&archive).arg(&fetched));

    let again = world.publish(&archive);
    assert_eq!((&again["outcome"], &again["version"]), (&"unchanged".into(), &1.into()));
    let forced = answer(world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap(), "force=True"]));
    assert_eq!(forced["version"], 2);
    assert_eq!(world.served(), 2);

    let mode = std::fs::metadata(world.journal(1)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode, 0o600);
    let status = answer(world.call(&["release.status"]));
    assert_eq!(status[IMAGE]["lxc"]["served"]["version"], 2, "{status}");
    assert_eq!(status[IMAGE]["lxc"]["under_way"], serde_json::json!([]));
    let history = answer(world.call(&["release.history", IMAGE, "lxc"]));
    let versions: Vec<u64> =
        history["released"].as_array().unwrap().iter().map(|one| one["version"].as_u64().unwrap()).collect();
    assert_eq!(versions, [2, 1], "{history}");
    let verified = answer(world.call(&["release.verify", IMAGE, "lxc"]));
    assert_eq!(verified["result"], true, "{verified}");

    // One flipped bit at the target is seen.
    let served = world.images().join("debian-lxc-2.tar.xz");
    let mut bytes = std::fs::read(&served).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&served, bytes).unwrap();
    let output = world.call(&["release.verify", IMAGE, "lxc"]).output().unwrap();
    assert!(!output.status.success() && said(&output).contains("\"result\": false"), "{}", said(&output));
}

#[test]
fn the_originals_functions_upload_and_announce() {
    let world = World::new();
    let archive = world.archive("one");
    let folder = world.castoff.scratch().join("lxc");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(&archive, folder.join("debian-lxc-1.tar.xz")).unwrap();
    let root = format!("root={}", folder.display());
    let place = answer(world.call(&["mc_cloud_images.upload_lxc", IMAGE, &root]));
    assert!(place.as_str().unwrap().ends_with("/images/debian-lxc-1.tar.xz"), "{place}");
    assert_eq!((world.served(), names(&world.images())), (0, vec!["debian-lxc-1.tar.xz".to_owned()]));
    assert!(answer(world.call(&["mc_cloud_images.publish_release", IMAGE, "lxc", &root])).is_null());
    assert_eq!(world.served(), 1);
    let output = world.call(&["mc_cloud_images.upload_lxc", "../debian", &root]).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn nobody_publishes_to_the_originals_owners_by_mistake() {
    let world = World::new();
    let archive = world.archive("one");
    let file = world.castoff.scratch().join("castoff.yaml");
    let signing = format!("release:\n  signing_key: {}\n", world.sshd.path("signer").display());
    std::fs::write(&file, &signing).unwrap();
    assert!(world.fail(&archive, 77).contains("makina-states' owners"));
    std::fs::write(&file, format!("settings: {{makina-states.cloud.images: {{git_url: /srv/a.git}}}}\n{signing}"))
        .unwrap();
    assert!(world.fail(&archive, 77).contains("sftp_url"));
}

#[test]
fn a_passphrase_is_nowhere_but_in_its_file() {
    const CANARY: &str = "canary-of-the-passphrase";
    let world = World::new();
    let locked = world.sshd.path("locked");
    succeed(program("ssh-keygen").args(["-q", "-N", CANARY, "-t", "ed25519", "-f"]).arg(&locked));
    let secret = world.sshd.path("passphrase");
    std::fs::write(&secret, format!("{CANARY}\n")).unwrap();
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let configuration = world.castoff.scratch().join("castoff.yaml");
    let text = std::fs::read_to_string(&configuration).unwrap();
    let text = text.replace(world.sshd.path("signer").to_str().unwrap(), locked.to_str().unwrap());
    std::fs::write(&configuration, format!("{text}  signing_passphrase_file: {}\n", secret.display())).unwrap();
    let archive = world.archive("one");
    let mut told = String::new();
    for log in ["trace", "error"] {
        let mut command =
            world.call(&["-l", log, "release.publish", IMAGE, "lxc", archive.to_str().unwrap(), "force=True"]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        told += &said(&output);
    }
    std::fs::write(&secret, "canary-that-is-wrong\n").unwrap();
    let output = world
        .call(&["-l", "trace", "release.publish", IMAGE, "lxc", archive.to_str().unwrap(), "force=True"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    told += &said(&output);
    assert!(!told.contains("canary"), "{told}");
    let found = Command::new("grep")
        .args(["-r", "-l", "-a", "canary"])
        .arg(world.castoff.state())
        .arg(world.repository())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}
