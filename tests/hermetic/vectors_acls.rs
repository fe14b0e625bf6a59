//! Vectors 14 and 18, and the options about ACLs: what engines must be told so that every ACL is exact.

use castoff::rootfs::flatten::FlattenOptions;

use super::{expect, layers, merge, pack, refused, shared};

const NONE: FlattenOptions = FlattenOptions {
    acls: false,
    split_acl_layer: false,
    base_layers: 0,
    text_acls: false,
    keep_sparse: false,
    relative_below: None,
};
const TEXT: FlattenOptions = FlattenOptions {
    acls: true,
    split_acl_layer: false,
    base_layers: 0,
    text_acls: true,
    keep_sparse: false,
    relative_below: None,
};
const SPLIT: FlattenOptions = FlattenOptions {
    acls: true,
    split_acl_layer: true,
    base_layers: 0,
    text_acls: false,
    keep_sparse: false,
    relative_below: None,
};

#[test]
fn v14_a_change_of_metadata_alone_replaces_them_as_a_whole() {
    expect(
        "layer(); f('f', b'1', mode=0o640, x={'user.a': b'1', A: acl('u::rw-,u:9:r--,g::---,m::r--,o::---')})\n\
         d('d', x={'user.a': b'1', D: acl('u::rwx,g::r-x,o::---')}); f('d/x')\n\
         layer(); f('f', b'1', mode=0o600, uid=5, x={'user.b': b'2'}); d('d', mode=0o711)",
        &["d 711 0:0 d", "f 644 0:0 d/x = ", "f 600 5:0 f = 1 xattr.user.b=2"],
    );
}

const NESTED: &str = "layer()\n\
    d('d', mode=0o750, x={D: acl('u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---')})\n\
    f('d/f', b'1'); d('d/s'); f('d/s/deep'); s('d/l', 'f'); c('d/dev', 1, 3, mode=0o600)\n\
    f('d/own', mode=0o660, x={A: acl('u::rw-,u:1002:r--,g::r--,m::rw-,o::---')})\n\
    d('d/n', x={D: acl('u::rwx,g::---,o::---')}); f('d/n/g', mode=0o4755); add('d/n/p', tarfile.FIFOTYPE)\n\
    f('free')\n";

#[test]
fn v18_what_lies_in_a_directory_with_a_default_acl_is_guarded() {
    let report = expect(
        NESTED,
        &[
            "d 750 0:0 d default[u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---]",
            "f 644 0:0 d/f = 1 access[u::rw-,g::r--,o::r--]",
            "d 755 0:0 d/s access[u::rwx,g::r-x,o::r-x] default[]",
            "f 644 0:0 d/s/deep = ",
            "s 777 0:0 d/l -> f",
            "c 600 0:0 d/dev (1,3) access[u::rw-,g::---,o::---]",
            "f 660 0:0 d/own = access[u::rw-,u:1002:r--,g::r--,m::rw-,o::---]".replace("= ", "=  ").as_str(),
            "d 755 0:0 d/n access[u::rwx,g::r-x,o::r-x] default[u::rwx,g::---,o::---]",
            "f 4755 0:0 d/n/g =  access[u::rwx,g::r-x,o::r-x]",
            "p 644 0:0 d/n/p access[u::rw-,g::r--,o::r--]",
            "f 644 0:0 free = ",
        ],
    );
    assert_eq!((report.access_acls, report.default_acls, report.guards), (1, 2, 6));
}

#[test]
fn v18_acls_of_the_root_itself() {
    let report = expect(
        "layer(); f('f')\nlayer(); d('.', x={A: acl('u::rwx,u:7:--x,g::r-x,m::r-x,o::r-x'), D: acl('u::rwx,g::---,o::---')}); d('d/e')",
        &[
            "d 755 0:0 . access[u::rwx,u:7:--x,g::r-x,m::r-x,o::r-x] default[u::rwx,g::---,o::---]",
            "f 644 0:0 f =  access[u::rw-,g::r--,o::r--]",
            "d 755 0:0 d access[u::rwx,g::r-x,o::r-x] default[]",
            "d 755 0:0 d/e",
        ],
    );
    assert_eq!((report.guards, report.synthesised_parents), (2, 1));
}

