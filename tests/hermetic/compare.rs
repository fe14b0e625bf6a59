//! Differences between two trees, as a person reads them.

use std::collections::BTreeMap;

use castoff::error::Kind;
use castoff::progress::Progress;
use castoff::rootfs::acl::{Acl, Numeric};
use castoff::rootfs::compare::{CompareOptions, Compared, Comparison, compare};
use castoff::rootfs::{Entry, EntryKind, Timestamp, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};

#[derive(Clone)]
struct Item {
    entry: Entry,
    group: Option<&'static [u8]>,
    content: &'static [u8],
}

fn item(path: &str, kind: EntryKind) -> Item {
    Item {
        entry: Entry {
            path: path.as_bytes().to_vec(),
            kind,
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: Timestamp { seconds: 5, nanoseconds: 0 },
            xattrs: BTreeMap::new(),
        },
        group: None,
        content: b"",
    }
}

fn file(path: &str, content: &'static [u8]) -> Item {
    Item { content, ..item(path, EntryKind::File { size: content.len() as u64 }) }
}

fn acl(item: &mut Item, name: &[u8], text: &str) {
    item.entry.xattrs.insert(name.to_vec(), Acl::from_text(text.as_bytes(), &Numeric).unwrap().to_xattr());
}

fn stream(items: &[Item]) -> impl Iterator<Item = castoff::error::Result<Compared<'static>>> + '_ {
    items.iter().cloned().map(|item| {
        let content = item.content;
        Ok(Compared {
            entry: item.entry,
            group: item.group.map(<[u8]>::to_vec),
            content: Some(Box::new(move || Box::new(content))),
        })
    })
}

fn compared(left: &[Item], right: &[Item], options: &CompareOptions) -> Comparison {
    compare(stream(left), stream(right), options, &Progress::silent()).unwrap()
}

fn differences(left: &[Item], right: &[Item]) -> Vec<String> {
    compared(left, right, &CompareOptions::default()).differences.iter().map(ToString::to_string).collect()
}

#[test]
fn equal_trees_are_the_same() {
    let mut tree = vec![item("", EntryKind::Directory), file("a", b"x"), item("a-b", EntryKind::Directory)];
    acl(&mut tree[1], XATTR_ACL_ACCESS, "u::rw-,u:7:r--,g::r--,m::r--,o::r--");
    let same = compared(&tree, &tree, &CompareOptions::default());
    assert!(same.same() && same.entries == 3, "{same:?}");
    // Records that only keep engines from inheriting say nothing.
    let mut guarded = tree.clone();
    acl(&mut guarded[0], XATTR_ACL_ACCESS, "u::rw-,g::r--,o::r--");
    guarded[0].entry.xattrs.insert(XATTR_ACL_DEFAULT.to_vec(), vec![2, 0, 0, 0]);
    assert_eq!(differences(&tree, &guarded), [""; 0]);
}

#[test]
fn each_difference_is_said_in_words() {
    let left = |change: fn(&mut Item)| {
        let mut item = file("etc/x", b"one\n");
        change(&mut item);
        item
    };
    let right = file("etc/x", b"one\n");
    let cases: [(Item, &[&str]); 9] = [
        (left(|item| item.entry.mode = 0o4640), &["etc/x: mode 4640 != 0644"]),
        (left(|item| item.entry.uid = 33), &["etc/x: uid 33 != 0"]),
        (left(|item| item.entry.gid = 4_000_000_000), &["etc/x: gid 4000000000 != 0"]),
        (
            left(|item| item.entry.mtime = Timestamp { seconds: -2, nanoseconds: 500_000_000 }),
            &["etc/x: mtime -1.500000000 != 5.000000000"],
        ),
        (
            left(|item| item.content = b"two\n"),
            &[
                // printf 'two\n' | sha256sum, printf 'one\n' | sha256sum
                "etc/x: content differs (sha256:27dd8ed44a83ff94d557f9fd0412ed5a8cbca69ea04922d88c01184a07300a5a / \
             sha256:2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806)",
            ],
        ),
        (left(|item| item.entry.kind = EntryKind::File { size: 9 }), &["etc/x: size 9 != 4"]),
        (left(|item| item.entry.kind = EntryKind::Directory), &["etc/x: type directory != file"]),
        (
            left(|item| {
                item.entry.xattrs.insert(b"user.bin".to_vec(), b"\0\xffa\"".to_vec());
            }),
            &["etc/x: xattr user.bin \"\\x00\\xffa\\\"\" missing on the right"],
        ),
        (
            left(|item| acl(item, XATTR_ACL_DEFAULT, "u::rwx,g::r-x,o::---")),
            &[
                "etc/x: acl default user::rwx missing on the right",
                "etc/x: acl default group::r-x missing on the right",
                "etc/x: acl default other::--- missing on the right",
            ],
        ),
    ];
    for (left, expected) in cases {
        assert_eq!(differences(&[left], std::slice::from_ref(&right)), expected);
    }
}

