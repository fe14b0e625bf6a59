//! Sparse files in GNU tar's four forms, and in the one castoff writes.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use castoff::error::Kind;
use castoff::rootfs::tar::{Change, Member, SparseMap, content_padding, encode, rewrite};
use castoff::rootfs::{Entry, EntryKind, Timestamp};
use proptest::prelude::*;

use super::{
    END, Header, bytes_of, extended, gnu_extract, listed_by_both, members, padded, python_listing, record, run,
};

const FORMS: [&[&str]; 4] = [
    &["--format=gnu"],
    &["--format=posix", "--sparse-version=0.0"],
    &["--format=posix", "--sparse-version=0.1"],
    &["--format=posix", "--sparse-version=1.0"],
];

/// Data in `parts` places of a file, a hole at its end.
fn scattered(parts: usize) -> Vec<u8> {
    let mut bytes = vec![0; parts * 4096 + 100_000];
    for part in 0..parts {
        let start = part * 4096 + 1024;
        bytes[start..start + 512 + part % 700].fill(u8::try_from(part % 255).unwrap() + 1);
    }
    bytes
}

/// The file as GNU tar archives it; its holes are found by its zeros, whatever the file system knows.
fn archived(form: &[&str], name: &str, bytes: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let file = std::fs::File::create(folder.path().join(name)).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (at, chunk) in bytes.chunks(512).enumerate().filter(|(_, chunk)| chunk.iter().any(|byte| *byte != 0)) {
        file.write_all_at(chunk, at as u64 * 512).unwrap();
    }
    std::fs::write(folder.path().join("after"), "next").unwrap();
    let mut tar = Command::new("tar");
    tar.args(["-c", "--sparse", "--hole-detection=raw"]).args(form).args(["-f", "-", "-C"]).arg(folder.path());
    run(tar.args([name, "after"]), b"")
}

#[test]
fn every_form_gives_the_file_back() {
    for parts in [0, 1, 3, 4, 5, 25, 26, 300] {
        let bytes = scattered(parts);
        for form in FORMS {
            let archive = archived(form, "disk", &bytes);
            let all = members(&archive).unwrap_or_else(|error| panic!("{form:?} {parts}: {}", error.render()));
            assert_eq!(all[0].entry.path, b"disk");
            assert_eq!(all[0].entry.kind, EntryKind::File { size: bytes.len() as u64 });
            let sparse = all[0].sparse.as_ref().expect("a sparse file");
            assert!(sparse.segments().len() >= parts, "{form:?}");
            assert_eq!(sparse.stored(), all[0].span.stored);
            assert!(bytes_of(&archive, &all[0]) == bytes, "{form:?} {parts}");
            // Docker's unpacker refuses the old form, which is rewritten to a new one.
            assert_eq!(all[0].verbatim, form != ["--format=gnu"]);
            assert_eq!(bytes_of(&archive, &all[1]), b"next");
        }
    }
}

#[test]
fn a_rewritten_sparse_file_is_unpacked_by_gnu_tar_and_python_under_its_new_name() {
    let bytes = scattered(60);
    let long = [b"d/".to_vec(), b"n".repeat(200)].concat();
    for form in FORMS {
        for path in [b"d/renamed".to_vec(), long.clone()] {
            let source = archived(form, "disk", &bytes);
            let member = &members(&source).unwrap()[0];
            let change = Change { path: Some(path.clone()), uid: Some(3_000_000), ..Change::default() };
            let mut archive = rewrite(&source, member, &change).unwrap();
            let data = usize::try_from(member.span.data).unwrap();
            archive.extend(padded(&source[data..data + usize::try_from(member.span.stored).unwrap()]));
            archive.extend(END);
            let again = members(&archive).unwrap().remove(0);
            assert_eq!((again.entry.path.as_slice(), again.entry.uid), (path.as_slice(), 3_000_000), "{form:?}");
            let parts = |member: &Member| member.sparse.as_ref().map(|map| (map.segments().to_vec(), map.real_size()));
            assert_eq!(parts(&again), parts(member));
            assert!(again.verbatim);
            let folder = tempfile::tempdir().unwrap();
            gnu_extract(&archive, folder.path());
            let name = std::str::from_utf8(&path).unwrap();
            assert!(std::fs::read(folder.path().join(name)).unwrap() == bytes, "{form:?}");
            let sha = sha(&bytes);
            let line = &python_listing(&archive)[0];
            assert!(line.contains(&format!("uid=3000000 gid={}", member.entry.gid)), "{line}");
            assert!(line.contains(&format!("size={} sha={sha}", bytes.len())), "{form:?} {line}");
        }
    }
}

fn sha(bytes: &[u8]) -> String {
    let digest = sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(bytes));
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new sparse file: header, map, stored parts, padding, end.
fn written(path: &[u8], bytes: &[u8], map: &SparseMap) -> Vec<u8> {
    let entry = Entry {
        path: path.to_vec(),
        kind: EntryKind::File { size: bytes.len() as u64 },
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: 5, nanoseconds: 0 },
        xattrs: BTreeMap::from([(b"user.k".to_vec(), b"v".to_vec())]),
    };
    let mut archive = encode(&entry, Some(map), false);
    for (offset, length) in map.segments() {
        let start = usize::try_from(*offset).unwrap();
        archive.extend_from_slice(&bytes[start..start + usize::try_from(*length).unwrap()]);
    }
    archive.extend(vec![0; usize::try_from(content_padding(map.stored())).unwrap()]);
    archive.extend(END);
    assert_eq!(members(&archive).unwrap()[0].entry, entry);
    archive
}

