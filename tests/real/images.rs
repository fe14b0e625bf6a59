//! Images that castoff writes are taken by every engine and tool, and what those write is read: same IDs, same layers.

use std::path::Path;
use std::process::{Child, Command};

use castoff::oci::{
    ArchiveNames, ArchiveOptions, ArchiveWriter, Compression, HistoryEntry, ImageConfig, ImageSource, LayerSink,
    LayoutWriter, Platform, SpoolLimits, StreamWriter, open_docker_archive, open_layer, open_layout, open_oci_archive,
    scan_verified,
};
use castoff::progress::Progress;
use castoff::store::Store;
use castoff::vocab::{DiffId, EngineImage, ImageName};

use crate::harness::{DockerImage, docker, docker_host, program, require_root, succeed};

/// Two layers, as GNU tar writes them.
fn layers(folder: &Path) -> Vec<Vec<u8>> {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("etc")).unwrap();
    ["lower", "upper"]
        .map(|content| {
            std::fs::write(tree.join("etc/name"), content.repeat(100_000)).unwrap();
            let file = folder.join("layer.tar");
            succeed(
                program("tar").arg("-C").arg(&tree).arg("--owner=0").arg("--group=0").arg("-cf").arg(&file).arg("etc"),
            );
            std::fs::read(file).unwrap()
        })
        .to_vec()
}

fn put(sink: &mut dyn LayerSink, layers: &[Vec<u8>]) -> ImageConfig {
    let diff_ids: Vec<DiffId> = layers
        .iter()
        .map(|layer| {
            sink.write_layer(layer.len() as u64, &mut |out| {
                out.write_all(layer).unwrap();
                Ok(())
            })
            .unwrap()
            .diff_id
        })
        .collect();
    let history = vec![HistoryEntry::new(None, "castoff", "").unwrap(); layers.len()];
    ImageConfig::default_for(&Platform::host(), "2020-01-01T00:00:00Z", true)
        .unwrap()
        .with_layers(&diff_ids, &history)
        .unwrap()
}

fn archive(path: &Path, layers: &[Vec<u8>], compression: Compression, name: &str) -> ImageConfig {
    let mut writer = ArchiveWriter::create(path, ArchiveOptions { compression, mtime: 0 }).unwrap();
    let config = put(&mut writer, layers);
    writer.finish(&config, &ArchiveNames { names: vec![name.parse().unwrap()], reference: None }).unwrap();
    config
}

/// The image's bare layers, verified.
fn read(image: &ImageSource, scratch: &Path) -> Vec<Vec<u8>> {
    let open = |layer| open_layer(layer, scratch, &SpoolLimits::default(), &Progress::silent()).unwrap();
    image
        .layers
        .iter()
        .map(|layer| {
            let mut bytes = Vec::new();
            scan_verified(&open(layer), |reader| {
                std::io::Read::read_to_end(reader, &mut bytes).unwrap();
                Ok(())
            })
            .unwrap();
            bytes
        })
        .collect()
}

