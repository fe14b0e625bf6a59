//! Answers that are kept: each with the time it lives, what it was made from, and one computation at a time.
//!
//! An entry answers while it is younger than the caller's TTL, has the caller's stamp, and its [`Watch`] holds. Who comes
//! while an entry is computed waits for it, and takes it only if it is new enough for them: never an answer from before
//! they asked that a file has since belied. A failure is told to those who wait and is not kept; the entry before it is,
//! for callers that may have the last good answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::recorder::{Recorder, Sweep, Watch};
use crate::error::{Error, Kind, Result};

/// How an answer is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// How old an answer may be, however unchanged its sources.
    pub ttl: Duration,
    /// What besides files the answer depends on: another stamp, another answer.
    pub stamp: u64,
    /// The look at the file system it must agree with.
    pub sweep: &'a Sweep,
    /// Whether the last good answer will do when a new one cannot be made.
    pub last_good: bool,
}

/// What the cache gives.
#[derive(Clone, Debug)]
pub struct Answer<V> {
    /// The value.
    pub value: V,
    /// How long ago it was made.
    pub age: Duration,
    /// If it is the last good one: how long ago it was known to be good.
    pub stale: Option<Duration>,
}

/// Counters of a cache, since the process began.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    /// Answers from the cache.
    pub hits: u64,
    /// Answers that were made.
    pub misses: u64,
    /// Answers that could not be made.
    pub errors: u64,
    /// Last good answers given instead.
    pub stale: u64,
    /// Time spent making answers.
    pub load_time: Duration,
    /// The longest time that one took.
    pub longest_load: Duration,
    /// The age of the oldest answer given from the cache since the last look at these metrics.
    pub oldest_hit: Duration,
    /// Entries now.
    pub entries: u64,
    /// Their bytes, about.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Counters {
    hits: AtomicU64,
    misses: AtomicU64,
    errors: AtomicU64,
    stale: AtomicU64,
    load_nanoseconds: AtomicU64,
    longest_nanoseconds: AtomicU64,
    oldest_milliseconds: AtomicU64,
}

#[derive(Debug)]
struct Entry<V> {
    value: V,
    watch: Arc<Watch>,
    stamp: u64,
    bytes: u32,
    /// When its sources began to be read.
    started: Instant,
    /// When it was last known to be right.
    verified: Mutex<Instant>,
}

impl<V> Entry<V> {
    fn is_valid(&self, wanted: &Wanted<'_>) -> bool {
        let is_new = self.stamp == wanted.stamp && self.started >= wanted.sweep.started();
        let is_valid = is_new
            || (self.stamp == wanted.stamp && self.started.elapsed() < wanted.ttl && self.watch.holds(wanted.sweep));
        if is_valid {
            *lock(&self.verified) = Instant::now();
        }
        is_valid
    }
}

/// One computation and those who wait for it.
struct Flight<V> {
    /// When the look began that it computes from: files may have been read since then, before it was boarded too.
    started: Instant,
    result: Mutex<Option<std::result::Result<Arc<Entry<V>>, Failure>>>,
    landed: Condvar,
}

/// An error as it is told to several, and what it was made from, if that is known.
#[derive(Clone)]
struct Failure {
    error: Arc<Error>,
    watch: Option<Arc<Watch>>,
}

/// The cache: bounded in entries and bytes.
pub struct Cache<K, V> {
    entries: moka::sync::Cache<K, Arc<Entry<V>>>,
    flights: Mutex<HashMap<K, Arc<Flight<V>>>>,
    recent: Mutex<Option<Arc<Watch>>>,
    counters: Counters,
}

