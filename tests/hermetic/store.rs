//! The content store: names move, nothing that is needed goes, everything that is damaged is found.

use std::path::{Path, PathBuf};

use castoff::error::{Kind, Result};
use castoff::oci::{Compression, HistoryEntry, ImageConfig, LayerSink as _, Platform};
use castoff::progress::Progress;
use castoff::store::{Store, StoredAs};
use castoff::vocab::{Digest, EngineImage, ImageName};

use crate::images::{bare_layers, expect_error, python};

fn name(text: &str) -> ImageName {
    text.parse().unwrap()
}

fn by_name(text: &str) -> EngineImage {
    EngineImage::Name(name(text))
}

/// Stores an image of one layer with this content.
fn put(store: &Store, content: &str, names: &[&str]) -> Result<StoredAs> {
    put_stored(store, content, names, Compression::None)
}

fn put_stored(store: &Store, content: &str, names: &[&str], compression: Compression) -> Result<StoredAs> {
    let mut writer = store.image_writer(compression)?;
    let layer = writer.write_layer(content.len() as u64, &mut |out| {
        out.write_all(content.as_bytes()).unwrap();
        Ok(())
    })?;
    let config = ImageConfig::default_for(&Platform::linux("amd64"), "2020-01-01T00:00:00Z", false)?
        .with_layers(&[layer.diff_id], &[HistoryEntry::new(None, "test", "")?])?;
    writer.finish(&config, &names.iter().map(|text| name(text)).collect::<Vec<_>>())
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    (folder, store)
}

fn blobs(store: &Store) -> Vec<PathBuf> {
    let mut blobs: Vec<PathBuf> =
        std::fs::read_dir(store.root().join("blobs/sha256")).unwrap().map(|item| item.unwrap().path()).collect();
    blobs.sort();
    blobs
}

fn mismatches(store: &Store) -> Vec<String> {
    let report = store.verify(1 << 30, &Progress::silent()).unwrap();
    report.mismatches.into_iter().map(|found| format!("{}: {}", found.subject, found.problem)).collect()
}

#[test]
fn stored_image_is_found_by_name_and_id_and_reads_back() {
    let (folder, store) = store();
    let id = put(&store, "content", &["a:1", "b/c:2"]).unwrap().id;
    for image in [by_name("a:1"), by_name("b/c:2"), EngineImage::Id(id)] {
        let found = store.lookup(&image).unwrap().unwrap();
        assert_eq!(found.config_digest, id);
        assert_eq!(found.names, [name("a:1"), name("b/c:2")]);
        assert!(found.layers[0].verified);
        assert_eq!(bare_layers(&found, folder.path()).unwrap(), [b"content"]);
    }
    assert!(store.lookup(&by_name("a:2")).unwrap().is_none());
    let listed = store.list().unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, listed[0].layers, listed[0].untagged_since), (id, 1, None));
    let said = python(
        folder.path(),
        r#"
i = json.load(open("store/index.json"))
print([m["annotations"] for m in i["manifests"]], json.load(open("store/oci-layout")))
for d, ds, fs in os.walk("store"):
    assert os.stat(d).st_mode & 0o777 == 0o700, d
    for f in fs: assert os.stat(d + "/" + f).st_mode & 0o777 == 0o600, f
for n in os.listdir("store/blobs/sha256"): assert n == sha(open("store/blobs/sha256/" + n, "rb").read())
"#,
    );
    let annotation = |name| format!("{{'org.opencontainers.image.ref.name': '{name}'}}");
    assert_eq!(said, format!("[{}, {}] {{'imageLayoutVersion': '1.0.0'}}\n", annotation("a:1"), annotation("b/c:2")));
}

#[test]
fn image_that_loses_its_last_name_stays_until_it_is_removed() {
    let (_folder, store) = store();
    let old = put(&store, "old", &["a", "b"]).unwrap().id;
    let stored = put(&store, "new", &["a"]).unwrap();
    assert_eq!(stored.previous, [(name("a"), old)]);
    assert!(!store.remove_untagged(old).unwrap(), "it still has a name");
    assert_eq!(store.tag(&name("b"), stored.id).unwrap(), Some(old));
    let listed = store.list().unwrap();
    assert!(listed.iter().any(|image| image.id == old && image.untagged_since.is_some()));
    assert!(store.lookup(&EngineImage::Id(old)).unwrap().is_some());
    // Given its name back, it is no longer nobody's.
    store.tag(&name("c"), old).unwrap();
    assert!(store.list().unwrap().iter().all(|image| image.untagged_since.is_none()));
    store.untag(&name("c")).unwrap();
    assert!(store.remove_untagged(old).unwrap());
    assert!(store.lookup(&EngineImage::Id(old)).unwrap().is_none());
    assert_eq!(blobs(&store).len(), 3);
    assert_eq!(store.tag(&name("a"), stored.id).unwrap(), Some(stored.id));
    expect_error(store.tag(&name("x"), old), Kind::NotFound, &["image.list"]);
    expect_error(store.untag(&name("gone")), Kind::NotFound, &["`gone:latest`"]);
    assert_eq!(mismatches(&store), [""; 0]);
}

