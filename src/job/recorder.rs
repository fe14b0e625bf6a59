//! The progress of a job into its events: a [`Sink`] that never waits for the disk.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::database::{Database, Durability, now};
use super::events::{self, Draft, EventKind, Stage};
use super::lease::Claim;
use crate::error::{Context as _, Result};
use crate::progress::{Event, Sink};
use crate::vocab::Value;

/// How long events are gathered before they are kept.
const INTERVAL: Duration = Duration::from_millis(200);

/// How often the holder of a lease says that it lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// Events that may wait to be gathered; more are counted and dropped.
const WAITING: usize = 4096;

/// What unwinds a function whose job is to end, after [`Recorder::stop`].
#[derive(Debug)]
pub struct Stopped;

/// Keeps what a job's function says of its progress, and the heartbeat of its lease.
#[derive(Debug)]
pub struct Recorder {
    sender: Mutex<Option<SyncSender<Event>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    dropped: Arc<AtomicU64>,
    stopping: AtomicBool,
}

impl Recorder {
    /// Starts to keep the events of a claimed job.
    pub fn start(claim: &Claim) -> Result<Arc<Self>> {
        let database = Database::open(claim.queue().folder(), Durability::Process)?;
        let (sender, receiver) = sync_channel(WAITING);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            database,
            job: claim.number(),
            drafts: Vec::new(),
            stage: Stage::none(),
            dropped: Arc::clone(&dropped),
            beaten: Instant::now(),
        };
        let writer = std::thread::Builder::new()
            .name("job-events".to_owned())
            .spawn(move || writer.run(&receiver))
            .context(|| "cannot start the thread that keeps a job's events")?;
        Ok(Arc::new(Self {
            sender: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            dropped,
            stopping: AtomicBool::new(false),
        }))
    }

    /// Breaks off the function at its next event: it unwinds with [`Stopped`] and removes its temporaries on the way, as
    /// it does when it fails.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Keeps what has been said so far and listens no longer.
    pub fn finish(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the thread that keeps a job's events has panicked");
        }
    }
}

impl Sink for Recorder {
    fn tick(&self) {
        // What is told while a function unwinds already (a stage that is dropped) must not unwind again.
        if self.stopping.load(Ordering::Relaxed) && !std::thread::panicking() {
            std::panic::resume_unwind(Box::new(Stopped));
        }
    }

    fn event(&self, event: &Event) {
        self.tick();
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = sender.as_ref()
            && sender.try_send(event.clone()).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

struct Writer {
    database: Database,
    job: i64,
    drafts: Vec<Draft>,
    stage: Stage,
    dropped: Arc<AtomicU64>,
    beaten: Instant,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Event>) {
        loop {
            let until = Instant::now() + INTERVAL;
            let ended = loop {
                match receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                    Ok(event) => self.gather(&event),
                    Err(RecvTimeoutError::Timeout) => break false,
                    Err(RecvTimeoutError::Disconnected) => break true,
                }
                if self.drafts.len() >= WAITING {
                    break false;
                }
            };
            self.keep();
            if ended {
                return;
            }
        }
    }

    /// Takes an event; of several that only count further, the last one is kept.
    fn gather(&mut self, event: &Event) {
        self.stage.follow(event);
        let draft = events::draft(event, &self.stage);
        let counts = |draft: &Draft| draft.1.get("phase").and_then(Value::as_str) == Some("advanced");
        if counts(&draft) && self.drafts.last().is_some_and(counts) {
            self.drafts.pop();
        }
        self.drafts.push(draft);
    }

    fn keep(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.drafts.push((EventKind::Message, Value::map([("dropped", dropped)])));
        }
        let is_due = self.beaten.elapsed() >= HEARTBEAT;
        if self.drafts.is_empty() && !is_due {
            return;
        }
        let (job, drafts) = (self.job, std::mem::take(&mut self.drafts));
        let kept = self.database.write(|transaction| {
            transaction.execute("UPDATE jobs SET heartbeat = ? WHERE number = ?", [now(), job])?;
            if drafts.is_empty() { Ok(()) } else { events::append(transaction, job, &drafts) }
        });
        match kept {
            Ok(()) => self.beaten = Instant::now(),
            Err(error) => {
                // The work goes on; what could not be kept is counted, and told once there is room again.
                self.dropped.fetch_add(drafts.len() as u64, Ordering::Relaxed);
                self.beaten = Instant::now();
                tracing::warn!("events of a job are lost: {}", error.render());
            }
        }
    }
}
