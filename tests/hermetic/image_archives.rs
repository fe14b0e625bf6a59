//! Archives and layouts that others write are read in place; hostile ones are refused, and nothing outside is opened.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use castoff::error::{Kind, Result};
use castoff::oci::{
    Compression, ImageSource, SpoolLimits, open_docker_archive, open_layer, open_layout, open_oci_archive,
};
use castoff::progress::Progress;

use crate::images::{bare_layers, expect_error, python};

const LIMITS: SpoolLimits = SpoolLimits { unfolded: 1 << 30, free_floor: 0 };

fn docker(folder: &Path, file: &str, name: Option<&str>) -> Result<ImageSource> {
    let name = name.map(|name| name.parse().unwrap());
    open_docker_archive(&folder.join(file), name.as_ref(), folder, &LIMITS, &Progress::silent())
}

fn oci(folder: &Path, file: &str, tag: Option<&str>) -> Result<ImageSource> {
    open_oci_archive(&folder.join(file), tag, folder, &LIMITS, &Progress::silent())
}

/// Layers as hex digests of their bare bytes, the way the scripts print them.
fn digests(image: &ImageSource, scratch: &Path) -> String {
    let layers = bare_layers(image, scratch).unwrap();
    layers.iter().map(|layer| castoff::vocab::Digest::of(layer).hex() + "\n").collect()
}

/// `docker save` of Docker 24 and before: a folder a layer, a layer met twice as a symbolic link.
const SAVE_24: &str = r#"
c = config([L1, L2, L1])
m = [{"Config": sha(c) + ".json", "RepoTags": ["one:1", "registry.example:5000/two:2"],
      "Layers": ["aa/layer.tar", "bb/layer.tar", "cc/layer.tar"]}]
files = {"aa/VERSION": b"1.0", "aa/json": b"{}", "aa/layer.tar": L1, "bb/layer.tar": L2, "cc/layer.tar": "../aa/layer.tar",
         sha(c) + ".json": c, "repositories": b"{}"}
"#;

#[test]
fn archive_of_docker_24_is_read_with_layers_that_are_links() {
    let folder = tempfile::tempdir().unwrap();
    for order in ["{'manifest.json': j, **files}", "{**files, 'manifest.json': j}"] {
        let wanted = python(
            folder.path(),
            &format!(
                "{SAVE_24}\nj = json.dumps(m).encode()\nwrite('in.tar', tar({order}))\nfor l in (L1, L2, L1): print(sha(l))"
            ),
        );
        let image = docker(folder.path(), "in.tar", None).unwrap();
        assert_eq!(digests(&image, folder.path()), wanted);
        let names: Vec<String> = image.names.iter().map(ToString::to_string).collect();
        assert_eq!(names, ["one:1", "registry.example:5000/two:2"]);
        assert_eq!(image.platform.to_string(), "linux/amd64");
    }
}

#[test]
fn archives_of_docker_25_crane_and_with_compressed_layers_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let common = "c = config([L1, L2])\n";
    let forms = [
        "p = 'blobs/sha256/'\nm = [{'Config': p + sha(c), 'RepoTags': None, 'Layers': [p + sha(L1), p + sha(L2)], 'LayerSources': {}}]\n\
         f = {p + sha(c): c, p + sha(L1): L1, p + sha(L2): L2}",
        "z = gzip.compress(L1)\nm = [{'Config': 'sha256:' + sha(c), 'RepoTags': [], 'Layers': [sha(z) + '.tar.gz', './two']}]\n\
         f = {'sha256:' + sha(c): c, sha(z) + '.tar.gz': z, 'two': zstd(L2)}",
        "m = [{'Config': 'c.json', 'Layers': ['/l1', 'x//l2']}]\nf = {'./l1': L1, './x/l2': L2, './c.json': c}",
    ];
    for form in forms {
        let wanted = python(
            folder.path(),
            &format!(
                "{common}{form}\nf['manifest.json'] = json.dumps(m).encode()\nwrite('in.tar', tar(f))\nprint(sha(L1)); print(sha(L2))"
            ),
        );
        let image = docker(folder.path(), "in.tar", None).unwrap();
        assert_eq!(digests(&image, folder.path()), wanted, "{form}");
        assert!(image.names.is_empty());
    }
}

