//! The cache: an edit is seen at once, nothing is read twice without need, a failure is told and not kept.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use castoff::config::{Config, OnError};
use castoff::error::{Error, Kind};
use castoff::pillar::{Cache, Files as _, Recorder, Sweep, Wanted};
use castoff::settings::{Document, PILLAR_TTL, Service};
use castoff::vocab::MinionId;

fn id(text: &str) -> MinionId {
    text.parse().unwrap()
}

struct Place {
    folder: tempfile::TempDir,
    service: Arc<Service>,
}

impl Place {
    fn new(on_error: OnError) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::defaults(folder.path().join("state"));
        config.pillar_root = Some(folder.path().to_owned());
        config.minion_id = Some(id("controller"));
        config.on_error = on_error;
        let place = Self { folder, service: Service::open(&config) };
        place.write("database.yaml", &place.database("a"));
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    /// A database whose `sftp_user` is this; as long as any other.
    fn database(&self, user: &str) -> String {
        let root = self.path("makina-states");
        format!(
            "baremetal_hosts: [m, n]\ncloud_settings:\n  cloud: {{root: {}}}\n  images: {{sftp_user: {user}}}\n",
            root.display()
        )
    }

    fn document(&self) -> Arc<Document> {
        self.service.document(&id("m"), false, PILLAR_TTL).unwrap()
    }

    fn user(&self) -> String {
        self.document().value.get("sftp_user").unwrap().as_str().unwrap().to_owned()
    }

    /// A release of the default image, or none.
    fn version(&self) -> Option<String> {
        let document = self.document();
        let image = document.value.get("lxc")?.get("images")?.get("makina-states-bionic")?;
        Some(image.get("lxc_tarball_ver")?.as_str()?.to_owned())
    }

    fn release(&self, version: &str) {
        let file = "makina-states/versions/makina-states-bionic-lxc_version.txt";
        // The digest first: a version without one is an error.
        self.write(&format!("{file}.md5"), "0123456789abcdef0123456789abcdef");
        self.write(file, version);
    }
}

#[test]
fn every_kind_of_edit_is_seen_at_once_whatever_the_ttl() {
    let place = Place::new(OnError::Fail);
    assert_eq!(place.user(), "a");
    // Same size, same second, and as fast as one can.
    for round in 0..50 {
        let user = if round % 2 == 0 { "b" } else { "c" };
        place.write("database.yaml", &place.database(user));
        assert_eq!(place.user(), user, "edit {round}");
    }
    let replace = |user: &str| {
        place.write("new", &place.database(user));
        std::fs::rename(place.path("new"), place.path("database.yaml")).unwrap();
    };
    for user in ["d", "e"] {
        replace(user);
        assert_eq!(place.user(), user, "renamed over");
    }
    place.write("releases/1/database.yaml", &place.database("f"));
    place.write("releases/2/database.yaml", &place.database("g"));
    std::fs::remove_file(place.path("database.yaml")).unwrap();
    symlink("releases/1", place.path("current")).unwrap();
    symlink("current/database.yaml", place.path("database.yaml")).unwrap();
    assert_eq!(place.user(), "f");
    symlink("releases/2", place.path("next")).unwrap();
    std::fs::rename(place.path("next"), place.path("current")).unwrap();
    assert_eq!(place.user(), "g", "a link swapped on the way");
    place.write("database.sls", &place.database("h"));
    assert_eq!(place.user(), "h", "a stronger database appears");
    place.write("database.sls", &("{% include 'part' %}\n".to_owned() + &place.database("h")));
    assert!(place.service.document(&id("m"), false, PILLAR_TTL).is_err());
    place.write("part", "# nothing\n");
    assert_eq!(place.user(), "h", "an included file appears");
    std::fs::remove_file(place.path("database.sls")).unwrap();
    assert_eq!(place.user(), "g", "a database vanishes");
}

#[test]
fn version_files_below_the_clouds_root_are_watched_too() {
    let place = Place::new(OnError::Fail);
    assert_eq!(place.version(), None);
    for version in ["7", "8", "9"] {
        place.release(version);
        assert_eq!(place.version().as_deref(), Some(version));
    }
    std::fs::remove_dir_all(place.path("makina-states")).unwrap();
    assert_eq!(place.version(), None);
}

#[test]
fn nothing_is_read_again_while_nothing_changes_nor_for_a_touch() {
    let place = Place::new(OnError::Fail);
    place.release("7");
    place.document();
    for _ in 0..5 {
        place.document();
    }
    let touch = |name: &str| {
        let text = std::fs::read(place.path(name)).unwrap();
        std::fs::write(place.path("copy"), text).unwrap();
        std::fs::rename(place.path("copy"), place.path(name)).unwrap();
    };
    touch("database.yaml");
    touch("makina-states/versions/makina-states-bionic-lxc_version.txt");
    let again = place.document();
    let metrics = place.service.metrics();
    assert_eq!((metrics.database.misses, metrics.answers.misses), (1, 1), "{metrics:?}");
    assert!(again.age > Duration::ZERO && again.stale.is_none());
    assert!(metrics.answers.hits >= 6 && metrics.answers.bytes > 0 && metrics.answers.load_time > Duration::ZERO);
}

