//! Bytes that can be read anywhere, as often as wanted: what the merge reads its layers from.

use std::io;
use std::os::unix::fs::FileExt as _;

/// Random access to bytes that do not change meanwhile.
pub trait ReadAt: Send + Sync {
    /// Reads at most `buffer.len()` bytes at `offset`; 0 at or behind the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// The number of bytes there are.
    fn size(&self) -> u64;

    /// Fills the buffer from `offset` or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    buffer = &mut buffer[count..];
                    offset += count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.len());
        let count = buffer.len().min(self.len() - start);
        buffer[..count].copy_from_slice(&self[start..start + count]);
        Ok(count)
    }

    fn size(&self) -> u64 {
        self.len() as u64
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }

    fn size(&self) -> u64 {
        (**self).size()
    }
}

impl<T: ReadAt + ?Sized> ReadAt for std::sync::Arc<T> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }

    fn size(&self) -> u64 {
        (**self).size()
    }
}

/// A part of an open file.
#[derive(Debug)]
pub struct FileRegion {
    /// The open file.
    pub file: std::sync::Arc<std::fs::File>,
    /// Where the part starts in the file.
    pub start: u64,
    /// How long the part is.
    pub size: u64,
}

impl ReadAt for FileRegion {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let count = buffer.len().min(left);
        self.file.read_at(&mut buffer[..count], self.start + offset)
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// Limits that keep hostile input from exhausting the machine.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most entries an archive or tree may have.
    pub entries: u64,
    /// The most bytes of extended headers (PAX, GNU long names) one entry may have.
    pub header_bytes: u64,
    /// The most bytes of a path or link target (`PATH_MAX` on Linux is 4096).
    pub path_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entries: 8_000_000, header_bytes: 1 << 20, path_bytes: 4096 }
    }
}
