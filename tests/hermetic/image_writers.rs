//! What castoff writes, Python reads: names, digests, sizes, the same bytes every time.

use std::path::Path;

use castoff::error::{Kind, Result};
use castoff::oci::{
    ArchiveNames, ArchiveOptions, ArchiveWriter, Compression, HistoryEntry, ImageConfig, LayerSink, LayoutWriter,
    Platform, StreamWriter,
};

use crate::images::{expect_error, python};

/// Writes the layers and makes the configuration that lists them.
fn put(sink: &mut dyn LayerSink, layers: &[Vec<u8>]) -> Result<ImageConfig> {
    let mut diff_ids = Vec::new();
    for layer in layers {
        let written = sink.write_layer(layer.len() as u64, &mut |out| {
            // Pieces of odd sizes, as a merge writes them.
            layer.chunks(70_001).try_for_each(|piece| out.write_all(piece)).expect("written");
            Ok(())
        })?;
        diff_ids.push(written.diff_id);
    }
    let history = vec![HistoryEntry::new(None, "test", "")?; layers.len()];
    ImageConfig::default_for(&Platform::linux("amd64"), "2020-01-01T00:00:00Z", false)?.with_layers(&diff_ids, &history)
}

fn names(names: &[&str]) -> ArchiveNames {
    ArchiveNames { names: names.iter().map(|name| name.parse().unwrap()).collect(), reference: None }
}

fn archive(path: &Path, layers: &[Vec<u8>], compression: Compression) -> String {
    let mut writer = ArchiveWriter::create(path, ArchiveOptions { compression, mtime: 0 }).unwrap();
    let config = put(&mut writer, layers).unwrap();
    writer.finish(&config, &names(&["tool/one:1", "reg.example:5000/x:2"])).unwrap().to_string()
}

/// Layers that are no tars: nothing here looks inside. The second is met twice.
fn layers() -> Vec<Vec<u8>> {
    vec![vec![7; 300_000], b"small".to_vec(), b"small".to_vec(), Vec::new()]
}

#[test]
fn portable_archive_is_a_layout_and_a_docker_archive_over_the_same_blobs() {
    let folder = tempfile::tempdir().unwrap();
    for (file, compression) in [("bare", Compression::None), ("gzip", Compression::Gzip), ("zstd", Compression::Zstd)] {
        let id = archive(&folder.path().join(file), &layers(), compression);
        archive(&folder.path().join("again"), &layers(), compression);
        let said = python(
            folder.path(),
            &format!(
                r#"
data = open("{file}", "rb").read()
assert data == open("again", "rb").read(), "not the same bytes"
assert len(data) % 512 == 0
t = tarfile.open("{file}"); files = {{}}
for m in t.getmembers():
    assert m.isreg() and m.mtime == 0 and m.uid == 0 and m.mode == 0o644 and m.name not in files, m
    files[m.name] = t.extractfile(m).read()
for n, d in files.items():
    if n.startswith("blobs/"): assert n == "blobs/sha256/" + sha(d), n
assert json.loads(files["oci-layout"]) == {{"imageLayoutVersion": "1.0.0"}}
(saved,) = json.loads(files["manifest.json"])
assert saved["RepoTags"] == ["tool/one:1", "reg.example:5000/x:2"], saved
index = json.loads(files["index.json"])
a = [m["annotations"] for m in index["manifests"]]
assert a == [{{"io.containerd.image.name": "docker.io/tool/one:1", "org.opencontainers.image.ref.name": "1"}},
    {{"io.containerd.image.name": "reg.example:5000/x:2", "org.opencontainers.image.ref.name": "2"}}], a
assert len({{m["digest"] for m in index["manifests"]}}) == 1 and index["manifests"][0]["platform"]["architecture"] == "amd64"
def blob(d): b = files["blobs/sha256/" + d["digest"][7:]]; assert len(b) == d["size"]; return b
manifest = json.loads(blob(index["manifests"][0]))
conf = blob(manifest["config"])
assert saved["Config"] == "blobs/sha256/" + sha(conf) and "sha256:" + sha(conf) == "{id}"
assert saved["Layers"] == ["blobs/sha256/" + l["digest"][7:] for l in manifest["layers"]]
bare = {{"bare": lambda b: b, "gzip": gzip.decompress,
    "zstd": lambda b: subprocess.run(["zstd", "-dqc"], input=b, stdout=subprocess.PIPE, check=True).stdout}}["{file}"]
got = [bare(blob(l)) for l in manifest["layers"]]
assert got == [b"\7" * 300000, b"small", b"small", b""], [len(g) for g in got]
assert json.loads(conf)["rootfs"]["diff_ids"] == ["sha256:" + sha(g) for g in got]
print(len([n for n in files if n.startswith("blobs/")]), manifest["layers"][0]["mediaType"])
"#
            ),
        );
        let kind = compression.layer_media_type();
        assert_eq!(said, format!("5 {kind}\n"), "three layers that differ, configuration and manifest");
    }
}

