//! The Docker Engine as castoff's engine sees it; expected values come from the docker client, Python and getfacl.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use castoff::engine::docker::{ContainerSpec, Docker, RefreshSpec};
use castoff::error::{Error, Kind};
use castoff::progress::Progress;
use castoff::vocab::{Digest, EngineImage, ImageName};

use crate::harness::{DockerImage, docker, docker_host, docker_run, program, require_root, succeed};
use crate::sandbox::busybox_tree;

fn engine() -> Docker {
    Docker::connect(&docker_host()).unwrap()
}

fn name_of(image: &DockerImage) -> ImageName {
    image.0.parse().unwrap()
}

/// Writes an archive in the form of `docker save` from layer tars, as the specification says; prints the image ID.
pub(crate) const ARCHIVE: &str = r#"
import hashlib, io, json, sys, tarfile
out, layers, lie = sys.argv[1], sys.argv[2:-1], sys.argv[-1]
blobs = [open(layer, "rb").read() for layer in layers]
diff_ids = ["sha256:" + hashlib.sha256(blob).hexdigest() for blob in blobs]
if lie == "wrong-diff-id":
    diff_ids[-1] = "sha256:" + "0" * 64
config = json.dumps({
    "architecture": "amd64", "os": "linux", "created": "2020-01-01T00:00:00Z",
    "config": {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "Labels": {"a": "b"}},
    "rootfs": {"type": "layers", "diff_ids": diff_ids},
    "history": [{"created": "2020-01-01T00:00:00Z", "created_by": out} for _ in blobs],
}).encode()
with tarfile.open(out, "w") as tar:
    def add(name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    for number, blob in enumerate(blobs):
        add(f"{number}.tar", blob)
    add("config.json", config)
    names = [f"{number}.tar" for number in range(len(blobs))]
    add("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": None, "Layers": names}]).encode())
print("sha256:" + hashlib.sha256(config).hexdigest())
"#;

/// An archive of one layer, made by GNU tar, with the image's ID.
struct Archive {
    file: PathBuf,
    id: Digest,
    diff_id: String,
}

