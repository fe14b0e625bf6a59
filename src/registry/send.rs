//! Sending: a blob that is there is not sent, one that another repository has is mounted, large ones go in pieces that
//! can be taken up again; the manifest comes last.

use std::sync::Arc;

use super::fetch::Registry;
use super::retry::{Retry, Trouble};
use super::session::{Request, Session, Small};
use crate::error::{Context as _, Error, Kind, Result};
use crate::http::{Head, Method, StatusCode, Url, header};
use crate::progress::{Stage, Unit};
use crate::rootfs::ReadAt;
use crate::vocab::Digest;

/// What goes in one request; what is larger goes in pieces.
const PIECE: u64 = 64 << 20;
/// How often an upload that the registry forgot is begun anew.
const MOST_LOST: u32 = 3;
/// What is read of an answer.
const ANSWER: usize = 64 << 10;

/// What sending a blob took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// Nothing: it was there.
    There,
    /// Nothing: another repository of the registry had it.
    Mounted,
    /// So many bytes.
    Bytes(u64),
}

impl Registry<'_> {
    /// Brings a blob with these bytes into the repository.
    pub fn send_blob(&self, digest: Digest, content: &Arc<dyn ReadAt>, mount_from: Option<&str>) -> Result<Sent> {
        let size = content.size();
        self.anywhere(|session| {
            if has(session, digest, size)? {
                return Ok(Sent::There);
            }
            let mut stage = session.progress.stage(format!("sending {}", digest.short()), Some(size), Unit::Bytes);
            let mut upload = Upload { session, digest, content, told: 0, stage: &mut stage };
            match upload.begin(mount_from)? {
                None => Ok(Sent::Mounted),
                Some((place, piece)) => upload.send(place, piece).map(|()| Sent::Bytes(size)),
            }
            .context(|| format!("cannot send blob `{digest}`"))
        })
    }

    /// Makes the name mean this manifest, whose blobs are all there; its digest as the registry says it.
    pub fn send_manifest(&self, media_type: &str, bytes: &[u8]) -> Result<Digest> {
        let Some(tag) = self.name().tag() else {
            return Err(Error::new(Kind::Usage, format!("`{}` has no tag that could be given", self.name())));
        };
        let digest = Digest::of(bytes);
        self.anywhere(|session| {
            let content: Arc<dyn ReadAt> = Arc::new(bytes.to_vec());
            let url = session.address(&format!("manifests/{tag}"));
            let request =
                Request::new(Method::PUT, url).header("content-type", media_type).body(content, 0, bytes.len() as u64);
            let (head, _) = session.small(&request, ANSWER).context(|| "cannot send the manifest")?;
            let said = head.header(&header::HeaderName::from_static("docker-content-digest"));
            match said.and_then(|said| said.parse::<Digest>().ok()) {
                Some(said) if said != digest => {
                    Err(Error::new(Kind::Corrupt, format!("the registry took the manifest `{digest}` for `{said}`")))
                }
                _ => Ok(digest),
            }
        })
    }
}

/// Whether the repository has a blob.
fn has(session: &Session<'_>, digest: Digest, size: u64) -> Result<bool> {
    let url = session.address(&format!("blobs/{digest}"));
    let request = Request::new(Method::HEAD, url).expecting(&[StatusCode::NOT_FOUND]);
    let (head, _) = session.small(&request, ANSWER)?;
    Ok(head.status.is_success() && head.length.is_none_or(|length| length == size))
}

/// A blob on its way to a repository.
struct Upload<'u, 'a> {
    session: &'u Session<'a>,
    digest: Digest,
    content: &'u Arc<dyn ReadAt>,
    told: u64,
    stage: &'u mut Stage,
}

impl Upload<'_, '_> {
    /// Asks for a place to send to, and how large a piece may be; none where the blob was mounted instead.
    fn begin(&mut self, mount_from: Option<&str>) -> Result<Option<(Url, u64)>> {
        let mut url = self.session.address("blobs/uploads/");
        if let Some(other) = mount_from {
            url.path = format!("{}?mount={}&from={other}", url.path, self.digest);
        }
        let request = Request::new(Method::POST, url.clone());
        let (head, _) = match self.session.small(&request, ANSWER) {
            // Who may not read the other repository may still write this one.
            Err(error) if mount_from.is_some() && matches!(error.kind(), Kind::Refused | Kind::NotFound) => {
                return self.begin(None);
            }
            other => other?,
        };
        if head.status == StatusCode::CREATED && mount_from.is_some() {
            return Ok(None);
        }
        let least = head.header(&header::HeaderName::from_static("oci-chunk-min-length"));
        let piece = least.and_then(|least| least.parse::<u64>().ok()).unwrap_or(0).max(PIECE);
        Ok(Some((Self::place(&url, &head)?, piece)))
    }