fn read_archive(path: &Path) -> ImageSource {
    let scratch = path.parent().unwrap();
    open_docker_archive(path, None, scratch, &SpoolLimits::default(), &Progress::silent()).unwrap()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

const ALL: [Compression; 3] = [Compression::None, Compression::Gzip, Compression::Zstd];

#[test]
fn docker_loads_the_portable_archive_and_saves_what_castoff_reads() {
    let folder = tempfile::tempdir().unwrap();
    let layers = layers(folder.path());
    // Docker Engine 20.10 takes a zstd layer for a damaged tar, whoever compressed it.
    for compression in [Compression::None, Compression::Gzip] {
        let image = DockerImage::unique("oci-load");
        let path = folder.path().join("out.tar");
        let config = archive(&path, &layers, compression, &image.0);
        let said = docker(&["load", "-i", path.to_str().unwrap()]);
        assert_eq!(said, format!("Loaded image: {}\n", image.0));
        let there = &json(&docker(&["inspect", &image.0]))[0];
        assert_eq!(there["Id"], config.digest().to_string());
        assert_eq!(there["RootFS"]["Layers"], serde_json::to_value(config.diff_ids()).unwrap());
        assert_eq!(there["Config"]["Cmd"], serde_json::json!(["/sbin/init"]));
        let saved = folder.path().join("saved.tar");
        docker(&["save", "-o", saved.to_str().unwrap(), &image.0]);
        let back = read_archive(&saved);
        assert_eq!(back.config.bytes(), config.bytes(), "the configuration came back byte for byte");
        assert_eq!(back.names, [image.0.parse::<ImageName>().unwrap()]);
        assert_eq!(read(&back, folder.path()), layers);
    }
}

#[test]
fn docker_loads_the_stream() {
    let folder = tempfile::tempdir().unwrap();
    let layers = layers(folder.path());
    let image = DockerImage::unique("oci-stream");
    let mut writer = StreamWriter::new(Vec::new());
    let config = put(&mut writer, &layers);
    let (bytes, id) = writer.finish(&config, &[image.0.parse().unwrap()]).unwrap();
    let path = folder.path().join("stream.tar");
    std::fs::write(&path, bytes).unwrap();
    docker(&["load", "-i", path.to_str().unwrap()]);
    assert_eq!(json(&docker(&["inspect", &image.0]))[0]["Id"], id.to_string());
}

#[test]
fn docker_saves_two_images_with_a_layer_in_common() {
    let folder = tempfile::tempdir().unwrap();
    let layers = layers(folder.path());
    let images = [DockerImage::unique("oci-two-a"), DockerImage::unique("oci-two-b")];
    for (image, layers) in images.iter().zip([&layers[..1], &layers[..]]) {
        let path = folder.path().join("in.tar");
        archive(&path, layers, Compression::None, &image.0);
        docker(&["load", "-i", path.to_str().unwrap()]);
    }
    let saved = folder.path().join("saved.tar");
    docker(&["save", "-o", saved.to_str().unwrap(), &images[0].0, &images[1].0]);
    for (image, count) in images.iter().zip([1, 2]) {
        let name: ImageName = image.0.parse().unwrap();
        let scratch = folder.path();
        let found = open_docker_archive(&saved, Some(&name), scratch, &SpoolLimits::default(), &Progress::silent());
        assert_eq!(read(&found.unwrap(), scratch), layers[..count]);
    }
}

#[test]
fn podman_loads_the_portable_archive_and_saves_what_castoff_reads() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let layers = layers(folder.path());
    let podman = |arguments: &[&str]| {
        let mut command = program("podman");
        command.arg("--root").arg(folder.path().join("podman")).arg("--runroot").arg(folder.path().join("run"));
        succeed(command.args(["--storage-driver=vfs"]).args(arguments))
    };
    for compression in ALL {
        let path = folder.path().join("out.tar");
        let config = archive(&path, &layers, compression, "registry.example/castoff/podman:1");
        let said = podman(&["load", "-i", path.to_str().unwrap()]);
        assert!(said.contains("registry.example/castoff/podman:1"), "{said}");
        let there = &json(&podman(&["image", "inspect", "registry.example/castoff/podman:1"]))[0];
        assert_eq!(there["RootFS"]["Layers"], serde_json::to_value(config.diff_ids()).unwrap());
        assert_eq!(there["Id"], config.digest().hex());
        if compression != Compression::Zstd {
            // It refuses to write zstd layers, which it has stored, in Docker's form.
            let saved = folder.path().join("saved.tar");
            podman(&["save", "-o", saved.to_str().unwrap(), "registry.example/castoff/podman:1"]);
            assert_eq!(read(&read_archive(&saved), folder.path()), layers);
            std::fs::remove_file(saved).unwrap();
        }
        let saved = folder.path().join("saved-oci.tar");
        podman(&["save", "--format=oci-archive", "-o", saved.to_str().unwrap(), "registry.example/castoff/podman:1"]);
        let back = open_oci_archive(&saved, None, folder.path(), &SpoolLimits::default(), &Progress::silent()).unwrap();
        assert_eq!(read(&back, folder.path()), layers);
        podman(&["rmi", "-af"]);
        std::fs::remove_file(saved).unwrap();
    }
}

/// A containerd of the test's own, gone with this value.
struct Containerd(Child);

impl Drop for Containerd {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _waited = self.0.wait();
    }
}

