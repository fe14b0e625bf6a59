//! SHA-256 on a second thread, while the first one reads or writes.
//!
//! A ring of four 256 KiB buffers goes round between the two; nothing is allocated once it turns. The hash costs about
//! 0.8 s of CPU per GB with the processor's own instructions, so it is the longest stage of a pack: beside it,
//! everything else is free.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use sha2::Digest as _;

use crate::error::{Context as _, Error, Kind, Result, from_io};
use crate::rootfs::ReadAt;
use crate::rootfs::tar::Input;
use crate::vocab::Digest;

pub(super) const CHUNK: usize = 256 * 1024;
const RING: usize = 4;

/// A buffer and how much of it is filled.
type Filled = (Vec<u8>, usize);

/// The thread that hashes, and the two channels buffers travel on.
struct HashThread {
    full: SyncSender<Filled>,
    empty: Receiver<Vec<u8>>,
    thread: JoinHandle<[u8; 32]>,
}

impl HashThread {
    /// The running thread and the first buffer to fill.
    fn start() -> Result<(Self, Vec<u8>)> {
        let (full, to_hash) = sync_channel::<Filled>(RING);
        let (give_back, empty) = sync_channel::<Vec<u8>>(RING);
        for _ in 1..RING {
            give_back.send(vec![0; CHUNK]).map_err(|_| lost())?;
        }
        let thread = std::thread::Builder::new()
            .name("sha256".to_owned())
            .spawn(move || {
                let mut hash = sha2::Sha256::new();
                while let Ok((buffer, used)) = to_hash.recv() {
                    hash.update(&buffer[..used]);
                    if give_back.send(buffer).is_err() {
                        break;
                    }
                }
                hash.finalize().into()
            })
            .context(|| "cannot start the hashing thread")?;
        Ok((Self { full, empty, thread }, vec![0; CHUNK]))
    }

    /// Hands a filled buffer over and takes an empty one.
    fn exchange(&self, buffer: Vec<u8>, used: usize) -> io::Result<Vec<u8>> {
        self.full.send((buffer, used)).map_err(|_| lost())?;
        Ok(self.empty.recv().map_err(|_| lost())?)
    }

    /// The digest of all that was handed over.
    fn finish(self, buffer: Vec<u8>, used: usize) -> Result<Digest> {
        let Self { full, empty, thread } = self;
        full.send((buffer, used)).map_err(|_| lost())?;
        drop(full);
        // The thread may still want to give buffers back: keep the receiver until it is done.
        let digest = thread.join().map_err(|_| lost())?;
        drop(empty);
        Ok(Digest::from_bytes(digest))
    }
}

fn lost() -> Error {
    Error::new(Kind::Failed, "the hashing thread ended before its work was done")
}

/// Passes bytes on to `W` in large pieces and hashes them on a second thread.
pub struct HashingWriter<W: Write> {
    out: W,
    buffer: Vec<u8>,
    used: usize,
    count: u64,
    failed: bool,
    hash: HashThread,
}

impl<W: Write> HashingWriter<W> {
    /// A writer in front of `out`.
    pub fn new(out: W) -> Result<Self> {
        let (hash, buffer) = HashThread::start()?;
        Ok(Self { out, buffer, used: 0, count: 0, failed: false, hash })
    }

    /// How many bytes were written so far.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// What was written to, the digest of all bytes and their number.
    pub fn finish(mut self) -> Result<(W, Digest, u64)> {
        self.refuse_after_failure().and_then(|()| self.out.write_all(&self.buffer[..self.used])).map_err(wrong)?;
        self.out.flush().map_err(wrong)?;
        let digest = self.hash.finish(self.buffer, self.used)?;
        Ok((self.out, digest, self.count))
    }