    /// Where an answer says that the upload goes on.
    fn place(from: &Url, head: &Head) -> Result<Url> {
        let odd = |why: &str| Error::new(Kind::Corrupt, format!("{from} does not say where to send to: {why}"));
        let location = head.header(&header::LOCATION).ok_or_else(|| odd("it has no `Location`"))?;
        let next = from.join(location).map_err(odd)?;
        if from.server.tls && !next.server.tls {
            return Err(Error::new(Kind::Refused, format!("{from} wants the blob sent to {next}, without TLS")));
        }
        Ok(next)
    }

    fn send(&mut self, place: Url, piece: u64) -> Result<()> {
        let size = self.content.size();
        if size <= piece {
            return self.whole(place);
        }
        let (mut place, mut at, mut lost) = (place, 0, 0);
        while at < size {
            (place, at) = match self.piece(&place, at, (at + piece).min(size))? {
                Some(next) => next,
                None if lost == MOST_LOST => {
                    return Err(Error::new(Kind::Unavailable, "the registry forgets again and again what was sent"));
                }
                None => {
                    lost += 1;
                    match self.begin(None)? {
                        Some((place, _)) => (place, 0),
                        None => return Ok(()),
                    }
                }
            };
        }
        let request = Request::new(Method::PUT, with_digest(place, self.digest));
        self.session.small(&request, ANSWER).map(drop)
    }

    /// All in one request; a try that breaks off needs a new place.
    fn whole(&mut self, place: Url) -> Result<()> {
        let mut place = Some(place);
        let (session, size) = (self.session, self.content.size());
        Retry::run(session.progress, &session.cancel, || {
            let url = match place.take() {
                Some(place) => place,
                None => match self.begin(None)? {
                    Some((place, _)) => place,
                    None => return Ok(()),
                },
            };
            let request = Request::new(Method::PUT, with_digest(url, self.digest))
                .header("content-type", "application/octet-stream")
                .body(Arc::clone(self.content), 0, size);
            self.exchange(&request, 0).map(drop)
        })
    }

    /// One piece; where the next one goes, and where it begins. None when the registry has forgotten the upload.
    fn piece(&mut self, place: &Url, from: u64, to: u64) -> Result<Option<(Url, u64)>> {
        let session = self.session;
        let (mut place, mut at) = (place.clone(), from);
        let mut retry = Retry::default();
        loop {
            let request = Request::new(Method::PATCH, place.clone())
                .header("content-type", "application/octet-stream")
                .header("content-range", format!("{at}-{}", to - 1))
                .body(Arc::clone(self.content), at, to);
            match self.exchange(&request, at) {
                Ok(head) => return Ok(Some((Self::place(&place, &head)?, to))),
                Err(trouble) => retry.pause(trouble, session.progress, &session.cancel)?,
            }
            // How far it came is the server's to say. Docker's registry gives an upload up that does not stand where its
            // last answer said, and answers 404.
            let request = Request::new(Method::GET, place.clone()).expecting(&[StatusCode::NOT_FOUND]);
            let (head, _) = session.small(&request, ANSWER)?;
            if head.status == StatusCode::NOT_FOUND {
                return Ok(None);
            }
            let there = head.header(&header::RANGE).and_then(range_end).unwrap_or(0);
            if there > to {
                return Err(Error::new(Kind::Corrupt, format!("{place} has more than what was sent to it")));
            }
            if there > at {
                retry.advanced();
            }
            (place, at) = (Self::place(&place, &head)?, there);
            if at == to {
                return Ok(Some((place, to)));
            }
        }
    }

    /// One request, of which the stage is told; bytes that are sent again are not told again.
    fn exchange(&mut self, request: &Request, from: u64) -> Result<Head, Trouble> {
        let (told, stage) = (&mut self.told, &mut *self.stage);
        let mut tell = |gone: u64| {
            stage.advance((from + gone).saturating_sub(*told));
            *told = (*told).max(from + gone);
            Ok(())
        };
        Ok(self.session.exchange(request, &mut Small::new(ANSWER), &mut tell)?.0)
    }
}

/// The place with the digest that ends the upload.
fn with_digest(mut place: Url, digest: Digest) -> Url {
    let joint = if place.path.contains('?') { '&' } else { '?' };
    place.path = format!("{}{joint}digest={digest}", place.path);
    place
}

/// How many bytes `0-9` means; registries write `0-0` for none and for one alike, and one byte is not worth asking.
fn range_end(text: &str) -> Option<u64> {
    let text = text.strip_prefix("bytes=").unwrap_or(text);
    match text.split_once('-')?.1.parse::<u64>().ok()? {
        0 => Some(0),
        last => last.checked_add(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_gets_its_digest_and_a_range_its_end() {
        let digest = Digest::of(b"");
        for (place, joint) in [("https://a.example/u/1", '?'), ("https://a.example/u/1?state=x%3D", '&')] {
            let with = with_digest(Url::parse(place).unwrap(), digest).path;
            assert!(with.ends_with(&format!("{joint}digest={digest}")), "{with}");
        }
        assert_eq!(["0-0", "0-9", "bytes=0-9", "x"].map(range_end), [Some(0), Some(10), Some(10), None]);
    }
}
