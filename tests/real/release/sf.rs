//! `sf_release`: containers of an LXC host, released to a real server, followed by a host; judged by GNU tar, xz, zstd, git.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::{IMAGE, World, answer, names};
use crate::archive::{container, dated, facts, listed, put, unpacked};
use crate::git_server::{BRANCH, git};
use crate::harness::{Castoff, program, require_root, succeed};

/// A world with containers, and an image `debian` in the settings with these members.
pub(super) fn world(image: &str) -> World {
    require_root();
    let mut world = World::new();
    let lxc = world.castoff.scratch().join("lxc");
    std::fs::create_dir(&lxc).unwrap();
    let root = world.castoff.scratch().join("root");
    std::fs::create_dir(&root).unwrap();
    let settings = format!("makina-states.cloud.images: {{root: {}, lxc: {{images: {{{image}}}}}}}", root.display());
    world.castoff = world.castoff.with("CASTOFF_LXC_PATH", lxc.to_str().unwrap()).with("CASTOFF_SETTINGS", settings);
    world
}

impl World {
    fn sf(&self, arguments: &[&str]) -> Value {
        let output = self.call(&[&["mc_cloud_images.sf_release"], arguments].concat()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let value: Value = serde_json::from_str(&text)
            .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)));
        // A result that is false is a failure to whoever looks at the exit code.
        assert_eq!(output.status.success(), value["local"]["result"] != false, "{value}");
        value["local"].clone()
    }

    fn manifest(&self, flavour: &str) -> Value {
        let name = format!("{BRANCH}:versions/{IMAGE}-{flavour}_manifest.json");
        serde_json::from_str(&git(&self.repository(), &["show", &name])).unwrap()
    }

    fn here(&self, name: &str) -> PathBuf {
        self.castoff.scratch().join("lxc").join(name)
    }
}

/// A castoff that follows the world's repository.
pub(super) fn host(world: &World) -> Castoff {
    let host = Castoff::new();
    let path = |name: &str| world.sshd.path(name).display().to_string();
    let allowed = host.scratch().join("allowed");
    let public = std::fs::read_to_string(world.sshd.path("signer.pub")).unwrap();
    std::fs::write(&allowed, format!("castoff {public}")).unwrap();
    let (folder, port) = (host.scratch().join("images"), world.sshd.port);
    let known = world.sshd.known_hosts("ed25519", &[port]);
    host.with("CASTOFF_SYNC_SOURCE", format!("git:ssh://root@127.0.0.1:{port}{}", path("images.git")))
        .with("CASTOFF_SYNC_BRANCH", BRANCH)
        .with("CASTOFF_SYNC_MIRROR", format!("sftp://root@127.0.0.1:{port}{}/{{name}}", path("images")))
        .with("CASTOFF_SYNC_IDENTITY_FILE", path("id"))
        .with("CASTOFF_SYNC_KNOWN_HOSTS", known.display().to_string())
        .with("CASTOFF_SYNC_ALLOWED_SIGNERS", allowed.display().to_string())
        .with("CASTOFF_SYNC_SIGNER", "castoff")
        .with("CASTOFF_SYNC_IMAGES", format!("{IMAGE}/lxc"))
        .with("CASTOFF_SYNC_FOLDER", folder.display().to_string())
}

fn followed(host: &Castoff) -> Value {
    let text = succeed(&mut host.command(["call", "--out=json", "sync.run"]));
    let value: Value = serde_json::from_str(&text).unwrap();
    value["local"]["images"][format!("{IMAGE}/lxc")].clone()
}

