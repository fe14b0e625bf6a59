//! What castoff wrote to paths of the host: a file is its result only while it is what was written.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::{encode, now};
use super::{FILE_MODE, Trees};
use crate::error::Result;
use crate::host::fs;
use crate::vocab::Digest;

/// What was written to a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputRecord {
    /// The identity of what it is.
    pub identity: Digest,
    /// The inputs of that identity.
    pub inputs: std::collections::BTreeMap<String, String>,
    /// The digest of the content, holes left out.
    pub content: Digest,
    /// The path.
    pub path: PathBuf,
    /// What the file system said of it then.
    pub seen: Seen,
    /// When it was written, in seconds since 1970.
    pub made: i64,
    /// What was there before, as long as it may still be.
    #[serde(default)]
    pub previous: Option<Box<OutputRecord>>,
}

/// A folder that is an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderOutput {
    /// The identity of what it is.
    pub identity: Digest,
    /// The digest of all that is in it.
    pub content: Digest,
}

/// What changes whenever a file's content does, unless somebody takes pains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What is at a path where an output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// What castoff wrote, unchanged.
    Ours(Box<OutputRecord>),
    /// What castoff wrote, and somebody changed since.
    Changed,
    /// Something castoff did not write.
    Foreign,
    /// Something that is no regular file.
    NoFile,
}

impl Seen {
    /// What the file system says of a file.
    pub fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Trees {
    /// What is at a path. `digest` reads a file's content, which is asked only where what the file system says changed.
    pub fn standing(&self, path: &Path, digest: &dyn Fn(&Path) -> Result<Digest>) -> Result<Standing> {
        let Some(metadata) = fs::link_metadata(path)? else { return Ok(Standing::Nothing) };
        if !metadata.is_file() {
            return Ok(Standing::NoFile);
        }
        let Some(record) = self.output(path)? else { return Ok(Standing::Foreign) };
        let seen = Seen::of(&metadata);
        let candidates: Vec<OutputRecord> =
            [Some(OutputRecord { previous: None, ..record.clone() }), record.previous.map(|previous| *previous)]
                .into_iter()
                .flatten()
                .collect();
        if let Some(same) = candidates.iter().find(|candidate| candidate.seen == seen) {
            return Ok(Standing::Ours(Box::new(same.clone())));
        }
        if candidates.iter().all(|candidate| candidate.seen.size != seen.size) {
            return Ok(Standing::Changed);
        }
        let content = digest(path)?;
        let Some(same) = candidates.into_iter().find(|candidate| candidate.content == content) else {
            return Ok(Standing::Changed);
        };
        let record = OutputRecord { seen, ..same };
        self.write_output(&record)?;
        Ok(Standing::Ours(Box::new(record)))
    }

    /// Notes what was written to a path, which must be there.
    pub fn note_output(
        &self,
        path: &Path,
        identity: Digest,
        inputs: &std::collections::BTreeMap<String, String>,
        content: Digest,
    ) -> Result<()> {
        self.note_as(path, path, (identity, inputs, content), None)
    }

    /// Notes what is about to be moved to a path; what is there is known as well until [`Self::note_output`] says that it
    /// is done. Killed in between, either is recognised.
    pub fn announce_output(
        &self,
        path: &Path,
        file: &Path,
        what: (Digest, &std::collections::BTreeMap<String, String>, Digest),
    ) -> Result<()> {
        let previous = self.output(path)?.map(|before| Box::new(OutputRecord { previous: None, ..before }));
        self.note_as(path, file, what, previous)
    }

    fn note_as(
        &self,
        path: &Path,
        file: &Path,
        (identity, inputs, content): (Digest, &std::collections::BTreeMap<String, String>, Digest),
        previous: Option<Box<OutputRecord>>,
    ) -> Result<()> {
        let Some(metadata) = fs::link_metadata(file)? else { return Ok(()) };
        let record = OutputRecord {
            previous,
            identity,
            inputs: inputs.clone(),
            content,
            path: fs::absolute(path)?,
            seen: Seen::of(&metadata),
            made: now(),
        };
        self.write_output(&record)
    }

    /// The folders that castoff made or was about to make at a path, by identity and content.
    pub fn folder_outputs(&self, path: &Path) -> Result<Vec<FolderOutput>> {
        let place = self.folder_path(path);
        if !fs::exists(&place)? {
            return Ok(Vec::new());
        }
        Ok(serde_json::from_slice(&fs::read_at_most(&place, 1 << 16)?).unwrap_or_default())
    }

    /// Notes which folders castoff made, or is about to make, at a path.
    pub fn note_folder_outputs(&self, path: &Path, folders: &[FolderOutput]) -> Result<()> {
        fs::write_atomic(&self.folder_path(path), FILE_MODE, &encode(&folders)?)
    }

    /// Forgets files that are not there any more.
    pub(super) fn forget_gone_outputs(&self) -> Result<()> {
        for name in fs::list(&self.path("outputs"))? {
            let place = self.path("outputs").join(&name);
            let Ok(record) = serde_json::from_slice::<OutputRecord>(&fs::read_at_most(&place, 16 << 20)?) else {
                continue;
            };
            if fs::link_metadata(&record.path)?.is_none() {
                fs::remove_file(&place)?;
            }
        }
        Ok(())
    }

    fn folder_path(&self, path: &Path) -> PathBuf {
        self.output_path(path).with_extension("folder")
    }

    /// Forgets a path.
    pub fn forget_output(&self, path: &Path) -> Result<bool> {
        fs::remove_file(&self.output_path(path))
    }

    fn output(&self, path: &Path) -> Result<Option<OutputRecord>> {
        let place = self.output_path(path);
        if !fs::exists(&place)? {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&fs::read_at_most(&place, 16 << 20)?).ok())
    }

    fn write_output(&self, record: &OutputRecord) -> Result<()> {
        fs::write_atomic(&self.output_path(&record.path), FILE_MODE, &encode(record)?)
    }

    fn output_path(&self, path: &Path) -> PathBuf {
        use std::os::unix::ffi::OsStrExt as _;
        // A path that is not absolute means another place from another folder.
        let whole = fs::absolute(path).unwrap_or_else(|_| path.to_owned());
        self.path("outputs").join(format!("{}.json", Digest::of(whole.as_os_str().as_bytes()).hex()))
    }
}
