//! SIGKILL at every named point of a run, while readers poll `current`: they find one whole release, always; the same
//! command finishes afterwards and leaves nothing behind.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::publisher::Publisher;
use super::{assert_is, current, facts, host, names, run, trees};
use crate::harness::{Castoff, program, succeed};

/// Polls `current` until it is stopped; every look must find one whole release.
struct Reader {
    stop: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Reader {
    fn start(current: PathBuf) -> Self {
        let (stop, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&looks));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                look(&current);
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { stop, looks, thread }
    }

    fn finish(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap();
        self.looks.load(Ordering::SeqCst)
    }
}

fn look(current: &Path) {
    let tree = current.parent().unwrap().join(std::fs::read_link(current).unwrap());
    let version = std::fs::read_to_string(tree.join("rootfs/etc/version")).unwrap();
    assert_eq!(tree.file_name().unwrap().to_str().unwrap(), version.trim());
    for at in 1..=40 {
        assert_eq!(std::fs::read_to_string(tree.join(format!("rootfs/data/{at}"))).unwrap(), version, "{at}");
    }
    assert_eq!(std::fs::metadata(tree.join("rootfs/usr/noise")).unwrap().len() % (1 << 20), 0);
}

/// What a killed run may leave and the next one must sweep.
fn leftovers(host: &Castoff) -> Vec<PathBuf> {
    let parts = |path: &PathBuf| path.parent().is_some_and(|folder| folder.ends_with("parts"));
    let found = names(&host.state()).into_iter().chain(names(&trees(host)));
    found.filter(|path| path.to_string_lossy().contains(".castoff-") || parts(path)).collect()
}

fn storm(host: &Castoff, publisher: &Publisher) -> Vec<String> {
    let saved = host.scratch().join("saved");
    std::fs::create_dir(&saved).unwrap();
    let copy = |from: &Path, to: &Path| {
        let _none = std::fs::remove_dir_all(to);
        succeed(program("cp").args(["-a", "-T"]).arg(from).arg(to));
    };
    let images = host.scratch().join("images");
    copy(&host.state(), &saved.join("state"));
    copy(&images, &saved.join("images"));
    let restore = || {
        copy(&saved.join("state"), &host.state());
        copy(&saved.join("images"), &images);
    };
    let log = host.scratch().join("points");
    succeed(host.command(["sync"]).env("CASTOFF_FAULT_LOG", &log));
    let mut points: BTreeMap<String, usize> = BTreeMap::new();
    for line in std::fs::read_to_string(&log).unwrap().lines() {
        *points.entry(line.to_owned()).or_default() += 1;
    }
    let mut looks = 0;
    for (point, count) in &points {
        let mut times = vec![1, count.div_ceil(2), *count];
        times.dedup();
        for nth in times {
            restore();
            let reader = Reader::start(current(host));
            let at = format!("{point}@{nth}");
            let killed = host.command(["sync"]).env("CASTOFF_FAULT", &at).output().unwrap();
            assert_eq!(killed.status.signal(), Some(9), "{at}: {}", String::from_utf8_lossy(&killed.stderr));
            let now = std::fs::read_link(current(host)).unwrap();
            let now: u32 = now.to_str().unwrap().parse().unwrap();
            assert!((1..=2).contains(&now), "{at}");
            assert_eq!(facts(&current(host)), facts(&publisher.tree(now)), "{at}");
            let report = run(host);
            assert_eq!(report["result"], true, "after {at}: {report:#}");
            looks += reader.finish();
            assert_is(host, publisher, 2);
            assert_eq!(leftovers(host), Vec::<PathBuf>::new(), "after {at}");
        }
    }
    assert!(looks > points.len() as u64, "{looks} looks");
    points.into_keys().collect()
}

#[test]
fn killed_at_any_point_over_the_whole_file() {
    let (_folder, mut publisher) = Publisher::local();
    let host = host(&publisher, &publisher.url).with("CASTOFF_SYNC_CACHE_SIZE", "0");
    publisher.release(1, 2, &[]);
    assert_eq!(run(&host)["result"], true);
    publisher.release(2, 2, &[]);
    let points = storm(&host, &publisher);
    for known in ["remote.part.made", "remote.part.grown", "remote.part.named", "sync.tar-verified", "sync.unpacked"] {
        assert!(points.iter().any(|point| point == known), "{known} is not among {points:?}");
    }
}

#[test]
fn killed_at_any_point_over_a_patch_with_an_earlier_release_removed() {
    let (_folder, mut publisher) = Publisher::local();
    let host = host(&publisher, &publisher.url).with("CASTOFF_SYNC_KEEP", "0");
    publisher.release(1, 1, &[]);
    assert_eq!(run(&host)["result"], true);
    publisher.release(2, 1, &[1]);
    // Readers need the tree they have found a moment ago: one earlier release stays while they look.
    let host = host.with("CASTOFF_SYNC_KEEP", "1");
    let points = storm(&host, &publisher);
    for known in ["sync.patches-fetched", "sync.tar-kept", "host.links.moved", "sync.tidied"] {
        assert!(points.iter().any(|point| point == known), "{known} is not among {points:?}");
    }
}

#[test]
fn a_removed_release_loses_its_name_first_and_a_killed_removal_is_finished() {
    let (_folder, mut publisher) = Publisher::local();
    let host = host(&publisher, &publisher.url).with("CASTOFF_SYNC_KEEP", "0");
    publisher.release(1, 1, &[]);
    assert_eq!(run(&host)["result"], true);
    publisher.release(2, 1, &[1]);
    for point in ["unpack.discard.aside", "sync.pruned"] {
        let killed = host.command(["sync"]).env("CASTOFF_FAULT", point).output().unwrap();
        let expected = if point == "sync.pruned" { None } else { Some(9) };
        assert_eq!(killed.status.signal(), expected, "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        assert_is(&host, &publisher, 2);
        assert!(!trees(&host).join("1").exists());
    }
    assert_eq!(run(&host)["why"], "release 2 is current");
    assert_eq!(leftovers(&host), Vec::<PathBuf>::new());
}
