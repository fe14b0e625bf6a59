//! Global PAX records: those that count for every member behind them.

use std::sync::Arc;

use crate::error::Kind;
use crate::rootfs::Limits;

use super::Fault;
use super::extended::Extended;
use super::pax::Records;

/// The most bytes of global records: they count for every member behind them.
pub(super) const GLOBAL_BYTES: u64 = 64 << 10;

/// The global PAX records of an archive, by where they come into force. Mostly there are none.
#[derive(Clone, Debug, Default)]
pub struct Globals {
    changes: Vec<(u64, Arc<Records>)>,
    /// What all of them take.
    bytes: u64,
}

impl Globals {
    /// Whether there is no global record in the archive.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The records in force for what stands at this offset, if there are any.
    pub(super) fn at(&self, offset: u64) -> Option<&Arc<Records>> {
        let behind = self.changes.partition_point(|(from, _)| *from <= offset);
        self.changes[..behind].last().map(|(_, records)| records).filter(|records| !records.is_empty())
    }

    /// What is in force for what stands at this offset, and nothing else.
    pub(super) fn only_at(&self, offset: u64) -> Self {
        Self { changes: self.at(offset).map(|records| (0, Arc::clone(records))).into_iter().collect(), bytes: 0 }
    }

    /// What the records at this offset say of a member that says nothing itself.
    pub(super) fn template(&self, offset: u64) -> Result<Extended, String> {
        let mut template = Extended::default();
        for (key, value) in self.at(offset).into_iter().flat_map(|records| records.iter()) {
            template.apply(key, value)?;
        }
        Ok(template)
    }

    /// Adds the content of a global header that ends at this offset to what is in force.
    pub(super) fn add(&mut self, offset: u64, content: &[u8], limits: &Limits) -> Result<(), Fault> {
        let last = self.changes.last().map(|(_, records)| records.as_ref());
        let mut records = last.cloned().unwrap_or_default();
        records.apply_all(content)?;
        // A remark, such as the commit `git archive` names, changes no member.
        records.remove(b"comment");
        if last.map_or(records.is_empty(), |last| *last == records) {
            return Ok(());
        }
        let bytes = records.bytes();
        self.bytes = self.bytes.saturating_add(bytes);
        if bytes > GLOBAL_BYTES || self.bytes > limits.header_bytes {
            return Err(Fault::Wrong(Kind::Limit, "too many global records".to_owned()));
        }
        self.changes.push((offset, Arc::new(records)));
        Ok(())
    }
}
