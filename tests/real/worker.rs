//! Workers, overlays and sandboxes inside them, as root and as an ordinary user with subordinate ids: one code path.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{program, require_root, succeed};
use crate::sandbox::busybox_tree;

/// The ordinary user of these tests, with 65536 subordinate ids.
const USER: &str = "castoff-test";

/// A folder that the one who works may write, and the program of `sandbox_worker.rs` there.
struct Bench {
    folder: tempfile::TempDir,
    user: bool,
}

impl Bench {
    /// One for root and one for the user, who is made if there is none.
    fn both() -> [Self; 2] {
        [Self::new(false), Self::new(true)]
    }

    fn new(user: bool) -> Self {
        require_root();
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let built = std::env::current_exe().unwrap();
        let built = built.parent().unwrap().parent().unwrap().join("examples/sandbox_worker");
        assert!(built.is_file(), "`{}` is not built: run the tests without `--test`", built.display());
        std::fs::copy(built, folder.path().join("worker")).unwrap();
        let bench = Self { folder, user };
        if user {
            make_user();
        }
        std::fs::create_dir(bench.work()).unwrap();
        bench.give(&bench.work());
        bench
    }

    fn work(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    fn tree(&self) -> PathBuf {
        let tree = busybox_tree(&self.work());
        self.give(&tree);
        tree
    }

    fn give(&self, path: &Path) {
        if self.user {
            succeed(program("chown").args(["-Rh", &format!("{USER}:")]).arg(path));
        }
    }

    fn command(&self, task: &str, order: &Value) -> Command {
        let worker = self.folder.path().join("worker");
        let mut command = if self.user {
            let mut command = program("setpriv");
            command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(worker);
            command
        } else {
            Command::new(worker)
        };
        command.arg(task).arg(order.to_string()).current_dir("/").env("RUST_BACKTRACE", "0");
        command
    }

    /// What the worker's castoff printed, a value a line.
    fn lines(&self, task: &str, order: &Value) -> Vec<Value> {
        printed(&self.command(task, order).output().unwrap())
    }

    fn result(&self, task: &str, order: &Value) -> Value {
        let lines = self.lines(task, order);
        let last = lines.last().unwrap();
        last.get("result").unwrap_or_else(|| panic!("{last}")).clone()
    }

    fn error(&self, task: &str, order: &Value) -> (String, String) {
        let lines = self.lines(task, order);
        let last = lines.last().unwrap();
        let text = |name: &str| last[name].as_str().unwrap_or_else(|| panic!("{last}")).to_owned();
        (text("error"), text("kind"))
    }

    /// How each of these commands ended in a sandbox on a tree.
    fn run(&self, order: Value, scripts: &[&str]) -> Vec<Value> {
        let mut order = order;
        order["scripts"] = json!(scripts);
        self.result("run", &order).as_array().unwrap().clone()
    }
}

fn printed(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(!lines.is_empty(), "{output:?}");
    lines
}

fn make_user() {
    // Tests run at the same time, each in a process of its own.
    let lock = std::fs::File::create(std::env::temp_dir().join("castoff-test-user.lock")).unwrap();
    lock.lock().unwrap();
    if !std::fs::read_to_string("/etc/passwd").unwrap().contains(&format!("\n{USER}:")) {
        succeed(program("useradd").args(["--no-create-home", "--shell", "/bin/sh", USER]));
    }
    for (file, option) in [("/etc/subuid", "--add-subuids"), ("/etc/subgid", "--add-subgids")] {
        if !std::fs::read_to_string(file).unwrap_or_default().contains(&format!("{USER}:")) {
            succeed(program("usermod").args([option, "800000-865535", USER]));
        }
    }
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_worker_is_root_of_namespaces_of_its_own() {
    for bench in Bench::both() {
        let seen = bench.result("see", &json!({ "a": [1] }));
        assert_eq!((&seen["order"], &seen["uid"]), (&json!({ "a": [1] }), &json!(0)));
        assert_eq!((&seen["pid"], &seen["processes"], &seen["first"]), (&json!(2), &json!(2), &json!("castoff")));
        assert_eq!(seen["input"], "/dev/null");
        let own = |name: &str| std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap().display().to_string();
        assert_eq!(seen["net"], own("net"));
        assert_ne!(seen["mnt"], own("mnt"));
        if bench.user {
            let map = seen["uid_map"].as_array().unwrap();
            assert_eq!((map.len(), &map[0], &map[3], &map[5]), (6, &json!("0"), &json!("1"), &json!("65536")));
        }
        assert_eq!(bench.result("orphans", &json!({})), 0, "orphans are not reaped");
    }
}

#[test]
fn events_values_errors_and_deaths_of_a_worker_arrive() {
    for bench in Bench::both() {
        let long = json!("x".repeat(100_000));
        let lines = bench.lines("talk", &long);
        assert_eq!(lines.last().unwrap()["result"], 100_002);
        assert!(
            lines.contains(&json!({ "value": { "half": 1 } }))
                && lines.contains(&json!({ "event": "Warning(\"careful\")" }))
        );
        let (text, kind) = bench.error("fail", &json!({}));
        let whole =
            "error: it failed\nCaused by: nothing is left\nCaused by: the cause of it all\n\nhint: make some room";
        assert_eq!((text.as_str(), kind.as_str()), (whole, "no-space"));
        let (text, _) = bench.error("die", &json!({}));
        assert!(text.contains("the worker for `die` died") && text.contains("last words\nsignal 9"), "{text}");
        let (text, _) = bench.error("panic", &json!({}));
        assert!(text.contains("the task fell over"), "{text}");
        let (text, kind) = bench.error("nothing", &json!({}));
        assert_eq!((text.as_str(), kind.as_str()), ("error: this castoff has no worker for `nothing`", "unsupported"));
    }
}

#[test]
fn a_cancelled_and_a_killed_worker_leave_nothing() {
    for bench in Bench::both() {
        let began = Instant::now();
        let output = bench.command("wait", &json!({})).arg("300").output().unwrap();
        assert_eq!(printed(&output).last().unwrap()["kind"], "interrupted");
        assert!(began.elapsed() < Duration::from_secs(15));
        let marker = bench.work().join("marker");
        let is_there = || {
            let found =
                program("pgrep").args(["-f", &format!("{} wait", bench.folder.path().display())]).output().unwrap();
            let below = succeed(program("ps").args(["-eo", "args"]));
            found.status.success() || below.contains("sleep 1000.77")
        };
        let order = json!({ "file": marker, "sleep": "1000.77" });
        let mut parent = bench.command("wait", &order).stdout(Stdio::null()).spawn().unwrap();
        eventually("the worker did not start", || marker.exists());
        assert!(is_there());
        parent.kill().unwrap();
        parent.wait().unwrap();
        eventually("processes survived", || !is_there());
    }
}

#[test]
fn what_forbids_a_worker_is_named() {
    let bench = Bench::new(true);
    let worker = bench.folder.path().join("worker");
    let say = |wrapper: &mut Command| {
        let lines = printed(&wrapper.env("RUST_BACKTRACE", "0").output().unwrap());
        lines.last().unwrap()["error"].as_str().unwrap_or("it works").to_owned()
    };
    let run = format!("exec setpriv --reuid {USER} --regid {USER} --init-groups {} see {{}}", worker.display());
    let without = |capabilities: &str| {
        let mut command = program("setpriv");
        command.arg(format!("--bounding-set={capabilities}")).arg(&worker).args(["see", "{}"]);
        command
    };
    assert_eq!(say(&mut without("-sys_admin")), "it works", "root of a container without SYS_ADMIN");
    assert!(say(&mut without("-sys_admin,-setfcap")).contains("SETFCAP"));
    let sealed = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-sys_admin {} see {{}}",
        worker.display()
    );
    let text = say(program("unshare").args(["-Ur", "sh", "-c", &sealed]));
    assert!(text.contains("the kernel setting `user.max_user_namespaces` is 0"), "{text}");
    let masked = format!("mount --bind /dev/null /proc/keys; {run}");
    let text = say(program("unshare").args(["-m", "sh", "-c", &masked]));
    assert!(text.contains("parts of `/proc` are masked") && text.contains("systempaths=unconfined"), "{text}");
    let jail = bench.work().join("jail");
    std::fs::create_dir(&jail).unwrap();
    let jailed = format!("mount --rbind / {0}; exec chroot {0} sh -c '{run}'", jail.display());
    let text = say(program("unshare").args(["-m", "sh", "-c", &jailed]));
    assert!(text.contains("forbids user namespaces") && text.contains("chroot"), "{text}");
    let unnamed = format!(
        "mount --bind /dev/null /etc/subuid; exec setpriv --reuid {USER} --regid {USER} --init-groups {} see {{}}",
        worker.display()
    );
    let text = say(program("unshare").args(["-m", "sh", "-c", &unnamed]));
    assert!(text.contains(&format!("`/etc/subuid` gives no ids to the user `{USER}`")), "{text}");
    assert!(text.contains(&format!("add the line `{USER}:131072:65536`")), "{text}");
}

#[test]
fn overlays_of_root_and_of_users_have_one_form() {
    let mut forms = Vec::new();
    for bench in Bench::both() {
        let seen = bench.result("overlay", &json!({ "folder": bench.work(), "lowers": 300, "owner": 33 }));
        assert_eq!(seen, json!({ "which": "0", "seen": 300, "refused": true, "left": 0 }));
        assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(bench.work().to_str().unwrap()));
        let upper = bench.work().join("upper");
        let list = succeed(program("find").arg(&upper).args(["-printf", "%P %y %m %s %l\n"]));
        let mut lines: Vec<&str> = list.lines().filter(|line| !line.contains(" d ")).collect();
        lines.sort_unstable();
        let names = succeed(program("getfattr").args(["-R", "-h", "-m", "-"]).arg("--absolute-names").arg(&upper));
        assert!(!names.contains("trusted."), "{names}");
        forms.push(lines.join("\n"));
        assert_eq!(bench.result("probe", &json!({ "folder": bench.work() })), Value::Null);
    }
    assert_eq!(forms[0], "folder/0 c 0 0 \nfolder/moved f 644 0 \nnew f 644 3 \nwhich c 0 0 ");
    assert_eq!(forms[0], forms[1]);
    let bench = Bench::new(false);
    let order = json!({ "folder": "/proc" });
    assert_eq!(bench.error("probe", &order).1, "not-found");
}

