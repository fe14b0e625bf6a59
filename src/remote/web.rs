//! A file on an HTTP server: ranges, redirects, and whom a secret is told to.

use super::Access;
use super::origin::{Origin, Taker};
use crate::error::{Error, Kind, Result};
use crate::http::{Client, Head, Login, StatusCode, Url, header};
use crate::progress::Cancel;

/// Mirrors redirect once or twice; more is a loop.
const MOST_REDIRECTS: usize = 5;

/// A file on an HTTP server.
pub(super) struct WebFile {
    url: Url,
    access: Access,
    cancel: Cancel,
}

/// What came of one request.
enum Outcome {
    Streamed,
    Elsewhere(String),
    /// The server has nothing at that offset.
    NothingThere,
}

impl WebFile {
    /// The file at this URL; nothing connects yet.
    pub(super) fn new(url: &Url, access: &Access, cancel: &Cancel) -> Self {
        Self { url: url.clone(), access: access.clone(), cancel: cancel.clone() }
    }

    /// What this server is told; a password goes over TLS, or does not leave the machine.
    fn login(&self, url: &Url) -> Login {
        let known = self.access.credentials.iter().find(|known| known.server == url.server);
        let known = known.filter(|known| known.server.tls || known.server.is_loopback());
        Login {
            user: known.and_then(|known| known.user.clone()),
            secret_file: known.map(|known| known.secret_file.clone()),
            authorities: self.access.authorities.clone(),
        }
    }

    fn ask(&self, url: &Url, from: u64, taker: &mut dyn Taker) -> Result<Outcome> {
        let client = Client::new(&url.server, &self.login(url), &url.to_string(), &self.cancel)?;
        let range = format!("bytes={from}-");
        let headers: &[(&str, &str)] = if from == 0 { &[] } else { &[("range", &range)] };
        let mut outcome = Outcome::Streamed;
        let mut begun: Option<(u64, Option<u64>)> = None;
        let taker = std::cell::RefCell::new(taker);
        client.get(
            &url.path,
            headers,
            &mut |head| {
                begun = match judged(head, from, url)? {
                    Ok(begun) => Some(begun),
                    Err(other) => {
                        outcome = other;
                        None
                    }
                };
                match begun {
                    Some((at, total)) => taker.borrow_mut().begin(at, total).map(|()| true),
                    None => Ok(false),
                }
            },
            &mut |bytes| taker.borrow_mut().take(bytes),
        )?;
        Ok(outcome)
    }
}

impl Origin for WebFile {
    fn stream(&mut self, mut from: u64, taker: &mut dyn Taker) -> Result<()> {
        let mut url = self.url.clone();
        for _ in 0..=MOST_REDIRECTS {
            match self.ask(&url, from, taker)? {
                Outcome::Streamed => return Ok(()),
                Outcome::NothingThere => from = 0,
                Outcome::Elsewhere(location) => {
                    let next = url.join(&location).map_err(|why| {
                        Error::new(Kind::Failed, format!("{url} redirects to where nothing can be: {why}"))
                    })?;
                    if url.server.tls && !next.server.tls {
                        return Err(Error::new(Kind::Refused, format!("{url} redirects to {next}, without TLS")));
                    }
                    url = next;
                }
            }
        }
        Err(Error::new(Kind::Failed, format!("{} redirects more than {MOST_REDIRECTS} times", self.url)))
    }
}

/// Where the body begins and how long the file is, or what else is to be done.
fn judged(head: &Head, from: u64, url: &Url) -> Result<Result<(u64, Option<u64>), Outcome>> {
    let encoding = head.header(&header::CONTENT_ENCODING).unwrap_or("identity");
    if head.status.is_success() && encoding != "identity" {
        return Err(Error::new(Kind::Unsupported, format!("{url} comes encoded as `{}`", encoding.escape_debug())));
    }
    let odd = |what: &str| Err(Error::new(Kind::Failed, format!("{url}: {what}")));
    match head.status {
        StatusCode::OK => Ok(Ok((0, head.length))),
        StatusCode::PARTIAL_CONTENT => {
            let Some(range) = head.header(&header::CONTENT_RANGE).and_then(content_range) else {
                return odd("the server sends a part and does not say which");
            };
            Ok(Ok(range))
        }
        StatusCode::RANGE_NOT_SATISFIABLE if from > 0 => Ok(Err(Outcome::NothingThere)),
        StatusCode::MOVED_PERMANENTLY
        | StatusCode::FOUND
        | StatusCode::SEE_OTHER
        | StatusCode::TEMPORARY_REDIRECT
        | StatusCode::PERMANENT_REDIRECT => match head.header(&header::LOCATION) {
            Some(location) => Ok(Err(Outcome::Elsewhere(location.to_owned()))),
            None => odd("the server redirects and does not say where to"),
        },
        status => {
            let kind = match status {
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Kind::Refused,
                StatusCode::NOT_FOUND | StatusCode::GONE => Kind::NotFound,
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Kind::Unavailable,
                status if status.is_server_error() => Kind::Unavailable,
                _ => Kind::Failed,
            };
            Err(Error::new(kind, format!("{url}: the server answers `{status}`")))
        }
    }
}

/// The beginning and the whole in `bytes 5-9/10`.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let from = range.split_once('-')?.0.parse().ok()?;
    match total {
        "*" => Some((from, None)),
        total => Some((from, Some(total.parse().ok()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::content_range;

    #[test]
    fn a_range_is_read_or_refused() {
        for (text, expected) in [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes 5-9", None),
            ("bytes -9/10", None),
        ] {
            assert_eq!(content_range(text), expected, "{text}");
        }
    }
}
