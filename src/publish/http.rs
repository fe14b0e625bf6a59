//! A WebDAV server as a place to publish to (RFC 4918): PUT, HEAD, GET, MOVE without overwriting, DELETE.
//!
//! Large files go up in pieces with `Content-Range`, so that a lost connection costs one piece. A server that does not
//! know that form answers with an error, or takes the piece for the whole file; both show in the size that HEAD tells
//! after the second piece, and the file is then sent in one request.

use sha2::Digest as _;

use super::access::{Access, MAKE_FOLDER};
use super::content::Content;
use super::name::{Entry, RemoteName, Temporary};
use super::remote::{RemoteStore, Space, Tier, Written};
use super::target::WebFolder;
use crate::error::{Error, Kind, Result};
use crate::http::{Answer, Client, Login, Method, Outgoing, Server, StatusCode};
use crate::progress::{Cancel, Progress, Unit};
use crate::vocab::Digest;

/// Bytes in one piece.
const PIECE: u64 = 16 << 20;

/// A folder of a WebDAV server.
pub(super) struct Web {
    client: Client,
    path: String,
    place: String,
    /// Whether the server takes pieces, once that is known.
    takes_pieces: Option<bool>,
}

fn client(folder: &WebFolder, access: &Access, place: &str, cancel: &Cancel) -> Result<Client> {
    let server = Server { tls: folder.tls, host: folder.host.clone(), port: folder.port };
    let login = Login {
        user: folder.user.clone(),
        secret_file: access.secret_file.clone(),
        authorities: access.authorities.clone(),
    };
    Client::new(&server, &login, place, cancel)
}

impl Web {
    /// Looks whether the server answers for the folder.
    pub(super) fn open(folder: &WebFolder, access: &Access, place: String, cancel: &Cancel) -> Result<Self> {
        let client = client(folder, access, &place, cancel)?;
        let mut web = Self { client, path: folder.path.clone(), place, takes_pieces: None };
        web.reconnect()?;
        Ok(web)
    }

    /// The folder of a server that need not know WebDAV.
    pub(super) fn open_for_reading(
        folder: &WebFolder,
        access: &Access,
        place: String,
        cancel: &Cancel,
    ) -> Result<Self> {
        let client = client(folder, access, &place, cancel)?;
        Ok(Self { client, path: folder.path.clone(), place, takes_pieces: None })
    }

    fn path(&self, entry: Entry<'_>) -> String {
        format!("{}{}", self.path, entry.text())
    }

    fn ask(&mut self, method: &Method, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
        self.client.ask(method, path, headers, Outgoing::Nothing, &mut |_| Ok(()))
    }