#[test]
fn a_container_becomes_releases_that_a_host_follows_by_patches() {
    let world = world("debian: {flavors: [lxc, standalone]}");
    let folder = container(&world.castoff, IMAGE);
    // Enough that cannot be compressed for a patch to be worth it.
    let random = std::fs::File::create(folder.join("rootfs/opt/random")).unwrap();
    succeed(Command::new("head").args(["-c", "3M", "/dev/urandom"]).stdout(random));
    dated(&folder);

    let plan = world.sf(&[IMAGE, "test=True"]);
    assert_eq!(plan["result"], Value::Null, "{plan:#}");
    assert_eq!(plan["rets"][IMAGE]["flavors"]["lxc"]["plan"]["version"], 1, "{plan:#}");
    assert_eq!(names(&world.images()), [""; 0]);

    let before = facts(&folder);
    let report = world.sf(&[IMAGE]);
    let lxc = &report["rets"][IMAGE]["flavors"]["lxc"];
    assert_eq!(report["result"], true, "{report:#}");
    let order: Vec<&str> = lxc.as_object().unwrap().keys().take(7).map(String::as_str).collect();
    assert_eq!(order, ["trace", "result", "snapshot", "save_acls", "archive", "upload", "publish_release"]);
    assert_eq!((&lxc["trace"], &lxc["result"], &lxc["publish_release"]), (&"".into(), &true.into(), &Value::Null));
    assert_eq!(lxc["snapshot"]["retcode"], 0, "{lxc:#}");
    assert_eq!(lxc["archive"], world.here("debian-lxc-1.tar.xz").to_str().unwrap());
    assert!(lxc["upload"].as_str().unwrap().ends_with("/images/debian-lxc-1.tar.xz"), "{lxc:#}");
    // What was configured by nobody is told, and stops nothing.
    assert!(report["rets"][IMAGE]["sync_container"]["skipped"].as_str().unwrap().contains("debian-lxc-ref.foo.net"));
    assert_eq!(names(&world.images()), ["debian-lxc-1.tar.xz", "debian-standalone-1.tar.xz"]);
    assert_eq!(world.served(), 1);
    let served = world.images().join("debian-lxc-1.tar.xz");
    assert_eq!(facts(&unpacked(&world.castoff, &served)), before);
    let standalone = listed(&world.images().join("debian-standalone-1.tar.xz"));
    assert!(standalone.contains(&"srv/salt/top.sls".to_owned()) && !standalone.contains(&"opt/tool".to_owned()));

    let again = world.sf(&[IMAGE]);
    assert_eq!(again["rets"][IMAGE]["flavors"]["lxc"]["outcome"], "unchanged", "{again:#}");
    assert_eq!(
        names(&world.here("")).iter().filter(|name| name.ends_with(".xz")).count(),
        2,
        "nothing is made in vain"
    );

    let host = host(&world);
    let first = followed(&host);
    assert_eq!(first["result"], true, "{first:#}");

    put(&folder.join("rootfs"), "opt/new", "new\n");
    let changed = world.sf(&["images=debian", "flavor=lxc"]);
    let lxc = &changed["rets"][IMAGE]["flavors"]["lxc"];
    assert_eq!((&lxc["version"], &lxc["outcome"]), (&2.into(), &"released".into()), "{changed:#}");
    assert_eq!(changed["rets"][IMAGE]["flavors"].as_object().unwrap().len(), 1);
    assert_eq!(world.served(), 2);

    // The patch is what zstd itself takes.
    let patch = &world.manifest("lxc")["patches"][0];
    let file = world.images().join(patch["name"].as_str().unwrap());
    let tar = |number: u32| {
        let tar = world.castoff.scratch().join(format!("{number}.tar"));
        let script =
            format!("xz -dc '{}' > '{}'", world.here(&format!("debian-lxc-{number}.tar.xz")).display(), tar.display());
        succeed(Command::new("sh").args(["-c", &script]));
        tar
    };
    let (old, new, made) = (tar(1), tar(2), world.castoff.scratch().join("made.tar"));
    let from = format!("--patch-from={}", old.display());
    succeed(program("zstd").args(["-q", "-d", "--long=31", &from]).arg(&file).arg("-o").arg(&made));
    succeed(program("cmp").arg(&made).arg(&new));
    let (patch_size, full) =
        (std::fs::metadata(&file).unwrap().len(), std::fs::metadata(world.here("debian-lxc-2.tar.xz")).unwrap().len());
    assert!(patch_size * 20 < full, "{patch_size} of {full}");

    let second = followed(&host);
    assert_eq!(second["result"], true, "{second:#}");
    let current = host.scratch().join("images/debian/lxc/current");
    assert_eq!(std::fs::read_to_string(current.join("rootfs/opt/new")).unwrap(), "new\n");
    assert!(second["moved"].as_u64().unwrap() < full / 10, "{second:#}");

    let verified = answer(world.call(&["release.verify", IMAGE, "lxc"]));
    assert_eq!(verified["result"], true, "{verified:#}");
    assert!(verified["checks"].as_array().unwrap().iter().any(|check| check["what"] == patch["name"]), "{verified:#}");
}

