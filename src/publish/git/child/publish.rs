//! Bringing changes to the tip: build, push, prove; again on the new tip when somebody was faster.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _};
use std::time::Duration;

use git2::Oid;

use super::super::Release;
use super::super::release::Decision;
use super::super::wire::Answer;
use super::While as _;
use super::clone::Clone;
use super::commit::check_path;
use super::connect::{Connection, Pushed};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fault;
use crate::vocab::Digest;

/// How often a push is tried before somebody else has to decide.
pub(super) const MOST_TRIES: u32 = 8;

/// The wait after the first try is at most twice this.
const SHORTEST: Duration = Duration::from_millis(200);

/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Statuses by which git says that another push came first; every other is the server's own decision.
const RACES: [&str; 6] = [
    "failed to update ref",
    "cannot lock ref",
    "failed to lock",
    "incorrect old value",
    "fetch first",
    "non-fast-forward",
];

/// What the next try is to do.
enum Next {
    Done(Answer),
    Commit,
}

pub(super) fn publish(clone: &Clone<'_>, release: &Release) -> Result<Answer> {
    let paths = release.paths();
    let changes = release.changes();
    bring(clone, &changes, &release.subject(), |tip| {
        let Some(tip) = tip else { return Ok(Next::Commit) };
        let version = clone.file(tip, &paths.version)?;
        let manifest = clone.file(tip, &paths.manifest)?;
        let withdrawn = clone.file(tip, &paths.withdrawn)?;
        Ok(match release.decide(version.as_deref(), manifest.as_deref(), withdrawn.as_deref())? {
            Decision::Announce => Next::Commit,
            Decision::Already => Next::Done(Answer::Already { commit: tip.to_string() }),
            Decision::Conflict(highest) => Next::Done(Answer::Conflict { highest }),
        })
    })
}

pub(super) fn replace(
    clone: &Clone<'_>,
    subject: &str,
    changes: &BTreeMap<String, Option<Vec<u8>>>,
    expected: &BTreeMap<String, Option<Digest>>,
) -> Result<Answer> {
    bring(clone, changes, subject, |tip| {
        if let Some(tip) = tip
            && stands(clone, tip, changes)?
        {
            return Ok(Next::Done(Answer::Already { commit: tip.to_string() }));
        }
        for (path, expected) in expected {
            let standing = tip.map(|tip| clone.file(tip, path)).transpose()?.flatten();
            if standing.as_deref().map(Digest::of) != *expected {
                return Err(Error::new(Kind::Conflict, format!("`{path}` has changed on the branch"))
                    .hint("look at what changed, and begin again"));
            }
        }
        Ok(Next::Commit)
    })
}

/// Whether all changes stand so in the commit.
fn stands(clone: &Clone<'_>, commit: Oid, changes: &BTreeMap<String, Option<Vec<u8>>>) -> Result<bool> {
    for (path, content) in changes {
        if clone.file(commit, path)? != *content {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Pushes the changes until a fresh fetch shows them, asking before each try whether they still have to be.
fn bring(
    clone: &Clone<'_>,
    changes: &BTreeMap<String, Option<Vec<u8>>>,
    subject: &str,
    decide: impl Fn(Option<Oid>) -> Result<Next>,
) -> Result<Answer> {
    changes.keys().try_for_each(|path| check_path(path))?;
    let mut tip = clone.fetch()?;
    let mut refused = None;
    for tries in 1..=MOST_TRIES {
        if let Next::Done(answer) = decide(tip)? {
            return Ok(answer);
        }
        let commit = clone.commit(tip, changes, subject)?;
        let refspec = format!("{commit}:refs/heads/{}", clone.request.branch);
        let pushed = Connection::new(clone.request).push(&clone.repository, &refspec)?;
        let before = tip;
        tip = match (clone.fetch(), &pushed) {
            // Nothing can be said; the next run finds out.
            (Err(_), Pushed::Lost(_)) => None,
            (fetched, _) => fetched.context(|| "cannot prove the push by a fresh fetch")?,
        };
        if let Some(tip) = tip
            && proved(clone, commit, tip, changes)?
        {
            fault::point("publish.git.proved");
            return Ok(Answer::New { commit: commit.to_string(), tries });
        }
        match pushed {
            Pushed::Lost(error) => return Err(error),
            Pushed::Rejected(status, words) if tip == before && !RACES.iter().any(|race| status.contains(race)) => {
                return Err(declined(clone, &status, &words));
            }
            Pushed::Taken if tip == before => {
                return Err(Error::new(Kind::Failed, "the server took the push and does not show it")
                    .hint("is another copy of the repository being served than the one that is pushed to?"));
            }
            Pushed::Rejected(status, words) => {
                refused = Some(format!("{status}\n{words}").trim_end().to_owned());
                wait(tries);
            }
            Pushed::Taken | Pushed::Behind => wait(tries),
        }
    }
    let error = Error::new(Kind::Conflict, format!("none of {MOST_TRIES} pushes came through"))
        .hint("many publish to the branch at this moment, or the server cannot move it: try again later");
    Err(refused.into_iter().fold(error, Error::caused_by))
}

/// Whether what we pushed is what the branch says: at its tip, or below later commits that other publishers put on it.
fn proved(clone: &Clone<'_>, commit: Oid, tip: Oid, changes: &BTreeMap<String, Option<Vec<u8>>>) -> Result<bool> {
    if tip == commit {
        return stands(clone, tip, changes);
    }
    clone.repository.graph_descendant_of(tip, commit).while_(|| format!("find {commit} in the history of {tip}"))
}

fn declined(clone: &Clone<'_>, status: &str, words: &str) -> Error {
    let error = Error::new(
        Kind::Refused,
        format!("push-declined: the server does not take commits on `{}`: {status}", clone.request.branch),
    );
    let error = if words.is_empty() { error } else { error.caused_by(words.to_owned()) };
    error
        .hint("a hook or a protected branch of the server decides that; ask its administrator, then run the same again")
}

/// Waits a random time that grows with the tries: full jitter, so that publishers that met once do not meet again.
pub(super) fn wait(tries: u32) {
    let most = SHORTEST.saturating_mul(1 << tries.min(16)).min(LONGEST);
    // Each `RandomState` has keys of its own.
    let random = std::hash::RandomState::new().build_hasher().finish();
    let nanoseconds = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
    std::thread::sleep(Duration::from_nanos(random % nanoseconds));
}