#[test]
fn containerd_imports_the_portable_archive_and_exports_what_castoff_reads() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(
        at("config.toml"),
        "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.internal.v1.opt\"]\n",
    )
    .unwrap();
    let mut command = program("containerd");
    command.args(["--config", &at("config.toml"), "--root", &at("root"), "--state", &at("state"), "-a", &at("sock")]);
    let log = std::fs::File::create(at("log")).unwrap();
    let _containerd = Containerd(command.stderr(log).spawn().unwrap());
    let ctr = |arguments: &[&str]| {
        let mut command = program("ctr");
        command.args(["--address", &at("sock"), "--namespace", "castoff"]).args(arguments);
        command
    };
    let up = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        ctr(&["version"]).output().unwrap().status.success()
    });
    assert!(up, "{}", std::fs::read_to_string(at("log")).unwrap());
    let layers = layers(folder.path());
    for compression in ALL {
        let config = archive(&folder.path().join("out.tar"), &layers, compression, "castoff/ctr:1");
        let said = succeed(&mut ctr(&["images", "import", "--snapshotter=native", &at("out.tar")]));
        assert!(said.contains("docker.io/castoff/ctr:1"), "{said}");
        assert!(succeed(&mut ctr(&["content", "ls", "-q"])).contains(&config.digest().to_string()));
        succeed(&mut ctr(&["images", "export", &at("back.tar"), "docker.io/castoff/ctr:1"]));
        let back = folder.path().join("back.tar");
        let back = open_oci_archive(&back, None, folder.path(), &SpoolLimits::default(), &Progress::silent()).unwrap();
        assert_eq!(read(&back, folder.path()), layers);
        succeed(&mut ctr(&["images", "rm", "--sync", "docker.io/castoff/ctr:1"]));
    }
}

fn skopeo(arguments: &[&str]) -> String {
    succeed(program("skopeo").arg("--insecure-policy").args(arguments))
}

#[test]
fn skopeo_reads_archives_and_layouts_and_writes_what_castoff_reads() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let layers = layers(folder.path());
    for compression in ALL {
        let config = archive(&folder.path().join("out.tar"), &layers, compression, "castoff/skopeo:7");
        let mut writer = LayoutWriter::open(&folder.path().join("layout"), compression).unwrap();
        let same = put(&mut writer, &layers);
        writer.finish(&same, Some("seven"), None).unwrap();
        for from in [
            format!("docker-archive:{}", at("out.tar")),
            format!("docker-archive:{}:castoff/skopeo:7", at("out.tar")),
            format!("oci-archive:{}", at("out.tar")),
            format!("oci-archive:{}:7", at("out.tar")),
            format!("oci:{}:seven", at("layout")),
        ] {
            let raw = skopeo(&["inspect", "--config", "--raw", &from]);
            assert_eq!(raw.trim_end(), std::str::from_utf8(config.bytes()).unwrap(), "{from}");
            skopeo(&["copy", &from, &format!("oci:{}:x", at("copied"))]);
            let back = open_layout(&folder.path().join("copied"), Some("x")).unwrap();
            assert_eq!(read(&back, folder.path()), layers, "{from}");
            std::fs::remove_dir_all(at("copied")).unwrap();
        }
        if compression == Compression::Zstd {
            continue; // skopeo refuses to convert zstd layers to Docker's forms
        }
        skopeo(&[
            "copy",
            &format!("oci:{}:seven", at("layout")),
            &format!("docker-archive:{}:a/b:1", at("copied.tar")),
        ]);
        assert_eq!(read(&read_archive(&folder.path().join("copied.tar")), folder.path()), layers);
        std::fs::remove_file(at("copied.tar")).unwrap();
        skopeo(&["copy", "--format=v2s2", &format!("oci:{}:seven", at("layout")), &format!("dir:{}", at("dir"))]);
        skopeo(&["copy", &format!("dir:{}", at("dir")), &format!("oci-archive:{}:t", at("again.tar"))]);
        let again = folder.path().join("again.tar");
        let back = open_oci_archive(&again, Some("t"), folder.path(), &SpoolLimits::default(), &Progress::silent());
        assert_eq!(read(&back.unwrap(), folder.path()), layers);
    }
}

