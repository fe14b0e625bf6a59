//! Unpacking: any tree comes back as it was, whatever the order of its entries, and hostile ones leave nothing behind.
//!
//! Runs as any user: owners are this user's, and only what it may make is made. `tests/real/walk.rs` has the rest.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use castoff::error::{Error, Kind};
use castoff::progress::Progress;
use castoff::rootfs::acl::{Acl, Numeric};
use castoff::rootfs::tar::{Positioned, Scanner};
use castoff::rootfs::unpack::{Content, UnpackOptions, UnpackReport, Unpacker};
use castoff::rootfs::walk::{DirectoryLayer, WalkOptions};
use castoff::rootfs::{Entry, EntryKind, Limits, Timestamp, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, tar};
use proptest::prelude::*;

fn entry(path: &[u8], kind: EntryKind) -> Entry {
    Entry {
        path: path.to_vec(),
        mode: if kind == EntryKind::Directory { 0o755 } else { 0o644 },
        kind,
        uid: rustix::process::geteuid().as_raw().into(),
        gid: rustix::process::getegid().as_raw().into(),
        mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 1 },
        xattrs: BTreeMap::new(),
    }
}

fn file(path: &[u8], content: &[u8]) -> (Entry, Vec<u8>) {
    (entry(path, EntryKind::File { size: content.len() as u64 }), content.to_vec())
}

fn bare(path: &[u8], kind: EntryKind) -> (Entry, Vec<u8>) {
    (entry(path, kind), Vec::new())
}

/// A tar of these entries in this order.
fn archive(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (entry, content) in entries {
        out.extend(tar::encode(entry, None, false));
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.extend(tar::END);
    out
}

fn unpack(archive: &Vec<u8>, target: &Path) -> Result<UnpackReport, Error> {
    let mut unpacker = Unpacker::new(target, UnpackOptions::default())?;
    let mut scanner = Scanner::new(Positioned::new(archive, 0), Limits::default());
    while let Some(member) = scanner.next_member()? {
        unpacker.add(&member.entry, Some(&Content::of(archive, &member)))?;
    }
    unpacker.finish()
}

fn unpacked(entries: &[(Entry, Vec<u8>)], target: &Path) -> Result<(), Error> {
    unpack(&archive(entries), target).map(|_| ())
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|item| item.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// A failed unpacking: its error, after checking that it left nothing beside or in place of the target.
fn refused(entries: &[(Entry, Vec<u8>)]) -> Error {
    let scratch = tempfile::tempdir().unwrap();
    let error = unpacked(entries, &scratch.path().join("out")).unwrap_err();
    assert_eq!(names(scratch.path()), [""; 0], "something was left after: {error:?}");
    error
}

/// What a random inode is.
#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>),
    Directory,
    Symlink(Vec<u8>),
    Fifo,
}

fn node() -> impl Strategy<Value = Node> {
    let content = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..2000),
        // Zeros that become holes, with data at odd places.
        (0usize..200_000, 0usize..100_000, any::<u8>()).prop_map(|(before, behind, byte)| {
            let mut content = vec![0; before];
            content.push(byte);
            content.resize(before + 1 + behind, 0);
            content
        }),
    ];
    prop_oneof![
        3 => content.prop_map(Node::File),
        4 => Just(Node::Directory),
        1 => prop::collection::vec(1u8.., 1..200).prop_map(Node::Symlink),
        1 => Just(Node::Fifo),
    ]
}

/// Names that hurt: not UTF-8, newlines, 255 bytes, whiteouts, a few short ones so that directories fill.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::sample::select(vec![&b"a"[..], b"a-", b"b", b"\xff\xfe", b".wh.x", b"new\nline", b"..."]).prop_map(<[u8]>::to_vec),
        1 => Just(vec![b'x'; 255]),
        1 => prop::collection::vec((1u8..).prop_filter("a separator", |byte| *byte != b'/'), 1..40)
            .prop_filter("the directory itself or its parent", |name| name != b"." && name != b".."),
    ]
}

