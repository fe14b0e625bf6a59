//! Lines that break, disks that are full: what has arrived is not fetched again.

use serde_json::json;

use super::follow::web;
use super::publisher::{Publisher, size};
use super::{assert_is, host, names, run};
use crate::publish::Small;
use crate::publish::servers::{Proxy, Sshd};

/// The same place behind the proxy, in the manifest as in the source.
fn behind(publisher: &mut Publisher, port: u16, proxy: &Proxy) {
    let (from, to) = (format!(":{port}/"), format!(":{}/", proxy.port));
    publisher.url = publisher.url.replace(&from, &to);
    let url = format!("{}/{{name}}", publisher.url);
    publisher.change("key", |manifest| manifest["urls"] = json!([url]));
}

#[test]
fn a_lost_line_costs_what_was_on_it_over_http() {
    let (apache, mut publisher) = web();
    publisher.release(1, 12, &[]);
    let proxy = Proxy::to(apache.port);
    behind(&mut publisher, apache.port, &proxy);
    let host = host(&publisher, &publisher.url);
    proxy.cut_received_at(7 << 20);
    let report = run(&host);
    assert_eq!(report["result"], true, "{report:#}");
    assert_is(&host, &publisher, 1);
    let full = size(&publisher.archive_path(1));
    assert!(proxy.received() < full + (1 << 20), "{} of {full}", proxy.received());
}

#[test]
fn a_lost_line_costs_what_was_on_it_over_sftp() {
    let sshd = Sshd::start("");
    let place = sshd.target("served");
    let mut publisher = Publisher::new(&place, &format!("sftp://root@127.0.0.1:{}{}", sshd.port, place.display()));
    publisher.release(1, 24, &[]);
    let proxy = Proxy::to(sshd.port);
    behind(&mut publisher, sshd.port, &proxy);
    let host = host(&publisher, &publisher.url)
        .with("CASTOFF_SYNC_IDENTITY_FILE", sshd.path("id").display().to_string())
        .with("CASTOFF_SYNC_KNOWN_HOSTS", sshd.known_hosts("ed25519", &[proxy.port]).display().to_string());
    proxy.cut_received_at(16 << 20);
    let report = run(&host);
    assert_eq!(report["result"], true, "{report:#}");
    assert_is(&host, &publisher, 1);
    // libssh2 asks ahead: up to four buffers may be on the line.
    let full = size(&publisher.archive_path(1));
    assert!(proxy.received() < full + (17 << 20), "{} of {full}", proxy.received());
    assert!(report["moved"].as_u64().unwrap() < full + (1 << 20), "{report:#}");
}

#[test]
fn a_killed_download_goes_on_where_it_stopped() {
    let (_apache, mut publisher) = web();
    publisher.release(1, 12, &[]);
    let host = host(&publisher, &publisher.url);
    let killed = host.command(["sync"]).env("CASTOFF_FAULT", "remote.part.grown@8").output().unwrap();
    assert!(!killed.status.success());
    let report = run(&host);
    assert_eq!(report["result"], true, "{report:#}");
    let (moved, full) = (report["moved"].as_u64().unwrap(), size(&publisher.archive_path(1)));
    assert!(moved < full - (7 << 20), "{moved} of {full}");
    assert_is(&host, &publisher, 1);
    // What was there is damaged: found by the hash, fetched from the start once.
    publisher.release(2, 12, &[]);
    let killed = host.command(["sync"]).env("CASTOFF_FAULT", "remote.part.grown@8").output().unwrap();
    assert!(!killed.status.success());
    let part = names(&host.state()).into_iter().find(|path| path.extension().is_some_and(|own| own == "part")).unwrap();
    let mut bytes = std::fs::read(&part).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    assert_eq!(run(&host)["result"], true);
    assert_is(&host, &publisher, 2);
}

#[test]
fn a_full_disk_is_told_and_leaves_the_release_that_was_there() {
    let (_folder, mut publisher) = Publisher::local();
    let host = host(&publisher, &publisher.url).with("CASTOFF_SYNC_CACHE_SIZE", "0");
    publisher.release(1, 1, &[]);
    for full in ["state", "images"] {
        let folder = host.scratch().join(full);
        std::fs::create_dir_all(&folder).unwrap();
        let small = Small::mount(&folder, "8m");
        if full == "images" {
            publisher.release(3, 1, &[]);
        }
        assert_eq!(run(&host)["result"], true);
        let was = if full == "images" { 3 } else { 1 };
        assert_is(&host, &publisher, was);
        let tree = publisher.tree(was + 1);
        publisher.grow(was + 1, 1);
        std::fs::write(tree.join("large"), noise(9 << 20)).unwrap();
        publisher.pack(was + 1);
        publisher.announce(was + 1, &[]);
        let report = run(&host);
        assert_eq!((&report["result"], &report["kind"]), (&json!(false), &json!("no-space")), "{report:#}");
        assert_is(&host, &publisher, was);
        drop(small);
        std::fs::remove_file(tree.join("large")).unwrap();
        if full == "state" {
            // The tree for the next round grows from this one.
            publisher.pack(was + 1);
        }
    }
}

fn noise(size: usize) -> Vec<u8> {
    let mut state = 88_172_645_463_325_252_u64;
    let words = (0..size.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(size).collect()
}