#[test]
fn a_sandbox_in_a_worker_contains_hostile_commands() {
    for bench in Bench::both() {
        let tree = bench.tree();
        std::fs::write(bench.work().join("secret"), "x").unwrap();
        let denied = [
            "mount -t tmpfs none /tmp",
            "umount /proc",
            "echo 1 > /proc/sys/kernel/panic",
            "echo h > /proc/sysrq-trigger",
            "ls /proc/1/root/",
            "cat /proc/1/mem",
            "chroot /proc/1/root true",
            "mkdir /sys/fs/cgroup/x",
            "cat /proc/kcore | head -c 1 | grep .",
            "mknod /tmp/disk b 254 0 && cat /tmp/disk",
        ];
        for network in [false, true] {
            for end in bench.run(json!({ "tree": tree, "network": network }), &denied) {
                assert_ne!(end["exit"], 0, "{end}");
            }
        }
        let harmless =
            ["(setsid sleep 1000 &); kill -9 -1; sleep 1000 & echo up", "id -u; id -G; set -- /proc/[0-9]*; echo $#"];
        let ends = bench.run(json!({ "tree": tree }), &harmless);
        assert_eq!(ends[1]["tail"], json!(["0", "0", "2"]), "{ends:?}");
        let bound = json!({ "tree": tree, "bind": bench.work().join("secret"), "read_only": true });
        let ends = bench.run(bound, &["cat /srv/bound; echo y > /srv/bound"]);
        assert!(ends[0]["exit"] != 0 && ends[0]["tail"][0].as_str().unwrap().starts_with('x'), "{ends:?}");
        assert!(!tree.join("srv").exists(), "the place stayed");
    }
}

