//! What `encode` writes, read by Python, GNU tar and bsdtar.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use castoff::rootfs::tar::{content_padding, encode};
use castoff::rootfs::{Entry, EntryKind, Timestamp};
use proptest::prelude::*;

use super::{END, listed_by_both, members, python_listing};

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    Entry {
        path: path.to_vec(),
        kind,
        mode: 0o644,
        uid: 0,
        gid: 0,
        mtime: Timestamp::default(),
        xattrs: BTreeMap::new(),
    }
}

/// Content that depends on the size alone.
fn filler(size: u64) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

fn archive(entries: &[Entry]) -> Vec<u8> {
    let mut archive = Vec::new();
    for entry in entries {
        archive.extend(encode(entry, None, false));
        if let EntryKind::File { size } = entry.kind {
            archive.extend(filler(size));
            archive.extend(vec![0; usize::try_from(content_padding(size)).unwrap()]);
        }
    }
    archive.extend(END);
    archive
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// The line that [`python_listing`] must print for an entry.
fn expected_line(entry: &Entry) -> String {
    let (kind, link, device, size) = match &entry.kind {
        EntryKind::File { size } => ('0', String::new(), String::new(), *size),
        EntryKind::Hardlink { target } => ('1', hex(target), String::new(), 0),
        EntryKind::Symlink { target } => ('2', hex(target), String::new(), 0),
        EntryKind::CharDevice { major, minor } => ('3', String::new(), format!("{major}:{minor}"), 0),
        EntryKind::BlockDevice { major, minor } => ('4', String::new(), format!("{major}:{minor}"), 0),
        EntryKind::Directory => ('5', String::new(), String::new(), 0),
        EntryKind::Fifo => ('6', String::new(), String::new(), 0),
    };
    let path = if entry.path.is_empty() { b"." } else { entry.path.as_slice() };
    let Timestamp { seconds, nanoseconds } = entry.mtime;
    // In decimal, by the other way round: as one number of nanoseconds.
    let total = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if total < 0 { "-" } else { "" };
    let (whole, rest) = (total.unsigned_abs() / 1_000_000_000, total.unsigned_abs() % 1_000_000_000);
    let fraction = format!(".{rest:09}");
    let fraction = if rest == 0 { "" } else { fraction.trim_end_matches('0') };
    let sha =
        hex(&sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(filler(size))))[..16].to_owned();
    // A name with an equals sign is written in GNU tar's way, which Python does not undo.
    let mut xattrs: Vec<_> = entry.xattrs.iter().map(|(name, value)| format!("{}:{}", hex(name), hex(value))).collect();
    xattrs.sort();
    format!(
        "path={} kind={kind} mode={:o} uid={} gid={} mtime={sign}{whole}{fraction} link={link} device={device} size={size} sha={sha} xattrs={}",
        hex(path),
        entry.mode,
        entry.uid,
        entry.gid,
        xattrs.join(",")
    )
}

/// Python's listing, this crate's scan and the entries must agree.
fn check(entries: &[Entry]) {
    let archive = archive(entries);
    let expected: Vec<_> = entries.iter().map(expected_line).collect();
    assert_eq!(python_listing(&archive), expected);
    let scanned = members(&archive).unwrap_or_else(|error| panic!("{}", error.render()));
    assert_eq!(scanned.iter().map(|member| &member.entry).collect::<Vec<_>>(), entries.iter().collect::<Vec<_>>());
    assert!(scanned.iter().all(|member| member.verbatim));
}