    /// What an answer that is not the hoped-for one means.
    fn refused(&self, status: StatusCode, what: &str) -> Error {
        let kind = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PAYLOAD_TOO_LARGE => Kind::Refused,
            StatusCode::NOT_FOUND => Kind::NotFound,
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED | StatusCode::LOCKED => Kind::Conflict,
            StatusCode::INSUFFICIENT_STORAGE => Kind::NoSpace,
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Kind::Unsupported,
            StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => Kind::Unavailable,
            _ => Kind::Failed,
        };
        let error = Error::new(kind, format!("{what} at {}: the server answers `{status}`", self.place));
        match kind {
            Kind::Unsupported => error.hint("castoff publishes over HTTP to WebDAV servers: they know MOVE and DELETE"),
            Kind::NoSpace => error.hint("free some space there, or ask for a larger quota"),
            Kind::Refused if status == StatusCode::PAYLOAD_TOO_LARGE => {
                error.hint("the server limits the size of a request; let its administrator lift that for this folder")
            }
            Kind::Refused => {
                error.hint("is the user in the URL and the password in its file right, and may they write there?")
            }
            _ => error,
        }
    }

    /// One PUT of these bytes; `told` hears of them as they go.
    fn put(
        &mut self,
        temporary: &Temporary,
        content: &Content,
        part: std::ops::Range<u64>,
        told: &mut dyn FnMut(Written) -> Result<()>,
    ) -> Result<Answer> {
        let path = self.path(temporary.into());
        let range = format!("bytes {}-{}/{}", part.start, part.end.saturating_sub(1), content.size());
        let whole = part == (0..content.size());
        let headers: &[(&str, &str)] = if whole { &[] } else { &[("content-range", &range)] };
        let own = content.reopened()?;
        let read = Box::new(move |buffer: &mut [u8], offset: u64| own.read_at(buffer, offset));
        let body = Outgoing::Part { read, from: part.start, to: part.end };
        let mut gone = |count| told(Written::Gone(part.start + count));
        self.client.ask(&Method::PUT, &path, headers, body, &mut gone)
    }

    /// Sends the file in pieces from this offset on; false if the server does not know how.
    fn put_pieces(
        &mut self,
        temporary: &Temporary,
        content: &Content,
        from: u64,
        told: &mut dyn FnMut(Written) -> Result<()>,
    ) -> Result<bool> {
        let mut done = from;
        while done < content.size() {
            let to = content.size().min(done + PIECE);
            let answer = self.put(temporary, content, done..to, told)?;
            let knows_not = [StatusCode::BAD_REQUEST, StatusCode::NOT_IMPLEMENTED, StatusCode::RANGE_NOT_SATISFIABLE];
            if self.takes_pieces != Some(true) && knows_not.contains(&answer.status) {
                return Ok(false);
            }
            if !answer.status.is_success() {
                return Err(self.refused(answer.status, &format!("cannot write `{temporary}`")));
            }
            let there = self.size_of(temporary.into())?.unwrap_or(0);
            if there < to {
                return Ok(false);
            }
            // One piece alone at the beginning looks the same if it was taken for the whole.
            if done > 0 {
                self.takes_pieces = Some(true);
            }
            done = to;
            told(Written::Safe(done))?;
        }
        Ok(true)
    }

    /// Whether somebody answers, and for this folder.
    fn greet(&mut self) -> Result<()> {
        let answer = self.look_for_room()?;
        match answer.status {
            StatusCode::MULTI_STATUS => Ok(()),
            // No PROPFIND, so whether the folder is there shows with the first file.
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
                let path = self.path.clone();
                let answer = self.ask(&Method::OPTIONS, &path, &[])?;
                if answer.status.is_success() {
                    Ok(())
                } else {
                    Err(self.refused(answer.status, "cannot use the folder"))
                }
            }
            StatusCode::NOT_FOUND => {
                Err(Error::new(Kind::NotFound, format!("there is no folder {}", self.place)).hint(MAKE_FOLDER))
            }
            _ => Err(self.refused(answer.status, "cannot use the folder")),
        }
    }

    /// Removes a file; whether there was one.
    fn delete(&mut self, entry: Entry<'_>) -> Result<bool> {
        let path = self.path(entry);
        let answer = self.ask(&Method::DELETE, &path, &[])?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(self.refused(answer.status, &format!("cannot remove `{}`", entry.text()))),
        }
    }

    fn look_for_room(&mut self) -> Result<Answer> {
        let body = r#"<?xml version="1.0"?><propfind xmlns="DAV:"><prop><quota-available-bytes/></prop></propfind>"#;
        let method = Method::from_bytes(b"PROPFIND").map_err(|error| Error::new(Kind::Failed, error.to_string()))?;
        let headers = [("depth", "0"), ("content-type", "application/xml")];
        self.client.ask(&method, &self.path, &headers, Outgoing::Text(body), &mut |_| Ok(()))
    }
}

impl RemoteStore for Web {
    fn place(&self) -> &str {
        &self.place
    }

    fn size_of(&mut self, entry: Entry<'_>) -> Result<Option<u64>> {
        let path = self.path(entry);
        let answer = self.ask(&Method::HEAD, &path, &[])?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if answer.status != StatusCode::OK {
            return Err(self.refused(answer.status, &format!("cannot look at `{}`", entry.text())));
        }
        // Apache tells no size of an empty file here, only with the file itself.
        let length = match answer.length {
            None => self.ask(&Method::GET, &path, &[("accept-encoding", "identity")])?.length,
            known => known,
        };
        length.map(Some).ok_or_else(|| {
            Error::new(Kind::Unsupported, format!("{} does not tell the size of `{}`", self.place, entry.text()))
        })
    }

    fn begin(&mut self, temporary: &Temporary) -> Result<u64> {
        Ok(self.size_of(temporary.into())?.unwrap_or(0))
    }

    fn space(&mut self, _: &Temporary) -> Result<Option<Space>> {
        let answer = self.look_for_room()?;
        // RFC 4331; a server that does not know it, or not PROPFIND, does not tell.
        if answer.status != StatusCode::MULTI_STATUS {
            return Ok(None);
        }
        Ok(quota(&answer.body).map(|available| Space { available, total: None }))
    }

