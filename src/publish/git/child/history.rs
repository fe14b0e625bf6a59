//! What one file has held in the history of the branch.

use std::collections::BTreeSet;
use std::path::Path;

use git2::{Oid, Sort};

use super::super::Version;
use super::super::wire::Answer;
use super::While as _;
use super::clone::{Clone, is_no_such_path};
use super::commit::check_path;
use crate::error::{Error, Kind, Result};

/// The contents of the file, the newest first; what came in through merges is among them.
pub(super) fn history(clone: &Clone<'_>, path: &str, most: usize) -> Result<Answer> {
    check_path(path)?;
    let Some(tip) = clone.fetch()? else { return Ok(Answer::Versions(Vec::new())) };
    let doing = || format!("read the history of `{path}`");
    let mut walk = clone.repository.revwalk().while_(doing)?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME).while_(doing)?;
    walk.push(tip).while_(doing)?;
    let mut seen = BTreeSet::new();
    let mut versions = Vec::new();
    for commit in walk {
        if versions.len() == most {
            break;
        }
        let commit = commit.while_(doing)?;
        let Some(blob) = blob(clone, commit, path)? else { continue };
        if !seen.insert(blob) {
            continue;
        }
        let Some(bytes) = clone.file(commit, path)? else { continue };
        let at = clone.repository.find_commit(commit).while_(doing)?.committer().when().seconds();
        let text = String::from_utf8(bytes).map_err(|_| {
            Error::new(Kind::Conflict, format!("`{path}` in {commit} is no text"))
                .hint("somebody put something else in its place: look at the branch's history")
        })?;
        versions.push(Version { commit: commit.to_string(), at, text });
    }
    Ok(Answer::Versions(versions))
}

/// The name of the file's content in a commit.
fn blob(clone: &Clone<'_>, commit: Oid, path: &str) -> Result<Option<Oid>> {
    let doing = || format!("read `{path}` in {commit}");
    let tree = clone.repository.find_commit(commit).and_then(|commit| commit.tree()).while_(doing)?;
    match tree.get_path(Path::new(path)) {
        Ok(entry) => Ok(Some(entry.id())),
        Err(error) if is_no_such_path(&error) => Ok(None),
        Err(error) => Err(error).while_(doing),
    }
}
