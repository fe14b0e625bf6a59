//! What a request carries: nothing, a text, or a part of a file that is read as it goes out.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context as TaskContext, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use crate::error::{Error, Result};

/// Bytes read at a time.
const PIECE: usize = 256 << 10;

/// Fills a buffer with what stands at an offset; less at the end only.
pub type Reader = Box<dyn Fn(&mut [u8], u64) -> Result<usize> + Send>;

/// What a request carries.
pub enum Outgoing {
    /// Nothing.
    Nothing,
    /// A text.
    Text(&'static str),
    /// The bytes from one offset to another.
    Part {
        /// Reads them.
        read: Reader,
        /// The first one.
        from: u64,
        /// The one behind the last.
        to: u64,
    },
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Outgoing({} bytes)", self.length())
    }
}

impl Outgoing {
    /// How many bytes that is.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Nothing => 0,
            Self::Text(text) => text.len() as u64,
            Self::Part { from, to, .. } => to - from,
        }
    }
}

/// A request's body, read from the file as it goes out.
pub(super) struct PartBody {
    outgoing: Outgoing,
    gone: Arc<AtomicU64>,
}

impl PartBody {
    /// `gone` counts the bytes that were taken out.
    pub(super) fn new(outgoing: Outgoing, gone: Arc<AtomicU64>) -> Self {
        Self { outgoing, gone }
    }

    fn read(&mut self) -> Option<Result<Bytes>> {
        match std::mem::replace(&mut self.outgoing, Outgoing::Nothing) {
            Outgoing::Nothing => None,
            Outgoing::Text(text) => {
                self.gone.fetch_add(text.len() as u64, Ordering::Relaxed);
                Some(Ok(Bytes::from_static(text.as_bytes())))
            }
            Outgoing::Part { from, to, .. } if from == to => None,
            Outgoing::Part { read, from, to } => {
                let length = usize::try_from(to - from).unwrap_or(PIECE).min(PIECE);
                let mut bytes = vec![0; length];
                if let Err(error) = read(&mut bytes, from) {
                    return Some(Err(error));
                }
                self.gone.fetch_add(length as u64, Ordering::Relaxed);
                self.outgoing = Outgoing::Part { read, from: from + length as u64, to };
                Some(Ok(bytes.into()))
            }
        }
    }
}

impl Body for PartBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        Poll::Ready(self.read().map(|bytes| bytes.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        match &self.outgoing {
            Outgoing::Nothing => true,
            Outgoing::Text(_) => false,
            Outgoing::Part { from, to, .. } => from == to,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.outgoing.length())
    }
}