#[test]
fn a_sparse_file_castoff_writes_is_read_by_the_others() {
    for parts in [0, 1, 70, 400] {
        let bytes = scattered(parts);
        let segments: Vec<_> = (0..parts).map(|part| (part as u64 * 4096 + 1024, 512 + part as u64 % 700)).collect();
        let map = SparseMap::new(segments, bytes.len() as u64).unwrap();
        assert_eq!(map.segments().last(), Some(&(bytes.len() as u64, 0)), "GNU tar cuts the file off otherwise");
        let archive = written("d/\u{e9}disk".as_bytes(), &bytes, &map);
        let member = &members(&archive).unwrap()[0];
        assert_eq!((member.sparse.as_ref(), member.span.stored), (Some(&map), map.stored()));
        assert!(bytes_of(&archive, member) == bytes);
        let folder = tempfile::tempdir().unwrap();
        gnu_extract(&archive, folder.path());
        assert!(std::fs::read(folder.path().join("d/\u{e9}disk")).unwrap() == bytes, "{parts}");
        assert!(python_listing(&archive)[0].contains(&format!("size={} sha={}", bytes.len(), sha(&bytes))));
        let (gnu, bsd) = listed_by_both(&archive);
        assert_eq!((gnu, bsd), (vec!["d/\u{e9}disk".to_owned()], vec!["d/\u{e9}disk".to_owned()]));
    }
}

#[test]
fn maps_that_lie_are_refused() {
    for (segments, size) in [
        (vec![(0, 10)], 9),
        (vec![(5, 5), (9, 5)], 100),
        (vec![(50, 5), (10, 5)], 100),
        (vec![(u64::MAX, 2)], 100),
        (vec![(2, u64::MAX)], 100),
        (vec![], u64::MAX),
    ] {
        assert_eq!(SparseMap::new(segments.clone(), size).unwrap_err().kind(), Kind::Corrupt, "{segments:?} {size}");
    }
    let with = |records: &[(&str, &str)], content: &[u8]| {
        let records: Vec<u8> =
            records.iter().flat_map(|(key, value)| record(key.as_bytes(), value.as_bytes())).collect();
        let header = Header::new(b"f", b'0', content.len() as u64).sealed();
        members(&[extended(b'x', &records), header, padded(content), END.to_vec()].concat()).unwrap_err()
    };
    let first = |real: &'static str, map: &'static str| vec![("GNU.sparse.realsize", real), ("GNU.sparse.map", map)];
    let in_content = vec![("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "100")];
    for (records, content, said) in [
        (first("100", "0,3,7"), &b"abc"[..], "ends behind an offset"),
        (first("100", "0,x"), b"abc", "not a list of numbers"),
        (first("100", "0,4"), b"abc", "does not add up to the 3 bytes"),
        (first("2", "0,3"), b"abc", "leaves the file of 2"),
        (vec![("GNU.sparse.map", "0,3")], b"abc", "without its real size"),
        (vec![("GNU.sparse.numbytes", "3")], b"abc", "`GNU.sparse.numbytes` stands out of order"),
        (vec![("GNU.sparse.major", "2"), ("GNU.sparse.minor", "0")], b"abc", "unknown sparse form 2.0"),
        (in_content.clone(), b"", "longer than the content"),
        (in_content.clone(), &[b'1'; 512], "too long"),
        (in_content.clone(), b"3\n0\n5\n", "longer than the content"),
        (in_content.clone(), &padded(b"1\n\n5\n"), "not a number"),
        (in_content.clone(), &padded(b"99999999999999999999\n5\n"), "not a number"),
        (in_content, &padded(b"1\n0\n5\n"), "does not add up"),
    ] {
        let error = with(&records, content);
        assert_eq!(error.kind(), Kind::Corrupt, "{}", error.message());
        assert!(error.message().contains(said), "{said}: {}", error.message());
    }
}

#[test]
fn a_table_without_end_reaches_the_limit() {
    let header =
        Header::new(b"f", b'S', 0).set(257, b"ustar  \0").set(482, b"\x01").set(483, b"00000000144\0").sealed();
    let mut block = [0; 512];
    block[504] = 1;
    let archive = [header, block.repeat(4000)].concat();
    let error = members(&archive).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit, "{}", error.message());
    // In the content, a map that counts to many entries costs what is there and no more.
    let records =
        [record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0"), record(b"GNU.sparse.realsize", b"100")];
    let content = [b"9999999999999\n".to_vec(), b"0\n0\n".repeat(1 << 20)].concat();
    let header = Header::new(b"f", b'0', content.len() as u64).sealed();
    let archive = [extended(b'x', &records.concat()), header, padded(&content), END.to_vec()].concat();
    assert_eq!(members(&archive).unwrap_err().kind(), Kind::Limit);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn joining_parts_loses_no_byte(lengths in prop::collection::vec((1u64..6000, 0u64..4000), 0..30), most in 0usize..12) {
        let mut segments = Vec::new();
        let mut bytes = Vec::new();
        for (hole, length) in lengths {
            bytes.resize(bytes.len() + usize::try_from(hole).unwrap(), 0);
            segments.push((bytes.len() as u64, length));
            bytes.resize(bytes.len() + usize::try_from(length).unwrap(), 7);
        }
        bytes.resize(bytes.len() + 5, 0);
        let fewer = SparseMap::new(segments.clone(), bytes.len() as u64).unwrap().at_most(most);
        prop_assert!(fewer.segments().len() <= most.max(1));
        let archive = written(b"f", &bytes, &fewer);
        prop_assert!(bytes_of(&archive, &members(&archive).unwrap()[0]) == bytes);
    }
}
