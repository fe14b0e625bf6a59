//! The odd forms of single headers, made by hand from the specifications.

use castoff::error::Kind;
use castoff::rootfs::tar::{Change, Positioned, Scanner, Sequential, member_at, rewrite};
use castoff::rootfs::{EntryKind, Limits, ReadAt, Timestamp};

use super::{END, Header, extended, members, padded, python_listing, record};

fn one(parts: &[Vec<u8>]) -> castoff::rootfs::tar::Member {
    let archive = [parts.concat(), END.to_vec()].concat();
    let mut all = members(&archive).unwrap_or_else(|error| panic!("{}", error.render()));
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn refusal(parts: &[Vec<u8>]) -> castoff::error::Error {
    let archive = [parts.concat(), END.to_vec()].concat();
    members(&archive).expect_err("it is refused")
}

#[test]
fn numbers_in_every_spelling() {
    for (field, seconds) in [
        (&b"00000000017\0"[..], 15),
        (b"         17 ", 15),
        (b"17\0\0\0\0\0\0\0\0\0\0", 15),
        (b" 17 \0rubbish", 15),
        (b"\0\0\0\0\0\0\0\0\0\0\0\0", 0),
        (b"777777777777", 0o777_777_777_777),
        (b"\x80\0\0\0\0\0\0\0\0\0\x01\0", 256),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", i64::MAX),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", -1),
        (b"\xff\xff\xff\xff\x80\0\0\0\0\0\0\0", i64::MIN),
    ] {
        let member = one(&[Header::new(b"f", b'0', 0).set(136, field).sealed()]);
        assert_eq!(member.entry.mtime, Timestamp { seconds, nanoseconds: 0 }, "{}", field.escape_ascii());
    }
    for field in [
        &b"8\0\0\0\0\0\0\0\0\0\0\0"[..],
        b"1 2\0\0\0\0\0\0\0\0\0",
        b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
        b"-1\0\0\0\0\0\0\0\0\0\0",
    ] {
        let error = refusal(&[Header::new(b"f", b'0', 0).set(136, field).sealed()]);
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.message().contains("modification time"), "{}", error.message());
    }
}

#[test]
fn a_checksum_over_signed_bytes_is_right_too() {
    let mut block = Header::new("caf\u{e9}".as_bytes(), b'0', 0).sealed();
    block[148..156].fill(b' ');
    let sum: i32 = block.iter().map(|byte| i32::from(byte.cast_signed())).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert_eq!(one(&[block]).entry.path, "caf\u{e9}".as_bytes());
}

#[test]
fn pax_times_keep_nanoseconds_on_both_sides_of_1970() {
    for (text, seconds, nanoseconds) in [
        ("1.5", 1, 500_000_000),
        ("0.000000001", 0, 1),
        ("-1.5", -2, 500_000_000),
        ("-0.25", -1, 750_000_000),
        ("-1", -1, 0),
        ("-0", 0, 0),
        ("7.", 7, 0),
        ("1700000000.1234567899", 1_700_000_000, 123_456_789),
        ("-0.0000000001", -1, 999_999_999),
        ("7258118400", 7_258_118_400, 0),
    ] {
        let member = one(&[extended(b'x', &record(b"mtime", text.as_bytes())), Header::new(b"f", b'0', 0).sealed()]);
        assert_eq!(member.entry.mtime, Timestamp { seconds, nanoseconds }, "{text}");
    }
    for text in ["1e3", "", "x", "1.-5", "--1", "99999999999999999999"] {
        let parts = [extended(b'x', &record(b"mtime", text.as_bytes())), Header::new(b"f", b'0', 0).sealed()];
        match text {
            "" => assert_eq!(one(&parts).entry.mtime.seconds, 0),
            _ => assert!(refusal(&parts).message().contains("`mtime`"), "{text}"),
        }
    }
}

#[test]
fn pax_values_hold_any_byte() {
    let value = b"a\0b\nc=d 12 path=evil\n";
    let records = [record(b"SCHILY.xattr.user.bin", value), record(b"path", b"new\nline=\xff")].concat();
    let member = one(&[extended(b'x', &records), Header::new(b"f", b'0', 0).sealed()]);
    assert_eq!(member.entry.path, b"new\nline=\xff");
    assert_eq!(member.entry.xattrs[&b"user.bin"[..]], value);
    assert!(member.verbatim);
}

#[test]
fn an_xattr_name_with_an_equals_sign_is_read_as_gnu_tar_writes_it() {
    let records = [record(b"SCHILY.xattr.user.a%3Db%25", b"1"), record(b"SCHILY.xattr.user.c%25", b"2")].concat();
    let member = one(&[extended(b'x', &records), Header::new(b"f", b'0', 0).sealed()]);
    assert_eq!(member.entry.xattrs.keys().collect::<Vec<_>>(), [b"user.a=b%".as_slice(), b"user.c%25"]);
}

