//! Looks after what runs in a sandbox: how many processes, how much memory, how much room is left on the disk.
//!
//! The kernel's own limits (`cgroup`, `kernel.pid_max`) hold back what is faster than a look; this one finds out, says
//! which limit it was, and works everywhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::Groups;
use crate::error::{Error, Kind, Result};
use crate::host::fs;

/// How often it looks.
const PAUSE: Duration = Duration::from_millis(100);

/// How often it asks for the number of the machine's processes, where the kernel does not count those of a sandbox: what
/// forks for ever is at its end within milliseconds, and may be gone before anybody looks.
const GLIMPSE: Duration = Duration::from_millis(10);

/// So many more processes than allowed may be before the kernel steps in: the watch says which limit it was.
pub(super) const SLACK: u32 = 1024;

/// Processes of a group that are castoff's own stages.
const STAGES: u64 = 2;

/// What must not be exceeded.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pub(super) time: Option<Duration>,
    pub(super) processes: Option<u32>,
    pub(super) memory: Option<u64>,
    pub(super) floor: Option<(PathBuf, u64)>,
}

/// One run under its limits.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    limits: &'a Limits,
    /// The command as errors name it.
    command: String,
    /// The process above all that is watched, and the groups it is in.
    outer: i32,
    groups: &'a Groups,
    began: Instant,
    looked: Option<Instant>,
    /// The processes of the sandbox at the last look, and those of the whole machine.
    counted: Option<(u64, u16)>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(limits: &'a Limits, command: &str, outer: u32, groups: &'a Groups) -> Self {
        let (command, outer) = (command.to_owned(), outer.cast_signed());
        Self { limits, command, outer, groups, began: Instant::now(), looked: None, counted: None }
    }

    /// How long to wait for the next look.
    pub(super) fn pause(&self) -> Duration {
        let is_blind = self.limits.processes.is_some() && self.groups.most_processes().is_none();
        if is_blind { GLIMPSE } else { PAUSE }
    }

    /// Fails with the limit that was exceeded.
    pub(super) fn look(&mut self) -> Result<()> {
        if let Some(limit) = self.limits.time
            && self.began.elapsed() > limit
        {
            return Err(self.killed(&format!("it ran longer than {} s", limit.as_secs())));
        }
        if self.looked.is_some_and(|before| before.elapsed() < PAUSE) && !self.is_growing() {
            return Ok(());
        }
        self.peak()?;
        self.floor()?;
        if self.limits.processes.is_some() || self.limits.memory.is_some() {
            self.processes()?;
        }
        self.looked = Some(Instant::now());
        Ok(())
    }

    /// Whether the machine has so many processes more than at the last look that the sandbox's may be too many.
    fn is_growing(&self) -> bool {
        let (Some(limit), Some((own, all))) = (self.limits.processes, self.counted) else { return false };
        let more = rustix::system::sysinfo().procs.wrapping_sub(all);
        // A difference in the upper half is a negative one.
        more < u16::MAX / 2 && own + u64::from(more) > u64::from(limit)
    }

    /// Fails if the kernel counted too many processes, however short a time they were there.
    pub(super) fn peak(&self) -> Result<()> {
        let (Some(limit), Some(most)) = (self.limits.processes, self.groups.most_processes()) else { return Ok(()) };
        let most = most.saturating_sub(STAGES);
        if most > u64::from(limit) { Err(self.too_many(most, limit)) } else { Ok(()) }
    }

    fn too_many(&self, most: u64, limit: u32) -> Error {
        self.killed(&format!("it had {most} processes, and {limit} are allowed"))
    }

    fn floor(&self) -> Result<()> {
        let Some((path, least)) = &self.limits.floor else { return Ok(()) };
        let (free, _) = fs::space(path)?;
        if free >= *least {
            return Ok(());
        }
        let what = format!(
            "{} was killed: {free} bytes are free at `{}`, and {least} must stay",
            self.command,
            path.display()
        );
        Err(Error::new(Kind::NoSpace, what).hint("free some space there; what the command wrote is gone with its tree"))
    }

    fn processes(&mut self) -> Result<()> {
        let all = rustix::system::sysinfo().procs;
        let found = below(self.outer)?;
        let threads: u64 = found.iter().map(|one| one.threads).sum();
        self.counted = Some((threads, all));
        if let Some(limit) = self.limits.processes
            && threads > u64::from(limit)
        {
            return Err(self.too_many(threads, limit));
        }
        let Some(limit) = self.limits.memory else { return Ok(()) };
        // What is in no process, a file in memory that nobody maps, is found by what the machine lacks.
        if let Some(left) = scarce_memory() {
            return Err(self.killed(&format!("the machine has only {left} bytes of memory left")));
        }
        let own: u64 = found.iter().map(|one| own_memory(one.pid)).sum();
        // Pages that forked processes share count once for each of them: then a closer look.
        if own <= limit {
            return Ok(());
        }
        let used: u64 = found.iter().map(|one| share_of_memory(one.pid)).sum();
        if used > limit {
            return Err(self.killed(&format!("it used {used} bytes of memory, and {limit} are allowed")));
        }
        Ok(())
    }

    pub(super) fn killed(&self, why: &str) -> Error {
        Error::new(Kind::Limit, format!("{} was killed: {why}", self.command))
    }
}

