//! What the last look at the schedules found: for metrics, health and whoever asks.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::images::Images;
use crate::function::Timetable;

/// In what schedules fall short, for people, and what kept one from being looked after.
#[derive(Default)]
pub(super) struct Found {
    pub(super) shortcomings: Vec<String>,
    pub(super) trouble: Option<String>,
}

/// What the last look found.
#[derive(Default)]
pub(super) struct Schedules {
    seen: Mutex<Seen>,
    /// Wakes who looks, after a reload.
    pub(super) wake: Notify,
}

#[derive(Default)]
struct Seen {
    table: Arc<Timetable>,
    shortcomings: Vec<String>,
    trouble: Option<String>,
    images: Option<Arc<Images>>,
    counted: Option<Instant>,
}

impl Schedules {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The timetable as the last look had it.
    pub(super) fn table(&self) -> Arc<Timetable> {
        Arc::clone(&self.seen().table)
    }

    /// What was counted last.
    pub(super) fn images(&self) -> Option<Arc<Images>> {
        self.seen().images.clone()
    }

    /// In what schedules fall short, for people.
    pub(super) fn shortcomings(&self) -> Vec<String> {
        let seen = self.seen();
        seen.shortcomings.iter().cloned().chain(seen.trouble.iter().map(|why| format!("schedules: {why}"))).collect()
    }

    /// The schedules that are late, for people.
    pub(super) fn late(&self) -> Vec<String> {
        let told = self.seen().shortcomings.clone();
        told.into_iter().filter(|told| told.contains("` had no success ")).collect()
    }

    /// When what is on the disk was counted last.
    pub(super) fn counted(&self) -> Option<Instant> {
        self.seen().counted
    }

    /// What a look found, and what was counted on the disk if it was counted.
    pub(super) fn found(&self, table: Arc<Timetable>, found: Found, images: Option<Images>) {
        let Found { shortcomings, trouble } = found;
        let mut seen = self.seen();
        for told in shortcomings.iter().filter(|told| !seen.shortcomings.contains(told)) {
            tracing::warn!("{told}");
        }
        if let Some(told) = trouble.as_ref().filter(|told| seen.trouble.as_ref() != Some(told)) {
            tracing::error!("schedules: {told}");
        }
        (seen.table, seen.shortcomings, seen.trouble) = (table, shortcomings, trouble);
        if let Some(images) = images {
            (seen.images, seen.counted) = (Some(Arc::new(images)), Some(Instant::now()));
        }
    }
}
