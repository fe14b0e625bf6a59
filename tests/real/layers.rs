//! The merge judged by what engines make of it: layers from GNU tar in, a running container's tree out, compared with
//! the file system they came from by Python and getfacl.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use castoff::rootfs::flatten::{FlattenOptions, Flattener};
use castoff::rootfs::tar::{Positioned, Scanner};
use castoff::rootfs::{Limits, ReadAt};

use crate::harness::{DockerImage, docker, program, require_root, succeed};

const MAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/layers_make.py");
const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/layers_archive.py");
const FACTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/tree_facts.py");

/// A folder with the trees `before` and `after` and the layers that lead to them.
fn made() -> tempfile::TempDir {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    succeed(program("python3").arg(MAKE).current_dir(folder.path()));
    folder
}

/// Merges layers of the folder into `out0.tar` and on; their names.
fn merge(folder: &Path, layers: &[&str], options: FlattenOptions) -> Vec<String> {
    let read = |name: &&str| Arc::new(std::fs::read(folder.join(name)).unwrap()) as Arc<dyn ReadAt>;
    let layers: Vec<_> = layers.iter().map(read).collect();
    let mut flattener = Flattener::new(options, Limits::default());
    for layer in &layers {
        flattener.add_layer(&mut Scanner::new(Positioned::new(&**layer, 0), Limits::default())).unwrap();
    }
    let flat = flattener.finish(&layers).unwrap();
    let write = |(number, output): (usize, &castoff::rootfs::flatten::OutputLayer)| {
        let name = format!("out{number}.tar");
        output.write(&layers, &mut std::fs::File::create(folder.join(&name)).unwrap()).unwrap();
        name
    };
    flat.outputs.iter().enumerate().map(write).collect()
}

fn archive(folder: &Path, name: &str, layers: &[&str]) -> PathBuf {
    let archive = folder.join("image.tar");
    succeed(program("python3").arg(ARCHIVE).arg(&archive).arg(name).args(layers).current_dir(folder));
    archive
}

/// What a tree says to Python and to getfacl.
fn facts(root: &Path) -> String {
    let facts = succeed(program("python3").arg(FACTS).arg("dir").arg(root.join("t")));
    let acls = succeed(program("getfacl").args(["-R", "-n", "-p", "t"]).current_dir(root));
    let mut acls: Vec<&str> = acls.split("\n\n").collect();
    acls.sort_unstable();
    format!("{facts}{}", acls.join("\n\n"))
}

fn assert_same(engine: &str, expected: &str, found: &str) {
    let only = |left: &str, right: &str| {
        let lines: Vec<&str> = left.lines().filter(|line| !right.lines().any(|other| other == *line)).collect();
        lines.join("\n")
    };
    assert!(expected.lines().count() > 40);
    assert!(
        expected == found,
        "{engine}\n--- only in the source:\n{}\n--- only in the image:\n{}",
        only(expected, found),
        only(found, expected)
    );
}

/// A running container that ends with this value.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "-f", &self.0]);
    }
}

/// Loads the layers as one image, runs it, and compares what its processes see with `after`.
fn assert_exact_in_docker(folder: &Path, layers: &[&str]) {
    let image = DockerImage::unique("layers");
    let archive = archive(folder, &image.0, layers);
    docker(&["load", "-i", archive.to_str().unwrap()]);
    let container = Container(docker(&["run", "-d", "--network=none", &image.0]).trim().to_owned());
    let process = docker(&["inspect", "-f", "{{.State.Pid}}", &container.0]);
    let root = PathBuf::from(format!("/proc/{}/root", process.trim()));
    assert_same("docker", &facts(&folder.join("after")), &facts(&root));
    // What it cannot put together again it can neither save nor push.
    docker(&["save", "-o", folder.join("again.tar").to_str().unwrap(), &image.0]);
}

/// Unpacks the layers with umoci and compares.
fn assert_exact_in_umoci(folder: &Path, layers: &[&str]) {
    let archive = archive(folder, "castoff-test-layers:latest", layers);
    let (layout, bundle) = (folder.join("oci"), folder.join("bundle"));
    let oci = format!("oci:{}:image", layout.display());
    succeed(program("skopeo").args(["copy", "-q", &format!("docker-archive:{}", archive.display()), &oci]));
    succeed(program("umoci").args(["unpack", "--image", &format!("{}:image", layout.display())]).arg(&bundle));
    assert_same("umoci", &facts(&folder.join("after")), &facts(&bundle.join("rootfs")));
}

#[test]
fn one_layer_is_exact_in_docker_and_umoci() {
    let folder = made();
    let layers = merge(folder.path(), &["layer0.tar", "layer1.tar"], FlattenOptions::default());
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    assert_eq!(layers.len(), 1);
    assert_exact_in_docker(folder.path(), &layers);
    assert_exact_in_umoci(folder.path(), &layers);
}

#[test]
fn a_layer_for_acls_of_its_own_is_exact_in_docker_and_umoci() {
    let folder = made();
    let options = FlattenOptions { split_acl_layer: true, ..FlattenOptions::default() };
    let layers = merge(folder.path(), &["layer0.tar", "layer1.tar"], options);
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    assert_eq!(layers.len(), 2);
    assert_exact_in_docker(folder.path(), &layers);
    assert_exact_in_umoci(folder.path(), &layers);
}

