//! What only SFTP can suffer: lines that break, servers that are full or strict.

use std::sync::Arc;

use castoff::error::Kind;
use castoff::progress::{Event, Progress, Sink};
use castoff::publish::Tier;

use super::servers::{Proxy, Sshd, until};
use super::watched::Watched;
use super::{Run, Sample, Small, connect};

const MIB: u64 = 1 << 20;

#[test]
fn a_lost_link_costs_no_more_than_a_journal_step_and_its_margin() {
    let sshd = Sshd::start("");
    let proxy = Proxy::to(sshd.port);
    let folder = sshd.target("images");
    let sample = Sample::new(160 << 20, 1);
    let run = Run::of(&sample, "image-1.tar.xz");
    proxy.cut_at(110 * MIB);
    let mut safe = 0;
    let mut store = connect(&sshd, proxy.port, &folder).unwrap();
    let error = run
        .with(|upload| {
            upload.run(store.as_mut(), 0, &mut |offset| {
                safe = offset;
                Ok(())
            })
        })
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{}", error.render());
    assert!(!folder.join("image-1.tar.xz").exists());
    assert_eq!(safe / MIB, 64, "the journal heard of every 64 MiB");
    let there = std::fs::metadata(folder.join(run.temporary())).unwrap().len();
    let before = proxy.sent();
    // A run of its own: all it knows is the journal's offset.
    let mut store = connect(&sshd, proxy.port, &folder).unwrap();
    let uploaded = run.run(store.as_mut(), safe).unwrap();
    assert_eq!(uploaded.sent.from, safe / MIB * MIB - MIB);
    let resent = there.saturating_sub(uploaded.sent.from);
    assert!(resent <= 66 * MIB, "{resent} bytes were sent twice");
    assert!(proxy.sent() - before < (160 << 20) - uploaded.sent.from + 8 * MIB);
    assert!(sample.is_at(&folder.join("image-1.tar.xz")));
}

#[test]
fn a_lost_link_is_made_anew_within_one_run() {
    let sshd = Sshd::start("");
    let proxy = Proxy::to(sshd.port);
    let folder = sshd.target("images");
    let sample = Sample::new(48 << 20, 2);
    let mut run = Run::of(&sample, "image-2.tar.xz");
    run.retries = 3;
    proxy.cut_at(30 * MIB);
    let mut store = connect(&sshd, proxy.port, &folder).unwrap();
    let uploaded = run.run(store.as_mut(), 0).unwrap();
    assert_eq!(uploaded.sent.reconnected, 1);
    assert!(uploaded.sent.sent < 52 * MIB, "{:?}", uploaded.sent);
    assert!(sample.is_at(&folder.join("image-2.tar.xz")));
}

#[test]
fn a_remote_without_room_is_named_before_a_byte_is_sent() {
    let sshd = Sshd::start("");
    let folder = sshd.target("images");
    let _small = Small::mount(&folder, "8m");
    let sample = Sample::new(9 << 20, 3);
    let mut store = connect(&sshd, sshd.port, &folder).unwrap();
    let error = Run::of(&sample, "image-3.tar.xz").run(store.as_mut(), 0).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace);
    assert!(
        error.message().starts_with(&format!("not enough space at sftp://root@127.0.0.1:{}", sshd.port)),
        "{error}"
    );
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
}

/// Fills a file system as soon as something has been sent.
struct Filler(std::path::PathBuf, usize);

impl Sink for Filler {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Advanced { done } if *done > 0) && !self.0.exists() {
            std::fs::write(&self.0, vec![0; self.1]).unwrap();
        }
    }
}

#[test]
fn a_disk_that_fills_while_we_write_is_the_cause_that_is_told() {
    let sshd = Sshd::start("");
    let folder = sshd.target("images");
    let _small = Small::mount(&folder, "40m");
    let sample = Sample::new(30 << 20, 4);
    let mut run = Run::of(&sample, "image-4.tar.xz");
    run.progress = Progress::new(Arc::new(Filler(folder.join("other"), 20 << 20)));
    let mut store = connect(&sshd, sshd.port, &folder).unwrap();
    let error = run.run(store.as_mut(), 0).unwrap_err();
    assert_eq!(error.kind(), Kind::NoSpace, "{}", error.render());
    assert!(!folder.join(run.temporary()).exists(), "on a full disk our own part goes");
    assert!(folder.join("other").exists());
    // With room again the same store finishes.
    std::fs::remove_file(folder.join("other")).unwrap();
    run.progress = Progress::silent();
    run.run(store.as_mut(), 0).unwrap();
    assert!(sample.is_at(&folder.join("image-4.tar.xz")));
}

