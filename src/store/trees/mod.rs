//! Trees that steps of builds gave, kept by content, and which inputs gave them.
//!
//! ```text
//! TREES/                          0700
//!   lock                          flock: exclusive to remove, shared to look for something and lease it
//!   layers/HEX/tree/              a layer as overlayfs keeps one (whiteouts are character devices 0/0, opaque folders carry
//!                                 `user.overlay.opaque`); the lowest of a tree is a whole root filesystem
//!   layers/HEX/facts.json         what it takes on disk
//!   records/HEX.json              what the inputs of this identity gave: layers of each tree; its mtime is its last use
//!   slots/HEX                     the identity that was made last in this place of a plan
//!   outputs/HEX.json              what was written to a path of the host, and what the file was like then
//!   run/.castoff-PID-N.tmp/       trees under work; swept when their owner is dead
//!   failed/NAME-TIME/             the tree of a failed step, for inspection; never a result
//!   leases/PID-N                  layers a living build stands on
//! ```
//!
//! A layer gets its name by one rename when it is whole. What was recorded since the machine booted counts although it
//! may not be on the disk yet: a killed process loses nothing that the kernel has. [`Trees::settle`] syncs all of it
//! at once and marks it; after a power cut unmarked records of another boot are none.

mod collect;
mod outputs;
mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use collect::{TreesReport, TreesVerified};
pub use outputs::{FolderOutput, OutputRecord, Standing};
pub use record::Record;

use super::lease::Lease;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs::{self, Lock, TempDir};
use crate::host::{clock, fault};
use crate::progress::Progress;
use crate::rootfs::Limits;
use crate::rootfs::walk::{DirectoryLayer, WalkOptions};
use crate::vocab::Digest;

const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// How many trees of one failing step are kept.
const FAILED_OF_A_KIND: usize = 3;

/// An open store of trees. Any number of processes may have it open.
#[derive(Clone, Debug)]
pub struct Trees {
    root: PathBuf,
    boot: String,
    distrusts: bool,
}

/// What one build stands on; dropped, it stands on nothing any more.
pub struct Footing {
    lease: Lease,
}

impl Trees {
    /// Opens the store, made where nothing is.
    pub fn open(root: &Path) -> Result<Self> {
        for folder in ["", "layers", "records", "slots", "outputs", "run", "failed", "leases"] {
            fs::create_dir_all(&root.join(folder), FOLDER_MODE)?;
        }
        let boot = fs::read_text(Path::new("/proc/sys/kernel/random/boot_id"))?.trim().to_owned();
        Ok(Self { root: root.to_owned(), boot, distrusts: false })
    }

    /// The store of somebody who wants everything made anew: a layer that was damaged since is replaced.
    #[must_use]
    pub fn distrusting(mut self, distrusts: bool) -> Self {
        self.distrusts = distrusts;
        self
    }

    /// The store, if there is one.
    pub fn existing(root: &Path) -> Result<Option<Self>> {
        if fs::exists(&root.join("leases"))? { Self::open(root).map(Some) } else { Ok(None) }
    }

    /// Where it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Removes what dead builds left; those who own it must be the caller's, so in a user namespace its root calls.
    pub fn sweep(&self) -> Result<()> {
        if let Some(_lock) = Lock::try_exclusive(&self.path("lock"))? {
            fs::sweep(&self.path("run"))?;
            for folder in ["records", "slots", "outputs"] {
                fs::sweep(&self.path(folder))?;
            }
            super::lease::living(&self.path("leases"))?;
        }
        Ok(())
    }

    /// A folder for a tree under work.
    pub fn workplace(&self) -> Result<TempDir> {
        let _lock = self.shared()?;
        TempDir::inside(&self.path("run"))
    }

    /// Begins to stand on something.
    pub fn footing(&self) -> Result<Footing> {
        let _lock = self.shared()?;
        Ok(Footing { lease: Lease::begin(&self.path("leases"))? })
    }