#[test]
fn each_limit_ends_the_command_and_is_named() {
    for bench in Bench::both() {
        let tree = bench.tree();
        let bomb = "f() { f | f & }; f; sleep 100";
        let ends = bench
            .run(json!({ "tree": tree, "processes": 200 }), &[bomb, "for i in $(seq 50); do sleep 0.2 & done; wait"]);
        assert!(
            ends[0]["kind"] == "limit" && ends[0]["error"].as_str().unwrap().contains("200 are allowed"),
            "{ends:?}"
        );
        assert_eq!(ends[1]["exit"], 0, "{ends:?}");
        assert!(ends[1]["means"][0].as_str().unwrap().starts_with("processes: "), "{ends:?}");
        let hog = "x=$(head -c 30000000 /dev/zero | tr '\\0' a); while true; do x=$x$x; done";
        let ends = bench.run(json!({ "tree": tree, "memory": 150_000_000 }), &[hog, "echo small"]);
        assert!(ends[0]["kind"] == "limit" && ends[0]["error"].as_str().unwrap().contains("memory"), "{ends:?}");
        assert_eq!(ends[1]["exit"], 0, "{ends:?}");
        let free = rustix::fs::statvfs(&tree).map(|it| it.f_bavail * it.f_frsize).unwrap();
        let fill = "dd if=/dev/zero of=/tmp/fill bs=1M count=3000 2>/dev/null; sleep 100";
        let ends = bench.run(json!({ "tree": tree, "floor": free - (1 << 30) }), &[fill]);
        std::fs::remove_file(tree.join("tmp/fill")).unwrap();
        assert!(
            ends[0]["kind"] == "no-space" && ends[0]["error"].as_str().unwrap().contains("`/bin/sh -c dd"),
            "{ends:?}"
        );
        let log = bench.work().join("log");
        let order = json!({ "tree": tree, "limit": 1, "log": log });
        let ends = bench.run(order, &["trap '' TERM INT; cat /dev/zero"]);
        assert_eq!(ends[0]["kind"], "limit");
        let size = std::fs::metadata(&log).unwrap().len();
        assert!((1 << 20..(1 << 20) + 100).contains(&size), "{size}");
    }
}

