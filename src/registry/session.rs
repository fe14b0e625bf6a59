//! A conversation with one server: requests with what proves who we are, redirects, what a status means.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::authorize;
use super::credentials::{self, Credentials};
use super::endpoint::{Endpoint, is_listed};
use super::retry::{self, Retry, Trouble};
use crate::config::Registries;
use crate::error::{Error, Kind, Result};
use crate::host::clock;
use crate::http::{Client, Head, Login, Method, Outgoing, Server, StatusCode, Url, header};
use crate::progress::{Cancel, Progress};
use crate::rootfs::ReadAt;
use crate::vocab::Secret;

/// Registries redirect once, to where they keep blobs; more is a loop.
const MOST_REDIRECTS: usize = 5;
/// What is read of the body of an error.
const LONGEST_COMPLAINT: usize = 64 << 10;
/// What is shown of a complaint.
const SHOWN: usize = 300;

/// Where the body of a good answer goes.
pub(super) trait Intake {
    /// The answer begins; whether its body is wanted.
    fn begin(&mut self, head: &Head) -> Result<bool>;
    /// Some of the body; whether there is to be more.
    fn take(&mut self, bytes: &[u8]) -> Result<bool>;
}

/// Takes a small body.
pub(super) struct Small {
    pub(super) bytes: Vec<u8>,
    limit: usize,
}

impl Small {
    /// A body of at most so many bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }
}

impl Intake for Small {
    fn begin(&mut self, _: &Head) -> Result<bool> {
        self.bytes.clear();
        Ok(true)
    }

    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(Error::new(Kind::Limit, format!("an answer is larger than {} bytes", self.limit)));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(true)
    }
}

/// What is asked.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Option<(Arc<dyn ReadAt>, u64, u64)>,
    /// Statuses besides 2xx that are answers.
    pub(super) expected: &'static [StatusCode],
}

impl Request {
    /// A request without a body.
    pub(super) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: Vec::new(), body: None, expected: &[] }
    }

    /// The same with a header.
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same with the bytes from one offset to another as its body.
    pub(super) fn body(mut self, content: Arc<dyn ReadAt>, from: u64, to: u64) -> Self {
        self.body = Some((content, from, to));
        self
    }

    /// The same, for which these statuses are answers.
    pub(super) fn expecting(mut self, statuses: &'static [StatusCode]) -> Self {
        self.expected = statuses;
        self
    }

    fn outgoing(&self) -> Outgoing {
        let Some((content, from, to)) = &self.body else { return Outgoing::Nothing };
        let content = Arc::clone(content);
        let read = move |buffer: &mut [u8], offset: u64| {
            content
                .read_exact_at(buffer, offset)
                .map(|()| buffer.len())
                .map_err(|error| crate::error::from_io(error, || "cannot read what is to be sent".to_owned()))
        };
        Outgoing::Part { read: Box::new(read), from: *from, to: *to }
    }
}

/// A conversation with one server about one repository.
pub(super) struct Session<'a> {
    pub(super) endpoint: Endpoint,
    pub(super) repository: String,
    /// What tokens have to allow.
    pub(super) scopes: Vec<String>,
    pub(super) options: &'a Registries,
    pub(super) progress: &'a Progress,
    pub(super) cancel: Cancel,
    clients: RefCell<Vec<(Server, Rc<Client>)>>,
    authorization: RefCell<Option<Secret<String>>>,
    credentials: OnceCell<Option<Credentials>>,
}

impl<'a> Session<'a> {
    /// Opens a conversation: the server has to be a registry.
    pub(super) fn open(
        endpoint: &Endpoint,
        repository: &str,
        scopes: &[String],
        (options, progress, cancel): (&'a Registries, &'a Progress, &Cancel),
    ) -> Result<Self> {
        let over = |endpoint: Endpoint| Self {
            endpoint,
            repository: repository.to_owned(),
            scopes: scopes.to_vec(),
            options,
            progress,
            cancel: cancel.clone(),
            clients: RefCell::default(),
            authorization: RefCell::default(),
            credentials: OnceCell::new(),
        };
        let session = over(endpoint.clone());
        if endpoint.unsure {
            let Err(plain) = session.ping() else { return Ok(session) };
            let with_tls = over(endpoint.with_tls());
            match (with_tls.ping(), plain) {
                (Ok(()), _) => return Ok(with_tls),
                // Servers with TLS answer `400` without it.
                (Err(trouble), Trouble::Fatal(plain)) if plain.kind() == Kind::Failed => {
                    return Err(trouble.into_error());
                }
                // Else what the loopback says without TLS is the likelier truth, so that is what its failures are told of.
                (Err(_), _) => {}
            }
        }
        if endpoint.is_mirror {
            // The next place is asked sooner than one that is down comes up again.
            session.ping().map_err(Trouble::into_error)?;
        } else {
            Retry::run(progress, cancel, || session.ping())?;
        }
        Ok(session)
    }