#[test]
fn minions_with_the_same_content_share_it_and_others_do_not() {
    let place = Place::new(OnError::Fail);
    let more = place.database("a") + "  images_n: {sftp_user: own}\n";
    place.write("database.yaml", &more);
    let of = |minion: &str, prefixed: bool| place.service.document(&id(minion), prefixed, PILLAR_TTL).unwrap();
    assert!(Arc::ptr_eq(&of("m", false).value, &of("controller", false).value));
    assert!(Arc::ptr_eq(&of("x", false).value, &of("y", false).value));
    let answers: Vec<Arc<Document>> =
        ["m", "n", "x"].iter().flat_map(|name| [of(name, true), of(name, false)]).collect();
    let tags: std::collections::BTreeSet<_> = answers.iter().map(|answer| &answer.etag).collect();
    assert_eq!(tags.len(), 6, "{tags:?}");
    assert_eq!(of("n", false).value.get("sftp_user"), Some(&"own".into()));
    let text = String::from_utf8(of("m", true).json.to_vec()).unwrap();
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(castoff::vocab::Value::from(parsed), *of("m", true).value);
}

#[test]
fn a_failure_is_told_not_kept_and_mending_is_seen_at_once() {
    let place = Place::new(OnError::Fail);
    place.document();
    for _ in 0..3 {
        place.write("database.yaml", "vms: [\n");
        let error = place.service.document(&id("m"), false, PILLAR_TTL).unwrap_err();
        assert!(error.to_string().contains("database.yaml:2:1"), "{error}");
        place.write("database.yaml", &place.database("b"));
        assert_eq!(place.user(), "b");
    }
    assert_eq!(place.service.metrics().database.errors, 3);
    place.release("seven");
    assert!(place.service.document(&id("m"), false, PILLAR_TTL).is_err());
    place.release("7");
    assert_eq!(place.version().as_deref(), Some("7"));
}

#[test]
fn the_last_good_answer_is_given_with_its_age_only_if_the_operator_allows_it() {
    let place = Place::new(OnError::LastGood);
    let broken = || place.write("database.yaml", "vms: [\n");
    broken();
    assert!(place.service.document(&id("m"), false, PILLAR_TTL).is_err(), "there is none yet");
    place.write("database.yaml", &place.database("a"));
    assert!(place.document().stale.is_none());
    broken();
    let first = place.document();
    let since = first.stale.unwrap();
    assert_eq!(first.value.get("sftp_user"), Some(&"a".into()));
    // Another minion's is made from the last good database.
    assert!(place.service.document(&id("x"), true, PILLAR_TTL).unwrap().stale.is_some());
    std::thread::sleep(Duration::from_millis(5));
    let second = place.document();
    assert!(second.stale.unwrap() >= since + Duration::from_millis(5) && second.age >= second.stale.unwrap());
    assert!(place.service.metrics().database.stale >= 3);
    place.write("database.yaml", &place.database("b"));
    assert_eq!((place.user().as_str(), place.document().stale), ("b", None));
    place.release("seven");
    let document = place.document();
    assert!(document.stale.is_some(), "a broken version file is a broken source too");
    place.service.invalidate();
    assert!(place.service.document(&id("m"), false, PILLAR_TTL).is_err(), "an invalidated answer is gone");
}

#[test]
fn an_answer_lives_no_longer_than_its_caller_says() {
    let place = Place::new(OnError::Fail);
    let first = place.document();
    let wait = Instant::now() + Duration::from_millis(20);
    while Instant::now() < wait {
        std::thread::yield_now();
    }
    let with = |ttl: u64| place.service.document(&id("m"), false, Duration::from_millis(ttl)).unwrap();
    assert!(Arc::ptr_eq(&with(60_000).value, &first.value));
    assert!(!Arc::ptr_eq(&with(10).value, &first.value));
    assert_eq!(place.service.invalidate(), 1);
    assert_eq!(place.service.metrics().invalidations, 1);
}

#[test]
fn a_batch_takes_one_look_for_all_and_keeps_its_order() {
    let place = Place::new(OnError::Fail);
    let ids: Vec<MinionId> = (0..200).map(|number| id(&format!("x{number}"))).chain([id("m")]).collect();
    let answers = place.service.documents(&ids, false, PILLAR_TTL);
    assert_eq!(answers.len(), 201);
    assert_eq!(&answers[0].as_ref().unwrap().json[..], b"{}\n");
    assert!(answers[200].as_ref().unwrap().value.get("lxc").is_some());
    place.write("database.yaml", "vms: [\n");
    assert!(place.service.documents(&ids, false, PILLAR_TTL).iter().all(Result::is_err));
    assert_eq!(place.service.metrics().database.errors, 201);
}

fn wanted(sweep: &Sweep) -> Wanted<'_> {
    Wanted { ttl: PILLAR_TTL, stamp: 0, sweep, last_good: false }
}

