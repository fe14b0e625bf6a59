//! A thousand readers poll while a hundred releases are made: none ever sees a version without its whole file, or a hash
//! that does not fit.
//!
//! `CASTOFF_TEST_READERS` and `CASTOFF_TEST_RELEASES` say other numbers.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::consumers::{Branch, Legacy, Seen};
use super::{IMAGE, World};
use crate::harness::{program, succeed};

/// How often each reader looks.
const PAUSE: Duration = Duration::from_secs(1);

/// Readers of the branch share so many processes of git.
const GITS: usize = 4;

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

struct Readers {
    branches: Vec<Mutex<Branch>>,
    legacy: Legacy,
    served: PathBuf,
    over: AtomicBool,
    looks: AtomicU64,
    refused: AtomicU64,
    /// The number that was announced last, before the next one begins.
    announced: AtomicU32,
}

impl Readers {
    /// One reader, by turns of the branch and of the checkout, until all is over.
    fn read(&self, own: usize) {
        // Not all at the same moment.
        std::thread::sleep(PAUSE * u32::try_from(own % 97).unwrap() / 97);
        let mut highest = 0;
        let mut turn = own;
        while !self.over.load(Ordering::SeqCst) {
            let least = self.announced.load(Ordering::SeqCst);
            turn += 1;
            let seen = if turn.is_multiple_of(2) {
                self.branches[own % GITS].lock().unwrap().whole(&[&self.served])
            } else {
                let seen = match self.legacy.look() {
                    Seen::Refused => {
                        self.refused.fetch_add(1, Ordering::SeqCst);
                        self.legacy.settled()
                    }
                    seen => seen,
                };
                match seen {
                    Seen::Release(number) => number,
                    Seen::Nothing | Seen::Refused => 0,
                }
            };
            assert!(seen >= least && seen >= highest, "{seen} was seen after {highest}, {least} being announced");
            highest = seen;
            self.looks.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(PAUSE);
        }
    }
}

#[test]
fn a_thousand_readers_see_whole_releases_only() {
    let (readers, releases) = (number("CASTOFF_TEST_READERS", 1000), number("CASTOFF_TEST_RELEASES", 100));
    let world = World::new();
    let checkout = world.castoff.scratch().join("checkout");
    succeed(program("git").args(["clone", "-q"]).arg(world.repository()).arg(&checkout));
    let targets = format!("{{main: {{url: 'file://{}'}}}}", world.images().display());
    world.configure_targets(&targets, &format!("  checkout: {}\n", checkout.display()));
    world.publish_locally();
    let tree = world.castoff.scratch().join("tree-content");
    std::fs::create_dir(&tree).unwrap();
    let noise: Vec<u8> =
        (0..16_384_u32).map(|at| at.wrapping_mul(at.wrapping_mul(2_654_435_761)).to_le_bytes()[3]).collect();
    std::fs::write(tree.join("noise"), noise).unwrap();
    let first = world.packed(&tree, "content");
    world.publish(&first);

    let shared = Readers {
        branches: (0..GITS).map(|_| Mutex::new(Branch::of(&world.repository()))).collect(),
        legacy: Legacy::of(&checkout, &world.images()),
        served: world.images(),
        over: AtomicBool::new(false),
        looks: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        announced: AtomicU32::new(1),
    };
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for own in 0..readers {
            let shared = &shared;
            std::thread::Builder::new().stack_size(256 << 10).spawn_scoped(scope, move || shared.read(own)).unwrap();
        }
        let published = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for number in 2..=u32::try_from(releases).unwrap() + 1 {
                std::fs::write(tree.join("number"), number.to_string()).unwrap();
                let archive = world.packed(&tree, "content");
                assert_eq!(world.publish(&archive)["version"], number);
                shared.announced.store(number, Ordering::SeqCst);
            }
        }));
        shared.over.store(true, Ordering::SeqCst);
        if let Err(panic) = published {
            std::panic::resume_unwind(panic);
        }
    });
    let (looks, refused) = (shared.looks.load(Ordering::SeqCst), shared.refused.load(Ordering::SeqCst));
    eprintln!("{readers} readers, {releases} releases, {looks} looks in {:?}, {refused} refused", begun.elapsed());
    assert!(looks >= readers as u64, "{looks} looks");
    assert_eq!(world.cloned(), u32::try_from(releases).unwrap() + 1);
    assert_eq!(super::names(&world.images()).len(), releases + 1, "{IMAGE}");
}
