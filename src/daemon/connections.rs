//! All open connections: how many, whose, and which goes when there are too many.
//!
//! Every connection counts as idle unless a whole request is being worked on. When there are too many, the longest idle
//! one of the peer that holds the most is closed, so that ten thousand silent connections cost their owner, and nobody
//! else, an answer.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

/// One connection, as the others see it.
#[derive(Debug)]
pub(super) struct Entry {
    owner: String,
    /// Milliseconds after the start of the daemon since which it is idle; 0 while it is busy.
    idle_since: AtomicU64,
    /// Told when it has to go for another.
    pub(super) close: Notify,
    began: Instant,
}

impl Entry {
    /// A whole request is being worked on.
    pub(super) fn busy(&self) {
        self.idle_since.store(0, Ordering::Relaxed);
    }

    /// Nothing is being worked on.
    pub(super) fn idle(&self) {
        let millis = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.idle_since.store(millis + 1, Ordering::Relaxed);
    }
}

/// The open connections by number.
#[derive(Debug, Default)]
struct Open {
    entries: HashMap<u64, Arc<Entry>>,
    /// Those to be closed next, with the moment since which they are idle: looking through all for each would make a
    /// flood of connections costly.
    victims: VecDeque<(u64, u64)>,
}

/// All connections.
#[derive(Debug)]
pub(super) struct Connections {
    open: Mutex<Open>,
    next: AtomicU64,
    began: Instant,
}

impl Connections {
    /// None yet.
    pub(super) fn new() -> Self {
        Self { open: Mutex::default(), next: AtomicU64::new(0), began: Instant::now() }
    }

    /// Notes a new connection; beyond `most` another one is closed for it.
    pub(super) fn enter(&self, owner: String, most: usize) -> (u64, Arc<Entry>, bool) {
        let entry = Arc::new(Entry { owner, idle_since: AtomicU64::new(0), close: Notify::new(), began: self.began });
        entry.idle();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.entries.insert(number, Arc::clone(&entry));
        let victim = if open.entries.len() > most { open.victim() } else { None };
        let evicted = victim.is_some();
        if let Some(victim) = victim {
            victim.close.notify_one();
        }
        (number, entry, evicted)
    }

    /// Forgets a connection that has ended.
    pub(super) fn leave(&self, number: u64) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).entries.remove(&number);
    }
}

/// How many victims are chosen at once.
const VICTIMS: usize = 64;

impl Open {
    /// Takes the longest idle connection of the peer that holds the most; none where all are busy.
    fn victim(&mut self) -> Option<Arc<Entry>> {
        if let Some(victim) = self.chosen() {
            return Some(victim);
        }
        self.choose();
        self.chosen()
    }

    /// The next of the chosen that is still there and has not been busy since.
    fn chosen(&mut self) -> Option<Arc<Entry>> {
        while let Some((since, number)) = self.victims.pop_front() {
            if self.entries.get(&number).is_some_and(|entry| entry.idle_since.load(Ordering::Relaxed) == since) {
                return self.entries.remove(&number);
            }
        }
        None
    }

    /// Chooses the longest idle connections of the peer that holds the most; of all, if all of that peer's are busy.
    fn choose(&mut self) {
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for entry in self.entries.values() {
            *counts.entry(entry.owner.as_str()).or_default() += 1;
        }
        let largest = counts.into_iter().max_by_key(|(_, count)| *count).map(|(owner, _)| owner);
        let idle = |owner: Option<&str>| {
            let mut idle: Vec<(u64, u64)> = self
                .entries
                .iter()
                .filter(|(_, entry)| owner.is_none_or(|owner| entry.owner == owner))
                .map(|(number, entry)| (entry.idle_since.load(Ordering::Relaxed), *number))
                .filter(|(since, _)| *since > 0)
                .collect();
            idle.sort_unstable();
            idle.truncate(VICTIMS);
            idle
        };
        let found = idle(largest);
        self.victims = if found.is_empty() { idle(None) } else { found }.into();
    }
}