fn archive(folder: &Path, tree: &Path, lie: &str) -> Archive {
    let (layer, file) = (folder.join("layer.tar"), folder.join(format!("image-{lie}.tar")));
    let mut tar = program("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "--sort=name", "-C"])
        .arg(tree)
        .arg("-cf")
        .arg(&layer);
    succeed(tar.arg("."));
    let id = succeed(program("python3").args(["-c", ARCHIVE]).arg(&file).arg(&layer).arg(lie));
    let digest = succeed(program("python3").args([
        "-c",
        "import hashlib,sys; print('sha256:' + hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())",
        layer.to_str().unwrap(),
    ]));
    Archive { file, id: id.trim().parse().unwrap(), diff_id: digest.trim().to_owned() }
}

fn upload(engine: &Docker, archive: &Archive) -> castoff::error::Result<Vec<Digest>> {
    let bytes = std::fs::read(&archive.file).unwrap();
    let loaded = engine.load(Some(bytes.len() as u64), &Progress::silent(), |out| {
        out.write_all(&bytes).map_err(|error| castoff::error::from_io(error, || "upload".to_owned()))
    })?;
    assert_eq!(loaded.bytes, bytes.len() as u64);
    Ok(loaded.ids)
}

/// An image of busybox under a name of its own.
fn image(folder: &Path, subject: &str) -> (DockerImage, Digest) {
    let engine = engine();
    let archive = archive(folder, &busybox_tree(folder), "honest");
    assert_eq!(upload(&engine, &archive).unwrap(), [archive.id]);
    let name = DockerImage::unique(subject);
    engine.tag(&EngineImage::Id(archive.id), &name_of(&name)).unwrap();
    (name, archive.id)
}

#[test]
fn the_engine_says_who_it_is() {
    let engine = engine();
    assert_eq!(engine.version().engine, docker(&["version", "--format", "{{.Server.Version}}"]).trim());
    assert_eq!(engine.version().architecture, docker(&["version", "--format", "{{.Server.Arch}}"]).trim());
    engine.ping().unwrap();
    assert!(engine.is_local());
}

#[test]
fn an_archive_is_loaded_named_saved_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine();
    let archive = archive(folder.path(), &busybox_tree(folder.path()), "honest");
    assert_eq!(upload(&engine, &archive).unwrap(), [archive.id]);
    let id = EngineImage::Id(archive.id);
    let info = engine.inspect_image(&id).unwrap().unwrap();
    assert_eq!((info.id, info.repo_tags.len(), info.architecture.as_str()), (archive.id, 0, "amd64"));
    let diff_ids: Vec<String> = info.diff_ids.iter().map(ToString::to_string).collect();
    assert_eq!(diff_ids.join(" "), archive.diff_id);

    let name = DockerImage::unique("images");
    engine.tag(&id, &name_of(&name)).unwrap();
    assert_eq!(docker(&["image", "inspect", "--format", "{{.Id}}", &name.0]).trim(), archive.id.to_string());
    assert!(engine.list().unwrap().iter().any(|image| image.id == archive.id && image.repo_tags == [name.0.clone()]));

    let saved = folder.path().join("saved.tar");
    let mut file = std::fs::File::create(&saved).unwrap();
    let bytes = engine.save(&EngineImage::Name(name_of(&name)), &mut file, &Progress::silent()).unwrap();
    assert_eq!(bytes, saved.metadata().unwrap().len());
    let manifest = succeed(program("tar").arg("-xOf").arg(&saved).arg("manifest.json"));
    assert!(manifest.contains(&name.0) && manifest.contains(&archive.id.hex()), "{manifest}");
    let layer: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let layer = layer[0]["Layers"][0].as_str().unwrap().to_owned();
    let script = "import hashlib,sys; print('sha256:' + hashlib.sha256(sys.stdin.buffer.read()).hexdigest())";
    let mut tar = program("tar").arg("-xOf").arg(&saved).arg(layer).stdout(Stdio::piped()).spawn().unwrap();
    let digest = succeed(program("python3").args(["-c", script]).stdin(tar.stdout.take().unwrap()));
    tar.wait().unwrap();
    assert_eq!(digest.trim(), archive.diff_id);

    assert_eq!(engine.untag(&name_of(&name)).unwrap().untagged.join(" "), name.0);
    assert!(engine.inspect_image(&id).unwrap().is_none(), "an image without a name went with its last one");
    let error = engine.save(&id, &mut std::io::sink(), &Progress::silent()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound, "{error:?}");
    assert_eq!(engine.remove(&id).unwrap_err().kind(), Kind::NotFound);
}

#[test]
fn an_archive_with_names_tells_ids_too() {
    let folder = tempfile::tempdir().unwrap();
    let (name, id) = image(folder.path(), "named");
    let bytes = {
        let file = folder.path().join("named.tar");
        docker(&["save", "-o", file.to_str().unwrap(), &name.0]);
        std::fs::read(file).unwrap()
    };
    let loaded = engine().load(None, &Progress::silent(), |out| {
        out.write_all(&bytes).unwrap();
        Ok(())
    });
    let loaded = loaded.unwrap();
    assert_eq!((loaded.ids.as_slice(), loaded.names.as_slice()), ([id].as_slice(), [name.0.clone()].as_slice()));
    assert_eq!(loaded.only().unwrap(), id);
}

#[test]
fn an_error_inside_the_answer_is_seen_although_the_status_says_all_is_well() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine();
    let archive = archive(folder.path(), &busybox_tree(folder.path()), "wrong-diff-id");
    let error = upload(&engine, &archive).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
    assert!(error.render().contains("diffID"), "{error:?}");
    assert!(engine.inspect_image(&EngineImage::Id(archive.id)).unwrap().is_none());
}

#[test]
fn a_producer_that_fails_breaks_the_upload_off_and_is_the_one_reported() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine();
    let archive = archive(folder.path(), &busybox_tree(folder.path()), "honest");
    // A comment of this folder's makes the ID one that no other test loads.
    let bytes = std::fs::read(&archive.file).unwrap();
    for share in [0, bytes.len() / 2, bytes.len() - 10240] {
        let error = engine
            .load(None, &Progress::silent(), |out| {
                out.write_all(&bytes[..share]).unwrap();
                Err(Error::new(Kind::NoSpace, "the producer's own reason"))
            })
            .unwrap_err();
        assert_eq!((error.kind(), error.message()), (Kind::NoSpace, "the producer's own reason"));
        assert!(engine.inspect_image(&EngineImage::Id(archive.id)).unwrap().is_none(), "{share}");
    }
}

