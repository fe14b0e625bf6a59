//! Claims: references that are created once and never moved, so that two publishers cannot take one number.

use git2::{ErrorCode, Oid};

use super::super::wire::{Answer, ClaimOrder};
use super::While as _;
use super::clone::Clone;
use super::connect::{Connection, Pushed};
use super::publish::{MOST_TRIES, wait};
use crate::error::{Error, Kind, Result};

/// Where a foreign claim is fetched to, to be read.
const FOREIGN: &str = "refs/castoff/claim";

/// Whose the claim at the remote is.
enum Standing {
    Nobody,
    Ours,
    Theirs(Oid),
}

pub(super) fn claim(clone: &Clone<'_>, order: &ClaimOrder) -> Result<Answer> {
    let own = own(clone, order)?;
    for tries in 1..=MOST_TRIES {
        match standing(clone, order, own)? {
            Standing::Ours => return Ok(Answer::Ours),
            Standing::Theirs(commit) => return Ok(theirs(clone, commit)),
            Standing::Nobody => {}
        }
        // Its parentless commit is no descendant of any other claim: without force it can only be created.
        match Connection::new(clone.request).push(&clone.repository, &format!("{own}:{}", order.reference))? {
            Pushed::Taken | Pushed::Behind => {}
            Pushed::Lost(error) => match standing(clone, order, own) {
                Ok(Standing::Ours) => return Ok(Answer::Ours),
                _ => return Err(error),
            },
            Pushed::Rejected(status, words) => match standing(clone, order, own)? {
                Standing::Nobody if tries == MOST_TRIES => {
                    return Err(Error::new(
                        Kind::Refused,
                        format!("push-declined: the server does not take `{}`: {status}", order.reference),
                    )
                    .caused_by(words)
                    .hint("the server must allow references below `refs/claims`"));
                }
                Standing::Nobody => wait(tries),
                Standing::Ours | Standing::Theirs(_) => {}
            },
        }
    }
    Err(Error::new(Kind::Conflict, format!("`{}` came and went {MOST_TRIES} times", order.reference)))
}

pub(super) fn drop(clone: &Clone<'_>, order: &ClaimOrder) -> Result<Answer> {
    let own = own(clone, order)?;
    match standing(clone, order, own)? {
        Standing::Nobody => return Ok(Answer::Ours),
        Standing::Theirs(commit) => return Ok(theirs(clone, commit)),
        Standing::Ours => {}
    }
    match Connection::new(clone.request).push(&clone.repository, &format!(":{}", order.reference))? {
        Pushed::Lost(error) => return Err(error),
        Pushed::Taken | Pushed::Behind | Pushed::Rejected(..) => {}
    }
    match standing(clone, order, own)? {
        Standing::Nobody | Standing::Theirs(_) => Ok(Answer::Ours),
        Standing::Ours => Err(Error::new(Kind::Refused, format!("the server does not remove `{}`", order.reference))
            .hint("it must allow references below `refs/claims` to be deleted")),
    }
}

/// Our claim: a pure function of the order, so that the next run of the same release knows it as its own.
fn own(clone: &Clone<'_>, order: &ClaimOrder) -> Result<Oid> {
    if !git2::Reference::is_valid_name(&order.reference) {
        return Err(Error::new(Kind::Usage, format!("`{}` cannot be claimed in git", order.reference))
            .hint("names of images and flavours that are claimed end neither in `.` nor in `.lock`"));
    }
    let doing = || "build the claim".to_owned();
    let repository = &clone.repository;
    let tree = repository.treebuilder(None).and_then(|builder| builder.write()).while_(doing)?;
    let tree = repository.find_tree(tree).while_(doing)?;
    let author = clone.signature(i64::try_from(order.at).unwrap_or(i64::MAX))?;
    repository.commit(None, &author, &author, &order.message, &tree, &[]).while_(doing)
}

fn standing(clone: &Clone<'_>, order: &ClaimOrder, own: Oid) -> Result<Standing> {
    let refspec = format!("+{}:{FOREIGN}", order.reference);
    let heads = Connection::new(clone.request).fetch(&clone.repository, &[refspec])?;
    Ok(match heads.iter().find(|(name, _)| *name == order.reference) {
        None => Standing::Nobody,
        Some((_, commit)) if *commit == own => Standing::Ours,
        Some((_, commit)) => Standing::Theirs(*commit),
    })
}

fn theirs(clone: &Clone<'_>, commit: Oid) -> Answer {
    let claimant = match clone.repository.find_commit(commit) {
        Ok(commit) => {
            let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
            message
                .lines()
                .nth(2)
                .unwrap_or("somebody")
                .chars()
                .take(200)
                .map(|own| if own.is_control() { ' ' } else { own })
                .collect()
        }
        Err(error) if error.code() == ErrorCode::NotFound => format!("something that is no commit ({commit})"),
        Err(error) => format!("something that cannot be read ({})", error.message()),
    };
    Answer::Theirs { claimant }
}