#[test]
fn header_of_a_layer_beyond_the_octal_sizes_is_one_block_that_python_reads() {
    let folder = tempfile::tempdir().unwrap();
    let size: u64 = (8 << 30) + 1;
    let mut out = Vec::new();
    let stopped = StreamWriter::new(&mut out)
        .write_layer(size, &mut |_| Err(castoff::error::Error::new(Kind::Interrupted, "enough")));
    expect_error(stopped, Kind::Interrupted, &["enough"]);
    std::fs::write(folder.path().join("header"), &out).unwrap();
    let said = python(
        folder.path(),
        "i = tarfile.TarInfo.frombuf(open('header', 'rb').read(512), 'ascii', 'strict'); print(i.name, i.size)",
    );
    assert_eq!(said, format!("layer-1.tar {size}\n"));
    let total = StreamWriter::<Vec<u8>>::total_size(&[size], 10, &[]).unwrap();
    assert_eq!(total, 512 + size + 511 + 512 + 512 + 512 + 512 + 1024);
}

#[test]
fn failed_archive_leaves_the_old_one_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.tar");
    std::fs::write(&path, "old").unwrap();
    let mut writer = ArchiveWriter::create(&path, ArchiveOptions::default()).unwrap();
    let config = put(&mut writer, &[vec![1; 1000]]).unwrap();
    writer
        .write_layer(3, &mut |out| {
            out.write_all(b"abc").unwrap();
            Ok(())
        })
        .unwrap();
    expect_error(writer.finish(&config, &ArchiveNames::default()), Kind::Failed, &["lists layers"]);
    let mut writer = ArchiveWriter::create(&path, ArchiveOptions::default()).unwrap();
    let failing = writer.write_layer(3, &mut |_| Err(castoff::error::Error::new(Kind::Interrupted, "stop")));
    expect_error(failing, Kind::Interrupted, &["stop"]);
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn stream_has_the_promised_size_and_python_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let names = names(&["a:1"]).names;
    let mut writer = StreamWriter::new(Vec::new());
    let config = put(&mut writer, &layers()).unwrap();
    let sizes: Vec<u64> = layers().iter().map(|layer| layer.len() as u64).collect();
    let total = StreamWriter::<Vec<u8>>::total_size(&sizes, config.bytes().len() as u64, &names).unwrap();
    let (bytes, id) = writer.finish(&config, &names).unwrap();
    assert_eq!(bytes.len() as u64, total);
    assert_eq!(id, config.digest());
    std::fs::write(folder.path().join("stream"), bytes).unwrap();
    let said = python(
        folder.path(),
        r#"
t = tarfile.open("stream")
assert t.getnames()[-1] == "manifest.json"
(m,) = json.loads(t.extractfile("manifest.json").read())
c = t.extractfile(m["Config"]).read()
assert json.loads(c)["rootfs"]["diff_ids"] == ["sha256:" + sha(t.extractfile(l).read()) for l in m["Layers"]]
print(m["RepoTags"], len(m["Layers"]), "sha256:" + sha(c))
"#,
    );
    assert_eq!(said, format!("['a:1'] 4 {id}\n"));
}

#[test]
fn layout_keeps_other_images_and_replaces_the_tag() {
    let folder = tempfile::tempdir().unwrap();
    python(
        folder.path(),
        "l = Layout(); l.top += [l.image([L1], **tag('other')), l.image([L2], **tag('mine'))]\n\
         l.top[0]['x-own'] = [1]; l.directory('l')",
    );
    let path = folder.path().join("l");
    for content in ["first", "second"] {
        let mut writer = LayoutWriter::open(&path, Compression::Gzip).unwrap();
        let config = put(&mut writer, &[content.as_bytes().to_vec()]).unwrap();
        writer.finish(&config, Some("mine"), None).unwrap();
    }
    let said = python(
        folder.path(),
        r#"
i = json.load(open("l/index.json"))
assert i["manifests"][0]["x-own"] == [1]
print([m["annotations"]["org.opencontainers.image.ref.name"] for m in i["manifests"]])
m = json.load(open("l/blobs/sha256/" + i["manifests"][1]["digest"][7:]))
print(gzip.decompress(open("l/blobs/sha256/" + m["layers"][0]["digest"][7:], "rb").read()))
for n in os.listdir("l/blobs/sha256"): assert n == sha(open("l/blobs/sha256/" + n, "rb").read())
print(sorted(os.listdir("l")))
"#,
    );
    assert_eq!(said, "['other', 'mine']\nb'second'\n['blobs', 'index.json', 'oci-layout']\n");
    std::fs::create_dir(folder.path().join("home")).unwrap();
    std::fs::write(folder.path().join("home/letter"), "").unwrap();
    let home = LayoutWriter::open(&folder.path().join("home"), Compression::None);
    expect_error(home.map(drop), Kind::Conflict, &["not an OCI layout"]);
}
