//! Manifests and files by somebody else: refused, and nothing of them is written.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::publisher::{IMAGE, Publisher, patch_row, sha256, size};
use super::{assert_is, current, host, names, run, trees};
use crate::harness::{Castoff, program, succeed};

/// A host at release 1, and release 2 published.
fn at_one() -> (tempfile::TempDir, Publisher, Castoff) {
    let (folder, mut publisher) = Publisher::local();
    let host = host(&publisher, &publisher.url);
    publisher.release(1, 1, &[]);
    assert_eq!(run(&host)["result"], true);
    publisher.release(2, 1, &[1]);
    (folder, publisher, host)
}

/// Everything that is there of images, tars and files under way.
fn written(castoff: &Castoff) -> Vec<PathBuf> {
    names(&trees(castoff)).into_iter().chain(names(&castoff.state().join("sync"))).collect()
}

fn assert_refused(host: &Castoff, publisher: &Publisher, kind: &str, words: &str) {
    let before = written(host);
    let report = run(host);
    assert_eq!((&report["result"], &report["kind"]), (&json!(false), &json!(kind)), "{words}: {report:#}");
    assert!(report["why"].as_str().unwrap().contains(words), "{words}: {report:#}");
    assert_eq!(written(host), before, "{words}");
    assert_is(host, publisher, 1);
}

#[test]
fn a_manifest_that_is_not_to_be_trusted_changes_nothing() {
    let (_folder, mut publisher, host) = at_one();
    let good = publisher.published().clone();
    publisher.change("other", |_| ());
    assert_refused(&host, &publisher, "refused", "does not list it");
    publisher.change("key", |_| ());
    let path = publisher.manifest_path();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"version\": 2", "\"version\": 9")).unwrap();
    assert_refused(&host, &publisher, "refused", "does not fit the signed bytes");
    std::fs::remove_file(path.with_extension("json.sig")).unwrap();
    assert_refused(&host, &publisher, "not-found", "_manifest.json.sig");
    publisher.change("key", |manifest| {
        *manifest = serde_json::from_str(&manifest.to_string().replace(IMAGE, "other-image")).unwrap();
    });
    assert_refused(&host, &publisher, "refused", "is that of `other-image-lxc`");
    publisher.change("key", |manifest| *manifest = good.clone());
    for (change, kind, words) in [
        (json!({"artefacts": []}), "corrupt", "damaged"),
        (json!({"expires": "2026-01-01T00:00:01Z"}), "refused", "expired 2026-01-01T00:00:01Z"),
        (json!({"format": 2}), "unsupported", "format 2"),
    ] {
        publisher.change("key", |manifest| {
            for (name, value) in change.as_object().unwrap() {
                manifest[name] = value.clone();
            }
        });
        assert_refused(&host, &publisher, kind, words);
        publisher.change("key", |manifest| *manifest = good.clone());
    }
    assert_eq!(run(&host)["result"], true);
    assert_is(&host, &publisher, 2);
}

#[test]
fn what_was_seen_is_not_unseen() {
    let (_folder, mut publisher, host) = at_one();
    let two = publisher.published().clone();
    // Release 3 is seen, and cannot be had: from now on 2 is a rollback all the same.
    publisher.release(3, 1, &[]);
    std::fs::remove_file(publisher.archive_path(3)).unwrap();
    assert_eq!(run(&host)["kind"], "not-found");
    publisher.change("key", |manifest| *manifest = two.clone());
    let report = run(&host);
    assert_eq!(report["kind"], "refused", "{report:#}");
    assert!(report["why"].as_str().unwrap().contains("went back from release 3 to 2"), "{report:#}");
    assert_is(&host, &publisher, 1);
    // An operator may want just that.
    super::call(&host, &["sync.pin", IMAGE, "2"]);
    assert_eq!(run(&host)["result"], true);
    assert_is(&host, &publisher, 2);
    // Other content under a number that was seen.
    super::call(&host, &["sync.unpin", IMAGE]);
    publisher.pack(3);
    std::fs::write(publisher.tree(3).join("rootfs/more"), "x").unwrap();
    publisher.pack(3);
    publisher.announce(3, &[]);
    let report = run(&host);
    assert!(report["why"].as_str().unwrap().contains("has changed its content"), "{report:#}");
    assert_is(&host, &publisher, 2);
}

