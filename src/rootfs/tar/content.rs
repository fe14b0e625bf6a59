//! The logical bytes of a file: what is stored, and zeros where nothing is.

use std::io::{self, Read};

use crate::rootfs::{EntryKind, ReadAt};

use super::Member;

/// Reads a file's content as a program on the unpacked file would.
#[derive(Debug)]
pub struct Content<S> {
    source: S,
    /// Stored parts: (offset in the file, length), in order.
    segments: Vec<(u64, u64)>,
    /// The part the position is before or in.
    next: usize,
    /// Where in the source the data of part `next` begins.
    stored: u64,
    position: u64,
    size: u64,
}

/// The logical content of a member; empty for everything but files.
pub fn content<S: ReadAt>(source: S, member: &Member) -> Content<S> {
    let size = match member.entry.kind {
        EntryKind::File { size } => size,
        _ => 0,
    };
    let (segments, map_bytes) = match &member.sparse {
        Some(sparse) => (sparse.segments().to_vec(), sparse.map_bytes()),
        None => (vec![(0, size)], 0),
    };
    Content { source, segments, next: 0, stored: member.span.data + map_bytes, position: 0, size }
}

impl<S> Content<S> {
    /// How many bytes there are in all.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl<S: ReadAt> Read for Content<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some((offset, length)) = self.segments.get(self.next) {
            if self.position < offset + length {
                break;
            }
            self.stored += length;
            self.next += 1;
        }
        let (hole_end, data) = match self.segments.get(self.next) {
            Some((offset, length)) => (*offset, Some((*offset, *length))),
            None => (self.size, None),
        };
        if self.position < hole_end {
            let count = within(buffer.len(), hole_end - self.position);
            buffer[..count].fill(0);
            self.position += count as u64;
            return Ok(count);
        }
        let Some((offset, length)) = data else { return Ok(0) };
        let inside = self.position - offset;
        let want = within(buffer.len(), length - inside);
        let count = self.source.read_at(&mut buffer[..want], self.stored + inside)?;
        if count == 0 && want > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

fn within(length: usize, most: u64) -> usize {
    usize::try_from(most).map_or(length, |most| length.min(most))
}
