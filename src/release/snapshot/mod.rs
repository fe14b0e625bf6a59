//! A tree that holds still while it is released, and may be made impersonal without touching the container.
//!
//! ```text
//! STATE/release/tmp/.castoff-PID-N.tmp/     locked by its owner; swept when that is gone
//!     rootfs/  folder/                      reflink, copy: the tree with the container's own ids
//!     upper/  work/  merged/                overlay: what the script changes; mounted in a namespace of this thread
//! ```
//!
//! A reflink is taken where blocks can be shared (then beside the container if need be), else an overlay where nothing in
//! the tree would look different through one, else a copy. What is read in place, or through an overlay, is looked at
//! again before the archive gets its name: a container that changed meanwhile is an error.

mod copy;
mod overlay;
mod script;

use std::path::{Path, PathBuf};

use super::chosen::Chosen;
use super::flavour::{Recipe, Root};
use super::roots::Roots;
use super::tree::Tree;
use crate::engine::lxc::LxcContainer;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{abilities, fault, fs, process};
use crate::progress::Progress;
use crate::rootfs::{Limits, shown};
use crate::vocab::Value;

pub(super) use script::run as run_script;
pub use script::{SCRIPT, Script};

/// How a tree is held still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// A copy that shares its blocks with the container.
    Reflink,
    /// An overlay over the container's root filesystem.
    Overlay,
    /// A copy.
    Copy,
    /// Not at all: it is read where it is.
    InPlace,
}

impl Method {
    /// The word in reports and arguments.
    pub fn word(self) -> &'static str {
        match self {
            Self::Reflink => "reflink",
            Self::Overlay => "overlay",
            Self::Copy => "copy",
            Self::InPlace => "in-place",
        }
    }

    /// The method of this word.
    pub fn of_word(word: &str) -> Result<Self> {
        let all = [Self::Reflink, Self::Overlay, Self::Copy, Self::InPlace];
        all.into_iter().find(|method| method.word() == word).ok_or_else(|| {
            Error::new(Kind::Usage, format!("`{word}` is no way to take a snapshot"))
                .hint("it may be reflink, overlay, copy or in-place")
        })
    }
}

/// What to hold still, where, and how.
#[derive(Clone, Debug)]
pub struct Snapshot<'a> {
    /// The container.
    pub container: &'a LxcContainer,
    /// castoff's state folder.
    pub state: &'a Path,
    /// A folder for the snapshot instead of one below the state folder.
    pub tmpdir: Option<PathBuf>,
    /// Just this method; none: the first that works.
    pub method: Option<Method>,
    /// Whether the impersonation script runs in it.
    pub script: bool,
    /// Accept a container that runs.
    pub live: bool,
    /// The limits that a hostile tree meets.
    pub limits: Limits,
}

/// A tree that holds still.
pub struct Frozen<'a> {
    /// Where it is.
    pub roots: Roots,
    /// How it is held still.
    pub method: Method,
    /// Why other methods were not taken.
    pub passed_over: Vec<String>,
    /// What the impersonation script did.
    pub script: Script,
    /// The container as it is.
    live: Roots,
    before: &'a Tree,
    limits: Limits,
    progress: &'a Progress,
}

impl std::fmt::Debug for Frozen<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Frozen")
            .field("roots", &self.roots)
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

impl Frozen<'_> {
    /// Walks the held tree.
    pub fn walk(&self, root: Root) -> Result<Tree> {
        Tree::walk(&self.roots, root, self.limits, self.progress)
    }

    /// The newest second of what a flavour takes of the container as it was before the script. Whatever the script
    /// makes is dated by it, so that nothing changes where nothing but the hour has.
    pub fn newest(&self, recipe: &Recipe) -> Result<i64> {
        Ok(Chosen::of(recipe, &self.before.seen_from(recipe.root))?.newest)
    }

    /// Fails if the container is not what it was, where that would show in the tree.
    pub fn confirm(&self) -> Result<()> {
        match self.method {
            Method::Reflink | Method::Copy => Ok(()),
            Method::Overlay | Method::InPlace => unchanged(&self.live, self.before, self.limits, self.progress),
        }
    }

    /// How it is held still, and what the script said.
    pub fn to_value(&self) -> Value {
        let mut members = vec![("method", Value::from(self.method.word()))];
        if !self.passed_over.is_empty() {
            members.push(("passed_over", Value::list(self.passed_over.clone())));
        }
        if let Some(idmap) = &self.live.idmap {
            members.push(("idmap_undone", idmap.to_string().into()));
        }
        members.push(("script", self.script.to_value()));
        Value::map(members)
    }
}

