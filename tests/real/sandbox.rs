//! The sandbox: what a command in a tree sees, can do and leaves behind. The tree is busybox.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use castoff::error::{Kind, Result};
use castoff::progress::{Event, Progress, Sink};
use castoff::sandbox::{Sandbox, SandboxReport};

use crate::harness::{program, require_root, succeed};

/// A root filesystem of busybox and nothing else.
pub(crate) fn busybox_tree(folder: &Path) -> PathBuf {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.is_file());
    let busybox = busybox.expect("busybox-static is not installed: `make test` installs what the tests need");
    let tree = folder.join("tree");
    for name in ["bin", "etc", "tmp", "usr/sbin"] {
        std::fs::create_dir_all(tree.join(name)).unwrap();
    }
    std::fs::copy(busybox, tree.join("bin/busybox")).unwrap();
    for name in succeed(Command::new(busybox).arg("--list")).lines() {
        if name != "busybox" {
            std::os::unix::fs::symlink("busybox", tree.join("bin").join(name)).unwrap();
        }
    }
    std::fs::write(tree.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    tree
}

fn sandbox(tree: &Path) -> Sandbox {
    Sandbox::new(tree).program(env!("CARGO_BIN_EXE_castoff"))
}

fn shell(sandbox: &Sandbox, script: &str) -> Result<SandboxReport> {
    sandbox.run(&["/bin/sh", "-c", script].map(str::to_owned), &Progress::silent())
}

fn lines(tree: &Path, script: &str) -> Vec<String> {
    let report = shell(&sandbox(tree), script).unwrap();
    assert_eq!(report.exit, 0, "{report:?}");
    report.tail
}

/// Every path of a tree with what it is, as find(1) prints it.
fn listing(tree: &Path) -> String {
    succeed(program("find").arg(tree).args(["-printf", "%P %y %m %U %G %s %T@ %l\n"]).env("LC_ALL", "C"))
}

#[test]
fn a_command_sees_the_tree_and_its_own_processes_only() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    assert_eq!(lines(&tree, "echo $$ > /tmp/pid; ls / | tr '\\n' ' '"), ["bin dev etc proc sys tmp usr "]);
    let processes: Vec<u32> = lines(&tree, "ls /proc | grep '^[0-9]'").iter().map(|it| it.parse().unwrap()).collect();
    assert!(processes.iter().all(|process| *process < 20), "{processes:?}");
    assert_eq!(lines(&tree, "cat /proc/1/comm; hostname"), ["castoff", "localhost"]);
    let environment = lines(&tree, "env | grep -v ^SHLVL | grep -v ^PWD | sort");
    assert_eq!(
        environment,
        [
            "HOME=/root",
            "LANG=C.UTF-8",
            "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "TERM=dumb"
        ]
    );
}

#[test]
fn a_command_cannot_steer_the_host() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    let denied = [
        "mount -t tmpfs none /tmp",
        "umount /proc",
        "echo 1 > /proc/sys/kernel/panic",
        "echo h > /proc/sysrq-trigger",
        "mkdir /sys/fs/cgroup/x",
        "mknod /tmp/disk b 254 0 && cat /tmp/disk > /dev/null",
        "mknod /tmp/mem c 1 1 && cat /tmp/mem > /dev/null",
        "readlink /proc/1/exe",
        "ls /proc/1/root",
        "hostname x",
        "chroot /proc/1/root true",
    ];
    for script in denied {
        let report = shell(&sandbox(&tree), script).unwrap();
        assert_ne!(report.exit, 0, "`{script}` was allowed: {report:?}");
    }
    let allowed = [
        "echo x > /dev/null; head -c 4 /dev/urandom | wc -c",
        "mknod /tmp/node c 1 3 && test -c /tmp/node",
        "chown 1:2 /tmp/node; chmod 4711 /tmp/node",
        "echo x > /dev/shm/x; ls /dev/pts/ptmx /dev/fd/0 > /dev/null",
        "su root -c true",
    ];
    for script in allowed {
        let report = shell(&sandbox(&tree), script).unwrap();
        assert_eq!(report.exit, 0, "`{script}`: {report:?}");
    }
    let capabilities = lines(&tree, "grep -E 'CapEff|CapBnd' /proc/self/status");
    assert_eq!(capabilities, ["CapEff:\t00000000a80425fb", "CapBnd:\t00000000a80425fb"], "docker's default set");
}

