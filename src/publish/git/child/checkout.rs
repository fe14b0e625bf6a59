//! A plain checkout that others read files from, brought forward while they do.
//!
//! Readers of old releases read the version file and its MD5 one after the other. With the MD5 replaced before the version, one
//! that reads in between sees an old version with a new MD5, and refuses it. Everything is on the disk beside its place
//! before the first file is replaced, and the two are replaced back to back: in between lies one system call.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use git2::{Delta, DiffOptions, Oid, Repository};

use super::While as _;
use super::clone::Clone;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{fault, fs};

/// Where our clone keeps the tip, and where the checkout's own repository gets it.
const TIP: &str = "refs/castoff/tip";

/// A file that differs between the checkout's commit and the tip.
struct Change {
    path: PathBuf,
    old: Option<Oid>,
    /// Content and whether it may be executed; none removes the file.
    new: Option<(Vec<u8>, bool)>,
}

impl Change {
    /// Other files first, then of each image and flavour the MD5 and the version file; whatever is removed goes last,
    /// the version file first.
    fn order(&self) -> (u8, String, u8) {
        let name = self.path.to_string_lossy();
        let image = |end| name.strip_suffix(end).map(str::to_owned);
        let removed = self.new.is_none();
        match (image("_version.txt"), image("_version.txt.md5")) {
            (Some(image), _) => (1 + u8::from(removed), image, u8::from(!removed)),
            (_, Some(image)) => (1 + u8::from(removed), image, u8::from(removed)),
            _ => (if removed { 3 } else { 0 }, String::new(), 0),
        }
    }
}

pub(super) fn fast_forward(clone: &Clone<'_>, checkout: &Path, tip: Oid) -> Result<()> {
    let doing = || format!("bring the checkout `{}` forward", checkout.display());
    let repository = Repository::open(checkout).while_(doing)?;
    let reference = format!("refs/heads/{}", clone.request.branch);
    let head = repository.head().while_(doing)?;
    if head.name_bytes() != reference.as_bytes() {
        return Err(stop(checkout, &format!("it is not on the branch `{}`", clone.request.branch)));
    }
    let old = head.peel_to_commit().while_(doing)?;
    let source = clone.repository.path().to_string_lossy().into_owned();
    let mut remote = repository.remote_anonymous(&source).while_(doing)?;
    let mut options = git2::FetchOptions::new();
    options.update_fetchhead(false).download_tags(git2::AutotagOption::None);
    remote.fetch(&[format!("+{TIP}:{TIP}")], Some(&mut options), None).while_(doing)?;
    if old.id() != tip && !repository.graph_descendant_of(tip, old.id()).while_(doing)? {
        return Err(stop(checkout, "it has commits that the branch has not"));
    }
    let new = repository.find_commit(tip).while_(doing)?;
    let (old_tree, new_tree) = (old.tree().while_(doing)?, new.tree().while_(doing)?);
    let mut index = repository.index().while_(doing)?;
    let staged = |tree: &git2::Tree<'_>| -> Result<bool> {
        let diff = repository.diff_tree_to_index(Some(tree), Some(&index), None).while_(doing)?;
        Ok(diff.deltas().len() > 0)
    };
    // The index of the tip is what a run that was cut off leaves.
    if staged(&old_tree)? && staged(&new_tree)? {
        return Err(stop(checkout, "changes are staged in it"));
    }
    let mut changes = changes(&repository, &old_tree, &new_tree)?;
    changes.sort_by_cached_key(Change::order);
    for change in &changes {
        check(checkout, change)?;
    }
    for change in &changes {
        // What a run that was cut off left beside the file.
        let folder = checkout.join(&change.path);
        if fs::exists(fs::parent(&folder))? {
            fs::sweep(fs::parent(&folder))?;
        }
    }
    let ready: Vec<Option<fs::TempFile>> =
        changes.iter().map(|change| prepare(checkout, change)).collect::<Result<_>>()?;
    let mut folders = BTreeSet::new();
    for (change, ready) in changes.iter().zip(ready) {
        let path = checkout.join(&change.path);
        match ready {
            Some(file) => file.replace()?,
            None => drop(fs::remove_file(&path)?),
        }
        folders.insert(fs::parent(&path).to_path_buf());
        fault::point("publish.git.checkout-file");
    }
    folders.iter().try_for_each(|folder| fs::sync_dir(folder))?;
    index.read_tree(&new_tree).and_then(|()| index.write()).while_(doing).map_err(locked)?;
    fault::point("publish.git.checkout-index");
    repository.reference(&reference, tip, true, "castoff: fast-forward").while_(doing).map_err(locked)?;
    Ok(())
}

