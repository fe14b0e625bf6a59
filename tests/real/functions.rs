//! The image functions through the binary; judged by Python, getfacl, GNU tar, skopeo and the docker client.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Castoff, DockerImage, docker, program, require_root, succeed};
use crate::sandbox::busybox_tree;
use crate::walk::facts;

const MAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/tree_make.py");

/// busybox as a root filesystem, with everything that gets lost; without what engines cannot have.
pub(crate) fn rootfs(folder: &Path) -> PathBuf {
    let tree = busybox_tree(folder);
    succeed(program("python3").arg(MAKE).arg(&tree));
    std::fs::remove_file(tree.join("sparse")).unwrap();
    // Engines leave out xattrs without a value: to Go's tar reader that is a deletion.
    succeed(program("setfattr").args(["-x", "user.on-directory"]).arg(tree.join("a")));
    std::fs::create_dir(tree.join("sbin")).unwrap();
    std::os::unix::fs::symlink("/bin/busybox", tree.join("sbin/init")).unwrap();
    // Engines take times before 1970 for 1970.
    succeed(program("touch").args(["-d", "2001-02-03 04:05:06.000000007", "odd", "block"]).current_dir(&tree));
    tree
}

/// A container of an image that waits, and its merged root on this host.
pub(crate) struct Waiting {
    id: String,
    pub(crate) root: PathBuf,
}

impl Waiting {
    pub(crate) fn of(image: &str) -> Self {
        let id = docker(&["run", "-d", "--network=none", "--entrypoint=/bin/sleep", image, "1000"]).trim().to_owned();
        let root = docker(&["inspect", "--format", "{{.GraphDriver.Data.MergedDir}}", &id]);
        Self { id, root: PathBuf::from(root.trim()) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.id]);
    }
}

/// What an engine makes in every container, besides `/` itself, and what no image can have.
const STUBS: [&str; 9] =
    [".", "socket", ".dockerenv", "dev", "proc", "sys", "etc/hosts", "etc/hostname", "etc/resolv.conf"];

fn is_stub(path: &str) -> bool {
    STUBS.contains(&path) || path == "etc/mtab" || path.starts_with("dev/")
}

/// Every path as Python sees it, but for what engines make.
fn python(root: &Path) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for line in facts("dir", root).lines() {
        let (path, mut fact): (String, Value) = serde_json::from_str(line).unwrap();
        if path == "etc" {
            fact["mtime"] = Value::Null;
        }
        if !is_stub(&path) {
            found.insert(path, fact);
        }
    }
    found
}

/// What `getfacl -R -n` says of every path, but for what engines make.
pub(crate) fn getfacl(root: &Path) -> BTreeMap<String, String> {
    let text = succeed(program("getfacl").args(["-R", "-n", "-p", "."]).current_dir(root));
    let block = |block: &str| {
        let path = block.lines().next()?.strip_prefix("# file: ")?.trim_start_matches("./").to_owned();
        (!is_stub(&path)).then(|| (path, block.to_owned()))
    };
    text.split("\n\n").filter_map(block).collect()
}

pub(crate) fn assert_equal<T: PartialEq + std::fmt::Debug>(
    about: &str,
    source: &BTreeMap<String, T>,
    found: &BTreeMap<String, T>,
) {
    let paths = source.keys().chain(found.keys());
    let differing: Vec<String> = paths
        .filter(|path| source.get(*path) != found.get(*path))
        .map(|path| format!("{path}: {:?}\n     {:?}", source.get(path), found.get(path)))
        .collect();
    assert!(differing.is_empty() && source.len() > 5, "{about}:\n{}", differing.join("\n"));
}

/// The container of an image is the source tree, entry for entry.
pub(crate) fn assert_exact(about: &str, source: &Path, image: &str) {
    let container = Waiting::of(image);
    assert_equal(about, &getfacl(source), &getfacl(&container.root));
    assert_equal(about, &python(source), &python(&container.root));
}