#[test]
fn what_lies_above_a_kept_base_is_exact_in_docker_and_umoci() {
    let folder = made();
    // The base as castoff packs it: as GNU tar wrote it, engines would let ACLs be inherited in it.
    let base = merge(folder.path(), &["layer0.tar"], FlattenOptions::default()).remove(0);
    std::fs::rename(folder.path().join(base), folder.path().join("base.tar")).unwrap();
    let options = FlattenOptions { base_layers: 1, ..FlattenOptions::default() };
    let above = merge(folder.path(), &["base.tar", "layer1.tar"], options).remove(0);
    let size = |name: &str| std::fs::metadata(folder.path().join(name)).unwrap().len();
    assert!(size(&above) * 10 < size("base.tar"), "only what changed");
    assert_exact_in_docker(folder.path(), &["base.tar", &above]);
    assert_exact_in_umoci(folder.path(), &["base.tar", &above]);
}

#[test]
fn gnu_tar_restores_acls_from_their_text() {
    let folder = made();
    let options = FlattenOptions { text_acls: true, ..FlattenOptions::default() };
    merge(folder.path(), &["layer0.tar", "layer1.tar"], options);
    let root = folder.path().join("root");
    std::fs::create_dir(&root).unwrap();
    let mut tar = program("tar");
    // A directory's members stand where their layers had them, not all behind it.
    tar.args(["--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "--delay-directory-restore"]);
    tar.args(["-xpf", "../out0.tar"]).current_dir(&root);
    succeed(&mut tar);
    assert_same("tar", &facts(&folder.path().join("after")), &facts(&root));
}

#[test]
fn layers_as_they_are_would_not_be_exact() {
    // If this one fails, engines have learned not to let ACLs be inherited, and the tests above prove less.
    let folder = made();
    let image = DockerImage::unique("layers-plain");
    let archive = archive(folder.path(), &image.0, &["layer0.tar"]);
    docker(&["load", "-i", archive.to_str().unwrap()]);
    let container = Container(docker(&["run", "-d", "--network=none", &image.0]).trim().to_owned());
    let process = docker(&["inspect", "-f", "{{.State.Pid}}", &container.0]);
    let found = facts(&PathBuf::from(format!("/proc/{}/root", process.trim())));
    assert_ne!(facts(&folder.path().join("before")), found);
}

/// What a process changes in a container: deletions, directories made anew, links broken and made, types changed.
const CHANGES: [&str; 2] = [
    "cd /t; rm deleted; rm -rf opaque; mkdir opaque; echo new > opaque/new; rm -rf anew/old; mv h2 moved; \
     echo more >> h1; rm becomes-directory; mkdir becomes-directory; echo x > becomes-directory/x; \
     rm -rf becomes-file; ln -s /etc/shadow becomes-file; chmod 700 locked; chown 9:9 suid; ln cap cap3; touch later",
    "cd /t; rm -rf shared; mkdir -p shared/sub; echo 1 > shared/sub/one; rm later; ln moved again; rm cap; \
     rm -rf opaque; echo file > opaque; mkdir -p a/b/c; touch a/b/c/d; chmod 1777 a",
];

#[test]
fn layers_that_the_engine_made_merge_to_what_it_shows() {
    let folder = made();
    let base = merge(folder.path(), &["layer0.tar"], FlattenOptions::default()).remove(0);
    let image = DockerImage::unique("layers-engine");
    let first = archive(folder.path(), &image.0, &[&base]);
    docker(&["load", "-i", first.to_str().unwrap()]);
    for change in CHANGES {
        let changed = docker(&["run", "-d", "--network=none", &image.0, "/bin/busybox", "sh", "-c", change]);
        let changed = Container(changed.trim().to_owned());
        assert_eq!(docker(&["wait", &changed.0]).trim(), "0", "{}", docker(&["logs", &changed.0]));
        docker(&["commit", "-c", r#"CMD ["/bin/busybox", "sleep", "600"]"#, &changed.0, &image.0]);
    }
    let saved = folder.path().join("saved.tar");
    docker(&["save", "-o", saved.to_str().unwrap(), &image.0]);
    let script = "import json, tarfile\nwith tarfile.open('saved.tar') as t:\n  \
                  for n, name in enumerate(json.load(t.extractfile('manifest.json'))[0]['Layers']):\n    \
                  open(f'saved{n}.tar', 'wb').write(t.extractfile(name).read())";
    succeed(program("python3").args(["-c", script]).current_dir(folder.path()));
    let merged = merge(folder.path(), &["saved0.tar", "saved1.tar", "saved2.tar"], FlattenOptions::default()).remove(0);

    let packed = DockerImage::unique("layers-packed");
    let second = archive(folder.path(), &packed.0, &[&merged]);
    docker(&["load", "-i", second.to_str().unwrap()]);
    let shown = |image: &DockerImage| {
        let container = Container(docker(&["run", "-d", "--network=none", &image.0]).trim().to_owned());
        let process = docker(&["inspect", "-f", "{{.State.Pid}}", &container.0]);
        facts(&PathBuf::from(format!("/proc/{}/root", process.trim())))
    };
    let source = shown(&image);
    assert!(source.contains(r#""shared/sub/one""#) && !source.contains(r#""shared/own""#));
    assert_same("docker", &source, &shown(&packed));
}
