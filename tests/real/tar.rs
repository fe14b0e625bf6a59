//! What castoff writes as tar, unpacked by an engine: Go's archive/tar is the reader that counts.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

use castoff::rootfs::tar::{Change, Positioned, Scanner, SparseMap, content_padding, encode, rewrite};
use castoff::rootfs::{Entry, EntryKind, Limits, Timestamp};

use super::harness::{DockerImage, docker, docker_host};

/// Imports a tar as an image and gives back what the engine unpacked: a line an entry, as Python reads the export.
fn through_the_engine(subject: &str, archive: &[u8]) -> BTreeMap<String, String> {
    let image = DockerImage::unique(subject);
    let mut import = Command::new("docker")
        .env("DOCKER_HOST", docker_host())
        .args(["import", "-", &image.0])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    import.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(import.wait().unwrap().success(), "the engine refused the archive");
    let container = docker(&["create", "--network=none", &image.0, "/none"]).trim().to_owned();
    let script = r"
import tarfile, sys, hashlib
raw = lambda text: text.encode('utf-8', 'surrogateescape').hex()
with tarfile.open(fileobj=sys.stdin.buffer, mode='r|', encoding='utf-8', errors='surrogateescape') as archive:
    for member in archive:
        if not member.name.startswith('t'): continue
        content = archive.extractfile(member).read() if member.isreg() else b''
        link = raw(member.linkname) if member.islnk() or member.issym() else ''
        device = f'{member.devmajor}:{member.devminor}' if member.isdev() and not member.isfifo() else ''
        print(f'{raw(member.name)}\t{member.type.decode()} {member.mode & 0o7777:o} {member.uid}:{member.gid} {int(member.mtime)}'
              f' link={link} device={device} {len(content)} {hashlib.sha256(content).hexdigest()[:16]}')
";
    let export = Command::new("docker")
        .env("DOCKER_HOST", docker_host())
        .args(["export", &container])
        .stdout(Stdio::piped())
        .spawn();
    let listing = Command::new("python3")
        .env("PYTHONUTF8", "1")
        .args(["-c", script])
        .stdin(export.unwrap().stdout.unwrap())
        .output();
    docker(&["rm", &container]);
    let listing = listing.unwrap();
    assert!(listing.status.success(), "{}", String::from_utf8_lossy(&listing.stderr));
    let text = String::from_utf8(listing.stdout).unwrap();
    text.lines()
        .map(|line| line.split_once('\t').unwrap())
        .map(|(path, rest)| (path.to_owned(), rest.to_owned()))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    let mtime = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
    Entry { path: path.to_vec(), kind, mode: 0o640, uid: 7, gid: 8, mtime, xattrs: BTreeMap::new() }
}

fn line(entry: &Entry, content: &[u8]) -> String {
    let (kind, link, device) = match &entry.kind {
        EntryKind::File { .. } => ('0', String::new(), String::new()),
        EntryKind::Hardlink { target } => ('1', hex(target), String::new()),
        EntryKind::Symlink { target } => ('2', hex(target), String::new()),
        EntryKind::CharDevice { major, minor } => ('3', String::new(), format!("{major}:{minor}")),
        EntryKind::BlockDevice { major, minor } => ('4', String::new(), format!("{major}:{minor}")),
        EntryKind::Directory => ('5', String::new(), String::new()),
        EntryKind::Fifo => ('6', String::new(), String::new()),
    };
    let sha = hex(&sha2::Digest::finalize(<sha2::Sha256 as sha2::Digest>::new_with_prefix(content))[..8]);
    let (mode, uid, gid, seconds) = (entry.mode, entry.uid, entry.gid, entry.mtime.seconds);
    format!("{kind} {mode:o} {uid}:{gid} {seconds} link={link} device={device} {} {sha}", content.len())
}

