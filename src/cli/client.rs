//! castoff as the client of its own daemon: HTTP over the unix socket, and nothing else.
//!
//! A socket that is there but does not answer is an error: nothing here falls back to doing the work itself. While a daemon
//! is restarted its socket may refuse for a moment; that is waited for.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::config::Config;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;

/// How long a daemon may take to accept: as long as a restart lasts.
const CONNECT: Duration = Duration::from_secs(5);

/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);

/// What the daemon may need beyond its own deadline.
const MARGIN: Duration = Duration::from_secs(10);

/// The largest answer that is read.
const MOST_BYTES: usize = 256 << 20;

/// The daemon, as this process sees it.
pub(super) struct Client {
    socket: PathBuf,
    runtime: tokio::runtime::Runtime,
    /// How long a query may take.
    patience: Duration,
}

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

/// A question.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) body: Option<String>,
    /// The last event that was seen, for streams of events.
    pub(super) after: Option<u64>,
}

impl Question {
    /// A `GET` of this path.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), body: None, after: None }
    }

    /// A `POST` of this JSON text.
    pub(super) fn post(path: impl Into<String>, body: String) -> Self {
        Self { method: Method::POST, path: path.into(), body: Some(body), after: None }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(self.method.clone()).uri(&self.path).header(HOST, "castoff");
        if self.body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if let Some(after) = self.after {
            request = request.header("last-event-id", after);
        }
        request
            .body(Full::new(Bytes::from(self.body.clone().unwrap_or_default())))
            .map_err(|error| Error::new(Kind::Usage, "cannot ask the daemon this").caused_by(error))
    }
}

/// What became of an attempt.
enum Attempt<T> {
    Done(T),
    /// Nobody took the question: it may be asked again, whatever it is.
    NotTaken(Error),
    /// The connection broke before an answer: only what changes nothing may be asked again.
    NotAnswered(Error),
}

impl Client {
    /// The daemon whose socket the configuration names; none where no socket is.
    pub(super) fn of(config: &Config) -> Result<Option<Self>> {
        let Some(socket) = &config.daemon.socket else { return Ok(None) };
        if host::fs::link_metadata(socket)?.is_none() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context(|| "cannot start the runtime of the daemon's client")?;
        Ok(Some(Self { socket: socket.clone(), runtime, patience: config.daemon.deadline + MARGIN }))
    }

    /// How long a query may take.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The whole answer within this time; for ever without one.
    pub(super) fn ask(&self, question: &Question, within: Option<Duration>) -> Result<Answer> {
        let work = async {
            let response = self.send(question).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            let body = body.map_err(|error| self.broken(error.to_string()))?;
            Ok(Answer { status, body: body.to_bytes() })
        };
        self.runtime.block_on(async {
            match within {
                None => work.await,
                Some(limit) => tokio::time::timeout(limit, work).await.map_err(|_| {
                    Error::new(Kind::Unavailable, format!("the daemon gave no answer within {} s", limit.as_secs()))
                })?,
            }
        })
    }

    /// Hands every line of the answer to `line` until it ends or breaks off; its status.
    pub(super) fn lines(&self, question: &Question, mut line: impl FnMut(&str)) -> Result<u16> {
        self.runtime.block_on(async {
            let mut response = self.send(question).await?;
            let status = response.status().as_u16();
            let mut rest: Vec<u8> = Vec::new();
            // A stream that breaks off has told what it told; whoever follows asks for what comes after.
            while let Some(Ok(frame)) = response.frame().await {
                let Ok(data) = frame.into_data() else { continue };
                rest.extend_from_slice(&data);
                while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                    let whole: Vec<u8> = rest.drain(..=end).collect();
                    line(String::from_utf8_lossy(&whole[..end]).trim_end_matches('\r'));
                }
                if rest.len() > MOST_BYTES {
                    return Err(Error::new(Kind::Limit, "the daemon sends a line without end"));
                }
            }
            Ok(status)
        })
    }

    async fn send(&self, question: &Question) -> Result<Response<hyper::body::Incoming>> {
        let began = Instant::now();
        let repeatable = question.method == Method::GET;
        loop {
            let error = match self.attempt(question).await? {
                Attempt::Done(response) => return Ok(response),
                Attempt::NotTaken(error) => error,
                Attempt::NotAnswered(error) if repeatable => error,
                Attempt::NotAnswered(error) => return Err(error),
            };
            if began.elapsed() > CONNECT {
                return Err(error);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn attempt(&self, question: &Question) -> Result<Attempt<Response<hyper::body::Incoming>>> {
        let stream = match UnixStream::connect(&self.socket).await {
            Ok(stream) => stream,
            Err(error) => return self.refused(error).map(Attempt::NotTaken),
        };
        let (mut sender, connection) = match http1::handshake(TokioIo::new(stream)).await {
            Ok(pair) => pair,
            Err(error) => return Ok(Attempt::NotTaken(self.broken(error.to_string()))),
        };
        // Its failure is the request's too.
        tokio::spawn(connection);
        match sender.send_request(question.request()?).await {
            Ok(response) => Ok(Attempt::Done(response)),
            Err(error) if error.is_canceled() => Ok(Attempt::NotTaken(self.broken(error.to_string()))),
            Err(error) => Ok(Attempt::NotAnswered(self.broken(error.to_string()))),
        }
    }

    /// What to tell if nobody comes to accept; at once where waiting cannot help.
    fn refused(&self, error: std::io::Error) -> Result<Error> {
        let shown = self.socket.display();
        if error.kind() == ErrorKind::PermissionDenied {
            return Err(Error::new(Kind::Refused, format!("you may not connect to the daemon at `{shown}`"))
                .caused_by(error)
                .hint("`socket_mode` and `socket_group` say who may; members of group `castoff` may call what changes nothing"));
        }
        let passing =
            matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound | ErrorKind::WouldBlock);
        let told = Error::new(Kind::Unavailable, format!("the daemon does not answer at `{shown}`"))
            .caused_by(error)
            .hint("start it (`castoff daemon`), or remove the socket if no daemon is to run here");
        if passing { Ok(told) } else { Err(told) }
    }

    fn broken(&self, why: String) -> Error {
        let shown: &Path = &self.socket;
        Error::new(Kind::Unavailable, format!("the daemon at `{}` broke the connection off", shown.display()))
            .caused_by(why)
    }
}

/// What the status of a failure means to the caller.
pub(super) fn kind_of_status(status: u16) -> Kind {
    match status {
        400 | 405 | 415 => Kind::Usage,
        401 | 403 => Kind::Refused,
        404 => Kind::NotFound,
        409 => Kind::Conflict,
        413 | 431 => Kind::Limit,
        422 => Kind::Corrupt,
        501 => Kind::Unsupported,
        408 | 503 | 504 => Kind::Unavailable,
        507 => Kind::NoSpace,
        _ => Kind::Failed,
    }
}
