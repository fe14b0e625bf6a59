//! What has been sent so far, over all connections of one upload: for the journal, the result and whoever watches.

use super::remote::Written;
use crate::error::Result;
use crate::progress::Stage;

/// Safe bytes are told to the journal in these steps.
const JOURNAL_STEP: u64 = 64 << 20;
/// A resumed write begins on such a boundary, and one step before: servers that write in parallel may leave a hole.
const MARGIN: u64 = 1 << 20;

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Where the first write began.
    pub from: u64,
    /// Bytes sent, those twice that were sent twice.
    pub sent: u64,
    /// Whether the far side says that the file is durable.
    pub synced: bool,
    /// How often the connection was lost and made anew.
    pub reconnected: u32,
}

/// The count of one upload.
pub(super) struct Tally<'a> {
    stage: Stage,
    journal: &'a mut dyn FnMut(u64) -> Result<()>,
    /// All below is safe there.
    pub(super) safe: u64,
    /// Whether this side ended the write: the journal failed, or somebody asked.
    pub(super) refused: bool,
    /// What the result says.
    pub(super) sent: Sent,
    begun: bool,
    last: u64,
    shown: u64,
}

impl<'a> Tally<'a> {
    /// A count that begins with what an earlier run was told.
    pub(super) fn new(stage: Stage, journal: &'a mut dyn FnMut(u64) -> Result<()>, safe: u64) -> Self {
        Self { stage, journal, safe, refused: false, sent: Sent::default(), begun: false, last: 0, shown: 0 }
    }

    /// Where to write from on a new connection, with so many bytes there.
    pub(super) fn begin(&mut self, there: u64) -> u64 {
        let from = start(there, self.safe);
        if !self.begun {
            self.begun = true;
            self.sent.from = from;
            // What an earlier run sent counts as done.
            self.show(from);
        }
        self.last = from;
        from
    }

    /// Takes what the write tells.
    pub(super) fn hear(&mut self, written: Written, size: u64) -> Result<()> {
        match written {
            Written::From(offset) => {
                self.last = offset;
                self.sent.from = self.sent.from.min(offset);
            }
            Written::Gone(offset) => self.count(offset),
            Written::Safe(offset) => {
                self.count(offset);
                self.keep(offset, size)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, offset: u64) {
        self.sent.sent += offset.saturating_sub(self.last);
        self.last = self.last.max(offset);
        self.show(offset);
    }

    fn keep(&mut self, offset: u64, size: u64) -> Result<()> {
        if offset <= self.safe {
            return Ok(());
        }
        let due = offset / JOURNAL_STEP > self.safe / JOURNAL_STEP || offset == size;
        self.safe = offset;
        if due { (self.journal)(offset) } else { Ok(()) }
    }

    fn show(&mut self, offset: u64) {
        if offset > self.shown {
            self.stage.advance(offset - self.shown);
            self.shown = offset;
        }
    }
}

/// Where to go on writing: nothing at or above what is both there and known to be safe, and a step before that.
fn start(there: u64, safe: u64) -> u64 {
    (there.min(safe) / MARGIN * MARGIN).saturating_sub(MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::{Progress, Unit};

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_write_begins_below_what_is_safe() {
        for (there, safe, from) in [
            (0, 0, 0),
            (5 * MIB, 0, 0),
            (0, 5 * MIB, 0),
            (5 * MIB, 5 * MIB, 4 * MIB),
            (5 * MIB + 7, 9 * MIB, 4 * MIB),
            (9 * MIB, 5 * MIB + 7, 4 * MIB),
            (MIB, MIB, 0),
        ] {
            assert_eq!(start(there, safe), from, "{there} {safe}");
        }
    }

    #[test]
    fn the_journal_hears_of_steps_and_the_end_and_bytes_sent_twice_count_twice() {
        let mut told = Vec::new();
        let mut journal = |offset| {
            told.push(offset / MIB);
            Ok(())
        };
        let stage = Progress::silent().stage("test", None, Unit::Bytes);
        let mut tally = Tally::new(stage, &mut journal, 30 * MIB);
        assert_eq!(tally.begin(40 * MIB), 29 * MIB);
        for written in [
            Written::Gone(50 * MIB),
            Written::Safe(50 * MIB),
            Written::Safe(70 * MIB),
            Written::From(0),
            Written::Gone(80 * MIB),
            Written::Safe(127 * MIB),
            Written::Safe(129 * MIB),
            Written::Safe(130 * MIB),
        ] {
            tally.hear(written, 130 * MIB).unwrap();
        }
        assert_eq!((tally.sent.from, tally.sent.sent), (0, (70 - 29 + 130) * MIB));
        drop(tally);
        assert_eq!(told, [70, 129, 130]);
    }
}
