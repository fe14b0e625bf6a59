//! Reference containers: an image's container is a copy of the one it is built in, replaced as a whole.
//!
//! ```text
//! LXC_PATH/SOURCE/rootfs                 the builder's, only read
//! LXC_PATH/IMAGE/rootfs                  the copy: changes places with the new one in one step
//! LXC_PATH/IMAGE/.castoff-PID-N.tmp/     the new one under way, then the old one; swept when its owner is dead
//! LXC_PATH/.castoff-PID-N.tmp/           a whole container under way, where there was none
//! STATE/release/reference/IMAGE.lock     flock: one copy at a time, shared by those who read the container
//! STATE/release/reference/IMAGE.json     what the last copy was made of
//! ```
//!
//! Owners stay the numbers they are on the host. Trees are compared by their content, not by time or version.

mod configuration;
mod record;
mod still;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::roots::Roots;
use super::snapshot::{Script, run_script};
use super::tree::Tree;
use crate::engine::lxc::LxcContainer;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{clock, fault, fs, links};
use crate::progress::{Cancel, Progress};
use crate::release::flavour::Root;
use crate::rootfs::Limits;
use crate::rootfs::idmap::IdMap;
use crate::vocab::{Digest, ReleaseNumber, Value};
use record::Made;
use still::Still;

/// Where old readers look for an image's version; kept right where it is there.
const VERSION_FILE: &str = ".ms_version";

/// A container to be copied into another one.
#[derive(Clone, Copy, Debug)]
pub struct Reference<'a> {
    /// The container that is copied, by name.
    pub source: &'a str,
    /// The container that becomes the copy, by name; made where it is missing.
    pub destination: &'a str,
    /// Where LXC keeps both.
    pub lxc_path: &'a Path,
    /// castoff's state folder.
    pub state: &'a Path,
    /// Whether the impersonation script runs in the copy.
    pub snapshot: bool,
    /// Accept containers that run.
    pub force: bool,
    /// The release that the copy is: written to `.ms_version` where the tree has that file.
    pub version: Option<ReleaseNumber>,
    /// The limits that a hostile tree meets.
    pub limits: Limits,
}

/// What a copy came to.
#[derive(Clone, Debug)]
pub struct Copied {
    /// Whether the destination is another tree than before.
    pub changed: bool,
    /// Whether there was no such container before.
    pub created: bool,
    /// What was done, and why.
    pub comment: String,
    /// What became of the script; none where nothing was copied.
    pub script: Option<Script>,
    /// Entries and bytes of the copied tree.
    pub size: (u64, u64),
    /// Where the old tree is, if a running container stands on it.
    pub kept: Option<PathBuf>,
    /// How long it took.
    pub seconds: f64,
}

impl Copied {
    /// The report of it.
    pub fn to_value(&self) -> Value {
        Value::map([
            ("changed", Value::from(self.changed)),
            ("created", self.created.into()),
            ("comment", self.comment.as_str().into()),
            ("snapshot", self.script.as_ref().map(Script::to_value).into()),
            ("entries", self.size.0.into()),
            ("content_bytes", self.size.1.into()),
            ("kept", self.kept.as_ref().map(|path| path.display().to_string()).into()),
            ("seconds", self.seconds.into()),
        ])
    }
}

/// Copies the container, or finds that the copy is what it would be. Whoever looks meanwhile sees the old tree or the new.
///
/// An error changes nothing. One copy to a destination at a time: another one is a [`Kind::Conflict`].
pub fn copy(reference: &Reference<'_>, progress: &Progress, cancel: &Cancel) -> Result<Copied> {
    let begun = Instant::now();
    let pair = Pair::find(reference)?;
    let folder = folder(reference.state)?;
    let Some(_lock) = fs::Lock::try_exclusive(&lock_of(&folder, reference.destination))? else {
        return Err(Error::new(Kind::Conflict, format!("busy: `{}` is being copied or read", reference.destination))
            .hint("wait for the other run to end"));
    };
    let work = Work {
        reference,
        pair: &pair,
        progress,
        cancel,
        record: folder.join(reference.destination.to_owned() + ".json"),
    };
    let mut copied =
        work.run().context(|| format!("cannot copy `{}` to `{}`", reference.source, reference.destination))?;
    copied.seconds = begun.elapsed().as_secs_f64();
    Ok(copied)
}

