//! Images packed, listed, removed and collected through the binary; judged by Python, skopeo and the docker client.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Castoff, DockerImage, program, require_root, succeed};
use crate::sandbox::busybox_tree;

/// Writes an archive of `docker save`'s form, its configuration as the text that is given but for `DIFF_IDS`.
const ARCHIVE: &str = r#"
import hashlib, io, json, sys, tarfile
out, config, layers = sys.argv[1], sys.argv[2], sys.argv[3:]
blobs = [open(layer, "rb").read() for layer in layers]
ids = ["sha256:" + hashlib.sha256(blob).hexdigest() for blob in blobs]
config = config.replace("DIFF_IDS", json.dumps(ids)).encode()
with tarfile.open(out, "w") as tar:
    def add(name, data):
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    for number, blob in enumerate(blobs):
        add(f"{number}.tar", blob)
    add("config.json", config)
    names = [f"{number}.tar" for number in range(len(blobs))]
    add("manifest.json", json.dumps([{"Config": "config.json", "RepoTags": ["in/in:1"], "Layers": names}]).encode())
"#;

/// The configuration's text in an archive, found by its manifest.
const CONFIG: &str = r#"
import json, sys, tarfile
tar = tarfile.open(sys.argv[1])
manifest = json.load(tar.extractfile("manifest.json"))[0]
sys.stdout.write(tar.extractfile(manifest["Config"]).read().decode())
"#;

/// Members a program that re-encodes JSON would change: order, spaces, numbers, escapes, unknown keys.
const MEMBERS: [&str; 7] = [
    r#""zzz.unknown":{"b":1,  "a":1.50, "c":"\u00fc\/"}"#,
    r#""created":"2019-05-06T07:08:09.123456789Z""#,
    r#""architecture":"arm64""#,
    r#""variant":"v8""#,
    r#""os":"linux""#,
    r#""config":{"Labels":{"z":"1","a":"2"},"Healthcheck":{"Test":["CMD","x"],"Interval":30000000000},"OnBuild":["RUN a"],"Shell":["/bin/bash","-c"],"Cmd":["a b"], "ArgsEscaped":true,"Env":[]}"#,
    r#""container_config":{}"#,
];

fn layer(folder: &Path, name: &str, tree: &Path) -> PathBuf {
    let file = folder.join(name);
    let mut tar = program("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--numeric-owner", "--sort=name", "--mtime=@1500000000", "-C"])
        .arg(tree);
    succeed(tar.arg("-cf").arg(&file).arg("."));
    file
}

fn archive(folder: &Path, name: &str, layers: &[&Path]) -> PathBuf {
    let history = vec![r#"{"created_by":"x"}"#; layers.len()].join(",");
    let config = format!(
        "{{{}, \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":DIFF_IDS}},\"history\":[{history}]}}",
        MEMBERS.join(",\n ")
    );
    let file = folder.join(name);
    succeed(program("python3").args(["-c", ARCHIVE]).arg(&file).arg(config).args(layers));
    file
}

/// Two layers: busybox, then a change, a deletion and an ACL.
fn two_layers(folder: &Path) -> (PathBuf, PathBuf) {
    let lower = busybox_tree(folder);
    let upper = folder.join("upper");
    std::fs::create_dir_all(upper.join("etc")).unwrap();
    std::fs::write(upper.join("etc/new"), "new").unwrap();
    std::fs::write(upper.join(".wh.tmp"), "").unwrap();
    succeed(program("setfacl").args(["-m", "u:1001:rw-"]).arg(upper.join("etc/new")));
    (layer(folder, "lower.tar", &lower), layer(folder, "upper.tar", &upper))
}