#[test]
fn removal_keeps_what_others_share() {
    let (_folder, store) = store();
    let one = put(&store, "shared", &["a", "b"]).unwrap().id;
    let removed = store.remove(&by_name("a")).unwrap();
    assert!(removed.images.is_empty() && store.lookup(&by_name("b")).unwrap().is_some());
    let removed = store.remove(&by_name("b")).unwrap();
    assert_eq!(removed.images, [one]);
    assert!(removed.bytes > 6 && blobs(&store).is_empty());
    // The same layer under two configurations.
    let two = put(&store, "shared", &["a"]).unwrap().id;
    let mut writer = store.image_writer(Compression::None).unwrap();
    let source = store.lookup(&EngineImage::Id(two)).unwrap().unwrap();
    assert!(writer.adopt(&source.layers[0]).unwrap());
    let config = source.config.with_created("2021-01-01T00:00:00Z").unwrap();
    let three = writer.finish(&config, &[name("c")]).unwrap().id;
    assert_eq!(blobs(&store).len(), 5);
    let removed = store.remove(&EngineImage::Id(two)).unwrap();
    assert_eq!((removed.names, removed.images), (vec![name("a")], vec![two]));
    assert_eq!(blobs(&store).len(), 3);
    assert!(store.lookup(&EngineImage::Id(three)).unwrap().is_some());
    assert_eq!(mismatches(&store), [""; 0]);
}

#[test]
fn collection_keeps_the_newest_and_fits_the_size() {
    let (_folder, store) = store();
    let ids: Vec<Digest> =
        ["1", "2", "3", "4"].map(|number| put(&store, &number.repeat(10_000), &["a"]).unwrap().id).to_vec();
    std::fs::write(store.root().join("blobs/sha256").join(Digest::of(b"x").hex()), "x").unwrap();
    std::fs::write(store.root().join("blobs/sha256/README"), "somebody's").unwrap();
    let would = store.gc(None, 2, true).unwrap();
    assert_eq!((would.images.as_slice(), would.kept.as_slice()), (&ids[..1], &[ids[2], ids[1]][..]));
    assert_eq!(would.blobs, 4, "layer, configuration and manifest of one image, and a blob of nobody");
    assert_eq!(blobs(&store).len(), 14);
    let did = store.gc(None, 2, false).unwrap();
    assert_eq!(did, would);
    assert_eq!(blobs(&store).len(), 10);
    let total: u64 =
        blobs(&store).iter().filter(|path| !path.ends_with("README")).map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(did.size, total);
    let did = store.gc(Some(25_000), 2, false).unwrap();
    assert_eq!((did.images.as_slice(), did.kept.as_slice()), (&ids[1..2], &ids[2..3]));
    let did = store.gc(Some(0), 2, false).unwrap();
    assert_eq!(did.images, ids[2..3]);
    assert!(store.lookup(&by_name("a")).unwrap().is_some(), "an image with a name stays whatever the size");
    assert_eq!(mismatches(&store), [""; 0]);
}