#[test]
fn a_root_filesystem_is_the_same_in_a_container_acls_included() {
    require_root();
    let castoff = Castoff::new();
    let tree = rootfs(castoff.scratch());
    let path = tree.to_str().unwrap();
    let [one, two] = ["rootfs-one", "rootfs-two"].map(DockerImage::unique);

    let said = castoff.call(&[
        "mc_cloud_images.build_docker_from_rootfs",
        &format!("store:{}", one.0),
        path,
        "force=True",
        "changes=['ENV A=b', 'LABEL c=\"d e\"']",
    ]);
    assert_eq!((&said["result"], &said["tag"]), (&Value::Bool(true), &Value::from(one.0.clone())), "{said}");
    assert!(said["rebuild"]["refresh"]["skipped"].as_str().unwrap().contains("boot-salt.sh"), "{said}");
    assert_eq!(said["dropped"][0]["path"], "socket", "{said}");
    let listed = getfacl(&tree);
    let of_kind = |start: &str| {
        let has = |block: &&String| block.lines().any(|line| line.starts_with(start) && !line.starts_with("user::"));
        listed.values().filter(has).count()
    };
    assert_eq!(said["acls"]["default"], of_kind("default:user::"), "{said}");
    assert_eq!(said["acls"]["access"], of_kind("mask::"), "{said}");

    castoff.call(&["image.copy", &format!("store:{}", one.0), &format!("docker-daemon:{}", one.0)]);
    assert_exact("one layer", &tree, &one.0);
    let shown = docker(&["image", "inspect", "--format", "{{.Id}} {{.Architecture}} {{json .Config}}", &one.0]);
    assert!(shown.starts_with(&format!("{} amd64 ", said["image_id"].as_str().unwrap())), "{shown}");
    for part in [r#""Cmd":["/sbin/init"]"#, r#""Env":["A=b"]"#, r#""c":"d e""#] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }

    let (source, target) = (format!("store:{}", one.0), format!("destination_image=docker-daemon:{}", two.0));
    let said = castoff.call(&["mc_cloud_images.pack_docker", &source, &target, "layers=2"]);
    assert_eq!(said["layers"].as_array().unwrap().len(), 2, "{said}");
    assert_exact("two layers", &tree, &two.0);

    // Without ACLs the group has what its own entry says, never the mask.
    let out = castoff.scratch().join("plain");
    castoff.call(&["image.pack", &source, &format!("dir:{}", out.display()), "acls=False"]);
    let plain = getfacl(&out);
    for (path, block) in listed.iter().filter(|(path, _)| *path != "socket") {
        let entry = |block: &str, name: &str| {
            block.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace().next().unwrap().to_owned()
        };
        let plain = &plain[path];
        assert!(!plain.contains("mask::") && !plain.contains("default:"), "{plain}");
        for name in ["user::", "group::", "other::"] {
            assert_eq!(entry(plain, name), entry(block, name), "{path}");
        }
    }
}

/// A tar of a root filesystem with its ACLs as text and names, as `tar --acls` makes it.
#[test]
fn a_tar_with_text_acls_gives_the_ids_of_its_own_passwd_and_stays_as_it_is() {
    require_root();
    let castoff = Castoff::new();
    let tree = busybox_tree(castoff.scratch());
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0::/:/bin/sh\ndaemon:x:4321:1::/:/bin/sh\n").unwrap();
    std::fs::write(tree.join("etc/group"), "root:x:0:\ndaemon:x:8765:\n").unwrap();
    succeed(program("setfacl").args(["-m", "u:1:rwx,g:1:r--,d:u:1:r-x"]).arg(tree.join("tmp")));
    let file = castoff.scratch().join("root.tar");
    succeed(program("tar").args(["--acls", "-C"]).arg(&tree).arg("-cf").arg(&file).arg("."));
    let before = std::fs::read(&file).unwrap();
    assert!(before.windows(11).any(|window| window == b"user:daemon"), "the tar has names");

    let out = castoff.scratch().join("out");
    for (function, key) in [("build_docker_from_rootfs", "tar"), ("docker_from_tar", "tag")] {
        let name = format!("mc_cloud_images.{function}");
        let said = castoff.call(&[&name, "group/name:1", file.to_str().unwrap()]);
        assert!(said[key].is_string() && said["acls"]["access"] == 1, "{said}");
        castoff.call(&["image.copy", "group/name:1", &format!("dir:{}", out.display())]);
        let acls = succeed(program("getfacl").args(["-n", "-p"]).arg(out.join("tmp")));
        for entry in ["user:4321:rwx", "group:8765:r--", "default:user:4321:r-x"] {
            assert!(acls.lines().any(|line| line.starts_with(entry)), "{entry} is not in {acls}");
        }
        std::fs::remove_dir_all(&out).unwrap();
    }
    assert_eq!(std::fs::read(&file).unwrap(), before, "the tar was changed");
    let names: Vec<_> = std::fs::read_dir(castoff.scratch()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "tree, tar and state, nothing else: {names:?}");
}

#[test]
fn what_is_not_there_or_not_readable_fails_and_a_test_says_so_too() {
    let castoff = Castoff::new();
    let folder = castoff.scratch().join("folder");
    std::fs::create_dir(&folder).unwrap();
    let tree = folder.to_str().unwrap();
    for arguments in [
        &["mc_cloud_images.build_docker_from_rootfs", "a:1", "/nonexistent/rootfs"][..],
        &["mc_cloud_images.build_docker_from_container", "a:1", "nosuchcontainer"],
        &["mc_cloud_images.build_docker_from_container", "a:1", "../etc"],
        &["mc_cloud_images.docker_from_tar", "a:1", "/nonexistent/root.tar"],
        &["mc_cloud_images.pack_docker", "nosuchimage"],
        &["mc_cloud_images.rebuild_ms_docker", "nosuchimage"],
        &["mc_cloud_images.refresh_ms_docker", "docker-archive:/nonexistent/x.tar"],
        &["mc_cloud_images.refresh_ms_docker", "a:1", "script=/nonexistent/script"],
        &["mc_cloud_images.apply_acls_to_docker", "nosuchimage"],
        &["mc_cloud_images.backup_acls_from_docker", "nosuchimage"],
        &["image.pack", "oci:/nonexistent:1", "a:1"],
        &["image.pack", &format!("dir:{tree}"), "a:1", "tmpdir=/nonexistent"],
        &["image.pack", &format!("dir:{tree}"), "a:1", "changes=['NONSENSE x']"],
        &["image.pack", &format!("dir:{tree}")],
        &["image.pack", &format!("dir:{tree}"), "docker://example.org/a@1"],
        &["image.copy", "tar:/nonexistent/root.tar", "a:1"],
        &["image.remove", "nosuchimage"],
        &["image.remove", &format!("dir:{tree}")],
    ] {
        for test in [&[][..], &["test=True"]] {
            let text = castoff.fail(["call"].iter().chain(arguments).chain(test), 1);
            assert!(!text.trim().is_empty(), "{arguments:?}");
        }
        let nothing = !castoff.state().join("store/index.json").exists()
            || castoff.call(&["image.list", "engine=store"])["store"] == Value::Array(Vec::new());
        assert!(nothing, "{arguments:?} made an image");
    }
    let text = castoff.fail(["call", "image.pack", &format!("dir:{tree}")], 1);
    assert!(text.contains("`destination` is required"), "{text}");
}

#[test]
fn a_test_says_what_would_be_done_and_does_nothing() {
    require_root();
    let castoff = Castoff::new();
    let tree = busybox_tree(castoff.scratch());
    let tree = tree.to_str().unwrap();
    let listing = || succeed(program("find").arg(castoff.scratch()).args(["-printf", "%P %y %s %T@\n"]));
    let before = listing();
    for arguments in [
        &["mc_cloud_images.build_docker_from_rootfs", "a:1", tree][..],
        &["image.pack", &format!("dir:{tree}"), "docker-archive:out.tar", "layers=2"],
        &["image.copy", &format!("dir:{tree}"), "oci:layout:1"],
        &["mc_cloud_images.backup_acls_from_docker", &format!("dir:{tree}"), "file=acls.txt"],
        &["mc_cloud_images.apply_acls_to_docker", &format!("dir:{tree}"), "destination_image=a:1"],
    ] {
        let said = castoff.call(&[arguments, &["test=True"]].concat());
        assert!(said["result"].is_null() && said["comment"].as_str().unwrap().contains("would be"), "{said}");
    }
    assert_eq!(listing(), before);
    castoff.call(&["mc_cloud_images.build_docker_from_rootfs", "a:1", tree]);
    let before = castoff.call(&["image.list", "engine=store"]);
    for arguments in [
        &["mc_cloud_images.pack_docker", "a:1", "changes=['ENV A=b']", "keep_old=False"][..],
        &["mc_cloud_images.rebuild_ms_docker", "a:1"],
        &["mc_cloud_images.refresh_ms_docker", "a:1"],
        &["image.remove", "a:1"],
    ] {
        let said = castoff.call(&[arguments, &["test=True"]].concat());
        assert!(said["result"].is_null() && said["comment"].as_str().unwrap().contains("would be"), "{said}");
    }
    assert!(castoff.call(&["image.gc", "test=True"])["result"].is_null());
    assert_eq!(castoff.call(&["image.list", "engine=store"]), before);
}

/// The image ID of a file, as skopeo and Python see it.
fn id_by_skopeo(reference: &str) -> String {
    let mut skopeo = program("skopeo")
        .args(["inspect", "--raw", "--config", reference])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let script = "import hashlib, sys; print('sha256:' + hashlib.sha256(sys.stdin.buffer.read()).hexdigest())";
    let id = succeed(program("python3").args(["-c", script]).stdin(skopeo.stdout.take().unwrap()));
    assert!(skopeo.wait().unwrap().success(), "{reference}");
    id.trim().to_owned()
}

#[test]
fn a_copy_between_any_two_transports_keeps_the_image_id() {
    require_root();
    let castoff = Castoff::new();
    let tree = rootfs(castoff.scratch());
    let image = DockerImage::unique("copy");
    let first = format!("store:{}", image.0);
    castoff.call(&["image.pack", &format!("dir:{}", tree.display()), &first]);
    castoff.call(&["image.pack", &first, "layers=2"]);
    let id = castoff.call(&["image.inspect", &first])["image_id"].as_str().unwrap().to_owned();
    let at = |name: &str| castoff.scratch().join(name).display().to_string();
    let archive = |n: &str| format!("docker-archive:{}:{}", at(&format!("{n}.tar")), image.0);
    let places = |n: &str| {
        [
            first.clone(),
            archive(n),
            format!("oci:{}:1", at(&format!("{n}-layout"))),
            format!("oci-archive:{}:1", at(&format!("{n}-oci.tar"))),
            format!("docker-daemon:{}", image.0),
        ]
    };
    for place in places("a") {
        let said = castoff.call(&["image.copy", &first, &place]);
        assert_eq!(said["image_id"], id.as_str(), "{first} to {place}: {said}");
    }
    for (number, source) in places("a").iter().enumerate() {
        for place in places(&format!("b{number}")) {
            let compression = if place.contains("b2") { "compression=zstd" } else { "compression=gzip" };
            let said = castoff.call(&["image.copy", source, &place, compression]);
            assert_eq!(said["image_id"], id.as_str(), "{source} to {place}: {said}");
            if place.starts_with("oci:") || place.starts_with("docker-archive:") && number == 0 {
                assert_eq!(id_by_skopeo(&place), id, "{source} to {place}");
            }
        }
    }
    assert_eq!(docker(&["image", "inspect", "--format", "{{.Id}}", &image.0]).trim(), id);

    // As a tree, in a directory and in a tar that GNU tar restores.
    let (out, file, restored) = (at("out"), at("out.tar"), castoff.scratch().join("restored"));
    castoff.call(&["image.copy", &first, &format!("dir:{out}")]);
    castoff.call(&["image.copy", &first, &format!("tar:{file}")]);
    std::fs::create_dir(&restored).unwrap();
    succeed(
        program("tar")
            .args(["--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", &file, "-C"])
            .arg(&restored),
    );
    assert_equal("dir:", &python(&tree), &python(Path::new(&out)));
    assert_equal("dir:", &getfacl(&tree), &getfacl(Path::new(&out)));
    assert_equal("tar:", &getfacl(&tree), &getfacl(&restored));
    assert_equal("tar:", &python(&tree), &python(&restored));
    assert_eq!(castoff.call(&["image.verify", &format!("dir:{out}"), &first])["result"], true);
}

#[test]
fn an_ordinary_user_packs_what_they_can_read_and_is_told_the_rest() {
    require_root();
    let castoff = Castoff::new();
    let tree = busybox_tree(castoff.scratch());
    std::fs::write(tree.join("etc/shadow"), "secret").unwrap();
    std::fs::create_dir(tree.join("shut")).unwrap();
    for (mode, path) in [("0755", castoff.scratch()), ("0600", &tree.join("etc/shadow")), ("0700", &tree.join("shut"))]
    {
        succeed(program("chmod").arg(mode).arg(path));
    }
    let (binary, state) = (castoff.scratch().join("castoff"), castoff.scratch().join("nobody"));
    // By another process: a file this one has open for writing may be inherited by a child of another test.
    succeed(program("cp").arg(env!("CARGO_BIN_EXE_castoff")).arg(&binary));
    std::fs::create_dir(&state).unwrap();
    succeed(program("chown").arg("65534:65534").arg(&state));
    let mut command = program("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&binary)
        .args(["call", "--out=json", "image.pack", &format!("dir:{}", tree.display()), "store:a:1"])
        .envs([("CASTOFF_CONFIG", Path::new("/dev/null")), ("CASTOFF_STATE_DIR", &state)])
        .current_dir(&state);
    let said: Value = serde_json::from_str(&succeed(&mut command)).unwrap();
    let left_out: Vec<&str> =
        said["local"]["dropped"].as_array().unwrap().iter().map(|item| item["path"].as_str().unwrap()).collect();
    assert!(left_out.contains(&"etc/shadow") && left_out.iter().any(|path| path.starts_with("shut")), "{said}");
    let listed = succeed(
        Command::new(&binary)
            .args(["call", "--out=json", "image.list", "engine=store"])
            .envs([("CASTOFF_CONFIG", Path::new("/dev/null")), ("CASTOFF_STATE_DIR", &state)]),
    );
    assert!(listed.contains("a:1"), "{listed}");
}
