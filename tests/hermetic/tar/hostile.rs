//! Archives that are cut, flipped or made to harm: an error that says where, never a panic, never memory by a claim.

use castoff::error::Kind;
use castoff::rootfs::Limits;
use castoff::rootfs::tar::{Change, Globals, Scanner, Sequential, member_at, rewrite};
use proptest::prelude::*;

use super::{END, Header, bytes_of, extended, members, members_within, padded, python_archive, record};

fn corpus() -> Vec<Vec<u8>> {
    let script = r"
add('dir', type=tarfile.DIRTYPE)
add('dir/' + 'f' * 150, content=b'hello', mtime=1.5)
add('hard', type=tarfile.LNKTYPE, linkname='dir/' + 'f' * 150)
add('sym', type=tarfile.SYMTYPE, linkname='t' * 120)
add('char', type=tarfile.CHRTYPE, devmajor=1, devminor=3)
";
    let mut corpus: Vec<_> = ["GNU", "PAX"]
        .iter()
        .map(|format| {
            let mut archive = python_archive(format, script);
            let end = members(&archive).unwrap().last().unwrap().span.end();
            archive.truncate(usize::try_from(end).unwrap() + 1024);
            archive
        })
        .collect();
    let old_sparse =
        Header::new(b"s", b'S', 3).set(257, b"ustar  \0").set(386, b"00000000005\0").set(398, b"00000000003\0");
    let map =
        [record(b"GNU.sparse.major", b"1"), record(b"GNU.sparse.minor", b"0"), record(b"GNU.sparse.realsize", b"9")];
    corpus.push(
        [
            extended(b'g', &[record(b"uid", b"5"), record(b"SCHILY.xattr.user.g", b"v")].concat()),
            extended(b'x', &[record(b"path", b"a\n"), record(b"LIBARCHIVE.xattr.user.a%41", b"bm8")].concat()),
            Header::new(b"f", b'0', 0).sealed(),
            old_sparse.set(483, b"00000000011\0").sealed(),
            padded(b"abc"),
            extended(b'x', &map.concat()),
            Header::new(b"t", b'0', 515).sealed(),
            padded(&[padded(b"1\n3\n3\n"), b"xyz".to_vec()].concat()),
            END.to_vec(),
        ]
        .concat(),
    );
    corpus
}

/// Does everything there is with an archive; the number of members or the error.
fn exercise(archive: &Vec<u8>) -> castoff::error::Result<usize> {
    let all = members(archive)?;
    let mut out = Vec::new();
    for member in &all {
        member_at(archive, member.span.header, &Globals::default(), Limits::default()).ok();
        out.extend(rewrite(archive, member, &Change::default())?);
        if member.sparse.as_ref().is_none_or(|sparse| sparse.real_size() < 1 << 20) {
            bytes_of(archive, member);
        }
        let data = usize::try_from(member.span.data).unwrap();
        out.extend(padded(&archive[data..data + usize::try_from(member.span.stored).unwrap()]));
    }
    // What was rewritten says the same again, and is in the one form that needs no rewriting.
    let again = members(&out).unwrap_or_else(|error| panic!("castoff wrote what it cannot read: {}", error.render()));
    assert_eq!(again.len(), all.len());
    for (before, after) in all.iter().zip(&again) {
        assert_eq!(before.entry, after.entry);
        assert!(after.verbatim);
    }
    Ok(all.len())
}

