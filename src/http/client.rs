//! Requests to one server: one connection each, TLS with the machine's authorities, time limits on silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::body::{Outgoing, PartBody};
use super::login::{Login, authorization, configuration};
use super::url::{Server, in_brackets};
use crate::error::{Context as _, Error, Kind, Result};
use crate::progress::Cancel;
use crate::vocab::Secret;

/// Without an answer, or a byte of one, for so long the server counts as gone; what is on its way to a slow line, and an
/// answer that waits for a disk, have longer.
const SILENCE: Duration = Duration::from_secs(30);
/// How often a wait looks whether somebody asked to stop.
const LOOK: Duration = Duration::from_millis(200);
const STALL: Duration = Duration::from_mins(2);
const ANSWER: Duration = Duration::from_mins(10);
/// Answers that are read as text are no longer.
const LONGEST_TEXT: usize = 64 << 10;

/// What an answer begins with.
#[derive(Debug)]
pub struct Head {
    /// The status.
    pub status: StatusCode,
    /// The length that the server says the body has.
    pub length: Option<u64>,
    headers: HeaderMap,
}

impl Head {
    /// A header's text; none if it is not there or not text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The texts of a header that may stand there several times.
    pub fn all(&self, name: &HeaderName) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The length that the server says the file has.
    pub length: Option<u64>,
    /// The body, cut at 64 KiB.
    pub body: Vec<u8>,
    headers: HeaderMap,
}

/// Requests to one server.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    host: String,
    port: u16,
    authorization: Option<Secret<HeaderValue>>,
    place: String,
    cancel: Cancel,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Client({})", self.place)
    }
}