/// What a copy would do, without doing it.
pub fn preview(reference: &Reference<'_>, progress: &Progress, cancel: &Cancel) -> Result<Copied> {
    let pair = Pair::find(reference)?;
    let record = reference.state.join("release/reference").join(reference.destination.to_owned() + ".json");
    let work = Work { reference, pair: &pair, progress, cancel, record };
    let (source, from) = work.source()?;
    Ok(match work.unchanged(&source, from)? {
        Some(copied) => copied,
        None => Copied { changed: true, created: pair.destination.is_none(), ..Copied::nothing("it would be copied") },
    })
}

/// Keeps an image's container from being replaced as long as this lives; whoever reads it holds this.
pub fn hold(state: &Path, destination: &str) -> Result<fs::Lock> {
    fs::Lock::shared(&lock_of(&folder(state)?, destination))
}

fn folder(state: &Path) -> Result<PathBuf> {
    let folder = state.join("release/reference");
    fs::create_dir_all(&folder, 0o700)?;
    Ok(folder)
}

fn lock_of(folder: &Path, destination: &str) -> PathBuf {
    folder.join(destination.to_owned() + ".lock")
}

impl Copied {
    fn nothing(comment: &str) -> Self {
        Self {
            changed: false,
            created: false,
            comment: comment.to_owned(),
            script: None,
            size: (0, 0),
            kept: None,
            seconds: 0.0,
        }
    }
}

/// Both containers.
struct Pair {
    source: LxcContainer,
    destination: Option<LxcContainer>,
    /// Whether the destination runs, and was accepted all the same.
    destination_runs: bool,
}

impl Pair {
    fn find(reference: &Reference<'_>) -> Result<Self> {
        let source = LxcContainer::find(reference.source, reference.lxc_path)?;
        source.existing_rootfs()?;
        if reference.source == reference.destination {
            return Err(Error::new(Kind::Usage, format!("`{}` cannot be copied to itself", reference.source)));
        }
        let destination = match LxcContainer::find(reference.destination, reference.lxc_path) {
            Ok(found) => Some(found),
            Err(error) if error.kind() == Kind::NotFound => {
                let place = reference.lxc_path.join(reference.destination);
                if fs::exists(&place)? {
                    return Err(Error::new(
                        Kind::Conflict,
                        format!("`{}` is there, and is no container", place.display()),
                    )
                    .hint("it has no `config`: move it away"));
                }
                None
            }
            Err(error) => return Err(error),
        };
        let mut destination_runs = false;
        for container in [Some(&source), destination.as_ref()].into_iter().flatten() {
            let Some(evidence) = container.running()? else { continue };
            let name = &container.name;
            if !reference.force {
                return Err(Error::new(Kind::Conflict, format!("the container `{name}` is running: {evidence}"))
                    .hint(format!("stop it (`lxc-stop -n {name}`), or copy all the same: force=True")));
            }
            destination_runs |= name == reference.destination;
        }
        let pair = Self { source, destination, destination_runs };
        pair.refuse_other_ids(reference)?;
        Ok(pair)
    }

    /// Ids are copied as they are, and the script works as the host's root.
    fn refuse_other_ids(&self, reference: &Reference<'_>) -> Result<()> {
        let idmap = IdMap::parse_lxc_config(&self.source.config)?;
        if let Some(destination) = &self.destination
            && IdMap::parse_lxc_config(&destination.config)? != idmap
        {
            return Err(Error::new(Kind::Conflict, "both containers keep ids in different ways on this host")
                .hint("give both the same lxc.idmap"));
        }
        if idmap.is_some() && reference.snapshot {
            return Err(Error::new(Kind::Unsupported, format!("`{}` has an lxc.idmap", reference.source))
                .hint("the script would make files of the host's root: copy without it, snapshot=False"));
        }
        Ok(())
    }
}