#[test]
fn an_engine_that_stops_reading_is_asked_why_and_the_producer_does_not_hang() {
    let error = engine()
        .load(None, &Progress::silent(), |out| {
            let block = [b'x'; 1 << 16];
            for _ in 0..4096 {
                out.write_all(&block).map_err(|error| castoff::error::from_io(error, || "cannot write".to_owned()))?;
            }
            Ok(())
        })
        .unwrap_err();
    assert!(error.message().contains("the Docker engine did not take the image"), "{error:?}");
    assert!(error.render().contains("engine said") || error.render().contains("engine answered"), "{error:?}");
}

#[test]
fn an_unreachable_engine_is_unavailable_with_a_hint() {
    let error = Docker::connect("unix:///nonexistent/engine.sock").unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.render().contains("`unix:///nonexistent/engine.sock`"), "{error:?}");
    assert!(error.next_step().unwrap().contains("DOCKER_HOST"));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = Docker::connect(&format!("tcp://{free}")).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{error:?}");
    assert!(error.render().contains("refused"), "{error:?}");
}

/// The tests' engine behind a TCP port, as a remote one is.
pub(crate) fn forwarded() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let socket = docker_host().strip_prefix("unix://").unwrap().to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (client, engine) = (client.unwrap(), UnixStream::connect(&socket).unwrap());
            pump(client.try_clone().unwrap(), engine.try_clone().unwrap(), |engine| {
                engine.shutdown(std::net::Shutdown::Write)
            });
            pump(engine, client, |client: &TcpStream| client.shutdown(std::net::Shutdown::Write));
        }
    });
    address
}