#[test]
fn pack_needs_no_engine_and_keeps_the_configuration_byte_for_byte() {
    let castoff = Castoff::new().with("DOCKER_HOST", "unix:///nonexistent/engine.sock");
    let (lower, upper) = two_layers(castoff.scratch());
    archive(castoff.scratch(), "in.tar", &[&lower, &upper]);
    let said = castoff.call(&[
        "mc_cloud_images.pack_docker",
        "docker-archive:in.tar",
        "destination_image=docker-archive:out.tar",
    ]);
    assert_eq!((&said["whiteouts"]["files"], &said["acls"]["access"]), (&1.into(), &1.into()), "{said}");
    assert_eq!(said["tag"], "in/in:1", "the source's names are kept: {said}");
    let config = succeed(program("python3").args(["-c", CONFIG]).arg(castoff.scratch().join("out.tar")));
    for member in MEMBERS {
        assert!(config.contains(member), "{member} is not in {config}");
    }
    let parsed: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(
        (parsed["rootfs"]["diff_ids"].as_array().unwrap().len(), parsed["history"].as_array().unwrap().len()),
        (1, 1)
    );

    castoff.call(&[
        "mc_cloud_images.pack_docker",
        "docker-archive:in.tar",
        "destination_image=docker-archive:again.tar:x/y:2",
    ]);
    let layers = |file: &str| {
        succeed(
            program("skopeo")
                .args(["inspect", "--format", "{{.Layers}}"])
                .arg(format!("docker-archive:{file}"))
                .current_dir(castoff.scratch()),
        )
    };
    assert_eq!(layers("out.tar"), layers("again.tar"));
    // In place: the file is replaced, and then is its own pack.
    castoff.call(&["mc_cloud_images.pack_docker", "docker-archive:in.tar"]);
    assert_eq!(
        std::fs::read(castoff.scratch().join("in.tar")).unwrap(),
        std::fs::read(castoff.scratch().join("out.tar")).unwrap()
    );
    let text =
        castoff.fail(["call", "mc_cloud_images.pack_docker", "docker-archive:in.tar", "tmpdir=/nonexistent/tmp"], 1);
    assert!(text.contains("`/nonexistent/tmp` is not a folder"), "{text}");
    let text = castoff.fail(["call", "mc_cloud_images.pack_docker", "docker-daemon:a:1"], 1);
    assert!(text.contains("/nonexistent/engine.sock"), "{text}");
}

#[test]
fn a_kept_base_stays_layer_for_layer() {
    require_root();
    let castoff = Castoff::new();
    let (lower, upper) = two_layers(castoff.scratch());
    let third = castoff.scratch().join("third");
    std::fs::create_dir_all(third.join("etc")).unwrap();
    std::fs::write(third.join("etc/.wh.passwd"), "").unwrap();
    let third = layer(castoff.scratch(), "third.tar", &third);
    archive(castoff.scratch(), "base.tar", &[&lower]);
    archive(castoff.scratch(), "all.tar", &[&lower, &upper, &third]);
    let image = DockerImage::unique("functions-base");
    let target = format!("destination_image=docker-daemon:{}", image.0);
    let said = castoff.call(&[
        "mc_cloud_images.pack_docker",
        "docker-archive:all.tar",
        &target,
        "keep_base=docker-archive:base.tar",
    ]);
    let base = castoff.call(&["image.inspect", "docker-archive:base.tar"]);
    assert_eq!(
        (said["layers"].as_array().unwrap().len(), &said["layers"][0]),
        (2, &base["layers"][0]["diff_id"]),
        "{said}"
    );
    let container = crate::functions::Waiting::of(&image.0);
    let acls = succeed(program("getfacl").args(["-n", "-p", "etc/new"]).current_dir(&container.root));
    assert!(acls.contains("user:1001:rw-"), "{acls}");
    let there = |path: &str| container.root.join(path).exists();
    assert_eq!(["etc/passwd", "tmp", "bin/busybox"].map(there), [false, false, true]);
    drop(container);
    for wrong in ["keep_base=docker-archive:all.tar", "layers=2"] {
        castoff.fail(
            ["call", "image.pack", "docker-archive:all.tar", "a:1", "keep_base=docker-archive:base.tar", wrong],
            1,
        );
    }
}