#[test]
fn later_records_win_and_empty_ones_take_away() {
    let member = one(&[
        extended(
            b'x',
            &[record(b"path", b"first"), record(b"uid", b"7"), record(b"SCHILY.xattr.user.k", b"v")].concat(),
        ),
        extended(
            b'x',
            &[record(b"path", b"second"), record(b"uid", b""), record(b"SCHILY.xattr.user.k", b"")].concat(),
        ),
        Header::new(b"f", b'0', 0).sealed(),
    ]);
    assert_eq!((member.entry.path.as_slice(), member.entry.uid), (&b"second"[..], 0));
    assert!(member.entry.xattrs.is_empty());
    assert!(!member.verbatim, "Go forgets the first header");
    // An empty record that takes nothing away is an xattr without content.
    let member = one(&[extended(b'x', &record(b"SCHILY.xattr.user.e", b"")), Header::new(b"f", b'0', 0).sealed()]);
    assert_eq!(member.entry.xattrs[&b"user.e"[..]], b"");
}

#[test]
fn libarchive_xattrs_count_where_there_is_no_other_form() {
    let records = [
        record(b"LIBARCHIVE.xattr.user.a%3Db", b"AP8K"),
        record(b"LIBARCHIVE.xattr.user.both", b"bm8"),
        record(b"SCHILY.xattr.user.both", b"yes"),
    ];
    let member = one(&[extended(b'x', &records.concat()), Header::new(b"f", b'0', 0).sealed()]);
    assert_eq!(member.entry.xattrs[&b"user.a=b"[..]], b"\0\xff\n");
    assert_eq!(member.entry.xattrs[&b"user.both"[..]], b"yes");
    assert!(!member.verbatim, "engines do not read user.a=b");
    let error =
        refusal(&[extended(b'x', &record(b"LIBARCHIVE.xattr.user.a", b"?")), Header::new(b"f", b'0', 0).sealed()]);
    assert!(error.message().contains("LIBARCHIVE.xattr.user.a"), "{}", error.message());
}

#[test]
fn global_records_count_for_every_member_behind_them() {
    let archive = [
        Header::new(b"before", b'0', 0).sealed(),
        extended(
            b'g',
            &[record(b"uid", b"1234567"), record(b"SCHILY.xattr.user.g", b"all"), record(b"comment", b"c")].concat(),
        ),
        Header::new(b"one", b'0', 3).sealed(),
        padded(b"abc"),
        extended(b'x', &[record(b"uid", b""), record(b"SCHILY.xattr.user.g", b""), record(b"gid", b"9")].concat()),
        Header::new(b"two", b'0', 0).sealed(),
        extended(b'g', &record(b"uid", b"")),
        Header::new(b"three", b'5', 0).sealed(),
        END.to_vec(),
    ]
    .concat();
    let mut scanner = Scanner::new(Positioned::new(&archive, 0), Limits::default());
    let mut all = Vec::new();
    while let Some(member) = scanner.next_member().unwrap() {
        all.push(member);
    }
    let said: Vec<_> = all.iter().map(|m| (m.entry.uid, m.entry.gid, m.entry.xattrs.len(), m.verbatim)).collect();
    assert_eq!(said, [(0, 0, 0, true), (1_234_567, 0, 1, false), (0, 9, 0, false), (0, 0, 1, false)]);
    // Read again alone, and written without the global header, each is what it was.
    let mut written = Vec::new();
    for member in &all {
        let again = member_at(&archive, member.span.header, scanner.globals(), Limits::default()).unwrap();
        assert_eq!((&again.entry, again.span, again.verbatim), (&member.entry, member.span, member.verbatim));
        written.extend(rewrite(&archive, &again, &Change::default()).unwrap());
        let data = usize::try_from(member.span.data).unwrap();
        written.extend(padded(&archive[data..data + usize::try_from(member.span.stored).unwrap()]));
    }
    written.extend(END);
    let python = python_listing(&written);
    let field =
        |line: &String, key: &str| line.split(' ').find_map(|f| f.strip_prefix(key).map(str::to_owned)).unwrap();
    let said: Vec<_> = python.iter().map(|line| (field(line, "uid="), field(line, "xattrs="))).collect();
    let all = "757365722e67:616c6c".to_owned();
    assert_eq!(
        said,
        [("0".into(), String::new()), ("1234567".into(), all.clone()), ("0".into(), String::new()), ("0".into(), all)]
    );
}

