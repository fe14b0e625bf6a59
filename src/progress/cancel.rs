//! The wish that long work ends: set by one thread, looked at by the one that works.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Kind, Result};

/// A token that work under way looks at; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Cancel {
    wished: Arc<AtomicBool>,
}

impl Cancel {
    /// A token of its own, not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that this flag is, for those who already share one.
    pub fn shared(wished: Arc<AtomicBool>) -> Self {
        Self { wished }
    }

    /// Asks the work to end.
    pub fn cancel(&self) {
        self.wished.store(true, Ordering::SeqCst);
    }

    /// An error of [`Kind::Interrupted`] once somebody asked.
    pub fn check(&self) -> Result<()> {
        if self.wished.load(Ordering::SeqCst) {
            return Err(Error::new(Kind::Interrupted, "cancelled"));
        }
        Ok(())
    }

    /// Waits, or fails as soon as somebody asks.
    pub fn sleep(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }
}