#[test]
fn compressed_archives_are_unfolded_first() {
    let folder = tempfile::tempdir().unwrap();
    let wanted = python(
        folder.path(),
        &format!(
            "{SAVE_24}\nfiles['manifest.json'] = json.dumps(m).encode()\nt = tar(files)\n\
             write('in.tar.gz', gzip.compress(t[:5000]) + gzip.compress(t[5000:]))\nwrite('in.tar.zst', zstd(t))\n\
             import lzma\nwrite('in.tar.xz', lzma.compress(t))\nfor l in (L1, L2, L1): print(sha(l))"
        ),
    );
    for file in ["in.tar.gz", "in.tar.zst"] {
        assert_eq!(digests(&docker(folder.path(), file, None).unwrap(), folder.path()), wanted, "{file}");
    }
    expect_error(docker(folder.path(), "in.tar.xz", None), Kind::Unsupported, &["in.tar.xz", "xz -d"]);
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn archive_from_a_pipe_is_spooled() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "{SAVE_24}\nfiles['manifest.json'] = json.dumps(m).encode()\nos.mkfifo('pipe')\nfor l in (L1, L2, L1): print(sha(l))\n\
         if not os.fork(): sys.stdout.flush(); os.close(1); os.close(2); write('pipe', gzip.compress(tar(files))); os._exit(0)"
    );
    let wanted = python(folder.path(), &script);
    assert_eq!(digests(&docker(folder.path(), "pipe", None).unwrap(), folder.path()), wanted);
}

#[test]
fn archive_with_several_images_wants_a_name_and_lists_them() {
    let folder = tempfile::tempdir().unwrap();
    python(
        folder.path(),
        r#"
a, b = config([L1]), config([L2])
m = [{"Config": "a", "RepoTags": ["a:1", "a:latest"], "Layers": ["l1"]}, {"Config": "b", "RepoTags": ["b:1"], "Layers": ["l2"]}]
write("in.tar", tar({"a": a, "b": b, "l1": L1, "l2": L2, "manifest.json": json.dumps(m).encode()}))
"#,
    );
    expect_error(docker(folder.path(), "in.tar", None), Kind::Usage, &["`a:1`", "`a:latest`", "`b:1`", "2 images"]);
    expect_error(docker(folder.path(), "in.tar", Some("c")), Kind::NotFound, &["`c:latest`", "`b:1`"]);
    let image = docker(folder.path(), "in.tar", Some("b:1")).unwrap();
    assert_eq!(image.names[0].to_string(), "b:1");
    assert_eq!(image.layers.len(), 1);
}

#[test]
fn paths_and_links_never_leave_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), "secret").unwrap();
    let cases = [
        ("'../secret'", "{}", Kind::Refused),
        ("'a/../../secret'", "{}", Kind::Refused),
        ("os.path.abspath('secret')", "{}", Kind::Corrupt),
        ("'l'", "{'l': '../secret'}", Kind::Refused),
        ("'a/l'", "{'a/l': '../../secret'}", Kind::Refused),
        ("'l'", "{'l': os.path.abspath('secret')}", Kind::Corrupt),
        ("'l'", "{'l': 'm', 'm': 'l'}", Kind::Corrupt),
        ("'gone'", "{}", Kind::Corrupt),
    ];
    for (layer, files, kind) in cases {
        python(
            folder.path(),
            &format!(
                "c = config([b'secret'])\nm = [{{'Config': 'c', 'Layers': [{layer}]}}]\n\
                 write('in.tar', tar({{'c': c, **{files}, 'manifest.json': json.dumps(m).encode()}}))"
            ),
        );
        expect_error(docker(folder.path(), "in.tar", None), kind, &["in.tar"]);
    }
}