#[test]
fn cut_anywhere_an_archive_is_truncated_or_ends_between_members() {
    for archive in corpus() {
        let all = members(&archive).unwrap();
        let ends: Vec<u64> = all.iter().map(|member| member.span.end()).collect();
        let starts: Vec<u64> = all.iter().map(|member| member.span.header).collect();
        for length in 0..archive.len() {
            let cut = archive[..length].to_vec();
            let streamed = {
                let mut scanner = Scanner::new(Sequential::new(cut.as_slice()), Limits::default());
                std::iter::from_fn(|| scanner.next_member().transpose())
                    .collect::<Result<Vec<_>, _>>()
                    .map(|all| all.len())
            };
            let length = length as u64;
            let between = length == 0
                || ends.contains(&length)
                || starts.contains(&length)
                || length == archive.len() as u64 - 512;
            match exercise(&cut) {
                Ok(count) => {
                    assert!(between, "cut at {length}: {count} members");
                    assert_eq!(streamed.unwrap(), count);
                }
                Err(error) => {
                    assert!(!between, "cut at {length}: {}", error.render());
                    assert_eq!(error.kind(), Kind::Corrupt);
                    assert!(
                        error.message().contains("truncated")
                            || error.message().contains("ends at")
                            || error.message().contains("followed by"),
                        "{}",
                        error.message()
                    );
                    assert_eq!(streamed.unwrap_err().message(), error.message());
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_header_is_found() {
    for archive in corpus() {
        let blocks: Vec<u64> = members(&archive).unwrap().iter().map(|member| member.span.block).collect();
        for block in blocks {
            let block = usize::try_from(block).unwrap();
            for bit in 0..512 * 8 {
                let mut flipped = archive.clone();
                flipped[block + bit / 8] ^= 1 << (bit % 8);
                match exercise(&flipped) {
                    // Only in the checksum's own spelling can a bit change nothing.
                    Ok(_) => assert!((148..156).contains(&(bit / 8)), "bit {bit} of the block at {block}"),
                    Err(error) => assert_eq!(error.kind(), Kind::Corrupt, "{}", error.render()),
                }
            }
        }
    }
}

#[test]
fn paths_that_climb_are_refused_and_named() {
    for name in [&b"../x"[..], b"a/../../x", b"..", b"a/..", b"/.."] {
        for parts in [
            vec![Header::new(name, b'0', 0).sealed()],
            vec![extended(b'x', &record(b"path", name)), Header::new(b"f", b'5', 0).sealed()],
            vec![
                Header::new(b"@", b'L', name.len() as u64).sealed(),
                padded(name),
                Header::new(b"f", b'0', 0).sealed(),
            ],
            vec![Header::new(b"h", b'1', 0).set(157, name).sealed()],
        ] {
            let archive = [Header::new(b"first", b'0', 0).sealed(), parts.concat(), END.to_vec()].concat();
            let error = members(&archive).unwrap_err();
            assert_eq!(error.kind(), Kind::Refused, "{}", error.message());
            assert!(error.message().starts_with("member 2 at offset "), "{}", error.message());
            assert!(
                error.message().contains(&format!("`{}` has a `..` component", name.escape_ascii())),
                "{}",
                error.message()
            );
        }
    }
}

#[test]
fn nul_bytes_in_names_are_refused() {
    for (key, typeflag) in [(&b"path"[..], b'0'), (b"linkpath", b'1'), (b"linkpath", b'2')] {
        let archive =
            [extended(b'x', &record(key, b"a\0b")), Header::new(b"f", typeflag, 0).sealed(), END.to_vec()].concat();
        let error = members(&archive).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.message().contains("NUL"), "{}", error.message());
    }
}

#[test]
fn a_claim_costs_nothing_and_is_named() {
    let limits = Limits { entries: 10, header_bytes: 4096, path_bytes: 100 };
    let refused = |parts: &[Vec<u8>]| members_within(&parts.concat(), limits).unwrap_err();
    for (typeflag, size) in [(b'x', 1 << 32), (b'g', 1 << 32), (b'L', 5000), (b'K', 0o77_777_777_777), (b'x', 3800)] {
        let error = refused(&[Header::new(b"claim", typeflag, size).sealed()]);
        assert_eq!(error.kind(), Kind::Limit, "{}", error.message());
        assert!(error.message().contains(&format!("{size} bytes")), "{}", error.message());
    }
    // Many small headers before one member add up.
    let error = refused(&vec![extended(b'x', &record(b"a", b"b")); 5]);
    assert_eq!(error.kind(), Kind::Limit);
    let error = refused(&vec![Header::new(b"f", b'0', 0).sealed(); 11]);
    assert_eq!((error.kind(), error.message()), (Kind::Limit, "the archive has more than 10 members"));
    let error = refused(&vec![extended(b'g', &record(b"a", b"b")); 11]);
    assert_eq!(error.kind(), Kind::Limit);
    let error = refused(&[extended(b'x', &record(b"path", &b"p".repeat(101))), Header::new(b"f", b'0', 0).sealed()]);
    assert!(error.message().contains("a path of 101 bytes, where 100 are allowed"), "{}", error.message());
    let error =
        refused(&[extended(b'x', &record(b"linkpath", &b"p".repeat(101))), Header::new(b"f", b'2', 0).sealed()]);
    assert_eq!(error.kind(), Kind::Limit);
}

#[test]
fn sizes_that_lie_are_errors() {
    for (size, said) in [
        (&b"00000001000\0"[..], "512 bytes of content are announced, 0 are there"),
        (b"77777777777\0", "8589934591 bytes of content are announced"),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", "9223372036854775807 bytes"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "the size is negative (-1)"),
        (b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", "not a number"),
    ] {
        let archive = Header::new(b"f", b'0', 0).set(124, size).sealed();
        let error = members(&archive).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.message().contains(said), "{}", error.message());
    }
    for size in ["18446744073709551615", "18446744073709551616", "-1", "0x10", "9223372036854775807"] {
        let archive = [extended(b'x', &record(b"size", size.as_bytes())), Header::new(b"f", b'0', 0).sealed()].concat();
        assert_eq!(members(&archive).unwrap_err().kind(), Kind::Corrupt, "{size}");
    }
}

#[test]
fn malformed_records_are_errors_that_say_where() {
    for content in [
        &b"5 a=\n"[..],
        b"99 a=b\n",
        b"6 a=bX",
        b"0 a=b\n",
        b"x a=b\n",
        b" 6 a=b\n",
        b"6a=b\n",
        b"4 a\n",
        b"5 =b\n",
        b"7 a\0=b\n",
        b"99999999999999999999999 a=b\n",
        b"6 a=b\n\0\0",
        b"2 ",
        b"1",
        b"3 \n",
    ] {
        let archive = [extended(b'x', content), Header::new(b"f", b'0', 0).sealed(), END.to_vec()].concat();
        match members(&archive) {
            Ok(_) => assert_eq!(content, b"5 a=\n", "{}", content.escape_ascii()),
            Err(error) => {
                assert_eq!(error.kind(), Kind::Corrupt);
                assert!(error.message().starts_with("member 1 at offset 0 of the archive: "), "{}", error.message());
            }
        }
    }
    let alone = [extended(b'x', &record(b"a", b"b")), END.to_vec()].concat();
    let error = members(&alone).unwrap_err();
    assert!(error.message().contains("behind an extended header without a member"), "{}", error.message());
}

#[test]
fn a_corrupt_header_in_the_middle_names_its_offset() {
    let good = Header::new(b"f", b'0', 0).sealed();
    let archive = [good.clone(), vec![b'?'; 512], good].concat();
    let error = members(&archive).unwrap_err();
    assert_eq!(error.message(), "the header at offset 512 of the archive has a wrong checksum");
    let error = members(&b"\x1f\x8b\x08".repeat(300)).unwrap_err();
    assert!(error.render().contains("hint: a compressed archive must be decompressed first"), "{}", error.render());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_anywhere_with_sealed_headers_nothing_panics(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        thread_local!(static CORPUS: Vec<Vec<u8>> = corpus());
        let mut archive = CORPUS.with(|corpus| corpus[which].clone());
        for (place, byte) in changes {
            let place = place.index(archive.len());
            archive[place] = byte;
        }
        // Seal whatever looks like a header, so that changes reach behind the checksum.
        for block in archive.chunks_exact_mut(512).filter(|block| &block[257..262] == b"ustar") {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        exercise(&archive).ok();
    }
}
