//! What is damaged is found, each damage by its own check, and nothing is built on it.

use std::path::Path;

use super::{IMAGE, World, answer, call, names, said};
use crate::git_server::{BRANCH, git};
use crate::harness::{program, succeed};

/// Commits these files to the branch, as anybody with the right to push may.
fn commit(world: &World, files: &[(&str, Option<&[u8]>)]) {
    let clone = world.castoff.scratch().join("hands");
    if !clone.exists() {
        succeed(program("git").args(["clone", "-q"]).arg(world.repository()).arg(&clone));
    }
    git(&clone, &["pull", "-q"]);
    for (name, bytes) in files {
        let path = clone.join(name);
        match bytes {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
    }
    git(&clone, &["add", "-A"]);
    git(&clone, &["commit", "-q", "-m", "by hand"]);
    git(&clone, &["push", "-q", "origin", BRANCH]);
}

fn show(world: &World, name: &str) -> Vec<u8> {
    let output = program("git")
        .arg("-C")
        .arg(world.repository())
        .args(["show", &format!("{BRANCH}:versions/{IMAGE}-lxc_{name}")])
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Signs a manifest with the publisher's own key.
fn sign(world: &World, manifest: &[u8]) -> Vec<u8> {
    let file = world.castoff.scratch().join("to-sign");
    std::fs::write(&file, manifest).unwrap();
    let signature = file.with_extension("sig");
    let _none = std::fs::remove_file(&signature);
    succeed(
        program("ssh-keygen")
            .args(["-Y", "sign", "-q", "-n", "castoff-release", "-f"])
            .arg(world.sshd.path("signer"))
            .arg(&file),
    );
    std::fs::read(signature).unwrap()
}

/// The checks that fail, by what they look at.
fn wrong(world: &World) -> Vec<String> {
    let output = world.call(&["release.verify", IMAGE, "lxc"]).output().unwrap();
    assert!(!output.status.success(), "{}", said(&output));
    let json: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
    let checks = json["local"]["checks"].as_array().unwrap_or_else(|| panic!("{json}"));
    let mut wrong: Vec<String> = checks
        .iter()
        .filter(|check| check["result"] == false)
        .map(|check| check["what"].as_str().unwrap().to_owned())
        .collect();
    wrong.dedup();
    wrong
}

#[test]
fn verify_finds_every_damage_to_a_file() {
    let world = World::new();
    let archive = world.archive("one");
    world.publish(&archive);
    let served = world.images().join("debian-lxc-1.tar.xz");
    let whole = std::fs::read(&served).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let last = whole.len() - 1;
    for damaged in
        [flipped(0), flipped(last / 2), flipped(last), whole[..last].to_vec(), [&whole[..], b"x"].concat(), Vec::new()]
    {
        std::fs::write(&served, damaged).unwrap();
        assert_eq!(wrong(&world), ["debian-lxc-1.tar.xz"]);
    }
    std::fs::remove_file(&served).unwrap();
    assert_eq!(wrong(&world), ["debian-lxc-1.tar.xz"]);
    std::fs::write(&served, &whole).unwrap();
    assert_eq!(answer(world.call(&["release.verify", IMAGE, "lxc"]))["result"], true);
}

#[test]
fn verify_finds_every_damage_to_the_branch() {
    let world = World::new();
    let archive = world.archive("one");
    world.publish(&archive);
    let (manifest, signature) = (show(&world, "manifest.json"), show(&world, "manifest.json.sig"));
    let path = |name: &str| format!("versions/{IMAGE}-lxc_{name}");
    let altered = |from: &str, to: &str| {
        let text = String::from_utf8(manifest.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        text.replace(from, to).into_bytes()
    };
    let json: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let member = |name: &str| json[name].as_str().unwrap().to_owned();

    commit(&world, &[(&path("version.txt"), Some(b"7"))]);
    assert_eq!(wrong(&world), ["version and md5 files"]);
    commit(&world, &[(&path("version.txt"), Some(b"1")), (&path("version.txt.md5"), Some(&[b'0'; 32]))]);
    assert_eq!(wrong(&world), ["version and md5 files"]);
    let md5 = json["artefacts"][0]["md5"].as_str().unwrap().to_owned();
    commit(&world, &[(&path("version.txt.md5"), Some(md5.as_bytes()))]);
    assert_eq!(answer(world.call(&["release.verify", IMAGE, "lxc"]))["result"], true);

    // Not what was signed, by somebody else, and gone.
    let other = altered(&member("expires"), "2096-01-01T00:00:00Z");
    commit(&world, &[(&path("manifest.json"), Some(&other))]);
    assert_eq!(wrong(&world), ["signature"]);
    let file = world.castoff.scratch().join("foreign");
    std::fs::write(&file, &manifest).unwrap();
    let mut foreign = program("ssh-keygen");
    foreign.args(["-Y", "sign", "-q", "-n", "castoff-release", "-f"]).arg(world.sshd.path("id")).arg(&file);
    succeed(&mut foreign);
    let foreign = std::fs::read(file.with_extension("sig")).unwrap();
    commit(&world, &[(&path("manifest.json"), Some(&manifest)), (&path("manifest.json.sig"), Some(&foreign))]);
    assert_eq!(wrong(&world), ["signature"]);
    commit(&world, &[(&path("manifest.json.sig"), None)]);
    assert_eq!(wrong(&world), ["signature"]);

    // Expired, though rightly signed.
    let expired = altered(&member("expires"), "2020-01-01T00:00:00Z");
    let expired = String::from_utf8(expired).unwrap().replace(&member("created"), "2019-01-01T00:00:00Z").into_bytes();
    commit(
        &world,
        &[(&path("manifest.json"), Some(&expired)), (&path("manifest.json.sig"), Some(&sign(&world, &expired)))],
    );
    assert_eq!(wrong(&world), ["manifest"]);
    commit(&world, &[(&path("manifest.json"), Some(&manifest)), (&path("manifest.json.sig"), Some(&signature))]);
    assert_eq!(answer(world.call(&["release.verify", IMAGE, "lxc"]))["result"], true);
}

#[test]
fn a_corrupt_version_file_stops_the_release_and_counts_as_no_number() {
    let world = World::new();
    let archive = world.archive("one");
    world.publish(&archive);
    let next = world.archive("two");
    let path = format!("versions/{IMAGE}-lxc_version.txt");
    for content in [&b""[..], b"x", b"-1", b"1\n2", b"99999999999"] {
        commit(&world, &[(&path, Some(content))]);
        let tip = git(&world.repository(), &["rev-parse", BRANCH]);
        let output = world.call(&["release.publish", IMAGE, "lxc", next.to_str().unwrap()]).output().unwrap();
        assert!(!output.status.success() && said(&output).contains("version.txt"), "{}", said(&output));
        assert_eq!(git(&world.repository(), &["rev-parse", BRANCH]), tip);
        assert_eq!(names(&world.images()), ["debian-lxc-1.tar.xz"]);
    }
    commit(&world, &[(&path, Some(b"1"))]);
    assert_eq!(world.publish(&next)["version"], 2);
    assert_eq!(world.served(), 2);
}

#[test]
fn a_manifest_from_the_future_keeps_releases_in_order() {
    let world = World::new();
    let archive = world.archive("one");
    world.publish(&archive);
    // As if the clock had been put back by decades since.
    let manifest = String::from_utf8(show(&world, "manifest.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let later = manifest
        .replace(json["expires"].as_str().unwrap(), "2097-01-01T00:00:00Z")
        .replace(json["created"].as_str().unwrap(), "2096-10-02T07:06:40Z")
        .into_bytes();
    let name = format!("versions/{IMAGE}-lxc_manifest.json");
    commit(&world, &[(&name, Some(&later)), (&format!("{name}.sig"), Some(&sign(&world, &later)))]);
    let next = world.archive("two");
    let mut command = world.call(&["release.publish", IMAGE, "lxc", next.to_str().unwrap()]);
    assert!(!command.env("CASTOFF_FAULT", "release.journal.signed.done.after").output().unwrap().status.success());
    assert_eq!(world.publish(&next)["version"], 2);
    let json: serde_json::Value = serde_json::from_slice(&show(&world, "manifest.json")).unwrap();
    assert_eq!(json["created"], "2096-10-02T07:06:41Z");
    assert_eq!(world.served(), 2);
    let status = answer(world.call(&["release.status", IMAGE, "lxc"]));
    assert!(status[IMAGE]["lxc"]["summary"].as_str().unwrap().contains("by a clock ahead of this one"), "{status}");
}

#[test]
fn a_bit_flipped_in_the_file_of_this_host_is_never_released() {
    let world = World::new();
    let archive = world.archive("one");
    let mut command = world.call(&["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]);
    assert!(!command.env("CASTOFF_FAULT", "release.journal.signed.done.after").output().unwrap().status.success());
    let whole = std::fs::read(&archive).unwrap();
    let flip = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&archive, bytes).unwrap();
    };
    for at in [0, whole.len() / 2, whole.len() - 1] {
        flip(at);
        for arguments in [&["release.resume"][..], &["release.publish", IMAGE, "lxc", archive.to_str().unwrap()]] {
            let output = world.call(arguments).output().unwrap();
            assert!(!output.status.success(), "{}", said(&output));
            assert_eq!((world.served(), names(&world.images()).len()), (0, 0));
        }
    }
    std::fs::write(&archive, &whole).unwrap();
    answer(world.call(&["release.resume"]));
    assert_eq!(world.served(), 1);
}

#[test]
fn another_images_manifest_under_the_same_name_is_nobodys() {
    let world = World::new();
    let archive = world.archive("one");
    let publish = |image: &str, flavour: &str| {
        world.call(&["release.publish", image, flavour, archive.to_str().unwrap()]).output().unwrap()
    };
    assert!(publish("a-b", "c").status.success());
    let tip = git(&world.repository(), &["rev-parse", BRANCH]);
    for output in [publish("a", "b-c"), call(&world.castoff, &["release.withdraw", "a", "b-c", "1"]).output().unwrap()]
    {
        assert_eq!(output.status.code(), Some(73), "{}", said(&output));
        assert!(said(&output).contains("is the manifest of image `a-b`, flavour `c`"), "{}", said(&output));
    }
    assert_eq!(git(&world.repository(), &["rev-parse", BRANCH]), tip);
    assert!(Path::new(&world.images().join("a-b-c-1.tar.xz")).exists());
}
