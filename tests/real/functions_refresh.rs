//! Refreshing images, LXC containers and damaged ACLs through the binary; judged by getfacl, find and docker.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::docker::{containers, differences, forwarded, seen, tree_with_acls};
use crate::functions::{Waiting, assert_equal, getfacl};
use crate::harness::{Castoff, DockerImage, docker, program, require_root, succeed};
use crate::sandbox::busybox_tree;

/// What a refresh does, in the image and, for comparison, by hand on this host.
const CHANGES: &str = "mkdir -p srv/new; SETFACL -m u:1234:rwx,g:77:r-- srv/new; echo hello > srv/new/file
    SETFACL -m u:5:r-- etc/passwd; chmod 2750 tmp; chown 7:8 tmp
    SETFACL -d -m u:9:rwx srv/pillar; echo more > srv/pillar/more
    touch -d @1600000000 srv/new/file srv/new srv etc/passwd tmp srv/pillar/more srv/pillar";

fn script(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("refresh.sh");
    std::fs::write(&file, format!("set -e\ncd /\n{text}\n")).unwrap();
    file
}

/// Nothing of a refresh is left in the state folder.
fn assert_clean(castoff: &Castoff) {
    let left = succeed(program("find").arg(castoff.state().join("tmp")).args(["-mindepth", "1"]));
    assert_eq!(left, "");
}

#[test]
fn a_refresh_keeps_the_acls_its_script_set_in_engine_and_store_alike() {
    require_root();
    let castoff = Castoff::new();
    let tree = tree_with_acls(castoff.scratch());
    let script = script(castoff.scratch(), &format!("{}\necho done", CHANGES.replace("SETFACL", "/usr/setfacl")));
    let image = DockerImage::unique("functions-refresh");
    let path = tree.to_str().unwrap();
    let places = [format!("store:{}", image.0), format!("docker-daemon:{}", image.0)];
    for place in &places {
        castoff.call(&[
            "mc_cloud_images.build_docker_from_rootfs",
            place,
            path,
            "changes=['CMD [\"/bin/ls\"]', 'ENV A=b']",
        ]);
    }
    succeed(Command::new("sh").arg("-ec").arg(CHANGES.replace("SETFACL", "setfacl")).current_dir(&tree));
    let expected = seen(&tree);
    for (place, function) in places.iter().zip(["refresh_ms_docker", "rebuild_ms_docker"]) {
        let name = format!("mc_cloud_images.{function}");
        let said =
            castoff.call(&[&name, place, &format!("script={}", script.display()), "network=False", "keep_old=False"]);
        assert_eq!((&said["refresh"]["exit"], &said["refresh"]["output"][0]), (&0.into(), &"done".into()), "{said}");
        assert_eq!((said["source"].as_str(), said["refresh"]["shell"].as_str()), (Some(place.as_str()), Some("sh")));
        assert_eq!(said["previous"]["state"], "removed", "{said}");
        let config = &castoff.call(&["image.inspect", place])["configuration"]["config"];
        assert_eq!((&config["Cmd"][0], &config["Env"][0]), (&"/bin/ls".into(), &"A=b".into()), "{config}");
        let out = castoff.scratch().join("out");
        castoff.call(&["image.copy", place, &format!("dir:{}", out.display())]);
        let found = seen(&out);
        assert_eq!(differences(&found.0, &expected.0), "", "ACLs in {place}");
        assert_eq!(differences(&found.1, &expected.1), "", "entries in {place}");
        std::fs::remove_dir_all(&out).unwrap();
        assert_clean(&castoff);
    }
    assert_eq!(containers(&image), "");
    let container = Waiting::of(&image.0);
    assert_equal("in a container", &getfacl(&tree), &getfacl(&container.root));
}

