//! Where to publish, as it is written in a configuration, parsed once.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Kind, Result};
use crate::http::{in_brackets, percent_decoded};
use crate::ssh::Jump;

/// A place to publish to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `sftp://[user@]host[:port]/path`, or `[user@]host:path` as scp writes it.
    Sftp {
        /// The host, as the ssh configuration is asked for it.
        host: Jump,
        /// The folder there.
        folder: Folder,
    },
    /// `file:///path`.
    Directory(PathBuf),
    /// `https://[user@]host[:port]/path`.
    Web(WebFolder),
}

/// A folder on a server: absolute, or relative to where a login begins. No `..`, no control characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder(String);

/// A folder of a WebDAV server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebFolder {
    /// Whether the connection is encrypted; only a server on this machine's loopback may do without.
    pub tls: bool,
    /// The server's name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The user, if the URL names one.
    pub user: Option<String>,
    /// The path in its URL form, beginning and ending with `/`.
    pub path: String,
}

impl Folder {
    /// The folder as text, without a final `/` unless it is the root.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// The path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        Path::new(&self.0).join(name)
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        if text.chars().any(char::is_control) {
            return Err("the path has control characters");
        }
        if text.split('/').any(|part| part == "..") {
            return Err("the path has `..` in it");
        }
        let trimmed = text.trim_end_matches('/');
        match (trimmed, text) {
            ("", "") => Err("it has no path"),
            ("", _) => Ok(Self("/".to_owned())),
            _ if trimmed.starts_with('~') => Err("only `~/` is looked up, in URLs"),
            _ => Ok(Self(trimmed.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sftp { host, folder } => {
                let user = host.user.as_ref().map(|user| format!("{user}@")).unwrap_or_default();
                let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
                let name = in_brackets(&host.host);
                let slash = if folder.0.starts_with('/') { "" } else { "/~/" };
                write!(formatter, "sftp://{user}{name}{port}{slash}{}", folder.0)
            }
            Self::Directory(path) => write!(formatter, "file://{}", path.display()),
            Self::Web(web) => {
                let scheme = if web.tls { "https" } else { "http" };
                write!(formatter, "{scheme}://{}:{}{}", in_brackets(&web.host), web.port, web.path)
            }
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            // The text may hold a password, so it is not repeated.
            Error::new(Kind::Usage, format!("a target cannot be understood: {why}")).hint(
                "a target is `sftp://user@host:port/path`, `user@host:/path`, `file:///path` or `https://host/path`",
            )
        };
        if let Some(rest) = text.strip_prefix("sftp://") {
            return Self::sftp_url(rest, &wrong);
        }
        if let Some(rest) = text.strip_prefix("file://") {
            let path = percent_decoded(rest).map_err(wrong)?;
            let folder = Folder::parse(&path).map_err(wrong)?;
            if !folder.0.starts_with('/') {
                return Err(wrong("a `file` URL has three slashes and no host"));
            }
            return Ok(Self::Directory(PathBuf::from(folder.0)));
        }
        if let Some(rest) = text.strip_prefix("https://") {
            return Ok(Self::Web(WebFolder::parse(rest, true).map_err(wrong)?));
        }
        if let Some(rest) = text.strip_prefix("http://") {
            return Ok(Self::Web(WebFolder::parse(rest, false).map_err(wrong)?));
        }
        if text.contains("://") {
            return Err(wrong("its scheme is none of `sftp`, `file`, `https`"));
        }
        Self::scp(text, None)
    }
}

impl Target {
    /// `host:path` or `user@host:path`, with this user unless it names one.
    pub fn scp(text: &str, user: Option<&str>) -> Result<Self> {
        let wrong = |why: &str| Error::new(Kind::Usage, format!("a target cannot be understood: {why}"));
        // An address in brackets has colons of its own.
        let from = text.find(']').map_or(0, |end| end + 1);
        let colon = text[from..].find(':').ok_or_else(|| wrong("there is no `:` between host and path"))? + from;
        let (host, path) = (&text[..colon], &text[colon + 1..]);
        if host.contains('/') {
            return Err(wrong("there is a `/` before the `:`"));
        }
        let mut host: Jump = host.parse()?;
        if host.user.is_none()
            && let Some(user) = user
        {
            host = format!("{user}@{}", &text[..colon]).parse()?;
        }
        let folder = Folder::parse(path).map_err(wrong)?;
        Ok(Self::Sftp { host, folder })
    }

