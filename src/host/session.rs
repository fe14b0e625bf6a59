//! Processes told apart from later ones with the same number, and the ones they left behind.

use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, Signal};

use crate::error::{Context as _, Error, Kind, Result};

/// One process of one boot: its number alone would name another one some day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its number.
    pub pid: i32,
    /// The kernel's id of the boot it runs in.
    pub boot: String,
    /// When it started, in clock ticks since that boot.
    pub start: u64,
}

impl Identity {
    /// This process.
    pub fn own() -> Result<Self> {
        let pid = std::process::id().cast_signed();
        let status = status(pid)?
            .ok_or_else(|| Error::new(Kind::Unsupported, "`/proc` does not show this process; is it mounted?"))?;
        Ok(Self { pid, boot: boot()?, start: status.start })
    }

    /// Whether the process still runs.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(self.boot == boot()? && status(self.pid)?.is_some_and(|now| now.start == self.start && !now.is_dead))
    }

    /// Sends the process a signal; whether it was there to get it.
    pub fn signal(&self, signal: Signal) -> Result<bool> {
        send(self.pid, signal, || self.is_alive())
    }

    /// Sends a signal to every other process of the session that this process leads or led; how many there were.
    ///
    /// Once the leader is dead its number may lead another session: then only processes whose environment holds
    /// `marker` (`NAME=VALUE`) are meant.
    pub fn signal_others(&self, marker: &str, signal: Signal) -> Result<usize> {
        if self.boot != boot()? {
            return Ok(0);
        }
        let leads = self.is_alive()?;
        let mut reached = 0;
        for name in super::fs::list(Path::new("/proc"))? {
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let is_meant = || -> Result<bool> {
                let Some(status) = status(pid)? else { return Ok(false) };
                let is_member = status.session == self.pid && pid != self.pid && !status.is_dead;
                Ok(is_member && (leads || has_in_environment(pid, marker)))
            };
            if is_meant()? && send(pid, signal, is_meant)? {
                reached += 1;
            }
        }
        Ok(reached)
    }
}

/// Kills every other process whose environment holds `marker` (`NAME=VALUE`), and waits until none is left; how many there
/// were.
pub fn end_marked(marker: &str) -> Result<usize> {
    let own = std::process::id().cast_signed();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let mut ended = 0;
    loop {
        let mut left = 0;
        for name in super::fs::list(Path::new("/proc"))? {
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            let is_meant = || -> Result<bool> {
                Ok(pid != own && has_in_environment(pid, marker) && status(pid)?.is_some_and(|status| !status.is_dead))
            };
            if is_meant()? && send(pid, Signal::KILL, is_meant)? {
                left += 1;
            }
        }
        if left == 0 {
            return Ok(ended);
        }
        if std::time::Instant::now() > until {
            return Err(Error::new(Kind::Unavailable, format!("{left} programs of an earlier run do not end"))
                .hint("they wait for the kernel, a disk or a network file system most likely"));
        }
        ended += left;
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Sends a signal to the process if it is still the one that is meant once its number can no longer change hands.
fn send(pid: i32, signal: Signal, is_meant: impl FnOnce() -> Result<bool>) -> Result<bool> {
    let Some(number) = Pid::from_raw(pid) else { return Ok(false) };
    let wrong = || format!("cannot signal process {pid}");
    let process = match rustix::process::pidfd_open(number, PidfdFlags::empty()) {
        Err(rustix::io::Errno::SRCH) => return Ok(false),
        opened => opened.context(wrong)?,
    };
    if !is_meant()? {
        return Ok(false);
    }
    match rustix::process::pidfd_send_signal(&process, signal) {
        Err(rustix::io::Errno::SRCH) => Ok(false),
        sent => sent.context(wrong).map(|()| true),
    }
}

/// The kernel's id of this boot.
pub fn boot() -> Result<String> {
    Ok(super::fs::read_text(Path::new("/proc/sys/kernel/random/boot_id"))?.trim().to_owned())
}

struct Status {
    session: i32,
    start: u64,
    /// A zombie: it holds nothing any more.
    is_dead: bool,
}

/// What `/proc/PID/stat` says (proc_pid_stat(5)); none where there is no such process.
fn status(pid: i32) -> Result<Option<Status>> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let bytes = match super::fs::read(&path) {
        Err(error) if error.kind() == Kind::NotFound || is_gone(&error) => return Ok(None),
        read => read?,
    };
    let text = String::from_utf8_lossy(&bytes);
    // The name in parentheses may hold spaces and parentheses of its own.
    let fields: Vec<&str> = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let parsed = || {
        let is_dead = matches!(*fields.first()?, "Z" | "X");
        Some(Status { session: fields.get(3)?.parse().ok()?, start: fields.get(19)?.parse().ok()?, is_dead })
    };
    parsed().map(Some).ok_or_else(|| Error::new(Kind::Corrupt, format!("cannot read `{}`", path.display())))
}

/// Whether a read failed since the process ended meanwhile.
fn is_gone(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<std::io::Error>())
        .and_then(std::io::Error::raw_os_error)
        .is_some_and(|code| code == rustix::io::Errno::SRCH.raw_os_error())
}

/// Whether a process was started with `NAME=VALUE`; one whose environment nobody may read was not.
fn has_in_environment(pid: i32, entry: &str) -> bool {
    super::fs::read(Path::new(&format!("/proc/{pid}/environ")))
        .is_ok_and(|bytes| bytes.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{Identity, Signal};
    use crate::host::process::command;

    #[test]
    fn a_process_is_told_from_another_one_with_its_number() {
        let own = Identity::own().unwrap();
        assert!(own.is_alive().unwrap());
        assert!(!Identity { start: own.start + 1, ..own.clone() }.is_alive().unwrap());
        assert!(!Identity { boot: "another".to_owned(), ..own.clone() }.is_alive().unwrap());
        assert!(!Identity { start: own.start + 1, ..own }.signal(Signal::KILL).unwrap());
    }

    #[test]
    fn what_a_dead_leader_left_is_found_by_session_and_marker() {
        // The shell leads a session, starts a sleeper in it and ends.
        let script = "sleep 600 >/dev/null 2>&1 & echo $$ $!";
        let output = command("setsid").args(["-w", "sh", "-c", script]).env("MARK", "castoff-session-test").output();
        let printed = String::from_utf8(output.unwrap().stdout).unwrap();
        let numbers: Vec<i32> = printed.split_whitespace().map(|word| word.parse().unwrap()).collect();
        let leader = Identity { pid: numbers[0], start: 1, ..Identity::own().unwrap() };
        let sleeper =
            Identity { pid: numbers[1], start: super::status(numbers[1]).unwrap().unwrap().start, ..leader.clone() };
        assert_eq!(leader.signal_others("MARK=another", Signal::KILL).unwrap(), 0);
        assert!(sleeper.is_alive().unwrap());
        assert_eq!(leader.signal_others("MARK=castoff-session-test", Signal::KILL).unwrap(), 1);
        while sleeper.is_alive().unwrap() {
            std::thread::yield_now();
        }
    }
}