#[test]
fn a_rename_whose_reply_is_lost_is_found_done() {
    let sshd = Sshd::start("");
    let proxy = Arc::new(Proxy::to(sshd.port));
    let folder = sshd.target("images");
    let sample = Sample::new(2 << 20, 5);
    let mut run = Run::of(&sample, "image-5.tar.xz");
    run.retries = 2;
    let named = folder.join("image-5.tar.xz");
    let mut renames = 0;
    let inner = connect(&sshd, proxy.port, &folder).unwrap();
    let mut store = Watched::new(inner, |step| {
        if step == "rename" {
            renames += 1;
            proxy.hold_replies(true);
            let (proxy, named) = (Arc::clone(&proxy), named.clone());
            std::thread::spawn(move || {
                until("the rename", || named.exists());
                proxy.cut();
                proxy.hold_replies(false);
            });
        }
    });
    run.run(&mut store, 0).unwrap();
    drop(store);
    assert_eq!(renames, 1);
    assert!(sample.is_at(&named) && !folder.join(run.temporary()).exists());
}

#[test]
fn a_link_lost_while_reading_back_is_made_anew() {
    let sshd = Sshd::start("");
    let proxy = Proxy::to(sshd.port);
    let folder = sshd.target("images");
    let sample = Sample::new(40 << 20, 11);
    let mut run = Run::of(&sample, "image-11.tar.xz");
    let reading = std::sync::atomic::AtomicBool::new(false);
    let mut store = connect(&sshd, proxy.port, &folder).unwrap();
    run.with(|upload| upload.send(store.as_mut(), 0, &mut |_| Ok(()))).unwrap();
    let once = Cutter { proxy: Arc::new(proxy), reading };
    let proxy = Arc::clone(&once.proxy);
    run.progress = Progress::new(Arc::new(once));
    let error = run.with(|upload| upload.verify(store.as_mut())).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable, "{}", error.render());
    run.progress = Progress::new(Arc::new(Cutter { proxy, reading: false.into() }));
    run.retries = 2;
    store.reconnect().unwrap();
    assert_eq!(run.with(|upload| upload.verify(store.as_mut())).unwrap(), Tier::ReadBack);
}

/// Cuts the line once, as soon as a stage has moved.
struct Cutter {
    proxy: Arc<Proxy>,
    reading: std::sync::atomic::AtomicBool,
}

impl Sink for Cutter {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Advanced { done } if *done > 0)
            && !self.reading.swap(true, std::sync::atomic::Ordering::SeqCst)
        {
            self.proxy.cut();
        }
    }
}

#[test]
fn each_way_to_verify_and_what_is_left_when_the_server_is_strict() {
    let sshd = Sshd::start("");
    let folder = sshd.target("images");
    let sample = Sample::new(1 << 20, 6);
    let mut store = connect(&sshd, sshd.port, &folder).unwrap();
    for (number, minimum, reached) in
        [(1, Tier::RemoteHash, Tier::RemoteHash), (2, Tier::ReadBack, Tier::ReadBack), (3, Tier::Size, Tier::ReadBack)]
    {
        let file = format!("image-6{number}.tar.xz");
        let mut run = Run::of(&sample, &file);
        run.minimum = minimum;
        assert_eq!(run.run(store.as_mut(), 0).unwrap().tier, reached);
    }
    let strict = Sshd::start("ForceCommand internal-sftp");
    let folder = strict.target("images");
    let mut store = connect(&strict, strict.port, &folder).unwrap();
    let mut run = Run::of(&sample, "image-7.tar.xz");
    run.minimum = Tier::RemoteHash;
    assert_eq!(run.run(store.as_mut(), 0).unwrap_err().kind(), Kind::Unsupported);
    assert!(!folder.join("image-7.tar.xz").exists());
    let large = Sample::new(65 << 20, 7);
    let run = Run::of(&large, "image-8.tar.xz");
    assert_eq!(run.run(store.as_mut(), 0).unwrap().tier, Tier::ReadBack);
    // Who asks for no more than the size is spared the reading back of a large file.
    let mut run = Run::of(&large, "image-10.tar.xz");
    run.minimum = Tier::Size;
    assert_eq!(run.run(store.as_mut(), 0).unwrap().tier, Tier::Size);
    // Large and with a shell: the server's own hash is preferred.
    let folder = sshd.target("images");
    let mut store = connect(&sshd, sshd.port, &folder).unwrap();
    assert_eq!(Run::of(&large, "image-9.tar.xz").run(store.as_mut(), 0).unwrap().tier, Tier::RemoteHash);
    let mut damaged = std::fs::OpenOptions::new().write(true).open(folder.join("image-9.tar.xz")).unwrap();
    std::io::Write::write_all(&mut damaged, b"x").unwrap();
    let error = Run::of(&large, "image-9.tar.xz").run(store.as_mut(), 0).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
}

#[test]
fn a_folder_that_is_not_there_or_not_ours_is_told() {
    let sshd = Sshd::start("");
    let error = connect(&sshd, sshd.port, &sshd.path("absent")).err().unwrap();
    assert_eq!(error.kind(), Kind::NotFound, "{}", error.render());
    let error = connect(&sshd, sshd.port, &sshd.path("id")).err().unwrap();
    assert_eq!(error.kind(), Kind::Conflict, "{}", error.render());
}
