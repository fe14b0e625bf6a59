//! Packing what lies above a kept base: only what differs, deletions one by one, link groups whole.

use castoff::rootfs::flatten::FlattenOptions;

use super::{layers, list, merge, pack, shared, write};

fn base(layers: usize) -> FlattenOptions {
    FlattenOptions { base_layers: layers, ..FlattenOptions::default() }
}

/// Merges what lies above the first layer, checks its list, and that base and result together are the whole tree.
fn above(script: &str, expected: &[&str]) {
    let layers = layers(script);
    let packed = pack(&layers, base(1));
    assert_eq!(packed.lists[0], expected);
    let sorted = |layers: &[Vec<u8>]| {
        let mut lines = pack(layers, FlattenOptions::default()).lists.remove(0);
        lines.sort();
        lines
    };
    assert_eq!(sorted(&[layers[0].clone(), packed.tars[0].clone()]), sorted(&layers));
}

#[test]
fn changes_come_with_the_directories_above_them_and_deletions_as_whiteouts() {
    above(
        "layer(); d('a', uid=3); d('a/b'); f('a/b/old'); f('a/keep'); d('gone'); f('gone/x'); f('z')\n\
         layer(); f('a/b/new', b'1'); wh('a/b/.wh.old')\n\
         layer(); wh('.wh.gone'); f('late'); f('tmp')\n\
         layer(); wh('.wh.tmp')",
        &[
            "d 755 3:0 a",
            "d 755 0:0 a/b",
            "f 0 0:0 a/b/.wh.old = ",
            "f 0 0:0 .wh.gone = ",
            "f 644 0:0 a/b/new = 1",
            "f 644 0:0 late = ",
        ],
    );
}

#[test]
fn a_directory_made_anew_deletes_each_of_its_lower_children() {
    // A single `.wh.d` beside `d/` would be read in two ways.
    above(
        "layer(); d('d', uid=1); f('d/x'); d('d/s'); f('d/s/y'); f('d/stays', b'0')\n\
         layer(); wh('.wh.d')\n\
         layer(); d('d', uid=2); f('d/stays', b'1'); f('d/n')",
        &["d 755 2:0 d", "f 0 0:0 d/.wh.x = ", "f 0 0:0 d/.wh.s = ", "f 644 0:0 d/stays = 1", "f 644 0:0 d/n = "],
    );
}

#[test]
fn changes_of_type_need_no_whiteout() {
    above(
        "layer(); d('d'); f('d/x'); f('f')\nlayer(); f('d', b'1'); d('f'); f('f/y')",
        &["f 644 0:0 d = 1", "d 755 0:0 f", "f 644 0:0 f/y = "],
    );
}

#[test]
fn a_new_name_of_a_lower_file_brings_the_whole_group_with_its_content() {
    above(
        "layer(); f('h1', b'1'); h('h2', 'h1'); f('other')\nlayer(); h('h3', 'h2')",
        &["f 644 0:0 h1 = 1", "h 644 0:0 h2 -> h1", "h 644 0:0 h3 -> h1"],
    );
    // A name less changes nothing about the others.
    above("layer(); f('h1', b'1'); h('h2', 'h1'); h('h3', 'h1')\nlayer(); wh('.wh.h1')", &["f 0 0:0 .wh.h1 = "]);
    above("layer(); f('h1', b'1'); h('h2', 'h1'); h('h3', 'h1')\nlayer(); f('h2', b'2')", &["f 644 0:0 h2 = 2"]);
    // A link's header that changes the lower file changes all of its names.
    above(
        "layer(); f('h1', b'1'); h('h2', 'h1')\nlayer(); h('h2', 'h1', uid=5)",
        &["f 644 5:0 h1 = 1", "h 644 5:0 h2 -> h1"],
    );
}

#[test]
fn new_children_of_a_lower_default_acl_directory_are_guarded_and_lost_acls_are_taken_away() {
    let default = "x={D: acl('u::rwx,g::---,o::---')}";
    above(
        &format!("layer(); d('d', {default}); f('d/x', x={{A: acl('u::rw-,g::r--,o::r--')}})\nlayer(); f('d/n')"),
        &["d 755 0:0 d default[u::rwx,g::---,o::---]", "f 644 0:0 d/n =  access[u::rw-,g::r--,o::r--]"],
    );
    // Engines that unpack layers over one another would leave the old ACL on the directory.
    let packed = pack(&layers(&format!("layer(); d('d', {default})\nlayer(); d('d'); f('d/n')")), base(1));
    assert_eq!(packed.lists[0], ["d 755 0:0 d access[u::rwx,g::r-x,o::r-x] default[]", "f 644 0:0 d/n = "]);
}

#[test]
fn nothing_above_the_base_is_an_empty_layer() {
    let layers = shared(&layers("layer(); d('.'); f('a')\nlayer()"));
    let flat = merge(&layers, base(1)).unwrap();
    assert!(list(&write(&flat, &layers)[0]).is_empty());
    assert_eq!(flat.entries(&layers).count(), 2, "the tree is whole whatever is written of it");
}

#[test]
fn options_that_exclude_each_other_are_refused() {
    let layers = shared(&layers("layer(); f('a')"));
    let both = FlattenOptions { split_acl_layer: true, ..base(1) };
    assert!(merge(&layers, both).unwrap_err().message().contains("exclude each other"));
    assert!(merge(&layers, base(2)).unwrap_err().message().contains("the base has 2 layers, the image only 1"));
}