impl Client {
    /// A client of this server; `place` names it in errors.
    pub fn new(server: &Server, login: &Login, place: &str, cancel: &Cancel) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context(|| "cannot start the HTTP client")?;
        let tls = if server.tls {
            let name = ServerName::try_from(server.host.clone()).map_err(|error| {
                Error::new(Kind::Usage, format!("`{}` is no server name", server.host)).caused_by(error)
            })?;
            Some((TlsConnector::from(Arc::new(configuration(login)?)), name))
        } else {
            None
        };
        Ok(Self {
            runtime,
            tls,
            host: server.host.clone(),
            port: server.port,
            authorization: authorization(login)?,
            place: place.to_owned(),
            cancel: cancel.clone(),
        })
    }

    /// `https://host:port`.
    pub fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.authority())
    }

    fn authority(&self) -> String {
        let host = in_brackets(&self.host);
        match (self.tls.is_some(), self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// One request; `told` hears how many bytes of its body have gone out.
    pub fn ask(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        outgoing: Outgoing,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Answer> {
        self.runtime.block_on(async {
            let response = self.send(method, path, headers, outgoing, told).await?;
            let mut answer = Answer::of(&response);
            let mut body = response.into_body();
            while let Some(bytes) = self.next(&mut body).await? {
                let room = LONGEST_TEXT.saturating_sub(answer.body.len());
                answer.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
                if bytes.len() >= room {
                    break;
                }
            }
            Ok(answer)
        })
    }

    /// GET. `judge` sees how the answer begins and says whether its body is wanted; `take` gets that as it comes and says
    /// whether there is to be more. A body that breaks off before its announced end is an error.
    pub fn get(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        judge: &mut dyn FnMut(&Head) -> Result<bool>,
        take: &mut dyn FnMut(&[u8]) -> Result<bool>,
    ) -> Result<Head> {
        self.runtime.block_on(async {
            let headers = [headers, &[("accept-encoding", "identity")]].concat();
            let response = self.send(&Method::GET, path, &headers, Outgoing::Nothing, &mut |_| Ok(())).await?;
            let head = Head::of(&response);
            if judge(&head)? {
                let mut body = response.into_body();
                while let Some(bytes) = self.next(&mut body).await? {
                    if !take(&bytes)? {
                        break;
                    }
                }
            }
            Ok(head)
        })
    }

    async fn send(
        &self,
        method: &Method,
        path: &str,
        headers: &[(&str, &str)],
        outgoing: Outgoing,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Response<Incoming>> {
        let gone = Arc::new(AtomicU64::new(0));
        let total = outgoing.length();
        let body = PartBody::new(outgoing, Arc::clone(&gone));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.authority())
            .header("user-agent", concat!("castoff/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.reveal().clone());
        }
        let request = request.body(body).map_err(|error| {
            Error::new(Kind::Usage, format!("no request to {} can be made", self.place)).caused_by(error)
        })?;
        let exchange = self.exchange(request);
        tokio::pin!(exchange);
        let (mut last, mut heard) = (0, Instant::now());
        loop {
            tokio::select! {
                result = &mut exchange => return result,
                () = tokio::time::sleep(Duration::from_millis(100)) => {}
            }
            self.cancel.check()?;
            let now = gone.load(Ordering::Relaxed);
            if now > last {
                (last, heard) = (now, Instant::now());
                told(now)?;
            }
            let limit = if now < total { STALL } else { ANSWER };
            if heard.elapsed() > limit {
                return Err(self.unavailable(format!("no sign of life for {} s", limit.as_secs())));
            }
        }
    }

    async fn exchange(&self, request: Request<PartBody>) -> Result<Response<Incoming>> {
        let connected = tokio::time::timeout(SILENCE, TcpStream::connect((self.host.as_str(), self.port))).await;
        let stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(self.unavailable(error)),
            Err(_) => return Err(self.unavailable("no answer to the attempt to connect")),
        };
        stream.set_nodelay(true).context(|| "cannot prepare a socket")?;
        match &self.tls {
            None => self.talk(stream, request).await,
            Some((connector, name)) => {
                let handshake = tokio::time::timeout(SILENCE, connector.connect(name.clone(), stream)).await;
                match handshake {
                    Ok(Ok(stream)) => self.talk(stream, request).await,
                    Ok(Err(error)) if error.kind() == std::io::ErrorKind::InvalidData => {
                        Err(Error::new(Kind::Refused, format!("{} is not trusted; nothing was sent", self.place))
                            .caused_by(error))
                    }
                    Ok(Err(error)) => Err(self.unavailable(error)),
                    Err(_) => Err(self.unavailable("no answer to the TLS handshake")),
                }
            }
        }
    }

    async fn talk<S>(&self, stream: S, request: Request<PartBody>) -> Result<Response<Incoming>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unavailable(error))?;
        // It ends with the answer's body; its failures come out there and at the sender.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!("an HTTP connection ended: {error}");
            }
        });
        sender.send_request(request).await.map_err(|error| self.failure(error))
    }

    async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>> {
        let mut heard = Instant::now();
        loop {
            self.cancel.check()?;
            match tokio::time::timeout(LOOK, body.frame()).await {
                Err(_) if heard.elapsed() < SILENCE => {}
                Err(_) => return Err(self.unavailable(format!("no sign of life for {} s", SILENCE.as_secs()))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(self.unavailable(error)),
                Ok(Some(Ok(frame))) => {
                    heard = Instant::now();
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }

    /// A failure of our own while the body was read keeps its kind.
    fn failure(&self, error: hyper::Error) -> Error {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(error) = cause {
            if let Some(own) = error.downcast_ref::<Error>() {
                return Error::new(own.kind(), own.message());
            }
            cause = error.source();
        }
        self.unavailable(error)
    }

    fn unavailable(&self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        Error::new(Kind::Unavailable, format!("{} does not answer", self.place)).caused_by(cause)
    }
}

impl Head {
    fn of<B>(response: &Response<B>) -> Self {
        let Answer { status, length, headers, .. } = Answer::of(response);
        Self { status, length, headers }
    }
}

impl Answer {
    fn of<B>(response: &Response<B>) -> Self {
        let length = response.headers().get("content-length");
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        Self { status: response.status(), length, body: Vec::new(), headers: response.headers().clone() }
    }

    /// What the answer began with, and its body.
    pub fn into_parts(self) -> (Head, Vec<u8>) {
        (Head { status: self.status, length: self.length, headers: self.headers }, self.body)
    }
}