fn unchanged(live: &Roots, before: &Tree, limits: Limits, progress: &Progress) -> Result<()> {
    let now = Tree::walk(live, Root::Container, limits, progress)?;
    before.says_what(&now).map_err(|path| {
        Error::new(Kind::Conflict, format!("the container changed while it was released: `{}`", shown(&path)))
            .hint("stop what writes into it, and run the same again")
    })
}

/// Holds a container still, runs the script in what is held, and gives it to `work`; nothing of it stays afterwards.
pub fn with<T: Send>(
    snapshot: &Snapshot<'_>,
    progress: &Progress,
    work: impl FnOnce(&Frozen<'_>) -> Result<T> + Send,
) -> Result<T> {
    refuse_running(snapshot)?;
    let live = Roots::of(snapshot.container)?;
    let places = places(snapshot)?;
    let before = Tree::walk(&live, Root::Container, snapshot.limits, progress)?;
    let taking = Taking { snapshot, live: &live, before: &before, progress };
    let plan = taking.plan(&places)?;
    if plan.steps.iter().any(|(method, _)| *method == Method::Overlay) {
        return overlay::isolated(|| taking.carry_out(plan, work));
    }
    taking.carry_out(plan, work)
}

/// How a snapshot of the container would be taken, without taking one: the first method that would be tried, and why not
/// others.
pub fn preview(snapshot: &Snapshot<'_>, progress: &Progress) -> Result<(Method, Vec<String>)> {
    refuse_running(snapshot)?;
    let live = Roots::of(snapshot.container)?;
    let before = Tree::walk(&live, Root::Container, snapshot.limits, progress)?;
    let taking = Taking { snapshot, live: &live, before: &before, progress };
    let plan = taking.plan(&existing(candidates(snapshot))?)?;
    let method = plan.steps.first().map_or(Method::InPlace, |(method, _)| *method);
    Ok((method, plan.passed_over))
}

fn refuse_running(snapshot: &Snapshot<'_>) -> Result<()> {
    let name = &snapshot.container.name;
    match snapshot.container.running()? {
        Some(evidence) if !snapshot.live => {
            Err(Error::new(Kind::Conflict, format!("the container `{name}` is running: {evidence}")).hint(format!(
                "stop it (`lxc-stop -n {name}`), or accept what its programs are in the middle of: live=True"
            )))
        }
        _ => Ok(()),
    }
}

/// Where a snapshot may lie: castoff's own folder first, else beside the container, where blocks may be shared.
fn candidates(snapshot: &Snapshot<'_>) -> Vec<PathBuf> {
    match &snapshot.tmpdir {
        Some(tmpdir) => vec![tmpdir.clone()],
        None => vec![snapshot.state.join("release/tmp"), fs::parent(&snapshot.container.directory).to_owned()],
    }
}

fn places(snapshot: &Snapshot<'_>) -> Result<Vec<PathBuf>> {
    let candidates = candidates(snapshot);
    if snapshot.method == Some(Method::InPlace) {
        return Ok(candidates);
    }
    if snapshot.tmpdir.is_none() {
        fs::create_dir_all(&candidates[0], 0o700)?;
    }
    for place in &candidates {
        fs::sweep(place)?;
    }
    Ok(candidates)
}

fn existing(candidates: Vec<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for mut place in candidates {
        while !fs::exists(&place)? && place.pop() {}
        found.push(place);
    }
    Ok(found)
}

/// What will be tried, in this order, and where.
struct Plan {
    steps: Vec<(Method, PathBuf)>,
    passed_over: Vec<String>,
}

struct Taking<'a> {
    snapshot: &'a Snapshot<'a>,
    live: &'a Roots,
    before: &'a Tree,
    progress: &'a Progress,
}

