//! Archives that Python and GNU tar wrote.

use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use castoff::rootfs::tar::{Globals, Scanner, Sequential, member_at};
use castoff::rootfs::{Entry, EntryKind, Limits};

use super::{bytes_of, members, python_archive, run};

const EVERY_KIND: &str = r"
mtime = 1700000000
add('dir', type=tarfile.DIRTYPE, mode=0o2755, mtime=mtime)
add('dir/file', content=b'hello', mode=0o4711, uid=1000, gid=1001, mtime=mtime)
add('dir/empty', content=b'')
add('dir/block', content=b'x' * 512)
add('dir/link', type=tarfile.LNKTYPE, linkname='dir/file')
add('dir/sym', type=tarfile.SYMTYPE, linkname='../../outside')
add('abs', type=tarfile.SYMTYPE, linkname='/etc/passwd')
add('char', type=tarfile.CHRTYPE, devmajor=10, devminor=229)
add('block', type=tarfile.BLKTYPE, devmajor=259, devminor=1048575)
add('fifo', type=tarfile.FIFOTYPE, mode=0o600)
";

#[test]
fn every_kind_is_read_in_every_dialect_that_python_writes() {
    for format in ["USTAR", "GNU", "PAX"] {
        let archive = python_archive(format, EVERY_KIND);
        let all = members(&archive).unwrap();
        let kinds: Vec<_> =
            all.iter().map(|m| (String::from_utf8(m.entry.path.clone()).unwrap(), m.entry.kind.clone())).collect();
        let target = |target: &str| target.as_bytes().to_vec();
        assert_eq!(
            kinds,
            [
                ("dir".into(), EntryKind::Directory),
                ("dir/file".into(), EntryKind::File { size: 5 }),
                ("dir/empty".into(), EntryKind::File { size: 0 }),
                ("dir/block".into(), EntryKind::File { size: 512 }),
                ("dir/link".into(), EntryKind::Hardlink { target: target("dir/file") }),
                ("dir/sym".into(), EntryKind::Symlink { target: target("../../outside") }),
                ("abs".into(), EntryKind::Symlink { target: target("/etc/passwd") }),
                ("char".into(), EntryKind::CharDevice { major: 10, minor: 229 }),
                ("block".into(), EntryKind::BlockDevice { major: 259, minor: 1_048_575 }),
                ("fifo".into(), EntryKind::Fifo),
            ],
            "{format}"
        );
        let of = |e: &Entry| (e.mode, e.uid, e.gid, e.mtime.seconds);
        assert_eq!(of(&all[0].entry), (0o2755, 0, 0, 1_700_000_000));
        assert_eq!(of(&all[1].entry), (0o4711, 1000, 1001, 1_700_000_000));
        assert_eq!(bytes_of(&archive, &all[1]), b"hello");
        assert_eq!(bytes_of(&archive, &all[3]), [b'x'; 512]);
        assert_eq!(bytes_of(&archive, &all[4]), b"");
        assert!(all.iter().all(|member| member.verbatim), "{format}");
        assert_eq!(all[9].span.end() + 1024, archive.len() as u64 / 10240 * 10240 - trailing(&archive, &all[9]));
    }
}

/// Python pads to records of 20 blocks.
fn trailing(archive: &[u8], last: &castoff::rootfs::tar::Member) -> u64 {
    let end = usize::try_from(last.span.end()).unwrap() + 1024;
    assert!(archive[end - 1024..].iter().all(|byte| *byte == 0));
    (archive.len() - end) as u64
}

#[test]
fn long_names_and_targets_are_read_in_every_dialect() {
    for length in [99, 100, 101, 155, 156, 255, 256, 400] {
        // A slash that ustar can split at: no part is longer than its field.
        let name: String = (0..length).map(|at| if at % 78 == 77 && at + 1 < length { '/' } else { 'n' }).collect();
        for format in ["USTAR", "GNU", "PAX"] {
            if format == "USTAR" && length > 255 {
                continue;
            }
            let target = if format == "USTAR" { &name[..100.min(length)] } else { &name };
            let script = format!(
                "add('{name}', content=b'1')\nadd('s', type=tarfile.SYMTYPE, linkname='{target}')\n\
                 add('h', type=tarfile.LNKTYPE, linkname='{target}')\nadd('after', content=b'2')"
            );
            let archive = python_archive(format, &script);
            let all = members(&archive).unwrap();
            assert_eq!(all[0].entry.path, name.as_bytes(), "{format} {length}");
            assert_eq!(all[1].entry.kind, EntryKind::Symlink { target: target.as_bytes().to_vec() });
            assert_eq!(
                all[2].entry.kind,
                EntryKind::Hardlink { target: target.trim_end_matches('/').as_bytes().to_vec() }
            );
            assert_eq!(bytes_of(&archive, &all[3]), b"2");
        }
    }
}