impl<K, V> Cache<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// A cache of at most about this many bytes, by the sizes that are given with the values.
    pub fn new(most_bytes: u64) -> Self {
        // What an entry costs besides its value; it bounds the number of small ones too.
        const OVERHEAD: u32 = 512;
        let weigh = |_: &K, entry: &Arc<Entry<V>>| entry.bytes.saturating_add(OVERHEAD);
        Self {
            entries: moka::sync::Cache::builder().weigher(weigh).max_capacity(most_bytes).build(),
            flights: Mutex::default(),
            recent: Mutex::default(),
            counters: Counters::default(),
        }
    }

    /// The answer under the key, made by `load` if there is none that will do; `load` also tells its size in bytes.
    pub fn get(
        &self,
        key: &K,
        wanted: Wanted<'_>,
        load: impl Fn(&Recorder<'_>) -> Result<(V, usize)>,
    ) -> Result<Answer<V>> {
        loop {
            if let Some(answer) = self.kept(key, &wanted) {
                return Ok(answer);
            }
            let (flight, is_mine) = self.board(key, wanted.sweep);
            let landed = if is_mine {
                let guard = Landing { cache: self, key, flight: &flight };
                // Another flight may have landed between the look and the start of this one.
                if let Some(entry) = self.entries.get(key).filter(|entry| entry.is_valid(&wanted)) {
                    let _told_to_those_who_wait = guard.land(Ok(entry));
                    continue;
                }
                let result = self.load(key, &wanted, &load);
                guard.land(result)
            } else {
                flight.wait()
            };
            match landed {
                Ok(entry) if is_mine || entry.is_valid(&wanted) => {
                    let count = if is_mine { &self.counters.misses } else { &self.counters.hits };
                    count.fetch_add(1, Ordering::Relaxed);
                    return Ok(Answer { value: entry.value.clone(), age: entry.started.elapsed(), stale: None });
                }
                Err(failure) if is_mine || flight.started >= wanted.sweep.started() || failure.holds(wanted.sweep) => {
                    self.counters.errors.fetch_add(1, Ordering::Relaxed);
                    return self.last_good(key, &wanted, &failure);
                }
                // From before the caller asked, and not what is true now.
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// The entry under the key, if it will do.
    fn kept(&self, key: &K, wanted: &Wanted<'_>) -> Option<Answer<V>> {
        let entry = self.entries.get(key).filter(|entry| entry.is_valid(wanted))?;
        let age = entry.started.elapsed();
        self.counters.hits.fetch_add(1, Ordering::Relaxed);
        self.counters.oldest_milliseconds.fetch_max(milliseconds(age), Ordering::Relaxed);
        Some(Answer { value: entry.value.clone(), age, stale: None })
    }

    /// The computation under way, or a new one that is the caller's to make, from what `sweep` saw.
    fn board(&self, key: &K, sweep: &Sweep) -> (Arc<Flight<V>>, bool) {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(key) {
            return (Arc::clone(flight), false);
        }
        let flight = Arc::new(Flight { started: sweep.started(), result: Mutex::default(), landed: Condvar::new() });
        flights.insert(key.clone(), Arc::clone(&flight));
        (flight, true)
    }

    fn load(
        &self,
        key: &K,
        wanted: &Wanted<'_>,
        load: impl Fn(&Recorder<'_>) -> Result<(V, usize)>,
    ) -> std::result::Result<Arc<Entry<V>>, Failure> {
        // Files of this sweep may have been read since it began.
        let started = wanted.sweep.started();
        let clock = Instant::now();
        let recorder = Recorder::new(wanted.sweep);
        let loaded = load(&recorder);
        let took = u64::try_from(clock.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.counters.load_nanoseconds.fetch_add(took, Ordering::Relaxed);
        self.counters.longest_nanoseconds.fetch_max(took, Ordering::Relaxed);
        let watch = self.shared(recorder.finish());
        let (value, bytes) = loaded.map_err(|error| Failure::new(error, Some(Arc::clone(&watch))))?;
        let entry = Arc::new(Entry {
            value,
            watch,
            stamp: wanted.stamp,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            started,
            verified: Mutex::new(Instant::now()),
        });
        self.entries.insert(key.clone(), Arc::clone(&entry));
        Ok(entry)
    }

    /// The watch, or an equal one made shortly before: thousands of answers from the same files are checked at once.
    fn shared(&self, watch: Watch) -> Arc<Watch> {
        let mut recent = lock(&self.recent);
        if let Some(known) = recent.as_ref().filter(|known| known.is_same(&watch)) {
            return Arc::clone(known);
        }
        let watch = Arc::new(watch);
        *recent = Some(Arc::clone(&watch));
        watch
    }

    fn last_good(&self, key: &K, wanted: &Wanted<'_>, failure: &Failure) -> Result<Answer<V>> {
        match self.entries.get(key).filter(|_| wanted.last_good) {
            None => Err(failure.to_error()),
            Some(entry) => {
                self.counters.stale.fetch_add(1, Ordering::Relaxed);
                let stale = lock(&entry.verified).elapsed();
                Ok(Answer { value: entry.value.clone(), age: entry.started.elapsed(), stale: Some(stale) })
            }
        }
    }

    /// Forgets everything, last good answers too; returns how many entries there were.
    pub fn invalidate(&self) -> u64 {
        self.entries.run_pending_tasks();
        let entries = self.entries.entry_count();
        self.entries.invalidate_all();
        self.entries.run_pending_tasks();
        *lock(&self.recent) = None;
        entries
    }

    /// The counters.
    pub fn metrics(&self) -> Metrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.entries.run_pending_tasks();
        Metrics {
            hits: read(&self.counters.hits),
            misses: read(&self.counters.misses),
            errors: read(&self.counters.errors),
            stale: read(&self.counters.stale),
            load_time: Duration::from_nanos(read(&self.counters.load_nanoseconds)),
            longest_load: Duration::from_nanos(read(&self.counters.longest_nanoseconds)),
            oldest_hit: Duration::from_millis(self.counters.oldest_milliseconds.swap(0, Ordering::Relaxed)),
            entries: self.entries.entry_count(),
            bytes: self.entries.weighted_size(),
        }
    }
}

impl<V> Flight<V> {
    fn wait(&self) -> std::result::Result<Arc<Entry<V>>, Failure> {
        let mut result = lock(&self.result);
        loop {
            if let Some(result) = &*result {
                return result.clone();
            }
            result = self.landed.wait(result).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Ends a flight, even if its computation panics.
struct Landing<'a, K: Hash + Eq, V> {
    cache: &'a Cache<K, V>,
    key: &'a K,
    flight: &'a Flight<V>,
}

impl<K: Hash + Eq, V> Landing<'_, K, V> {
    fn land(self, result: std::result::Result<Arc<Entry<V>>, Failure>) -> std::result::Result<Arc<Entry<V>>, Failure> {
        *lock(&self.flight.result) = Some(result.clone());
        result
    }
}

impl<K: Hash + Eq, V> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        lock(&self.cache.flights).remove(self.key);
        lock(&self.flight.result).get_or_insert_with(|| {
            Err(Failure::new(Error::new(Kind::Failed, "the computation of an answer broke off"), None))
        });
        self.flight.landed.notify_all();
    }
}

impl Failure {
    fn new(error: Error, watch: Option<Arc<Watch>>) -> Self {
        Self { error: Arc::new(error), watch }
    }

    /// Whether what it was made from is the same in this look.
    fn holds(&self, sweep: &Sweep) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.holds(sweep))
    }

    fn to_error(&self) -> Error {
        let copy = Error::new(self.error.kind(), self.error.message());
        let copy = match self.error.next_step() {
            Some(hint) => copy.hint(hint),
            None => copy,
        };
        if std::error::Error::source(&*self.error).is_none() { copy } else { copy.caused_by(Cause::of(&*self.error)) }
    }
}

/// The causes of a shared error, as texts.
#[derive(Debug)]
struct Cause {
    text: String,
    next: Option<Box<Cause>>,
}

impl Cause {
    fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let mut texts = Vec::new();
        let mut cause = error.source();
        while let Some(error) = cause {
            texts.push(error.to_string());
            cause = error.source();
        }
        let chain = texts.into_iter().rev().fold(None, |next, text| Some(Box::new(Self { text, next })));
        chain.map_or(Self { text: String::new(), next: None }, |first| *first)
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.next.as_deref().map(|next| next as &(dyn std::error::Error + 'static))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is inside is whole at any time: no lock is held while anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
