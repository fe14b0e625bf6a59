//! What a plan begins with becomes a tree.

use std::path::Path;

use super::action::succeeded;
use super::clean::{Extent, clean, youngest};
use super::order::{ArchiveHome, Work};
use super::tree::{Ground, WorkTree};
use crate::config::Config;
use crate::engine::{PackRequest, Surroundings, pack};
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::plan::{Base, Bootstrap, PackageName, Plan};
use crate::progress::Progress;
use crate::rootfs::Limits;
use crate::sandbox::Sandbox;
use crate::vocab::Reference;

/// A tree that was made, what of it is cleaned, and the time nothing in it is younger than.
pub(super) struct Made {
    pub(super) tree: WorkTree,
    pub(super) extent: Extent,
    pub(super) epoch: i64,
}

/// Makes the tree that a plan begins with.
pub(super) fn make(work: &Work, plan: &Plan, ground: Ground<'_>, progress: &Progress) -> Result<Made> {
    let tree = WorkTree::empty(ground)?;
    let place = tree.path();
    let mut extent = Extent::Devices;
    let mut epoch = work.facts.epoch;
    match &plan.base {
        Base::Empty => {}
        Base::Bootstrap(bootstrap) => {
            let digest = bootstrap.archive();
            let missing = || Error::new(Kind::Failed, format!("nobody looked at the archive of `{}`", bootstrap.suite));
            let fact = work.facts.archives.get(&digest).ok_or_else(missing)?;
            let home = work.archives.get(&digest).ok_or_else(missing)?;
            let date = epoch.unwrap_or(fact.date);
            fs::remove_dir_all(&place)?;
            run_mmdebstrap(work, bootstrap, home, (&tree, date), ground, progress)?;
            (extent, epoch) = (Extent::Bootstrap, Some(date));
        }
        Base::Tar(path) => {
            unpack(path, &place, ground, progress)?;
            unchanged(work, path)?;
        }
        Base::Directory(_) | Base::Image(_) => {
            let tar = work.tars.get(&plan.name).ok_or_else(|| {
                Error::new(Kind::Failed, format!("what `{}` begins with was not brought in", plan.name))
            })?;
            unpack(tar, &place, ground, progress)?;
            fs::remove_file(tar)?;
        }
        Base::Disk(path) => {
            fs::remove_dir_all(&place)?;
            super::disks::unpack(path, &place, progress, ground.cancel)?;
            unchanged(work, path)?;
        }
        Base::Plan(parent) => {
            return Err(Error::new(Kind::Failed, format!("`{}` was to be made before `{parent}`", plan.name)));
        }
    }
    let youngest = youngest(&place)?;
    Ok(Made { tree, extent, epoch: epoch.unwrap_or(youngest) })
}

impl Made {
    /// Cleans what belongs to the build and not to the tree.
    pub(super) fn clean(extent: Extent, epoch: i64) -> impl FnOnce(&Path, Option<&Path>) -> Result<()> {
        move |changes, below| clean(changes, below, extent, Some(epoch))
    }
}

/// Fails if a file is not what it was when its identity was taken.
fn unchanged(work: &Work, path: &Path) -> Result<()> {
    let now = super::outputs::content_digest(path)?;
    if work.facts.files.get(path).is_some_and(|fact| fact.digest == now) {
        return Ok(());
    }
    Err(Error::new(Kind::Conflict, format!("`{}` changed while it was read", path.display()))
        .hint("run the same again when nothing writes there"))
}

fn unpack(tar: &Path, place: &Path, ground: Ground<'_>, progress: &Progress) -> Result<()> {
    fs::remove_dir_all(place)?;
    unpack_tar(tar, place, ground.limits, progress)
}