#[test]
fn damaged_manifests_and_configurations_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        (
            "c = config([L1]); m = [{'Config': sha(L2) + '.json', 'Layers': ['l']}]; f = {sha(L2) + '.json': c, 'l': L1}",
            "damaged",
        ),
        ("c = config([L1, L2]); m = [{'Config': 'c', 'Layers': ['l']}]; f = {'c': c, 'l': L1}", "2 diff IDs"),
        ("m = [{'Config': 'c', 'Layers': ['l']}]; f = {'l': L1}", "lacks the image configuration `c`"),
        ("m = {'Config': 'c'}; f = {}", "manifest.json"),
        (
            "m = [{'Config': 'c', 'Layers': []}]; f = {'c': b'{\"rootfs\":{\"type\":\"layers\"},\"rootfs\":{}}'}",
            "more than one `rootfs`",
        ),
        ("m = [{'Config': 'c', 'Layers': []}]; f = {'c': b'{\"rootfs\":{},\"RootFS\":{}}'}", "more than one `RootFS`"),
        ("m = [{'Config': 'c', 'Layers': []}]; f = {'c': b'{\"os\":\"linux\"}'}", "no `rootfs`"),
        ("m = [{'Config': 'c', 'Layers': []}]; f = {'c': b'[1]'}", "an object"),
        (
            "m = [{'Config': 'c', 'Layers': []}]; f = {'c': b'{\"rootfs\":{},\"x\":' + b'[' * 9999 + b']' * 9999 + b'}'}",
            "nested deeper",
        ),
        (
            "m = [{'Config': 'c', 'Layers': ['l']}]; f = {'c': b'{\"rootfs\":{\"diff_ids\":[\"sha256:12\"]}}', 'l': L1}",
            "not a digest",
        ),
    ];
    for (script, words) in cases {
        python(
            folder.path(),
            &format!("{script}\nwrite('in.tar', tar({{**f, 'manifest.json': json.dumps(m).encode()}}))"),
        );
        expect_error(docker(folder.path(), "in.tar", None), Kind::Corrupt, &[words]);
    }
    python(folder.path(), "write('in.tar', tar({'a': b'b'}))");
    expect_error(docker(folder.path(), "in.tar", None), Kind::Corrupt, &["no `manifest.json`", "tar:"]);
    python(folder.path(), "write('in.tar', tar({'manifest.json': b' ' * (17 << 20)}))");
    expect_error(docker(folder.path(), "in.tar", None), Kind::Limit, &["manifest.json"]);
    python(folder.path(), "write('in.tar', tar({'n': b''})[:512] * 250100)");
    expect_error(docker(folder.path(), "in.tar", None), Kind::Limit, &["in.tar"]);
}

#[test]
fn layers_that_are_not_what_they_say_are_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let bad = "x = bytearray(gzip.compress(L2)); x[-6] ^= 1";
    let cases = [
        ("", "L2", "diff ID"),
        ("", "gzip.compress(L2)", "diff ID"),
        ("", "zstd(L2)", "diff ID"),
        ("", "gzip.compress(L1)[:-1]", "ends too early"),
        ("", "gzip.compress(L1)[:40]", "ends too early"),
        ("", "gzip.compress(L1) + b'garbage behind the end'", "is damaged"),
        (bad, "bytes(x)", "is damaged"),
        ("", "zstd(L1)[:-2]", "ends too early"),
        ("", "zstd(L1) + b'garbage behind the end'", "is damaged"),
    ];
    for (before, stored, words) in cases {
        python(
            folder.path(),
            &format!(
                "{before}\nm = [{{'Config': 'c', 'Layers': ['l']}}]\n\
                 write('in.tar', tar({{'c': config([L1]), 'l': {stored}, 'manifest.json': json.dumps(m).encode()}}))"
            ),
        );
        let image = docker(folder.path(), "in.tar", None).unwrap();
        expect_error(bare_layers(&image, folder.path()), Kind::Corrupt, &[words]);
    }
}

#[test]
fn layers_in_several_members_and_frames_are_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    for stored in [
        "gzip.compress(L2[:1]) + gzip.compress(b'') + gzip.compress(L2[1:])",
        "zstd(L2[:9]) + b'\\x50\\x2a\\x4d\\x18\\x03\\0\\0\\0abc' + zstd(L2[9:])",
        "b'\\x5f\\x2a\\x4d\\x18\\x00\\0\\0\\0' + zstd(L2)",
    ] {
        let wanted = python(
            folder.path(),
            &format!(
                "m = [{{'Config': 'c', 'Layers': ['l']}}]\nprint(sha(L2))\n\
                 write('in.tar', tar({{'c': config([L2]), 'l': {stored}, 'manifest.json': json.dumps(m).encode()}}))"
            ),
        );
        assert_eq!(digests(&docker(folder.path(), "in.tar", None).unwrap(), folder.path()), wanted, "{stored}");
    }
}

