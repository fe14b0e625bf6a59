//! Sparse files: which parts of one are stored, in each of the four forms GNU tar has had.

use crate::error::{Error, Kind, Result};

use super::Fault;
use super::block::{self, BLOCK, BLOCK64, Block};
use super::extended::SparseRecords;

/// Which bytes of a file are stored, in order; everything else of it is zeros.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SparseMap {
    segments: Vec<(u64, u64)>,
    real_size: u64,
    /// Bytes of the map itself at the start of the stored content (PAX form 1.0).
    map_bytes: u64,
}

impl SparseMap {
    /// A map of a file of `real_size` bytes that stores at least these parts (offset, length), to be written in PAX form
    /// 1.0. The parts must be in order, apart from each other and inside the file.
    ///
    /// What is stored is [`SparseMap::segments`]: parts are widened to whole blocks, since GNU tar reads each from the
    /// beginning of a block where others read on; and a hole at the end becomes an empty part there, without which GNU
    /// tar makes the file too short.
    pub fn new(parts: Vec<(u64, u64)>, real_size: u64) -> Result<Self> {
        let parts = Self::checked(parts, real_size).map_err(|problem| Error::new(Kind::Corrupt, problem))?.segments;
        let mut segments: Vec<(u64, u64)> = Vec::with_capacity(parts.len() + 1);
        for (offset, length) in parts.into_iter().filter(|(_, length)| *length > 0) {
            let start = offset / BLOCK64 * BLOCK64;
            // No overflow: `checked` keeps all of it below 2^63.
            let end = (offset + length).next_multiple_of(BLOCK64).min(real_size);
            match segments.last_mut() {
                Some(last) if last.0 + last.1 >= start => last.1 = end - last.0,
                _ => segments.push((start, end - start)),
            }
        }
        Ok(Self { segments, real_size, map_bytes: 0 }.in_content())
    }

    /// The same map for PAX form 1.0, whatever form it was read from.
    pub(super) fn in_content(&self) -> Self {
        let mut map = self.clone();
        if map.segments.last().map_or(0, |(offset, length)| offset + length) < map.real_size {
            map.segments.push((map.real_size, 0));
        }
        map.map_bytes = map.text().len() as u64;
        map
    }

    /// The same parts with the smallest holes stored as zeros, so that at most `segments` remain: Go's reader, which
    /// is the engines', takes a map of 1 MiB at most.
    #[must_use]
    pub fn at_most(self, segments: usize) -> Self {
        let excess = self.segments.len().saturating_sub(segments.max(1));
        if excess == 0 {
            return self;
        }
        let gap = |index: usize| self.segments[index].0 - (self.segments[index - 1].0 + self.segments[index - 1].1);
        let mut by_gap: Vec<usize> = (1..self.segments.len()).collect();
        by_gap.sort_by_key(|index| (gap(*index), *index));
        let mut joined = vec![false; self.segments.len()];
        for index in &by_gap[..excess] {
            joined[*index] = true;
        }
        let mut fewer: Vec<(u64, u64)> = Vec::with_capacity(segments);
        for (segment, joins) in self.segments.iter().zip(joined) {
            match fewer.last_mut() {
                Some(last) if joins => last.1 = segment.0 + segment.1 - last.0,
                _ => fewer.push(*segment),
            }
        }
        Self { segments: fewer, real_size: self.real_size, map_bytes: 0 }.in_content()
    }

    /// The stored parts, (offset in the file, length), in order; a part may be empty.
    pub fn segments(&self) -> &[(u64, u64)] {
        &self.segments
    }

    /// The logical length of the file.
    pub fn real_size(&self) -> u64 {
        self.real_size
    }

    /// How many bytes at the start of the stored content are the map, not data.
    pub fn map_bytes(&self) -> u64 {
        self.map_bytes
    }

    /// How many bytes are stored: the map and all parts.
    pub fn stored(&self) -> u64 {
        // Parts lie inside the file, apart from each other: their sum is at most its size.
        self.map_bytes + self.segments.iter().map(|(_, length)| length).sum::<u64>()
    }

    /// The map as it stands at the start of the content in PAX form 1.0.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = format!("{}\n", self.segments.len()).into_bytes();
        for (offset, length) in &self.segments {
            text.extend_from_slice(format!("{offset}\n{length}\n").as_bytes());
        }
        text.resize(text.len().next_multiple_of(BLOCK), 0);
        text
    }

    fn checked(segments: Vec<(u64, u64)>, real_size: u64) -> Result<Self, String> {
        if i64::try_from(real_size).is_err() {
            return Err(format!("a sparse file of {real_size} bytes, more than any file system holds"));
        }
        let mut end = 0;
        for (offset, length) in &segments {
            let next = offset.checked_add(*length).filter(|next| *offset >= end && *next <= real_size);
            end = next.ok_or_else(|| {
                format!(
                    "the stored part at {offset} of {length} bytes overlaps another or leaves the file of {real_size}"
                )
            })?;
        }
        Ok(Self { segments, real_size, map_bytes: 0 })
    }

    fn checked_against(segments: Vec<(u64, u64)>, real_size: u64, map_bytes: u64, stored: u64) -> Result<Self, String> {
        let mut map = Self::checked(segments, real_size)?;
        map.map_bytes = map_bytes;
        if map.segments.iter().map(|(_, length)| length).sum::<u64>().checked_add(map_bytes) != Some(stored) {
            return Err(format!("the sparse map does not add up to the {stored} bytes that are stored"));
        }
        Ok(map)
    }
}

