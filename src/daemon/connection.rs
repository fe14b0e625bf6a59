//! Connections: how many, whose, for how long; HTTP/1.1 on each.
//!
//! Every connection counts as idle unless a whole request is being worked on. When there are too many, the longest idle
//! one of the peer that holds the most is closed, so that ten thousand silent connections cost their owner, and nobody
//! else, an answer.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::caller::Peer;
use super::request;
use super::server::{Daemon, Phase};
use super::stream::Patient;

/// The most headers of a request.
const HEAD_HEADERS: usize = 64;

/// How many bytes of a head are kept while it is not whole; with more the answer is hyper's bare 431.
const HEAD_BUFFER: usize = 2 * request::HEAD_BYTES;

/// One connection, as the others see it.
#[derive(Debug)]
pub(super) struct Entry {
    owner: String,
    /// Milliseconds after the start of the daemon since which it is idle; 0 while it is busy.
    idle_since: AtomicU64,
    close: Notify,
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
    fn enter(&self, owner: String, most: usize) -> (u64, Arc<Entry>, bool) {
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

    fn leave(&self, number: u64) {
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

/// Leaves the list and the count when the connection ends, however it ends.
struct Membership {
    daemon: Arc<Daemon>,
    number: u64,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.daemon.connections.leave(self.number);
        self.daemon.metrics.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that was just accepted: counted, and evictable, before anything is read from it.
pub(super) struct Accepted {
    entry: Arc<Entry>,
    membership: Membership,
}

impl Accepted {
    /// Counts a connection of this owner.
    pub(super) fn new(daemon: &Arc<Daemon>, owner: String) -> Self {
        let most = daemon.state().config.daemon.connections;
        let (number, entry, evicted) = daemon.connections.enter(owner, most);
        daemon.metrics.accepted.fetch_add(1, Ordering::Relaxed);
        daemon.metrics.connections.fetch_add(1, Ordering::Relaxed);
        daemon.metrics.evicted.fetch_add(u64::from(evicted), Ordering::Relaxed);
        Self { entry, membership: Membership { daemon: Arc::clone(daemon), number } }
    }

    /// Waits for something to become of the connection, unless it is closed for another's sake before.
    pub(super) async fn unless_evicted<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.entry.close.notified() => None,
        }
    }

    /// Speaks HTTP until either side has had enough.
    pub(super) async fn converse<S>(self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { entry, membership } = self;
        let daemon = Arc::clone(&membership.daemon);
        let patience = daemon.state().config.daemon.idle;
        let mut phases = daemon.phases();
        let peer = Arc::new(peer);
        let service = {
            let (daemon, entry) = (Arc::clone(&daemon), Arc::clone(&entry));
            service_fn(move |request| {
                let answer = request::answer(Arc::clone(&daemon), Arc::clone(&peer), Arc::clone(&entry), request);
                async move { Ok::<_, Infallible>(answer.await) }
            })
        };
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(patience).max_headers(HEAD_HEADERS).max_buf_size(HEAD_BUFFER);
        let stream = TokioIo::new(Patient::new(stream, patience.max(Duration::from_secs(1))));
        let mut connection = std::pin::pin!(http.serve_connection(stream, service));
        let mut ending = false;
        loop {
            tokio::select! {
                result = connection.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "connection ended");
                    }
                    return;
                }
                () = entry.close.notified() => return,
                changed = phases.changed(), if !ending => {
                    if changed.is_err() || *phases.borrow_and_update() == Phase::Ending {
                        ending = true;
                        connection.as_mut().graceful_shutdown();
                    }
                }
            }
        }
    }
}