    /// `GET /v2/`: 200, or 401 with what it wants to see.
    fn ping(&self) -> Result<(), Trouble> {
        let request = Request::new(Method::GET, self.endpoint.address("")).expecting(&[StatusCode::UNAUTHORIZED]);
        let (head, complaint) =
            self.once(&request, &request.url, &mut Small::new(LONGEST_COMPLAINT), &mut |_| Ok(()))?;
        if head.status == StatusCode::OK {
            return Ok(());
        }
        if head.status == StatusCode::UNAUTHORIZED && head.header(&header::WWW_AUTHENTICATE).is_some() {
            return self.authenticate(&head);
        }
        match self.trouble(&request, &head, &complaint) {
            Trouble::Temporary(error, after) => Err(Trouble::Temporary(error, after)),
            Trouble::Fatal(error) => Err(Trouble::Fatal(
                Error::new(error.kind(), format!("`{}` is no registry", self.endpoint.account))
                    .caused_by(error)
                    .hint("a registry answers `/v2/`; is the host right, and the port?"),
            )),
        }
    }

    /// The address of something of the repository.
    pub(super) fn address(&self, path: &str) -> Url {
        self.endpoint.address(&format!("{}/{path}", self.repository))
    }

    /// Asks as often as that makes sense; the answer's head, and its body.
    pub(super) fn small(&self, request: &Request, limit: usize) -> Result<(Head, Vec<u8>)> {
        Retry::run(self.progress, &self.cancel, || {
            let mut intake = Small::new(limit);
            let (head, body) = self.exchange(request, &mut intake, &mut |_| Ok(()))?;
            Ok((head, if intake.bytes.is_empty() { body } else { intake.bytes }))
        })
    }