/// The forms PAX records announce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PaxForm {
    /// 0.0 and 0.1: the map is in the records.
    InRecords,
    /// 1.0: the map is at the start of the content.
    InContent,
}

/// Which form the records announce, if any.
pub(super) fn pax_form(records: &SparseRecords) -> Result<Option<PaxForm>, String> {
    match (records.major, records.minor) {
        (None, None) if records.map.is_none() && records.numbers.is_empty() => Ok(None),
        (None, None) | (Some(0), Some(0 | 1)) => Ok(Some(PaxForm::InRecords)),
        (Some(1), Some(0)) => Ok(Some(PaxForm::InContent)),
        (major, minor) => {
            let shown = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |number| number.to_string());
            Err(format!("unknown sparse form {}.{}", shown(major), shown(minor)))
        }
    }
}

/// The map in the records of forms 0.0 and 0.1.
pub(super) fn from_records(records: &SparseRecords, stored: u64) -> Result<SparseMap, String> {
    let numbers = match &records.map {
        Some(map) => map
            .split(|byte| *byte == b',')
            .map(super::pax::parse_unsigned)
            .collect::<Option<Vec<u64>>>()
            .ok_or("the record `GNU.sparse.map` is not a list of numbers")?,
        None => records.numbers.clone(),
    };
    SparseMap::checked_against(pairs(&numbers)?, real_size(records)?, 0, stored)
}

fn real_size(records: &SparseRecords) -> Result<u64, String> {
    records.real_size.ok_or_else(|| "a sparse file without its real size".to_owned())
}

fn pairs(numbers: &[u64]) -> Result<Vec<(u64, u64)>, String> {
    if !numbers.len().is_multiple_of(2) {
        return Err("a sparse map ends behind an offset".to_owned());
    }
    Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
}

/// Reads the map of form 1.0 block by block; `next_block` gives the content's next block, none at its end.
pub(super) fn from_content(
    records: &SparseRecords,
    stored: u64,
    mut next_block: impl FnMut() -> Result<Block>,
) -> Result<SparseMap, Fault> {
    let mut numbers: Vec<u64> = Vec::new();
    let mut count: Option<u64> = None;
    let mut map_bytes = 0;
    let mut digits = Vec::with_capacity(20);
    while count.is_none_or(|count| numbers.len() as u64 / 2 < count) {
        map_bytes += BLOCK64;
        if map_bytes > stored {
            return Err("the sparse map is longer than the content".into());
        }
        for byte in next_block()? {
            if count.is_some_and(|count| numbers.len() as u64 / 2 >= count) {
                break;
            }
            if byte != b'\n' {
                digits.push(byte);
                if digits.len() > 20 {
                    return Err("a number in the sparse map is too long".into());
                }
                continue;
            }
            let number = super::pax::parse_unsigned(&digits).ok_or("a line of the sparse map is not a number")?;
            digits.clear();
            match count {
                None => count = Some(number),
                Some(_) => numbers.push(number),
            }
        }
    }
    Ok(SparseMap::checked_against(pairs(&numbers)?, real_size(records)?, map_bytes, stored)?)
}

const GNU_REAL_SIZE: std::ops::Range<usize> = 483..495;

/// Reads old GNU's map: four parts in the header block, 21 in each of the blocks that `next_block` gives.
pub(super) fn from_old_gnu(
    header: &Block,
    stored: u64,
    mut next_block: impl FnMut() -> Result<Block>,
) -> Result<SparseMap, Fault> {
    let mut segments = Vec::new();
    add_old_gnu(&header[386..482], &mut segments)?;
    let mut extended = header[482] != 0;
    while extended {
        let block = next_block()?;
        add_old_gnu(&block[..504], &mut segments)?;
        extended = block[504] != 0;
    }
    let real_size = block::number(&header[GNU_REAL_SIZE]).and_then(|size| u64::try_from(size).ok());
    let real_size = real_size.ok_or("the real size of a sparse file is not a number")?;
    Ok(SparseMap::checked_against(segments, real_size, 0, stored)?)
}

/// Adds the parts of one table, which ends with the first that has no offset.
fn add_old_gnu(table: &[u8], segments: &mut Vec<(u64, u64)>) -> Result<(), &'static str> {
    for part in table.chunks_exact(24).take_while(|part| part[0] != 0) {
        let field = |bytes| block::number(bytes).and_then(|number| u64::try_from(number).ok());
        let (Some(offset), Some(length)) = (field(&part[..12]), field(&part[12..])) else {
            return Err("a number in the sparse table is malformed");
        };
        segments.push((offset, length));
    }
    Ok(())
}
