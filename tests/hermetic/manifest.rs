//! The release manifest: its parser against hostile input, its bytes, its rules, and the route against brute force.

use std::collections::BTreeSet;
use std::str::FromStr as _;

use castoff::error::Kind;
use castoff::manifest::{
    Artefact, Compression, Content, Expected, MANIFEST_LIMIT, Manifest, Md5, Moment, Patch, PatchCodec, PrivilegedPath,
    Route, RouteLimits, route,
};
use castoff::vocab::{DiffId, Digest, ReleaseNumber};
use proptest::prelude::*;

fn diff_id(number: u8) -> DiffId {
    DiffId(Digest::from_bytes([number; 32]))
}

fn patch(from: u8, to: u8, size: u64) -> Patch {
    Patch {
        from: diff_id(from),
        to: diff_id(to),
        to_size: 10,
        name: format!("patch-{from}-{to}-{size}").parse().unwrap(),
        codec: PatchCodec::ZstdPatchFrom,
        size,
        sha256: Digest::of(&[from, to]),
    }
}

pub(crate) fn sample() -> Manifest {
    let archive = |compression, name: &str| Artefact {
        name: name.parse().unwrap(),
        compression,
        size: 36_381_064,
        sha256: Digest::of(name.as_bytes()),
        md5: Md5::of(name.as_bytes()),
    };
    let content = Content {
        diff_id: diff_id(7),
        tar_size: 10,
        tree: Digest::of(b"tree"),
        artefacts: vec![
            archive(Compression::Zstd, "debian-lxc-3.tar.zst"),
            archive(Compression::Xz, "debian-lxc-3.tar.xz"),
        ],
    };
    let mut manifest =
        Manifest::new("debian".parse().unwrap(), "lxc".parse().unwrap(), ReleaseNumber::new(3).unwrap(), content);
    manifest.created = Moment(1_795_224_960);
    manifest.expires = Moment(1_797_816_960);
    manifest.urls = vec!["https://example.net/images/{name}".parse().unwrap()];
    manifest.patches = vec![patch(6, 7, 1_163_000), patch(5, 6, 900_000)];
    manifest.setuid = [&b"usr/bin/su"[..], b"usr/bin/\xff odd\\"].map(|path| PrivilegedPath(path.to_vec())).into();
    manifest
}

