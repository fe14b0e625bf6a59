//! The bare clone: a cache of one branch, made whole again whenever it is found broken.

use std::path::Path;

use git2::{ErrorClass, ErrorCode, ObjectType, Oid, Repository, RepositoryInitOptions, RepositoryOpenFlags};

use super::super::wire::Request;
use super::connect::Connection;
use super::intact::damage;
use super::{LIMIT, While as _};
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::host::fault;

/// Above this many packs the clone is fetched anew: every release brings two or three.
const MOST_PACKS: usize = 512;

/// The fetched tip, which keeps its objects from being taken for garbage.
const TIP: &str = "refs/castoff/tip";

/// An open clone whose lock is held.
pub(super) struct Clone<'a> {
    pub(super) request: &'a Request,
    pub(super) repository: Repository,
    _lock: host::fs::Lock,
}

impl<'a> Clone<'a> {
    /// The clone of the request's branch, made if there is none that can be used.
    pub(super) fn open(request: &'a Request) -> Result<Self> {
        if !git2::Reference::is_valid_name(&format!("refs/heads/{}", request.branch)) {
            return Err(Error::new(Kind::Usage, format!("`{}` is no name of a branch", request.branch.escape_debug())));
        }
        let lock = host::fs::Lock::exclusive(&request.lock)?;
        let repository = match usable(&request.clone)? {
            Some(repository) => repository,
            None => create(&request.clone)?,
        };
        Ok(Self { request, repository, _lock: lock })
    }

    /// The same without anything that was fetched or built before, because of this error.
    pub(super) fn anew(mut self, error: &Error) -> Result<Self> {
        remove(&self.request.clone, error.message())?;
        self.repository = create(&self.request.clone)?;
        Ok(self)
    }

    /// The branch's tip at the remote, its objects here; none in a repository without any branch.
    pub(super) fn fetch(&self) -> Result<Option<Oid>> {
        let reference = format!("refs/heads/{}", self.request.branch);
        let connection = Connection::new(self.request);
        let heads = connection.fetch(&self.repository, &[format!("+{reference}:{TIP}")])?;
        fault::point("publish.git.fetched");
        match heads.iter().find(|(name, _)| *name == reference) {
            Some((_, tip)) => self.whole(*tip).map(Some),
            None if !heads.iter().any(|(name, _)| name.starts_with("refs/heads/")) => Ok(None),
            None => {
                let known = heads.iter().filter_map(|(name, _)| name.strip_prefix("refs/heads/"));
                let near = crate::vocab::nearest(&self.request.branch, known);
                let error = Error::new(Kind::NotFound, format!("there is no branch `{}`", self.request.branch));
                Err(match near.first() {
                    Some(near) => error.hint(format!("did you mean `{near}`?")),
                    None => error.hint("make the branch first: castoff begins one only in an empty repository"),
                })
            }
        }
    }

    /// The commit, if all of it that is needed here can be read.
    fn whole(&self, tip: Oid) -> Result<Oid> {
        self.repository
            .find_commit(tip)
            .and_then(|commit| commit.tree())
            .while_(|| format!("read the commit {tip}"))?;
        Ok(tip)
    }

    /// The bytes of a file in a commit, if there is one.
    pub(super) fn file(&self, commit: Oid, path: &str) -> Result<Option<Vec<u8>>> {
        let doing = || format!("read `{path}` in {commit}");
        let tree = self.repository.find_commit(commit).and_then(|commit| commit.tree()).while_(doing)?;
        let entry = match tree.get_path(Path::new(path)) {
            Ok(entry) => entry,
            Err(error) if is_no_such_path(&error) => return Ok(None),
            Err(error) => return Err(error).while_(doing),
        };
        // 0o120000 is a link: its blob is not the file's content.
        if entry.kind() != Some(ObjectType::Blob) || entry.filemode() == 0o120_000 {
            return Err(Error::new(Kind::Conflict, format!("`{path}` is no plain file in {commit}"))
                .hint("somebody put something else in its place: remove it from the branch"));
        }
        let (size, _) = self.repository.odb().and_then(|odb| odb.read_header(entry.id())).while_(doing)?;
        if size as u64 > LIMIT {
            return Err(Error::new(Kind::Limit, format!("`{path}` in {commit} is larger than {LIMIT} bytes")));
        }
        let blob = self.repository.find_blob(entry.id()).while_(doing)?;
        Ok(Some(blob.content().to_vec()))
    }

    /// There is no branch where one is needed.
    pub(super) fn nothing_there(&self) -> Error {
        Error::new(Kind::NotFound, "the repository has no commit")
            .hint(format!("publish to its branch `{}` first", self.request.branch))
    }
}

/// Whether a tree has no such path, as opposed to a path whose objects are missing.
pub(super) fn is_no_such_path(error: &git2::Error) -> bool {
    error.code() == ErrorCode::NotFound && error.class() == ErrorClass::Tree
}

/// The clone at the path, if it can be used; leftovers of killed processes are removed, its lock being ours.
fn usable(path: &Path) -> Result<Option<Repository>> {
    if host::fs::metadata(path)?.is_none() {
        return Ok(None);
    }
    sweep(path)?;
    if let Some(damage) = damage(path)? {
        remove(path, &damage)?;
        return Ok(None);
    }
    let packs = path.join("objects/pack");
    let count = if host::fs::exists(&packs)? { host::fs::list(&packs)?.len() } else { 0 };
    let opened = open(path).and_then(|repository| {
        match repository.refname_to_id(TIP) {
            Ok(tip) => drop(repository.find_commit(tip)?.tree()?),
            Err(error) if error.code() == ErrorCode::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(repository)
    });
    match opened {
        Ok(repository) if count <= 2 * MOST_PACKS => Ok(Some(repository)),
        outcome => {
            remove(path, &outcome.map_or_else(|error| error.message().to_owned(), |_| "it has many packs".to_owned()))?;
            Ok(None)
        }
    }
}

fn remove(path: &Path, why: &str) -> Result<()> {
    let text = format!("the clone `{}` is made anew: {}", path.display(), why.escape_debug());
    super::wire::tell(&super::wire::Heard::Warning { text });
    host::fs::remove_dir_all(path).map(drop)
}

/// With `FROM_ENV` libgit2 heeds `GIT_CONFIG_NOSYSTEM`: this machine's git configuration could lead to another address.
fn open(path: &Path) -> Result<Repository, git2::Error> {
    let flags = RepositoryOpenFlags::FROM_ENV | RepositoryOpenFlags::NO_SEARCH | RepositoryOpenFlags::BARE;
    Repository::open_ext(path, flags, std::iter::empty::<&Path>())
}

fn create(path: &Path) -> Result<Repository> {
    let mut options = RepositoryInitOptions::new();
    options.bare(true).external_template(false).mkpath(true).mode(git2::RepositoryInitMode::from_bits_truncate(0o700));
    let doing = || format!("make the clone `{}`", path.display());
    Repository::init_opts(path, &options).while_(doing)?;
    fault::point("publish.git.clone-made");
    open(path).while_(doing)
}

/// Removes the lock files and half-written objects of processes that are dead, since nobody else holds our lock.
fn sweep(path: &Path) -> Result<()> {
    for folder in ["", "refs/castoff", "objects", "objects/pack"] {
        let folder = path.join(folder);
        if !host::fs::exists(&folder)? {
            continue;
        }
        for name in host::fs::list(&folder)? {
            let text = name.to_string_lossy();
            if text.ends_with(".lock") || text.contains("_git2_") {
                host::fs::remove_file(&folder.join(&name))?;
            }
        }
    }
    Ok(())
}
