//! Connections: which host key is trusted, which credentials are offered, what the server says.

use std::cell::RefCell;

use git2::{
    AutotagOption, CertificateCheckStatus, Cred, CredentialType, FetchOptions, Oid, PushOptions, RemoteCallbacks,
    Repository,
};

use super::super::wire::{Heard, Offer, Request, tell};
use super::{While as _, kind};
use crate::error::{Error, Kind, Result};
use crate::host::fault;

/// The most bytes of the server's own words that are kept.
const LONGEST_WORDS: usize = 8 << 10;

/// What the server answered to the push of one reference.
#[derive(Debug)]
pub(super) enum Pushed {
    /// It took it.
    Taken,
    /// It did not, and says why; what its hooks printed is in the second text.
    Rejected(String, String),
    /// The remote holds what we do not, so nothing was sent.
    Behind,
    /// The connection broke: whether it was taken nobody knows.
    Lost(Error),
}

/// One connection's callbacks, and what they found.
pub(super) struct Connection<'a> {
    request: &'a Request,
    found: RefCell<Found>,
}

#[derive(Default)]
struct Found {
    /// Offers made so far.
    offered: usize,
    /// Our own reason to break off, which libgit2 would only call a failed callback.
    reason: Option<Error>,
    /// Why the server did not take the reference, if it said so.
    rejection: Option<String>,
    words: Vec<u8>,
    told: u64,
}

impl<'a> Connection<'a> {
    pub(super) fn new(request: &'a Request) -> Self {
        Self { request, found: RefCell::default() }
    }

    /// Fetches the refspecs and gives back every reference of the remote.
    pub(super) fn fetch(&self, repository: &Repository, refspecs: &[String]) -> Result<Vec<(String, Oid)>> {
        let doing = || "fetch".to_owned();
        let mut remote = repository.remote_anonymous(&self.request.url).while_(doing)?;
        tell(&Heard::Stage { stage: "fetching".to_owned(), total: None });
        let mut options = FetchOptions::new();
        options.remote_callbacks(self.callbacks()).download_tags(AutotagOption::None).update_fetchhead(false);
        let fetched = remote.fetch(refspecs, Some(&mut options), None);
        drop(options);
        fetched.map_err(|error| self.failure("fetch", &error))?;
        let heads = remote.list().while_(doing)?;
        Ok(heads.iter().map(|head| (head.name().to_owned(), head.oid())).collect())
    }

    /// Pushes one refspec.
    pub(super) fn push(&self, repository: &Repository, refspec: &str) -> Result<Pushed> {
        let mut remote = repository.remote_anonymous(&self.request.url).while_(|| "push".to_owned())?;
        tell(&Heard::Stage { stage: "pushing".to_owned(), total: None });
        let mut options = PushOptions::new();
        options.remote_callbacks(self.callbacks());
        fault::point("publish.git.before-push");
        let pushed = remote.push(&[refspec], Some(&mut options));
        drop(options);
        fault::point("publish.git.pushed");
        let words = String::from_utf8_lossy(&self.found.borrow().words).trim().to_owned();
        let rejection = self.found.borrow_mut().rejection.take();
        match (pushed, rejection) {
            // A declined push is no error to libgit2: the reference's status is what counts.
            (_, Some(status)) => Ok(Pushed::Rejected(plain(&status), plain(&words))),
            // Or there was nothing to do, the remote standing there already: the fetch that follows tells.
            (Ok(()), None) => Ok(Pushed::Taken),
            (Err(error), _) if error.code() == git2::ErrorCode::NotFastForward => Ok(Pushed::Behind),
            (Err(error), _) => {
                let failure = self.failure("push", &error);
                let failure = if words.is_empty() {
                    failure
                } else {
                    failure.hint(format!("the server said: {}", plain(&words)))
                };
                if failure.kind() == Kind::Unavailable { Ok(Pushed::Lost(failure)) } else { Err(failure) }
            }
        }
    }