#[test]
fn compression_bombs_meet_their_limits_and_zeros_become_holes() {
    let folder = tempfile::tempdir().unwrap();
    python(
        folder.path(),
        "z = bytes(64 << 20); m = [{'Config': 'c', 'Layers': ['l']}]\n\
         write('in.tar', tar({'c': config([z]), 'l': gzip.compress(z, 1), 'manifest.json': json.dumps(m).encode()}))",
    );
    let image = docker(folder.path(), "in.tar", None).unwrap();
    let open = |limits| open_layer(&image.layers[0], folder.path(), &limits, &Progress::silent());
    expect_error(open(SpoolLimits { unfolded: 1 << 20, free_floor: 0 }), Kind::Limit, &["1048576"]);
    expect_error(open(SpoolLimits { unfolded: 1 << 40, free_floor: u64::MAX }), Kind::NoSpace, &["must stay free"]);
    let layer = open(LIMITS).unwrap();
    assert!(layer.verified);
    assert_eq!(layer.content.size(), 64 << 20);
    let spooled = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|item| Some(item.ok()?.path()))
        .find(|path| {
            std::fs::read_link(path).is_ok_and(|target| {
                target.starts_with(folder.path()) && target.to_string_lossy().ends_with(" (deleted)")
            })
        })
        .expect("the spooled layer is open");
    let metadata = std::fs::metadata(spooled).unwrap();
    assert_eq!(metadata.len(), 64 << 20);
    assert!(metadata.blocks() < 64, "{} blocks are taken", metadata.blocks());
}

#[test]
fn layouts_are_read_by_tag_platform_and_spelling() {
    let folder = tempfile::tempdir().unwrap();
    let host = castoff::oci::Platform::host().architecture;
    let wanted = python(
        folder.path(),
        &format!(
            r#"
l = Layout()
p = lambda a: {{"platform": {{"architecture": a, "os": "linux"}}}}
l.top.append(l.image([L1], **tag("plain")))
l.top.append(l.image([L1, L2], [gzip.compress(L1), zstd(L2)], **tag("packed")))
l.top.append(l.image([L2], kind="application/vnd.docker.distribution.manifest.v2+json",
    layer_kind="application/vnd.docker.image.rootfs.diff.tar", **tag("docker")))
attestation = l.image([], conf=config([], arch="unknown"), platform={{"architecture": "unknown", "os": "unknown"}})
other = l.image([L2], conf=config([L2], arch="sparc"), **p("sparc"))
l.top.append(l.index([other, l.image([L1], conf=config([L1], arch="{host}"), **p("{host}")), attestation], **tag("many")))
l.top.append(l.index([other], **tag("single")))
l.top.append(l.index([l.index([l.index([l.index([l.index([l.index([other])])])])])], **tag("deep")))
l.top.append(l.index([other, l.image([L1], **p("alpha"))], **tag("foreign")))
l.top.append(desc("application/vnd.docker.distribution.manifest.v1+prettyjws", l.blob(b'{{"schemaVersion":1}}'), **tag("old")))
l.directory("layout")
write("layout.tar", tar(l.files))
print(sha(L1)); print(sha(L2))
"#
        ),
    );
    let (one, two) = wanted.split_at(65);
    let directory = folder.path().join("layout");
    for (tag, layers) in [("plain", one), ("packed", &wanted), ("docker", two), ("many", one), ("single", two)] {
        let image = open_layout(&directory, Some(tag)).unwrap();
        assert_eq!(digests(&image, folder.path()), layers, "{tag}");
        let image = oci(folder.path(), "layout.tar", Some(tag)).unwrap();
        assert_eq!(digests(&image, folder.path()), layers, "{tag} in a tar");
    }
    let many = open_layout(&directory, Some("many")).unwrap();
    assert_eq!(many.notes, [format!("chose `linux/{host}` of the platforms `linux/sparc`, `linux/{host}`")]);
    let packed = open_layout(&directory, Some("packed")).unwrap();
    assert_eq!([packed.layers[0].compression, packed.layers[1].compression], [Compression::Gzip, Compression::Zstd]);
    expect_error(open_layout(&directory, None), Kind::Usage, &["`plain`", "`packed`"]);
    expect_error(open_layout(&directory, Some("gone")), Kind::NotFound, &["`gone`", "`plain`"]);
    expect_error(open_layout(&directory, Some("deep")), Kind::Corrupt, &["nested"]);
    expect_error(open_layout(&directory, Some("foreign")), Kind::NotFound, &["linux/sparc", "linux/alpha"]);
    expect_error(open_layout(&directory, Some("old")), Kind::Unsupported, &["schema 1"]);
}