impl Taking<'_> {
    fn plan(&self, places: &[PathBuf]) -> Result<Plan> {
        let mut plan = Plan { steps: Vec::new(), passed_over: Vec::new() };
        let asked = |method| self.snapshot.method.is_none_or(|only| only == method);
        let [place, ..] = places else { return Err(Error::new(Kind::Failed, "a snapshot has no place to lie")) };
        if self.snapshot.method == Some(Method::InPlace) {
            if self.snapshot.script {
                return Err(Error::new(Kind::Usage, "the script never runs in the container itself")
                    .hint("leave the script out, or take a snapshot"));
            }
            plan.steps.push((Method::InPlace, place.clone()));
            return Ok(plan);
        }
        if asked(Method::Reflink) {
            let mut shared = None;
            for place in places {
                if copy::can_share(self.before, place)? {
                    shared = Some(place.clone());
                    break;
                }
            }
            match shared {
                Some(place) => plan.steps.push((Method::Reflink, place)),
                None => plan.passed_over.push("reflink: blocks of the container cannot be shared".to_owned()),
            }
        }
        if asked(Method::Overlay) && plan.steps.is_empty() {
            match self.no_overlay()? {
                None => plan.steps.push((Method::Overlay, place.clone())),
                Some(why) => plan.passed_over.push(format!("overlay: {why}")),
            }
        }
        if asked(Method::Copy) && plan.steps.iter().all(|(method, _)| *method != Method::Reflink) {
            plan.steps.push((Method::Copy, place.clone()));
        }
        if plan.steps.is_empty() {
            return Err(Error::new(Kind::Unsupported, format!("no snapshot of `{}`", self.snapshot.container.name))
                .caused_by(plan.passed_over.join("; "))
                .hint("let castoff choose the method"));
        }
        Ok(plan)
    }

    /// Why no overlay is taken, if none is.
    fn no_overlay(&self) -> Result<Option<String>> {
        if !process::is_root() || !abilities::may_mount()? {
            return Ok(Some("this process may not mount".to_owned()));
        }
        if !abilities::file_system("overlay")? {
            return Ok(Some("this kernel does not have it loaded".to_owned()));
        }
        if self.live.idmap.is_some() {
            return Ok(Some("ids are shifted, and the script works with the container's own".to_owned()));
        }
        if self.snapshot.live {
            return Ok(Some("it would show what a running container changes".to_owned()));
        }
        Ok(self.before.resists_overlay().map(str::to_owned))
    }

    fn carry_out<T>(&self, plan: Plan, work: impl FnOnce(&Frozen<'_>) -> Result<T>) -> Result<T> {
        let Plan { steps, mut passed_over } = plan;
        let last = steps.len() - 1;
        for (number, (method, place)) in steps.iter().enumerate() {
            match self.take(*method, place) {
                Ok(held) => return self.use_it(*method, &held, passed_over, work),
                // Only an overlay may turn out impossible when it is tried; nothing is lost by then.
                Err(error) if number < last && *method == Method::Overlay => {
                    let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                    self.progress.warn(format!("no overlay is used: {why}"));
                    passed_over.push(format!("overlay: {why}"));
                }
                Err(error) => {
                    return Err(error)
                        .context(|| format!("cannot take a snapshot of `{}`", self.snapshot.container.name));
                }
            }
        }
        Err(Error::new(Kind::Failed, "a snapshot without a method"))
    }

    fn take(&self, method: Method, place: &Path) -> Result<Held> {
        match method {
            Method::InPlace => Ok(Held { roots: self.live.clone(), _mount: None, _folder: None }),
            Method::Overlay => {
                let folder = fs::TempDir::inside(place)?;
                fault::point("release.snapshot.folder-made");
                let mount = overlay::mount(&self.live.rootfs, folder.path())?;
                let roots = Roots { rootfs: mount.place().to_owned(), ..self.live.clone() };
                Ok(Held { roots, _mount: Some(mount), _folder: Some(folder) })
            }
            Method::Reflink | Method::Copy => {
                let folder = fs::TempDir::inside(place)?;
                fault::point("release.snapshot.folder-made");
                let roots = copy::copy(self.before, folder.path(), method == Method::Reflink, self.progress)?;
                if !self.snapshot.live {
                    unchanged(self.live, self.before, self.snapshot.limits, self.progress)?;
                }
                Ok(Held { roots, _mount: None, _folder: Some(folder) })
            }
        }
    }

    fn use_it<T>(
        &self,
        method: Method,
        held: &Held,
        passed_over: Vec<String>,
        work: impl FnOnce(&Frozen<'_>) -> Result<T>,
    ) -> Result<T> {
        self.progress.line(format!("snapshot of `{}`: {}", self.snapshot.container.name, method.word()));
        fault::point("release.snapshot.taken");
        let script = if self.snapshot.script {
            script::run(self.before, &held.roots.rootfs, self.progress)
                .context(|| format!("the snapshot of `{}` failed", self.snapshot.container.name))?
        } else {
            Script::NotAsked
        };
        fault::point("release.snapshot.script-done");
        work(&Frozen {
            roots: held.roots.clone(),
            method,
            passed_over,
            script,
            live: self.live.clone(),
            before: self.before,
            limits: self.snapshot.limits,
            progress: self.progress,
        })
    }
}

/// A snapshot on the disk; the mount goes before the folder it is in.
struct Held {
    roots: Roots,
    _mount: Option<overlay::Mounted>,
    _folder: Option<fs::TempDir>,
}