#[test]
fn a_global_remark_changes_no_member() {
    let comment = extended(b'g', &record(b"comment", b"d3adb33f"));
    let member = one(&[comment, Header::new(b"f", b'0', 0).sealed()]);
    assert!(member.verbatim);
    assert_eq!(member.span.header, 1024, "the global header is no part of it");
}

#[test]
fn gnu_names_override_and_are_cut_at_their_nul() {
    let name = [b"n".repeat(400), b"\0junk".to_vec()].concat();
    let parts = [
        Header::new(b"././@LongLink", b'L', name.len() as u64).sealed(),
        padded(&name),
        Header::new(b"././@LongLink", b'K', 6).sealed(),
        padded(b"target"),
        Header::new(b"nnn", b'2', 0).set(157, b"tar").set(257, b"ustar  \0").sealed(),
    ];
    let member = one(&parts);
    assert_eq!(member.entry.path, b"n".repeat(400));
    assert_eq!(member.entry.kind, EntryKind::Symlink { target: b"target".to_vec() });
    assert!(member.verbatim);
}

#[test]
fn prefixes_of_ustar_and_star_are_part_of_the_name() {
    let long = b"p".repeat(155);
    let member = one(&[Header::new(b"f", b'0', 0).set(345, &long).sealed()]);
    assert_eq!(member.entry.path, [&long[..], b"/f"].concat());
    // star keeps times behind a prefix of 131.
    let star = Header::new(b"f", b'0', 0).set(345, b"dir").set(476, b"12345670123\x0012345670123\0").set(508, b"tar\0");
    assert_eq!(one(&[star.sealed()]).entry.path, b"dir/f");
    // GNU and V7 have no prefix there.
    let gnu = Header::new(b"f", b'0', 0).set(257, b"ustar  \0").set(345, b"14000000000\0");
    assert_eq!(one(&[gnu.sealed()]).entry.path, b"f");
    let v7 = Header::new(b"f", b'0', 0).set(257, &[0; 8]).set(345, b"junk");
    assert_eq!(one(&[v7.sealed()]).entry.path, b"f");
}

#[test]
fn types_that_readers_take_differently_are_not_copied_as_they_are() {
    let kind = |name: &[u8], typeflag, size, content: &[u8]| {
        let member = one(&[Header::new(name, typeflag, size).sealed(), padded(content)]);
        (member.entry.kind.clone(), member.verbatim)
    };
    assert_eq!(kind(b"f", 0, 3, b"abc"), (EntryKind::File { size: 3 }, true));
    assert_eq!(kind(b"f", b'7', 3, b"abc"), (EntryKind::File { size: 3 }, false));
    assert_eq!(kind(b"d/", b'0', 0, b""), (EntryKind::Directory, false));
    assert_eq!(kind(b"d/", 0, 0, b""), (EntryKind::Directory, false));
    assert_eq!(kind(b"d", b'5', 0, b""), (EntryKind::Directory, true));
    assert_eq!(kind(b"d/", b'5', 0, b""), (EntryKind::Directory, true));
    assert_eq!(kind(b"d//", b'5', 0, b""), (EntryKind::Directory, false));
    assert_eq!(kind(b"d/", b'5', 4096, b""), (EntryKind::Directory, false));
    assert_eq!(kind(b"./", b'5', 0, b""), (EntryKind::Directory, true));
    assert_eq!(kind(b"/", b'5', 0, b""), (EntryKind::Directory, false));
    assert_eq!(kind(b"p", b'6', 0, b""), (EntryKind::Fifo, true));
    assert_eq!(kind(b"dump", b'D', 6, b"Yfile\0"), (EntryKind::Directory, false));
    for (name, typeflag, size, said) in [
        (&b"d/"[..], b'0', 3, "a directory by its name"),
        (b"f", b'M', 3, "continued from another volume"),
        (b"f", b'N', 3, "until 1993"),
        (b"f", b'S', 3, "a sparse file outside a GNU archive"),
        (b"f", b'Q', 3, "unknown type (type `Q`)"),
        (b".", b'0', 0, "the root is not a directory"),
        (b"", b'0', 0, "the name is empty"),
    ] {
        let error = refusal(&[Header::new(name, typeflag, size).sealed(), padded(b"abc")]);
        assert!(error.message().contains(said), "{}", error.message());
    }
}