    /// The record of an identity whose layers are all there; they stay as long as the footing.
    pub fn stand_on(&self, footing: &mut Footing, identity: Digest) -> Result<Option<Record>> {
        let _lock = self.shared()?;
        let Some(record) = self.record(identity)? else { return Ok(None) };
        for layer in record.layers.values().flatten() {
            footing.lease.add(*layer)?;
        }
        self.touch(identity)?;
        Ok(Some(record))
    }

    /// The folder with the content of a layer.
    pub fn layer(&self, layer: Digest) -> PathBuf {
        self.layer_folder(layer).join("tree")
    }

    /// Takes `workplace/tree` for a layer of this content, and gives its digest. What is there already stays.
    pub fn keep_layer(&self, footing: &mut Footing, workplace: &Path, layer: &Layer) -> Result<()> {
        let _lock = self.shared()?;
        footing.lease.add(layer.digest)?;
        let place = self.layer_folder(layer.digest);
        let there = self.layer_facts(layer.digest)?;
        if there.as_ref().is_some_and(|facts| facts.boot.as_ref().is_none_or(|boot| *boot == self.boot))
            && !(self.distrusts && self.is_damaged(layer.digest))
        {
            return Ok(());
        }
        let staged = workplace.join("layer");
        fs::create_dir_all(&staged, FOLDER_MODE)?;
        let facts = serde_json::to_vec(&LayerFacts {
            bytes: layer.bytes,
            entries: layer.entries,
            boot: Some(self.boot.clone()),
        })
        .map_err(|error| Error::new(Kind::Failed, "cannot write down a layer").caused_by(error))?;
        fs::write_unsynced(&staged.join("facts.json"), FILE_MODE, &facts)?;
        let tree = staged.join("tree");
        rustix::fs::rename(workplace.join("tree"), &tree).context(|| format!("cannot keep `{}`", tree.display()))?;
        fault::point("trees.layer.before-rename");
        if fs::exists(&place)? {
            // Of before a power cut, which may have eaten some of it: this one is whole.
            return crate::host::links::exchange(&staged, &place);
        }
        let moved = rustix::fs::rename(&staged, &place);
        // Somebody else may have been faster: it is the same.
        if moved.is_err() && fs::exists(&place.join("tree"))? {
            return Ok(());
        }
        moved.context(|| format!("cannot keep `{}`", place.display()))
    }

    fn is_damaged(&self, layer: Digest) -> bool {
        let found = Layer::read(&self.layer(layer), Limits::default(), &mut |_| Ok(()));
        !found.is_ok_and(|found| found.digest == layer)
    }

