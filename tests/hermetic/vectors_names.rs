//! Vectors 11, 12, 13 and 17: names in every spelling and length, bytes that are no text, links as data.

use super::{expect, layers, list, merge, pack, python, refused, shared, write};
use castoff::rootfs::flatten::FlattenOptions;

/// Names as they are, which Python's writer would tidy.
const RAW: &str = r#"
def raw(*items):
    global N
    with open(path(N), "wb") as out:
        for kind, name, to, data in items:
            i = tarfile.TarInfo("x"); i.type, i.linkname, i.size = kind, to, len(data)
            i.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
            block = bytearray(i.tobuf(tarfile.USTAR_FORMAT))
            block[:100] = name.encode().ljust(100, b"\0")
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
            out.write(block + data.ljust(-(-len(data) // 512) * 512, b"\0"))
        out.write(bytes(1024))
    N += 1
F, D_, H = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.LNKTYPE
"#;

#[test]
fn v11_every_spelling_of_a_name_is_one_entry() {
    expect(
        &format!(
            "{RAW}raw((D_, './', '', b''), (F, './a', '', b'1'), (D_, 'd', '', b''), (F, './d//b', '', b'2'), (F, '/c', '', b'3'), \
             (H, './h', './d/./b', b''))\n\
             raw((D_, '/d/', '', b''), (F, 'a', '', b'one'), (F, 'd/./b', '', b'two'))"
        ),
        &[
            "d 755 0:0 .",
            "f 644 0:0 h = 2",
            "f 644 0:0 c = 3",
            "d 755 0:0 d",
            "f 644 0:0 a = one",
            "f 644 0:0 d/b = two",
        ],
    );
    for name in ["../x", "a/../b", ".."] {
        assert!(refused(&format!("{RAW}raw((F, '{name}', '', b''))")).contains("`..` component"), "{name}");
    }
    assert!(
        refused(&format!("{RAW}raw((F, 'x', '', b''), (H, 'a', '../../etc/passwd', b''))")).contains("`..` component")
    );
}

#[test]
fn v11_the_root_keeps_its_mode() {
    expect(
        "layer(); d('.', mode=0o1700, uid=8); f('a')\nlayer(); d('./', mode=0o711, uid=9)",
        &["d 711 9:0 .", "f 644 0:0 a = "],
    );
}

#[test]
fn v12_long_names_and_targets_in_every_dialect() {
    // A name of n bytes has components of 50, which ustar's prefix can split.
    let script = r#"
def name(n, tag): return "/".join([tag + "." * (49 - len(tag))] * 9)[:n - 1] + tag[0]
lengths = (100, 101, 255, 256, 400)
layer(tarfile.GNU_FORMAT)
for n in lengths: f(name(n, "g"), b"gnu"); s(name(n, "s"), name(n, "t")); h(name(n, "h"), name(n, "g"))
layer(tarfile.USTAR_FORMAT)
for n in lengths[:4]: f("u" * (n - 51 if n < 200 else n - 101) + "/" + "v" * (50 if n < 200 else 100), b"ustar")
layer(tarfile.PAX_FORMAT)
for n in lengths: f(name(n, "p"), b"pax"); s(name(n, "q"), name(n, "r")); h(name(n, "k"), name(n, "p"))
# A later layer replaces what an earlier one says in another dialect, and deletes the carrier of a link.
layer(tarfile.PAX_FORMAT)
for n in lengths: f(name(n, "s"), b"over"); a, _, b = name(n, "p").rpartition("/"); wh(a + "/.wh." + b)
"#;
    let packed = pack(&layers(script), FlattenOptions::default());
    let lines: Vec<&str> = packed.lists[0].iter().filter(|line| !line.starts_with('d')).map(String::as_str).collect();
    let name = |n: usize, tag: &str| {
        let component = format!("{tag}{}", ".".repeat(49 - tag.len()));
        format!("{}{tag}", &vec![component; 9].join("/")[..n - 1])
    };
    let mut expected = Vec::new();
    for n in [100, 101, 255, 256, 400] {
        expected.push(format!("f 644 0:0 {} = gnu", name(n, "g")));
        expected.push(format!("h 644 0:0 {} -> {}", name(n, "h"), name(n, "g")));
    }
    // The longest that ustar has room for: a prefix of 155 bytes and a name of 100.
    for (prefix, name) in [(49, 50), (50, 50), (154, 100), (155, 100)] {
        expected.push(format!("f 644 0:0 {}/{} = ustar", "u".repeat(prefix), "v".repeat(name)));
    }
    for n in [100, 101, 255, 256, 400] {
        expected.push(format!("f 644 0:0 {} = pax", name(n, "k")));
        expected.push(format!("s 777 0:0 {} -> {}", name(n, "q"), name(n, "r")));
    }
    for n in [100, 101, 255, 256, 400] {
        expected.push(format!("f 644 0:0 {} = over", name(n, "s")));
    }
    // A promoted carrier stands where its content was read, before the symbolic link: as expected above.
    assert_eq!(lines, expected);
}

#[test]
fn v13_names_and_values_are_bytes() {
    let script = r#"
layer()
f(b"n\xff\xfe".decode("utf-8", "surrogateescape"), b"raw", x={"user.v": b"a\x00b\nc=d\xff"})
f("new\nline", b"nl"); f("a=b", b"eq"); s("ü", b"\xfc".decode("utf-8", "surrogateescape"))
layer()
h("h\udcff", "n\udcff\udcfe", x={"user.v": b"a\x00b\nc=d\xff"})
layer(); wh(".wh.n\udcff\udcfe"); wh(".wh.a=b")
"#;
    expect(
        script,
        &[
            r"f 644 0:0 h\xff = raw xattr.user.v=a\x00b\nc=d\xff",
            r"f 644 0:0 new\nline = nl",
            r"s 777 0:0 \xc3\xbc -> \xfc",
        ],
    );
}

#[test]
fn v17_targets_of_symbolic_links_are_data() {
    expect(
        "layer(); s('abs', '/etc/shadow'); s('up', '../../../x'); s('dangling', 'no//./where/'); s('self', 'self')",
        &[
            "s 777 0:0 abs -> /etc/shadow",
            "s 777 0:0 up -> ../../../x",
            "s 777 0:0 dangling -> no//./where/",
            "s 777 0:0 self -> self",
        ],
    );
    expect(
        "layer(); d('real'); s('sl', 'real')\nlayer(); f('sl/x', b'1')",
        &["d 755 0:0 real", "d 755 0:0 sl", "f 644 0:0 sl/x = 1"],
    );
}

#[test]
fn global_headers_are_gone_and_what_they_said_stands_in_every_entry() {
    let folder = tempfile::tempdir().unwrap();
    let script = "import tarfile\nwith tarfile.open('g.tar', 'w', pax_headers={'uid': '7', 'mtime': '3.5'}) as t:\n  \
                  i = tarfile.TarInfo('a'); t.addfile(i); i = tarfile.TarInfo('b'); i.pax_headers = {'uid': '8'}; t.addfile(i)";
    python(script, folder.path(), &[]);
    let layers = shared(&[std::fs::read(folder.path().join("g.tar")).unwrap()]);
    let flat = merge(&layers, FlattenOptions::default()).unwrap();
    let listed = list(&write(&flat, &layers)[0]);
    assert_eq!(listed, ["f 644 7:0 a @3.5 = ", "f 644 8:0 b @3.5 = "]);
}
