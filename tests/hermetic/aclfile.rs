//! The text of a whole tree's ACLs. The samples were printed by getfacl 2.3.1.

use castoff::error::Kind;
use castoff::rootfs::acl::{Acl, Numeric, PasswdNames};
use castoff::rootfs::aclfile::{parse, write};
use castoff::rootfs::{Entry, EntryKind, Timestamp, XATTR_ACL_ACCESS, XATTR_ACL_DEFAULT};

const SAMPLE: &[u8] = b"# file: .
# owner: 0
# group: 0
user::rwx
group::r-x
other::r-x

# file: d
# owner: 0
# group: 0
# flags: --t
user::rwx
user:1001:rwx\t#effective:r--
user:100000:rwx\t#effective:r--
group::r-x\t#effective:r--
group:4000000000:rwx\t#effective:r--
mask::r--
other::r-x
default:user::rwx
default:group::r-x\t#effective:r--
default:group:2000:rwx\t#effective:r--
default:mask::r--
default:other::r-x

# file: new\\012line
# owner: 7
# group: 8
user::rw-
group::r--
other::r--

# file: back\\\\slash and space
# owner: 0
# group: 0
# flags: ss-
user::rw-
user:7:r--
group::r--
mask::r--
other::---

";

fn list(text: &str) -> Acl {
    Acl::from_text(text.as_bytes(), &Numeric).unwrap()
}

#[test]
fn getfacl_output_is_understood() {
    let files = parse(SAMPLE, &Numeric).unwrap();
    let paths: Vec<&[u8]> = files.keys().map(Vec::as_slice).collect();
    assert_eq!(paths, [&b""[..], b"back\\slash and space", b"d", b"new\nline"]);
    let d = &files[&b"d"[..]];
    assert_eq!((d.uid, d.gid, d.flags), (Some(0), Some(0), Some(0o1000)));
    assert_eq!(d.access, list("u::rwx,u:1001:rwx,u:100000:rwx,g::r-x,g:4000000000:rwx,m::r--,o::r-x"));
    assert_eq!(d.default, Some(list("u::rwx,g::r-x,g:2000:rwx,m::r--,o::r-x")));
    let file = &files[&b"new\nline"[..]];
    assert_eq!((file.uid, file.gid, file.flags, &file.default), (Some(7), Some(8), None, &None));
    assert_eq!(files[&b"back\\slash and space"[..]].flags, Some(0o6000));
}

#[test]
fn what_is_written_is_what_getfacl_wrote() {
    let entry = |path: &[u8], mode, uid, gid, access: &str, default: &str| {
        let xattr = |name: &[u8], text: &str| (!text.is_empty()).then(|| (name.to_vec(), list(text).to_xattr()));
        Entry {
            path: path.to_vec(),
            kind: EntryKind::Directory,
            mode,
            uid,
            gid,
            mtime: Timestamp::default(),
            xattrs: [xattr(XATTR_ACL_ACCESS, access), xattr(XATTR_ACL_DEFAULT, default)]
                .into_iter()
                .flatten()
                .collect(),
        }
    };
    let mut out = Vec::new();
    for entry in [
        entry(b"", 0o755, 0, 0, "", ""),
        entry(
            b"d",
            0o1745,
            0,
            0,
            "u::rwx,u:1001:rwx,u:100000:rwx,g::r-x,g:4000000000:rwx,m::r--,o::r-x",
            "u::rwx,g::r-x,g:2000:rwx,m::r--,o::r-x",
        ),
        entry(b"new\nline", 0o644, 7, 8, "", ""),
        entry(b"back\\slash and space", 0o6640, 0, 0, "u::rw-,u:7:r--,g::r--,m::r--,o::---", ""),
    ] {
        write(&entry, &mut out).unwrap();
    }
    assert_eq!(String::from_utf8(out).unwrap(), String::from_utf8(SAMPLE.to_vec()).unwrap());
}

#[test]
fn names_are_those_of_the_image_and_paths_any_form() {
    let names = PasswdNames::new(b"www-data:x:33:33::/:/bin/sh\nDOM\\bob:x:700:700::/:\n", b"staff:x:50:\n");
    let text =
        b"# file: /srv//www/\r\n# owner: www-data\r\n# group: nobody-knows\r\nuser::rwx\r\nuser:www-data:r-x\r\n\
        user:DOM\\\\bob:r--\r\ngroup::r-x\r\ngroup:staff:rwx\r\nmask::rwx\r\nother::---\r\n";
    let files = parse(text, &names).unwrap();
    let file = &files[&b"srv/www"[..]];
    assert_eq!((file.uid, file.gid), (Some(33), None));
    assert_eq!(file.access, list("u::rwx,u:33:r-x,u:700:r--,g::r-x,g:50:rwx,m::rwx,o::---"));
    let spaced = parse(b"getfacl: noise\n", &Numeric).unwrap_err();
    assert_eq!(spaced.kind(), Kind::Corrupt);
    let octal = parse(b"# file: sp\\040ace\nuser::rw-\ngroup::r--\nother::r--\n", &Numeric).unwrap();
    assert!(octal.contains_key(&b"sp ace"[..]));
    assert!(parse(b"", &Numeric).unwrap().is_empty());
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, words) in [
        (&b"# file: ../up\nuser::rw-\n"[..], ["line 1", "leaves the tree"]),
        (b"\n\n# file: a\nuser::rw-\nuser:ghost:r--\ngroup::r--\nmask::r--\nother::r--\n", ["line 3", "ghost"]),
        (b"# file: a\nuser::rw-\ngroup::r--\n", ["line 1", "other"]),
        (b"# file: a\n\n# file: b\nuser::rw-\ngroup::r--\nother::r--\n", ["line 1", "no entries"]),
        (b"# file: a\n# flags: xyz\nuser::rw-\ngroup::r--\nother::r--\n", ["line 2", "flags"]),
        (b"user::rw-\n", ["line 1", "before the first"]),
    ] {
        let error = parse(text, &Numeric).unwrap_err().render();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}