#[test]
fn an_engine_unpacks_every_kind_castoff_writes() {
    let file = |path: &[u8], size| entry(path, EntryKind::File { size });
    let long = [b"t/".to_vec(), b"n".repeat(150), b"/".to_vec(), b"m".repeat(200)].concat();
    let link = |path: &[u8], target: &[u8]| entry(path, EntryKind::Symlink { target: target.to_vec() });
    let mut entries = vec![
        Entry { mode: 0o2755, ..entry(b"t", EntryKind::Directory) },
        Entry { mode: 0o4755, ..file(b"t/a", 5) },
        Entry { uid: 3_000_000, gid: 4_000_000_000, ..file("t/caf\u{e9}".as_bytes(), 0) },
        Entry { mtime: Timestamp { seconds: 7_258_118_400, nanoseconds: 0 }, ..file(b"t/\xff\xfe", 1) },
        file(b"t/new\nline", 512),
        file(b"t/a=b", 513),
        Entry { mode: 0o755, ..entry(&long[..152], EntryKind::Directory) },
        file(&long, 3),
        entry(b"t/char", EntryKind::CharDevice { major: 10, minor: 229 }),
        entry(b"t/block", EntryKind::BlockDevice { major: 259, minor: 1_048_575 }),
        entry(b"t/fifo", EntryKind::Fifo),
        Entry { mode: 0o777, ..link(b"t/sym", &b"../".repeat(60)) },
        Entry { mode: 0o777, ..link(b"t/sym2", b"/\xff") },
    ];
    let mut archive = Vec::new();
    let mut expected = BTreeMap::new();
    for (at, entry) in entries.iter_mut().enumerate() {
        entry.xattrs.insert(b"trusted.castoff".to_vec(), vec![0, 10, u8::try_from(at).unwrap()]);
        archive.extend(encode(entry, None, true));
        let mut content = Vec::new();
        if let EntryKind::File { size } = entry.kind {
            content = vec![b'x'; usize::try_from(size).unwrap()];
            archive.extend_from_slice(&content);
            archive.resize(archive.len().next_multiple_of(512), 0);
        }
        expected.insert(hex(&entry.path), line(entry, &content));
    }
    // A sparse file of three stored parts and a hole at its end.
    let mut bytes = vec![0; 300_000];
    for at in [1000, 70_000, 200_001] {
        bytes[at..at + 700].fill(b's');
    }
    let map = SparseMap::new(vec![(1000, 700), (70_000, 700), (200_001, 700)], 300_000).unwrap();
    let sparse = file(b"t/sparse", 300_000);
    archive.extend(encode(&sparse, Some(&map), false));
    for (offset, length) in map.segments() {
        let start = usize::try_from(*offset).unwrap();
        archive.extend_from_slice(&bytes[start..start + usize::try_from(*length).unwrap()]);
    }
    archive.extend(vec![0; usize::try_from(content_padding(map.stored())).unwrap()]);
    archive.extend([0; 1024]);
    expected.insert(hex(b"t/sparse"), line(&sparse, &bytes));
    assert_eq!(through_the_engine("tar-encode", &archive), expected);
}

/// GNU's long names and old sparse files, absolute names, dots: renamed and given new owners, they are unpacked right.
#[test]
fn an_engine_unpacks_what_castoff_rewrites() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("t");
    std::fs::create_dir_all(root.join("d")).unwrap();
    std::fs::write(root.join("d").join("n".repeat(180)), "long").unwrap();
    std::fs::hard_link(root.join("d").join("n".repeat(180)), root.join("d/other")).unwrap();
    std::os::unix::fs::symlink("x".repeat(150), root.join("d/sym")).unwrap();
    let disk = std::fs::File::create(root.join("disk")).unwrap();
    disk.set_len(1 << 20).unwrap();
    for part in 0..40 {
        std::os::unix::fs::FileExt::write_all_at(&disk, b"data", part * 20_480).unwrap();
    }
    for form in [
        &["--format=gnu"][..],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix"],
    ] {
        let mut tar = Command::new("tar");
        tar.args(["-c", "--sparse", "--sort=name"]).args(form).arg("-C").arg(folder.path()).arg("./t");
        let source = tar.output().unwrap().stdout;
        let mut scanner = Scanner::new(Positioned::new(&source, 0), Limits::default());
        let (mut archive, mut expected) = (Vec::new(), BTreeMap::new());
        while let Some(member) = scanner.next_member().unwrap() {
            let renamed =
                |path: &[u8]| if path == b"t" { path.to_vec() } else { [path, "-\u{e9}".as_bytes()].concat() };
            let mut wanted = Entry { uid: 70_000, gid: 3_000_000, ..member.entry.clone() };
            if wanted.kind != EntryKind::Directory {
                wanted.path = renamed(&wanted.path);
            }
            if let EntryKind::Hardlink { target } = &mut wanted.kind {
                *target = renamed(target);
            }
            archive.extend(rewrite(&source, &member, &Change::between(&member.entry, &wanted).unwrap()).unwrap());
            let data = usize::try_from(member.span.data).unwrap();
            archive.extend_from_slice(&source[data..data + usize::try_from(member.span.stored).unwrap()]);
            archive.resize(archive.len().next_multiple_of(512), 0);
            let name = String::from_utf8(member.entry.path.clone()).unwrap();
            let content = match wanted.kind {
                EntryKind::File { .. } => std::fs::read(folder.path().join(name)).unwrap(),
                _ => Vec::new(),
            };
            expected.insert(hex(&wanted.path), line(&wanted, &content));
        }
        archive.extend([0; 1024]);
        assert_eq!(expected.len(), 6);
        assert_eq!(through_the_engine("tar-rewrite", &archive), expected, "{form:?}");
    }
}