struct Work<'a> {
    reference: &'a Reference<'a>,
    pair: &'a Pair,
    progress: &'a Progress,
    cancel: &'a Cancel,
    record: PathBuf,
}

impl Work<'_> {
    fn run(&self) -> Result<Copied> {
        fs::sweep(self.reference.lxc_path)?;
        if let Some(destination) = &self.pair.destination {
            fs::sweep(fs::parent(&destination.rootfs))?;
        }
        let (source, from) = self.source()?;
        if let Some(unchanged) = self.unchanged(&source, from)? {
            return Ok(unchanged);
        }
        match &self.pair.destination {
            None => self.create(&source, from),
            Some(destination) => self.replace(destination, &source, from),
        }
    }

    fn source(&self) -> Result<(Still, Digest)> {
        let still = Still::of(&self.pair.source.rootfs, self.reference.limits, self.progress)?;
        let digest = still.digest(self.reference.source, self.progress, self.cancel)?;
        Ok((still, digest))
    }

    /// The report that nothing is to be done, if so.
    fn unchanged(&self, source: &Still, from: Digest) -> Result<Option<Copied>> {
        let Some(destination) = &self.pair.destination else { return Ok(None) };
        if !fs::metadata(&destination.rootfs)?.is_some_and(|found| found.is_dir()) {
            return Ok(None);
        }
        let still = Still::of(&destination.rootfs, self.reference.limits, self.progress)?;
        let now = still.digest(self.reference.destination, self.progress, self.cancel)?;
        let made = record::read(&self.record)?;
        let wanted = self.made(from, now);
        let size = (still.report.entries, still.report.content_bytes);
        let is_bare = !self.reference.snapshot && self.reference.version.is_none() && source.says_what(&still);
        let same = made.as_ref() == Some(&wanted) || (is_bare && from == now);
        Ok(same.then(|| Copied { size, ..Copied::nothing("the copy is what it would be") }))
    }

    fn made(&self, from: Digest, to: Digest) -> Made {
        let Reference { source, snapshot, version, .. } = *self.reference;
        Made { source: source.to_owned(), from, to, snapshot, version }
    }

    /// A whole container where there was none.
    fn create(&self, source: &Still, from: Digest) -> Result<Copied> {
        let lxc_path = self.reference.lxc_path;
        let under_way = fs::TempDir::inside(lxc_path)?;
        let (new, script, to) = self.prepare(source, under_way.path())?;
        let origin = &self.pair.source;
        for (name, text) in files_beside(origin, self.reference.destination, lxc_path)? {
            fs::write_atomic(&new.join(name), 0o644, &text)?;
        }
        dress(&new, &origin.directory)?;
        sync(&new)?;
        fault::point("release.reference.before-rename");
        fs::rename(&new, &lxc_path.join(self.reference.destination))?;
        fault::point("release.reference.created");
        record::write(&self.record, &self.made(from, to))?;
        Ok(Copied { created: true, ..self.copied(source, script) })
    }

    /// Another root filesystem where there was one.
    fn replace(&self, destination: &LxcContainer, source: &Still, from: Digest) -> Result<Copied> {
        let place = fs::canonical(&destination.rootfs)?.unwrap_or_else(|| destination.rootfs.clone());
        let under_way = fs::TempDir::inside(fs::parent(&place))?;
        let (new, script, to) = self.prepare(source, under_way.path())?;
        let tree = new.join("rootfs");
        sync(&tree)?;
        fault::point("release.reference.before-swap");
        let mut copied = self.copied(source, script);
        if fs::exists(&place)? {
            links::exchange(&tree, &place)?;
            if self.pair.destination_runs {
                // A container that runs stands on the old tree until it is started anew.
                let aside = place.with_file_name(format!("rootfs.before-{}", clock::now().as_secs()));
                fs::rename(&tree, &aside)?;
                self.progress.warn(format!("the running container stands on `{}`", aside.display()));
                copied.kept = Some(aside);
            }
        } else {
            fs::rename(&tree, &place)?;
        }
        fault::point("release.reference.swapped");
        record::write(&self.record, &self.made(from, to))?;
        Ok(copied)
    }

    fn copied(&self, source: &Still, script: Script) -> Copied {
        let Reference { source: from, destination, .. } = self.reference;
        let size = (source.report.entries, source.report.content_bytes);
        Copied {
            changed: true,
            script: Some(script),
            size,
            ..Copied::nothing(&format!("`{from}` was copied to `{destination}`"))
        }
    }

    /// The new tree in `FOLDER/new/rootfs`, made impersonal: the folder, what the script did, what came of it.
    fn prepare(&self, source: &Still, folder: &Path) -> Result<(PathBuf, Script, Digest)> {
        let new = folder.join("new");
        fs::create_dir_all(&new, 0o755)?;
        let rootfs = new.join("rootfs");
        source.copy(&rootfs, self.progress, self.cancel)?;
        if !self.reference.force {
            let now = Still::of(&self.pair.source.rootfs, self.reference.limits, self.progress)?;
            if !source.says_what(&now) {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("`{}` changed while it was copied", self.reference.source),
                )
                .hint("stop what writes into it, and run the same again"));
            }
        }
        fault::point("release.reference.copied");
        let script = if self.reference.snapshot {
            let parts = Roots { folder: new.clone(), rootfs: rootfs.clone(), idmap: None };
            let tree = Tree::walk(&parts, Root::Container, self.reference.limits, self.progress)?;
            run_script(&tree, &rootfs, self.progress)?
        } else {
            Script::NotAsked
        };
        self.mark(&rootfs)?;
        fault::point("release.reference.script-done");
        let made = Still::of(&rootfs, self.reference.limits, self.progress)?;
        let to = made.digest(self.reference.destination, self.progress, self.cancel)?;
        Ok((new, script, to))
    }

    /// Brings the file of old readers up to date, where there is one.
    fn mark(&self, rootfs: &Path) -> Result<()> {
        use std::io::Write as _;
        let Some(version) = self.reference.version else { return Ok(()) };
        let path = rootfs.join(VERSION_FILE);
        if !fs::link_metadata(&path)?.is_some_and(|found| found.is_file() && found.nlink() == 1) {
            return Ok(());
        }
        writeln!(fs::create_in_place(&path, false)?, "{version}")
            .context(|| format!("cannot write `{}`", path.display()))
    }
}