#[test]
fn the_network_is_a_loopback_unless_asked_for() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    assert_eq!(lines(&tree, "ip -o link | cut -d: -f2; ip -o addr | grep -c 127.0.0.1"), [" lo", "1"]);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let script = "readlink /proc/self/ns/net; cat /etc/resolv.conf";
    let report = shell(&sandbox(&tree).network(true), script).unwrap();
    assert_eq!(report.tail[0], own.to_str().unwrap());
    let resolver = std::fs::read_to_string("/etc/resolv.conf").unwrap();
    assert_eq!(report.tail[1..].join("\n"), resolver.trim_end());
    assert!(!tree.join("etc/resolv.conf").exists(), "the stand-in stayed");
}

#[test]
fn a_dangling_resolver_link_of_the_tree_works_and_stays_as_it_is() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    for target in
        ["../run/systemd/resolve/stub-resolv.conf", "/run/systemd/resolve/stub-resolv.conf", "../../../../etc/x"]
    {
        let link = tree.join("etc/resolv.conf");
        std::os::unix::fs::symlink(target, &link).unwrap();
        let before = listing(&tree);
        let report = shell(&sandbox(&tree).network(true), "cat /etc/resolv.conf").unwrap();
        assert_eq!(report.tail.join("\n"), std::fs::read_to_string("/etc/resolv.conf").unwrap().trim_end(), "{target}");
        assert_eq!(listing(&tree), before, "{target}");
        std::fs::remove_file(link).unwrap();
    }
    assert!(!Path::new("/etc/x").exists(), "a link led out of the tree");
}

#[test]
fn a_tree_is_left_exactly_as_the_command_left_it() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    let before = listing(&tree);
    assert_eq!(
        lines(&tree, "cat /usr/sbin/policy-rc.d; ls -d /proc /sys /dev | wc -l"),
        ["#!/bin/sh", "# castoff: while an image is built no service starts", "exit 101", "3"]
    );
    assert_eq!(listing(&tree), before);
    // What the command makes of a stand-in is the command's.
    lines(&tree, "echo '#!/bin/sh' > /usr/sbin/policy-rc.d");
    assert_eq!(std::fs::read_to_string(tree.join("usr/sbin/policy-rc.d")).unwrap(), "#!/bin/sh\n");
    std::fs::write(tree.join("usr/sbin/policy-rc.d"), "own\n").unwrap();
    assert_eq!(lines(&tree, "cat /usr/sbin/policy-rc.d"), ["own"]);
}

#[test]
fn a_script_runs_from_outside_the_tree() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    let before = listing(&tree);
    let script = b"#!/bin/sh\necho \"$0\"; echo out; echo err >&2; exit 7\n";
    let report = sandbox(&tree).run_script(script, &[], &Progress::silent()).unwrap();
    assert_eq!((report.exit, report.tail), (7, ["/dev/castoff-script", "out", "err"].map(str::to_owned).to_vec()));
    let report = sandbox(&tree).run_script(b"echo $1", &["/bin/sh".to_owned(), "-e".to_owned()], &Progress::silent());
    assert_eq!(report.unwrap().exit, 0);
    assert_eq!(listing(&tree), before);
}

#[test]
fn how_a_command_ended_is_told() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    assert_eq!(shell(&sandbox(&tree), "exit 3").unwrap().exit, 3);
    assert_eq!(shell(&sandbox(&tree), "kill -TERM $$").unwrap().exit, 128 + 15);
    let error = sandbox(&tree).run(&["/bin/nothing".to_owned()], &Progress::silent()).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert!(error.render().contains("/bin/nothing"), "{error:?}");
    let error = sandbox(Path::new("/")).run(&["true".to_owned()], &Progress::silent()).unwrap_err();
    assert_eq!(error.kind(), Kind::Refused);
    std::fs::remove_dir_all(tree.join("tmp")).unwrap();
    std::os::unix::fs::symlink("/tmp", tree.join("dev")).unwrap();
    let error = shell(&sandbox(&tree), "true").unwrap_err();
    assert_eq!(error.kind(), Kind::Refused, "{error:?}");
}

#[test]
fn a_hostile_tree_cannot_send_a_mount_astray() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    std::fs::create_dir(folder.path().join("outside")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside"), tree.join("proc")).unwrap();
    assert_eq!(shell(&sandbox(&tree), "true").unwrap_err().kind(), Kind::Refused);
    std::fs::remove_file(tree.join("proc")).unwrap();
    std::fs::remove_dir_all(tree.join("usr")).unwrap();
    std::fs::create_dir_all(folder.path().join("outside/sbin")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("outside"), tree.join("usr")).unwrap();
    lines(&tree, "true");
    assert_eq!(std::fs::read_dir(folder.path().join("outside/sbin")).unwrap().count(), 0);
}

struct Heard(Mutex<Vec<(Instant, String)>>);

