//! Patches, both ways with the program that defines them: `zstd --patch-from`.

use std::path::{Path, PathBuf};

use castoff::error::Kind;
use castoff::manifest::{PatchLimits, apply, make, most_worth};

use crate::harness::{program, succeed};

const LIMITS: PatchLimits = PatchLimits { tar: 1 << 30 };

/// Two tars of this machine's files, the second with something new in front, in the middle and behind.
fn tars(folder: &Path, mib: usize) -> (PathBuf, PathBuf) {
    let tree = folder.join("tree");
    std::fs::create_dir_all(tree.join("m")).unwrap();
    let bytes: Vec<u8> = std::fs::read("/proc/self/exe").unwrap().into_iter().cycle().take(mib << 20).collect();
    for (at, part) in bytes.chunks((bytes.len() / 20).max(1)).enumerate() {
        let mut part = part.to_vec();
        // What repeats within one tar shall not hide what is found in the other.
        part.iter_mut().step_by(1009).enumerate().for_each(|(nth, byte)| *byte ^= (nth * (at + 3)).to_le_bytes()[0]);
        std::fs::write(tree.join(format!("m/{at:02}")), part).unwrap();
    }
    let tar = |name: &str| {
        let file = folder.join(name);
        succeed(program("tar").args(["--sort=name", "--mtime=@0", "-C"]).arg(&tree).arg("-cf").arg(&file).arg("."));
        file
    };
    let old = tar("old.tar");
    for name in ["a", "m/05x", "z"] {
        std::fs::write(tree.join(name), name.repeat(5000)).unwrap();
    }
    (old, tar("new.tar"))
}

fn made(old: &Path, new: &Path, most: u64) -> Option<Vec<u8>> {
    let (base, target) = (std::fs::read(old).unwrap(), std::fs::File::open(new).unwrap());
    let size = target.metadata().unwrap().len();
    let mut patch = Vec::new();
    let written = make(&base, target, size, LIMITS, (&mut patch, most)).unwrap()?;
    assert_eq!(written, patch.len() as u64);
    Some(patch)
}

fn applied(old: &Path, patch: &[u8], size: u64) -> castoff::error::Result<Vec<u8>> {
    let mut out = Vec::new();
    apply(&std::fs::read(old).unwrap(), patch, size, LIMITS, &mut out).map(|()| out)
}

#[test]
fn a_patch_of_ours_is_applied_by_zstd_and_one_of_zstd_by_us() {
    for mib in [0, 1, 40] {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = tars(folder.path(), mib);
        let size = std::fs::metadata(&new).unwrap().len();
        let from = format!("--patch-from={}", old.display());
        let (ours, theirs, out) = (folder.path().join("ours"), folder.path().join("theirs"), folder.path().join("out"));

        let patch = made(&old, &new, u64::MAX).unwrap();
        assert_eq!(patch, made(&old, &new, u64::MAX).unwrap(), "equal input, equal bytes");
        std::fs::write(&ours, &patch).unwrap();
        succeed(program("zstd").args(["-q", "-d", "-f", "--long=31", &from]).arg(&ours).arg("-o").arg(&out));
        succeed(program("cmp").arg(&out).arg(&new));
        assert!(applied(&old, &patch, size).unwrap() == std::fs::read(&new).unwrap());

        for level in ["-1", "-3", "-12"] {
            succeed(program("zstd").args(["-q", "-f", level, &from]).arg(&new).arg("-o").arg(&theirs));
            let patch = std::fs::read(&theirs).unwrap();
            assert!(applied(&old, &patch, size).unwrap() == std::fs::read(&new).unwrap(), "{mib} MiB, {level}");
        }
        // As small as zstd's own at the same level, but for some bytes a block of 128 KiB.
        succeed(program("zstd").args(["-q", "-f", "-3", &from]).arg(&new).arg("-o").arg(&theirs));
        let (ours, theirs) = (patch.len() as u64, std::fs::metadata(&theirs).unwrap().len());
        assert!(ours <= theirs + theirs / 10 + 64 + (size >> 14), "{mib} MiB: ours {ours}, theirs {theirs}");
    }
}

#[test]
fn a_patch_that_does_not_pay_is_dropped_and_limits_hold() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = tars(folder.path(), 4);
    let whole = made(&old, &new, u64::MAX).unwrap().len() as u64;
    assert!(made(&old, &new, whole).is_some());
    assert!(made(&old, &new, whole - 1).is_none());
    let noise = folder.path().join("noise");
    succeed(program("sh").args(["-c", "head -c 1000000 /dev/urandom > \"$0\""]).arg(&noise));
    assert!(made(&old, &noise, most_worth(1_000_000)).is_none());

    let size = std::fs::metadata(&new).unwrap().len();
    let small = PatchLimits { tar: size - 1 };
    let base = std::fs::read(&old).unwrap();
    let error = make(&base, std::fs::File::open(&new).unwrap(), size, small, (Vec::new(), u64::MAX)).unwrap_err();
    assert_eq!(error.kind(), Kind::Limit);
    let mut out = Vec::new();
    let patch = made(&old, &new, u64::MAX).unwrap();
    assert_eq!(apply(&base, &patch[..], size, small, &mut out).unwrap_err().kind(), Kind::Limit);
    assert!(out.is_empty());
    for size in [size - 1, size + 1] {
        let target = std::fs::File::open(&new).unwrap();
        assert_eq!(make(&base, target, size, LIMITS, (Vec::new(), u64::MAX)).unwrap_err().kind(), Kind::Corrupt);
    }
}

#[test]
fn a_patch_that_lies_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = tars(folder.path(), 1);
    let size = std::fs::metadata(&new).unwrap().len();
    let patch = made(&old, &new, u64::MAX).unwrap();
    let base = std::fs::read(&old).unwrap();
    // Not what was announced, larger or smaller; no frame at all; a skippable frame in front.
    for (patch, announced) in [
        (patch.clone(), size + 1),
        (patch.clone(), size - 1),
        (Vec::new(), size),
        (b"nonsense that is no frame".to_vec(), size),
        ([&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0], &patch[..]].concat(), size),
    ] {
        let mut out = Vec::new();
        let error = apply(&base, &patch[..], announced, LIMITS, &mut out).unwrap_err();
        assert_eq!((error.kind(), out.len()), (Kind::Corrupt, 0), "{error:?}");
    }
    // Damaged, cut off, for another tar, with something behind.
    let middle = patch.len() / 2;
    let mut flipped = patch.clone();
    flipped[middle] ^= 16;
    let twice = [&patch[..], &patch[..]].concat();
    for bad in [&flipped[..], &patch[..patch.len() - 1], &patch[..20], &twice[..]] {
        assert_eq!(applied(&old, bad, size).unwrap_err().kind(), Kind::Corrupt);
    }
    assert_eq!(applied(&new, &patch, size).unwrap_err().kind(), Kind::Corrupt);
}
