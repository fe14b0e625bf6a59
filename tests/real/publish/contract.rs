//! What every place promises, asked of each.

use std::path::Path;

use castoff::error::Kind;
use castoff::progress::{Cancel, Progress};
use castoff::publish::{Access, RemoteStore, Target, Temporary, Tier, Written, open};

use super::servers::{Apache, Sshd};
use super::watched::Watched;
use super::{Run, Sample, connect, name, operator};

/// A place of one kind: how to connect to it, and where its files are on this machine.
struct Place<'a> {
    connect: &'a (dyn Fn() -> Box<dyn RemoteStore> + Sync),
    folder: &'a Path,
}

fn each(check: fn(&Place<'_>)) {
    let folder = tempfile::tempdir().unwrap();
    let target: Target = format!("file://{}", folder.path().display()).parse().unwrap();
    let connect_to = |target: &Target, access: &Access| {
        open(target, access, &operator(Path::new("/nonexistent")), &Cancel::new()).unwrap()
    };
    check(&Place { connect: &|| connect_to(&target, &Access::default()), folder: folder.path() });

    let sshd = Sshd::start("");
    let folder = sshd.target("images");
    check(&Place { connect: &|| connect(&sshd, sshd.port, &folder).unwrap(), folder: &folder });

    let apache = Apache::start(false);
    let target: Target = format!("http://me@127.0.0.1:{}/dav/", apache.port).parse().unwrap();
    let access = Access { secret_file: Some(apache.path("password")), ..Access::default() };
    check(&Place { connect: &|| connect_to(&target, &access), folder: &apache.path("dav") });
}

#[test]
fn each_step_does_what_it_says() {
    each(|place| {
        let mut store = (place.connect)();
        let sample = Sample::new(5_000_000, 1);
        let final_name = name("image-1.tar.xz");
        let temporary = Temporary::of(&final_name, sample.content.digest());
        let part = place.folder.join(temporary.to_string());
        assert_eq!(store.size_of((&final_name).into()).unwrap(), None);
        assert!(!store.remove_temporary(&temporary).unwrap());
        assert_eq!(store.begin(&temporary).unwrap(), 0);
        let (mut told, mut gone) = (0, 0);
        let mut tell = |written| {
            match written {
                Written::Safe(done) => assert!(std::mem::replace(&mut told, done) < done),
                Written::Gone(done) => assert!(std::mem::replace(&mut gone, done) < done),
                Written::From(offset) => panic!("anew at {offset}"),
            }
            Ok(())
        };
        store.resume_write(&temporary, &sample.content, 0, &mut tell).unwrap();
        assert_eq!(told, 5_000_000);
        store.sync(&temporary).unwrap();
        assert!(sample.is_at(&part));
        assert_eq!(store.begin(&temporary).unwrap(), 5_000_000);
        let progress = Progress::silent();
        let found = store.hash((&temporary).into(), 5_000_000, Tier::ReadBack, &progress).unwrap();
        assert_eq!(found.as_ref(), Some(sample.content.digest()));
        store.rename_noclobber(&temporary, &final_name).unwrap();
        assert!(sample.is_at(&place.folder.join("image-1.tar.xz")) && !part.exists());
        // Nothing is ever overwritten.
        let other = Sample::new(1000, 2);
        store.begin(&temporary).unwrap();
        store.resume_write(&temporary, &other.content, 0, &mut |_| Ok(())).unwrap();
        store.sync(&temporary).unwrap();
        store.rename_noclobber(&temporary, &final_name).unwrap_err();
        assert!(sample.is_at(&place.folder.join("image-1.tar.xz")) && other.is_at(&part), "{}", store.place());
        assert!(store.remove_temporary(&temporary).unwrap() && !part.exists());
    });
}

#[test]
fn an_upload_goes_on_where_it_was_and_is_done_once() {
    each(|place| {
        let sample = Sample::new(40 << 20, 3);
        let run = Run::of(&sample, "image-2.tar.xz");
        let whole = std::fs::read(&sample.path).unwrap();
        let part = place.folder.join(run.temporary());
        // 20 MiB and a bit had been safe, more had been written.
        std::fs::write(&part, &whole[..30 << 20]).unwrap();
        std::os::unix::fs::chown(&part, owner(place.folder).0, owner(place.folder).1).unwrap();
        let mut store = (place.connect)();
        let uploaded = run.run(store.as_mut(), (20 << 20) + 5).unwrap();
        assert_eq!((uploaded.sent.from, uploaded.sent.sent), (19 << 20, 21 << 20), "{}", store.place());
        assert_eq!((uploaded.tier, uploaded.repeated, uploaded.already_there), (Tier::ReadBack, false, false));
        assert!(sample.is_at(&place.folder.join("image-2.tar.xz")) && !part.exists());
        let again = run.run(store.as_mut(), 0).unwrap();
        assert!(again.already_there && again.sent.sent == 0);
    });
}

fn owner(folder: &Path) -> (Option<u32>, Option<u32>) {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = std::fs::metadata(folder).unwrap();
    (Some(metadata.uid()), Some(metadata.gid()))
}

#[test]
fn an_empty_file_is_published_too() {
    each(|place| {
        let sample = Sample::new(0, 1);
        let mut store = (place.connect)();
        let uploaded = Run::of(&sample, "empty").run(store.as_mut(), 0).unwrap();
        assert_eq!((uploaded.sent.sent, uploaded.already_there), (0, false));
        assert!(sample.is_at(&place.folder.join("empty")));
    });
}

#[test]
fn a_file_that_rots_here_is_not_blamed_on_the_place() {
    each(|place| {
        let sample = Sample::new(2 << 20, 10);
        let rotten = std::fs::OpenOptions::new().write(true).open(&sample.path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&rotten, b"rot", 5000).unwrap();
        let mut store = (place.connect)();
        let run = Run::of(&sample, "image-10.tar.xz");
        let error = run.run(store.as_mut(), 0).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.message().contains(&sample.path.display().to_string()), "{}", error.render());
        rotten.set_len(1 << 20).unwrap();
        let error = run.run(store.as_mut(), 0).unwrap_err();
        assert_eq!(error.kind(), Kind::Corrupt);
        assert!(error.message().contains(&sample.path.display().to_string()), "{}", error.render());
        assert!(!place.folder.join("image-10.tar.xz").exists());
    });
}

