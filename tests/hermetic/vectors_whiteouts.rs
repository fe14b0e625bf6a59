//! Vectors 1 to 7, 15, 16 and parts of 20: deletions, opaque directories, changes of type, duplicates, missing parents.

use super::{expect, layers, merge, refused, shared};
use castoff::error::Kind;
use castoff::rootfs::Limits;
use castoff::rootfs::flatten::{FlattenOptions, Flattener};
use castoff::rootfs::tar::{Positioned, Scanner};

#[test]
fn v01_a_deleted_file_is_gone() {
    let report = expect(
        "layer(); d('d'); f('d/a', b'1'); f('d/b', b'2')\nlayer(); d('d'); wh('d/.wh.a')",
        &["d 755 0:0 d", "f 644 0:0 d/b = 2"],
    );
    assert_eq!((report.whiteouts, report.entries_in, report.entries_kept), (1, 5, 2));
}

#[test]
fn v02_a_directory_deleted_and_made_anew_in_one_layer_holds_only_what_is_new() {
    let lower = "layer(); d('d', uid=7, mode=0o700); f('d/old', b'o'); d('d/sub'); f('d/sub/x')\n";
    for upper in [
        "layer(); wh('.wh.d'); d('d'); f('d/n', b'n')",
        "layer(); d('d'); f('d/n', b'n'); wh('.wh.d')",
        "layer(); d('d'); wh('.wh.d'); f('d/n', b'n')",
    ] {
        let report = expect(&format!("{lower}{upper}"), &["d 755 0:0 d", "f 644 0:0 d/n = n"]);
        assert!(report.warnings[0].contains("deletes `d` and makes it anew"), "{:?}", report.warnings);
    }
    // Without an entry for the directory itself nothing says what it is: its lower owner went with it.
    for upper in ["layer(); wh('.wh.d'); f('d/n', b'n')", "layer(); f('d/n', b'n'); wh('.wh.d')"] {
        let report = expect(&format!("{lower}{upper}"), &["d 755 0:0 d", "f 644 0:0 d/n = n"]);
        assert_eq!(report.synthesised_parents, 1);
    }
    // New things deep below, in a directory that only the lower layer holds.
    expect(
        &format!("{lower}layer(); f('d/sub/y', b'y'); wh('.wh.d')"),
        &["d 755 0:0 d", "d 755 0:0 d/sub", "f 644 0:0 d/sub/y = y"],
    );
}

#[test]
fn v03_an_opaque_marker_before_its_siblings_hides_lower_entries_only() {
    let report = expect(
        "layer(); d('d', uid=5); f('d/a'); d('d/e'); f('d/e/f')\n\
         layer(); f('d/.wh..wh..opq'); f('d/n', b'n')",
        &["d 755 5:0 d", "f 644 0:0 d/n = n"],
    );
    assert_eq!((report.opaques, report.implied_parents), (1, 1));
}

#[test]
fn v04_an_opaque_marker_behind_its_siblings_hides_lower_entries_only() {
    expect(
        "layer(); d('d'); f('d/a'); d('d/e', uid=9); f('d/e/f')\n\
         layer(); d('d', uid=6); f('d/n', b'n'); f('d/e/g', b'g'); f('d/.wh..wh..opq')",
        &["d 755 6:0 d", "f 644 0:0 d/n = n", "d 755 0:0 d/e", "f 644 0:0 d/e/g = g"],
    );
    // At the root too.
    expect(
        "layer(); d('.', uid=3); f('a'); d('b'); f('b/c')\nlayer(); f('n'); f('.wh..wh..opq')",
        &["d 755 3:0 .", "f 644 0:0 n = "],
    );
}

#[test]
fn v05_a_file_becomes_a_directory_with_children() {
    expect(
        "layer(); f('a', b'file')\nlayer(); d('a', mode=0o711); f('a/b', b'c')",
        &["d 711 0:0 a", "f 644 0:0 a/b = c"],
    );
}

#[test]
fn v06_a_directory_with_children_becomes_a_file_or_a_link() {
    let lower = "layer(); d('a'); f('a/b'); d('a/c'); f('a/c/d'); f('z')\n";
    expect(&format!("{lower}layer(); f('a', b'x')"), &["f 644 0:0 z = ", "f 644 0:0 a = x"]);
    expect(&format!("{lower}layer(); s('a', 'z')"), &["f 644 0:0 z = ", "s 777 0:0 a -> z"]);
}

#[test]
fn v07_a_file_deleted_and_added_in_one_layer_is_the_added_one() {
    for upper in ["wh('.wh.f'); f('f', b'new')", "f('f', b'new'); wh('.wh.f')"] {
        expect(&format!("layer(); f('f', b'old', uid=4)\nlayer(); {upper}"), &["f 644 0:0 f = new"]);
    }
}

