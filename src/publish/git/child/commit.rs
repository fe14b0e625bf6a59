//! A commit in the object database: the tree of its parent with exactly the given paths replaced.

use std::collections::BTreeMap;
use std::path::Path;

use git2::build::TreeUpdateBuilder;
use git2::{FileMode, ObjectType, Oid, Signature, Time, Tree};

use super::While as _;
use super::clone::{Clone, is_no_such_path};
use crate::error::{Error, Kind, Result};
use crate::host::{clock, fault};

impl Clone<'_> {
    /// The commit of these changes on this parent; without one, the first commit of the branch.
    pub(super) fn commit(
        &self,
        parent: Option<Oid>,
        changes: &BTreeMap<String, Option<Vec<u8>>>,
        subject: &str,
    ) -> Result<Oid> {
        let doing = || "build the commit".to_owned();
        let parent = parent.map(|parent| self.repository.find_commit(parent)).transpose().while_(doing)?;
        let base = if let Some(parent) = &parent {
            parent.tree().while_(doing)?
        } else {
            let empty = self.repository.treebuilder(None).and_then(|builder| builder.write()).while_(doing)?;
            self.repository.find_tree(empty).while_(doing)?
        };
        let mut builder = TreeUpdateBuilder::new();
        for (path, content) in changes {
            let standing = stands(&base, path)?;
            match content {
                Some(bytes) => {
                    let blob = self.repository.blob(bytes).while_(doing)?;
                    builder.upsert(path.as_str(), blob, FileMode::Blob);
                }
                None if standing => {
                    builder.remove(path.as_str());
                }
                None => {}
            }
        }
        let tree = builder.create_updated(&self.repository, &base).while_(doing)?;
        let tree = self.repository.find_tree(tree).while_(doing)?;
        // History stays in order where clocks do not agree, or one was put back.
        let after = parent.as_ref().map_or(i64::MIN, |parent| parent.committer().when().seconds().saturating_add(1));
        let now = i64::try_from(clock::now().as_secs()).unwrap_or(i64::MAX);
        let author = self.signature(now.max(after))?;
        let parents: Vec<_> = parent.iter().collect();
        let message = format!("{subject}\n");
        let commit = self.repository.commit(None, &author, &author, &message, &tree, &parents).while_(doing)?;
        fault::point("publish.git.committed");
        Ok(commit)
    }

    /// Who commits, at that second in UTC.
    pub(super) fn signature(&self, seconds: i64) -> Result<Signature<'static>> {
        let (name, email) = &self.request.author;
        let wrong = || {
            Error::new(Kind::Usage, format!("`{} <{}>` cannot be an author", name.escape_debug(), email.escape_debug()))
        };
        // libgit2 would write a line break into the commit's header.
        if name.chars().chain(email.chars()).any(char::is_control) {
            return Err(wrong().hint("an author's name and mail address are one line"));
        }
        Signature::new(name, email, &Time::new(seconds, 0))
            .map_err(|error| wrong().caused_by(error.message().to_owned()))
    }
}

/// Whether there is a file at the path; an error where only something else can stand, there or on the way.
fn stands(base: &Tree<'_>, path: &str) -> Result<bool> {
    let kind = |path: &Path| match base.get_path(path) {
        Ok(entry) => Ok(entry.kind()),
        Err(error) if is_no_such_path(&error) => Ok(None),
        Err(error) => Err(error).while_(|| format!("look at `{}` on the branch", path.display())),
    };
    let in_the_way = |path: &Path, wanted: &str| {
        Error::new(Kind::Conflict, format!("`{}` is no {wanted} on the branch", path.display()))
            .hint("somebody put something else in its place: remove it from the branch")
    };
    let path = Path::new(path);
    for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
        if kind(folder)?.is_some_and(|kind| kind != ObjectType::Tree) {
            return Err(in_the_way(folder, "folder"));
        }
    }
    match kind(path)? {
        None => Ok(false),
        Some(ObjectType::Blob) => Ok(true),
        Some(_) => Err(in_the_way(path, "file")),
    }
}

/// A path below the root, which git and every checkout takes as it is.
pub(super) fn check_path(path: &str) -> Result<()> {
    let is_name = |name: &str| {
        !name.is_empty()
            && !matches!(name, "." | "..")
            && !name.eq_ignore_ascii_case(".git")
            && !name.contains(['\\', '\0'])
    };
    if path.split('/').all(is_name) {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("`{}` is no path in a repository", path.escape_debug())))
}