fn corpus() -> Vec<Entry> {
    let mut corpus = vec![
        Entry { mode: 0o755, ..entry(b"", EntryKind::Directory) },
        Entry {
            mode: 0o6755,
            mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 },
            ..entry(b"bin/su", EntryKind::File { size: 5 })
        },
        Entry { mtime: Timestamp { seconds: -86_400, nanoseconds: 1 }, ..entry(b"old", EntryKind::File { size: 0 }) },
        Entry {
            mtime: Timestamp { seconds: 7_258_118_400, nanoseconds: 0 },
            ..entry(b"new", EntryKind::File { size: 512 })
        },
        Entry {
            mtime: Timestamp { seconds: 9_000_000_000, nanoseconds: 120_000_000 },
            ..entry(b"newer", EntryKind::File { size: 513 })
        },
        Entry { uid: 3_000_000, gid: 4_000_000_000, ..entry(b"owned", EntryKind::Directory) },
        Entry { uid: 0o7_777_777, gid: 0o10_000_000, ..entry(b"edge", EntryKind::Fifo) },
        entry(b"null", EntryKind::CharDevice { major: 1, minor: 3 }),
        entry(b"disk", EntryKind::BlockDevice { major: 4095, minor: 1_048_575 }),
        entry(b"sym", EntryKind::Symlink { target: b"../../etc//passwd/".to_vec() }),
        entry(b"hard", EntryKind::Hardlink { target: b"bin/su".to_vec() }),
    ];
    for length in [99, 100, 101, 155, 156, 255, 256, 257, 400, 4000] {
        let name: Vec<u8> = (0..length).map(|at| if at % 80 == 70 && at + 1 < length { b'/' } else { b'n' }).collect();
        let flat = b"f".repeat(length.min(400));
        corpus.push(entry(&name, EntryKind::File { size: 1 }));
        corpus.push(entry(&[&name[..], b"/d"].concat(), EntryKind::Directory));
        corpus.push(entry(&flat, EntryKind::Symlink { target: name.clone() }));
        corpus.push(entry(&[&flat[..], b"h"].concat(), EntryKind::Hardlink { target: name }));
    }
    let mut with_xattrs = entry(b"xattrs", EntryKind::Directory);
    with_xattrs.xattrs.insert(b"user.bin".to_vec(), b"\0\n=\xff 12 path=x\n".to_vec());
    with_xattrs.xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
    for size in [1, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 960, 970, 980, 990, 70_000] {
        with_xattrs.xattrs.insert(format!("user.{size}").into_bytes(), vec![b'v'; size]);
    }
    corpus.push(with_xattrs);
    corpus
}

#[test]
fn every_kind_of_entry_is_read_by_python_as_it_was_meant() {
    let mut entries = corpus();
    for name in [&b"caf\xc3\xa9"[..], b"\xff\xfe\x80", b"new\nline", b"a=b", b" x "] {
        entries.push(entry(name, EntryKind::File { size: 2 }));
        entries.push(entry(&[name, b"-s"].concat(), EntryKind::Symlink { target: name.to_vec() }));
        entries.push(entry(&[name, b"-d"].concat(), EntryKind::Directory));
    }
    check(&entries);
}

#[test]
fn gnu_tar_and_bsdtar_list_the_same_names_without_a_word() {
    let entries = [corpus(), vec![entry("caf\u{e9} \u{1f980}".as_bytes(), EntryKind::File { size: 3 })]].concat();
    let names: Vec<String> = entries
        .iter()
        .map(|entry| {
            let path = if entry.path.is_empty() { "." } else { std::str::from_utf8(&entry.path).unwrap() };
            format!("{path}{}", if entry.kind == EntryKind::Directory { "/" } else { "" })
        })
        .collect();
    let (gnu, bsd) = listed_by_both(&archive(&entries));
    assert_eq!(gnu, names);
    assert_eq!(bsd, names);
}

#[test]
fn what_fits_ustar_is_one_block_and_nothing_else() {
    let mut file = entry(b"usr/bin/true", EntryKind::File { size: 7 });
    file.mtime.seconds = 1_700_000_000;
    let blocks = encode(&file, None, true);
    assert_eq!(blocks.len(), 512);
    assert_eq!(&blocks[257..265], b"ustar\x0000");
    assert_eq!(&blocks[..13], b"usr/bin/true\0");
    // 200 bytes with a slash in reach split into prefix and name.
    assert_eq!(
        encode(&entry(&[b"p".repeat(120), b"/".to_vec(), b"n".repeat(79)].concat(), EntryKind::Fifo), None, false)
            .len(),
        512
    );
    file.mtime.nanoseconds = 5;
    assert_eq!(encode(&file, None, false).len(), 1536);
}