#[test]
fn a_journal_that_fails_ends_the_write_and_says_so_itself() {
    use castoff::error::Error;
    each(|place| {
        let sample = Sample::new(20 << 20, 11);
        let mut run = Run::of(&sample, "image-11.tar.xz");
        run.retries = 2;
        let mut store = (place.connect)();
        for kind in [Kind::NoSpace, Kind::Failed, Kind::Unavailable] {
            let mut journal = |_| Err(Error::new(kind, "the journal is full"));
            let error = run.with(|upload| upload.run(store.as_mut(), 0, &mut journal)).unwrap_err();
            assert_eq!((error.kind(), error.message()), (kind, "the journal is full"), "{}", store.place());
            store.reconnect().unwrap();
        }
        run.run(store.as_mut(), 20 << 20).unwrap();
        assert!(sample.is_at(&place.folder.join("image-11.tar.xz")));
    });
}

#[test]
fn other_content_under_the_name_is_a_conflict_and_stays() {
    each(|place| {
        let file = place.folder.join("image-3.tar.xz");
        for served in [vec![7; 3_000_000], vec![7; 5]] {
            std::fs::write(&file, &served).unwrap();
            let sample = Sample::new(3_000_000, 4);
            let mut store = (place.connect)();
            let error = Run::of(&sample, "image-3.tar.xz").run(store.as_mut(), 0).unwrap_err();
            assert_eq!(error.kind(), Kind::Conflict, "{}", error.render());
            let told = error.render();
            assert!(served.len() == 5 || told.contains(&sample.content.digest().to_string()), "{told}");
            assert!(std::fs::read(&file).unwrap() == served);
        }
    });
}

#[test]
fn a_flipped_bit_below_the_safe_offset_is_found_and_sent_again() {
    each(|place| {
        let sample = Sample::new(6 << 20, 5);
        let run = Run::of(&sample, "image-4.tar.xz");
        let mut damaged = std::fs::read(&sample.path).unwrap();
        damaged[100] ^= 4;
        let part = place.folder.join(run.temporary());
        std::fs::write(&part, &damaged).unwrap();
        std::os::unix::fs::chown(&part, owner(place.folder).0, owner(place.folder).1).unwrap();
        let mut store = (place.connect)();
        // A server that takes no pieces gets the whole file at once and mends it by that.
        let uploaded = run.run(store.as_mut(), 6 << 20).unwrap();
        assert_eq!(uploaded.repeated, !store.place().starts_with("http"), "{}", store.place());
        assert!(sample.is_at(&place.folder.join("image-4.tar.xz")));
    });
}