#[test]
fn a_file_that_is_not_what_was_announced_changes_nothing() {
    let (_folder, mut publisher, host) = at_one();
    publisher.change("key", |manifest| manifest["patches"] = json!([]));
    let archive = publisher.archive_path(2);
    let good = std::fs::read(&archive).unwrap();
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 4;
    let longer = [&good[..], b"x"].concat();
    for (bytes, words) in [
        (&flipped[..], "has other bytes than it should"),
        (&good[..good.len() - 1], "bytes there, not the"),
        (&longer, "bytes there, not the"),
    ] {
        std::fs::write(&archive, bytes).unwrap();
        let report = run(&host);
        assert_eq!((&report["result"], &report["kind"]), (&json!(false), &json!("corrupt")), "{report:#}");
        assert!(report["why"].as_str().unwrap().contains(words), "{report:#}");
        assert_is(&host, &publisher, 1);
    }
    std::fs::write(&archive, good).unwrap();
    assert_eq!(run(&host)["result"], true);
    assert_is(&host, &publisher, 2);
}

/// Signs the manifest with this file as its archive, whatever it holds.
fn publish_archive(publisher: &mut Publisher, number: u32) {
    let path = publisher.archive_path(number);
    let md5 = succeed(program("md5sum").arg(&path))[..32].to_owned();
    publisher.change("key", |manifest| {
        manifest["patches"] = json!([]);
        manifest["artefacts"][0]["size"] = size(&path).into();
        manifest["artefacts"][0]["sha256"] = sha256(&path).into();
        manifest["artefacts"][0]["md5"] = md5.into();
    });
}

#[test]
fn a_bomb_is_refused_before_it_goes_off() {
    let (_folder, mut publisher, host) = at_one();
    let bomb = publisher.place.join("bomb");
    std::fs::File::create(&bomb).unwrap().set_len(100 << 20).unwrap();
    // A patch that says itself that it is too large, and one that does not say what it is.
    std::fs::remove_file(publisher.archive_path(2)).unwrap();
    let name = format!("{IMAGE}-lxc-2.from-1.zst");
    let path = publisher.place.join(&name);
    for sized in [true, false] {
        let mut zstd = program("zstd");
        zstd.args(["-q", "-f", "-c", "--long=31"]).arg(format!("--patch-from={}", publisher.tar(1).display()));
        let output = if sized {
            zstd.arg(&bomb).output().unwrap()
        } else {
            zstd.args(["--no-content-size"]).arg(&bomb).output().unwrap()
        };
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(&path, output.stdout).unwrap();
        let row = patch_row(&name, &path, &publisher.tar(1), &publisher.tar(2));
        publisher.change("key", |manifest| manifest["patches"] = json!([row]));
        let report = run(&host);
        assert_eq!(report["result"], false, "{report:#}");
        let warning = report["warnings"][0].as_str().unwrap();
        let words = if sized { "unfolds to 104857600 bytes" } else { "does not say what it unfolds to" };
        assert!(warning.contains(words), "{report:#}");
        assert_is(&host, &publisher, 1);
    }
    // An archive that unfolds to more than was announced.
    publisher.release(3, 1, &[]);
    succeed(Command::new("sh").args(["-ec", "xz -0 -c \"$0\" > \"$1\""]).arg(&bomb).arg(publisher.archive_path(3)));
    publish_archive(&mut publisher, 3);
    let report = run(&host);
    assert_eq!((&report["result"], &report["kind"]), (&json!(false), &json!("corrupt")), "{report:#}");
    assert!(report["why"].as_str().unwrap().contains("unfolds to more than"), "{report:#}");
    let largest = names(&host.state()).iter().map(|path| size(path)).max().unwrap();
    assert!(largest < 4 << 20, "{largest}");
    assert_is(&host, &publisher, 1);
    publisher.release(4, 1, &[1]);
    assert_eq!(run(&host)["result"], true);
    assert_is(&host, &publisher, 4);
}

#[test]
fn an_archive_never_leaves_its_folder() {
    let (_folder, mut publisher, host) = at_one();
    let outside = publisher.place.join("outside");
    std::fs::create_dir(&outside).unwrap();
    let script = r#"
import io, sys, tarfile
out, outside, kind = sys.argv[1:]
with tarfile.open(out, "w", format=tarfile.PAX_FORMAT) as tar:
    def add(name, type=tarfile.REGTYPE, link="", data=b"x"):
        member = tarfile.TarInfo(name); member.type = type; member.linkname = link
        member.size = len(data) if type == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(data))
    if kind == "link":
        add("rootfs/way", tarfile.SYMTYPE, outside); add("rootfs/way/file")
    elif kind == "dots":
        add("rootfs/../../../escaped")
    else:
        add("rootfs/hard", tarfile.LNKTYPE, outside + "/../versions")