#[test]
fn a_pax_header_depends_on_nothing_but_the_entry() {
    let mut file = entry("d/caf\u{e9}\n".as_bytes(), EntryKind::File { size: 8 << 30 });
    file.xattrs.insert(b"user.b".to_vec(), b"2".to_vec());
    file.xattrs.insert(b"user.a".to_vec(), b"1".to_vec());
    let blocks = encode(&file, None, false);
    assert_eq!(blocks, encode(&file.clone(), None, false));
    assert_eq!(&blocks[..19], b"PaxHeaders/caf___\0\0");
    assert_eq!(&blocks[100..148], b"0000644\x000000000\x000000000\x0000000000126\x0000000000000\0");
    let records = [
        &b"25 SCHILY.xattr.user.a=1\n"[..],
        b"25 SCHILY.xattr.user.b=2\n",
        b"17 path=d/caf\xc3\xa9\n\n",
        b"19 size=8589934592\n",
    ];
    let length = records.concat().len();
    assert_eq!(&blocks[512..512 + length], records.concat(), "{}", blocks[512..1024].escape_ascii());
    assert_eq!(length, 0o126, "as the size field says");
}

#[test]
fn acls_are_written_as_text_too_when_asked_for() {
    let mut file = entry(b"f", EntryKind::File { size: 0 });
    let acl = [
        2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 233, 3, 0, 0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 6,
        0, 255, 255, 255, 255, 32, 0, 4, 0, 255, 255, 255, 255,
    ];
    file.xattrs.insert(b"system.posix_acl_access".to_vec(), acl.to_vec());
    let archive = [encode(&file, None, true), END.to_vec()].concat();
    let member = members(&archive).unwrap().remove(0);
    let text = member.text_acls.unwrap();
    assert_eq!(text.access.unwrap(), b"user::rw-,user:1001:rw-,group::r--,mask::rw-,other::r--");
    assert_eq!(text.default, None);
    assert_eq!(member.entry, file);
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![8 => b'a'..=b'z', 1 => Just(b'.'), 1 => 1u8..=255];
    let component =
        prop_oneof![6 => prop::collection::vec(byte.clone(), 1..20), 1 => prop::collection::vec(byte, 90..255)]
            .prop_map(|mut component: Vec<u8>| {
                component.retain(|byte| *byte != b'/');
                component
            })
            .prop_filter("a name", |component| !matches!(component.as_slice(), b"" | b"." | b".."));
    prop::collection::vec(component, 1..5).prop_map(|components| components.join(&b'/'))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        3 => (0u64..2000).prop_map(|size| EntryKind::File { size }),
        2 => Just(EntryKind::Directory),
        1 => prop::collection::vec(1u8..=255, 1..300).prop_map(|target| EntryKind::Symlink { target }),
        1 => name().prop_map(|target| EntryKind::Hardlink { target }),
        1 => (0u32..4096, 0u32..(1 << 20)).prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        1 => (0u32..4096, 0u32..(1 << 20)).prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
        1 => Just(EntryKind::Fifo),
    ];
    let id = prop_oneof![3 => 0u64..70_000, 1 => any::<u32>().prop_map(u64::from)];
    let seconds = prop_oneof![3 => 0i64..2_000_000_000, 1 => -10_000_000_000i64..20_000_000_000];
    let nanoseconds =
        prop_oneof![1 => Just(0), 1 => 0u32..1_000_000_000, 1 => (0u32..1000).prop_map(|ms| ms * 1_000_000)];
    // No `=` in names here: Python does not undo GNU tar's writing of it. An empty value is no record to Python.
    let xattr_name = "(user|trusted|security)\\.[a-z%.]{1,20}".prop_map(String::into_bytes);
    let xattrs = prop::collection::btree_map(xattr_name, prop::collection::vec(any::<u8>(), 1..100), 0..3);
    let fields = (name(), kind, 0u32..=0o7777, id.clone(), id, seconds, nanoseconds, xattrs);
    fields.prop_map(|(path, kind, mode, uid, gid, seconds, nanoseconds, xattrs)| {
        let mtime = Timestamp { seconds, nanoseconds };
        Entry { path, kind, mode, uid, gid, mtime, xattrs }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn python_reads_any_entries_as_they_were_meant(entries in prop::collection::vec(any_entry(), 1..40)) {
        check(&entries);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_xattr_name_comes_back(names in prop::collection::btree_map("user\\.([=%25D3]|%3D){1,8}", ".{0,3}", 1..6)) {
        let mut file = entry(b"f", EntryKind::Fifo);
        file.xattrs = names.into_iter().map(|(name, value)| (name.into_bytes(), value.into_bytes())).collect();
        let archive = [encode(&file, None, false), END.to_vec()].concat();
        prop_assert_eq!(&members(&archive).unwrap()[0].entry, &file);
    }
}