    /// Asks once, with what proves who we are where the server wants it, and follows where reading is redirected to.
    pub(super) fn exchange(
        &self,
        request: &Request,
        intake: &mut dyn Intake,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<(Head, Vec<u8>), Trouble> {
        let mut url = request.url.clone();
        let mut has_authenticated = false;
        let mut redirects = 0;
        loop {
            let (head, body) = self.once(request, &url, intake, told)?;
            if head.status == StatusCode::UNAUTHORIZED && self.is_own(&url) && !has_authenticated {
                has_authenticated = true;
                self.authenticate(&head)?;
                continue;
            }
            let reads = matches!(request.method, Method::GET | Method::HEAD);
            if reads && head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED {
                redirects += 1;
                url = Self::redirected(&url, &head, redirects)?;
                continue;
            }
            if head.status.is_success() || request.expected.contains(&head.status) {
                return Ok((head, body));
            }
            return Err(self.trouble(request, &head, &body));
        }
    }

    /// One request to one server; only the registry itself is shown who we are.
    fn once(
        &self,
        request: &Request,
        url: &Url,
        intake: &mut dyn Intake,
        told: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<(Head, Vec<u8>), Trouble> {
        let client = self.client(&url.server)?;
        let authorization = self.authorization.borrow().clone().filter(|_| self.is_own(url));
        let mut headers: Vec<(&str, &str)> =
            request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if let Some(authorization) = &authorization {
            headers.push(("authorization", authorization.reveal()));
        }
        if request.method != Method::GET {
            let answer = client.ask(&request.method, &url.path, &headers, request.outgoing(), told)?;
            return Ok(answer.into_parts());
        }
        let is_good = Cell::new(false);
        let intake = RefCell::new(intake);
        let mut complaint = Vec::new();
        let head = client.get(
            &url.path,
            &headers,
            &mut |head| {
                is_good.set(head.status.is_success());
                if is_good.get() { intake.borrow_mut().begin(head) } else { Ok(!head.status.is_redirection()) }
            },
            &mut |bytes| {
                if is_good.get() {
                    return intake.borrow_mut().take(bytes);
                }
                let room = LONGEST_COMPLAINT.saturating_sub(complaint.len());
                complaint.extend_from_slice(&bytes[..bytes.len().min(room)]);
                Ok(bytes.len() < room)
            },
        )?;
        Ok((head, complaint))
    }

    /// What proves who we are, as the server wants to see it.
    fn authenticate(&self, head: &Head) -> Result<(), Trouble> {
        self.authorization.replace(None);
        let proof = authorize::proof(self, head)?;
        self.authorization.replace(Some(proof));
        Ok(())
    }

    /// Who we are here, if anybody.
    pub(super) fn credentials(&self) -> Result<Option<&Credentials>> {
        if let Some(found) = self.credentials.get() {
            return Ok(found.as_ref());
        }
        let file = self.options.auth_file.as_deref();
        let found = credentials::find(&self.endpoint.account, &self.repository, file, (self.progress, &self.cancel))?;
        Ok(self.credentials.get_or_init(|| found).as_ref())
    }

    /// A client of a server, kept for the next request.
    pub(super) fn client(&self, server: &Server) -> Result<Rc<Client>> {
        if let Some((_, client)) = self.clients.borrow().iter().find(|(own, _)| own == server) {
            return Ok(Rc::clone(client));
        }
        let login = Login { authorities: self.options.authorities.clone(), ..Login::default() };
        let place = format!("`{}:{}`", crate::http::in_brackets(&server.host), server.port);
        let client = Rc::new(Client::new(server, &login, &place, &self.cancel)?);
        self.clients.borrow_mut().push((server.clone(), Rc::clone(&client)));
        Ok(client)
    }

    /// Whether a secret may be said to a server: over TLS, on this machine, or where the operator wants it so.
    pub(super) fn may_hear_secrets(&self, server: &Server) -> bool {
        server.tls || server.is_loopback() || is_listed(server, self.options)
    }

    fn is_own(&self, url: &Url) -> bool {
        url.server == self.endpoint.url.server
    }

    fn redirected(from: &Url, head: &Head, count: usize) -> Result<Url, Trouble> {
        let wrong = |kind, what: String| Trouble::Fatal(Error::new(kind, format!("{from} {what}")));
        if count > MOST_REDIRECTS {
            return Err(wrong(Kind::Failed, format!("redirects more than {MOST_REDIRECTS} times")));
        }
        let location = head.header(&header::LOCATION);
        let location = location.ok_or_else(|| wrong(Kind::Failed, "redirects and does not say where to".to_owned()))?;
        let next = from
            .join(location)
            .map_err(|why| wrong(Kind::Failed, format!("redirects to where nothing can be: {why}")))?;
        if from.server.tls && !next.server.tls {
            return Err(wrong(Kind::Refused, format!("redirects to {next}, without TLS")));
        }
        Ok(next)
    }

    /// What an answer that is none means.
    fn trouble(&self, request: &Request, head: &Head, complaint: &[u8]) -> Trouble {
        let (status, account) = (head.status, &self.endpoint.account);
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Refused,
            StatusCode::NOT_FOUND | StatusCode::GONE => Kind::NotFound,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Kind::Unavailable,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Kind::Unsupported,
            StatusCode::PAYLOAD_TOO_LARGE => Kind::Limit,
            status if status.is_server_error() => Kind::Unavailable,
            _ => Kind::Failed,
        };
        let words = self.words(complaint);
        let message = format!("`{account}` answers `{status}` to {} {}{words}", request.method, request.url);
        let mut error = Error::new(kind, message);
        if kind == Kind::Refused {
            error = error.hint(match self.credentials.get() {
                Some(Some(_)) => format!("the credentials for `{account}` are known and are not enough for this"),
                _ => {
                    format!("nobody is logged in at `{account}`: `skopeo login {account}` or `docker login {account}`")
                }
            });
        }
        if kind == Kind::Unavailable {
            return Trouble::Temporary(error, retry::after(head, clock::now()));
        }
        Trouble::Fatal(error)
    }

    /// What a registry says in its error documents, if it can be shown.
    fn words(&self, complaint: &[u8]) -> String {
        #[derive(serde::Deserialize)]
        struct Complaints {
            errors: Vec<Complaint>,
        }
        #[derive(serde::Deserialize)]
        struct Complaint {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let Ok(found) = serde_json::from_slice::<Complaints>(complaint) else { return String::new() };
        let texts: Vec<String> =
            found.errors.iter().take(3).map(|found| format!("{} ({})", found.message, found.code)).collect();
        let text = texts.join(", ");
        // A server may say back what it was told.
        if text.is_empty() || self.is_secret_in(&text) {
            return String::new();
        }
        let shown: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
        format!(": {shown}")
    }

    fn is_secret_in(&self, text: &str) -> bool {
        let authorization = self.authorization.borrow();
        let header =
            authorization.as_ref().and_then(|header| header.reveal().split_once(' ')).map(|(_, secret)| secret);
        let own = match self.credentials.get().and_then(Option::as_ref) {
            Some(
                Credentials::Password { password: secret, .. }
                | Credentials::Identity(secret)
                | Credentials::Token(secret),
            ) => Some(secret.reveal().as_str()),
            None => None,
        };
        [header, own].into_iter().flatten().any(|secret| !secret.is_empty() && text.contains(secret))
    }
}
