//! What the daemon is told: where it listens, whom it serves, its limits, its log.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::host;

/// The levels of logs, most first, as `salt-call -l` takes them.
pub const LEVELS: [&str; 10] =
    ["all", "garbage", "trace", "debug", "profile", "info", "warning", "error", "critical", "quiet"];

/// How a log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// A line for a person.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

impl LogFormat {
    pub(super) fn named(word: &str) -> Result<Self, String> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("`{other}` is no format of a log")),
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// The daemon's part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// The unix socket; none where this user has no place for one.
    pub socket: Option<PathBuf>,
    /// The socket's permissions.
    pub socket_mode: u32,
    /// The group that owns the socket.
    pub socket_group: Option<String>,
    /// A second group whose members may call what changes nothing.
    pub salt_group: Option<String>,
    /// The TCP address.
    pub listen: Option<SocketAddr>,
    /// The certificate chain shown there.
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// The authorities of client certificates.
    pub tls_client_ca: Option<PathBuf>,
    /// Tokens and certificate names, and what they may do.
    pub access_file: Option<PathBuf>,
    /// The level of the log; none: the door's own.
    pub log: Option<String>,
    /// How the log is written.
    pub log_format: LogFormat,
    /// The most connections.
    pub connections: usize,
    /// The most calls at once.
    pub calls: usize,
    /// The largest body, in bytes.
    pub body_size: u64,
    /// How long a query may take.
    pub deadline: Duration,
    /// How long a connection may be idle, or take to send a request.
    pub idle: Duration,
    /// How long the end may take.
    pub drain: Duration,
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            socket: None,
            socket_mode: 0o600,
            socket_group: None,
            salt_group: None,
            listen: None,
            tls_cert: None,
            tls_key: None,
            tls_client_ca: None,
            access_file: None,
            log: None,
            log_format: LogFormat::Text,
            connections: 4096,
            calls: 16,
            body_size: 2 << 20,
            deadline: Duration::from_secs(20),
            idle: Duration::from_secs(30),
            drain: Duration::from_secs(20),
        }
    }
}

/// Root's socket, or this user's, where there is a runtime folder.
pub(super) fn default_socket() -> Option<PathBuf> {
    if host::process::is_root() {
        return Some(PathBuf::from("/run/castoff/castoff.sock"));
    }
    let folder = host::environment::raw("XDG_RUNTIME_DIR").map(PathBuf::from)?;
    folder.is_absolute().then(|| folder.join("castoff.sock"))
}