#[test]
fn v18_a_guard_follows_the_directory_s_final_acl() {
    // The default ACL comes later, or is gone in the end; a link's other name lies in the directory.
    let with = "d('d', x={D: acl('u::rwx,g::---,o::---')})";
    expect(
        &format!("layer(); d('d'); f('d/f')\nlayer(); {with}"),
        &["d 755 0:0 d default[u::rwx,g::---,o::---]", "f 644 0:0 d/f =  access[u::rw-,g::r--,o::r--]"],
    );
    expect(&format!("layer(); {with}; f('d/f')\nlayer(); d('d')"), &["d 755 0:0 d", "f 644 0:0 d/f = "]);
    expect(
        &format!("layer(); f('a'); {with}; h('d/b', 'a')"),
        &[
            "f 644 0:0 a =  access[u::rw-,g::r--,o::r--]",
            "d 755 0:0 d default[u::rwx,g::---,o::---]",
            "h 644 0:0 d/b -> a access[u::rw-,g::r--,o::r--]",
        ],
    );
}

#[test]
fn the_group_bits_of_the_mode_are_the_mask() {
    // As bsdtar writes it: the group's own entry in the mode, the mask in the ACL. Engines chmod after the xattrs.
    let report = expect(
        "layer(); f('f', mode=0o2640, x={A: acl('u::rw-,u:1001:rw-,g::r--,m::rw-,o::---')})",
        &["f 2660 0:0 f =  access[u::rw-,u:1001:rw-,g::r--,m::rw-,o::---]"],
    );
    assert!(report.warnings[0].contains("the mode of `f` is not what its ACL says"), "{:?}", report.warnings);
    // A list that says no more than a mode says what the mode says.
    let report = expect(
        "layer(); f('f', mode=0o640, x={A: acl('u::rwx,g::rwx,o::rwx')})",
        &["f 640 0:0 f =  access[u::rw-,g::r--,o::---]"],
    );
    assert_eq!(report.access_acls, 0);
}

#[test]
fn acls_that_stand_as_text_alone_become_records_by_the_image_s_own_names() {
    let script = |acl: &str| {
        format!(
            "layer(); f('etc/passwd', b'root:x:0:0::/:/bin/sh\\nalice:x:1007:1007::/:/bin/sh\\n'); f('etc/group', b'staff:x:50:\\n')\n\
             layer(); f('f', mode=0o664, pax={{'SCHILY.acl.access': '{acl}'}})\n\
             d('d', pax={{'SCHILY.acl.default': 'user::rwx,group::r-x,group:44:r-x,mask::r-x,other::---'}}); f('d/x')"
        )
    };
    expect(
        &script(r"user::rw-\nuser:alice:rw-\ngroup::r--\ngroup:staff:r--\nmask::rw-\nother::r--\n"),
        &[
            "d 755 0:0 etc",
            r"f 644 0:0 etc/passwd = root:x:0:0::/:/bin/sh\nalice:x:1007:1007::/:/bin/sh\n",
            r"f 644 0:0 etc/group = staff:x:50:\n",
            "f 664 0:0 f =  access[u::rw-,u:1007:rw-,g::r--,g:50:r--,m::rw-,o::r--]",
            "d 755 0:0 d default[u::rwx,g::r-x,g:44:r-x,m::r-x,o::---]",
            "f 644 0:0 d/x =  access[u::rw-,g::r--,o::r--]",
        ],
    );
    let text = refused(&script("user::rw-,user:bob:rw-,group::r--,mask::rw-,other::r--"));
    assert!(text.contains("the ACL of `f`") && text.contains("bob") && text.contains("hint: "), "{text}");
}

#[test]
fn without_acls_the_group_gets_its_own_entry_and_never_the_mask() {
    let script = "layer(); f('f', mode=0o4664, x={A: acl('u::rw-,u:1001:rw-,g::r--,m::rw-,o::r--'), 'user.k': b'1'})\n\
        d('d', mode=0o770, x={A: acl('u::rwx,g::---,g:5:rwx,m::rwx,o::---'), D: acl('u::rwx,g::r-x,o::---')}); f('d/x')\n\
        f('t', mode=0o660, pax={'SCHILY.acl.access': 'user::rw-,user:nobody-knows:rw-,group::---,mask::rw-,other::---'})\n\
        f('m', mode=0o640, x={A: acl('u::rw-,g::r--,o::---')})";
    let packed = pack(&layers(script), NONE);
    assert_eq!(
        packed.lists[0],
        ["f 4644 0:0 f =  xattr.user.k=1", "d 700 0:0 d", "f 644 0:0 d/x = ", "f 600 0:0 t = ", "f 640 0:0 m = ",]
    );
    assert_eq!((packed.report.access_acls, packed.report.default_acls, packed.report.guards), (0, 0, 0));
}

