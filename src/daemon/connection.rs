//! One connection: counted as long as it lives, HTTP/1.1 on it within limits.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use super::caller::Peer;
use super::connections::Entry;
use super::request;
use super::shared::{Daemon, Phase};
use super::stream::Patient;

/// The most headers of a request.
const HEAD_HEADERS: usize = 64;

/// How many bytes of a head are kept while it is not whole; with more the answer is hyper's bare 431.
const HEAD_BUFFER: usize = 2 * request::HEAD_BYTES;

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
