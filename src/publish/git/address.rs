//! Where a repository is.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Kind, Result};

/// A repository over ssh or on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GitAddress {
    /// `ssh://[USER@]HOST[:PORT]/PATH`, also written `[USER@]HOST:PATH`.
    Ssh {
        /// The user; `git` where none is given.
        user: String,
        /// The host to connect to.
        host: String,
        /// The port.
        port: u16,
        /// The path there, which begins with `/`; `/~/` begins a path below the user's home.
        path: String,
    },
    /// An absolute path, also written `file:///PATH`. Nothing runs there: the repository's hooks do not.
    Local(String),
}

impl GitAddress {
    /// The same repository reached at another address: what an ssh configuration or a forwarded port made of it.
    #[must_use]
    pub fn through(self, new_user: &str, new_host: &str, new_port: u16) -> Self {
        match self {
            Self::Ssh { path, .. } => {
                Self::Ssh { user: new_user.to_owned(), host: new_host.to_owned(), port: new_port, path }
            }
            Self::Local(path) => Self::Local(path),
        }
    }
}

impl FromStr for GitAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            let shown: String = text.chars().take(200).flat_map(char::escape_debug).collect();
            Err(Error::new(Kind::Usage, format!("`{shown}` is not the address of a git repository: {why}")).hint(
                "it looks like `ssh://git@example.net/images.git`, `git@example.net:images.git` or `/srv/images.git`",
            ))
        };
        if text.len() > 4096 || text.chars().any(|odd| odd.is_control() || odd == '\'' || odd == '\\') {
            return wrong("it is too long, or holds a character no address has");
        }
        if let Some(path) = text.strip_prefix("file://").or_else(|| text.starts_with('/').then_some(text)) {
            return if path.starts_with('/') {
                Ok(Self::Local(path.to_owned()))
            } else {
                wrong("its path is not absolute")
            };
        }
        let (place, path) = match text.split_once("://") {
            Some(("ssh" | "git+ssh" | "ssh+git", rest)) => match rest.split_once('/') {
                Some((place, path)) => (place.to_owned(), format!("/{path}")),
                None => return wrong("it has no path"),
            },
            // An address with a password may stand behind another scheme: the text is not shown.
            Some((scheme, _)) => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("castoff publishes through ssh, not through `{}`", scheme.escape_debug()),
                )
                .hint("use the repository's `ssh://` address and a deploy key with write access"));
            }
            None => match text.split_once(':') {
                Some((place, path)) if path.starts_with('/') => (place.to_owned(), path.to_owned()),
                // `TRANSPORT::ADDRESS` makes git run a program.
                Some((_, path)) if path.starts_with(':') => return wrong("it names a transport"),
                Some((place, path)) => (place.to_owned(), format!("/~/{path}")),
                None => return wrong("it names no host"),
            },
        };
        let (user, place) = place.rsplit_once('@').unwrap_or(("git", &place));
        let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        let Ok(port) = port.map_or(Ok(22), str::parse) else { return wrong("its port is no number") };
        let is_name = |name: &str, more: &str| {
            !name.is_empty()
                && !name.starts_with('-')
                && name.chars().all(|own| own.is_ascii_alphanumeric() || more.contains(own))
        };
        if user.contains(':') {
            return Err(Error::new(Kind::Usage, "the address of a git repository holds a password")
                .hint("castoff uses keys: leave the password out"));
        }
        if port == 0 || !is_name(host, "._-:%") || !is_name(user, "._-+") {
            return wrong("its user or host is not valid");
        }
        if matches!(path.trim_matches('/'), "" | "~") {
            return wrong("it has no path");
        }
        Ok(Self::Ssh { user: user.to_owned(), host: host.to_owned(), port, path })
    }
}

impl fmt::Display for GitAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssh { user, host, port, path } if host.contains(':') => {
                write!(formatter, "ssh://{user}@[{host}]:{port}{path}")
            }
            Self::Ssh { user, host, port, path } => write!(formatter, "ssh://{user}@{host}:{port}{path}"),
            Self::Local(path) => formatter.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::GitAddress;

    #[test]
    fn an_address_is_parsed_never_trusted() {
        for (text, expected) in [
            ("ssh://github.com/makinacorpus/makina-states", "ssh://git@github.com:22/makinacorpus/makina-states"),
            ("ssh://me@[::1]:2222/srv/a.git", "ssh://me@[::1]:2222/srv/a.git"),
            ("git@example.net:group/a.git", "ssh://git@example.net:22/~/group/a.git"),
            ("example.net:/srv/a.git", "ssh://git@example.net:22/srv/a.git"),
            ("file:///srv/a.git", "/srv/a.git"),
            ("/srv/a.git", "/srv/a.git"),
        ] {
            let address: GitAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), expected);
            assert_eq!(address.to_string().parse::<GitAddress>().unwrap(), address);
        }
        for bad in [
            "",
            "a",
            "a/b",
            "file://a",
            "ssh://",
            "ssh://host",
            "ssh://host/",
            "ssh://-oX=y/a",
            "ssh://a b/c",
            "ssh://a:0/b",
            "ssh://a:x/b",
            "ssh://a:99999/b",
            "a:",
            "ssh://a/b\n",
            "ssh://a/'b",
            "ext::sh -c x",
            "ssh://u:canary@a/b",
            "https://u:canary@a/b",
            "-x@a:b",
        ] {
            let error = bad.parse::<GitAddress>().expect_err(bad);
            assert!(!error.render().contains("canary"), "{error}");
        }
    }
}