fn acl(directory: bool) -> impl Strategy<Value = (Option<String>, Option<String>)> {
    let list = (0u32..8, 0u32..3, 0u32..8).prop_map(|(bits, id, mask)| {
        let letters = |bits: u32| [(4, 'r'), (2, 'w'), (1, 'x')].map(|(bit, l)| if bits & bit == 0 { '-' } else { l });
        let text = |bits| letters(bits).iter().collect::<String>();
        // The owner keeps what a walk by this user needs.
        format!(
            "u::rwx,u:{}:{},g::{},g:4000000000:r--,m::{},o::{}",
            1000 + id,
            text(bits),
            text(7 - bits),
            text(mask),
            text(bits)
        )
    });
    let default = prop::option::weighted(if directory { 0.3 } else { 0.0 }, list.clone());
    (prop::option::weighted(0.3, list), default)
}

#[derive(Clone, Debug)]
struct Random {
    parent: prop::sample::Index,
    name: Vec<u8>,
    node: Node,
    link: Option<prop::sample::Index>,
    mode: u32,
    seconds: i64,
    nanoseconds: u32,
    acl: (Option<String>, Option<String>),
    xattr: Option<Vec<u8>>,
}

fn random() -> impl Strategy<Value = Random> {
    let shape =
        (any::<prop::sample::Index>(), name(), node(), prop::option::weighted(0.2, any::<prop::sample::Index>()));
    let numbers = (0u32..0o10000, -2_000_000_000i64..10_000_000_000, 0u32..1_000_000_000);
    let xattr = prop::option::weighted(0.3, prop::collection::vec(any::<u8>(), 0..300));
    (shape, numbers, acl(true), xattr).prop_map(
        |((parent, name, node, link), (mode, seconds, nanoseconds), acl, xattr)| Random {
            parent,
            name,
            node,
            link,
            mode,
            seconds,
            nanoseconds,
            acl,
            xattr,
        },
    )
}

/// The entries a walk must give: parents first, siblings by name, a hard link wherever an inode was met before.
fn tree(items: &[Random]) -> Vec<(Entry, Vec<u8>)> {
    let mut directories = vec![Vec::new()];
    // Keyed by components, so that the order is the walk's.
    let mut paths: BTreeMap<Vec<Vec<u8>>, usize> = BTreeMap::new();
    let mut inodes: Vec<(Entry, Vec<u8>)> = Vec::new();
    for item in items {
        let mut path: Vec<Vec<u8>> = item.parent.get(&directories).clone();
        path.push(item.name.clone());
        if paths.contains_key(&path) {
            continue;
        }
        let linkable: Vec<usize> =
            (0..inodes.len()).filter(|inode| inodes[*inode].0.kind != EntryKind::Directory).collect();
        if let (Some(link), false) = (item.link, linkable.is_empty()) {
            paths.insert(path, *link.get(&linkable));
            continue;
        }
        let (kind, content) = match &item.node {
            Node::File(content) => (EntryKind::File { size: content.len() as u64 }, content.clone()),
            Node::Directory => (EntryKind::Directory, Vec::new()),
            Node::Symlink(target) => (EntryKind::Symlink { target: target.clone() }, Vec::new()),
            Node::Fifo => (EntryKind::Fifo, Vec::new()),
        };
        let mut entry = entry(b"", kind);
        entry.mtime = Timestamp { seconds: item.seconds, nanoseconds: item.nanoseconds };
        match entry.kind {
            EntryKind::Symlink { .. } => entry.mode = 0o777,
            _ => {
                // Who owns it can read it, whoever runs this.
                entry.mode = item.mode | 0o700;
                dress(&mut entry, item);
            }
        }
        if entry.kind == EntryKind::Directory {
            directories.push(path.clone());
        }
        paths.insert(path, inodes.len());
        inodes.push((entry, content));
    }
    let mut first: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let mut entries = vec![bare(b"", EntryKind::Directory)];
    for (path, inode) in paths {
        let path = path.join(&b'/');
        let (mut entry, content) = inodes[inode].clone();
        entry.path = path.clone();
        match first.get(&inode) {
            Some(target) => {
                entry.kind = EntryKind::Hardlink { target: target.clone() };
                entry.xattrs.clear();
                entries.push((entry, Vec::new()));
            }
            None => {
                first.insert(inode, path);
                entries.push((entry, content));
            }
        }
    }
    entries
}