#[test]
fn names_are_bytes_in_every_dialect() {
    let script = r"
for name in [b'caf\xc3\xa9', b'\xff\xfe', b'new\nline', b'a=b', b'tab\t', b'back\\slash', b' blank ']:
    add(name, content=b'')
";
    for format in ["USTAR", "GNU", "PAX"] {
        let names: Vec<_> =
            members(&python_archive(format, script)).unwrap().into_iter().map(|m| m.entry.path).collect();
        assert_eq!(
            names,
            [&b"caf\xc3\xa9"[..], b"\xff\xfe", b"new\nline", b"a=b", b"tab\t", b"back\\slash", b" blank "],
            "{format}"
        );
    }
}

#[test]
fn large_and_negative_numbers_are_read_in_base_256_and_pax() {
    let script = "add('f', content=b'', uid=3000000, gid=4000000000, mtime=-86400)\n\
                  add('g', content=b'', mtime=7258118400)\n";
    for format in ["GNU", "PAX"] {
        let all = members(&python_archive(format, script)).unwrap();
        let entry = &all[0].entry;
        assert_eq!((entry.uid, entry.gid, entry.mtime.seconds), (3_000_000, 4_000_000_000, -86_400), "{format}");
        assert_eq!(all[1].entry.mtime.seconds, 7_258_118_400);
    }
    // 9 GiB of holes: only the header is real.
    let mut archive = python_archive(
        "GNU",
        "info = tarfile.TarInfo('big'); info.size = 9 << 30\nout.write(info.tobuf(archive.format))\n",
    );
    archive.truncate(512);
    let error = members(&archive).unwrap_err();
    assert!(error.message().contains("9663676416 bytes of content are announced, 0 are there"), "{}", error.message());
}

#[test]
fn a_tree_written_by_gnu_tar_is_read_as_it_stands_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir_all(root.join("d/e")).unwrap();
    std::fs::write(root.join("d/file"), "content").unwrap();
    std::fs::hard_link(root.join("d/file"), root.join("d/other")).unwrap();
    std::os::unix::fs::symlink("../x", root.join("d/e/sym")).unwrap();
    std::fs::set_permissions(root.join("d/e"), std::fs::Permissions::from_mode(0o1731)).unwrap();
    std::fs::write(root.join("n".repeat(200)), "long").unwrap();
    for format in ["oldgnu", "gnu", "posix"] {
        let archive = run(
            Command::new("tar")
                .args(["-c", "--sort=name", &format!("--format={format}"), "-f", "-", "-C"])
                .arg(root)
                .arg("."),
            b"",
        );
        let all = members(&archive).unwrap();
        assert_eq!(all.len(), 7);
        assert_eq!(all[0].entry.path, b"");
        for member in &all {
            let path = root.join(Path::new(std::ffi::OsStr::from_bytes(&member.entry.path)));
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            let entry = &member.entry;
            assert_eq!(entry.mode, metadata.mode() & 0o7777, "{path:?}");
            assert_eq!((entry.uid, entry.gid), (u64::from(metadata.uid()), u64::from(metadata.gid())));
            assert_eq!(entry.mtime.seconds, metadata.mtime());
            if format == "posix" {
                assert_eq!(i64::from(entry.mtime.nanoseconds), metadata.mtime_nsec());
            }
            match &entry.kind {
                EntryKind::File { size } => {
                    assert_eq!(*size, metadata.len());
                    assert_eq!(bytes_of(&archive, member), std::fs::read(&path).unwrap());
                }
                EntryKind::Symlink { target } => {
                    assert_eq!(target, std::fs::read_link(&path).unwrap().as_os_str().as_bytes());
                }
                EntryKind::Hardlink { target } => {
                    let target = root.join(Path::new(std::ffi::OsStr::from_bytes(target)));
                    assert_eq!(std::fs::metadata(target).unwrap().ino(), metadata.ino());
                }
                EntryKind::Directory => assert!(metadata.is_dir()),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_stream_a_file_and_a_single_member_are_read_alike() {
    for format in ["USTAR", "GNU", "PAX"] {
        let long = format!(
            "{EVERY_KIND}\nadd('l/' + 'n' * {}, content=b'z' * 100000)\n",
            if format == "USTAR" { 90 } else { 300 }
        );
        let archive = python_archive(format, &long);
        let all = members(&archive).unwrap();
        let mut stream = Scanner::new(Sequential::new(archive.as_slice()), Limits::default());
        for member in &all {
            let streamed = stream.next_member().unwrap().unwrap();
            let alone = member_at(&archive, member.span.header, &Globals::default(), Limits::default()).unwrap();
            for other in [&streamed, &alone] {
                assert_eq!((&other.entry, other.span, other.verbatim), (&member.entry, member.span, member.verbatim));
            }
        }
        assert!(stream.next_member().unwrap().is_none());
    }
}