    fn layer_facts(&self, layer: Digest) -> Result<Option<LayerFacts>> {
        let path = self.layer_folder(layer).join("facts.json");
        if !fs::exists(&path)? {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&fs::read_at_most(&path, 1 << 16)?).ok())
    }

    /// Notes that a layer is on the disk; the file system must have been synced.
    fn settle_layer(&self, layer: Digest) -> Result<()> {
        match self.layer_facts(layer)? {
            Some(facts) if facts.boot.is_some() => {
                let settled = record::encode(&LayerFacts { boot: None, ..facts })?;
                fs::write_unsynced(&self.layer_folder(layer).join("facts.json"), FILE_MODE, &settled)
            }
            _ => Ok(()),
        }
    }

    /// Every layer there is, with the bytes it takes.
    pub(super) fn layers_there(&self) -> Result<BTreeMap<Digest, u64>> {
        let mut there = BTreeMap::new();
        for name in fs::list(&self.path("layers"))? {
            let Ok(digest) = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>() else { continue };
            there.insert(digest, self.layer_facts(digest)?.map_or(0, |facts| facts.bytes));
        }
        Ok(there)
    }

    /// Puts the tree of a failed step where it can be looked at, and never be taken for a result.
    pub fn keep_failed(&self, name: &str, tree: &Path) -> Result<PathBuf> {
        // The newest of a kind says what there is to say.
        let mut before: Vec<PathBuf> = self.failed()?;
        before.retain(|path| {
            let other = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            other.strip_prefix(name).is_some_and(|rest| {
                rest.starts_with('-') && rest[1..].starts_with(|digit: char| digit.is_ascii_digit())
            })
        });
        while before.len() >= FAILED_OF_A_KIND {
            fs::remove_dir_all(&before.remove(0))?;
        }
        let place = self.path("failed").join(format!("{name}-{}", clock::now().as_secs()));
        let mut free = place.clone();
        for number in 2.. {
            match fs::rename_noreplace(tree, &free) {
                Ok(()) => break,
                Err(error) if error.kind() == Kind::Conflict && number < 1000 => {
                    free =
                        place.with_file_name(format!("{}-{number}", place.file_name().unwrap_or_default().display()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(free)
    }

    /// The trees of failed steps, oldest first.
    pub fn failed(&self) -> Result<Vec<PathBuf>> {
        let mut found: Vec<PathBuf> =
            fs::list(&self.path("failed"))?.iter().map(|name| self.path("failed").join(name)).collect();
        found.sort_by_key(|path| {
            (fs::link_metadata(path).ok().flatten().and_then(|metadata| metadata.modified().ok()), path.clone())
        });
        Ok(found)
    }

    /// The lock of everybody who builds in this space, if nobody holds it.
    pub fn lock_space(&self, space: &str) -> Result<Option<Lock>> {
        fs::create_dir_all(&self.path("spaces"), FOLDER_MODE)?;
        Lock::try_exclusive(&self.path("spaces").join(Digest::of(space.as_bytes()).hex()))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    fn layer_folder(&self, layer: Digest) -> PathBuf {
        self.root.join("layers").join(layer.hex())
    }

    fn shared(&self) -> Result<Lock> {
        Lock::shared(&self.path("lock"))
    }

    fn exclusive(&self) -> Result<Lock> {
        Lock::exclusive(&self.path("lock"))
    }
}

/// What is known of a layer besides its content.
#[derive(serde::Serialize, serde::Deserialize)]
struct LayerFacts {
    bytes: u64,
    entries: u64,
    /// The boot since which it may not be on the disk; nothing once it surely is.
    #[serde(default)]
    boot: Option<String>,
}

/// A layer that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// The digest of its content.
    pub digest: Digest,
    /// The bytes of its files.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
}

/// The mark overlayfs puts on a folder that hides what lies below it.
pub const OPAQUE: &str = "user.overlay.opaque";

impl Layer {
    /// Reads a folder as a layer: all of its entries and bytes, whiteouts and opaque marks among them.
    pub fn read(tree: &Path, limits: Limits, told: &mut dyn FnMut(u64) -> Result<()>) -> Result<Self> {
        let (walked, report) = DirectoryLayer::open(tree, &WalkOptions::default(), limits, &Progress::silent())?;
        for (findings, what) in [(&report.unreadable, "cannot be read"), (&report.vanished, "vanished meanwhile")] {
            if let Some(first) = findings.lines().first() {
                return Err(Error::new(Kind::Failed, format!("a built tree holds something that {what}"))
                    .caused_by(first.clone()));
            }
        }
        let content = walked.tree_digest(told)?;
        let mut text = format!("castoff layer 1\n{content}\n").into_bytes();
        for path in opaque(tree, &walked)? {
            text.extend_from_slice(&path);
            text.push(0);
        }
        // The canonical digest counts whole seconds; what a tree brought along may have more.
        for entry in walked.entries().filter(|entry| entry.mtime.nanoseconds != 0) {
            text.extend_from_slice(&entry.path);
            text.extend_from_slice(&entry.mtime.nanoseconds.to_be_bytes());
        }
        Ok(Self { digest: Digest::of(&text), bytes: report.content_bytes, entries: report.entries })
    }
}

fn opaque(tree: &Path, walked: &DirectoryLayer) -> Result<BTreeSet<Vec<u8>>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut found = BTreeSet::new();
    for entry in walked.entries().filter(|entry| entry.kind == crate::rootfs::EntryKind::Directory) {
        let path = tree.join(std::ffi::OsStr::from_bytes(&entry.path));
        let mut value = [0; 8];
        match rustix::fs::lgetxattr(&path, OPAQUE, &mut value) {
            Ok(0) | Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => {}
            Ok(_) => {
                found.insert(entry.path.clone());
            }
            Err(error) => return Err(error).context(|| format!("cannot look at `{}`", path.display())),
        }
    }
    Ok(found)
}
