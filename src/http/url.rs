//! Where a server and a file on it are, parsed once.

use std::fmt;

/// A server to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Its name or address, an IPv6 one without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Server {
    /// Whether only this machine hears what is said to it.
    pub fn is_loopback(&self) -> bool {
        matches!(self.host.as_str(), "127.0.0.1" | "::1" | "localhost")
    }
}

/// A file on a server: `https://[user@]host[:port]/path[?query]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// The server.
    pub server: Server,
    /// The user, if the URL names one.
    pub user: Option<String>,
    /// The path in its URL form, with the query, beginning with `/`.
    pub path: String,
}

impl Url {
    /// The URL in this text, or what is wrong with it; the text may hold a password, so no message shows it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err("its scheme is neither `https` nor `http`"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, "/"),
        };
        if !path.bytes().all(|byte| byte.is_ascii_graphic())
            || path.contains(['\\', '"', '<', '>', '^', '`', '{', '|', '}'])
        {
            return Err("its path has a character that no URL has");
        }
        let (user, address) = match authority.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err("a password does not belong into a URL"),
            Some((user, address)) => (Some(percent_decoded(user)?), address),
            None => (None, authority),
        };
        let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port))),
        };
        let known = |own: char| own.is_ascii_alphanumeric() || "._-:".contains(own);
        if host.is_empty() || host.starts_with('-') || !host.chars().all(known) {
            return Err("it has no valid host");
        }
        let port = match port {
            None => Some(if tls { 443 } else { 80 }),
            Some(digits) => digits.parse().ok().filter(|port| *port != 0),
        };
        let port = port.ok_or("its port is not 1 to 65535")?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        Ok(Self { server: Server { tls, host: host.to_owned(), port }, user, path })
    }

    /// Where a `Location` header of an answer for this URL leads; the user stays on his server.
    pub fn join(&self, location: &str) -> Result<Self, &'static str> {
        let scheme = if self.server.tls { "https" } else { "http" };
        let mut next = if location.contains("://") {
            Self::parse(location)?
        } else if let Some(rest) = location.strip_prefix("//") {
            Self::parse(&format!("{scheme}://{rest}"))?
        } else {
            let host = format!("{scheme}://{}:{}", in_brackets(&self.server.host), self.server.port);
            if location.starts_with('/') {
                Self::parse(&format!("{host}{location}"))?
            } else {
                let bare = self.path.split('?').next().unwrap_or_default();
                let folder = &bare[..bare.rfind('/').map_or(0, |slash| slash + 1)];
                Self::parse(&format!("{host}{folder}{location}"))?
            }
        };
        next.user = if next.server == self.server { self.user.clone() } else { None };
        Ok(next)
    }
}

/// Without user and query: both may be nobody's business.
impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { tls, host, port } = &self.server;
        let path = self.path.split('?').next().unwrap_or_default();
        match (tls, port) {
            (true, 443) => write!(formatter, "https://{}{path}", in_brackets(host)),
            (false, 80) => write!(formatter, "http://{}{path}", in_brackets(host)),
            (true, _) => write!(formatter, "https://{}:{port}{path}", in_brackets(host)),
            (false, _) => write!(formatter, "http://{}:{port}{path}", in_brackets(host)),
        }
    }
}

/// A host as it stands in a URL: an IPv6 address in brackets.
pub fn in_brackets(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// The text with every `%XX` taken for the byte it is.
pub fn percent_decoded(text: &str) -> Result<String, &'static str> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        bytes.push(
            digits
                .and_then(|digits| u8::from_str_radix(digits, 16).ok())
                .ok_or("a `%` is not followed by two hex digits")?,
        );
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::Url;

    #[test]
    fn a_url_is_parsed_never_trusted() {
        for (text, shown) in [
            ("https://example.net/a/b?c=d#e", "https://example.net/a/b"),
            ("http://me@127.0.0.1:8080", "http://127.0.0.1:8080/"),
            ("https://[::1]:443/x", "https://[::1]/x"),
            ("http://h?x", "http://h/"),
        ] {
            assert_eq!(Url::parse(text).unwrap().to_string(), shown);
        }
        for bad in [
            "",
            "a",
            "ftp://a/b",
            "https://",
            "https:///x",
            "https://-a/x",
            "https://a:0/",
            "https://a:x/",
            "https://a b/",
            "https://a/ b",
            "https://a/\r\nx",
            "https://u:canary@a/",
            "https://a/{name}",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_redirect_leads_where_it_says_and_takes_the_user_nowhere_else() {
        let from = Url::parse("https://me@a.example/x/y?z").unwrap();
        for (location, shown, user) in [
            ("https://b.example/p", "https://b.example/p", None),
            ("//b.example/p", "https://b.example/p", None),
            ("/p?q", "https://a.example/p", Some("me")),
            ("p", "https://a.example/x/p", Some("me")),
            ("http://a.example/p", "http://a.example/p", None),
        ] {
            let next = from.join(location).unwrap();
            assert_eq!((next.to_string().as_str(), next.user.as_deref()), (shown, user), "{location}");
        }
        assert!(from.join("javascript://x").is_err());
    }
}