fn dress(entry: &mut Entry, item: &Random) {
    let list = |text: &str| Acl::from_text(text.as_bytes(), &Numeric).unwrap();
    if let Some(text) = &item.acl.0 {
        let access = list(text);
        entry.mode = entry.mode & 0o7000 | access.mode_bits();
        entry.xattrs.insert(XATTR_ACL_ACCESS.to_vec(), access.to_xattr());
    }
    if let (Some(text), EntryKind::Directory) = (&item.acl.1, &entry.kind) {
        entry.xattrs.insert(XATTR_ACL_DEFAULT.to_vec(), list(text).to_xattr());
    }
    // Linux lets files and directories alone have xattrs of users.
    if let (Some(value), EntryKind::File { .. } | EntryKind::Directory) = (&item.xattr, &entry.kind) {
        entry.xattrs.insert(b"user.random".to_vec(), value.clone());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn walking_what_was_unpacked_gives_the_same_entries(
        items in prop::collection::vec(random(), 0..40),
        shuffle in prop::collection::vec(any::<u32>(), 64),
    ) {
        let expected = tree(&items);
        // Children before parents, links before their targets: any order is the same tree.
        let mut shuffled = expected.clone();
        for (place, number) in shuffle.iter().enumerate().take(shuffled.len()) {
            let other = *number as usize % shuffled.len();
            shuffled.swap(place, other);
        }
        for entries in [&expected, &shuffled] {
            let scratch = tempfile::tempdir().unwrap();
            let out = scratch.path().join("out");
            unpacked(entries, &out).unwrap();
            let walked = DirectoryLayer::open(&out, &WalkOptions::default(), Limits::default(), &Progress::silent());
            let (layer, report) = walked.unwrap();
            let seen: Vec<Entry> = layer.entries().collect();
            let wanted: Vec<Entry> = expected.iter().map(|(entry, _)| entry.clone()).collect();
            prop_assert_eq!(seen, wanted);
            prop_assert!(report.unreadable.is_empty());
            for (entry, content) in &expected {
                if let EntryKind::File { .. } = entry.kind {
                    let read = std::fs::read(out.join(std::ffi::OsStr::from_bytes(&entry.path))).unwrap();
                    prop_assert!(&read == content, "{:?} has other bytes", entry.path);
                }
            }
        }
    }
}

#[test]
fn the_last_of_several_entries_of_a_path_wins() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let link = |path: &[u8], target: &[u8]| bare(path, EntryKind::Hardlink { target: target.to_vec() });
    unpacked(
        &[
            file(b"a", b"first"),
            file(b"a", b"second"),
            bare(b"b", EntryKind::Directory),
            bare(b"b", EntryKind::Symlink { target: b"nowhere".to_vec() }),
            file(b"c", b"a file"),
            bare(b"c", EntryKind::Directory),
            file(b"c/d", b"below it"),
            link(b"late", b"later"),
            file(b"late", b"no link after all"),
            link(b"l2", b"l1"),
            link(b"l1", b"l0"),
            file(b"l0", b"chain"),
        ],
        &out,
    )
    .unwrap();
    assert_eq!(names(&out), ["a", "b", "c", "l0", "l1", "l2", "late"]);
    assert_eq!(std::fs::read(out.join("a")).unwrap(), b"second");
    assert_eq!(std::fs::read_link(out.join("b")).unwrap(), Path::new("nowhere"));
    assert_eq!(std::fs::read(out.join("c/d")).unwrap(), b"below it");
    assert_eq!(std::fs::read(out.join("late")).unwrap(), b"no link after all");
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(out.join("l2")).unwrap().nlink(), 3);
}

