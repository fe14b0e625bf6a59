//! Images that were made to do harm, through the real binary: a clear error with the right code, bounded memory, nothing
//! written outside, the destination untouched.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use crate::faults::{assert_store_is_whole, below, judged, leftovers, make};
use crate::harness::{Castoff, program, succeed};

const LIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/image_hostile.py");
const NAME: &str = "castoff-test-hostile:1";

/// The exit code of a kind of failure.
fn code(kind: &str) -> i32 {
    BTreeMap::from([("corrupt", 65), ("not-found", 66), ("limit", 70), ("refused", 77)])[kind]
}

/// A castoff that unfolds at most 1 MiB, with an image in its store.
fn guarded() -> Castoff {
    let castoff = Castoff::new().with("CASTOFF_LIMITS_LAYER_SIZE", "1MiB");
    make(&castoff.scratch().join("good.tar"), NAME, "good", &[]);
    castoff.call(&["image.pack", "docker-archive:good.tar", &format!("store:{NAME}")]);
    castoff
}

/// Files and folders outside the state folder, with their sizes and times.
fn outside(castoff: &Castoff) -> Vec<(PathBuf, u64, i64)> {
    let paths = below(castoff.scratch()).into_iter().filter(|path| !path.starts_with(castoff.state()));
    paths
        .map(|path| {
            let metadata = path.symlink_metadata().unwrap();
            (path, metadata.size(), metadata.mtime_nsec())
        })
        .collect()
}

/// Runs it with little memory; it must fail in castoff's own words.
fn refused(castoff: &Castoff, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(castoff, arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{arguments:?}: {said}");
    assert!(output.status.code().is_some_and(|code| code != 0), "{arguments:?}: {} {said}", output.status);
    assert!(said.contains("Error running '"), "{arguments:?}: {said}");
    (output.status.code(), said)
}

/// Runs it with 192 MiB of address space, in which nothing hostile gets far.
fn run(castoff: &Castoff, arguments: &[&str]) -> Output {
    let own = castoff.command(["call", "--retcode-passthrough", "--out=json"]);
    let mut limited = program("prlimit");
    limited.arg("--as=201326592").arg("--").arg(own.get_program()).args(own.get_args()).args(arguments);
    limited.current_dir(own.get_current_dir().unwrap());
    limited.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.output().unwrap()
}

#[test]
fn every_lie_is_told_apart_and_changes_nothing() {
    let castoff = guarded();
    let lies = castoff.scratch().join("lies");
    std::fs::create_dir(&lies).unwrap();
    let cases = succeed(program("python3").arg("-B").arg(LIES).arg(&lies));
    assert!(cases.lines().count() > 40, "{cases}");
    let place = format!("oci:{}:{NAME}", castoff.state().join("store").display());
    let (old, before) = (judged(&place), outside(&castoff));
    for line in cases.lines() {
        let (case, kind) = line.split_once(' ').unwrap();
        let layout = lies.join(case);
        let source = if layout.is_dir() {
            format!("oci:{}:t", layout.display())
        } else {
            format!("docker-archive:{}.tar", layout.display())
        };
        for destination in [format!("store:{NAME}"), "docker-archive:out.tar".to_owned(), "dir:out".to_owned()] {
            let (found, said) = refused(&castoff, &["image.pack", &source, &destination]);
            assert_eq!(found, Some(code(kind)), "{case}: {said}");
            assert!(said.contains(&format!("lies/{case}")), "{case} does not say which image: {said}");
        }
        assert_eq!(outside(&castoff), before, "{case}");
        assert_eq!(leftovers(&castoff), Vec::<PathBuf>::new(), "{case}");
    }
    assert_eq!(judged(&place), old);
    assert_store_is_whole(&castoff);
}

/// Cut off anywhere an archive is refused, or, where only padding is missing, the same image.
#[test]
fn archives_cut_off_anywhere() {
    let castoff = guarded();
    let good = std::fs::read(castoff.scratch().join("good.tar")).unwrap();
    let right = castoff.call(&["image.inspect", &format!("store:{NAME}")])["image_id"].clone();
    let cut = castoff.scratch().join("cut.tar");
    let mut taken = 0;
    for end in (0..good.len()).step_by(1531).chain([511, 512, 513, 1023, 1024]) {
        std::fs::write(&cut, &good[..end]).unwrap();
        if !harmless(&castoff, &right) {
            taken += 1;
        }
    }
    assert!(taken <= 8, "{taken} cuts went unnoticed, more than the padding at the end");
}

/// One bit wrong anywhere: noticed, or it was in what does not matter and the image is the same.
#[test]
fn archives_with_a_wrong_bit_anywhere() {
    let castoff = guarded();
    let good = std::fs::read(castoff.scratch().join("good.tar")).unwrap();
    let right = castoff.call(&["image.inspect", &format!("store:{NAME}")])["image_id"].clone();
    for (number, at) in (0..good.len()).step_by(611).enumerate() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (number % 8);
        std::fs::write(castoff.scratch().join("cut.tar"), bad).unwrap();
        harmless(&castoff, &right);
    }
    assert_store_is_whole(&castoff);
}

