//! Whose a container of castoff is: the label that lets a later run remove what a killed one left.
//!
//! `dev.castoff.owner` = `HOST/BOOT/PIDNS/PID/START`: machine, boot, PID namespace, process and its start time. A
//! container is abandoned when its owner was of this machine and is certainly gone: an earlier boot, or the same
//! boot and PID namespace with no such process. Anything else is left alone.

use crate::error::{Context as _, Result};
use crate::host;

/// The label of every container castoff makes.
pub(super) const LABEL: &str = "dev.castoff.owner";

/// One run of castoff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    machine: String,
    boot: String,
    namespace: String,
    process: u32,
    start: u64,
}

impl Owner {
    /// This process.
    pub(super) fn own() -> Result<Self> {
        let process = std::process::id();
        let machine = match host::fs::read_text("/etc/machine-id".as_ref()) {
            Ok(text) => text.trim().to_owned(),
            Err(_) => String::new(),
        };
        let node = host::fs::read_text("/proc/sys/kernel/hostname".as_ref())?.trim().to_owned();
        let namespace = rustix::fs::readlink("/proc/self/ns/pid", Vec::new())
            .context(|| "cannot read this process's PID namespace")?
            .to_string_lossy()
            .into_owned();
        Ok(Self {
            machine: format!("{node}-{machine}"),
            boot: host::fs::read_text("/proc/sys/kernel/random/boot_id".as_ref())?.trim().to_owned(),
            namespace,
            process,
            start: start_of(process)?.unwrap_or_default(),
        })
    }

    /// The label's value.
    pub(super) fn label(&self) -> String {
        format!("{}/{}/{}/{}/{}", self.machine, self.boot, self.namespace, self.process, self.start)
    }

    /// The owner a label names; none when castoff did not write it.
    pub(super) fn parse(label: &str) -> Option<Self> {
        let parts: Vec<&str> = label.split('/').collect();
        let [machine, boot, namespace, process, start] = parts.as_slice() else { return None };
        Some(Self {
            machine: (*machine).to_owned(),
            boot: (*boot).to_owned(),
            namespace: (*namespace).to_owned(),
            process: process.parse().ok()?,
            start: start.parse().ok()?,
        })
    }

    /// Whether `self`, seen from `observer`, is certainly gone. `start_of` tells when a process began.
    pub(super) fn is_gone(&self, observer: &Self, start_of: impl FnOnce(u32) -> Result<Option<u64>>) -> Result<bool> {
        if self.machine != observer.machine {
            return Ok(false);
        }
        if self.boot != observer.boot {
            return Ok(true);
        }
        if self.namespace != observer.namespace {
            return Ok(false);
        }
        Ok(start_of(self.process)? != Some(self.start))
    }
}

/// When a process began, in ticks since boot; none when there is no such process.
pub(super) fn start_of(process: u32) -> Result<Option<u64>> {
    let path = format!("/proc/{process}/stat");
    if !host::fs::exists(path.as_ref())? {
        return Ok(None);
    }
    // It may end between the two looks.
    let Ok(text) = host::fs::read(path.as_ref()) else { return Ok(None) };
    // The second field is the command's name in parentheses and may hold anything; the 22nd is the start time.
    let text = String::from_utf8_lossy(&text).into_owned();
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(rest.split_whitespace().nth(19).and_then(|field| field.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(boot: &str, process: u32, start: u64) -> Owner {
        Owner { machine: "m".to_owned(), boot: boot.to_owned(), namespace: "pid:[1]".to_owned(), process, start }
    }

    #[test]
    fn only_a_certainly_dead_owner_is_gone() {
        let me = owner("b", 1, 1);
        let alive = |_| Ok(Some(7));
        assert!(!owner("b", 5, 7).is_gone(&me, alive).unwrap());
        assert!(owner("b", 5, 6).is_gone(&me, alive).unwrap(), "the number was given to another process");
        assert!(owner("b", 5, 7).is_gone(&me, |_| Ok(None)).unwrap());
        assert!(owner("a", 5, 7).is_gone(&me, alive).unwrap(), "an earlier boot");
        let elsewhere = Owner { machine: "n".to_owned(), ..owner("a", 5, 7) };
        assert!(!elsewhere.is_gone(&me, |_| Ok(None)).unwrap());
        let hidden = Owner { namespace: "pid:[2]".to_owned(), ..owner("b", 5, 7) };
        assert!(!hidden.is_gone(&me, |_| Ok(None)).unwrap());
    }

    #[test]
    fn labels_are_read_back_and_this_process_lives() {
        let me = Owner::own().unwrap();
        assert_eq!(Owner::parse(&me.label()), Some(me.clone()));
        assert!(!me.is_gone(&me, start_of).unwrap());
        assert_eq!(Owner::parse("1234"), None);
    }
}