    fn refuse_after_failure(&self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("an earlier write failed"));
        }
        Ok(())
    }

    fn pass_on(&mut self) -> io::Result<()> {
        self.refuse_after_failure()?;
        if self.used == 0 {
            return Ok(());
        }
        self.failed = true; // until both halves have worked: half-written bytes must not be written again
        self.out.write_all(&self.buffer[..self.used])?;
        self.buffer = self.hash.exchange(std::mem::take(&mut self.buffer), self.used)?;
        self.used = 0;
        self.failed = false;
        Ok(())
    }
}

fn wrong(error: io::Error) -> Error {
    from_io(error, || "cannot write".to_owned())
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.used == CHUNK {
            self.pass_on()?;
        }
        self.refuse_after_failure()?;
        let count = bytes.len().min(CHUNK - self.used);
        self.buffer[self.used..self.used + count].copy_from_slice(&bytes[..count]);
        self.used += count;
        self.count += count as u64;
        Ok(count)
    }

    /// Passes on what is buffered; only ever needed by a reader at the other end.
    fn flush(&mut self) -> io::Result<()> {
        self.pass_on()?;
        self.out.flush()
    }
}

/// Reads a source from its start to its end and hashes every byte on a second thread.
///
/// Skipping with [`BufRead::consume`] copies nothing.
pub struct VerifyingReader<'source> {
    source: &'source dyn ReadAt,
    offset: u64,
    buffer: Vec<u8>,
    used: usize,
    position: usize,
    hash: HashThread,
}

impl<'source> VerifyingReader<'source> {
    /// A reader at the start of `source`.
    pub fn new(source: &'source dyn ReadAt) -> Result<Self> {
        let (hash, buffer) = HashThread::start()?;
        Ok(Self { source, offset: 0, buffer, used: 0, position: 0, hash })
    }

    /// How many bytes were taken so far.
    pub fn taken(&self) -> u64 {
        self.offset - (self.used - self.position) as u64
    }

    /// Reads what is left; the digest of the whole source and its length.
    pub fn finish(mut self) -> Result<(Digest, u64)> {
        loop {
            self.position = self.used;
            if self.fill_buf().map_err(|error| from_io(error, || "cannot read to the end".to_owned()))?.is_empty() {
                break;
            }
        }
        Ok((self.hash.finish(self.buffer, 0)?, self.offset))
    }
}

impl BufRead for VerifyingReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.used {
            if self.used > 0 {
                let used = std::mem::take(&mut self.used);
                self.position = 0;
                self.buffer = self.hash.exchange(std::mem::take(&mut self.buffer), used)?;
            }
            let left = usize::try_from(self.source.size().saturating_sub(self.offset)).unwrap_or(usize::MAX);
            let wanted = left.min(CHUNK);
            self.source.read_exact_at(&mut self.buffer[..wanted], self.offset)?;
            self.used = wanted;
            self.offset += wanted as u64;
        }
        Ok(&self.buffer[self.position..self.used])
    }

    fn consume(&mut self, count: usize) {
        self.position = (self.position + count).min(self.used);
    }
}

impl Read for VerifyingReader<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let count = ready.len().min(bytes.len());
        bytes[..count].copy_from_slice(&ready[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// What is skipped is hashed, but not copied.
impl Input for &mut VerifyingReader<'_> {
    fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(filled)
    }

    fn skip(&mut self, count: u64) -> io::Result<u64> {
        let mut left = count;
        while left > 0 {
            let ready = self.fill_buf()?.len();
            if ready == 0 {
                break;
            }
            let passed = usize::try_from(left).unwrap_or(usize::MAX).min(ready);
            self.consume(passed);
            left -= passed as u64;
        }
        Ok(count - left)
    }
}

/// Refuses a layer whose content is not what its description says.
pub(super) fn compare(wanted: Digest, found: Digest, what: &str) -> Result<()> {
    if wanted == found {
        return Ok(());
    }
    Err(Error::new(
        Kind::Corrupt,
        format!("a layer is not what its {what} says: `{wanted}` is wanted, `{found}` found"),
    )
    .hint("the image is damaged or was tampered with: fetch or save it again"))
}