#[test]
fn the_bytes_of_a_manifest_are_these() {
    insta::assert_snapshot!(String::from_utf8(sample().to_bytes().unwrap()).unwrap(), @r#"
    {
      "format": 1,
      "image": "debian",
      "flavor": "lxc",
      "version": 3,
      "created": "2026-11-21T01:36:00Z",
      "expires": "2026-12-21T01:36:00Z",
      "diff_id": "sha256:0707070707070707070707070707070707070707070707070707070707070707",
      "tar_size": 10,
      "tree": "sha256:dc9c5edb8b2d479e697b4b0b8ab874f32b325138598ce9e7b759eb8292110622",
      "urls": [
        "https://example.net/images/{name}"
      ],
      "artefacts": [
        {
          "name": "debian-lxc-3.tar.xz",
          "compression": "xz",
          "size": 36381064,
          "sha256": "sha256:8df070d9010fb7dd37f7062f77a2bf43709f81c2bf7bc0549870919e9292be94",
          "md5": "bea4ee9d7c93c3af0b8cf59af57c97b4"
        },
        {
          "name": "debian-lxc-3.tar.zst",
          "compression": "zstd",
          "size": 36381064,
          "sha256": "sha256:9d18db285e6c3d7758936c556b114bc2dacb47b95a0b15c6254ce8e60e713648",
          "md5": "d64c8beba60449743ba8f18c128b5f4f"
        }
      ],
      "patches": [
        {
          "from": "sha256:0505050505050505050505050505050505050505050505050505050505050505",
          "to": "sha256:0606060606060606060606060606060606060606060606060606060606060606",
          "to_size": 10,
          "name": "patch-5-6-900000",
          "codec": "zstd-patch-from",
          "size": 900000,
          "sha256": "sha256:c42522128b49193de8cd45d8f7589cd7e085e65f138640d57d4482e5f7189623"
        },
        {
          "from": "sha256:0606060606060606060606060606060606060606060606060606060606060606",
          "to": "sha256:0707070707070707070707070707070707070707070707070707070707070707",
          "to_size": 10,
          "name": "patch-6-7-1163000",
          "codec": "zstd-patch-from",
          "size": 1163000,
          "sha256": "sha256:4e399d0536e9eb556ea05e7c19f52034fc44dc7eea2f3b5af2da5336ca9c9cf1"
        }
      ],
      "setuid": [
        "usr/bin/su",
        "usr/bin/\\377\\040odd\\134"
      ]
    }
    "#);
}

#[test]
fn what_is_written_is_read_and_order_does_not_matter() {
    let manifest = sample();
    let bytes = manifest.to_bytes().unwrap();
    let read = Manifest::parse(&bytes).unwrap();
    assert_eq!(read.to_bytes().unwrap(), bytes);
    let mut other = manifest.clone();
    other.patches.reverse();
    assert_eq!(other.to_bytes().unwrap(), bytes);
    assert_eq!(read.setuid, manifest.setuid);
    let archive = read.archive().unwrap();
    assert_eq!(read.places(&archive.name), ["https://example.net/images/debian-lxc-3.tar.xz"]);
}

/// The sample with one text replaced by another.
fn with(from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(sample().to_bytes().unwrap()).unwrap();
    assert!(text.contains(from), "no `{from}` in {text}");
    text.replacen(from, to, 1).into_bytes()
}

#[test]
fn a_member_that_is_not_known_is_ignored_and_a_format_that_is_not_known_refused() {
    for more in [r#""format": 1, "x": {"y": [1]},"#, r#""x": null, "format": 1,"#] {
        assert_eq!(Manifest::parse(&with(r#""format": 1,"#, more)).unwrap(), sample_as_read());
    }
    assert_eq!(Manifest::parse(&with(r#""codec":"#, r#""more": 1, "codec":"#)).unwrap(), sample_as_read());
    for format in ["0", "2", "4294967297"] {
        let error = Manifest::parse(&with(r#""format": 1"#, &format!(r#""format": {format}"#))).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported, "{format}");
    }
    // A newer format may look quite different, and is still named in the error.
    assert_eq!(Manifest::parse(br#"{"format": 2, "image": {}}"#).unwrap_err().kind(), Kind::Unsupported);
}

fn sample_as_read() -> Manifest {
    Manifest::parse(&sample().to_bytes().unwrap()).unwrap()
}

#[test]
fn what_contradicts_itself_or_is_out_of_bounds_is_refused() {
    for (from, to) in [
        (r#""format": 1,"#, ""),
        (r#""format": 1,"#, r#""format": 1, "format": 1,"#),
        (r#""format": 1,"#, r#""format": 1, "x": 1, "x": 1,"#),
        (r#""format": 1,"#, r#""format": 1, "x": {"a": 1, "a": 2},"#),
        (r#""image": "debian""#, r#""image": "../debian""#),
        (r#""image": "debian""#, r#""image": "ubuntu""#),
        (r#""flavor": "lxc""#, r#""flavor": "standalone""#),
        (r#""version": 3"#, r#""version": 0"#),
        (r#""version": 3"#, r#""version": 2"#),
        (r#""version": 3"#, r#""version": "3""#),
        (r#""version": 3"#, r#""version": 3.0"#),
        (r#""version": 3"#, r#""version": 4294967296"#),
        ("debian-lxc-3.tar.xz", "debian-lxc-3.tar.gz"),
        ("debian-lxc-3.tar.xz", "a/debian-lxc-3.tar.xz"),
        ("debian-lxc-3.tar.zst", "debian-lxc-3.tar.xz"),
        (r#""compression": "xz""#, r#""compression": "zstd""#),
        (r#""compression": "xz""#, r#""compression": "bzip2""#),
        (r#""size": 36381064"#, r#""size": -1"#),
        (r#""size": 36381064"#, r#""size": 0"#),
        (r#""size": 36381064"#, r#""size": 9007199254740992"#),
        (r#""sha256": "sha256:"#, r#""sha256": "sha256:A"#),
        ("2026-12-21T01:36:00Z", "2025-12-21T01:36:00Z"),
        ("2026-12-21T01:36:00Z", "2026-12-21T01:36:00+01:00"),
        ("https://example.net/images/{name}", "https://example.net/images/"),
        (r#""to_size": 10"#, r#""to_size": 9007199254740992"#),
        ("zstd-patch-from", "vcdiff"),
        ("usr/bin/su", r"usr/bin/\\0666"),
        (r"\\377", r"\\477"),
        ("}\n", "} {}\n"),
    ] {
        let error = Manifest::parse(&with(from, to)).expect_err(&format!("{from} -> {to}"));
        assert_eq!(error.kind(), Kind::Corrupt, "{from} -> {to}: {error:?}");
    }
    let mut bytes = sample().to_bytes().unwrap();
    bytes.resize(usize::try_from(MANIFEST_LIMIT).unwrap() + 1, b' ');
    assert_eq!(Manifest::parse(&bytes).unwrap_err().kind(), Kind::Limit);
    let deep = format!(r#"{{"format": 1, "x": {}{}}}"#, "[".repeat(400_000), "]".repeat(400_000));
    assert_eq!(Manifest::parse(deep.as_bytes()).unwrap_err().kind(), Kind::Corrupt);
    assert_eq!(Manifest::parse(b"\xef\xbb\xbf{}").unwrap_err().kind(), Kind::Corrupt);
}

#[test]
fn lists_have_an_end() {
    let mut manifest = sample();
    manifest.patches = (0..65).map(|number| patch(number, number + 1, 1)).collect();
    assert!(manifest.to_bytes().is_err());
    let mut manifest = sample();
    manifest.urls = vec![manifest.urls[0].clone(); 17];
    assert!(manifest.to_bytes().is_err());
    let mut manifest = sample();
    manifest.patches.push(patch(6, 7, 5));
    assert!(manifest.to_bytes().is_err(), "two patches between the same tars");
}

#[test]
fn an_older_a_changed_and_a_misplaced_manifest_are_refused() {
    let manifest = sample();
    let (image, flavour) = ("debian".parse().unwrap(), "lxc".parse().unwrap());
    let base =
        Expected { image: &image, flavour: &flavour, highest: None, allow_rollback: false, now: manifest.created };
    let seen = manifest.judge(&base).unwrap();
    assert_eq!((seen.highest.version.get(), seen.expired), (3, None));
    let later = Expected { now: Moment(manifest.expires.0 + 60), ..base.clone() };
    assert_eq!(manifest.judge(&later).unwrap().expired, Some(60));

    let mut newer = seen.highest;
    newer.version = newer.version.next().unwrap();
    let back = Expected { highest: Some(newer), ..base.clone() };
    assert_eq!(manifest.judge(&back).unwrap_err().kind(), Kind::Refused);
    let allowed = Expected { allow_rollback: true, ..back };
    assert_eq!(manifest.judge(&allowed).unwrap().highest, newer, "what was seen is not forgotten");

    let mut changed = seen.highest;
    changed.sha256 = Digest::of(b"other");
    let same = Expected { highest: Some(changed), allow_rollback: true, ..base.clone() };
    assert_eq!(manifest.judge(&same).unwrap_err().kind(), Kind::Refused);

    let other = "ubuntu".parse().unwrap();
    assert_eq!(manifest.judge(&Expected { image: &other, ..base.clone() }).unwrap_err().kind(), Kind::Refused);
    let other = "standalone".parse().unwrap();
    assert_eq!(manifest.judge(&Expected { flavour: &other, ..base }).unwrap_err().kind(), Kind::Refused);
}

/// Every way of at most `hops` patches, tried one by one.
fn cheapest(held: &BTreeSet<DiffId>, wanted: DiffId, patches: &[Patch], limits: RouteLimits) -> Option<u64> {
    if held.contains(&wanted) {
        return Some(0);
    }
    if limits.hops == 0 {
        return None;
    }
    let fewer = RouteLimits { hops: limits.hops - 1, ..limits };
    let last = patches.iter().filter(|patch| patch.to == wanted && patch.to_size <= limits.tar);
    last.filter_map(|patch| Some(cheapest(held, patch.from, patches, fewer)? + patch.size)).min()
}

proptest! {
    #[test]
    fn the_route_is_as_cheap_as_brute_force_finds(
        edges in prop::collection::vec((0_u8..6, 0_u8..6, 1_u64..40, 1_u64..4), 0..16),
        held in prop::collection::btree_set(0_u8..6, 0..3),
        full in 1_u64..80,
        hops in 0_usize..5,
        tar in 1_u64..4,
    ) {
        let held: BTreeSet<DiffId> = held.into_iter().map(diff_id).collect();
        let patches: Vec<Patch> = edges
            .into_iter()
            .map(|(from, to, size, to_size)| Patch { to_size, ..patch(from, to, size) })
            .collect();
        let limits = RouteLimits { hops, tar };
        let found = route(&held, diff_id(0), &patches, full, limits);
        let expected = cheapest(&held, diff_id(0), &patches, RouteLimits { hops: hops.min(3), tar });
        match expected {
            Some(0) => prop_assert_eq!(&found, &Route::Held),
            Some(bytes) if bytes < full => prop_assert_eq!(found.bytes(full), bytes),
            _ => prop_assert_eq!(&found, &Route::Full),
        }
        if let Route::Patches(way) = &found {
            prop_assert!(way.len() <= hops.min(3) && held.contains(&way[0].from));
            prop_assert!(way.windows(2).all(|pair| pair[0].to == pair[1].from));
            prop_assert_eq!(way.last().unwrap().to, diff_id(0));
        }
        let mut reversed = patches.clone();
        reversed.reverse();
        prop_assert_eq!(route(&held, diff_id(0), &reversed, full, limits), found, "the order of patches decides nothing");
    }

    #[test]
    fn no_bytes_make_the_parser_panic(at in 0_usize..4000, byte: u8, cut in 0_usize..4000) {
        let mut bytes = sample().to_bytes().unwrap();
        let (at, cut) = (at % bytes.len(), cut % bytes.len());
        bytes[at] = byte;
        if let Ok(read) = Manifest::parse(&bytes) {
            prop_assert!(read.to_bytes().is_ok(), "what was read can be written");
        }
        bytes.truncate(cut);
        prop_assert!(Manifest::parse(&bytes).is_err());
    }

    #[test]
    fn privileged_paths_of_any_bytes_survive(path in prop::collection::vec(any::<u8>(), 1..40)) {
        let mut manifest = sample();
        manifest.setuid = [PrivilegedPath(path)].into();
        let read = Manifest::parse(&manifest.to_bytes().unwrap()).unwrap();
        prop_assert_eq!(read.setuid, manifest.setuid);
    }
}

#[test]
fn names_inside_a_manifest_are_names() {
    assert!(castoff::vocab::FileName::from_str("a/b").is_err());
}
