//! ACLs: the kernel's bytes, the texts of getfacl, GNU tar and star, and the laws between them.

use castoff::rootfs::acl::{Acl, AclEntry, EMPTY_DEFAULT, Numeric, PasswdNames, Tag};
use proptest::prelude::*;

/// One entry of the kernel's form: tag, permissions, id.
fn raw(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = vec![2, 0, 0, 0];
    for (tag, permissions, id) in entries {
        value.extend(tag.to_le_bytes());
        value.extend(permissions.to_le_bytes());
        value.extend(id.to_le_bytes());
    }
    value
}

const NOBODY: u32 = u32::MAX;
const OWNER: (u16, u16, u32) = (0x01, 6, NOBODY);
const GROUP: (u16, u16, u32) = (0x04, 4, NOBODY);
const MASK: (u16, u16, u32) = (0x10, 6, NOBODY);
const OTHER: (u16, u16, u32) = (0x20, 0, NOBODY);

#[test]
fn the_kernels_bytes_are_read_and_written() {
    let value = raw(&[OWNER, (0x02, 6, 1001), GROUP, (0x08, 5, 50), MASK, OTHER]);
    let acl = Acl::from_xattr(&value).unwrap();
    assert_eq!(acl.to_text(), "user::rw-,user:1001:rw-,group::r--,group:50:r-x,mask::rw-,other::---");
    assert_eq!(acl.to_xattr(), value);
    assert_eq!((acl.mask(), acl.group_obj(), acl.mode_bits(), acl.is_minimal()), (Some(6), 4, 0o660, false));
    // Any order is read; the kernel's is written.
    let shuffled = raw(&[OTHER, MASK, (0x08, 5, 50), (0x02, 6, 1001), GROUP, OWNER]);
    assert_eq!(Acl::from_xattr(&shuffled).unwrap().to_xattr(), value);
}

#[test]
fn a_mode_is_a_minimal_list_and_back() {
    for mode in 0..=0o7777 {
        let acl = Acl::from_mode(mode);
        assert!(acl.is_minimal());
        assert_eq!(acl.mode_bits(), mode & 0o777);
    }
    assert_eq!(Acl::from_mode(0o640).to_xattr(), raw(&[OWNER, GROUP, OTHER]));
    // Without the mask, the mode's group bits are the owning group's.
    let acl = Acl::from_xattr(&raw(&[OWNER, (0x02, 7, 1), GROUP, (0x10, 7, NOBODY), OTHER])).unwrap();
    assert_eq!((acl.mode_bits(), acl.group_obj()), (0o670, 4));
}

#[test]
fn lists_the_kernel_would_not_take_are_refused_with_the_byte() {
    let named = (0x02, 6, 1001);
    for (value, offset, said) in [
        (vec![], 0, "header of 4 bytes is cut off"),
        (vec![2, 0, 0], 3, "cut off"),
        (vec![1, 0, 0, 0], 0, "version"),
        (vec![0, 0, 0, 2], 0, "version"),
        (EMPTY_DEFAULT.to_vec(), 4, "`user::` is missing"),
        (raw(&[OWNER, GROUP, OTHER])[..27].to_vec(), 20, "cut off"),
        (raw(&[OWNER, GROUP, (0x40, 0, NOBODY), OTHER]), 20, "unknown tag 0x0040"),
        (raw(&[OWNER, GROUP, (0x20, 8, NOBODY)]), 22, "unknown permissions 0x0008"),
        (raw(&[OWNER, GROUP]), 20, "`other::` is missing"),
        (raw(&[OWNER, OTHER]), 20, "`group::` is missing"),
        (raw(&[OWNER, OWNER, GROUP, OTHER]), 12, "`user:` stands twice"),
        (raw(&[OWNER, named, named, GROUP, MASK, OTHER]), 20, "`user:1001` stands twice"),
        (raw(&[OWNER, GROUP, MASK, MASK, OTHER]), 28, "`mask:` stands twice"),
        (raw(&[OWNER, named, GROUP, OTHER]), 12, "`user:1001` is named, but the mask is missing"),
        (raw(&[OWNER, (0x08, 6, NOBODY), GROUP, MASK, OTHER]), 16, "names nobody"),
    ] {
        let error = Acl::from_xattr(&value).unwrap_err();
        assert_eq!(error.offset, offset, "{error}");
        assert!(error.problem.contains(said), "{said}: {error}");
    }
}