fn pump<R, W>(mut from: R, mut to: W, close: impl Fn(&W) -> std::io::Result<()> + Send + 'static)
where
    R: Read + Send + 'static,
    W: Write + Send + 'static,
{
    std::thread::spawn(move || {
        let _broken_off = std::io::copy(&mut from, &mut to);
        let _closed_already = close(&to);
    });
}

/// busybox with the host's ACL tools, and files that have ACLs.
pub(crate) fn tree_with_acls(folder: &Path) -> PathBuf {
    let tree = busybox_tree(folder);
    for tool in ["setfacl", "getfacl"] {
        let path = succeed(Command::new("sh").args(["-c", &format!("command -v {tool}")]));
        std::fs::copy(path.trim(), tree.join("usr").join(tool)).unwrap();
        for line in succeed(program("ldd").arg(path.trim())).lines() {
            let library = line.split_whitespace().find(|word| word.starts_with('/'));
            let Some(library) = library.map(Path::new) else { continue };
            let place = tree.join(library.strip_prefix("/").unwrap());
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            std::fs::copy(library, place).unwrap();
        }
    }
    std::fs::create_dir_all(tree.join("srv/pillar")).unwrap();
    std::fs::write(tree.join("srv/pillar/top.sls"), "a\n").unwrap();
    std::fs::write(tree.join("etc/resolv.conf"), "# the image's own\n").unwrap();
    succeed(program("setfacl").args(["-m", "u:1001:rw-,g::---,m::rw-"]).arg(tree.join("srv/pillar/top.sls")));
    // Below a default ACL everything has ACLs of its own: this archive has no guards (see the flattener's tests).
    for path in ["srv", "srv/pillar"] {
        succeed(program("setfacl").args(["-m", "u:3:r-x,d:g:2000:r-x"]).arg(tree.join(path)));
    }
    succeed(program("find").arg(&tree).args([
        "-exec",
        "touch",
        "-h",
        "-d",
        "2020-02-02 02:02:02.123456789",
        "{}",
        "+",
    ]));
    tree
}

/// A tree as getfacl and find(1) see it; `/` itself is the engine's.
pub(crate) fn seen(root: &Path) -> (String, String) {
    let acls = succeed(program("getfacl").args(["-R", "-n", "-p", "."]).current_dir(root));
    let mut acls: Vec<&str> = acls.split("\n\n").filter(|entry| !entry.starts_with("# file: .\n")).collect();
    acls.sort_unstable();
    let acls = acls.join("\n\n");
    let format = "%P %y %m %U %G %s %T@ %n %l\n";
    let mut lines: Vec<String> =
        succeed(program("find").args([".", "-mindepth", "1", "-printf", format]).current_dir(root))
            .lines()
            .map(str::to_owned)
            .collect();
    // A folder's size and its count of links are the file system's affair.
    lines.iter_mut().filter(|line| line.contains(" d ")).for_each(|line| {
        let mut words: Vec<&str> = line.split(' ').collect();
        words.drain(5..6);
        words.drain(6..7);
        *line = words.join(" ");
    });
    lines.sort();
    (acls, lines.join("\n"))
}

/// The lines that only one of two texts has.
pub(crate) fn differences(left: &str, right: &str) -> String {
    let only = |one: &str, other: &str, mark: &str| -> String {
        let other: std::collections::BTreeSet<&str> = other.lines().collect();
        one.lines().filter(|line| !other.contains(line)).map(|line| format!("{mark} {line}\n")).collect()
    };
    only(left, right, "-") + &only(right, left, "+")
}

fn refresh(image: &DockerImage, script: &str) -> RefreshSpec {
    RefreshSpec {
        image: EngineImage::Name(name_of(image)),
        script: Some(format!("#!/bin/sh\nset -e\n{script}\n").into_bytes()),
        command: Vec::new(),
        network: false,
        capabilities: Vec::new(),
        environment: [("GREETING".to_owned(), "hello".to_owned())].into(),
    }
}

pub(crate) fn containers(image: &DockerImage) -> String {
    docker(&["ps", "-aq", "--filter", &format!("ancestor={}", image.0)])
}

fn image_with_acls(folder: &Path, subject: &str) -> (DockerImage, PathBuf) {
    let tree = tree_with_acls(folder);
    let archive = archive(folder, &tree, "honest");
    upload(&engine(), &archive).unwrap();
    let name = DockerImage::unique(subject);
    engine().tag(&EngineImage::Id(archive.id), &name_of(&name)).unwrap();
    (name, tree)
}

#[test]
fn a_refresh_keeps_acls_and_shows_the_tree_without_the_engines_stubs() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let (name, tree) = image_with_acls(folder.path(), "refresh");
    // The same changes in the source tree, made on this host.
    let changes =
        "mkdir -p srv/new; /usr/setfacl -m u:1234:rwx,g:77:r-- srv/new; echo $GREETING > srv/new/file; rm -f tmp/x
        /usr/setfacl -m u:5:r-- etc/passwd; touch -d @1600000000 srv/new/file srv/new srv etc/passwd";
    let spec = refresh(&name, &format!("cd /; {changes}; echo done"));
    let after = engine()
        .refresh_tree(&spec, &Progress::silent(), |refreshed| {
            assert_eq!(refreshed.command.tail, ["done"]);
            assert!(refreshed.stubs.contains(&".dockerenv".to_owned()), "{:?}", refreshed.stubs);
            Ok(seen(&refreshed.root))
        })
        .unwrap();
    let by_hand = changes.replace("/usr/setfacl", "setfacl");
    succeed(Command::new("sh").args(["-c", &by_hand]).env("GREETING", "hello").current_dir(&tree));
    let expected = seen(&tree);
    assert_eq!(differences(&after.0, &expected.0), "", "ACLs");
    assert_eq!(differences(&after.1, &expected.1), "", "entries");
    assert_eq!(containers(&name), "");
}

#[test]
fn a_script_that_fails_says_so_and_leaves_no_container() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let (name, _) = image(folder.path(), "failing");
    let error = engine()
        .refresh_tree(&refresh(&name, "echo the reason >&2; exit 3"), &Progress::silent(), |_| Ok(()))
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert!(error.render().contains("exited with 3") && error.render().contains("the reason"), "{error:?}");
    let error = engine()
        .refresh_tree(&refresh(&name, "true"), &Progress::silent(), |_| {
            Err::<(), _>(Error::new(Kind::Conflict, "the reader's own reason"))
        })
        .unwrap_err();
    assert_eq!(error.message(), "the reader's own reason");
    assert_eq!(containers(&name), "");
}

