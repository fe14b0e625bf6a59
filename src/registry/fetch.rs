//! Fetching: manifests whole, blobs from where they stopped, each from the first place that has it.

use std::cell::{Cell, OnceCell};

use super::endpoint::Endpoint;
use super::manifest::{ACCEPT, Fetched, LARGEST};
use super::name::RegistryName;
use super::retry::{Retry, Trouble};
use super::session::{Intake, Request, Session};
use crate::config::Registries;
use crate::error::{Context as _, Error, Kind, Result};
use crate::http::{Head, Method, StatusCode, header};
use crate::oci::Descriptor;
use crate::progress::{Cancel, Progress, Stage, Unit};
use crate::vocab::Digest;

/// The header that says a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// Takes a blob, in order, and keeps what it has when the work breaks off.
pub trait Receiver {
    /// How many bytes it has, from the first on.
    fn length(&self) -> u64;
    /// Takes the next ones.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;
    /// Forgets all.
    fn restart(&mut self) -> Result<()>;
    /// The digest of what it has.
    fn digest(&self) -> Digest;
}

/// A repository of a registry, with its mirrors; connected when something is asked.
pub struct Registry<'a> {
    name: RegistryName,
    endpoints: Vec<(Endpoint, OnceCell<Session<'a>>)>,
    /// The one that answered last.
    good: Cell<usize>,
    scopes: Vec<String>,
    options: &'a Registries,
    progress: &'a Progress,
    cancel: Cancel,
}

impl<'a> Registry<'a> {
    /// To fetch from: mirrors first.
    pub fn to_fetch(name: &RegistryName, options: &'a Registries, progress: &'a Progress) -> Result<Self> {
        let scopes = vec![format!("repository:{}:pull", name.repository())];
        Ok(Self::new(name, Endpoint::all(name, options)?, scopes, (options, progress)))
    }

    /// To send to: the registry itself; blobs may be mounted there from another repository.
    pub fn to_send(
        name: &RegistryName,
        mount_from: Option<&str>,
        options: &'a Registries,
        progress: &'a Progress,
    ) -> Result<Self> {
        let mut scopes = vec![format!("repository:{}:pull,push", name.repository())];
        scopes.extend(mount_from.map(|other| format!("repository:{other}:pull")));
        Ok(Self::new(name, vec![Endpoint::own(name, options)?], scopes, (options, progress)))
    }

    fn new(
        name: &RegistryName,
        endpoints: Vec<Endpoint>,
        scopes: Vec<String>,
        (options, progress): (&'a Registries, &'a Progress),
    ) -> Self {
        Self {
            name: name.clone(),
            endpoints: endpoints.into_iter().map(|endpoint| (endpoint, OnceCell::new())).collect(),
            good: Cell::new(0),
            scopes,
            options,
            progress,
            cancel: Cancel::new(),
        }
    }

    /// What is named.
    pub fn name(&self) -> &RegistryName {
        &self.name
    }