#[test]
fn a_refresh_that_has_nothing_to_run_is_skipped_and_told_and_one_that_must_run_is_an_error() {
    require_root();
    let castoff = Castoff::new();
    let tree = busybox_tree(castoff.scratch());
    castoff.call(&["mc_cloud_images.build_docker_from_rootfs", "a:1", tree.to_str().unwrap()]);
    let id = |castoff: &Castoff| castoff.call(&["image.inspect", "a:1"])["image_id"].clone();
    let before = id(&castoff);
    for arguments in [&[][..], &["pack=False"], &["refresh=False", "script=/etc/passwd"]] {
        let said = castoff.call(&[&["mc_cloud_images.rebuild_ms_docker", "a:1"], arguments].concat());
        assert!(said["refresh"]["skipped"].is_string(), "{said}");
        assert_eq!(said["image_id"], before, "nothing changed, so the image is the same");
    }
    let text = castoff.fail(["call", "mc_cloud_images.refresh_ms_docker", "a:1", "refresh=True"], 1);
    assert!(text.contains("nothing to refresh") && text.contains("script=FILE"), "{text}");

    // The image's own procedure, and the snapshot after it.
    for (path, text) in [
        ("srv/makina-states/_scripts/boot-salt.sh", "#!/bin/sh\necho \"boot-salt $*\" >> /ran\n"),
        ("sbin/makinastates-snapshot.sh", "echo snapshot >> /ran\n"),
    ] {
        let file = tree.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
        succeed(program("chmod").arg("755").arg(&file));
    }
    let said =
        castoff.call(&["mc_cloud_images.build_docker_from_rootfs", "a:2", tree.to_str().unwrap(), "network=False"]);
    assert!(said["rebuild"]["refresh"]["ran"].as_str().unwrap().contains("boot-salt.sh"), "{said}");
    let out = castoff.scratch().join("out");
    castoff.call(&["image.copy", "a:2", &format!("dir:{}", out.display())]);
    let ran = std::fs::read_to_string(out.join("ran")).unwrap();
    assert_eq!(ran, "boot-salt -C --refresh-modules\nboot-salt -C\nsnapshot\n");
    assert!(!tree.join("ran").exists(), "the source tree was changed");
}

#[test]
fn a_failing_script_tells_its_last_lines_and_leaves_everything_as_it_was() {
    require_root();
    let castoff = Castoff::new();
    let tree = busybox_tree(castoff.scratch());
    let image = DockerImage::unique("functions-failing");
    let file = script(castoff.scratch(), "echo the reason >&2; exit 3");
    for place in [format!("store:{}", image.0), format!("docker-daemon:{}", image.0)] {
        castoff.call(&["mc_cloud_images.build_docker_from_rootfs", &place, tree.to_str().unwrap()]);
        let before = castoff.call(&["image.inspect", &place])["image_id"].clone();
        let argument = format!("script={}", file.display());
        let text = castoff.fail(["call", "mc_cloud_images.refresh_ms_docker", &place, &argument, "network=False"], 1);
        assert!(text.contains("exited with 3") && text.contains("the reason"), "{text}");
        assert_eq!(castoff.call(&["image.inspect", &place])["image_id"], before);
        assert_clean(&castoff);
    }
    assert_eq!(containers(&image), "");
}