#[test]
fn store_is_a_layout_that_skopeo_and_umoci_read_and_write() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let layers = layers(folder.path());
    let store = Store::open(&folder.path().join("store")).unwrap();
    let name: ImageName = "registry.example:5000/makina-states/ubuntu:v1.2_x".parse().unwrap();
    let mut writer = store.image_writer(Compression::None).unwrap();
    let config = put(&mut writer, &layers);
    writer.finish(&config, std::slice::from_ref(&name)).unwrap();
    let raw = skopeo(&["inspect", "--config", "--raw", &format!("oci:{}:{name}", at("store"))]);
    assert_eq!(raw.trim_end(), std::str::from_utf8(config.bytes()).unwrap());
    let umoci = |arguments: &[&str]| succeed(program("umoci").args(arguments));
    assert_eq!(umoci(&["list", "--layout", &at("store")]), format!("{name}\n"));
    umoci(&["unpack", "--image", &format!("{}:{name}", at("store")), &at("bundle")]);
    assert_eq!(std::fs::read_to_string(at("bundle/rootfs/etc/name")).unwrap(), "upper".repeat(100_000));
    // What others put into the store is found, and their clearing keeps ours.
    skopeo(&["copy", &format!("oci:{}:{name}", at("store")), &format!("oci:{}:theirs:1", at("store"))]);
    umoci(&["gc", "--layout", &at("store")]);
    for image in [EngineImage::Name(name), EngineImage::Name("theirs:1".parse().unwrap())] {
        let found = store.lookup(&image).unwrap().unwrap();
        assert_eq!(read(&found, folder.path()), layers, "{image}");
    }
    store.gc(None, 0, false).unwrap();
    assert_eq!(store.verify(1 << 30, &Progress::silent()).unwrap().mismatches, []);
}

#[test]
fn changes_give_what_docker_import_gives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("layer.tar");
    std::fs::write(&path, &layers(folder.path())[0]).unwrap();
    let cases: &[&[&str]] = &[
        &[r#"CMD ["a","b c"]"#],
        &["CMD echo $X 'y' \"z\""],
        &["CMD [ -f /x ] && y"],
        &["cmd first", r#"ENTRYPOINT ["/init", "x"]"#, "ENTRYPOINT second"],
        &["ENV A=1 B=\"two words\" C=th\\ ree A=2", "ENV D=${A}x E=$B F='$A' G=\\$A H=${N:-d$A} I=${A:+set} J=\"$A\""],
        &["ENV A b  'c' \"d\"", "ENV B=a\\b C=\"a\\b\\\"c\" D='a\\b' E=a=b F=", "ENV PATH=/x:$PATH"],
        &["EXPOSE 80 53/udp 8000-8002/tcp", "EXPOSE 80/tcp"],
        &["LABEL a=b \"c d\"=\"e f\" g='h i'", "LABEL old style value"],
        &["USER 1:2", "WORKDIR /a", "WORKDIR b/../c/.", "WORKDIR d"],
        &["VOLUME /a /b", r#"VOLUME ["/c d", "/e"]"#],
        &["ONBUILD RUN x y", "ONBUILD COPY a b"],
        &["HEALTHCHECK --interval=1m30s --timeout=1.5s --retries=3 CMD curl -f x || exit 1"],
        &[r#"HEALTHCHECK --start-period=10s CMD ["a","b"]"#],
        &["HEALTHCHECK NONE"],
    ];
    let empty = ImageConfig::parse(br#"{"rootfs":{"type":"layers"},"config":{}}"#).unwrap();
    for changes in cases {
        let image = DockerImage::unique("oci-import");
        let mut arguments = vec!["import"];
        for change in *changes {
            arguments.extend(["--change", change]);
        }
        docker(&[&arguments[..], &[path.to_str().unwrap(), &image.0]].concat());
        let wanted = said(&json(&docker(&["inspect", &image.0]))[0]["Config"]);
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        let config = empty.with_changes(&changes).unwrap();
        assert_eq!(said(&json(config.member("config").unwrap())), wanted, "{changes:?}");
    }
    assert!(docker_host().starts_with("unix://"));
}

/// The members that say anything: an engine lists every member it knows.
fn said(config: &serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    let nothing = |value: &serde_json::Value| {
        value.is_null() || value == "" || value == false || value.as_array().is_some_and(Vec::is_empty)
    };
    let mut said: Vec<_> =
        config.as_object().unwrap().clone().into_iter().filter(|(_, value)| !nothing(value)).collect();
    said.sort_by(|left, right| left.0.cmp(&right.0));
    said.into_iter().collect()
}

#[test]
fn every_tool_is_there() {
    for (tool, argument) in
        [("skopeo", "--version"), ("umoci", "--version"), ("podman", "--version"), ("ctr", "--version")]
    {
        succeed(Command::new(program(tool).get_program()).arg(argument));
    }
}