#[test]
fn input_place_syncs_and_the_machine_id_are_as_ordered() {
    for bench in Bench::both() {
        let tree = bench.tree();
        let order = json!({ "tree": tree, "stdin": "said", "working_directory": "/etc", "no_sync": true, "keep_machine_id": true });
        let script = "cat; echo; pwd; sync && grep Seccomp: /proc/self/status; echo new > /etc/machine-id";
        let ends = bench.run(order.clone(), &[script]);
        assert_eq!(ends[0]["tail"], json!(["said", "/etc", "Seccomp:\t2"]), "{ends:?}");
        assert!(!tree.join("etc/machine-id").exists());
        std::fs::write(tree.join("etc/machine-id"), "old\n").unwrap();
        bench.give(&tree);
        assert_eq!(bench.run(order, &[script])[0]["exit"], 0);
        assert_eq!(std::fs::read_to_string(tree.join("etc/machine-id")).unwrap(), "old\n");
    }
}

#[test]
fn host_programs_mount_and_leave_nothing() {
    for bench in Bench::both() {
        let place = bench.work().join("place");
        let script = format!(
            "mkdir {0} && mount -t tmpfs none {0} && touch {0}/x && ls {0} && echo $$ && sleep 1000 &\nsleep 0.5",
            place.display()
        );
        let ends = bench.run(json!({ "no_sync": true, "limit": 60 }), &[&script]);
        assert_eq!((&ends[0]["exit"], &ends[0]["tail"][0]), (&json!(0), &json!("x")), "{ends:?}");
        assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0);
        let ends = bench.run(json!({}), &["exit 5"]);
        assert_eq!(ends[0]["exit"], 5);
    }
}

#[test]
fn a_shell_has_a_terminal_with_jobs() {
    for bench in Bench::both() {
        let mut order = json!({ "tree": bench.tree() });
        order["terminal"] = json!("");
        let mut child = bench.command("shell", &order).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let typed = b"tty >/dev/null; sleep 50 &\njobs\necho $((6*7))\nexit 3\n";
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), typed).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(text.contains("Running") && text.contains("42") && text.contains("{\"result\":3}"), "{text}");
        assert!(!text.contains("job control turned off"), "{text}");
    }
}
