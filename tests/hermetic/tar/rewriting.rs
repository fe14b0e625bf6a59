//! Members with changed headers: everything else stays, and every reader agrees about the result.

use std::collections::BTreeMap;
use std::process::Command;

use castoff::rootfs::tar::{Change, Member, TextAcls, rewrite};
use castoff::rootfs::{EntryKind, Timestamp};

use super::{
    END, Header, bytes_of, extended, listed_by_both, members, padded, python_archive, python_listing, record, run,
};

/// Rewrites every member; content is copied as it is stored.
fn rewritten(archive: &Vec<u8>, change: impl Fn(&Member) -> Change) -> Vec<u8> {
    let mut out = Vec::new();
    for member in members(archive).unwrap() {
        out.extend(rewrite(archive, &member, &change(&member)).unwrap());
        let data = usize::try_from(member.span.data).unwrap();
        out.extend(padded(&archive[data..data + usize::try_from(member.span.stored).unwrap()]));
    }
    out.extend(END);
    out
}

const ODD: &str = r"
mtime = 1700000000
add('./', type=tarfile.DIRTYPE, mode=0o755)
add('./dir', type=tarfile.DIRTYPE, mode=0o2755, mtime=mtime)
add('./dir//file', content=b'hello', mode=0o4711, uid=1000, gid=1001, mtime=mtime, uname='someone', gname='staff')
add('/dir/link', type=tarfile.LNKTYPE, linkname='./dir//file')
add('dir/sym', type=tarfile.SYMTYPE, linkname='../../outside')
add('./char', type=tarfile.CHRTYPE, devmajor=10, devminor=229)
add('./fifo', type=tarfile.FIFOTYPE)
add('./' + 'l' * 90, content=b'long')
";

#[test]
fn odd_names_are_written_in_normal_form_in_every_dialect() {
    for format in ["USTAR", "GNU", "PAX"] {
        let source = python_archive(format, ODD);
        let archive = rewritten(&source, |_| Change::default());
        let (before, after) = (members(&source).unwrap(), members(&archive).unwrap());
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.entry, after.entry);
            assert!(after.verbatim, "{format}: {:?}", String::from_utf8_lossy(&after.entry.path));
            assert_eq!(bytes_of(&source, before), bytes_of(&archive, after));
        }
        let names =
            ["./", "dir/", "dir/file", "dir/link", "dir/sym", "char", "fifo", &"l".repeat(90)].map(String::from);
        let (gnu, bsd) = listed_by_both(&archive);
        assert_eq!((&gnu[..], &bsd[..]), (&names[..], &names[..]), "{format}");
        // All but the names is what Python read before.
        let fields = |archive: &[u8]| -> Vec<String> {
            let without = |line: &String| {
                line.split(' ')
                    .filter(|f| !f.starts_with("path=") && !f.starts_with("link="))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            python_listing(archive).iter().map(without).collect()
        };
        assert_eq!(fields(&source), fields(&archive));
        // The names of owner and group are not among what castoff knows, and stay.
        let verbose = String::from_utf8(run(Command::new("tar").args(["-tvf", "-"]), &archive)).unwrap();
        assert!(verbose.contains("someone/staff"), "{verbose}");
        assert_eq!(rewritten(&archive, |_| Change::default()), archive, "once is enough");
    }
}

#[test]
fn every_field_can_be_changed_in_every_dialect() {
    let change = Change {
        path: Some([b"p/".to_vec(), b"q".repeat(180), b"\xff".to_vec()].concat()),
        link: None,
        mode: Some(0o2640),
        uid: Some(3_000_000),
        gid: Some(12),
        mtime: Some(Timestamp { seconds: -2, nanoseconds: 500_000_000 }),
        xattrs: Some(BTreeMap::from([(b"user.new".to_vec(), b"\0\n".to_vec())])),
        text_acls: Some(TextAcls { access: Some(b"user::rw-,group::r--,other::---".to_vec()), default: None }),
        expand: false,
    };
    for format in ["USTAR", "GNU", "PAX"] {
        let pax = if format == "PAX" {
            "pax={'SCHILY.xattr.user.old': 'x', 'VENDOR.key': 'kept', 'atime': '5.5'}"
        } else {
            ""
        };
        let source =
            python_archive(format, &format!("add('f' * 120 + '/f', content=b'hello', uid=1, mtime=77, {pax})"));
        let archive = rewritten(&source, |_| change.clone());
        let path: String = format!("702f{}ff", "71".repeat(180));
        let line = python_listing(&archive).remove(0);
        assert!(
            line.starts_with(&format!(
                "path={path} kind=0 mode=2640 uid=3000000 gid=12 mtime=-1.5 link= device= size=5 "
            )),
            "{format} {line}"
        );
        assert!(line.ends_with(" xattrs=757365722e6e6577:000a"), "{line}");
        let member = members(&archive).unwrap().remove(0);
        assert!(member.verbatim);
        assert_eq!(member.text_acls, change.text_acls);
        assert_eq!(bytes_of(&archive, &member), b"hello");
        let has = |text: &[u8]| archive.windows(text.len()).any(|window| window == text);
        if format == "PAX" {
            assert!(has(b"19 VENDOR.key=kept\n") && has(b"13 atime=5.5\n"), "what is not understood stays");
        }
        assert!(!has(b"@LongLink"), "GNU's long names become records");
    }
}