    fn sftp_url(rest: &str, wrong: &dyn Fn(&str) -> Error) -> Result<Self> {
        let (authority, path) = rest.split_once('/').ok_or_else(|| wrong("it has no path"))?;
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(wrong("a password does not belong into a target"));
        }
        let host = percent_decoded(authority).map_err(wrong)?;
        // Not with the words of the parser: they repeat what may be a password.
        let host = host.parse().map_err(|_| wrong("it has no valid host"))?;
        let path = percent_decoded(path).map_err(wrong)?;
        let folder = match path.strip_prefix("~/") {
            Some(relative) => Folder::parse(relative.trim_start_matches('/')),
            None => Folder::parse(&format!("/{path}")),
        };
        Ok(Self::Sftp { host, folder: folder.map_err(wrong)? })
    }
}

impl WebFolder {
    fn parse(rest: &str, tls: bool) -> Result<Self, &'static str> {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err("a password does not belong into a target"),
            Some((user, address)) => (Some(percent_decoded(user)?), address),
            None => (None, authority),
        };
        let address: Jump = address.parse().map_err(|_| "it has no valid host")?;
        if path.contains(['?', '#', '\\', '"', '<', '>', ' ']) || path.chars().any(|c| c.is_control() || !c.is_ascii())
        {
            return Err("the path has characters that an URL path has not, or a query");
        }
        let decoded = percent_decoded(path)?;
        if decoded.split('/').any(|part| part == "..") {
            return Err("the path has `..` in it");
        }
        if !tls && !matches!(address.host.as_str(), "127.0.0.1" | "::1" | "localhost") {
            return Err("`http` without TLS is for servers on this machine; use `https`");
        }
        let path = path.trim_matches('/');
        Ok(Self {
            tls,
            port: address.port.unwrap_or(if tls { 443 } else { 80 }),
            host: address.host,
            user,
            path: if path.is_empty() { "/".to_owned() } else { format!("/{path}/") },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written_back() {
        for (text, shown) in [
            ("sftp://me@host:2222/srv/images/", "sftp://me@host:2222/srv/images"),
            ("sftp://host/~/images", "sftp://host/~/images"),
            ("sftp://host/a%20b", "sftp://host/a b"),
            ("host:/srv", "sftp://host/srv"),
            ("me@host:images", "sftp://me@host/~/images"),
            ("[::1]:/srv", "sftp://[::1]/srv"),
            ("file:///srv/images/", "file:///srv/images"),
            ("https://host/dav", "https://host:443/dav/"),
            ("https://me@host:8443/", "https://host:8443/"),
            ("http://127.0.0.1:80/x/", "http://127.0.0.1:80/x/"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x/"),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), shown);
        }
        let Target::Sftp { host, .. } = Target::scp("web.sourceforge.net:/home/x", Some("bot")).unwrap() else {
            panic!()
        };
        assert_eq!(host.user.as_deref(), Some("bot"));
    }

    #[test]
    fn hostile_targets_are_refused_and_passwords_not_repeated() {
        for text in [
            "",
            "host",
            "host:",
            "sftp://host",
            "sftp://host/../x",
            "sftp://host/%2e%2e/x",
            "sftp://-oX=y/x",
            "-oX:/x",
            "a b:/x",
            "host:/x\ny",
            "host:~other/x",
            "file://host/x",
            "ftp://host/x",
            "http://example.org/x",
            "https://host/x?y",
            "https://host/%2e%2e/",
            "https:///x",
            "sftp://host/%zz",
            "h/x:/y",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?}");
        }
        for text in ["sftp://me:canary@host/x", "sftp://me%3acanary@host/x", "https://me:canary@host/x"] {
            assert!(!text.parse::<Target>().unwrap_err().render().contains("canary"));
        }
    }
}