/// What lies beside the root filesystem of a container that becomes another one, under the other one's name.
pub fn files_beside(source: &LxcContainer, name: &str, lxc_path: &Path) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let config = configuration::adapted(&source.config, &source.name, name, lxc_path);
    let fstab = fstab(source)?.map(|text| ("fstab", text));
    Ok([("config", config.into_bytes())].into_iter().chain(fstab).collect())
}

/// The mounts that a container's configuration may name beside it.
fn fstab(container: &LxcContainer) -> Result<Option<Vec<u8>>> {
    let path = container.directory.join("fstab");
    match fs::link_metadata(&path)? {
        Some(found) if found.is_file() => fs::read_at_most(&path, 1 << 20).map(Some),
        _ => Ok(None),
    }
}

/// Gives a folder the owner and mode of another one.
fn dress(folder: &Path, like: &Path) -> Result<()> {
    let wrong = || format!("cannot set owner and mode of `{}`", folder.display());
    let Some(found) = fs::metadata(like)? else { return Ok(()) };
    let (uid, gid) = (rustix::fs::Uid::from_raw(found.uid()), rustix::fs::Gid::from_raw(found.gid()));
    rustix::fs::chown(folder, Some(uid), Some(gid)).context(wrong)?;
    rustix::fs::chmod(folder, rustix::fs::Mode::from_raw_mode(found.mode() & 0o7777)).context(wrong)
}

/// Makes the tree durable with all that is in it.
fn sync(tree: &Path) -> Result<()> {
    rustix::fs::syncfs(fs::open(tree)?).context(|| format!("cannot sync `{}`", tree.display()))
}
