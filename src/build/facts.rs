//! What the world is like before a build: files, images, programs and archives, as the values plans are judged with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::archives::Archives;
use super::bring::{Own, Surveys, survey};
use super::order::ArchiveHome;
use super::outputs::content_digest;
use super::report::Request;
use super::{disks, identity_tools};
use crate::engine::{Surroundings, adopt, open};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{clock, fs, process};
use crate::plan::{Base, Facts, FileFact, Plan};
use crate::progress::{Cancel, Progress};
use crate::rootfs::walk::{DirectoryLayer, WalkOptions};
use crate::vocab::{Digest, Reference};

/// The world as a build found it.
#[derive(Debug, Default)]
pub(super) struct World {
    pub(super) facts: Facts,
    pub(super) surveys: Surveys,
    pub(super) archives: BTreeMap<Digest, ArchiveHome>,
}

/// How archives of packages are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// What is known is enough, however old.
    Known,
    /// What is known is enough while it is young.
    Young,
    /// Anew.
    Now,
}

/// Looks at all that the plans need.
pub(super) fn gather(
    request: &Request,
    plans: &[&Plan],
    look: Look,
    surroundings: &Surroundings<'_>,
    cancel: &Cancel,
) -> Result<World> {
    let mut world = World::default();
    world.facts.epoch = clock::source_date_epoch()?.map(|epoch| i64::try_from(epoch.as_secs()).unwrap_or(i64::MAX));
    let space = Path::new(&request.space);
    let own = Own::of(space.is_absolute().then_some(space))?;
    for plan in plans {
        cancel.check()?;
        base(plan, look, &mut world, surroundings, cancel)
            .context(|| format!("cannot look at what `{}` begins with", plan.name))?;
        for source in plan.steps.iter().flat_map(crate::plan::Step::files) {
            stays_in(source, space)?;
            if world.surveys.contains_key(source) {
                continue;
            }
            if let Some(found) = survey(source, &own, surroundings.limits(), cancel)? {
                let fact = FileFact { digest: found.digest, name: found.name.clone(), disk_size: None };
                world.facts.files.insert(source.clone(), fact);
                world.surveys.insert(source.clone(), found);
            }
        }
    }
    for tool in identity_tools(plans) {
        if let Some(version) = version_of(tool)? {
            world.facts.tools.insert(tool.to_owned(), version);
        }
    }
    Ok(world)
}

/// Fails if what is brought in lies in the folder of the plans by its name and elsewhere in truth: a checkout of somebody
/// else's must not make an image of this host's own files.
fn stays_in(source: &Path, space: &Path) -> Result<()> {
    let is_plain = source.components().all(|part| part != std::path::Component::ParentDir);
    if !(space.is_absolute() && is_plain && source.starts_with(space)) {
        return Ok(());
    }
    let (Some(real), Some(folder)) = (fs::canonical(source)?, fs::canonical(space)?) else { return Ok(()) };
    if real.starts_with(&folder) {
        return Ok(());
    }
    Err(Error::new(
        Kind::Refused,
        format!("`{}` leads out of `{}`, to `{}`", source.display(), space.display(), real.display()),
    )
    .hint("if that is what is wanted, name it by its own path"))
}

fn base(plan: &Plan, look: Look, world: &mut World, surroundings: &Surroundings<'_>, cancel: &Cancel) -> Result<()> {
    let state = &surroundings.config.state_dir;
    match &plan.base {
        Base::Empty | Base::Plan(_) => {}
        Base::Bootstrap(bootstrap) => {
            let archives = Archives::of(state);
            let digest = bootstrap.archive();
            if world.archives.contains_key(&digest) {
                return Ok(());
            }
            let known = match look {
                Look::Known => archives.known(bootstrap)?,
                Look::Young => {
                    let ttl = surroundings.config.build.archive_ttl.as_secs();
                    Some(archives.look(bootstrap, Some(ttl), surroundings.progress, cancel)?)
                }
                Look::Now => Some(archives.look(bootstrap, None, surroundings.progress, cancel)?),
            };
            if let Some(known) = known {
                world.facts.archives.insert(digest, known.fact);
                world.archives.insert(digest, known.home);
            }
        }
        Base::Directory(path) => {
            if fs::metadata(path)?.is_some() {
                let digest = directory_digest(path, surroundings, cancel)?;
                world.facts.files.insert(path.clone(), FileFact { digest, name: String::new(), disk_size: None });
            }
        }
        Base::Tar(path) | Base::Disk(path) => {
            if fs::metadata(path)?.is_some() {
                let digest = cached_digest(path, &state.join("digests"))?;
                let disk_size = if matches!(plan.base, Base::Disk(_)) { Some(disks::size_of(path)?) } else { None };
                world.facts.files.insert(path.clone(), FileFact { digest, name: String::new(), disk_size });
            }
        }
        Base::Image(text) => {
            let digest = image_digest(&text.parse::<Reference>()?, surroundings)?;
            world.facts.images.insert(text.clone(), digest);
        }
    }
    Ok(())
}