/// A lock in a checkout may be that of a git which runs: nobody but its user can tell.
fn locked(error: Error) -> Error {
    match error.kind() {
        Kind::Unavailable => error.hint("if no git runs there, a killed one left its `.lock` file: remove it"),
        _ => error,
    }
}

fn stop(checkout: &Path, why: &str) -> Error {
    Error::new(Kind::Conflict, format!("the checkout `{}` cannot be brought forward: {why}", checkout.display()))
        .hint("nothing was changed in it; put it in order with git")
}

fn changes(repository: &Repository, old: &git2::Tree<'_>, new: &git2::Tree<'_>) -> Result<Vec<Change>> {
    let doing = || "compare the checkout with the tip".to_owned();
    let mut options = DiffOptions::new();
    let diff = repository.diff_tree_to_tree(Some(old), Some(new), Some(&mut options)).while_(doing)?;
    let mut changes = Vec::new();
    for delta in diff.deltas() {
        let side = if delta.status() == Delta::Deleted { delta.old_file() } else { delta.new_file() };
        let path = side.path().map(Path::to_path_buf);
        let Some(path) = path.filter(|path| path.components().all(|part| matches!(part, Component::Normal(_)))) else {
            return Err(Error::new(Kind::Refused, "a path of the branch leaves the checkout"));
        };
        let executable = match side.mode() {
            git2::FileMode::Blob | git2::FileMode::BlobGroupWritable => false,
            git2::FileMode::BlobExecutable => true,
            _ => {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("`{}` is no plain file on the branch", path.display()),
                )
                .hint("castoff brings only files forward: run `git merge --ff-only` in the checkout"));
            }
        };
        let new = match delta.status() {
            Delta::Deleted => None,
            _ => Some((repository.find_blob(side.id()).while_(doing)?.content().to_vec(), executable)),
        };
        let old = (delta.status() != Delta::Added).then(|| delta.old_file().id());
        changes.push(Change { path, old, new });
    }
    Ok(changes)
}

/// Fails if somebody changed the file in the checkout, or led its folder elsewhere.
fn check(checkout: &Path, change: &Change) -> Result<()> {
    let shown = change.path.display();
    let mut folder = checkout.to_path_buf();
    for part in change.path.parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        if fs::link_metadata(&folder)?.is_some_and(|metadata| !metadata.is_dir()) {
            return Err(stop(checkout, &format!("the folder of `{shown}` is none")));
        }
    }
    let path = checkout.join(&change.path);
    let standing = match fs::link_metadata(&path)? {
        None => None,
        Some(metadata) if metadata.is_file() => Some(fs::read(&path)?),
        Some(_) => return Err(stop(checkout, &format!("`{shown}` is no plain file there"))),
    };
    let is_old = match (&standing, change.old) {
        (None, None) => true,
        (Some(bytes), Some(old)) => {
            Oid::hash_object(git2::ObjectType::Blob, bytes).while_(|| "hash a file".to_owned())? == old
        }
        _ => false,
    };
    // A run that was cut off has replaced some already.
    let is_new = standing.as_ref() == change.new.as_ref().map(|(bytes, _)| bytes);
    if is_old || is_new { Ok(()) } else { Err(stop(checkout, &format!("`{shown}` was changed there"))) }
}

/// The new file beside its place, on the disk; none for one that is removed.
fn prepare(checkout: &Path, change: &Change) -> Result<Option<fs::TempFile>> {
    let path = checkout.join(&change.path);
    let Some((bytes, executable)) = &change.new else { return Ok(None) };
    let standing = fs::link_metadata(&path)?.map(|metadata| metadata.permissions().mode() & 0o777);
    fs::create_dir_all(fs::parent(&path), 0o755)?;
    let plain = standing.unwrap_or(0o644) & 0o666;
    let mut file = fs::TempFile::beside(&path, if *executable { plain | (plain >> 2 & 0o111) } else { plain })?;
    file.write_all(bytes).context(|| format!("cannot write `{}`", path.display()))?;
    file.sync()?;
    Ok(Some(file))
}
