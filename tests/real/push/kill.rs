//! Pushes that are killed, and finished by the next run, while a reader looks at the live tree.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::hosts::{Cloud, IMAGE, Trouble, content};
use crate::publish::servers::until;

/// Looks at a live tree until it is stopped: it is whole at every moment.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Reader {
    fn start(tree: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            while !stopped.load(Ordering::SeqCst) {
                content(&tree);
                looks += 1;
            }
            looks
        });
        Self { stop, thread }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::SeqCst);
        assert!(self.thread.join().unwrap() > 0);
    }
}

#[test]
fn killed_in_the_middle_of_rsync_it_is_finished_by_the_next_run() {
    let cloud = Cloud::new(&[Trouble::None]);
    let host = &cloud.hosts[0];
    cloud.build("one", 2);
    assert_eq!(cloud.sync()["result"], true);
    let reader = Reader::start(host.tree());
    cloud.build("two", 24);
    cloud.version(2);
    let mut slow = cloud.castoff.command(["call", "mc_lxc.sync_images"]);
    let mut child = slow.env("CASTOFF_PUSH_BANDWIDTH", "3000").spawn().unwrap();
    let new = host.containers.join(".castoff-push").join(IMAGE).join("new");
    until("rsync to be at work", || new.join("rootfs/usr").exists());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(content(&host.tree()), "one");
    let report = cloud.sync();
    assert_eq!(report["result"], true, "{report:#}");
    reader.finish();
    assert_eq!(content(&host.tree()), "two");
    assert!(!new.exists());
}

#[test]
fn killed_at_any_point_over_what_the_original_left_it_is_finished_by_the_next_run() {
    let cloud = Cloud::new(&[Trouble::None]);
    let host = &cloud.hosts[0];
    cloud.build("zero", 1);
    assert_eq!(cloud.sync()["result"], true);
    for (number, point) in ["sync.push.begun", "sync.push.sent", "sync.push.committed"].into_iter().enumerate() {
        // A plain folder, as the original made it.
        let tree = host.place(IMAGE).canonicalize().unwrap();
        std::fs::remove_file(host.place(IMAGE)).unwrap();
        std::fs::rename(tree, host.place(IMAGE)).unwrap();
        let reader = Reader::start(host.tree());
        cloud.build(point, 1);
        cloud.version(u32::try_from(number).unwrap() + 2);
        let killed =
            cloud.castoff.command(["call", "mc_lxc.sync_images"]).env("CASTOFF_FAULT", point).output().unwrap();
        assert_eq!(killed.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&killed.stderr));
        let report = cloud.sync();
        assert_eq!(report["result"], true, "after {point}: {report:#}");
        reader.finish();
        assert_eq!(content(&host.tree()), point);
    }
}

#[test]
fn ctrl_c_ends_rsync_too_and_says_so() {
    let cloud = Cloud::new(&[Trouble::None]);
    let host = &cloud.hosts[0];
    cloud.build("one", 24);
    let mut slow = cloud.castoff.command(["call", "--out=json", "mc_lxc.sync_images"]);
    let child = slow.env("CASTOFF_PUSH_BANDWIDTH", "2000").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let new = host.containers.join(".castoff-push").join(IMAGE).join("new");
    until("rsync to be at work", || new.join("rootfs/usr").exists());
    let begun = std::time::Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("interrupted"), "{text}");
    assert!(!host.place(IMAGE).exists());
}