/// Unpacks a tar, compressed or not, into a folder that does not exist yet. Devices in `dev`, which no image needs, may be
/// missing where this user cannot make them; without others the tree would not be what root gets.
pub(super) fn unpack_tar(tar: &Path, place: &Path, limits: Limits, progress: &Progress) -> Result<()> {
    let scratch = fs::parent(place).to_owned();
    let mut config = Config::defaults(scratch.clone());
    config.limit_entries = limits.entries;
    let request = PackRequest {
        source: Reference::Tar(tar.to_owned()),
        destination: Reference::Dir(place.to_owned()),
        tmpdir: Some(scratch),
        ..PackRequest::default()
    };
    let report = pack(&request, &Surroundings::new(&config, progress))?;
    let Some(skipped) = report.unpacked.map(|unpacked| unpacked.devices_skipped) else { return Ok(()) };
    if let Some(device) = skipped.named.iter().find(|finding| !finding.path.starts_with(b"dev/")) {
        let path = String::from_utf8_lossy(&device.path).into_owned();
        return Err(Error::new(Kind::Unsupported, format!("cannot make the device `/{}`", path.escape_debug()))
            .hint("only root itself makes devices: leave them out, or run castoff as root"));
    }
    if skipped.total > skipped.named.len() as u64 {
        progress.warn(format!("{} devices were left out, which only root can make", skipped.total));
    }
    Ok(())
}

/// What mmdebstrap's shell hooks see in its environment; the hooks themselves never change.
const BRING: &str = r#"set -e; mkdir -p "$1/var/lib/apt/lists/partial" "$1/var/cache/apt/archives/partial"
find "$CASTOFF_LISTS" -maxdepth 1 -type f ! -name lock -exec cp -t "$1/var/lib/apt/lists/" {} +
find "$CASTOFF_POOL" -maxdepth 1 -name "*.deb" ! -name ".*" -exec cp --reflink=auto -t "$1/var/cache/apt/archives/" {} +"#;

fn run_mmdebstrap(
    work: &Work,
    bootstrap: &Bootstrap,
    home: &ArchiveHome,
    (tree, epoch): (&WorkTree, i64),
    ground: Ground<'_>,
    progress: &Progress,
) -> Result<()> {
    let mut command: Vec<String> = ["mmdebstrap", "--mode=root", "--format=directory"].map(str::to_owned).to_vec();
    command.push(format!("--variant={}", bootstrap.variant.word()));
    command.push(format!("--architectures={}", bootstrap.architecture));
    if !bootstrap.packages.is_empty() {
        let names: Vec<&str> = bootstrap.packages.iter().map(PackageName::as_str).collect();
        command.push(format!("--include={}", names.join(",")));
    }
    // Lists and packages come from castoff's own; `cleanup/apt` would make apt read its lists once more.
    command.push("--skip=update,download/empty,essential/unlink,cleanup/apt,output/dev,chroot/mount/sys".to_owned());
    for option in ["Acquire::Languages \"none\"", "APT::Sandbox::User \"root\"", "APT::Color \"0\""] {
        command.push(format!("--aptopt={option}"));
    }
    for (name, value) in home.settings.iter().filter_map(|setting| setting.split_once('=')) {
        command.push(format!("--aptopt={name} \"{value}\""));
    }
    command.push("--dpkgopt=force-unsafe-io".to_owned());
    command.push(format!("--setup-hook={BRING}"));
    let target = tree.place().join("tree");
    // From here on nothing is an option.
    command.push("--".to_owned());
    command.push(bootstrap.suite.clone());
    command.push(target.display().to_string());
    // mmdebstrap takes a file for a source too: lines, so that they end up in sources.list.
    command
        .extend(super::archives::text_of(bootstrap).lines().filter(|line| !line.trim().is_empty()).map(str::to_owned));
    let bounds = &work.bounds;
    let mut sandbox = Sandbox::of_host()
        .cancel(ground.cancel)
        .network(true)
        .no_sync(true)
        .processes(bounds.processes)
        .floor(tree.place(), bounds.disk_floor)
        .log(tree.place().join("log"), 64 << 20)
        .variable("SOURCE_DATE_EPOCH", epoch.to_string())
        .variable("CASTOFF_LISTS", home.folder.join("lists").display().to_string())
        .variable("CASTOFF_POOL", home.pool.display().to_string())
        .variable("TMPDIR", tree.place().display().to_string());
    if let Some(bytes) = bounds.memory {
        sandbox = sandbox.memory(bytes);
    }
    if let Some(limit) = bounds.timeout {
        sandbox = sandbox.limit(limit);
    }
    let report = sandbox.run(&command, progress)?;
    succeeded(&report, || format!("mmdebstrap {}", bootstrap.suite)).map_err(|error| {
        error.hint("the lines above are mmdebstrap's and apt's; `build.sources` says where packages come from")
    })?;
    super::packages::give_to_pool(home, &target.join("var/cache/apt/archives"))
}