/// Eight callers at once: one computes, the others wait for it; so too when it fails.
#[test]
fn one_computation_per_key_is_under_way_and_waiters_share_even_its_failure() {
    for fails in [false, true] {
        let cache: Arc<Cache<u8, u8>> = Arc::new(Cache::new(1 << 20));
        let runs = Arc::new(AtomicUsize::new(0));
        let ready = Arc::new(Barrier::new(8));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (cache, runs, ready) = (Arc::clone(&cache), Arc::clone(&runs), Arc::clone(&ready));
                std::thread::spawn(move || {
                    let sweep = Sweep::default();
                    ready.wait();
                    cache.get(&1, wanted(&sweep), |_| {
                        runs.fetch_add(1, Ordering::SeqCst);
                        // Until the others have surely come.
                        std::thread::sleep(Duration::from_millis(200));
                        if fails { Err(Error::new(Kind::Failed, "no").hint("yes")) } else { Ok((7, 1)) }
                    })
                })
            })
            .collect();
        for thread in threads {
            match thread.join().unwrap() {
                Ok(answer) => assert!(!fails && answer.value == 7),
                Err(error) => assert!(fails && error.render() == "error: no\n\nhint: yes", "{error:?}"),
            }
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1, "fails: {fails}");
    }
}

/// A caller who comes while an answer is computed, after the file it was read from has changed, does not get it.
#[test]
fn a_waiter_never_gets_what_was_read_before_they_asked_and_has_changed_since() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "old").unwrap();
    let cache: Arc<Cache<u8, String>> = Arc::new(Cache::new(1 << 20));
    let (read, written) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let load = |files: &Recorder<'_>, path: &Path| files.text(path).map(|text| text.unwrap().to_string());
    let slow = {
        let (cache, path, read, written) = (Arc::clone(&cache), path.clone(), Arc::clone(&read), Arc::clone(&written));
        std::thread::spawn(move || {
            let sweep = Sweep::default();
            cache.get(&1, wanted(&sweep), |files| {
                let text = load(files, &path)?;
                read.wait();
                written.wait();
                std::thread::sleep(Duration::from_millis(100));
                Ok((text, 1))
            })
        })
    };
    read.wait();
    std::fs::write(&path, "new").unwrap();
    written.wait();
    let sweep = Sweep::default();
    let mine = cache.get(&1, wanted(&sweep), |files| Ok((load(files, &path)?, 1))).unwrap();
    assert_eq!((mine.value.as_str(), slow.join().unwrap().unwrap().value.as_str()), ("new", "old"));
}

/// The same for a failure: one that was read in a look older than the question's is not told.
#[test]
fn a_waiter_never_hears_of_what_was_broken_only_before_they_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "broken").unwrap();
    let cache: Arc<Cache<u8, String>> = Arc::new(Cache::new(1 << 20));
    let load = |files: &Recorder<'_>, path: &Path| {
        let text = files.text(path)?.unwrap().to_string();
        if text == "broken" { Err(Error::new(Kind::Corrupt, "broken")) } else { Ok((text, 1)) }
    };
    // The file is read in this look before anybody boards.
    let before = Sweep::default();
    assert!(load(&Recorder::new(&before), &path).is_err());
    std::fs::write(&path, "mended").unwrap();
    let after = Sweep::default();
    let (begun, asked) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let slow = {
        let (cache, path, begun, asked) = (Arc::clone(&cache), path.clone(), Arc::clone(&begun), Arc::clone(&asked));
        std::thread::spawn(move || {
            cache.get(&1, wanted(&before), |files| {
                begun.wait();
                asked.wait();
                // Until the other has surely come.
                std::thread::sleep(Duration::from_millis(100));
                load(files, &path)
            })
        })
    };
    begun.wait();
    asked.wait();
    let mine = cache.get(&1, wanted(&after), |files| load(files, &path)).unwrap();
    assert_eq!((mine.value.as_str(), slow.join().unwrap().is_err()), ("mended", true));
}

#[test]
fn a_computation_that_panics_blocks_nobody() {
    let cache: Cache<u8, u8> = Cache::new(1 << 20);
    let sweep = Sweep::default();
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        cache.get(&1, wanted(&sweep), |_| -> castoff::error::Result<(u8, usize)> { panic!("on purpose") })
    }));
    assert!(panicked.is_err());
    assert_eq!(cache.get(&1, wanted(&sweep), |_| Ok((1, 1))).unwrap().value, 1);
}

#[test]
fn the_cache_is_bounded_in_bytes_and_in_entries() {
    let cache: Cache<u32, u32> = Cache::new(100_000);
    for (number, bytes) in (0..2000).map(|number| (number, if number % 2 == 0 { 10_000 } else { 0 })) {
        let sweep = Sweep::default();
        cache.get(&number, wanted(&sweep), |_| Ok((number, bytes))).unwrap();
    }
    let metrics = cache.metrics();
    assert!(metrics.bytes <= 100_000 && metrics.entries <= 200, "{metrics:?}");
}