    /// Our own reason where there is one, else libgit2's.
    fn failure(&self, doing: &str, error: &git2::Error) -> Error {
        if let Some(reason) = self.found.borrow_mut().reason.take() {
            return reason;
        }
        let (message, offered) = (plain(error.message()), self.found.borrow().offered);
        // libssh2 gives one class to a key it cannot read and to a connection that broke; the words tell.
        let is_of_key = ["private key", "public key file", "passphrase", "ssh agent"];
        if offered > 0 && is_of_key.iter().any(|word| message.to_ascii_lowercase().contains(word)) {
            return Error::new(Kind::Refused, format!("the key that is offered as number {offered} cannot be used"))
                .caused_by(message)
                .hint("does its file exist, is it a private key, and is the passphrase right?");
        }
        Error::new(kind(error), format!("cannot {doing}")).caused_by(message)
    }

    fn callbacks(&self) -> RemoteCallbacks<'_> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.certificate_check(|certificate, host| self.check(certificate, host));
        callbacks.credentials(|_, user, kinds| self.offer(user, kinds));
        callbacks.push_update_reference(|_, status| {
            self.found.borrow_mut().rejection = status.map(str::to_owned);
            Ok(())
        });
        callbacks.sideband_progress(|words| {
            let kept = &mut self.found.borrow_mut().words;
            let room = LONGEST_WORDS.saturating_sub(kept.len());
            kept.extend_from_slice(&words[..words.len().min(room)]);
            true
        });
        callbacks.transfer_progress(|progress| {
            self.advance(progress.received_objects() as u64);
            true
        });
        callbacks.push_transfer_progress(|done, _, _| {
            fault::point("publish.git.pushing");
            self.advance(done as u64);
        });
        callbacks
    }

    /// Tells of progress once in a hundred objects.
    fn advance(&self, done: u64) {
        let told = &mut self.found.borrow_mut().told;
        if done >= *told + 100 {
            *told = done;
            tell(&Heard::Done { done });
        }
    }

    fn check(
        &self,
        certificate: &git2::cert::Cert<'_>,
        host: &str,
    ) -> std::result::Result<CertificateCheckStatus, git2::Error> {
        let wire = certificate.as_hostkey().and_then(git2::cert::CertHostkey::hostkey);
        let judged = match (&self.request.trusted, wire) {
            (Some(trusted), Some(wire)) => trusted.check(wire),
            _ => Err(Error::new(Kind::Refused, format!("`{host}` showed no host key that can be judged"))),
        };
        judged.map(|_| CertificateCheckStatus::CertificateOk).map_err(|error| self.broken_off(error))
    }

    /// The next credential; each is offered once, since libgit2 asks again and again.
    fn offer(&self, user: Option<&str>, kinds: CredentialType) -> Result<Cred, git2::Error> {
        let user = user.unwrap_or("git");
        if kinds.contains(CredentialType::USERNAME) {
            return Cred::username(user);
        }
        loop {
            let at = self.found.borrow().offered;
            let Some(offer) = self.request.credentials.get(at) else {
                let error = match at {
                    0 => Error::new(
                        Kind::Refused,
                        format!("the server wants `{user}` to show a key, and none is configured"),
                    ),
                    _ => Error::new(
                        Kind::Refused,
                        format!("the server refused `{user}` with every key that was offered ({at})"),
                    ),
                };
                return Err(self.broken_off(
                    error.hint("has the key write access to the repository, and does its passphrase fit?"),
                ));
            };
            self.found.borrow_mut().offered += 1;
            let cred = match offer {
                Offer::File(path, passphrase) => Cred::ssh_key(user, None, path, passphrase.as_deref()),
                Offer::Memory(key, passphrase) if kinds.contains(CredentialType::SSH_MEMORY) => {
                    Cred::ssh_key_from_memory(user, None, key, passphrase.as_deref())
                }
                Offer::Memory(..) => continue,
                Offer::Agent => Cred::ssh_key_from_agent(user),
            };
            return cred;
        }
    }

    fn broken_off(&self, error: Error) -> git2::Error {
        let text = git2::Error::from_str(error.message());
        self.found.borrow_mut().reason = Some(error);
        text
    }
}

/// A server's words without what could steer a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|own| {
            if own == '\n' {
                own
            } else if own.is_control() {
                ' '
            } else {
                own
            }
        })
        .collect::<String>()
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect::<Vec<_>>()
        .join("\n")
}