#[test]
fn nothing_is_written_through_a_link_of_the_archive() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("victim"), "before").unwrap();
    let target = outside.path().as_os_str().as_bytes();
    let sl = |target: &[u8]| bare(b"sl", EntryKind::Symlink { target: target.to_vec() });
    let link = |path: &[u8], target: &[u8]| bare(path, EntryKind::Hardlink { target: target.to_vec() });
    let cases: Vec<Vec<(Entry, Vec<u8>)>> = vec![
        vec![sl(target), file(b"sl/victim", b"after")],
        vec![sl(target), bare(b"sl/new", EntryKind::Directory)],
        vec![sl(target), file(b"sl/deep/new", b"after")],
        vec![sl(target), bare(b"sl/victim", EntryKind::Fifo)],
        vec![sl(target), link(b"stolen", b"sl/victim")],
        vec![sl(target), link(b"sl/new", b"sl")],
        vec![sl(b".."), file(b"sl/out/x", b"after")],
        vec![sl(b"/proc/self/cwd"), file(b"sl/x", b"after")],
        vec![link(b"stolen", b"sl/victim"), sl(target)],
    ];
    for case in cases {
        let error = refused(&case);
        assert_eq!(error.kind(), Kind::Refused, "{error:?}");
        assert!(error.render().contains("is not a directory in the archive"), "{error:?}");
    }
    assert_eq!(names(outside.path()), ["victim"]);
    assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"before");
    // A link that replaces a directory or is replaced by one leads nowhere either.
    let error = refused(&[bare(b"sl", EntryKind::Directory), file(b"sl/x", b""), sl(target)]);
    assert!(error.kind() == Kind::Corrupt && error.render().contains("`sl`"), "{error:?}");
}

#[test]
fn what_cannot_be_is_an_error_that_names_it() {
    let link = |path: &[u8], target: &[u8]| bare(path, EntryKind::Hardlink { target: target.to_vec() });
    for (entries, words) in [
        (vec![link(b"a", b"gone")], ["`a`", "`gone`, which is not in the archive"]),
        (vec![link(b"a", b"b"), link(b"b", b"a")], ["hard link", "not in the archive"]),
        (vec![link(b"a", b"a")], ["`a`", "itself"]),
        (vec![bare(b"d", EntryKind::Directory), link(b"a", b"d")], ["`a`", "hard link to the directory `d`"]),
        (vec![file(b"f", b""), file(b"f/x", b"")], ["`f/x`", "`f` is not a directory"]),
        (vec![file(&vec![b'n'; 256], b"")], ["nnn", "File name too long"]),
    ] {
        let text = refused(&entries).render();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
    let mut deep = b"d/".repeat(2047);
    deep.extend_from_slice(b"dd");
    assert_eq!(refused(&[file(&deep, b"")]).kind(), Kind::Limit);
}

#[test]
fn an_entry_made_by_hand_cannot_leave_the_target() {
    let scratch = tempfile::tempdir().unwrap();
    for path in [&b".."[..], b"../x", b"a/../../x", b"/etc/x", b"a/..", b"."] {
        for kind in [EntryKind::Directory, EntryKind::Fifo, EntryKind::File { size: 0 }] {
            let mut unpacker = Unpacker::new(&scratch.path().join("out"), UnpackOptions::default()).unwrap();
            let result = unpacker.add(&entry(path, kind.clone()), None);
            assert!(result.is_err(), "{kind:?} {:?}", String::from_utf8_lossy(path));
        }
    }
    assert_eq!(names(scratch.path()), [""; 0]);
}

#[test]
fn an_archive_that_lies_about_its_content_leaves_nothing() {
    let scratch = tempfile::tempdir().unwrap();
    let mut unpacker = Unpacker::new(&scratch.path().join("out"), UnpackOptions::default()).unwrap();
    let source = b"short".to_vec();
    let content = Content { source: &source, runs: vec![(0, 0, 4096)], twin: None };
    let error = unpacker.add(&entry(b"f", EntryKind::File { size: 4096 }), Some(&content)).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
    drop(unpacker);
    let whole = archive(&[file(b"f", &[7; 3000])]);
    let cut = whole[..1024].to_vec();
    let target = scratch.path().join("out");
    let error = unpack(&cut, &target).unwrap_err();
    assert_eq!(error.kind(), Kind::Corrupt, "{error:?}");
    assert_eq!(names(scratch.path()), [""; 0]);
}

#[test]
fn the_target_must_be_empty_and_is_replaced_whole() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    std::fs::create_dir(&out).unwrap();
    unpacked(&[file(b"a", b"one")], &out).unwrap();
    let error = unpacked(&[file(b"b", b"two")], &out).unwrap_err();
    assert!(error.kind() == Kind::Conflict && error.render().contains("is not empty"), "{error:?}");
    std::fs::write(scratch.path().join("file"), "").unwrap();
    std::os::unix::fs::symlink("out", scratch.path().join("link")).unwrap();
    for name in ["file", "link"] {
        let error = unpacked(&[file(b"b", b"two")], &scratch.path().join(name)).unwrap_err();
        assert!(error.kind() == Kind::Conflict && error.render().contains("is not a directory"), "{error:?}");
    }
    assert_eq!(unpacked(&[], &scratch.path().join("no/parent")).unwrap_err().kind(), Kind::NotFound);
    assert_eq!(unpacked(&[], Path::new("/")).unwrap_err().kind(), Kind::Usage);
    assert_eq!(names(scratch.path()), ["file", "link", "out"]);
    assert_eq!(names(&out), ["a"]);
}

