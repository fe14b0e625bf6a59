//! Id maps: their text forms, what they refuse, and what they shift. Expected bytes are written by hand.

use std::collections::BTreeMap;

use castoff::error::Kind;
use castoff::rootfs::idmap::IdMap;
use castoff::rootfs::{Entry, EntryKind, Timestamp, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT, XATTR_CAPABILITY};

fn entry(uid: u64, gid: u64, xattrs: &[(&[u8], Vec<u8>)]) -> Entry {
    Entry {
        path: b"srv/x".to_vec(),
        kind: EntryKind::File { size: 0 },
        mode: 0o640,
        uid,
        gid,
        mtime: Timestamp::default(),
        xattrs: xattrs.iter().map(|(name, value)| (name.to_vec(), value.clone())).collect::<BTreeMap<_, _>>(),
    }
}

/// `user::rw-, user:USER:r--, group::r--, group:GROUP:r--, mask::r--, other::---`, bytes as in linux/posix_acl_xattr.h.
fn acl(user: u32, group: u32) -> Vec<u8> {
    let mut bytes = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1u16, 6u16, u32::MAX), (2, 4, user), (4, 4, u32::MAX), (8, 4, group), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// cap_net_raw in the permitted set, effective, as setcap stores it; with a root in version 3.
fn capability(root: Option<u32>) -> Vec<u8> {
    let mut bytes = if root.is_some() { vec![1, 0, 0, 3] } else { vec![1, 0, 0, 2] };
    bytes.extend([0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes.extend(root.map(u32::to_le_bytes).into_iter().flatten());
    bytes
}

#[test]
fn every_form_of_a_map_means_the_same() {
    let map = IdMap::parse("u:0:100000:65536,g:0:100000:65536").unwrap();
    for text in ["0:100000:65536", "100000:65536", "b:0:100000:65536", "g:0:100000:65536, u:0:100000:65536"] {
        assert_eq!(IdMap::parse(text).unwrap(), map, "{text}");
    }
    let config = "# a container\nlxc.uts.name = web\nlxc.idmap = u 0 100000 65536\nlxc.idmap=g 0 100000 65536\n";
    assert_eq!(IdMap::parse_lxc_config(config).unwrap(), Some(map.clone()));
    let old = "lxc.id_map = u 0 100000 65536\n lxc.id_map = g 0 100000 65536";
    assert_eq!(IdMap::parse_lxc_config(old).unwrap(), Some(map.clone()));
    let taken_back = format!("lxc.idmap = u 0 5 5\nlxc.idmap =\n{config}");
    assert_eq!(IdMap::parse_lxc_config(&taken_back).unwrap(), Some(map));
    assert_eq!(IdMap::parse_lxc_config("lxc.uts.name = web\n# lxc.idmap = u 0 1 2\n").unwrap(), None);
}

#[test]
fn ranges_map_back_and_stop_at_their_ends() {
    let map = IdMap::parse("u:0:100000:1000,u:1000:1000:1,u:1001:101001:64535,g:0:200000:10").unwrap();
    let cases = [
        (100_000, Some(0)),
        (100_999, Some(999)),
        (101_000, None),
        (1000, Some(1000)),
        (101_001, Some(1001)),
        (165_535, Some(65_535)),
        (165_536, None),
        (0, None),
        (99_999, None),
        (u64::MAX, None),
    ];
    for (host, inside) in cases {
        assert_eq!(map.user(host), inside, "{host}");
    }
    assert_eq!((map.group(200_009), map.group(200_010), map.group(100_000)), (Some(9), None, None));
}

#[test]
fn nonsense_is_refused_with_what_is_wrong() {
    for (text, problem) in [
        ("", "1 numbers"),
        ("u:0:100000", "no gid is mapped"),
        ("u:0:100000:65536", "no gid is mapped"),
        ("0:100000:0", "is empty"),
        ("0:4294967295:2", "leaves the numbers"),
        ("0:1:2:3", "4 numbers"),
        ("x:0:100000:65536", "neither"),
        ("0:-1:5", "not a number"),
        ("0:100000:10,5:200000:10", "two ranges hold the uid 5"),
        ("0:100000:10,10:100009:10", "two ranges hold the uid 100009"),
    ] {
        let error = IdMap::parse(text).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{text}");
        assert!(error.message().contains(problem), "{text}: {}", error.message());
    }
    assert!(IdMap::parse_lxc_config("lxc.idmap = u 0 100000 65536").unwrap_err().message().contains("no gid"));
    assert!(IdMap::parse_lxc_config("lxc.idmap = u 0 100000").is_err());
}

#[test]
fn owners_acls_and_capabilities_are_shifted() {
    let map = IdMap::parse("0:100000:65536").unwrap();
    let mut shifted = entry(
        100_033,
        100_044,
        &[
            (XATTR_ACL_ACCESS, acl(101_001, 101_002)),
            (XATTR_ACL_DEFAULT, acl(100_000, 165_535)),
            (XATTR_CAPABILITY, capability(Some(100_000))),
            (b"user.note", b"100033".to_vec()),
        ],
    );
    map.shift(&mut shifted).unwrap();
    let expected = entry(
        33,
        44,
        &[
            (XATTR_ACL_ACCESS, acl(1001, 1002)),
            (XATTR_ACL_DEFAULT, acl(0, 65_535)),
            (XATTR_CAPABILITY, capability(None)),
            (b"user.note", b"100033".to_vec()),
        ],
    );
    assert_eq!(shifted, expected);
    // A root that is an ordinary user inside stays version 3; version 2 counts everywhere and stays.
    for (before, after) in [(Some(100_700), Some(700)), (None, None)] {
        let mut shifted = entry(100_000, 100_000, &[(XATTR_CAPABILITY, capability(before))]);
        map.shift(&mut shifted).unwrap();
        assert_eq!(shifted.xattrs[XATTR_CAPABILITY], capability(after));
    }
}

#[test]
fn an_id_outside_the_map_is_named_with_its_path() {
    let map = IdMap::parse("0:100000:65536").unwrap();
    for (mut bad, words) in [
        (entry(0, 100_000, &[]), ["srv/x", "uid 0"]),
        (entry(100_000, 65_534, &[]), ["srv/x", "gid 65534"]),
        (entry(100_000, 100_000, &[(XATTR_ACL_ACCESS, acl(7, 100_001))]), ["srv/x", "user:7"]),
        (entry(100_000, 100_000, &[(XATTR_ACL_DEFAULT, acl(100_001, 9))]), ["srv/x", "group:9"]),
        (entry(100_000, 100_000, &[(XATTR_CAPABILITY, capability(Some(5)))]), ["srv/x", "uid 5"]),
    ] {
        let error = map.shift(&mut bad).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        let text = error.render();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}