#[test]
fn a_killed_refresh_is_cleaned_up_by_the_next_call() {
    require_root();
    let castoff = Castoff::new();
    let tree = busybox_tree(castoff.scratch());
    castoff.call(&["mc_cloud_images.build_docker_from_rootfs", "a:1", tree.to_str().unwrap()]);
    let before = castoff.call(&["image.inspect", "a:1"])["image_id"].clone();
    let file = script(castoff.scratch(), "echo up > /up; sleep 1000");
    let mine = castoff.scratch().join("mine");
    std::fs::create_dir_all(mine.join("refresh-notes")).unwrap();
    let arguments = ["call", "mc_cloud_images.refresh_ms_docker", "a:1", &format!("script={}", file.display())];
    let tmpdir = format!("tmpdir={}", mine.display());
    let mut command = castoff.command(arguments.iter().copied().chain([tmpdir.as_str(), "network=False"]));
    let mut running = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let found = || succeed(program("find").arg(&mine).args(["-path", "*/root/up"]));
    while found().is_empty() {
        assert!(running.0.try_wait().unwrap().is_none(), "the refresh ended");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    drop(running);
    castoff.call(&["mc_cloud_images.pack_docker", "a:1", &tmpdir]);
    assert_eq!(castoff.call(&["image.inspect", "a:1"])["image_id"], before);
    let left = succeed(program("find").arg(&mine).args(["-mindepth", "1", "-printf", "%P\\n"]));
    assert_eq!(left, "refresh-notes\n", "only what is not castoff's stays");
    assert_clean(&castoff);
}

#[test]
fn a_remote_engine_is_refused_unless_acls_are_given_up() {
    require_root();
    let castoff = Castoff::new();
    let tree = tree_with_acls(castoff.scratch());
    let image = DockerImage::unique("functions-remote");
    let place = format!("docker-daemon:{}", image.0);
    castoff.call(&["mc_cloud_images.build_docker_from_rootfs", &place, tree.to_str().unwrap(), "changes=['ENV A=b']"]);
    let remote = Castoff::new().with("DOCKER_HOST", forwarded());
    let file = script(castoff.scratch(), "echo hello > /greeting");
    let arguments =
        ["call", "mc_cloud_images.refresh_ms_docker", &place, &format!("script={}", file.display()), "network=False"];
    let text = remote.fail(arguments, 1);
    assert!(text.contains("another host") && text.contains("acls=False"), "{text}");
    let said = remote.call(&[&arguments[1..], &["acls=False"]].concat());
    assert!(said["warnings"].to_string().contains("mask"), "{said}");
    assert_eq!(docker(&["run", "--rm", "--network=none", &image.0, "/bin/cat", "/greeting"]), "hello\n");
    let environment =
        docker(&["image", "inspect", "--format", "{{json .Config.Env}} {{len .RootFS.Layers}}", &image.0]);
    assert_eq!(environment.trim(), r#"["A=b"] 1"#);
    assert_eq!(containers(&image), "");
    // The old image is kept; the intermediate one of the commit is not.
    let old = said["previous"]["id"].as_str().unwrap().to_owned();
    let since =
        docker(&["images", "-q", "--no-trunc", "--filter", "dangling=true", "--filter", &format!("since={old}")]);
    assert_eq!(since.trim(), "");
    docker(&["rmi", &old]);
}

/// A container directory: shifted as user namespaces do it, with ACLs and a file capability of that namespace.
fn container(lxc: &Path, name: &str, rootfs: &Path) {
    let tree = busybox_tree(lxc);
    succeed(program("chown").args(["-R", "-h", "100000:100000"]).arg(&tree));
    succeed(program("chown").arg("100033:100034").arg(tree.join("tmp")));
    succeed(program("setfacl").args(["-m", "u:101001:rwx,d:g:102000:r-x"]).arg(tree.join("tmp")));
    let capable = tree.join("usr/ping");
    std::fs::write(&capable, "binary").unwrap();
    succeed(program("chown").arg("100000:100000").arg(&capable));
    succeed(program("setcap").args(["-n", "100000", "cap_net_raw+ep"]).arg(&capable));
    std::fs::create_dir_all(lxc.join(name)).unwrap();
    std::fs::rename(tree, rootfs).unwrap();
    let config = format!(
        "lxc.rootfs.path = dir:{}\nlxc.idmap = u 0 100000 65536\nlxc.idmap = g 0 100000 65536\n",
        rootfs.display()
    );
    std::fs::write(lxc.join(name).join("config"), config).unwrap();
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _reaped = self.0.wait();
    }
}

#[test]
fn an_lxc_container_is_shifted_back_and_refused_while_it_runs() {
    require_root();
    let castoff = Castoff::new();
    let lxc = castoff.scratch().join("lxc");
    std::fs::create_dir(&lxc).unwrap();
    let castoff = castoff.with("CASTOFF_LXC_PATH", lxc.to_str().unwrap());
    let inside = lxc.join("inside/rootfs");
    let elsewhere = castoff.scratch().join("elsewhere");
    container(&lxc, "inside", &inside);
    container(&lxc, "outside", &elsewhere);
    let link = castoff.scratch().join("link");
    std::os::unix::fs::symlink(&inside, &link).unwrap();

    let by_name = "mc_cloud_images.build_docker_from_container";
    let by_path = "mc_cloud_images.build_docker_from_rootfs";
    let dir = format!("dir:{}", inside.display());
    let calls: [&[&str]; 5] = [
        &[by_name, "a:1", "inside"],
        &[by_name, "a:1", "outside"],
        &[by_path, "a:1", inside.to_str().unwrap()],
        &[by_path, "a:1", link.to_str().unwrap()],
        &["image.pack", &dir, "a:1"],
    ];
    let out = castoff.scratch().join("out");
    for call in calls {
        let said = castoff.call(call);
        assert_eq!(said["idmap"], "u:0:100000:65536,g:0:100000:65536", "{call:?}: {said}");
        castoff.call(&["image.copy", "a:1", &format!("dir:{}", out.display())]);
        let owners = succeed(program("find").arg(&out).args(["-printf", "%U:%G\n"]));
        let odd: Vec<&str> = owners.lines().filter(|owner| !["0:0", "33:34"].contains(owner)).collect();
        assert!(odd.is_empty() && owners.contains("33:34"), "{call:?}: {odd:?}");
        let acls = succeed(program("getfacl").args(["-n", "-p"]).arg(out.join("tmp")));
        assert!(acls.contains("user:1001:rwx") && acls.contains("default:group:2000:r-x"), "{acls}");
        let capability = succeed(program("getcap").arg("-n").arg(out.join("usr/ping")));
        assert!(capability.contains("cap_net_raw") && !capability.contains("rootid"), "{capability}");
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert_eq!(castoff.call(&["image.verify", &dir, "a:1"])["result"], true);

    let mut sleep = program("chroot");
    let running = Running(sleep.arg(&elsewhere).args(["/bin/sleep", "1000"]).stdin(Stdio::null()).spawn().unwrap());
    let root = PathBuf::from(format!("/proc/{}/root", running.0.id()));
    while std::fs::read_link(&root).unwrap() != elsewhere {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    for test in [&[][..], &["test=True"]] {
        let text = castoff.fail(["call", by_name, "a:2", "outside"].iter().chain(test), 1);
        assert!(text.contains("`outside` is running") && text.contains("live=True"), "{text}");
    }
    let said = castoff.call(&[by_name, "a:2", "outside", "live=True"]);
    assert!(said["live"].as_str().unwrap().contains("process"), "{said}");
    for name in ["../inside", "in side", "$(id)", ".."] {
        castoff.fail(["call", by_name, "a:3", name], 1);
    }
}

/// The original's own procedure: ACLs written down and set in a container, then committed.
#[test]
fn an_image_the_original_procedure_damaged_is_repaired_from_its_acls_txt() {
    require_root();
    let castoff = Castoff::new();
    let tree = tree_with_acls(castoff.scratch());
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:1001:1001::/:/bin/sh\n").unwrap();
    std::fs::write(tree.join("etc/group"), "root:x:0:\nweb:x:2000:\n").unwrap();
    succeed(program("setfacl").args(["-m", "u:1001:rwx,g::r-x,d:g:2000:rwx"]).arg(tree.join("srv/pillar")));
    let damaged = DockerImage::unique("functions-damaged");
    let place = format!("docker-daemon:{}", damaged.0);
    castoff.call(&["mc_cloud_images.build_docker_from_rootfs", &place, tree.to_str().unwrap()]);
    let name = format!("castoff-test-functions-damage-{}", std::process::id());
    let script = "cd / && /usr/getfacl -R bin etc srv tmp usr > /acls.txt; echo '# file: gone/away
# owner: root
# group: root
user::rwx
group::r-x
other::r-x
' >> /acls.txt; for path in srv srv/pillar srv/pillar/top.sls; do /usr/setfacl -m u:77:r-- $path; done";
    docker(&["run", "--network=none", "--name", &name, "--entrypoint=/bin/sh", &damaged.0, "-c", script]);
    docker(&["commit", &name, &damaged.0]);
    docker(&["rm", &name]);
    let before = Waiting::of(&damaged.0);
    let lost = succeed(program("getfacl").args(["-n", "-p", "srv/pillar/top.sls"]).current_dir(&before.root));
    assert!(!lost.contains("user:1001") && lost.contains("group::rw-"), "not damaged: {lost}");
    let listed = std::fs::read_to_string(before.root.join("acls.txt")).unwrap();
    assert!(listed.contains("user:web:rwx") && listed.contains("default:group:web:rwx"), "{listed}");
    drop(before);

    let repaired = DockerImage::unique("functions-repaired");
    let target = format!("destination_image=docker-daemon:{}", repaired.0);
    let said = castoff.call(&["mc_cloud_images.apply_acls_to_docker", &place, &target]);
    assert!(said["warnings"].to_string().contains("gone/away"), "{said}");
    let container = Waiting::of(&repaired.0);
    let mut found = getfacl(&container.root);
    assert!(found.remove("acls.txt").is_some());
    assert_equal("repaired", &getfacl(&tree), &found);
    drop(container);

    // What castoff writes down is what getfacl says, and puts the same back.
    let file = castoff.scratch().join("written.txt");
    let source = format!("docker-daemon:{}", repaired.0);
    let said = castoff.call(&["mc_cloud_images.backup_acls_from_docker", &source, &format!("file={}", file.display())]);
    assert_eq!(said["result"], true, "{said}");
    let by_castoff: std::collections::BTreeSet<String> =
        std::fs::read_to_string(&file).unwrap().split("\n\n").map(effective_away).collect();
    for (path, block) in getfacl(&tree) {
        assert!(by_castoff.contains(&effective_away(&block.replacen("# file: ./", "# file: ", 1))), "{path}: {block}");
    }
    let text =
        castoff.fail(["call", "mc_cloud_images.apply_acls_to_docker", &format!("dir:{}", tree.display()), "a:1"], 1);
    assert!(text.contains("no /acls.txt") && text.contains("file=FILE"), "{text}");
    castoff.call(&[
        "mc_cloud_images.apply_acls_to_docker",
        &place,
        "destination_image=store:again:1",
        &format!("file={}", file.display()),
    ]);
    let difference: Value = castoff.call(&["image.inspect", "store:again:1"]);
    assert_eq!(difference["tree"]["access_acls"], said["access_acls"], "{difference}");
}

/// Without getfacl's remarks.
fn effective_away(block: &str) -> String {
    block
        .trim()
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .map(|line| line.split(" #effective").next().unwrap_or_default().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