    fn resume_write(
        &mut self,
        temporary: &Temporary,
        content: &Content,
        from: u64,
        told: &mut dyn FnMut(Written) -> Result<()>,
    ) -> Result<()> {
        let too_long = self.size_of(temporary.into())?.is_some_and(|size| size > content.size());
        let from = if too_long { 0 } else { from };
        if too_long {
            self.remove_temporary(temporary)?;
            told(Written::From(0))?;
        }
        if content.size() > PIECE && self.takes_pieces != Some(false) {
            if self.put_pieces(temporary, content, from, told)? {
                return Ok(());
            }
            self.takes_pieces = Some(false);
        }
        if from > 0 || content.size() > PIECE {
            told(Written::From(0))?;
        }
        let answer = self.put(temporary, content, 0..content.size(), told)?;
        if !answer.status.is_success() {
            return Err(self.refused(answer.status, &format!("cannot write `{temporary}`")));
        }
        told(Written::Safe(content.size()))
    }

    /// The protocol has no word for it.
    fn sync(&mut self, _: &Temporary) -> Result<bool> {
        Ok(false)
    }

    fn hash(&mut self, entry: Entry<'_>, size: u64, tier: Tier, progress: &Progress) -> Result<Option<Digest>> {
        if tier != Tier::ReadBack {
            return Ok(None);
        }
        let mut hash = sha2::Sha256::new();
        self.read(entry, size, progress, &mut |bytes| {
            hash.update(bytes);
            Ok(())
        })?;
        Ok(Some(Digest::from_bytes(hash.finalize().into())))
    }

    fn read(
        &mut self,
        entry: Entry<'_>,
        size: u64,
        progress: &Progress,
        taker: &mut dyn FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let path = self.path(entry);
        let mut stage = progress.stage(format!("reading back {}", entry.text()), Some(size), Unit::Bytes);
        let mut seen = 0;
        // No more than one piece beyond the size is taken: a server may serve without end.
        let head = self.client.get(&path, &[], &mut |head| Ok(head.status == StatusCode::OK), &mut |bytes| {
            stage.advance(bytes.len() as u64);
            taker(bytes)?;
            seen += bytes.len() as u64;
            Ok(seen <= size)
        })?;
        if head.status == StatusCode::OK {
            return Ok(());
        }
        Err(self.refused(head.status, &format!("cannot read back `{}`", entry.text())))
    }

    fn rename_noclobber(&mut self, temporary: &Temporary, name: &RemoteName) -> Result<()> {
        let method = Method::from_bytes(b"MOVE").map_err(|error| Error::new(Kind::Failed, error.to_string()))?;
        let destination = format!("{}{}", self.client.origin(), self.path(name.into()));
        let path = self.path(temporary.into());
        let answer = self.ask(&method, &path, &[("destination", &destination), ("overwrite", "F")])?;
        if answer.status.is_success() {
            return Ok(());
        }
        Err(self.refused(answer.status, &format!("cannot rename `{temporary}` to `{name}`")))
    }

    fn remove_temporary(&mut self, temporary: &Temporary) -> Result<bool> {
        self.delete(temporary.into())
    }

    fn remove(&mut self, name: &RemoteName) -> Result<bool> {
        self.delete(name.into())
    }

    fn reconnect(&mut self) -> Result<()> {
        // Every request has a connection of its own; this shows that there is somebody, and who we are to them.
        self.greet()
    }
}

/// The number in `quota-available-bytes`, whatever prefix the server gave the name.
fn quota(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let (_, rest) = text.split_once("quota-available-bytes")?;
    let (_, rest) = rest.split_once('>')?;
    rest[..rest.find('<')?].trim().parse().ok()
}

#[cfg(test)]
mod tests {
    #[test]
    fn room_is_read_whatever_the_prefix() {
        let body = |inner: &str| format!("<D:multistatus xmlns:D=\"DAV:\"><D:prop>{inner}</D:prop></D:multistatus>");
        for (inner, room) in [
            ("<lp1:quota-available-bytes xmlns:x=\"y\">123</lp1:quota-available-bytes>", Some(123)),
            ("<quota-available-bytes/>", None),
            ("", None),
        ] {
            assert_eq!(super::quota(body(inner).as_bytes()), room);
        }
    }
}