#[test]
fn a_volume_label_is_passed_over_and_noted() {
    let archive =
        [Header::new(b"backup 1", b'V', 0).sealed(), Header::new(b"f", b'0', 0).sealed(), END.to_vec()].concat();
    let mut scanner = Scanner::new(Sequential::new(archive.as_slice()), Limits::default());
    assert_eq!(scanner.next_member().unwrap().unwrap().span.header, 512);
    assert!(scanner.next_member().unwrap().is_none());
    assert_eq!(scanner.notes(), ["the volume label `backup 1` was passed over"]);
}

#[test]
fn a_size_on_a_link_is_not_followed_and_rewritten_to_nothing() {
    let link = Header::new(b"l", b'1', 700).set(157, b"f").sealed();
    let archive = [link.clone(), Header::new(b"next", b'0', 0).sealed(), END.to_vec()].concat();
    let all = members(&archive).unwrap();
    assert_eq!(all.len(), 2);
    assert!(!all[0].verbatim);
    assert_eq!(all[0].span.stored, 0);
    let written = rewrite(&archive, &all[0], &Change::default()).unwrap();
    assert_eq!(&written[124..136], b"00000000000\0");
    // With content behind it, as `pax -o linkdata` writes, no engine reads the archive either: the error says why.
    let archive = [link, vec![b'x'; 1024], END.to_vec()].concat();
    let error = members(&archive).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt);
    assert!(error.render().contains("claims 700 bytes of content"), "{}", error.render());
}

#[test]
fn names_come_out_normal_and_say_whether_they_were() {
    for (raw, path, verbatim) in [
        (&b"./a"[..], &b"a"[..], false),
        (b"/a", b"a", false),
        (b"a//b", b"a/b", false),
        (b"a/./b", b"a/b", false),
        (b"a/b", b"a/b", true),
        (b"...", b"...", true),
        (b"a..b", b"a..b", true),
        (b"\xff\n*", b"\xff\n*", true),
    ] {
        let member = one(&[Header::new(raw, b'0', 0).sealed()]);
        assert_eq!((member.entry.path.as_slice(), member.verbatim), (path, verbatim), "{}", raw.escape_ascii());
        let link = one(&[Header::new(b"l", b'1', 0).set(157, raw).sealed()]);
        assert_eq!(link.entry.kind, EntryKind::Hardlink { target: path.to_vec() });
        assert_eq!(link.verbatim, verbatim);
        let symlink = one(&[Header::new(b"l", b'2', 0).set(157, raw).sealed()]);
        assert_eq!(symlink.entry.kind, EntryKind::Symlink { target: raw.to_vec() }, "data, byte for byte");
        assert!(symlink.verbatim);
    }
}

#[test]
fn an_archive_may_lack_its_end_but_not_the_end_of_a_block() {
    let file = [Header::new(b"f", b'0', 3).sealed(), padded(b"abc")].concat();
    let with = |end: &[u8]| members(&[&file, end].concat()).map(|all| all.len());
    assert_eq!(with(&END).unwrap(), 1);
    assert_eq!(with(&[0; 512]).unwrap(), 1);
    assert_eq!(with(&[]).unwrap(), 1);
    assert_eq!(members(&Vec::new()).unwrap().len(), 0);
    for (end, said) in [(&[0; 100][..], "needs 512 bytes, 100 are there"), (&[0; 700], "followed by 188 other bytes")] {
        let error = with(end).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.message().contains(said), "{}", error.message());
    }
    let error = with(&[vec![0; 512], file.clone()].concat()).unwrap_err();
    assert!(error.message().contains("the block of zeros at offset 1024"), "{}", error.message());
    // What follows the end is the caller's.
    let archive = [&file, &END[..], b"trailing"].concat();
    let mut scanner = Scanner::new(Sequential::new(archive.as_slice()), Limits::default());
    while scanner.next_member().unwrap().is_some() {}
    assert_eq!(scanner.offset(), 2048);
    assert_eq!(scanner.into_input().drain().unwrap(), 8);
}

/// Counts what is read of a source.
struct Counted(Vec<u8>, std::sync::atomic::AtomicU64);

impl ReadAt for Counted {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        let count = self.0.read_at(buffer, offset)?;
        self.1.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(count)
    }

    fn size(&self) -> u64 {
        self.0.size()
    }
}

#[test]
fn content_that_is_passed_over_is_not_read() {
    let file = [Header::new(b"f", b'0', 1 << 20).sealed(), vec![7; 1 << 20]].concat();
    let source = Counted([file.repeat(16), END.to_vec()].concat(), std::sync::atomic::AtomicU64::new(0));
    let mut scanner = Scanner::new(Positioned::new(&source, 0), Limits::default());
    while scanner.next_member().unwrap().is_some() {}
    let read = source.1.into_inner();
    assert!(read <= 16 * 4096 + 4096, "{read} of {} bytes read", source.0.len());
}