#[test]
fn a_lost_acl_names_its_entries_and_the_rights_it_widened() {
    let mut with = file("etc/shadow", b"");
    with.entry.mode = 0o664;
    let mut without = with.clone();
    acl(&mut with, XATTR_ACL_ACCESS, "u::rw-,u:1001:rw-,g::r--,m::rw-,o::r--");
    assert_eq!(
        differences(&[with.clone()], &[without.clone()]),
        [
            "etc/shadow: acl access user:1001:rw- missing on the right",
            "etc/shadow: acl access group::r-- != group::rw-",
            "etc/shadow: acl access mask::rw- missing on the right",
        ]
    );
    acl(&mut without, XATTR_ACL_ACCESS, "u::rw-,u:1001:r--,g::r--,m::rw-,o::r--");
    assert_eq!(differences(&[with], &[without]), ["etc/shadow: acl access user:1001:rw- != user:1001:r--"]);
}

#[test]
fn what_is_on_one_side_only_is_said_and_order_is_by_component() {
    let tree = |paths: &[&str]| paths.iter().map(|path| item(path, EntryKind::Fifo)).collect::<Vec<_>>();
    // `a/b` sorts before `a-` by components, behind it by bytes.
    let (left, right) = (tree(&["a", "a/b", "a-", "c"]), tree(&["a", "a-", "b", "c"]));
    assert_eq!(differences(&left, &right), ["a/b: only left", "b: only right"]);
    let wrong = compare(stream(&tree(&["a-", "a/b"])), stream(&[]), &CompareOptions::default(), &Progress::silent());
    let error = wrong.unwrap_err();
    assert!(error.kind() == Kind::Failed && error.message().contains("not in path order at `a/b`"), "{error:?}");
}

#[test]
fn links_devices_and_targets_are_compared() {
    let linked = |path, group| Item { group: Some(group), ..file(path, b"x") };
    let left = [linked("a", b"a"), linked("b", b"a"), linked("c", b"a")];
    let right = [linked("a", b"a"), linked("b", b"a"), file("c", b"x")];
    assert_eq!(differences(&left, &right), ["a: names of one file {a, b, c} != {a, b}"]);
    let right = [file("a", b"x"), file("b", b"x"), file("c", b"x")];
    assert_eq!(differences(&left, &right), ["a: names of one file {a, b, c} missing on the right"]);
    assert_eq!(differences(&right, &left), ["a: names of one file {a, b, c} missing on the left"]);
    let device = |minor| item("null", EntryKind::CharDevice { major: 1, minor });
    assert_eq!(differences(&[device(3)], &[device(5)]), ["null: device 1:3 != 1:5"]);
    let link = |target: &[u8]| item("ln", EntryKind::Symlink { target: target.to_vec() });
    assert_eq!(differences(&[link(b"../a")], &[link(b"b\n")]), ["ln: target ../a != b\\n"]);
}

#[test]
fn named_paths_can_be_passed_over() {
    let mut right = [item("", EntryKind::Directory), file("etc", b"")];
    let left = right.clone();
    right[0].entry.mode = 0o700;
    right[1].entry.mtime.seconds = 9;
    let only = |path: &[u8]| std::iter::once(path.to_vec()).collect();
    let root = CompareOptions { ignore: only(b""), ..CompareOptions::default() };
    let told = |options: &CompareOptions| {
        compared(&left, &right, options).differences.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(told(&root), ["etc: mtime 5.000000000 != 9.000000000"]);
    let time = CompareOptions { ignore_mtime: only(b"etc"), ..CompareOptions::default() };
    assert_eq!(told(&time), ["/: mode 0644 != 0700"]);
}
