//! One stream of events about long work, and the sinks it goes to: bars, lines, HTTP, queues.
//!
//! Whoever works tells a [`Progress`]; who listens decides what it looks like. Pure: no terminal here.

use std::sync::Arc;

mod cancel;
mod lines;

pub use cancel::Cancel;
pub use lines::Lines;

/// What a count of progress counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things: entries, layers, files.
    Items,
}

/// Something worth telling about work under way.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A stage begins; `total` is known for some.
    Started {
        /// The stage, in words a person reads: `reading layers`.
        stage: String,
        /// How much there is to do.
        total: Option<u64>,
        /// What the numbers count.
        unit: Unit,
    },
    /// The stage that began last has done this much in all.
    Advanced {
        /// Done so far, since its start.
        done: u64,
    },
    /// The stage that began last is over.
    Finished,
    /// A skip, a fallback or a substitution that the result also reports.
    Warning(String),
    /// A line of output of a command, or a word on what happens.
    Line(String),
}

/// Who listens to events.
pub trait Sink: Send + Sync {
    /// Takes one event; must not block for long.
    fn event(&self, event: &Event);

    /// Something was done that is too little for an event. A listener that wants the work to end can unwind it here; it is
    /// called often and must cost next to nothing.
    fn tick(&self) {}
}

/// Drops every event.
#[derive(Debug)]
pub struct Silent;

impl Sink for Silent {
    fn event(&self, _: &Event) {}
}

/// A handle that work tells its progress to; clones tell the same listener.
#[derive(Clone)]
pub struct Progress {
    sink: Arc<dyn Sink>,
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Progress")
    }
}

impl Progress {
    /// Progress told to this sink.
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self { sink }
    }

    /// Progress told to nobody.
    pub fn silent() -> Self {
        Self::new(Arc::new(Silent))
    }

    /// Begins a stage that ends when the returned value is dropped.
    pub fn stage(&self, stage: impl Into<String>, total: Option<u64>, unit: Unit) -> Stage {
        self.sink.event(&Event::Started { stage: stage.into(), total, unit });
        Stage {
            sink: Arc::clone(&self.sink),
            done: 0,
            told: 0,
            step: total.map_or(1 << 20, |total| (total / 200).max(1)),
        }
    }

    /// Reports a skip, a fallback or a substitution.
    pub fn warn(&self, text: impl Into<String>) {
        self.sink.event(&Event::Warning(text.into()));
    }

    /// Passes on an event that was told elsewhere.
    pub fn tell(&self, event: &Event) {
        self.sink.event(event);
    }

    /// Reports a line of output.
    pub fn line(&self, text: impl Into<String>) {
        self.sink.event(&Event::Line(text.into()));
    }
}

/// A stage under way.
pub struct Stage {
    sink: Arc<dyn Sink>,
    done: u64,
    told: u64,
    step: u64,
}

impl Stage {
    /// Some more is done. Listeners hear of it about 200 times a stage.
    pub fn advance(&mut self, by: u64) {
        self.done += by;
        if self.done - self.told >= self.step {
            self.told = self.done;
            self.sink.event(&Event::Advanced { done: self.done });
        } else {
            self.sink.tick();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.sink.event(&Event::Advanced { done: self.done });
        self.sink.event(&Event::Finished);
    }
}