#[test]
fn v15_of_duplicates_in_one_layer_the_last_counts() {
    expect("layer(); f('a', b'1'); f('b'); f('a', b'2', uid=1)", &["f 644 0:0 b = ", "f 644 1:0 a = 2"]);
    // A directory over a directory changes it and keeps what is in it; a file takes everything away.
    expect("layer(); d('a'); f('a/b', b'1'); d('a', mode=0o700, uid=2)", &["d 700 2:0 a", "f 644 0:0 a/b = 1"]);
    expect("layer(); d('a'); f('a/b'); f('a', b'x'); f('c')", &["f 644 0:0 a = x", "f 644 0:0 c = "]);
    expect("layer(); f('a', b'x'); d('a'); f('a/b', b'1')", &["d 755 0:0 a", "f 644 0:0 a/b = 1"]);
}

#[test]
fn v16_a_missing_parent_is_the_lower_one_or_a_plain_new_one() {
    let report = expect(
        "layer(); d('p', mode=0o700, uid=5, gid=6, mtime=77, x={A: acl('u::rwx,u:9:r-x,g::---,m::r-x,o::---')})\n\
         layer(); f('p/q/r', b'1')",
        &["d 750 5:6 p @77 access[u::rwx,u:9:r-x,g::---,m::r-x,o::---]", "d 755 0:0 p/q", "f 644 0:0 p/q/r = 1"],
    );
    assert_eq!((report.implied_parents, report.synthesised_parents), (1, 1));
}

#[test]
fn v16_an_entry_below_a_file_or_a_link_makes_it_a_directory() {
    for (lower, upper) in [("f('a', b'x')", "f('a/b', b'1')"), ("d('t'); s('a', 't')", "f('a/b', b'1')")] {
        let script = format!("layer(); {lower}\nlayer(); {upper}");
        let flat = merge(&shared(&layers(&script)), FlattenOptions::default()).unwrap();
        assert!(flat.report.warnings[0].contains("`a` is no directory, but layer 2 has entries below it"));
    }
    expect(
        "layer(); d('t'); s('a', 't')\nlayer(); f('a/b', b'1')",
        &["d 755 0:0 t", "d 755 0:0 a", "f 644 0:0 a/b = 1"],
    );
    // A whiteout below a link follows it nowhere and makes nothing.
    expect(
        "layer(); d('t'); f('t/b'); s('a', 't')\nlayer(); wh('a/.wh.b')",
        &["d 755 0:0 t", "f 644 0:0 t/b = ", "s 777 0:0 a -> t"],
    );
}

#[test]
fn v20_marks_without_effect_and_drivers_own_entries_are_no_content() {
    let report = expect(
        "layer(); f('a', b'1')\n\
         layer(); wh('.wh.nothing'); wh('no/where/.wh.x'); f('.wh..wh.aufs'); d('.wh..wh.plnk'); f('.wh..wh.plnk/1.2')\n\
         layer()",
        &["f 644 0:0 a = 1"],
    );
    assert_eq!((report.whiteouts, report.metadata, report.entries_kept), (2, 3, 1));
    for name in [".wh.", "a/.wh..", "a/.wh...", ".wh.d/inside"] {
        assert!(refused(&format!("layer(); f('{name}')")).contains("names nothing that can be deleted"), "{name}");
    }
}

#[test]
fn v20_a_root_filesystem_with_names_that_mean_deletions_is_refused() {
    for name in [".wh.x", "a/.wh..wh..opq", "a/.wh.b/c"] {
        let layers = shared(&layers(&format!("layer(); f('{name}')")));
        let mut flattener = Flattener::new(FlattenOptions::default(), Limits::default());
        let mut scanner = Scanner::new(Positioned::new(&*layers[0], 0), Limits::default());
        let error = flattener.add_tree(&mut scanner).unwrap_err();
        assert_eq!(error.kind(), Kind::Refused);
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn a_deletion_and_what_it_deletes_may_alternate_a_million_times() {
    // Each round deletes a directory of the lower layer again; without memory of that this would take hours.
    let script = "layer(); d('d')\nfor n in range(20000): f(f'd/{n}')\n\
                  layer(); d('d')\nfor n in range(20000): f(f'd/n{n}'); wh('.wh.d')";
    let started = std::time::Instant::now();
    let flat = merge(&shared(&layers(script)), FlattenOptions::default()).unwrap();
    assert_eq!(flat.report.entries_kept, 20001);
    assert!(started.elapsed().as_secs() < 60);
}

#[test]
fn more_paths_than_allowed_are_an_error_not_memory() {
    let layers = shared(&layers("layer()\nfor n in range(20): f('/'.join(str(n) * 1 for _ in range(60)))"));
    let limits = Limits { entries: 1000, ..Limits::default() };
    let mut flattener = Flattener::new(FlattenOptions::default(), limits);
    let error = flattener.add_layer(&mut Scanner::new(Positioned::new(&*layers[0], 0), limits)).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
}
