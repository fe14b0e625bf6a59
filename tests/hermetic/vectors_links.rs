//! Vectors 8, 9, 10 and parts of 20: hard links, whatever happens to the names of their group.

use super::{expect, refused};

const GROUP: &str = "layer(); f('h1', b'old', mode=0o640); h('h2', 'h1', mode=0o640); h('h3', 'h1', mode=0o640)\n";

#[test]
fn v08_a_rewritten_member_leaves_the_others_their_bytes_and_their_link() {
    let report = expect(
        &format!("{GROUP}layer(); f('h1', b'new')"),
        &["f 640 0:0 h2 = old", "h 640 0:0 h3 -> h2", "f 644 0:0 h1 = new"],
    );
    assert_eq!(report.links_promoted, 1);
    expect(
        &format!("{GROUP}layer(); f('h2', b'new')"),
        &["f 640 0:0 h1 = old", "h 640 0:0 h3 -> h1", "f 644 0:0 h2 = new"],
    );
}

#[test]
fn v09_a_deleted_carrier_hands_its_content_to_the_next_name() {
    let report = expect(&format!("{GROUP}layer(); wh('.wh.h1')"), &["f 640 0:0 h2 = old", "h 640 0:0 h3 -> h2"]);
    assert_eq!(report.links_promoted, 1);
    expect(&format!("{GROUP}layer(); wh('.wh.h1'); wh('.wh.h2')"), &["f 640 0:0 h3 = old"]);
    // The directory of the carrier becomes a file; the survivor lives elsewhere, deeper and with a long name.
    let long = "n".repeat(120);
    expect(
        &format!("layer(); d('a'); f('a/k1', b'k'); d('b'); d('b/c'); h('b/c/{long}', 'a/k1')\nlayer(); f('a')"),
        &["d 755 0:0 b", "d 755 0:0 b/c", &format!("f 644 0:0 b/c/{long} = k"), "f 644 0:0 a = "],
    );
}

#[test]
fn v09_links_to_other_things_than_files_are_carried_on_too() {
    expect(
        "layer(); s('l1', 'to'); h('l2', 'l1', mode=0o777); h('l3', 'l1', mode=0o777); c('n1', 1, 3); h('n2', 'n1')\n\
         layer(); wh('.wh.l1'); wh('.wh.n1')",
        &["s 777 0:0 l2 -> to", "h 777 0:0 l3 -> l2", "c 644 0:0 n2 (1,3)"],
    );
}

#[test]
fn v10_a_link_to_a_file_of_a_lower_layer_is_resolved_and_said() {
    let report =
        expect("layer(); f('a', b'1', uid=4)\nlayer(); h('b', 'a', uid=4)", &["f 644 4:0 a = 1", "h 644 4:0 b -> a"]);
    assert!(report.warnings[0].contains("`b` points to `a` of a lower layer, which engines refuse"));
    // The lower file is deleted by the same layer, behind the link: what the link means is not.
    expect("layer(); f('a', b'1')\nlayer(); h('b', 'a'); wh('.wh.a')", &["f 644 0:0 b = 1"]);
    expect("layer(); f('a', b'1')\nlayer(); h('b', 'a'); f('a', b'2')", &["f 644 0:0 b = 1", "f 644 0:0 a = 2"]);
}

#[test]
fn v10_a_link_to_nothing_or_to_a_directory_is_an_error_that_names_both() {
    let text = refused("layer(); f('a')\nlayer(); wh('.wh.a'); h('b', 'a')");
    assert!(text.contains("the hard link `b` points to `a`, which is neither in layer 2 nor below"), "{text}");
    let text = refused("layer(); d('d'); h('b', 'd')");
    assert!(text.contains("the hard link `b` points to `d`, a directory"), "{text}");
    assert!(refused("layer(); h('a', 'a')").contains("`a` points to `a`"));
}

#[test]
fn a_link_may_come_before_its_target_of_the_same_layer() {
    let expected = ["f 644 0:0 b = 1", "h 644 0:0 a -> b"];
    expect("layer(); h('a', 'b'); f('b', b'1')", &expected);
    // Its own header says less of the file than the file's, which came later.
    expect("layer(); h('a', 'b', uid=9); f('b', b'1')", &expected);
    // Unless something else took its place, or that of a directory above it, meanwhile.
    expect("layer(); h('a', 'b'); f('b', b'1'); f('a', b'2')", &["f 644 0:0 b = 1", "f 644 0:0 a = 2"]);
    expect("layer(); h('d/a', 'b'); f('b', b'1'); f('d', b'2')", &["f 644 0:0 b = 1", "f 644 0:0 d = 2"]);
    expect(
        "layer(); f('d/a', b'0')\nlayer(); h('d/a', 'b'); f('b', b'1')",
        &["d 755 0:0 d", "f 644 0:0 b = 1", "h 644 0:0 d/a -> b"],
    );
}

#[test]
fn the_last_name_s_header_says_mode_owner_and_time_of_all() {
    let both = "600 3:4 NAME @9TARGET user.a=1 user.b=2";
    let line = |kind: &str, name: &str, target: &str| {
        format!("{kind} {}", both.replace("NAME", name).replace("TARGET", target)).replace("user.", "xattr.user.")
    };
    expect(
        "layer(); f('a', b'x', mtime=5, x={'user.a': b'1'})\n\
         h('b', 'a', mode=0o600, uid=3, gid=4, mtime=9, x={'user.b': b'2'})",
        &[&line("f", "a", " = x"), &line("h", "b", " -> a")],
    );
}

#[test]
fn v20_capability_and_suid_bit_stand_in_the_header_of_every_name() {
    // Engines chown at every name, which clears both.
    let capability = r"b'\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00'";
    let shown = "xattr.security.capability=\\x01\\x00\\x00\\x02\\x00\\x04".to_owned() + &"\\x00".repeat(14);
    expect(
        &format!(
            "layer(); f('p', b'x', mode=0o4755, x={{'security.capability': {capability}}}); h('q', 'p', mode=0o755)\n\
                  h('r', 'p', mode=0o4755)"
        ),
        &[
            &format!("f 4755 0:0 p = x {shown}"),
            &format!("h 4755 0:0 q -> p {shown}"),
            &format!("h 4755 0:0 r -> p {shown}"),
        ],
    );
}

#[test]
fn a_name_that_links_to_itself_stays_what_it_is() {
    let report = expect("layer(); f('a', b'1')\nlayer(); h('a', 'a')", &["f 644 0:0 a = 1"]);
    assert_eq!(report.links_promoted, 0);
}

#[test]
fn a_link_may_take_the_place_of_the_directory_its_target_is_in() {
    expect("layer(); d('d'); f('d/f', b'1')\nlayer(); h('d', 'd/f')", &["f 644 0:0 d = 1"]);
}
