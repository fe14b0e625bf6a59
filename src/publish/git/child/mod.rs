//! The child that libgit2 runs in.
//!
//! It lives no longer than the castoff that started it, holds the lock of its clone while it works, and says on standard
//! error how far it is.

mod checkout;
mod claim;
mod clone;
mod commit;
mod connect;
mod history;
mod intact;
mod publish;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;

use git2::{ErrorClass, ErrorCode};

use super::wire::{self, Answer, Operation, Request};
use crate::error::{Context as _, Error, Kind, Result};
use clone::Clone;

/// The most bytes of a request, and of a file that is read.
const LIMIT: u64 = 64 << 20;

pub(super) fn run() -> ExitCode {
    wire::close(receive().and_then(|request| serve(&request)))
}

fn receive() -> Result<Request> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .context(|| "cannot tie the child's life to castoff's")?;
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(LIMIT).read_to_end(&mut bytes).context(|| "cannot read the request")?;
    // The parser's errors may hold what they stumbled over.
    let request: Request =
        serde_json::from_slice(&bytes).map_err(|_| Error::new(Kind::Failed, "the request for git is not whole"))?;
    // It may have died before the signal was asked for.
    if std::os::unix::process::parent_id() != request.parent {
        return Err(Error::new(Kind::Interrupted, "the castoff that asked is gone"));
    }
    Ok(request)
}

fn serve(request: &Request) -> Result<Answer> {
    let clone = Clone::open(request)?;
    match operate(request, &clone) {
        // Objects that a power failure took from the cache are fetched again with all others; what is still wrong then
        // is not the cache's fault. Every operation may be run again.
        Err(error) if error.kind() == Kind::Corrupt => operate(request, &clone.anew(&error)?),
        answer => answer,
    }
}

fn operate(request: &Request, clone: &Clone<'_>) -> Result<Answer> {
    match &request.operation {
        Operation::Read { paths } => read(clone, paths),
        Operation::History { path, most } => history::history(clone, path, *most),
        Operation::Publish(release) => publish::publish(clone, release),
        Operation::Replace { subject, changes, expected } => publish::replace(clone, subject, changes, expected),
        Operation::Claim(order) => claim::claim(clone, order),
        Operation::DropClaim(order) => claim::drop(clone, order),
        Operation::FastForward { checkout } => {
            let Some(tip) = clone.fetch()? else { return Err(clone.nothing_there()) };
            checkout::fast_forward(clone, checkout, tip)?;
            Ok(Answer::Already { commit: tip.to_string() })
        }
    }
}

fn read(clone: &Clone<'_>, paths: &[String]) -> Result<Answer> {
    paths.iter().try_for_each(|path| commit::check_path(path))?;
    let tip = clone.fetch()?;
    let mut files = BTreeMap::new();
    for path in paths {
        files.insert(path.clone(), tip.map(|tip| clone.file(tip, path)).transpose()?.flatten());
    }
    Ok(Answer::Tip { commit: tip.map(|tip| tip.to_string()), files })
}

/// What a failure of libgit2 means to the caller.
fn kind(error: &git2::Error) -> Kind {
    match (error.code(), error.class()) {
        (ErrorCode::Auth | ErrorCode::Certificate | ErrorCode::Owner, _) => Kind::Refused,
        (ErrorCode::NotFastForward | ErrorCode::Conflict | ErrorCode::Modified, _) => Kind::Conflict,
        // An object that another one names is missing.
        (ErrorCode::NotFound, ErrorClass::Odb) => Kind::Corrupt,
        (ErrorCode::Locked | ErrorCode::Timeout | ErrorCode::Eof, _)
        | (_, ErrorClass::Net | ErrorClass::Ssh | ErrorClass::Os | ErrorClass::Http) => Kind::Unavailable,
        (ErrorCode::NotFound, _) => Kind::NotFound,
        (ErrorCode::HashsumMismatch, _)
        | (_, ErrorClass::Odb | ErrorClass::Object | ErrorClass::Zlib | ErrorClass::Indexer | ErrorClass::Tree) => {
            Kind::Corrupt
        }
        _ => Kind::Failed,
    }
}

/// Says what was being done when libgit2 failed.
trait While<T> {
    fn while_(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> While<T> for std::result::Result<T, git2::Error> {
    fn while_(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| {
            Error::new(kind(&error), format!("cannot {}", doing()))
                .caused_by(error.message().escape_debug().to_string())
        })
    }
}