#[test]
fn the_image_that_loses_its_name_is_kept_or_removed_as_asked() {
    require_root();
    let castoff = Castoff::new();
    let tree = busybox_tree(castoff.scratch());
    let image = DockerImage::unique("functions-old");
    let dir = format!("dir:{}", tree.display());
    for place in [format!("store:{}", image.0), format!("docker-daemon:{}", image.0)] {
        let kept = if place.starts_with("store:") {
            "kept until image.gc"
        } else {
            "kept; image.remove with this ID removes it"
        };
        let first = castoff.call(&["image.pack", &dir, &place]);
        assert!(first.get("previous").is_none(), "{first}");
        let second = castoff.call(&["image.pack", &place, "changes=['ENV A=1']"]);
        assert_eq!((&second["previous"]["id"], &second["previous"]["state"]), (&first["image_id"], &kept.into()));
        let third = castoff.call(&["image.pack", &place, "changes=['ENV A=2']", "keep_old=False"]);
        assert_eq!((&third["previous"]["id"], &third["previous"]["state"]), (&second["image_id"], &"removed".into()));
        let same = castoff.call(&["image.pack", &place, "keep_old=False"]);
        assert_eq!((&same["image_id"], &same["previous"]["state"]), (&third["image_id"], &"same image".into()));
        let engine = if place.starts_with("store") { "store" } else { "docker-daemon" };
        let listed = castoff.call(&["image.list", &format!("engine={engine}")]).to_string();
        for (id, there) in [(&first, true), (&second, false), (&third, true)] {
            assert_eq!(listed.contains(id["image_id"].as_str().unwrap()), there, "{place}: {listed}");
        }
        if engine == "docker-daemon" {
            castoff.call(&["image.remove", &format!("docker-daemon:{}", first["image_id"].as_str().unwrap())]);
        }
    }
}

#[test]
fn images_are_listed_removed_and_collected() {
    let castoff = Castoff::new();
    let tree = busybox_tree(castoff.scratch());
    let dir = format!("dir:{}", tree.display());
    let mut ids = Vec::new();
    for number in 0..4 {
        std::fs::write(tree.join("etc/number"), vec![b'0' + number; 100_000]).unwrap();
        ids.push(castoff.call(&["image.pack", &dir, "a:1"])["image_id"].as_str().unwrap().to_owned());
    }
    castoff.call(&["image.copy", "a:1", "store:b:1"]);
    let listed = castoff.call(&["image.list", "engine=store"]);
    assert_eq!(listed["store"].as_array().unwrap().len(), 4, "{listed}");
    let named = listed["store"].as_array().unwrap().iter().find(|image| image["id"] == ids[3].as_str()).unwrap();
    assert_eq!(named["names"].as_array().unwrap().len(), 2, "{named}");
    let said = castoff.call(&["image.remove", "a:1"]);
    assert_eq!(said["state"], "still there as b:1", "{said}");

    let size = || succeed(program("du").args(["-sb"]).arg(castoff.state().join("store/blobs")));
    let before = size();
    let planned = castoff.call(&["image.gc", "keep=1", "test=True"]);
    assert_eq!(size(), before);
    let done = castoff.call(&["image.gc", "keep=1"]);
    assert_eq!(
        (&planned["images_to_remove"], &planned["bytes"]),
        (&done["removed_images"], &done["bytes"]),
        "{planned}"
    );
    assert_eq!(done["kept_untagged"], serde_json::json!([ids[2]]), "the newest stays: {done}");
    let freed = |text: &str| text.split_whitespace().next().unwrap().parse::<u64>().unwrap();
    assert_eq!(freed(&before) - freed(&size()), done["bytes"].as_u64().unwrap());
    let done = castoff.call(&["image.gc", "keep=5", "max_size=1KiB"]);
    assert_eq!(done["removed_images"], serde_json::json!([ids[2]]), "{done}");
    let left = castoff.call(&["image.list", "engine=store"]);
    assert_eq!(left["store"].as_array().unwrap().len(), 1, "a named image is never collected: {left}");
    let layout = format!("oci:{}:b:1", castoff.state().join("store").display());
    succeed(program("skopeo").args(["inspect", &layout]));
    assert_eq!(castoff.call(&["image.remove", &ids[3]])["result"], true);
    assert_eq!(castoff.call(&["image.list", "engine=store"])["store"], Value::Array(Vec::new()));
    castoff.fail(["call", "image.gc", "max_size=lots"], 1);
    castoff.fail(["call", "image.list", "engine=podman"], 1);
}