#[test]
fn layouts_with_missing_damaged_or_foreign_parts_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let cases = [
        ("del l.files['blobs/sha256/' + sha(L1)]", Kind::Corrupt, "lacks layer"),
        ("l.files['blobs/sha256/' + sha(L1)] += b'x'", Kind::Corrupt, "its manifest says"),
        ("del l.files['blobs/sha256/' + sha(config([L1]))]", Kind::Corrupt, "lacks the image configuration"),
        (
            "k = 'blobs/sha256/' + sha(config([L1])); l.files[k] = l.files[k].replace(b'sh', b'zs')",
            Kind::Corrupt,
            "is damaged",
        ),
        ("l.files['oci-layout'] = b'{\"imageLayoutVersion\":\"2.0.0\"}'", Kind::Unsupported, "2.0.0"),
        ("del l.files['oci-layout']", Kind::Corrupt, "oci-layout"),
        ("del l.files['index.json']", Kind::Corrupt, "index.json"),
        ("l.top = []", Kind::NotFound, "no image"),
    ];
    for (number, (change, kind, words)) in cases.into_iter().enumerate() {
        let name = format!("layout{number}");
        python(
            folder.path(),
            &format!(
                "l = Layout(); l.top.append(l.image([L1])); l.done()\n{change}\nl.done() if not l.top else 0\n\
                      for path, data in l.files.items(): write('{name}/' + path, data)"
            ),
        );
        expect_error(open_layout(&folder.path().join(&name), None), kind, &[words, &name]);
    }
    python(
        folder.path(),
        r#"
l = Layout(); d = l.image([L1], layer_kind="application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
m = json.loads(l.files["blobs/sha256/" + d["digest"][7:]]); m["layers"][0]["urls"] = ["https://maker.example/layer"]
data = l.blob(json.dumps(m).encode())
l.top.append(desc(d["mediaType"], data)); del l.files["blobs/sha256/" + sha(L1)]; l.directory("foreign")
"#,
    );
    expect_error(open_layout(&folder.path().join("foreign"), None), Kind::Corrupt, &["https://maker.example/layer"]);
}

#[test]
fn links_in_a_layout_stay_inside_it() {
    let folder = tempfile::tempdir().unwrap();
    python(
        folder.path(),
        r#"
for n in "abcd":
    l = Layout(); l.top.append(l.image([L1])); l.directory(n)
blob = "blobs/sha256/" + sha(L1)
os.rename("a/" + blob, "stolen"); os.symlink(os.path.abspath("stolen"), "a/" + blob)
os.rename("b/blobs", "blobs"); os.symlink("../blobs", "b/blobs")
os.rename("c/blobs", "c/really"); os.symlink("really", "c/blobs")
os.unlink("d/" + blob); os.mkfifo("d/" + blob)
"#,
    );
    expect_error(open_layout(&folder.path().join("a"), None), Kind::Refused, &["symbolic link"]);
    expect_error(open_layout(&folder.path().join("b"), None), Kind::Refused, &["leads out"]);
    assert_eq!(open_layout(&folder.path().join("c"), None).unwrap().layers.len(), 1);
    expect_error(open_layout(&folder.path().join("d"), None), Kind::Corrupt, &["not a file"]);
}

#[test]
fn every_flipped_bit_of_the_documents_is_survived_and_those_below_a_digest_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let names = python(
        folder.path(),
        "l = Layout(); d = l.image([L1], **tag('x')); l.top.append(d); l.directory('l')\n\
         print('index.json'); print('oci-layout'); print('blobs/sha256/' + d['digest'][7:]); print('blobs/sha256/' + sha(config([L1])))",
    );
    let layout = folder.path().join("l");
    let whole = open_layout(&layout, Some("x")).unwrap().config_digest;
    for name in names.lines() {
        let path = layout.join(name);
        let bytes = std::fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            for bit in [0x01, 0x02, 0x20, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= bit;
                std::fs::write(&path, &flipped).unwrap();
                let result = open_layout(&layout, Some("x"));
                if let Ok(image) = &result {
                    assert_eq!(image.config_digest, whole);
                    assert!(!name.starts_with("blobs"), "byte {at} of {name} is not protected");
                }
            }
        }
        std::fs::write(&path, &bytes).unwrap();
    }
}