#[test]
fn link_targets_can_be_changed() {
    for format in ["USTAR", "GNU", "PAX"] {
        let source = python_archive(
            format,
            "add('h', type=tarfile.LNKTYPE, linkname='a' * 99)\nadd('s', type=tarfile.SYMTYPE, linkname='a' * 99)",
        );
        for target in [b"short".to_vec(), b"t".repeat(100), b"t".repeat(101), b"\xe9".to_vec()] {
            let archive = rewritten(&source, |_| Change { link: Some(target.clone()), ..Change::default() });
            let kinds: Vec<_> = members(&archive).unwrap().into_iter().map(|member| member.entry.kind).collect();
            assert_eq!(
                kinds,
                [EntryKind::Hardlink { target: target.clone() }, EntryKind::Symlink { target: target.clone() }]
            );
            let hex: String = target.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(python_listing(&archive).iter().all(|line| line.contains(&format!("link={hex} "))));
        }
    }
}

#[test]
fn forms_that_readers_differ_on_come_out_in_one() {
    let source = [
        Header::new(b"old/", 0, 0).set(257, &[0; 8]).sealed(),
        Header::new(b"contiguous", b'7', 3).sealed(),
        padded(b"abc"),
        Header::new(b"dump", b'D', 6).sealed(),
        padded(b"Yfile\0"),
        extended(b'x', &record(b"LIBARCHIVE.xattr.user.a", b"bm8")),
        extended(b'x', &record(b"path", b"two headers")),
        Header::new(b"x", b'5', 4096).sealed(),
        END.to_vec(),
    ]
    .concat();
    assert!(members(&source).unwrap().iter().all(|member| !member.verbatim));
    let archive = rewritten(&source, |_| Change::default());
    let after = members(&archive).unwrap();
    assert!(after.iter().all(|member| member.verbatim));
    let lines = python_listing(&archive);
    let shown: Vec<_> = lines.iter().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        shown,
        [
            "path=6f6c64 kind=5",
            "path=636f6e746967756f7573 kind=0",
            "path=64756d70 kind=5",
            "path=74776f2068656164657273 kind=5"
        ]
    );
    assert!(lines[3].ends_with("xattrs=757365722e61:6e6f"), "{}", lines[3]);
    let typeflags: Vec<u8> =
        after.iter().map(|member| archive[usize::try_from(member.span.block).unwrap() + 156]).collect();
    assert_eq!(typeflags, b"5055");
}

#[test]
fn a_change_is_found_between_entries() {
    let source = python_archive("PAX", "add('f', content=b'x')\nadd('l', type=tarfile.SYMTYPE, linkname='t')");
    let all = members(&source).unwrap();
    let (file, link) = (&all[0].entry, &all[1].entry);
    assert_eq!(Change::between(file, file), Some(Change::default()));
    assert_eq!(Change::between(file, link), None);
    let mut other = link.clone();
    other.kind = EntryKind::Symlink { target: b"u".to_vec() };
    other.mode = 0o600;
    let change = Change::between(link, &other).unwrap();
    assert_eq!((change.link.as_deref(), change.mode, change.path), (Some(&b"u"[..]), Some(0o600), None));
}

#[test]
fn an_archive_that_changed_meanwhile_is_an_error() {
    let source = python_archive("PAX", "add('n' * 200, content=b'x')");
    let member = &members(&source).unwrap()[0];
    let mut cut = source.clone();
    cut.truncate(600);
    assert!(rewrite(&cut, member, &Change::default()).is_err());
    let mut other = source.clone();
    other[520] ^= 0xff;
    let header = usize::try_from(member.span.header).unwrap();
    other[header + 512] = b'x';
    assert!(rewrite(&other, member, &Change::default()).is_err());
}
