//! The bytes between what is acknowledged and how far ahead is written.
//!
//! libssh2 cuts a write into packets, sends all of them and returns what of it was acknowledged; packets on their way it
//! remembers. So each call gets the bytes from the first unacknowledged one on, as far ahead as the line needs to stay
//! full. That is what makes a long line as fast as a short one: blocks written one by one wait for each other.

use std::time::Duration;

use super::super::content::Content;
use crate::error::Result;

/// The least and the most bytes ahead.
const LEAST: usize = 4 << 20;
const MOST: usize = 16 << 20;
/// The file is read in pieces of at least this size.
const PIECE: usize = 256 << 10;

/// Bytes ahead for a line of this speed (bytes a second) and round trip: twice what is on its way.
pub(super) fn ahead(speed: u64, round_trip: Duration) -> usize {
    let bytes = u128::from(speed) * round_trip.as_micros() * 2 / 1_000_000;
    usize::try_from(bytes).unwrap_or(MOST).clamp(LEAST, MOST)
}

/// A part of a file in memory: never more than twice the bytes ahead.
pub(super) struct Window {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Where in the file `end` is.
    next: u64,
    ahead: usize,
}

impl Window {
    /// A window at this offset of the file.
    pub(super) fn at(offset: u64) -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, next: offset, ahead: LEAST }
    }

    /// Looks further ahead, or less far; what is in memory stays.
    pub(super) fn set_ahead(&mut self, ahead: usize) {
        self.ahead = ahead;
    }

    /// Reads as far ahead as is wanted.
    pub(super) fn fill(&mut self, content: &Content) -> Result<()> {
        let have = self.end - self.start;
        if have + PIECE > self.ahead || self.next == content.size() {
            return Ok(());
        }
        let wanted = self.ahead - have;
        if self.bytes.len() < self.end + wanted {
            self.bytes.copy_within(self.start..self.end, 0);
            self.start = 0;
            self.end = have;
            if self.bytes.len() < 2 * self.ahead {
                self.bytes.resize(2 * self.ahead, 0);
            }
        }
        let count = content.read_at(&mut self.bytes[self.end..self.end + wanted], self.next)?;
        self.end += count;
        self.next += count as u64;
        Ok(())
    }

    /// The bytes from the first unacknowledged one on.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// So many more are acknowledged.
    pub(super) fn acknowledge(&mut self, count: usize) {
        self.start += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_shows_every_byte_once_and_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("content");
        let size = (LEAST * 3 + 12_345) as u64;
        let bytes: Vec<u8> = (0..size).map(|at| ((at * 31) >> 3).to_le_bytes()[0]).collect();
        crate::host::fs::write_atomic(&path, 0o600, &bytes).unwrap();
        let content = Content::open(&path, size, crate::vocab::Digest::of(&bytes)).unwrap();
        let mut window = Window::at(7);
        let (mut seen, mut step) = (Vec::new(), 30_000);
        loop {
            window.fill(&content).unwrap();
            if window.bytes().is_empty() {
                break;
            }
            let count = step.min(window.bytes().len());
            seen.extend_from_slice(&window.bytes()[..count]);
            window.acknowledge(count);
            step = step % 700_000 + 30_000;
            assert!(window.bytes.len() <= 2 * LEAST);
        }
        assert!(seen == bytes[7..]);
    }

    #[test]
    fn how_far_ahead() {
        assert_eq!(ahead(1 << 20, Duration::from_millis(1)), LEAST);
        assert_eq!(ahead(125_000_000, Duration::from_millis(40)), 10_000_000);
        assert_eq!(ahead(u64::MAX, Duration::from_secs(9)), MOST);
    }
}