"#;
    for (number, kind) in [(2, "dots"), (3, "hard"), (4, "link")] {
        if number > 2 {
            publisher.release(number, 1, &[]);
        }
        let tar = publisher.tar(number);
        succeed(program("python3").args(["-c", script]).arg(&tar).arg(&outside).arg(kind));
        succeed(
            Command::new("sh").args(["-ec", "xz -c \"$0\" > \"$1\""]).arg(&tar).arg(publisher.archive_path(number)),
        );
        publisher.announce(number, &[]);
        let report = run(&host);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{kind}");
        assert!(!trees(&host).join("escaped").exists(), "{kind}");
        assert_eq!(report["result"], false, "{kind}: {report:#}");
        assert!(!trees(&host).join(number.to_string()).exists(), "{kind}");
        assert_is(&host, &publisher, 1);
    }
}

#[test]
fn a_record_that_is_damaged_is_not_a_new_host() {
    let (_folder, publisher, host) = at_one();
    let record = host.state().join(format!("sync/images/{IMAGE}/lxc/record.json"));
    let good = std::fs::read(&record).unwrap();
    std::fs::File::create(&record).unwrap().write_all(b"{}").unwrap();
    let report = run(&host);
    assert_eq!((&report["result"], &report["kind"]), (&json!(false), &json!("corrupt")), "{report:#}");
    assert_is(&host, &publisher, 1);
    std::fs::write(&record, good).unwrap();
    assert_eq!(run(&host)["result"], Value::Bool(true));
    assert_is(&host, &publisher, 2);
}

#[test]
fn a_tree_that_is_not_the_announced_one_never_appears() {
    let (_folder, mut publisher) = Publisher::local();
    let host = host(&publisher, &publisher.url);
    publisher.release(1, 1, &[]);
    let other = format!("sha256:{}", "0".repeat(64));
    publisher.change("key", |manifest| manifest["tree"] = other.into());
    let report = run(&host);
    assert_eq!((&report["result"], &report["kind"]), (&false.into(), &"corrupt".into()), "{report:#}");
    assert!(!current(&host).exists() && !trees(&host).join("1").exists());
    let killed = host.command(["sync"]).env("CASTOFF_FAULT", "sync.unverified").output().unwrap();
    assert!(!killed.status.success());
    assert_eq!(run(&host)["kind"], "corrupt", "what a killed run has unpacked is not taken on trust");
}

#[test]
fn a_host_may_trust_minisign_alone_or_ask_for_both() {
    let (folder, mut publisher) = Publisher::local();
    publisher.release(1, 1, &[]);
    let keys = folder.path().join("keys");
    std::fs::create_dir(&keys).unwrap();
    for name in ["good", "other"] {
        succeed(
            program("minisign")
                .args(["-G", "-W", "-f", "-p"])
                .arg(keys.join(format!("{name}.pub")))
                .arg("-s")
                .arg(keys.join(name)),
        );
    }
    let alone = |name: &str| {
        let file = keys.join(format!("{name}.pub")).display().to_string();
        host(&publisher, &publisher.url)
            .with("CASTOFF_SYNC_ALLOWED_SIGNERS", "none")
            .with("CASTOFF_SYNC_MINISIGN_KEYS", file)
    };
    let unsigned = run(&alone("good"));
    assert_eq!(unsigned["kind"], "not-found", "{unsigned:#}");
    succeed(program("minisign").arg("-S").arg("-s").arg(keys.join("good")).arg("-m").arg(publisher.manifest_path()));
    let good = run(&alone("good"));
    assert_eq!(good["result"], true, "{good:#}");
    assert!(good["signed_by"].as_str().unwrap().starts_with("minisign"), "{good:#}");
    assert_eq!(run(&alone("other"))["kind"], "refused");
    let file = keys.join("good.pub").display().to_string();
    let both = host(&publisher, &publisher.url).with("CASTOFF_SYNC_MINISIGN_KEYS", file);
    assert_eq!(run(&both)["result"], true);
    std::fs::remove_file(publisher.manifest_path().with_extension("json.sig")).unwrap();
    assert_eq!(run(&both)["kind"], "not-found", "both are asked for");
}