#[test]
fn leftovers_of_killed_unpackings_are_swept_and_living_ones_are_not() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    // As a killed run leaves it: closed directories, deeper than anybody may descend.
    let dead = scratch.path().join(".out.castoff-1");
    std::fs::create_dir_all(dead.join("a/b/c")).unwrap();
    std::fs::write(dead.join("a/b/c/file"), "").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(dead.join("a/b"), std::fs::Permissions::from_mode(0o000)).unwrap();
    let other = scratch.path().join(".other.castoff-1");
    std::fs::create_dir(&other).unwrap();
    let mut living = Unpacker::new(&out, UnpackOptions::default()).unwrap();
    assert!(!dead.exists());
    living.add(&entry(b"from-living", EntryKind::Fifo), None).unwrap();
    let mut second = Unpacker::new(&out, UnpackOptions::default()).unwrap();
    second.add(&entry(b"from-second", EntryKind::Fifo), None).unwrap();
    second.finish().unwrap();
    let error = living.finish().unwrap_err();
    assert!(error.render().contains("cannot rename"), "{error:?}");
    assert_eq!(names(scratch.path()), [".other.castoff-1", "out"]);
    assert_eq!(names(&out), ["from-second"]);
}

#[test]
fn nothing_is_inherited_from_the_folder_it_is_unpacked_in() {
    let scratch = tempfile::tempdir().unwrap();
    let default = Acl::from_text(b"u::rwx,u:4242:rwx,g::rwx,m::rwx,o::rwx", &Numeric).unwrap().to_xattr();
    let folder = std::fs::File::open(scratch.path()).unwrap();
    let name = std::str::from_utf8(XATTR_ACL_DEFAULT).unwrap();
    rustix::fs::fsetxattr(&folder, name, &default, rustix::fs::XattrFlags::empty()).unwrap();
    let out = scratch.path().join("out");
    let entries = [bare(b"", EntryKind::Directory), bare(b"d", EntryKind::Directory), file(b"d/f", b"x")];
    unpacked(&entries, &out).unwrap();
    let walked = DirectoryLayer::open(&out, &WalkOptions::default(), Limits::default(), &Progress::silent()).unwrap();
    let seen: Vec<Entry> = walked.0.entries().collect();
    assert_eq!(seen, entries.map(|(entry, _)| entry));
}

#[test]
fn parents_that_the_archive_only_implies_are_made_and_reported() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let mut named = bare(b"a/b", EntryKind::Directory);
    named.0.mode = 0o700;
    let entries = archive(&[file(b"a/b/c", b"x"), named]);
    let report = unpack(&entries, &out).unwrap();
    assert_eq!(report.implied_parents.lines(), ["/", "a"]);
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(std::fs::metadata(out.join("a")).unwrap().mode() & 0o7777, 0o755);
    assert_eq!(std::fs::metadata(out.join("a/b")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!((report.entries, report.content_bytes), (2, 1));
}