#[test]
fn acls_as_text_besides_for_users_of_gnu_tar() {
    let script = format!(
        "{NESTED}f('both', mode=0o660, x={{A: acl('u::rw-,u:3:r--,g::r--,m::rw-,o::---')}}, \
        pax={{'SCHILY.acl.access': 'stale'}})"
    );
    let packed = pack(&layers(&script), TEXT);
    let with_text: Vec<&str> =
        packed.lists[0].iter().filter_map(|line| line.split_once(" acl.").map(|(_, text)| text)).collect();
    // By path: GNU tar sets a directory's time when it leaves it.
    assert_eq!(
        with_text,
        [
            "access=user::rw-,user:3:r--,group::r--,mask::rw-,other::--- access[u::rw-,u:3:r--,g::r--,m::rw-,o::---]",
            "default=user::rwx,user:1001:rwx,group::r-x,mask::rwx,other::--- default[u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---]",
            "default=user::rwx,group::---,other::--- access[u::rwx,g::r-x,o::r-x] default[u::rwx,g::---,o::---]",
            "access=user::rw-,user:1002:r--,group::r--,mask::rw-,other::--- access[u::rw-,u:1002:r--,g::r--,m::rw-,o::---]",
        ]
    );
    assert!(pack(&packed.tars, TEXT).tars == packed.tars, "packing twice");
    // And without the option the text is gone again.
    let plain = pack(&packed.tars, FlattenOptions::default());
    assert!(!plain.lists[0].iter().any(|line| line.contains(" acl.")));
}

#[test]
fn records_that_cannot_be_are_an_error_or_left_out_and_said() {
    assert!(
        refused("layer(); f('f', x={A: b'\\x02\\x00\\x00\\x00abc'})")
            .contains("`system.posix_acl_access` of `f` is no ACL")
    );
    let report = expect(
        "layer(); f('f', x={D: acl('u::rwx,g::---,o::---')}); s('l', 'f', x={A: acl('u::rwx,g::---,o::---')})",
        &["f 644 0:0 f = ", "s 777 0:0 l -> f"],
    );
    assert_eq!(report.warnings.len(), 2);
}

#[test]
fn two_layers_content_then_what_has_acls_with_all_directories_above() {
    let script = format!(
        "{NESTED}d('top', mode=0o711, uid=5); d('top/in', gid=6)\n\
        f('top/in/acl', b'2', mode=0o660, x={{A: acl('u::rw-,u:1:r--,g::---,m::rw-,o::---')}}); h('link', 'top/in/acl', mode=0o660)\n\
        d('ad', mode=0o770, x={{A: acl('u::rwx,u:1:r--,g::---,m::rwx,o::---')}}); f('ad/plain')"
    );
    let packed = pack(&layers(&script), SPLIT);
    assert_eq!(
        packed.lists[0],
        [
            "d 750 0:0 d",
            "f 644 0:0 d/f = 1",
            "d 755 0:0 d/s",
            "f 644 0:0 d/s/deep = ",
            "s 777 0:0 d/l -> f",
            "c 600 0:0 d/dev (1,3)",
            "d 755 0:0 d/n",
            "f 4755 0:0 d/n/g = ",
            "p 644 0:0 d/n/p",
            "f 644 0:0 free = ",
            "d 711 5:0 top",
            "d 755 0:6 top/in",
            "d 700 0:0 ad",
            "f 644 0:0 ad/plain = ",
        ]
    );
    assert_eq!(
        packed.lists[1],
        [
            "d 750 0:0 d default[u::rwx,u:1001:rwx,g::r-x,m::rwx,o::---]",
            "f 660 0:0 d/own =  access[u::rw-,u:1002:r--,g::r--,m::rw-,o::---]",
            "d 755 0:0 d/n access[u::rwx,g::r-x,o::r-x] default[u::rwx,g::---,o::---]",
            "d 711 5:0 top",
            "d 755 0:6 top/in",
            "f 660 0:0 top/in/acl = 2 access[u::rw-,u:1:r--,g::---,m::rw-,o::---]",
            "h 660 0:0 link -> top/in/acl access[u::rw-,u:1:r--,g::---,m::rw-,o::---]",
            "d 770 0:0 ad access[u::rwx,u:1:r--,g::---,m::rwx,o::---]",
        ]
    );
    assert_eq!(packed.report.guards, 1);
    // Both together are the tree that one layer would have held.
    let (one, two) = (pack(&layers(&script), FlattenOptions::default()), pack(&packed.tars, FlattenOptions::default()));
    let sorted = |lines: &[String]| {
        let mut lines = lines.to_vec();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&one.lists[0]), sorted(&two.lists[0]));
}