    /// The digest of what the name means now; none where the registry does not say it without sending it all.
    pub fn digest(&self) -> Result<Option<Digest>> {
        self.anywhere(|session| {
            let url = session.address(&format!("manifests/{}", self.name.reference()));
            let request = Request::new(Method::HEAD, url).header("accept", ACCEPT);
            match session.small(&request, LARGEST) {
                Ok((head, _)) => Ok(said_digest(&head)),
                Err(error) if error.kind() == Kind::Unsupported => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// What the name means: a manifest or an index.
    pub fn named(&self) -> Result<Fetched> {
        self.anywhere(|session| manifest(session, &self.name.reference(), self.name.digest()))
    }

    /// The manifest of this digest.
    pub fn manifest(&self, descriptor: &Descriptor) -> Result<Fetched> {
        let found =
            self.anywhere(|session| manifest(session, &descriptor.digest.to_string(), Some(descriptor.digest)))?;
        if found.bytes.len() as u64 != descriptor.size {
            return Err(Error::new(
                Kind::Corrupt,
                format!("manifest `{}` has {} bytes, not {}", descriptor.digest, found.bytes.len(), descriptor.size),
            ));
        }
        Ok(found)
    }

    /// Fetches a blob into what has some of it already; all of it is there and has the right digest when this returns.
    pub fn blob(&self, descriptor: &Descriptor, receiver: &mut dyn Receiver) -> Result<()> {
        if descriptor.urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
            return Err(Error::new(
                Kind::Refused,
                format!("blob `{}` is kept outside of registries", descriptor.digest),
            )
            .hint("a foreign layer is its maker's to give; castoff fetches from the registry alone"));
        }
        let mut stage =
            self.progress.stage(format!("fetching {}", descriptor.digest.short()), Some(descriptor.size), Unit::Bytes);
        stage.advance(receiver.length().min(descriptor.size));
        let receiver = std::cell::RefCell::new((receiver, &mut stage));
        self.anywhere(|session| {
            let (receiver, stage) = &mut *receiver.borrow_mut();
            Blob { session, descriptor, receiver: &mut **receiver, stage }.fetch()
        })
    }

    /// The first good answer: of the place that answered last, then of the others in their order.
    pub(super) fn anywhere<T>(&self, mut ask: impl FnMut(&Session<'a>) -> Result<T>) -> Result<T> {
        let mut order: Vec<usize> = (0..self.endpoints.len()).collect();
        order.sort_by_key(|at| *at != self.good.get());
        let last = order.len() - 1;
        for (number, at) in order.into_iter().enumerate() {
            match self.session(at).and_then(&mut ask) {
                Ok(answer) => {
                    self.good.set(at);
                    return Ok(answer);
                }
                Err(error) if number == last || !is_of_the_place(&error) => {
                    return Err(error).context(|| format!("cannot ask for `{}`", self.name));
                }
                Err(error) => {
                    self.progress.warn(format!("{} is of no use for this: {error}", self.endpoints[at].0.url));
                }
            }
        }
        Err(Error::new(Kind::Failed, format!("`{}` has no place to ask at", self.name)))
    }

    fn session(&self, at: usize) -> Result<&Session<'a>> {
        let (endpoint, session) = &self.endpoints[at];
        if let Some(session) = session.get() {
            return Ok(session);
        }
        let surroundings = (self.options, self.progress, &self.cancel);
        let opened = Session::open(endpoint, self.name.repository(), &self.scopes, surroundings)?;
        Ok(session.get_or_init(|| opened))
    }
}

/// Whether another place may do better.
fn is_of_the_place(error: &Error) -> bool {
    !matches!(error.kind(), Kind::NoSpace | Kind::Interrupted | Kind::Usage)
}

fn said_digest(head: &Head) -> Option<Digest> {
    head.header(&header::HeaderName::from_static(CONTENT_DIGEST))?.parse().ok()
}

fn manifest(session: &Session<'_>, reference: &str, wanted: Option<Digest>) -> Result<Fetched> {
    let url = session.address(&format!("manifests/{reference}"));
    let what = format!("manifest `{reference}` of `{}`", session.repository);
    let request = Request::new(Method::GET, url).header("accept", ACCEPT);
    let (head, bytes) = session.small(&request, LARGEST).context(|| format!("cannot fetch {what}"))?;
    let found = Fetched::new(bytes, head.header(&header::CONTENT_TYPE), &what)?;
    match wanted.or_else(|| said_digest(&head)) {
        Some(wanted) if wanted != found.digest => Err(Error::new(
            Kind::Corrupt,
            format!("{what} is not what it should be: `{wanted}` is wanted, `{}` was sent", found.digest),
        )),
        _ => Ok(found),
    }
}

/// A blob on its way from one server.
struct Blob<'b, 'a> {
    session: &'b Session<'a>,
    descriptor: &'b Descriptor,
    receiver: &'b mut dyn Receiver,
    stage: &'b mut Stage,
}

impl Blob<'_, '_> {
    fn fetch(mut self) -> Result<()> {
        let (digest, size) = (self.descriptor.digest, self.descriptor.size);
        let mut retry = Retry::default();
        // What an earlier run left may be damaged, by a power cut for one; what came just now is not given a second try.
        let mut is_all_ours = self.receiver.length() == 0;
        loop {
            if self.receiver.length() == size {
                let found = self.receiver.digest();
                if found == digest {
                    return Ok(());
                }
                self.receiver.restart()?;
                if is_all_ours {
                    return Err(Error::new(
                        Kind::Corrupt,
                        format!("blob `{digest}` is not what it should be: `{found}` was sent"),
                    )
                    .hint("the registry or something on the way damages it; nothing of it was kept"));
                }
                is_all_ours = true;
                self.session.progress.warn(format!("what was left of blob `{digest}` was damaged: it is fetched anew"));
            }
            let before = self.receiver.length();
            let trouble = match self.once() {
                Ok(()) if self.receiver.length() == size => continue,
                Ok(()) => {
                    let there = self.receiver.length();
                    let message = format!("blob `{digest}` breaks off after {there} of {size} bytes");
                    Trouble::Temporary(Error::new(Kind::Unavailable, message), None)
                }
                Err(trouble) => trouble,
            };
            if self.receiver.length() > before {
                retry.advanced();
            }
            retry.pause(trouble, self.session.progress, &self.session.cancel)?;
        }
    }

    fn once(&mut self) -> Result<(), Trouble> {
        let from = self.receiver.length();
        let url = self.session.address(&format!("blobs/{}", self.descriptor.digest));
        let mut request = Request::new(Method::GET, url).expecting(&[StatusCode::RANGE_NOT_SATISFIABLE]);
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let session = self.session;
        let (head, _) = session.exchange(&request, self, &mut |_| Ok(()))?;
        if head.status == StatusCode::RANGE_NOT_SATISFIABLE {
            if from == 0 {
                return Err(Trouble::Fatal(self.odd("the server has no part of it")));
            }
            self.receiver.restart()?;
        }
        Ok(())
    }

    fn odd(&self, what: &str) -> Error {
        Error::new(Kind::Corrupt, format!("blob `{}`: {what}", self.descriptor.digest))
    }
}

impl Intake for Blob<'_, '_> {
    fn begin(&mut self, head: &Head) -> Result<bool> {
        let encoding = head.header(&header::CONTENT_ENCODING).unwrap_or("identity");
        if encoding != "identity" {
            return Err(self.odd(&format!("it comes encoded as `{}`", encoding.escape_debug())));
        }
        let size = self.descriptor.size;
        let (begin, total) = match head.status {
            StatusCode::PARTIAL_CONTENT => head
                .header(&header::CONTENT_RANGE)
                .and_then(content_range)
                .ok_or_else(|| self.odd("the server sends a part and does not say which"))?,
            _ => (0, head.length),
        };
        if let Some(total) = total
            && total != size
        {
            return Err(self.odd(&format!("it has {total} bytes there, its manifest says {size}")));
        }
        match begin {
            begin if begin == self.receiver.length() => Ok(true),
            0 => self.receiver.restart().map(|()| true),
            begin => Err(self.odd(&format!("it begins at byte {begin}, which nobody asked for"))),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        let left = self.descriptor.size - self.receiver.length();
        if bytes.len() as u64 > left {
            // What came before was of the same lie.
            self.receiver.restart()?;
            return Err(self.odd(&format!("more than the {} bytes come that it should have", self.descriptor.size)));
        }
        self.receiver.append(bytes)?;
        self.stage.advance(bytes.len() as u64);
        Ok(bytes.len() as u64 != left)
    }
}

/// The beginning and the whole in `bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-')?.0.parse().ok()?;
    if total == "*" { Some((from, None)) } else { Some((from, Some(total.parse().ok()?))) }
}