const PASSWD: &[u8] =
    b"root:x:0:0:root:/root:/bin/bash\njoe:x:1001:1001::/home/joe:/bin/sh\n\n# c:x:5:5\njoe:x:7:7\nbroken\n";
const GROUPS: &[u8] = b"root:x:0:\nstaff:x:50:joe,jane\nodd name:x:51:\n";

#[test]
fn texts_of_every_program_mean_the_same() {
    let names = PasswdNames::new(PASSWD, GROUPS);
    let expected = "user::rw-,user:1001:rw-,group::r--,group:50:r-x,mask::rw-,other::---";
    for text in [
        // getfacl, with and without -n, with its comments and tabs.
        "# file: srv/x\n# owner: root\n# group: root\n# flags: -s-\nuser::rw-\nuser:joe:rw-\ngroup::r--\ngroup:staff:r-x\t\t#effective:r--\nmask::rw-\nother::---\n\n",
        "user::rw-\nuser:1001:rw-\ngroup::r--\ngroup:50:r-x  #effective:r--\nmask::rw-\nother::---\n",
        // GNU tar's record and star's, with ids behind.
        "user::rw-,user:joe:rw-,group::r--,group:staff:r-x,mask::rw-,other::---",
        "user::rw-,user:unknown:rw-:1001,group::r--,group:gone:r-x:50,mask::rw-,other::---",
        // setfacl's short forms and orders.
        "u::rw,u:joe:wr,g::r,g:50:5,m::6,o::-",
        "other:---,mask:rw-,group:50:r-x,group::r--,user:1001:rw-,user::rw-",
        "default:user::rw-\ndefault:user:joe:rw-\ndefault:group::r--\ndefault:group:staff:r-x\ndefault:mask::rw-\ndefault:other::---\n",
        " user :: rw- , d",
    ] {
        let acl = Acl::from_text(text.as_bytes(), &names);
        if text.ends_with(" d") {
            assert!(acl.is_err());
        } else {
            assert_eq!(acl.unwrap_or_else(|error| panic!("{text}: {error}")).to_text(), expected, "{text}");
        }
    }
    let odd = Acl::from_text(b"u::7,g::0,g:odd\\040name:1,m::1,o::0", &names).unwrap();
    assert_eq!(odd.entries()[2], AclEntry { tag: Tag::Group(51), permissions: 1 });
}

#[test]
fn access_and_default_lines_of_one_file_are_told_apart() {
    let text = b"user::rwx\ngroup::r-x\nother::r-x\ndefault:user::rwx\ndefault:user:5:r--\ndefault:group::r-x\ndefault:mask::r-x\ndefault:other::---\n";
    let (access, default) = Acl::pair_from_text(text, &Numeric).unwrap();
    assert_eq!(access.unwrap(), Acl::from_mode(0o755));
    assert_eq!(default.unwrap().to_text(), "user::rwx,user:5:r--,group::r-x,mask::r-x,other::---");
    assert!(Acl::from_text(text, &Numeric).unwrap_err().problem.contains("access and default"));
    assert_eq!(Acl::pair_from_text(b"# nothing\n", &Numeric).unwrap(), (None, None));
}

