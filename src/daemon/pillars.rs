//! The threads that answer with pillars.
//!
//! Requests queue for a few threads, which take all that wait at once: they share one look at the sources' files, begun
//! after the last of them came. So a thousand questions cost the file system what one costs, no answer is older than its
//! question, and a file system that hangs holds these threads and nobody else's.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{mpsc, oneshot};

use super::answer::Failure;
use super::state::State;
use crate::error::{Context as _, Kind, Result};
use crate::pillar::Sweep;
use crate::settings::{Document, PILLAR_TTL};
use crate::vocab::MinionId;

/// How many requests may wait before others hear 503.
const QUEUE: usize = 4096;

/// How many are taken at once.
const BATCH: usize = 256;

/// How many threads answer: one may be at work on a changed database while the other serves what is unchanged.
const THREADS: usize = 2;

/// How many minions of a question for many are answered at a time.
const PIECE: usize = 500;

/// A document, or why there is none.
pub(super) type Answer = Result<Arc<Document>>;

/// A question to the threads.
struct Ask {
    state: Arc<State>,
    ids: Vec<MinionId>,
    prefixed: bool,
    answer: oneshot::Sender<Vec<Answer>>,
}

/// The queue and its threads.
#[derive(Debug)]
pub(super) struct Pillars {
    asks: mpsc::Sender<Ask>,
}

impl Pillars {
    /// Starts the threads; they end with this value.
    pub(super) fn start() -> Result<Self> {
        let (asks, waiting) = mpsc::channel(QUEUE);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..THREADS {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new()
                .name("pillar".to_owned())
                .spawn(move || work(&waiting))
                .context(|| "cannot start a thread for pillars")?;
        }
        Ok(Self { asks })
    }

    /// The documents of these minions, in their order.
    pub(super) async fn documents(
        &self,
        state: &Arc<State>,
        ids: Vec<MinionId>,
        prefixed: bool,
    ) -> Result<Vec<Answer>, Failure> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask { state: Arc::clone(state), ids, prefixed, answer };
        self.asks.try_send(ask).map_err(|_| Failure::busy("too many pillars are asked for at once"))?;
        let limit = state.config.daemon.deadline;
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answers)) => Ok(answers),
            Ok(Err(_)) => {
                Err(Failure::new(StatusCode::INTERNAL_SERVER_ERROR, Kind::Failed, "the pillar's thread broke off"))
            }
            Err(_) => Err(late(limit)),
        }
    }

    /// The same for many, a piece after another, so that single questions do not wait for all of them.
    pub(super) async fn bulk(
        &self,
        state: &Arc<State>,
        ids: &[MinionId],
        prefixed: bool,
    ) -> Result<Vec<Answer>, Failure> {
        let limit = state.config.daemon.deadline;
        let all = async {
            let mut answers = Vec::with_capacity(ids.len());
            for piece in ids.chunks(PIECE) {
                answers.extend(self.documents(state, piece.to_vec(), prefixed).await?);
            }
            Ok(answers)
        };
        tokio::time::timeout(limit, all).await.map_err(|_| late(limit))?
    }
}

fn late(limit: Duration) -> Failure {
    Failure::late(format!("no pillar within {} seconds", limit.as_secs()))
        .hint("are the files below `pillar_root` on a file system that hangs?")
}

fn work(waiting: &Mutex<mpsc::Receiver<Ask>>) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        let taken = waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv_many(&mut batch, BATCH);
        if taken == 0 {
            return;
        }
        let sweep = Sweep::default();
        for ask in batch.drain(..) {
            // Who waits no longer, since the deadline is over, needs no answer.
            if ask.answer.is_closed() {
                continue;
            }
            let document = |id| ask.state.settings.document_in(&sweep, id, ask.prefixed, PILLAR_TTL);
            let answers =
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask.ids.iter().map(document).collect()));
            if let Ok(answers) = answers {
                // They may have gone meanwhile.
                let _unheard = ask.answer.send(answers);
            } else {
                tracing::error!("a pillar broke off: this is a mistake in castoff");
            }
        }
    }
}
