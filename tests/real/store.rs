//! The store on a file system that fills up: a clear error, nothing half visible, everything that was there intact.

use std::path::{Path, PathBuf};

use castoff::error::{Kind, Result};
use castoff::oci::{
    ArchiveNames, ArchiveOptions, ArchiveWriter, Compression, ImageConfig, LayerSink, LayoutWriter, Platform,
};
use castoff::progress::Progress;
use castoff::store::{Store, StoredAs};
use castoff::vocab::EngineImage;

use crate::harness::{program, require_root, succeed};

/// A small file system that vanishes with this value.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn of(size: &str) -> Self {
        require_root();
        let folder = tempfile::tempdir().unwrap();
        succeed(
            program("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "castoff-test"]).arg(folder.path()),
        );
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _gone = program("umount").arg("-l").arg(self.0.path()).status();
    }
}

/// Content that no compression makes smaller.
fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    (0..size)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
}

fn write(sink: &mut dyn LayerSink, content: &[u8]) -> Result<ImageConfig> {
    let layer = sink.write_layer(content.len() as u64, &mut |out| {
        out.write_all(content).map_err(|error| castoff::error::from_io(error, || "cannot write".to_owned()))
    })?;
    ImageConfig::default_for(&Platform::host(), "2020-01-01T00:00:00Z", false)?.with_layers(&[layer.diff_id], &[])
}

fn put(store: &Store, name: &str, content: &[u8]) -> Result<StoredAs> {
    let mut writer = store.image_writer(Compression::None)?;
    let config = write(&mut writer, content)?;
    writer.finish(&config, &[name.parse().unwrap()])
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn full_disk_leaves_the_store_as_it_was() {
    let disk = Tmpfs::of("8m");
    let store = Store::open(&disk.path("store")).unwrap();
    let old = put(&store, "image", &noise(2 << 20, 1)).unwrap().id;
    // Full in the middle of a layer, and full to the last block before configuration, manifest or index.
    let before = files(&disk.path("store"));
    let error = put(&store, "image", &noise(7 << 20, 2)).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
    assert_eq!(files(&disk.path("store")), before);
    let mut failures = 0;
    for left in 0..8 {
        // All but `left` pages are taken.
        let free = || castoff::host::fs::free_space(&disk.path("store")).unwrap();
        let filler = noise(100_000, 3 + left);
        let ballast = disk.path("ballast");
        std::fs::write(&ballast, vec![1; (free() - 100 * 1024 - left * 4096) as usize]).unwrap();
        if let Err(error) = put(&store, "image", &filler) {
            failures += 1;
            assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
            let found = store.lookup(&EngineImage::Name("image".parse().unwrap())).unwrap().unwrap();
            assert_eq!(found.config_digest, old, "with {left} pages left");
        } else {
            std::fs::remove_file(&ballast).unwrap();
            put(&store, "image", &noise(2 << 20, 1)).unwrap();
        }
        let _gone = std::fs::remove_file(&ballast);
        Store::open(store.root()).unwrap();
        let temporaries: Vec<PathBuf> =
            files(store.root()).into_iter().filter(|path| path.to_string_lossy().ends_with(".tmp")).collect();
        assert!(temporaries.is_empty(), "{temporaries:?}");
        assert_eq!(store.verify(1 << 30, &Progress::silent()).unwrap().mismatches, []);
        store.gc(None, 0, false).unwrap();
    }
    assert!((2..8).contains(&failures), "{failures} of 8: the steps miss the point where it begins to fit");
    // With space again the same call works.
    put(&store, "image", &noise(3 << 20, 99)).unwrap();
    assert_eq!(store.verify(1 << 30, &Progress::silent()).unwrap().mismatches, []);
}

#[test]
fn full_disk_leaves_archive_and_layout_as_they_were() {
    let disk = Tmpfs::of("4m");
    let (archive, layout) = (disk.path("image.tar"), disk.path("layout"));
    std::fs::write(&archive, "old").unwrap();
    let mut writer = LayoutWriter::open(&layout, Compression::None).unwrap();
    let config = write(&mut writer, b"small").unwrap();
    writer.finish(&config, Some("tag"), None).unwrap();
    let before = files(disk.0.path());
    for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
        let mut writer = ArchiveWriter::create(&archive, ArchiveOptions { compression, mtime: 0 }).unwrap();
        let error = write(&mut writer, &noise(5 << 20, 1))
            .and_then(|config| writer.finish(&config, &ArchiveNames::default()))
            .unwrap_err();
        assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
        let mut writer = LayoutWriter::open(&layout, compression).unwrap();
        let error = write(&mut writer, &noise(5 << 20, 1)).unwrap_err();
        assert_eq!(error.kind(), Kind::NoSpace, "{error:?}");
        drop(writer);
        assert_eq!(files(disk.0.path()), before);
    }
    assert_eq!(std::fs::read(&archive).unwrap(), b"old");
}