/// Whether `cut.tar` is refused; if it is not, it must be the image it was.
fn harmless(castoff: &Castoff, right: &serde_json::Value) -> bool {
    let output = run(castoff, &["image.pack", "docker-archive:cut.tar", "store:castoff-test-hostile:cut"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    match output.status.code() {
        Some(0) => {
            let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(report["local"]["image_id"], *right);
            false
        }
        Some(65 | 66 | 70 | 77) => true,
        code => panic!("{code:?}: {said}"),
    }
}

/// Writes a tar of this many tiny files, each in blocks of its own.
const MANY: &str = r#"
import sys, tarfile
out, count = open(sys.argv[1], "wb", 1 << 20), int(sys.argv[2])
item = tarfile.TarInfo("x" * 40)
item.size, item.mtime = 1, 1600000000
header = bytearray(item.tobuf(tarfile.USTAR_FORMAT))
for number in range(count):
    header[0:40] = b"d%03d/file-number-%023d" % (number % 1000, number)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    out.write(header + b"x" + bytes(511))
out.write(bytes(1024))
"#;

/// Runs a command and prints, last, the most memory it had resident, in KiB.
const PEAK: &str = "
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
";

fn many(file: &Path, count: u32) {
    succeed(program("python3").args(["-c", MANY]).arg(file).arg(count.to_string()));
}

#[test]
fn a_million_tiny_files_need_little_memory() {
    let castoff = Castoff::new();
    many(&castoff.scratch().join("million.tar"), 1_000_000);
    let own = castoff.command(["call", "--out=json", "image.pack", "tar:million.tar", "store:castoff-test-million:1"]);
    let mut measured = program("python3");
    measured.args(["-c", PEAK]).arg(own.get_program()).args(own.get_args());
    measured.current_dir(own.get_current_dir().unwrap());
    measured.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let told = succeed(&mut measured);
    let (report, kibibytes) = told.trim_end().rsplit_once('\n').unwrap();
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    assert_eq!(report["local"]["entries"]["in"], 1_000_000);
    let kibibytes: u64 = kibibytes.parse().unwrap();
    assert!((10_000..300 * 1024).contains(&kibibytes), "{kibibytes} KiB");
}

#[test]
fn more_files_than_the_limit_are_refused() {
    let castoff = Castoff::new().with("CASTOFF_LIMITS_ENTRIES", "1000");
    many(&castoff.scratch().join("many.tar"), 1001);
    let (code, said) = refused(&castoff, &["image.pack", "tar:many.tar", "store:castoff-test-many:1"]);
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("1000") && said.contains("hint: ") && said.contains("limits.entries"), "{said}");
}