#[test]
fn one_that_fails_keeps_no_other_from_its_release_and_wrong_words_cost_nothing() {
    let world =
        world("debian: {flavors: [lxc]}, broken: {flavors: [lxc]}, configured: {flavors: [lxc], builder_ref: gone}");
    container(&world.castoff, IMAGE);
    let broken = container(&world.castoff, "broken");
    put(&broken.join("rootfs"), "etc/ssh/ssh_host_ed25519_key", "PRIVATE\n");

    for wrong in [&["debain"][..], &["debian", "flavors=lxd"], &["../debian"], &["debian;id"], &["$'a\\nb'"]] {
        let output = world.call(&[&["mc_cloud_images.sf_release"], wrong].concat()).output().unwrap();
        assert!(!output.status.success(), "{wrong:?}");
        assert!(output.stdout.is_empty(), "{wrong:?}");
    }
    assert_eq!(names(&world.images()), [""; 0]);

    let report = world.sf(&["images=broken,configured,debian", "-all"]);
    assert_eq!(report["result"], false, "{report:#}");
    let rets = &report["rets"];
    assert_eq!(rets["debian"]["flavors"]["lxc"]["result"], true, "{report:#}");
    assert_eq!(rets["broken"]["result"], false, "{report:#}");
    let trace = rets["broken"]["flavors"]["lxc"]["trace"].as_str().unwrap();
    assert!(trace.contains("ssh_host_ed25519_key") && trace.contains("hint: "), "{trace}");
    let trace = rets["configured"]["trace"].as_str().unwrap();
    assert!(trace.contains("`gone`"), "{trace}");
    assert_eq!(names(&world.images()), ["debian-lxc-1.tar.xz"]);
    // Nothing of what failed is left to be finished.
    let status = answer(world.call(&["release.status", "broken", "lxc"]));
    assert_eq!(status["broken"]["lxc"]["served"], Value::Null, "{status:#}");

    // All images of the settings, most of which are castoff's defaults and have no container here.
    let all = world.sf(&["sync=False"]);
    assert!(all["rets"]["makina-states-trusty"]["skipped"].as_str().is_some(), "{all:#}");
    assert_eq!(all["rets"]["debian"]["flavors"]["lxc"]["outcome"], "unchanged", "{all:#}");
}

#[test]
fn the_places_of_the_originals_owners_are_refused() {
    require_root();
    let castoff = Castoff::new();
    let lxc = castoff.scratch().join("lxc");
    std::fs::create_dir(&lxc).unwrap();
    let castoff = castoff.with("CASTOFF_LXC_PATH", lxc.to_str().unwrap());
    container(&castoff, "makina-states-trusty");
    let output = castoff.command(["call", "mc_lxc.sf_release", "makina-states-trusty", "flavor=lxc"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("owners") && said.contains("hint: "), "{said}");
    assert_eq!(names(&lxc), ["makina-states-trusty"]);
}

#[test]
fn a_release_that_was_killed_is_finished_by_the_same_call() {
    let world = world("debian: {flavors: [lxc]}");
    container(&world.castoff, IMAGE);
    for point in ["release.archive.synced", "publish.upload.before-rename"] {
        let mut killed = world.call(&["mc_cloud_images.sf_release", IMAGE]);
        let status = killed.env("CASTOFF_FAULT", point).output().unwrap().status;
        assert!(!status.success(), "{point}");
        assert_eq!(world.served(), 0, "{point}");
    }
    let report = world.sf(&[IMAGE]);
    assert_eq!(report["rets"][IMAGE]["flavors"]["lxc"]["version"], 1, "{report:#}");
    assert_eq!(world.served(), 1);
    assert_eq!(names(&world.images()), ["debian-lxc-1.tar.xz"]);
}
