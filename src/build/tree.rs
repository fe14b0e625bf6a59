//! A tree under work: what was there as it is, what a step changes beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs::{self, TempDir};
use crate::progress::{Cancel, Progress};
use crate::rootfs::Limits;
use crate::rootfs::unpack::{Content, UnpackOptions, Unpacker};
use crate::rootfs::walk::{DirectoryLayer, WalkOptions};
use crate::rootfs::{EntryKind, shown};
use crate::sandbox::overlay::{Overlay, overlay_works};
use crate::store::trees::{Layer, Trees};
use crate::vocab::Digest;

/// How what a step changes is kept apart from what was there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Snapshots {
    /// Layers one above the other, by overlayfs.
    Overlay,
    /// Copies that share their blocks.
    Reflink,
    /// Copies.
    Copy,
}

/// The most layers one above the other; a tree of more is copied together.
const MOST_LAYERS: usize = 60;

impl Snapshots {
    /// The best way that this store's file system offers, and why not a better one.
    pub(super) fn of(trees: &Trees) -> Result<(Self, Option<String>)> {
        let place = trees.workplace()?;
        let Some(why) = overlay_works(place.path())? else { return Ok((Self::Overlay, None)) };
        let from = fs::TempFile::beside(&place.path().join("probe"), 0o600)?;
        rustix::fs::ftruncate(from.file(), 4096).context(|| "cannot make a probe")?;
        let to = fs::TempFile::beside(&place.path().join("probe"), 0o600)?;
        let shares = rustix::fs::ioctl_ficlone(to.file(), from.file()).is_ok();
        Ok((if shares { Self::Reflink } else { Self::Copy }, Some(format!("no overlays: {why}"))))
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Reflink => "reflink",
            Self::Copy => "copy",
        }
    }
}

/// A tree of a plan, open to change.
pub(super) struct WorkTree {
    // Let go of before the folder it is mounted in.
    overlay: Option<Overlay>,
    /// The tree before, where this is a whole copy of it.
    below: Option<View>,
    place: TempDir,
    lowers: Vec<Digest>,
}

/// What opening and reading trees needs to know.
#[derive(Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) trees: &'a Trees,
    pub(super) snapshots: Snapshots,
    pub(super) limits: Limits,
    pub(super) cancel: &'a Cancel,
}

impl WorkTree {
    /// An empty tree.
    pub(super) fn empty(ground: Ground<'_>) -> Result<Self> {
        let place = ground.trees.workplace()?;
        fs::create_dir_all(&place.path().join("tree"), 0o755)?;
        Ok(Self { place, lowers: Vec::new(), overlay: None, below: None })
    }

    /// A tree on these layers, the lowest first.
    pub(super) fn on(layers: &[Digest], ground: Ground<'_>) -> Result<Self> {
        if layers.is_empty() {
            return Self::empty(ground);
        }
        let place = ground.trees.workplace()?;
        let upper = place.path().join("tree");
        if ground.snapshots == Snapshots::Overlay && layers.len() < MOST_LAYERS {
            for folder in ["tree", "work", "merged"] {
                fs::create_dir_all(&place.path().join(folder), 0o755)?;
            }
            same_root(&ground.trees.layer(layers[layers.len() - 1]), &upper)?;
            let lowers: Vec<PathBuf> = layers.iter().rev().map(|layer| ground.trees.layer(*layer)).collect();
            let (work, merged) = (place.path().join("work"), place.path().join("merged"));
            let overlay = Overlay::mount(&lowers, Some((&upper, &work)), &merged)?;
            return Ok(Self { place, lowers: layers.to_vec(), overlay: Some(overlay), below: None });
        }
        let seen = View::of(layers, ground)?;
        copy(seen.path(), &upper, ground)?;
        Ok(Self { place, lowers: Vec::new(), overlay: None, below: Some(seen) })
    }

    /// Where the whole tree is.
    pub(super) fn path(&self) -> PathBuf {
        self.overlay.as_ref().map_or_else(|| self.changes(), |overlay| overlay.path().to_owned())
    }

    /// The folder of everything that belongs to this work.
    pub(super) fn place(&self) -> &Path {
        self.place.path()
    }

    /// Where what changed is; the whole tree where nothing lies below.
    fn changes(&self) -> PathBuf {
        self.place.path().join("tree")
    }

    /// Whether it is a layer upon others.
    pub(super) fn is_upon(&self) -> bool {
        self.overlay.is_some()
    }

    /// Ends the work: what changed is cleaned, read and kept. The layers of the tree then.
    pub(super) fn keep(
        mut self,
        ground: Ground<'_>,
        footing: &std::sync::Mutex<crate::store::trees::Footing>,
        clean: impl FnOnce(&Path, Option<&Path>) -> Result<()>,
    ) -> Result<Vec<Digest>> {
        let upon = self.is_upon();
        if let Some(overlay) = self.overlay.take() {
            overlay.unmount()?;
        }
        let changes = self.changes();
        clean(&changes, self.below.as_ref().map(View::path))?;
        let layer = Layer::read(&changes, ground.limits, &mut |_| ground.cancel.check())?;
        let mut layers = std::mem::take(&mut self.lowers);
        if upon && layer.entries <= 1 && !changed_root(&changes, &ground.trees.layer(layers[layers.len() - 1]))? {
            return Ok(layers);
        }
        let mut footing = footing.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        ground.trees.keep_layer(&mut footing, self.place.path(), &layer)?;
        // Of a layer that is there twice the upper one alone decides; overlayfs refuses to mount both.
        layers.retain(|below| *below != layer.digest);
        layers.push(layer.digest);
        Ok(layers)
    }