/// Fails if what a plan begins with is not what it was when its identity was taken.
pub(super) fn unchanged(base: &Base, world: &World, surroundings: &Surroundings<'_>) -> Result<()> {
    let same = match base {
        Base::Directory(path) => {
            let now = directory_digest(path, surroundings, &Cancel::new())?;
            world.facts.files.get(path).is_some_and(|fact| fact.digest == now)
        }
        Base::Image(text) => {
            let now = image_digest(&text.parse::<Reference>()?, surroundings)?;
            world.facts.images.get(text) == Some(&now)
        }
        Base::Empty | Base::Bootstrap(_) | Base::Tar(_) | Base::Disk(_) | Base::Plan(_) => true,
    };
    if same {
        return Ok(());
    }
    Err(Error::new(Kind::Conflict, "what the image begins with changed while it was read")
        .hint("run the same again when nothing writes there"))
}

/// The content of a root filesystem, times and owners among it.
fn directory_digest(path: &Path, surroundings: &Surroundings<'_>, cancel: &Cancel) -> Result<Digest> {
    let options = WalkOptions { idmap: adopt::idmap_of(&Reference::Dir(path.to_owned()))?, ..WalkOptions::default() };
    let (walked, report) = DirectoryLayer::open(path, &options, surroundings.limits(), &Progress::silent())?;
    if let Some(first) = report.unreadable.lines().first() {
        return Err(Error::new(Kind::Refused, format!("something in `{}` cannot be read", path.display()))
            .caused_by(first.clone())
            .hint("run castoff as root"));
    }
    walked.tree_digest(&mut |_| cancel.check())
}

/// What an image is.
fn image_digest(reference: &Reference, surroundings: &Surroundings<'_>) -> Result<Digest> {
    if let Reference::Store(_) | Reference::DockerDaemon(_) | Reference::Default(_) = reference
        && let Some(id) = open::current_id(reference, surroundings)?
    {
        return id.parse();
    }
    let scratch = surroundings.scratch(None)?;
    let opened = open::open(reference, None, &scratch, surroundings)?;
    if let Some(id) = open::image_id(&opened) {
        return Ok(id);
    }
    match reference {
        Reference::Tar(path) => content_digest(path),
        Reference::Dir(path) => directory_digest(path, surroundings, &Cancel::new()),
        other => Err(Error::new(Kind::Unsupported, format!("`{other}` has no identity to build on"))),
    }
}

/// The digest of a large file: read again only where what the file system says of it changed.
fn cached_digest(path: &Path, folder: &Path) -> Result<Digest> {
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::fs::MetadataExt as _;
    let absolute = fs::absolute(path)?;
    let Some(metadata) = fs::metadata(path)? else {
        return Err(Error::new(Kind::NotFound, format!("there is no `{}`", path.display())));
    };
    let seen = format!(
        "{} {} {} {}.{:09} {}.{:09}",
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec()
    );
    let place: PathBuf = folder.join(Digest::of(absolute.as_os_str().as_bytes()).hex());
    if fs::exists(&place)? {
        let text = fs::read_text(&place)?;
        if let Some(digest) = text.strip_prefix(&seen).and_then(|rest| rest.trim().parse().ok()) {
            return Ok(digest);
        }
    }
    let digest = content_digest(path)?;
    fs::create_dir_all(folder, 0o700)?;
    fs::write_unsynced(&place, 0o600, format!("{seen} {digest}\n").as_bytes())?;
    Ok(digest)
}

/// What a program says of its version; none where there is none.
fn version_of(tool: &str) -> Result<Option<String>> {
    let Some(program) = process::find(tool) else { return Ok(None) };
    let flag = match tool {
        "mke2fs" => "-V",
        "mksquashfs" => "-version",
        // It knows no word for its version alone.
        "mkfs.fat" => "--help",
        _ => "--version",
    };
    let output =
        process::command(program).arg(flag).env("LC_ALL", "C").output().context(|| format!("cannot start `{tool}`"))?;
    let text = [output.stdout, output.stderr].concat();
    let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned();
    Ok(Some(line))
}