#[test]
fn collection_spares_what_a_living_writer_needs_and_no_dead_one() {
    let (_folder, store) = store();
    let mut writer = store.image_writer(Compression::None).unwrap();
    let layer = writer
        .write_layer(4, &mut |out| {
            out.write_all(b"busy").unwrap();
            Ok(())
        })
        .unwrap();
    let other = Store::open(store.root()).unwrap();
    assert_eq!(other.gc(None, 0, false).unwrap().blobs, 0);
    let config = ImageConfig::default_for(&Platform::linux("amd64"), "2020-01-01T00:00:00Z", false)
        .unwrap()
        .with_layers(&[layer.diff_id], &[])
        .unwrap();
    writer.finish(&config, &[name("busy")]).unwrap();
    assert_eq!(mismatches(&store), [""; 0]);
    // A killed writer: its lease and its temporary are there, their locks are not.
    let dead = store.root().join("castoff");
    std::fs::write(dead.join("leases/99999999-0"), format!("{}\n", Digest::of(b"dead"))).unwrap();
    std::fs::write(dead.join("tmp/.castoff-99999999-0.tmp"), "half").unwrap();
    std::fs::write(store.root().join("blobs/sha256").join(Digest::of(b"dead").hex()), "dead").unwrap();
    Store::open(store.root()).unwrap();
    assert_eq!(std::fs::read_dir(dead.join("tmp")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(dead.join("leases")).unwrap().count(), 0);
    assert_eq!(other.gc(None, 0, false).unwrap().blobs, 1);
}

#[test]
fn every_kind_of_damage_is_told_at_once() {
    let (_folder, store) = store();
    let good = put(&store, "good", &["good"]).unwrap().id;
    put_stored(&store, &"packed".repeat(100), &["packed"], Compression::Gzip).unwrap();
    put(&store, "flipped", &["flipped"]).unwrap();
    put(&store, "missing", &["missing"]).unwrap();
    let blob = |content: &str| store.root().join("blobs/sha256").join(Digest::of(content.as_bytes()).hex());
    std::fs::write(blob("flipped"), "flopped").unwrap();
    std::fs::remove_file(blob("missing")).unwrap();
    let found = mismatches(&store).join("\n");
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(
        found.contains(&format!("{}: its content has the digest `{}`", Digest::of(b"flipped"), Digest::of(b"flopped"))),
        "{found}"
    );
    assert!(found.contains(&format!("{}: manifest `", Digest::of(b"missing"))), "{found}");
    // A damaged manifest: named, no obstacle to others, removable by its digest, and no collection before that.
    let descriptor: serde_json::Value =
        serde_json::from_slice(&std::fs::read(store.root().join("index.json")).unwrap()).unwrap();
    let manifest: Digest = descriptor["manifests"][2]["digest"].as_str().unwrap().parse().unwrap();
    std::fs::write(store.root().join("blobs/sha256").join(manifest.hex()), "{}").unwrap();
    assert!(store.lookup(&EngineImage::Id(good)).unwrap().is_some());
    expect_error(store.lookup(&by_name("flipped")), Kind::Corrupt, &[&manifest.to_string()]);
    expect_error(store.gc(None, 0, false), Kind::Corrupt, &["image.remove"]);
    store.remove(&EngineImage::Id(manifest)).unwrap();
    store.remove(&by_name("missing")).unwrap();
    store.gc(None, 0, false).unwrap();
    assert_eq!(mismatches(&store), [""; 0]);
    // Bringing the same content in again heals a damaged blob.
    std::fs::write(blob("good"), "evil").unwrap();
    put(&store, "good", &["good"]).unwrap();
    assert_eq!(mismatches(&store), [""; 0]);
}

#[test]
fn same_image_stored_in_another_way_takes_the_place_of_the_first() {
    let (folder, store) = store();
    let one = put_stored(&store, "same", &["a"], Compression::None).unwrap().id;
    let two = put_stored(&store, "same", &["a"], Compression::Zstd).unwrap();
    assert_eq!((two.id, two.previous), (one, vec![(name("a"), one)]));
    assert_eq!(store.list().unwrap().len(), 1);
    let found = store.lookup(&EngineImage::Id(one)).unwrap().unwrap();
    assert_eq!(found.layers[0].compression, Compression::Zstd);
    assert_eq!(bare_layers(&found, folder.path()).unwrap(), [b"same"]);
}

#[test]
fn records_recognise_an_image_as_long_as_it_is_there() {
    let (_folder, store) = store();
    let key = Digest::of(b"source, options and version");
    assert_eq!(store.recorded(key).unwrap(), None);
    let id = put(&store, "x", &["a"]).unwrap().id;
    store.record(key, id).unwrap();
    assert_eq!(store.recorded(key).unwrap(), Some(id));
    store.remove(&by_name("a")).unwrap();
    assert_eq!(store.recorded(key).unwrap(), None);
    assert_eq!(std::fs::read_dir(store.root().join("castoff/records")).unwrap().count(), 0);
}

#[test]
fn many_writers_and_collectors_at_once_lose_nothing() {
    let (_folder, store) = store();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let root: &Path = store.root();
            scope.spawn(move || {
                let store = Store::open(root).unwrap();
                for round in 0..15 {
                    // All write the same content under one name, and their own under another.
                    put(&store, &format!("common {round}"), &["common"]).unwrap();
                    put(&store, &format!("own {thread} {round}"), &[&format!("own:{thread}")]).unwrap();
                    if round % 4 == 0 {
                        store.gc(None, 0, false).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(mismatches(&store), [""; 0]);
    store.gc(None, 0, false).unwrap();
    let mut names: Vec<String> =
        store.list().unwrap().iter().flat_map(|image| image.names.clone()).map(|name| name.to_string()).collect();
    names.sort();
    assert_eq!(names, ["common:latest", "own:0", "own:1", "own:2", "own:3"]);
    assert_eq!(blobs(&store).len(), 15);
    for thread in 0..4 {
        let image = store.lookup(&by_name(&format!("own:{thread}"))).unwrap().unwrap();
        assert_eq!(image.layers[0].diff_id.0, Digest::of(format!("own {thread} 14").as_bytes()));
    }
}