#[test]
fn a_remote_engine_is_refused_before_the_script_runs() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let (name, id) = image(folder.path(), "remote");
    let remote = Docker::connect(&forwarded()).unwrap();
    assert!(!remote.is_local());
    assert_eq!(remote.inspect_image(&EngineImage::Name(name_of(&name))).unwrap().unwrap().id, id);
    let error = remote.refresh_tree(&refresh(&name, "true"), &Progress::silent(), |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported, "{error:?}");
    assert!(error.next_step().unwrap().contains("acls=False"), "{error:?}");
    assert_eq!(containers(&name), "");

    let spec = refresh(&name, "echo $GREETING > /greeting; rm /bin/vi");
    let (committed, report) = remote.refresh_commit(&spec, &Progress::silent()).unwrap();
    assert_eq!(report.exit, 0);
    let layers = |image: EngineImage| remote.inspect_image(&image).unwrap().unwrap().diff_ids;
    let (before, after) = (layers(EngineImage::Id(id)), layers(EngineImage::Id(committed)));
    assert_eq!((after.len(), &after[..1]), (2, before.as_slice()));
    let seen = "ls -a / | grep -c castoff; cat /greeting; test -e /bin/vi || echo gone";
    let seen = docker(&["run", "--rm", "--network=none", "--entrypoint=/bin/sh", &committed.to_string(), "-c", seen]);
    assert_eq!(seen, "0\nhello\ngone\n");
    assert_eq!(containers(&name), "");
    remote.remove(&EngineImage::Id(committed)).unwrap();
}

#[test]
fn containers_of_dead_runs_are_swept_and_those_of_living_ones_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let (name, _) = image(folder.path(), "sweep");
    let engine = engine();
    let own = engine
        .create(&ContainerSpec {
            image: EngineImage::Name(name_of(&name)),
            command: vec!["/bin/true".to_owned()],
            network: false,
            capabilities: Vec::new(),
            environment: Default::default(),
        })
        .unwrap();
    let label = docker(&["inspect", "--format", "{{index .Config.Labels \"dev.castoff.owner\"}}", own.id()]);
    let mut parts: Vec<String> = label.trim().split('/').map(str::to_owned).collect();
    assert_eq!(parts[3], std::process::id().to_string());
    parts[4] = "1".to_owned();
    let dead = format!("dev.castoff.owner={}", parts.join("/"));
    let dead = docker(&["create", "--label", &dead, &name.0, "/bin/true"]);
    let foreign = docker(&["create", "--label", "dev.castoff.owner=somebody", &name.0, "/bin/true"]);
    engine.sweep().unwrap();
    let left = docker(&["ps", "-aq", "--no-trunc"]);
    assert!(!left.contains(dead.trim()), "the dead run's container stayed");
    assert!(left.contains(foreign.trim()) && left.contains(own.id()));
    docker(&["rm", foreign.trim()]);
    own.remove().unwrap();
    assert_eq!(containers(&name), "");
}

/// What `a_killed_refresh_leaves_no_container` kills.
#[test]
fn a_refresh_to_be_killed() {
    let Ok(image) = std::env::var("CASTOFF_TEST_IMAGE_TO_BE_KILLED_WITH") else { return };
    let name = DockerImage(image);
    let spec = refresh(&name, "echo up; while true; do sleep 1; done");
    let _never = engine().refresh_tree(&spec, &Progress::silent(), |_| Ok(()));
}

#[test]
fn a_killed_refresh_leaves_no_container() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let (name, _) = image(folder.path(), "killed");
    let mut run = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "docker::a_refresh_to_be_killed", "--test-threads=1"])
        .env("CASTOFF_TEST_IMAGE_TO_BE_KILLED_WITH", &name.0)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let of_image = || docker(&["ps", "-q", "--filter", &format!("ancestor={}", name.0)]);
    wait_until("the container did not start", || !of_image().trim().is_empty());
    run.kill().unwrap();
    run.wait().unwrap();
    wait_until("the container outlived castoff", || of_image().trim().is_empty());
    engine().sweep().unwrap();
    assert_eq!(containers(&name), "");
    assert_eq!(docker_run(&name.0, &["/bin/echo", "fine"]).trim(), "fine");
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
