//! Vector 19: sparse files in every form, huge files, huge ids, times before 1970 and after 2100, devices.

use std::io::{Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::Arc;

use castoff::rootfs::ReadAt;
use castoff::rootfs::flatten::FlattenOptions;

use super::{expect, layers, list, merge, python, shared, write};

#[test]
fn v19_sparse_files_of_every_form_keep_their_bytes() {
    let script = r#"
with open("sparse", "wb") as out:
    out.write(b"head"); out.seek(1 << 20); out.write(b"middle"); out.truncate(3 << 20)
os.link("sparse", "also")
for n, form in enumerate((["--format=gnu"], ["--format=posix", "--sparse-version=0.0"], ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"])):
    os.makedirs(f"d{n}"); os.link("sparse", f"d{n}/one"); os.link("sparse", f"d{n}/two")
    subprocess.run(["tar", "-cS", *form, "--owner=0", "--group=0", "--mtime=@0", "-f", path(n), f"d{n}/one", f"d{n}/two"], check=True)
N = 4
layer()
for n in range(4): wh(f"d{n}/.wh.one")
"#;
    let layers = shared(&layers(script));
    for keep_sparse in [false, true] {
        unpacks_as_it_was(&layers, keep_sparse);
    }
}

/// Merges four sparse files of which each had two names, and looks at what GNU tar makes of the result.
fn unpacks_as_it_was(layers: &[Arc<dyn ReadAt>], keep_sparse: bool) {
    let flat = merge(layers, FlattenOptions { keep_sparse, ..FlattenOptions::default() }).unwrap();
    assert_eq!(flat.report.links_promoted, 4);
    let tar = write(&flat, layers).remove(0);
    if keep_sparse {
        assert!(tar.len() < 200 << 10, "holes are not stored: {} bytes", tar.len());
    } else {
        // Engines cannot save an image with sparse members again; this is what they unpack anyway.
        assert!(!tar.windows(10).any(|bytes| bytes == b"GNU.sparse"));
        assert!(list(&tar).iter().filter(|line| line.ends_with("= 3145728 bytes")).count() == 4, "{:?}", list(&tar));
        assert_eq!((flat.report.expanded, flat.report.expanded_bytes), (4, 4 * (3 << 20)));
        let again = shared(std::slice::from_ref(&tar));
        assert!(write(&merge(&again, FlattenOptions::default()).unwrap(), &again)[0] == tar);
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("out.tar"), &tar).unwrap();
    let unpack = Command::new("tar").args(["-xf", "out.tar"]).current_dir(folder.path()).output().unwrap();
    assert!(unpack.status.success() && unpack.stderr.is_empty(), "{}", String::from_utf8_lossy(&unpack.stderr));
    let mut content = vec![0; 3 << 20];
    content[..4].copy_from_slice(b"head");
    content[1 << 20..][..6].copy_from_slice(b"middle");
    for n in 0..4 {
        let path = folder.path().join(format!("d{n}/two"));
        assert!(std::fs::read(&path).unwrap() == content, "form {n}");
        let stored = std::fs::metadata(&path).unwrap().blocks();
        assert!(!keep_sparse || stored < 100, "form {n} unpacks sparse: {stored}");
        assert!(!path.with_file_name("one").exists());
    }
    // The content that a reader of the merged tree gets is the same.
    let files: Vec<_> = flat.entries(layers).map(Result::unwrap).filter_map(|entry| entry.content).collect();
    assert_eq!(files.len(), 4);
    for file in files {
        let mut read = Vec::new();
        castoff::rootfs::tar::content(&layers[file.layer], &file.member).read_to_end(&mut read).unwrap();
        assert!(read == content);
    }
}

/// A file that does not store zeros.
struct Holes(std::fs::File);

impl Write for Holes {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let block = &buffer[..buffer.len().min(ZEROS.len())];
        if block == &ZEROS[..block.len()] {
            self.0.seek(SeekFrom::Current(block.len() as i64))?;
            return Ok(block.len());
        }
        self.0.write(block)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A huge archive of which only head and tail are not zeros.
struct Huge {
    head: Vec<u8>,
    tail: Vec<u8>,
    size: u64,
}

impl ReadAt for Huge {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let tail = self.size - self.tail.len() as u64;
        if offset < self.head.len() as u64 {
            return self.head.read_at(buffer, offset);
        }
        if offset >= tail {
            return self.tail.read_at(buffer, offset - tail);
        }
        let count = buffer.len().min((tail - offset) as usize);
        buffer[..count].fill(0);
        Ok(count)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

#[test]
fn v19_files_of_more_than_8_gib_in_pax_and_in_base_256() {
    const SIZE: u64 = (8 << 30) + 5;
    for (form, name) in [("PAX", "big"), ("GNU", "./big")] {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "import tarfile\nfor name, size in ('{name}', {SIZE}), ('behind', 0):\n  i = tarfile.TarInfo(name); i.size = size\n  \
             open('head' if size else 'tail', 'wb').write(i.tobuf(tarfile.{form}_FORMAT))"
        );
        python(&script, folder.path(), &[]);
        let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
        let (head, tail) = (read("head"), [read("tail"), vec![0; 1024]].concat());
        let size = head.len() as u64 + SIZE.next_multiple_of(512) + tail.len() as u64;
        let layers = [Arc::new(Huge { head, tail, size }) as Arc<dyn ReadAt>];
        let flat = merge(&layers, FlattenOptions::default()).unwrap();
        let mut out = Holes(std::fs::File::create(folder.path().join("out.tar")).unwrap());
        flat.outputs[0].write(&layers, &mut out).unwrap();
        let end = out.0.stream_position().unwrap();
        assert_eq!(end, flat.outputs[0].size());
        out.0.set_len(end).unwrap();
        let listed = python(super::LISTER, folder.path(), &["out.tar"]);
        assert_eq!(listed.lines().collect::<Vec<_>>(), ["f 644 0:0 big = 8589934597 bytes", "f 644 0:0 behind = "]);
    }
}

#[test]
fn v19_large_ids_and_odd_times_survive_untouched_and_rewritten() {
    let script = |prefix: &str, form: &str| {
        format!(
            "layer(tarfile.{form}_FORMAT); f('{prefix}a', uid=3000000, gid=4000000000, mtime=-86400); \
             f('{prefix}b', mtime=7258118400); f('{prefix}c', uid=2097152, mtime=7)"
        )
    };
    for form in ["PAX", "GNU"] {
        for prefix in ["", "./"] {
            expect(
                &script(prefix, form),
                &["f 644 3000000:4000000000 a @-86400 = ", "f 644 0:0 b @7258118400 = ", "f 644 2097152:0 c @7 = "],
            );
        }
    }
    // Nanoseconds, before 1970 too, where they count forward from the second below.
    for prefix in ["", "./"] {
        let script = format!(
            "layer(); f('{prefix}a', pax={{'mtime': '-1.25'}}); f('{prefix}b', pax={{'mtime': '1700000000.123456789'}})"
        );
        expect(&script, &["f 644 0:0 a @-1.25 = ", "f 644 0:0 b @1700000000.123456789 = "]);
    }
}

#[test]
fn v19_a_character_device_0_0_is_left_out_and_said() {
    let report = expect(
        "layer(); f('a', b'1'); f('b')\nlayer(); c('a', 0, 0); c('ok', 0, 1); c('gone', 0, 0); h('too', 'gone')\nlayer(); f('gone')",
        &["f 644 0:0 b = ", "c 644 0:0 ok (0,1)", "f 644 0:0 gone = "],
    );
    let dropped: Vec<&str> = report.dropped.iter().map(|dropped| dropped.path.as_str()).collect();
    assert_eq!(dropped, ["a", "too"]);
    assert!(report.dropped[0].reason.contains("overlayfs"));
}

#[test]
fn a_layer_that_changes_after_the_scan_is_noticed() {
    let script = "layer(); d('d', x={D: acl('u::rwx,g::---,o::---')}); f('d/a', b'1' * 600); f('b')";
    let scanned = layers(script);
    let flat = |layers: &[Arc<dyn ReadAt>]| merge(layers, FlattenOptions::default()).unwrap();
    let changed = shared(&layers(&script.replace("600", "6000")));
    let shorter = shared(&[scanned[0][..2048].to_vec()]);
    for other in [changed, shorter] {
        let error = flat(&shared(&scanned)).outputs[0].write(&other, &mut Vec::new()).unwrap_err();
        assert!(error.message().contains("layer 1 cannot be read"), "{error:?}");
    }
}

#[test]
fn devices_and_pipes_keep_their_numbers() {
    expect(
        "layer(); c('./c', 511, 1048575, mode=0o600); add('b', tarfile.BLKTYPE, dev=(8, 1)); add('./p', tarfile.FIFOTYPE)",
        &["c 600 0:0 c (511,1048575)", "b 644 0:0 b (8,1)", "p 644 0:0 p"],
    );
}

#[test]
fn v20_an_image_without_entries_is_an_end_marker() {
    let layers = shared(&layers("layer()\nlayer()"));
    let flat = merge(&layers, FlattenOptions::default()).unwrap();
    let tar = write(&flat, &layers).remove(0);
    assert_eq!(tar, [0; 1024]);
    assert!(list(&tar).is_empty());
}
