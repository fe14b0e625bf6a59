//! Where a scanner takes headers from: a stream that is read to the end, or bytes that can be read anywhere.

use std::io::{self, Read};

use crate::rootfs::ReadAt;

/// Bytes in order, of which some can be skipped.
pub trait Input {
    /// Reads until the buffer is full or the input ends; the number of bytes read.
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Passes over bytes; the number passed over, less than asked for only at the end.
    fn skip(&mut self, count: u64) -> io::Result<u64>;
}

/// A stream: what is skipped is read, so whoever wraps the stream (a hasher, a spool) sees every byte. Headers are read
/// block by block: give it a buffered stream.
#[derive(Debug)]
pub struct Sequential<R> {
    stream: R,
    scratch: Box<[u8]>,
}

impl<R: Read> Sequential<R> {
    /// Reads this stream.
    pub fn new(stream: R) -> Self {
        Self { stream, scratch: vec![0; 64 << 10].into_boxed_slice() }
    }

    /// Reads whatever is left, such as what stands behind an archive's end; the number of bytes.
    pub fn drain(&mut self) -> io::Result<u64> {
        self.skip(u64::MAX)
    }

    /// The stream, positioned where reading stopped.
    pub fn into_inner(self) -> R {
        self.stream
    }
}

impl<R: Read> Input for Sequential<R> {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_full(&mut self.stream, buffer)
    }

    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut left = count;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(self.scratch.len());
            let got = read_full(&mut self.stream, &mut self.scratch[..want])?;
            left -= got as u64;
            if got < want {
                break;
            }
        }
        Ok(count - left)
    }
}

fn read_full(stream: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The first read after a jump: an extended header, its records and the block it belongs to mostly fit.
const READ_LEAST: usize = 2 << 10;
/// Reads in a row grow to this.
const READ_MOST: usize = 64 << 10;

/// Bytes that can be read anywhere: what is skipped beyond the little that was read ahead is never read.
pub struct Positioned<'a> {
    source: &'a dyn ReadAt,
    /// Where the next read from the source begins.
    ahead: u64,
    buffer: Box<[u8]>,
    /// What of the buffer is not consumed.
    start: usize,
    end: usize,
    /// How much to read next time: more while headers are close together, little after a jump.
    read: usize,
}

impl<'a> Positioned<'a> {
    /// Reads this source from `offset`.
    pub fn new(source: &'a dyn ReadAt, offset: u64) -> Self {
        Self::with_capacity(source, offset, READ_MOST)
    }

    /// The same for a single member.
    pub(super) fn small(source: &'a dyn ReadAt, offset: u64) -> Self {
        Self::with_capacity(source, offset, READ_LEAST)
    }

    fn with_capacity(source: &'a dyn ReadAt, offset: u64, capacity: usize) -> Self {
        let buffer = vec![0; capacity].into_boxed_slice();
        Self { source, ahead: offset, buffer, start: 0, end: 0, read: READ_LEAST }
    }
}

impl Input for Positioned<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            if self.start == self.end {
                let want = self.read.min(self.buffer.len());
                let got = match self.source.read_at(&mut self.buffer[..want], self.ahead) {
                    Ok(0) => break,
                    Ok(got) => got,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                self.ahead += got as u64;
                (self.start, self.end) = (0, got);
                self.read = (self.read * 2).min(READ_MOST);
            }
            let count = (buffer.len() - filled).min(self.end - self.start);
            buffer[filled..filled + count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            self.start += count;
            filled += count;
        }
        Ok(filled)
    }

    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let buffered = (self.end - self.start) as u64;
        if count <= buffered {
            self.start += usize::try_from(count).unwrap_or(self.end - self.start);
            return Ok(count);
        }
        (self.start, self.end) = (0, 0);
        let jump = (count - buffered).min(self.source.size().saturating_sub(self.ahead));
        self.ahead += jump;
        self.read = READ_LEAST;
        Ok(buffered + jump)
    }
}

impl std::fmt::Debug for Positioned<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Positioned").field("ahead", &self.ahead).finish_non_exhaustive()
    }
}