#[test]
fn the_merged_tree_shows_acls_that_say_something_and_no_guards() {
    let layers = shared(&layers(NESTED));
    let flat = merge(&layers, FlattenOptions::default()).unwrap();
    let shown: Vec<(String, Vec<String>)> = flat
        .entries(&layers)
        .map(|entry| entry.unwrap().entry)
        .map(|entry| {
            let names = entry.xattrs.keys().map(|name| String::from_utf8(name[17..].to_vec()).unwrap()).collect();
            (String::from_utf8(entry.path).unwrap(), names)
        })
        .collect();
    let (access, default) = (|| vec!["access".to_owned()], || vec!["default".to_owned()]);
    let expected = [
        ("d", default()),
        ("d/dev", vec![]),
        ("d/f", vec![]),
        ("d/l", vec![]),
        ("d/n", default()),
        ("d/n/g", vec![]),
        ("d/n/p", vec![]),
        ("d/own", access()),
        ("d/s", vec![]),
        ("d/s/deep", vec![]),
        ("free", vec![]),
    ];
    assert_eq!(shown, expected.map(|(path, names)| (path.to_owned(), names)));
}

#[test]
fn acls_from_elsewhere_replace_those_of_the_headers_and_keep_what_links_say() {
    use castoff::rootfs::acl::{Acl, Numeric};
    use castoff::rootfs::flatten::{AclOverride, Flattener};
    use castoff::rootfs::tar::{Positioned, Scanner};
    let script = "layer(); d('d'); f('d/x'); f('a', b'1', mode=0o664); h('b', 'a', mode=0o664, uid=7); f('c', mode=0o640); s('l', 'c')";
    let layers = shared(&layers(script));
    for base_layers in [0, 1] {
        let mut flattener =
            Flattener::new(FlattenOptions { base_layers, ..FlattenOptions::default() }, Default::default());
        flattener.add_layer(&mut Scanner::new(Positioned::new(&*layers[0], 0), Default::default())).unwrap();
        let acl = |text: &str| Acl::from_text(text.as_bytes(), &Numeric).unwrap();
        let lists = [
            ("a", "u::rw-,g::rw-,o::r--", None),
            ("c", "u::rw-,u:5:r--,g::---,m::r--,o::---", None),
            ("d", "u::rwx,g::r-x,o::r-x", Some("u::rwx,g::---,o::---")),
            ("l", "u::rwx,g::---,o::---", None),
            ("missing", "u::rwx,g::---,o::---", None),
        ];
        let overrides = lists.map(|(path, access, default)| {
            (path.as_bytes().to_vec(), AclOverride { access: acl(access), default: default.map(acl) })
        });
        flattener.override_acls(overrides.into());
        let flat = flattener.finish(&layers).unwrap();
        let mut listed = super::list(&super::write(&flat, &layers)[0]);
        let whole = [
            "d 755 0:0 d default[u::rwx,g::---,o::---]",
            "f 644 0:0 d/x =  access[u::rw-,g::r--,o::r--]",
            "f 664 7:0 a = 1",
            "h 664 7:0 b -> a",
            "f 640 0:0 c =  access[u::rw-,u:5:r--,g::---,m::r--,o::---]",
            "s 777 0:0 l -> c",
        ];
        let changed = [whole[0], whole[4]];
        if base_layers == 0 {
            assert_eq!(listed, whole);
        } else {
            // The file below the directory was in the base and inherits nothing any more.
            listed.retain(|line| !line.starts_with("f 644 0:0 d/x"));
            assert_eq!(listed, changed);
        }
        assert_eq!(flat.report.warnings.len(), 2, "{:?}", flat.report.warnings);
    }
}
