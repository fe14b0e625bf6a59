//! The two folders of an image: its trees, and what is remembered of it.

use std::path::{Path, PathBuf};

use super::followed::Followed;
use super::record::Record;
use super::{Surroundings, busy};
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::host::fs::Lock;
use crate::rootfs::unpack;
use crate::vocab::ReleaseNumber;

/// The folders of an image.
#[derive(Clone, Debug)]
pub(super) struct Home {
    /// `FOLDER/IMAGE/FLAVOUR`.
    pub(super) trees: PathBuf,
    /// `STATE/sync/images/IMAGE/FLAVOUR`.
    pub(super) state: PathBuf,
    /// `STATE/sync/tars`.
    pub(super) tars: PathBuf,
}

impl Home {
    /// The folders of this image; none is made.
    pub(super) fn of(followed: &Followed, surroundings: &Surroundings<'_>) -> Self {
        let config = surroundings.config;
        let trees = config.sync.folder.clone().unwrap_or_else(|| config.state_dir.join("images"));
        let own = Path::new(followed.image.as_str()).join(followed.flavour.as_str());
        let state = config.state_dir.join("sync");
        Self { trees: trees.join(&own), tars: state.join("tars"), state: state.join("images").join(&own) }
    }

    /// Makes the folders, takes the lock and sweeps what killed runs left.
    pub(super) fn enter(&self, followed: &Followed) -> Result<Lock> {
        for folder in [&self.trees, &self.state, &self.tars, &self.parts()] {
            host::fs::create_dir_all(folder, 0o700)?;
        }
        let Some(lock) = Lock::try_exclusive(&self.state.join("lock"))? else { return Err(busy(followed)) };
        host::fault::point("sync.locked");
        host::fs::sweep(&self.state)?;
        host::fs::sweep(&self.tars)?;
        unpack::sweep(&self.trees)?;
        Ok(lock)
    }

    pub(super) fn record(&self) -> PathBuf {
        self.state.join("record.json")
    }

    pub(super) fn parts(&self) -> PathBuf {
        self.state.join("parts")
    }

    pub(super) fn tree(&self, number: ReleaseNumber) -> PathBuf {
        self.trees.join(number.to_string())
    }

    /// Where the release's tree is until it is verified; a sweep removes it.
    pub(super) fn unverified(&self, number: ReleaseNumber) -> PathBuf {
        self.trees.join(format!(".{number}.castoff-new"))
    }

    fn pointer(&self) -> PathBuf {
        self.trees.join("current")
    }

    /// The release behind `current`.
    pub(super) fn current(&self) -> Result<Option<ReleaseNumber>> {
        let pointer = self.pointer();
        match host::fs::link_metadata(&pointer)? {
            None => Ok(None),
            Some(found) if found.is_symlink() => {
                let target = host::links::target(&pointer)?;
                let number = target.as_deref().and_then(Path::to_str).and_then(|target| target.parse().ok());
                number.map(Some).ok_or_else(|| self.foreign("leads somewhere else"))
            }
            Some(_) => Err(self.foreign("is not a link")),
        }
    }

    fn foreign(&self, what: &str) -> Error {
        Error::new(Kind::Conflict, format!("`{}` {what}", self.pointer().display()))
            .hint("castoff did not make it: move it away")
    }

    /// Lets `current` lead to this release, whose tree is whole.
    pub(super) fn point(&self, number: ReleaseNumber) -> Result<()> {
        host::fault::point("sync.before-swap");
        host::links::point(&self.pointer(), Path::new(&number.to_string()))?;
        host::fault::point("sync.after-swap");
        Ok(())
    }

    /// Whether the release's tree is there. An empty folder is none: nothing is ever renamed to there but what is whole.
    pub(super) fn has(&self, number: ReleaseNumber) -> Result<bool> {
        let path = self.tree(number);
        Ok(host::fs::link_metadata(&path)?.is_some_and(|found| found.is_dir()) && !host::fs::list(&path)?.is_empty())
    }

    /// The recorded releases that have a tree, in order.
    pub(super) fn kept(&self, record: &Record) -> Result<Vec<ReleaseNumber>> {
        let mut kept = Vec::new();
        for number in record.releases.keys() {
            if self.has(*number)? {
                kept.push(*number);
            }
        }
        Ok(kept)
    }

    /// Removes the trees that are neither current, nor pinned, nor among the newest `keep` others; forgets what has no tree.
    pub(super) fn prune(&self, record: &mut Record, keep: u32) -> Result<Vec<ReleaseNumber>> {
        let current = self.current()?;
        let mut others = self.kept(record)?;
        record.releases.retain(|number, _| others.contains(number));
        others.retain(|number| Some(*number) != current && Some(*number) != record.pin);
        let many = others.len().saturating_sub(usize::try_from(keep).unwrap_or(usize::MAX));
        others.truncate(many);
        for number in &others {
            unpack::discard(&self.tree(*number))?;
            host::fault::point("sync.pruned");
            record.releases.remove(number);
        }
        Ok(others)
    }
}