impl Sink for Heard {
    fn event(&self, event: &Event) {
        if let Event::Line(line) = event {
            self.0.lock().unwrap().push((Instant::now(), line.clone()));
        }
    }
}

#[test]
fn output_arrives_while_the_command_runs_and_cannot_steer_a_terminal() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    let heard = Arc::new(Heard(Mutex::default()));
    let command = ["/bin/sh", "-c", "printf 'a\\033[2Jb\\r\\nc\\377\\n'; sleep 1; echo late"].map(str::to_owned);
    sandbox(&tree).run(&command, &Progress::new(heard.clone())).unwrap();
    let heard = heard.0.lock().unwrap();
    assert_eq!(heard.iter().map(|(_, line)| line.as_str()).collect::<Vec<_>>(), ["a[2Jb", "c\u{fffd}", "late"]);
    assert!(heard[2].0 - heard[0].0 > Duration::from_millis(500), "the lines came together");
}

/// Processes whose root is the tree, as the kernel tells.
fn processes_in(tree: &Path) -> Vec<String> {
    let wanted = std::fs::metadata(tree).map(|it| (it.dev(), it.ino())).unwrap();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let path = entry.unwrap().path();
        if let Ok(root) = std::fs::metadata(path.join("root/"))
            && (root.dev(), root.ino()) == wanted
        {
            found.push(path.display().to_string());
        }
    }
    found
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_outlives_the_command_a_limit_or_a_cancellation() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    let report = shell(&sandbox(&tree), "(setsid sleep 1000 &) ; nohup sleep 1001 & echo started").unwrap();
    assert_eq!((report.exit, processes_in(&tree)), (0, Vec::<String>::new()));
    let began = Instant::now();
    let limited = sandbox(&tree).limit(Duration::from_secs(1));
    assert_eq!(shell(&limited, "sleep 1000 & sleep 1000").unwrap_err().kind(), Kind::Limit);
    assert!(began.elapsed() < Duration::from_secs(10));
    let cancel = Arc::new(AtomicBool::new(true));
    let cancelled = shell(&sandbox(&tree).cancelled_by(cancel), "sleep 1000");
    assert_eq!(cancelled.unwrap_err().kind(), Kind::Interrupted);
    assert_eq!(processes_in(&tree), Vec::<String>::new());
}

/// What `a_killed_castoff_leaves_no_process_and_no_mount` kills: runs a sandbox for ever when it is told where.
#[test]
fn a_process_to_be_killed() {
    let Some(tree) = std::env::var_os("CASTOFF_TEST_TREE_TO_BE_KILLED_IN") else { return };
    let _never = shell(&sandbox(Path::new(&tree)).network(true), "touch /tmp/up; sleep 1000 & sleep 1000");
}

#[test]
fn a_killed_castoff_leaves_no_process_and_no_mount() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::a_process_to_be_killed", "--test-threads=1"])
        .env("CASTOFF_TEST_TREE_TO_BE_KILLED_IN", &tree)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the sandbox did not start", || tree.join("tmp/up").exists() && processes_in(&tree).len() >= 3);
    let tree_is_mounted = || std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains("tree");
    assert!(!tree_is_mounted(), "a mount of the sandbox is seen outside");
    parent.kill().unwrap();
    parent.wait().unwrap();
    eventually("processes survived", || processes_in(&tree).is_empty());
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), mounts);
    // Nothing holds the tree: it can be removed, and a second run in it works.
    assert_eq!(lines(&tree, "echo again"), ["again"]);
    std::fs::remove_dir_all(&tree).unwrap();
}

#[test]
fn killed_stages_end_everything_below_them() {
    require_root();
    let folder = tempfile::tempdir().unwrap();
    let tree = busybox_tree(folder.path());
    std::fs::set_permissions(&tree, std::fs::Permissions::from_mode(0o755)).unwrap();
    let running = std::thread::spawn({
        let tree = tree.clone();
        move || shell(&sandbox(&tree), "sleep 1000 & sleep 1000")
    });
    eventually("the sandbox did not start", || processes_in(&tree).len() >= 3);
    // The first of them is PID 1 of the sandbox: what the kernel lists by number began first.
    let mut numbers: Vec<i32> =
        processes_in(&tree).iter().map(|path| path.rsplit('/').next().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    let first = rustix::process::Pid::from_raw(numbers[0]).unwrap();
    rustix::process::kill_process(first, rustix::process::Signal::KILL).unwrap();
    let error = running.join().unwrap().unwrap_err();
    assert!(error.render().contains("signal: 9"), "{error:?}");
    assert_eq!(processes_in(&tree), Vec::<String>::new());
}
