//! What went wrong, to what, why, and what to do next.
//!
//! One [`Error`] crosses room edges; inside a room small enums are welcome. [`Kind`] alone decides exit code, HTTP
//! status and whether a retry can help. Rendering (`error:` / `Caused by:` / `hint:`) is [`Error::render`].

use std::error::Error as StdError;
use std::fmt;

/// What kind of failure this is: the only thing exit codes, HTTP statuses and retries are decided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The caller's words are wrong: an argument, a reference, a document.
    Usage,
    /// A thing that was named does not exist.
    NotFound,
    /// A thing exists, or changed meanwhile, and stands in the way.
    Conflict,
    /// castoff or the system will not do this for this caller.
    Refused,
    /// Content is damaged or lies about itself: a digest, a length, a format.
    Corrupt,
    /// A limit that protects the machine was reached.
    Limit,
    /// Not enough space on a file system.
    NoSpace,
    /// This host, engine or build of castoff cannot do it.
    Unsupported,
    /// A service did not answer or broke off; trying again may help.
    Unavailable,
    /// Somebody asked to stop.
    Interrupted,
    /// The work itself failed: an I/O error, a command that exited non-zero.
    Failed,
}

impl Kind {
    /// The process exit code under `--retcode-passthrough` and of castoff's own commands.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 64,
            Self::Corrupt => 65,
            Self::NotFound => 66,
            Self::Unavailable => 69,
            Self::Limit => 70,
            Self::Conflict => 73,
            Self::NoSpace => 74,
            Self::Interrupted => 75,
            Self::Unsupported => 76,
            Self::Refused => 77,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn retry_may_help(self) -> bool {
        matches!(self, Self::Unavailable | Self::Interrupted | Self::Conflict)
    }

    /// The word used in reports and job records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::Conflict => "conflict",
            Self::Refused => "refused",
            Self::Corrupt => "corrupt",
            Self::Limit => "limit",
            Self::NoSpace => "no-space",
            Self::Unsupported => "unsupported",
            Self::Unavailable => "unavailable",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }

    /// The kind of this word.
    pub fn of_word(word: &str) -> Option<Self> {
        const ALL: [Kind; 11] = [
            Kind::Usage,
            Kind::NotFound,
            Kind::Conflict,
            Kind::Refused,
            Kind::Corrupt,
            Kind::Limit,
            Kind::NoSpace,
            Kind::Unsupported,
            Kind::Unavailable,
            Kind::Interrupted,
            Kind::Failed,
        ];
        ALL.into_iter().find(|kind| kind.word() == word)
    }
}

/// castoff's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: what happened to what, why, and what to do next.
pub struct Error {
    inner: Box<Inner>,
}

struct Inner {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// A failure of this kind; the message says what happened to what, without a final period.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { inner: Box::new(Inner { kind, message: message.into(), hint: None, source: None }) }
    }

    /// The same failure with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.inner.hint = Some(hint.into());
        self
    }

    /// The same failure with its cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// What happened to what, without causes.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// What to do next: this error's hint, else the nearest one among its causes.
    pub fn next_step(&self) -> Option<&str> {
        if let Some(hint) = &self.inner.hint {
            return Some(hint);
        }
        let mut cause = self.source();
        while let Some(error) = cause {
            if let Some(hint) = error.downcast_ref::<Self>().and_then(|own| own.inner.hint.as_deref()) {
                return Some(hint);
            }
            cause = error.source();
        }
        None
    }

    /// The whole text a person reads, without a final newline.
    pub fn render(&self) -> String {
        let mut text = format!("error: {}", self.inner.message);
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str("\nCaused by: ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        if let Some(hint) = self.next_step() {
            text.push_str("\n\nhint: ");
            text.push_str(hint);
        }
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.inner.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// What an I/O error means to the caller.
pub fn kind_of_io(error: &std::io::Error) -> Kind {
    use std::io::ErrorKind;
    if let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return own.kind();
    }
    match error.kind() {
        ErrorKind::NotFound => Kind::NotFound,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Kind::Refused,
        ErrorKind::AlreadyExists => Kind::Conflict,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Kind::NoSpace,
        ErrorKind::UnexpectedEof | ErrorKind::InvalidData => Kind::Corrupt,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::TimedOut => Kind::Unavailable,
        ErrorKind::Unsupported => Kind::Unsupported,
        _ => Kind::Failed,
    }
}

/// Says what was being done when something below failed.
pub trait Context<T> {
    /// The failure as an [`Error`] with this message; an [`Error`] or I/O error below keeps its kind.
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| Error::new(kind_of_io(&error), message()).caused_by(error))
    }
}

impl<T> Context<T> for Result<T> {
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(|error| Error::new(error.kind(), message()).caused_by(error))
    }
}

impl<T> Context<T> for std::result::Result<T, rustix::io::Errno> {
    fn context<M: Into<String>>(self, message: impl FnOnce() -> M) -> Result<T> {
        self.map_err(std::io::Error::from).context(message)
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}

/// The failure inside an I/O error, if castoff put it there, else one with this message.
pub fn from_io(error: std::io::Error, message: impl FnOnce() -> String) -> Error {
    match error.downcast::<Error>() {
        Ok(own) => own,
        Err(error) => Error::new(kind_of_io(&error), message()).caused_by(error),
    }
}