struct Found {
    pid: i32,
    parent: i32,
    threads: u64,
}

/// All processes below this one but its child, which is the first one of the sandbox and castoff's own. Orphans have
/// that one as their parent, so nothing gets out of sight, whatever namespaces it makes.
fn below(outer: i32) -> Result<Vec<Found>> {
    let mut by_parent: BTreeMap<i32, Vec<Found>> = BTreeMap::new();
    for name in fs::list(Path::new("/proc"))? {
        if let Some(found) = name.to_str().and_then(|name| name.parse().ok()).and_then(status) {
            by_parent.entry(found.parent).or_default().push(found);
        }
    }
    let mut found = Vec::new();
    let mut above: Vec<i32> = by_parent.remove(&outer).unwrap_or_default().iter().map(|first| first.pid).collect();
    while let Some(parent) = above.pop() {
        for child in by_parent.remove(&parent).unwrap_or_default() {
            above.push(child.pid);
            found.push(child);
        }
    }
    Ok(found)
}

/// Parent and threads by `/proc/PID/stat` (proc_pid_stat(5)); none for one that has ended meanwhile.
fn status(pid: i32) -> Option<Found> {
    let bytes = fs::read(Path::new(&format!("/proc/{pid}/stat"))).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Found { pid, parent: fields.get(1)?.parse().ok()?, threads: fields.get(17)?.parse().ok()? })
}

/// Bytes that are this process's and no file's: resident without shared ones; 0 for one that has ended.
fn own_memory(pid: i32) -> u64 {
    let of = |text: String| {
        let mut fields = text.split_whitespace().skip(1).map_while(|field| field.parse::<u64>().ok());
        let (resident, shared) = (fields.next()?, fields.next()?);
        Some(resident.saturating_sub(shared) * page())
    };
    fs::read_text(Path::new(&format!("/proc/{pid}/statm"))).ok().and_then(of).unwrap_or_default()
}

/// Bytes of this process where a shared page counts in parts: `Pss_Anon` and `Pss_Shmem`; 0 for one that has ended.
fn share_of_memory(pid: i32) -> u64 {
    let Ok(text) = fs::read_text(Path::new(&format!("/proc/{pid}/smaps_rollup"))) else { return 0 };
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
    };
    of("Pss_Anon:").unwrap_or_default() + of("Pss_Shmem:").unwrap_or_default()
}

/// What the machine has left, if that is next to nothing: less than a fiftieth of all.
fn scarce_memory() -> Option<u64> {
    let text = fs::read_text(Path::new("/proc/meminfo")).ok()?;
    let of = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let (total, left) = (of("MemTotal:")?, of("MemAvailable:")?);
    (left < total / 50).then_some(left * 1024)
}

fn page() -> u64 {
    rustix::param::page_size() as u64
}
