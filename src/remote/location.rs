//! Where a file is, as a manifest or a configuration writes it, parsed once.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};
use crate::http::{Url, in_brackets, percent_decoded};
use crate::ssh::Jump;

/// The place of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// `file:///path`.
    File(PathBuf),
    /// `https://…` or `http://…`: what is fetched is verified, so the line need not be secret.
    Web(Url),
    /// `sftp://[user@]host[:port]/path`; `/~/` begins a path below the user's home.
    Sftp {
        /// The host, as the ssh configuration is asked for it.
        host: Jump,
        /// The path there.
        path: PathBuf,
    },
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        // The text may hold a password, so it is not repeated.
        let wrong = |why: &str| {
            Error::new(Kind::Usage, format!("the address of a file cannot be understood: {why}"))
                .hint("it is `https://host/path`, `sftp://user@host:port/path` or `file:///path`")
        };
        let decoded = |path: &str| {
            let path = percent_decoded(path).map_err(wrong)?;
            if path.chars().any(char::is_control) || path.split('/').any(|part| part == "..") {
                return Err(wrong("its path has control characters or `..` in it"));
            }
            Ok(path)
        };
        if let Some(path) = text.strip_prefix("file://") {
            let path = decoded(path)?;
            return if path.starts_with('/') {
                Ok(Self::File(path.into()))
            } else {
                Err(wrong("a `file` URL has three slashes and no host"))
            };
        }
        let Some(rest) = text.strip_prefix("sftp://") else {
            return Url::parse(text).map(Self::Web).map_err(wrong);
        };
        let (authority, path) = rest.split_once('/').ok_or_else(|| wrong("it has no path"))?;
        let authority = percent_decoded(authority).map_err(wrong)?;
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err(wrong("a password does not belong into an address"));
        }
        let host: Jump = authority.parse().map_err(|_| wrong("it has no valid host"))?;
        let path = decoded(path)?;
        let path =
            path.strip_prefix("~/").map_or_else(|| format!("/{path}"), |path| path.trim_start_matches('/').into());
        Ok(Self::Sftp { host, path: path.into() })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(formatter, "file://{}", path.display()),
            Self::Web(url) => url.fmt(formatter),
            Self::Sftp { host, path } => {
                let port = host.port.map(|port| format!(":{port}")).unwrap_or_default();
                let slash = if path.is_absolute() { "" } else { "/~/" };
                write!(formatter, "sftp://{}{port}{slash}{}", in_brackets(&host.host), path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Location;

    #[test]
    fn an_address_is_parsed_never_trusted() {
        for (text, shown) in [
            ("file:///srv/a%20b", "file:///srv/a b"),
            ("https://h/x?token=1", "https://h/x"),
            ("http://h:8080/x", "http://h:8080/x"),
            ("sftp://me@h:2222/srv/x", "sftp://h:2222/srv/x"),
            ("sftp://h/~/x", "sftp://h/~/x"),
        ] {
            assert_eq!(text.parse::<Location>().unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "x",
            "/x",
            "file://h/x",
            "file:///a/../b",
            "sftp://h",
            "sftp://-oX=y/x",
            "sftp://me:canary@h/x",
            "https://me:canary@h/x",
            "ftp://h/x",
            "sftp://h/%0ax",
            "sftp://h/a/%2e%2e/b",
        ] {
            let error = bad.parse::<Location>().expect_err(bad);
            assert!(!error.render().contains("canary"), "{error}");
        }
    }
}
