//! Limits by control groups, where this process may make one: version 2, or the `pids` and `memory` of version 1.
//!
//! ```text
//! GROUP/castoff-sandbox-XXXXXXXX   beside castoff's own processes, or below the root group; gone after the run
//! ```
//!
//! A killed castoff leaves an empty group, which the next one removes.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::host::{clock, fs, random};

const PREFIX: &str = "castoff-sandbox-";

/// An empty group this old has no owner that is still about to fill it.
const ABANDONED: Duration = Duration::from_mins(5);

/// How long the kernel may take to let go of the last process.
const LAST_WAIT: Duration = Duration::from_secs(5);

/// The groups of one run; dropping them removes them.
#[derive(Debug, Default)]
pub(super) struct Groups {
    made: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    folder: PathBuf,
    limits: Vec<&'static str>,
}

/// A limit as both versions name it: its file, the file that counts failures, and the key in that.
struct Limit {
    what: &'static str,
    file: [&'static str; 2],
    failures: [(&'static str, &'static str); 2],
    controller: &'static str,
}

const PROCESSES: Limit = Limit {
    what: "processes",
    file: ["pids.max", "pids.max"],
    failures: [("pids.events", "max"), ("pids.events", "max")],
    controller: "pids",
};

const MEMORY: Limit = Limit {
    what: "memory",
    file: ["memory.max", "memory.limit_in_bytes"],
    failures: [("memory.events", "oom_kill"), ("memory.oom_control", "oom_kill")],
    controller: "memory",
};

impl Groups {
    /// Groups with these limits, as far as they can be had.
    pub(super) fn make(processes: Option<u64>, memory: Option<u64>) -> Self {
        let mut groups = Self::default();
        for (limit, value) in [(&PROCESSES, processes), (&MEMORY, memory)] {
            if let Some(value) = value {
                groups.limit(limit, value);
            }
        }
        groups
    }

    fn limit(&mut self, limit: &Limit, value: u64) {
        // The group of version 2 that is there already may have the other controller too.
        if let Some(group) = self.made.iter_mut().find(|group| set(&group.folder.join(limit.file[0]), value)) {
            group.limits.push(limit.what);
            return;
        }
        for parent in parents(limit.controller) {
            sweep(&parent);
            let Ok(number) = random::bytes::<8>() else { return };
            let folder = parent.join(format!("{PREFIX}{:016x}", u64::from_ne_bytes(number)));
            if rustix::fs::mkdir(&folder, rustix::fs::Mode::from_raw_mode(0o755)).is_err() {
                continue;
            }
            if limit.file.iter().any(|file| set(&folder.join(file), value)) {
                // Swap would put off the end of it only, and one without the others is of no use.
                set(&folder.join("memory.swap.max"), 0);
                set(&folder.join("memory.oom.group"), 1);
                self.made.push(Group { folder, limits: vec![limit.what] });
                return;
            }
            // The controller is not for groups here.
            let _nothing_in_it = fs::remove_dir(&folder);
        }
    }

    /// Puts a process in, before it starts others; what is limited then.
    pub(super) fn enter(&mut self, process: u32) -> Vec<&'static str> {
        self.made.retain(|group| {
            let is_in = set(&group.folder.join("cgroup.procs"), u64::from(process));
            if !is_in {
                let _nothing_in_it = fs::remove_dir(&group.folder);
            }
            is_in
        });
        self.made.iter().flat_map(|group| group.limits.iter().copied()).collect()
    }

    /// The most processes that were there at once, where the kernel counts them; 0 before the first.
    pub(super) fn most_processes(&self) -> Option<u64> {
        let group = self.made.iter().find(|group| group.limits.contains(&PROCESSES.what))?;
        fs::read_text(&group.folder.join("pids.peak")).ok()?.trim().parse().ok()
    }

    /// Which limit the kernel had to enforce.
    pub(super) fn hit(&self) -> Option<&'static str> {
        let failed = |group: &Group, limit: &Limit| {
            group.limits.contains(&limit.what)
                && limit.failures.iter().any(|(file, key)| {
                    let text = fs::read_text(&group.folder.join(file)).unwrap_or_default();
                    text.lines().any(|line| {
                        line.strip_prefix(key).is_some_and(|rest| rest.trim() != "0" && rest.starts_with(' '))
                    })
                })
        };
        [&PROCESSES, &MEMORY]
            .into_iter()
            .find(|limit| self.made.iter().any(|group| failed(group, limit)))
            .map(|it| it.what)
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        for group in &self.made {
            let since = Instant::now();
            while fs::remove_dir(&group.folder).is_err() && since.elapsed() < LAST_WAIT {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}

/// Writes a number into a file of the kernel's; whether it took it.
fn set(file: &Path, value: u64) -> bool {
    // Opened without making it: a file that is not there is a controller that is not there.
    let flags = rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC;
    let opened = rustix::fs::open(file, flags, rustix::fs::Mode::empty());
    opened.is_ok_and(|file| rustix::io::write(&file, value.to_string().as_bytes()).is_ok())
}

/// Groups that another one may be made in: castoff's own, then the root.
fn parents(controller: &str) -> Vec<PathBuf> {
    let Ok(own) = fs::read_text(Path::new("/proc/self/cgroup")) else { return Vec::new() };
    let Ok(mounts) = fs::read_text(Path::new("/proc/self/mounts")) else { return Vec::new() };
    let mut parents = Vec::new();
    for line in own.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let mount = mounts.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            let is_it = match fields.get(2) {
                Some(&"cgroup2") => controllers.is_empty(),
                Some(&"cgroup") => {
                    controllers.split(',').any(|one| one == controller)
                        && fields.get(3).is_some_and(|options| options.split(',').any(|one| one == controller))
                }
                _ => false,
            };
            is_it.then(|| PathBuf::from(fields[1]))
        });
        if let Some(mount) = mount {
            let below = mount.join(path.trim_start_matches('/'));
            parents.extend([below, mount]);
        }
    }
    parents
}

/// Removes groups without an owner; one with processes in it cannot be removed.
fn sweep(parent: &Path) {
    for name in fs::list(parent).unwrap_or_default() {
        let folder = parent.join(&name);
        let is_old = |seconds: i64| clock::now().as_secs().cast_signed() - seconds > ABANDONED.as_secs().cast_signed();
        if name.to_string_lossy().starts_with(PREFIX)
            && fs::metadata(&folder).is_ok_and(|it| it.is_some_and(|it| is_old(it.ctime())))
        {
            let _is_in_use = fs::remove_dir(&folder);
        }
    }
}
