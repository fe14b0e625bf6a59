//! Uploading an archive: the producer writes on its own thread, a bounded channel is the request's body.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bollard::models::BuildInfo;
use bollard::query_parameters::ImportImageOptionsBuilder;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::client::Docker;
use super::failure::engine_error;
use super::images::id_of;
use super::types::Loaded;
use crate::error::{Error, Kind, Result};
use crate::progress::{Progress, Stage, Unit};
use crate::vocab::Digest;

/// Bytes a piece of the body has.
const PIECE: usize = 256 * 1024;

/// Pieces under way between producer and engine.
const UNDER_WAY: usize = 8;

type Piece = Result<Bytes, io::Error>;

/// The body's end of the channel; shared, so that it can be closed under a connection that nobody drives any more.
/// A producer blocked on a full channel would wait for ever otherwise.
type Pieces = Arc<Mutex<Option<mpsc::Receiver<Piece>>>>;

impl Docker {
    /// Uploads an archive in the form of `docker save`; `produce` writes it, `total` is its size where it is known.
    ///
    /// The producer's error breaks the upload off and is the one reported; it must come before the two zero blocks
    /// that end a tar, since an engine may act on those. The caller compares the IDs with what it meant to load
    /// before it gives a name to them.
    pub fn load<P>(&self, total: Option<u64>, progress: &Progress, produce: P) -> Result<Loaded>
    where
        P: FnOnce(&mut dyn Write) -> Result<()> + Send,
    {
        crate::host::fault::point("engine.docker.before-load");
        let (sender, receiver) = mpsc::channel::<Piece>(UNDER_WAY);
        let pieces: Pieces = Arc::new(Mutex::new(Some(receiver)));
        let stage = progress.stage("loading into the Docker engine", total, Unit::Bytes);
        let (produced, answered) = std::thread::scope(|scope| {
            let producer = scope.spawn(move || run_producer(sender, stage, produce));
            let answered = self.wait(self.upload(Arc::clone(&pieces)));
            drop(pieces.lock().unwrap_or_else(PoisonError::into_inner).take());
            (producer.join(), answered)
        });
        crate::host::fault::point("engine.docker.after-load");
        let panicked = |_| Error::new(Kind::Failed, "the producer of the archive panicked");
        let (bytes, unwanted) = match produced.map_err(panicked)? {
            Produced::Whole(bytes) => (bytes, None),
            Produced::Unwanted(bytes, error) => (bytes, Some(error)),
            Produced::Failed(error) => return Err(error),
        };
        let reported = answered?;
        if reported.lines.is_empty() {
            let error = Error::new(Kind::Unavailable, "the Docker engine did not say what it loaded");
            return Err(match unwanted {
                Some(cause) => error.caused_by(cause),
                None => error,
            });
        }
        let (ids, names) = self.resolve(reported)?;
        Ok(Loaded { ids, names, bytes })
    }

    async fn upload(&self, pieces: Pieces) -> Result<Reported> {
        let doing = || "the Docker engine did not take the image";
        let body = futures_util::stream::poll_fn(move |context| {
            match pieces.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                Some(receiver) => receiver.poll_recv(context),
                None => Poll::Ready(Some(Err(io::ErrorKind::BrokenPipe.into()))),
            }
        });
        let options = ImportImageOptionsBuilder::default().quiet(true).build();
        let mut answers = std::pin::pin!(self.client.import_image_stream(options, body, None));
        let mut reported = Reported::default();
        while let Some(answer) = answers.next().await {
            reported.note(&answer.map_err(|cause| engine_error(cause, doing()))?);
        }
        Ok(reported)
    }

    /// IDs and names of what was loaded; names are looked up, since an engine reports the one or the other.
    fn resolve(&self, reported: Reported) -> Result<(Vec<Digest>, Vec<String>)> {
        let (mut ids, mut names) = (Vec::new(), Vec::new());
        for line in reported.lines {
            match line {
                LoadedLine::Id(text) => ids.push(id_of(&text)?),
                LoadedLine::Name(text) => {
                    let image = self.inspect_image(&text.parse()?)?;
                    ids.push(image.map(|image| image.id).ok_or_else(|| {
                        Error::new(Kind::Conflict, format!("the Docker engine loaded `{text}`, but has it no more"))
                    })?);
                    names.push(text);
                }
            }
        }
        ids.sort_unstable();
        ids.dedup();
        Ok((ids, names))
    }
}

/// How the producer ended.
enum Produced {
    Whole(u64),
    /// The engine stopped reading: its answer is the better explanation.
    Unwanted(u64, Error),
    Failed(Error),
}

fn run_producer<P>(sender: mpsc::Sender<Piece>, stage: Stage, produce: P) -> Produced
where
    P: FnOnce(&mut dyn Write) -> Result<()>,
{
    let mut writer = BodyWriter { sender, stage, pending: BytesMut::with_capacity(PIECE), sent: 0, closed: false };
    let outcome = produce(&mut writer).and_then(|()| {
        writer.flush().map_err(|error| crate::error::from_io(error, || "cannot send the archive's end".to_owned()))
    });
    match outcome {
        Ok(()) => Produced::Whole(writer.sent),
        Err(error) if writer.closed => Produced::Unwanted(writer.sent, error),
        Err(error) => {
            // An error in place of a piece makes the client break the request off instead of ending it.
            let _engine_is_gone_already = writer.sender.blocking_send(Err(io::ErrorKind::Interrupted.into()));
            Produced::Failed(error)
        }
    }
}

/// The producer's end of the request's body.
struct BodyWriter {
    sender: mpsc::Sender<Piece>,
    stage: Stage,
    pending: BytesMut,
    sent: u64,
    closed: bool,
}

impl BodyWriter {
    fn send(&mut self) -> io::Result<()> {
        let piece = std::mem::replace(&mut self.pending, BytesMut::with_capacity(PIECE)).freeze();
        let size = piece.len() as u64;
        self.sender.blocking_send(Ok(piece)).map_err(|_| {
            self.closed = true;
            io::Error::new(io::ErrorKind::BrokenPipe, "the Docker engine stopped reading")
        })?;
        self.sent += size;
        self.stage.advance(size);
        Ok(())
    }
}

impl Write for BodyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.pending.len());
        self.pending.extend_from_slice(&bytes[..count]);
        if self.pending.len() == PIECE {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { self.send() }
    }
}

/// What the engine said about the upload.
#[derive(Debug, Default, PartialEq)]
struct Reported {
    lines: Vec<LoadedLine>,
}

#[derive(Debug, PartialEq)]
enum LoadedLine {
    Id(String),
    Name(String),
}

impl Reported {
    fn note(&mut self, info: &BuildInfo) {
        for line in info.stream.iter().flat_map(|text| text.lines()) {
            if let Some(id) = line.strip_prefix("Loaded image ID: ") {
                self.lines.push(LoadedLine::Id(id.trim().to_owned()));
            } else if let Some(name) = line.strip_prefix("Loaded image: ") {
                self.lines.push(LoadedLine::Name(name.trim().to_owned()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_are_read_from_the_engines_lines() {
        let mut reported = Reported::default();
        for text in
            ["Loaded image ID: sha256:ab\n", "Loaded image: a/b:c\nLoaded image: d:e\n", "The image d:e already\n"]
        {
            reported.note(&BuildInfo { stream: Some(text.to_owned()), ..Default::default() });
        }
        let name = |text: &str| LoadedLine::Name(text.to_owned());
        assert_eq!(reported.lines, [LoadedLine::Id("sha256:ab".to_owned()), name("a/b:c"), name("d:e")]);
    }
}