    /// Gives the tree of a failed step up for inspection.
    pub(super) fn give_up(mut self, name: &str, ground: Ground<'_>, story: &BTreeMap<&str, String>) -> Result<PathBuf> {
        if let Some(overlay) = self.overlay.take() {
            overlay.unmount()?;
        }
        let folder = self.place.path().join("failed");
        fs::create_dir_all(&folder, 0o700)?;
        let layers: Vec<String> = self.lowers.iter().map(ToString::to_string).collect();
        let text = serde_json::json!({ "layers": layers, "story": story });
        fs::write_unsynced(&folder.join("failed.json"), 0o600, text.to_string().as_bytes())?;
        fs::rename(&self.changes(), &folder.join("tree"))?;
        let log = self.place.path().join("log");
        if fs::exists(&log)? {
            fs::rename(&log, &folder.join("log"))?;
        }
        ground.trees.keep_failed(name, &folder)
    }
}

/// A tree to be read.
pub(super) struct View {
    path: PathBuf,
    // The mount goes before the folder it is in.
    _overlay: Option<Overlay>,
    _place: Option<TempDir>,
}

impl View {
    /// The tree that these layers are.
    pub(super) fn of(layers: &[Digest], ground: Ground<'_>) -> Result<Self> {
        match layers {
            [] => {
                let place = ground.trees.workplace()?;
                Ok(Self { path: place.path().to_owned(), _overlay: None, _place: Some(place) })
            }
            [only] => Ok(Self { path: ground.trees.layer(*only), _overlay: None, _place: None }),
            many => {
                let place = ground.trees.workplace()?;
                let lowers: Vec<PathBuf> = many.iter().rev().map(|layer| ground.trees.layer(*layer)).collect();
                let overlay = Overlay::mount(&lowers, None, place.path())?;
                Ok(Self { path: place.path().to_owned(), _overlay: Some(overlay), _place: Some(place) })
            }
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Copies a whole tree; blocks are shared where the file system can.
pub(super) fn copy(from: &Path, to: &Path, ground: Ground<'_>) -> Result<()> {
    let (walked, report) = DirectoryLayer::open(from, &WalkOptions::default(), ground.limits, &Progress::silent())?;
    for findings in [&report.unreadable, &report.vanished] {
        if let Some(first) = findings.lines().first() {
            return Err(Error::new(Kind::Failed, "something in the tree cannot be copied").caused_by(first.clone()));
        }
    }
    let share = ground.snapshots == Snapshots::Reflink;
    if !share {
        fs::require_space(fs::parent(to), report.content_bytes)?;
    }
    let mut unpacker = Unpacker::new(to, UnpackOptions { ignore_ownership: false })?;
    for number in 0..walked.count() {
        ground.cancel.check()?;
        let placed = walked.placed(number);
        let runs = placed.runs();
        let wrong = || format!("cannot copy `{}`", shown(&placed.entry.path));
        if share && matches!(placed.entry.kind, EntryKind::File { size } if size > 0) {
            walked
                .with_file(number, |file| {
                    unpacker.add(&placed.entry, Some(&Content { source: &walked, runs, twin: Some(file) }))
                })?
                .context(wrong)?;
        } else {
            unpacker.add(&placed.entry, Some(&Content { source: &walked, runs, twin: None })).context(wrong)?;
        }
    }
    unpacker.finish().map(|_| ())
}

/// The root folder of a new upper layer is the root of the tree: it begins as the one below it is.
fn same_root(below: &Path, upper: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let wrong = || format!("cannot set up `{}`", upper.display());
    let Some(metadata) = fs::metadata(below)? else { return Ok(()) };
    rustix::fs::chown(
        upper,
        Some(rustix::fs::Uid::from_raw(metadata.uid())),
        Some(rustix::fs::Gid::from_raw(metadata.gid())),
    )
    .context(wrong)?;
    rustix::fs::chmod(upper, rustix::fs::Mode::from_raw_mode(metadata.mode() & 0o7777)).context(wrong)?;
    for (name, value) in attributes(below)? {
        rustix::fs::setxattr(upper, name.as_slice(), &value, rustix::fs::XattrFlags::empty()).context(wrong)?;
    }
    let times = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() },
        last_modification: rustix::fs::Timespec { tv_sec: metadata.mtime(), tv_nsec: metadata.mtime_nsec() },
    };
    rustix::fs::utimensat(rustix::fs::CWD, upper, &times, rustix::fs::AtFlags::empty()).context(wrong)
}

/// Whether the root folder itself is another than the one below.
fn changed_root(upper: &Path, below: &Path) -> Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    let facts = |path: &Path| -> Result<Option<(u32, u32, u32, i64)>> {
        Ok(fs::metadata(path)?.map(|found| (found.mode(), found.uid(), found.gid(), found.mtime())))
    };
    Ok(facts(upper)? != facts(below)? || attributes(upper)? != attributes(below)?)
}

/// The extended attributes of a folder that are its own, ACLs among them.
fn attributes(folder: &Path) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let wrong = || format!("cannot look at `{}`", folder.display());
    let mut names = vec![0; 64 << 10];
    let length = rustix::fs::listxattr(folder, &mut names).context(wrong)?;
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let is_own = (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
            || name.starts_with(b"system.posix_acl_")
            || name == b"security.capability";
        if is_own {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::getxattr(folder, name, &mut value).context(wrong)?;
            value.truncate(length);
            found.insert(name.to_vec(), value);
        }
    }
    Ok(found)
}