#[test]
fn a_temporary_file_that_is_too_long_is_cut() {
    each(|place| {
        let sample = Sample::new(3 << 20, 6);
        let run = Run::of(&sample, "image-5.tar.xz");
        let part = place.folder.join(run.temporary());
        std::fs::write(&part, vec![1; 4 << 20]).unwrap();
        std::os::unix::fs::chown(&part, owner(place.folder).0, owner(place.folder).1).unwrap();
        let mut store = (place.connect)();
        assert!(!run.run(store.as_mut(), 3 << 20).unwrap().already_there);
        assert!(sample.is_at(&place.folder.join("image-5.tar.xz")));
    });
}

#[test]
fn what_is_no_regular_file_is_left_alone() {
    each(|place| {
        let sample = Sample::new(1 << 20, 7);
        let run = Run::of(&sample, "image-6.tar.xz");
        std::fs::create_dir(place.folder.join("image-6.tar.xz")).unwrap();
        let mut store = (place.connect)();
        assert!(run.run(store.as_mut(), 0).is_err(), "{}", store.place());
        assert!(place.folder.join("image-6.tar.xz").is_dir());
        if store.place().starts_with("http") {
            return;
        }
        let run = Run::of(&sample, "image-7.tar.xz");
        let victim = place.folder.join("victim");
        std::fs::write(&victim, "served").unwrap();
        std::os::unix::fs::symlink(&victim, place.folder.join(run.temporary())).unwrap();
        run.run(store.as_mut(), 0).unwrap_err();
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "served");
    });
}

#[test]
fn the_same_content_uploaded_twice_at_once_arrives_once_and_whole() {
    each(|place| {
        let sample = Sample::new(24 << 20, 8);
        let run = || {
            let mut store = (place.connect)();
            Run::of(&sample, "image-8.tar.xz").run(store.as_mut(), 0)
        };
        let results = std::thread::scope(|scope| {
            let others: Vec<_> = (0..2).map(|_| scope.spawn(run)).collect();
            others.into_iter().map(|other| other.join().unwrap()).collect::<Vec<_>>()
        });
        // Over HTTP a request may find the other's file half replaced; that one then fails and says so.
        assert!(results.iter().any(Result::is_ok), "{results:?}");
        if !(place.connect)().place().starts_with("http") {
            assert!(results.iter().all(Result::is_ok), "{results:?}");
        }
        assert!(sample.is_at(&place.folder.join("image-8.tar.xz")));
    });
}

#[test]
fn a_rival_may_finish_the_same_between_any_two_steps() {
    each(|place| {
        let sample = Sample::new(3 << 20, 12);
        let mut steps = 0;
        for at in 0.. {
            let file = format!("image-12-{at}.tar.xz");
            let run = Run::of(&sample, &file);
            let mut step = 0;
            let mut store = Watched::new((place.connect)(), |_| {
                if step == at {
                    run.run((place.connect)().as_mut(), 0).unwrap();
                }
                step += 1;
            });
            let result = run.run(&mut store, 0);
            let place_name = store.place().to_owned();
            drop(store);
            result.unwrap_or_else(|error| panic!("{place_name}, step {at}: {}", error.render()));
            assert!(sample.is_at(&place.folder.join(&file)), "{place_name}, step {at}");
            assert!(!place.folder.join(run.temporary()).exists(), "{place_name}, step {at}");
            steps = step;
            if at >= step {
                break;
            }
        }
        assert!(steps >= 10, "{steps}");
    });
}

#[test]
fn work_ends_when_somebody_asks() {
    each(|place| {
        let sample = Sample::new(8 << 20, 9);
        let run = Run::of(&sample, "image-9.tar.xz");
        let mut store = (place.connect)();
        let error = run
            .with(|upload| {
                upload.send(store.as_mut(), 0, &mut |_| {
                    run.cancel.cancel();
                    Ok(())
                })?;
                upload.cancel.check()
            })
            .unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
        let begun = std::time::Instant::now();
        assert_eq!(run.run(store.as_mut(), 0).unwrap_err().kind(), Kind::Interrupted, "{}", store.place());
        assert!(begun.elapsed().as_secs() < 5);
        assert!(!place.folder.join("image-9.tar.xz").exists());
    });
}