#[test]
fn texts_that_say_nothing_sensible_are_refused_with_the_byte() {
    for (text, offset, said) in [
        ("", 0, "no entry"),
        ("user::rw-,group::r--,other::---,user:joe:rw-", 32, "`user:joe:rw-`: the user is not known"),
        ("user::rw-\n  group:nobody:r--\n", 12, "the group is not known"),
        ("user::rw-,group::r--", 20, "`other::` is missing"),
        ("user::rwz", 0, "permissions"),
        ("user::rrw", 0, "permissions"),
        ("user::rwx-", 0, "permissions"),
        ("user::8", 0, "permissions"),
        ("user::", 0, "permissions"),
        ("user", 0, "not of the form"),
        ("a:b:c:d:e", 0, "not of the form"),
        ("everyone::rwx", 0, "unknown tag"),
        ("mask:joe:rwx", 0, "takes no name"),
        ("user:5:r--:x", 0, "is not a number"),
        ("user::r--:5", 0, "names nobody"),
        ("user:4294967295:r--", 0, "the user is not known"),
        ("user:99999999999:r--", 0, "the user is not known"),
        ("user:5:r--,user::rw-,user:5:rwx,group::r--,mask::r--,other::---", 21, "`user:5` stands twice"),
    ] {
        let error = Acl::from_text(text.as_bytes(), &Numeric).unwrap_err();
        assert!(error.problem.contains(said), "{text}: {error}");
        assert_eq!(error.offset, offset, "{text}: {error}");
    }
}

#[test]
fn shifting_moves_named_ids_only() {
    let text = b"u::7,u:100005:6,g::5,g:100050:4,m::7,o::0";
    let acl = Acl::from_text(text, &Numeric).unwrap();
    let down = |id: u32| id.checked_sub(100_000);
    assert_eq!(
        acl.shift(down, down).unwrap().to_text(),
        "user::rwx,user:5:rw-,group::r-x,group:50:r--,mask::rwx,other::---"
    );
    let error = acl.shift(down, |_| None).unwrap_err();
    assert!(error.problem.contains("`group:100050` is outside"), "{error}");
    let two = Acl::from_text(b"u::7,u:1:6,u:2:6,g::5,m::7,o::0", &Numeric).unwrap();
    assert!(two.shift(|_| Some(9), Some).unwrap_err().problem.contains("stands twice"));
}

fn any_acl() -> impl Strategy<Value = Acl> {
    let named = prop::collection::btree_map(0..u32::MAX, 0u8..8, 0..5);
    (0u8..8, named.clone(), 0u8..8, named, 0u8..8, 0u8..8, any::<bool>()).prop_map(
        |(owner, users, group, groups, mask, other, masked)| {
            let mut entries = vec![(0x01, u16::from(owner), NOBODY)];
            entries.extend(users.iter().map(|(id, p)| (0x02, u16::from(*p), *id)));
            entries.push((0x04, u16::from(group), NOBODY));
            entries.extend(groups.iter().map(|(id, p)| (0x08, u16::from(*p), *id)));
            if masked || !users.is_empty() || !groups.is_empty() {
                entries.push((0x10, u16::from(mask), NOBODY));
            }
            entries.push((0x20, u16::from(other), NOBODY));
            Acl::from_xattr(&raw(&entries)).unwrap()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_and_bytes_come_back(acl in any_acl()) {
        prop_assert_eq!(&Acl::from_xattr(&acl.to_xattr()).unwrap(), &acl);
        prop_assert_eq!(&Acl::from_text(acl.to_text().as_bytes(), &Numeric).unwrap(), &acl);
        prop_assert_eq!(&Acl::from_text(acl.to_text().replace(',', "\n").as_bytes(), &Numeric).unwrap(), &acl);
    }

    #[test]
    fn no_bytes_panic(value in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(acl) = Acl::from_xattr(&value) {
            prop_assert_eq!(acl.to_xattr().len(), value.len());
        }
        Acl::from_text(&value, &Numeric).ok();
    }

    #[test]
    fn no_text_panics(text in "(d:|default:)?([ugmo]|user|mask)?[:,\\n]{0,3}[a-z0-9\\\\#:,-]{0,20}") {
        Acl::from_text(text.as_bytes(), &Numeric).ok();
    }

    #[test]
    fn any_valid_list_in_any_order_is_the_same(acl in any_acl(), seed in any::<u64>()) {
        let value = acl.to_xattr();
        let mut entries: Vec<&[u8]> = value[4..].chunks(8).collect();
        entries.sort_by_key(|entry| entry.iter().fold(seed, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(*byte)).rotate_left(7)));
        let shuffled = [&value[..4], &entries.concat()].concat();
        prop_assert_eq!(Acl::from_xattr(&shuffled).unwrap(), acl);
    }
}
