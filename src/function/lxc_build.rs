//! `mc_cloud_images.build` and `build_from_lxc`: containers, and images of them, made by plans.
//!
//! What is made stands beside the containers under a temporary name until it is whole, and then gets a name that nobody
//! has: no container that is there is ever written to, moved or removed.

use std::path::{Path, PathBuf};

use super::catalogue::{self, Wanted};
use super::{Accepts, Argument, Call, Context, Default, Function, archives};
use crate::build::{self, BuildReport, End, Request};
use crate::config::Config;
use crate::engine::Surroundings;
use crate::engine::lxc::LxcContainer;
use crate::error::{Context as _, Error, Kind, Result};
use crate::front::lxc::{IMPERSONATE, Order, Start, fresh_configuration, rootfs};
use crate::host::fs::{self, Lock, TempDir};
use crate::host::links;
use crate::plan::{Plan, PlanName, Plans, Step, refuse};
use crate::release::reference;
use crate::rootfs::idmap::IdMap;
use crate::settings;
use crate::vocab::Value;

const SCRIPT: Argument = Argument::optional(
    "script",
    Accepts::Path,
    Default::Null,
    "Bootstrap script of this host to run in the new container, with `-C`; null: none is run",
);
const SNAPSHOT: Argument = Argument::optional(
    "snapshot",
    Accepts::Bool,
    Default::Bool(true),
    "Run the container's /sbin/makinastates-snapshot.sh in the end, where it has one",
);
const LIVE: Argument = Argument::optional(
    "live",
    Accepts::Bool,
    Default::Bool(false),
    "Accept a container that is running: its files are read in the middle of what its programs do",
);
const MIRROR: Argument = Argument::optional(
    "mirror",
    Accepts::Text,
    Default::Null,
    "Where the packages of a suite come from; null: as this host's own apt has it",
);

const FROM_LXC: &str = "Make a container: a copy of another one, bootstrapped and made impersonal.

Without `clone_from` it begins with the Ubuntu release that the name tells. The steps run in a sandbox on a snapshot; no
container is started, and one that is there already, whatever its name, is never touched: a name that is taken is an
error. What was done before for the same tree and script is not done again.

    castoff call mc_cloud_images.build_from_lxc makina-states-bionic clone_from=ubuntu-bionic script=/root/boot.sh";

const BUILD: &str =
    "Make the images that makina-states knows: containers of Ubuntu releases, and Docker images of them.

A container that is there is taken as it is. Each image is told by itself, in `returns` or in `errors`; one that fails
keeps no other from being made. `makina-states-vivid` needs the bootstrap script.

    castoff call mc_cloud_images.build
    castoff call mc_cloud_images.build docker images=makina-states/ubuntu-bionic-raw mirror=MIRROR";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes(
        "mc_cloud_images.build_from_lxc",
        FROM_LXC,
        &[
            Argument::required("name", Accepts::Text, "Name of the container to make; nothing may have it"),
            Argument::optional("clone_from", Accepts::Text, Default::Null, "Name of the container it begins with"),
            Argument::optional(
                "profile",
                Accepts::Any,
                Default::Null,
                "Accepted: a copy keeps the original's settings",
            ),
            Argument::optional(
                "network_profile",
                Accepts::Any,
                Default::Null,
                "Accepted: a copy keeps the original's network, without its hardware addresses",
            ),
            Argument::optional("data", Accepts::Any, Default::Null, "Accepted for the callers of the original"),
            SCRIPT,
            SNAPSHOT,
            LIVE,
            MIRROR,
        ],
        build_from_lxc,
    )
    .with_more()
    .long(),
    Function::changes(
        "mc_cloud_images.build",
        BUILD,
        &[
            Argument::optional("typs", Accepts::List, Default::Null, "`lxc`, `docker` or both; null: both"),
            Argument::optional("images", Accepts::List, Default::Null, "Names of images; null: all"),
            SCRIPT,
            MIRROR,
        ],
        |call, context| {
            let list = |name: &str| call.value(name).as_list().map(|_| call.texts(name)).transpose();
            catalogue::build(call, context, &Wanted { kinds: list("typs")?, images: list("images")? })
        },
    )
    .long(),
];

/// The suite with what the call says of its mirror.
pub(super) fn suite(call: &Call, name: &str, config: &Config) -> Result<Start> {
    let words = [Some(name), call.maybe_text("mirror")].into_iter().flatten().collect::<Vec<_>>().join(" ");
    Ok(Start::Suite(archives::archive(&words, config)?, archives::architecture()?.to_owned()))
}

/// The bootstrap script of the call and its arguments.
pub(super) fn script(call: &Call) -> Result<Option<(String, Vec<String>)>> {
    /// A script is far smaller.
    const MOST_BYTES: u64 = 4 << 20;
    let Some(path) = call.maybe_path("script") else { return Ok(None) };
    let text = String::from_utf8(fs::read_at_most(&path, MOST_BYTES)?)
        .map_err(|error| Error::new(Kind::Usage, format!("`{}` is not UTF-8", path.display())).caused_by(error))?;
    Ok(Some((text, vec!["-C".to_owned()])))
}

/// A container that is read as it stands: stopped unless `live`, its ids those of the host.
pub(super) fn readable(name: &str, lxc_path: &Path, live: bool) -> Result<LxcContainer> {
    let container = LxcContainer::find(name, lxc_path)?;
    container.existing_rootfs()?;
    if let Some(evidence) = container.running()?
        && !live
    {
        return Err(Error::new(Kind::Conflict, format!("the container `{name}` is running: {evidence}")).hint(
            format!("stop it (`lxc-stop -n {name}`), or accept a tree that changes while it is read: live=True"),
        ));
    }
    if IdMap::parse_lxc_config(&container.config)?.is_some() {
        return Err(Error::new(Kind::Unsupported, format!("`{name}` has an lxc.idmap"))
            .hint("its files belong to shifted ids, which steps do not: begin with a container without lxc.idmap"));
    }
    Ok(container)
}

/// Fails where anything has this name.
pub(super) fn require_free(name: &str, lxc_path: &Path) -> Result<()> {
    match LxcContainer::find(name, lxc_path) {
        Err(error) if error.kind() == Kind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) => return Err(taken(&found.directory)),
    }
    let place = lxc_path.join(name);
    if fs::link_metadata(&place)?.is_some() { Err(taken(&place)) } else { Ok(()) }
}

fn taken(place: &Path) -> Error {
    Error::new(Kind::Conflict, format!("`{}` is there already", place.display()))
        .hint("it is left as it is: give the new container another name, or remove that one yourself")
}

/// A container under way, beside the others.
pub(super) struct UnderWay {
    folder: TempDir,
    name: String,
    lxc_path: PathBuf,
}

impl UnderWay {
    pub(super) fn begin(name: &str, lxc_path: &Path) -> Result<Self> {
        if !fs::metadata(lxc_path)?.is_some_and(|found| found.is_dir()) {
            return Err(Error::new(Kind::NotFound, format!("there is no folder `{}`", lxc_path.display()))
                .hint("`lxc.path` says where containers are: see `castoff config`"));
        }
        let folder = TempDir::inside(lxc_path)?;
        let this = Self { folder, name: name.to_owned(), lxc_path: lxc_path.to_owned() };
        fs::create_dir_all(&this.place(), 0o770)?;
        Ok(this)
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("new")
    }

    /// Where its root filesystem is built.
    pub(super) fn rootfs(&self) -> PathBuf {
        self.place().join("rootfs")
    }

    /// Gives the whole container its name, which nobody has.
    pub(super) fn finish(self, beside: &[(&str, Vec<u8>)]) -> Result<PathBuf> {
        for (name, text) in beside {
            fs::write_atomic(&self.place().join(name), 0o644, text)?;
        }
        fs::sync_dir(&self.place())?;
        let end = self.lxc_path.join(&self.name);
        fs::rename_noreplace(&self.place(), &end)?;
        fs::sync_dir(&self.lxc_path)?;
        Ok(end)
    }
}

/// The configuration of a container that begins with a suite.
pub(super) fn configuration(name: &PlanName, lxc_path: &Path) -> Result<Vec<u8>> {
    let defaults = Path::new("/etc/lxc/default.conf");
    let defaults = if fs::exists(defaults)? { fs::read_text(defaults)? } else { String::new() };
    let rootfs = lxc_path.join(name.as_str()).join("rootfs");
    Ok(fresh_configuration(name, &rootfs, &defaults, archives::architecture()?).into_bytes())
}

/// Builds plans of containers.
pub(super) fn run(plans: Vec<Plan>, only: Option<Vec<PlanName>>, context: &Context) -> Result<BuildReport> {
    let plans = Plans::new(plans).map_err(|problems| refuse("the plan", problems))?;
    let space = context.config.lxc_path.display().to_string();
    let request = Request { plans, space, only, force: false, refresh: false, jobs: None };
    let surroundings = Surroundings::new(&context.config, &context.progress);
    build::run(&request, &surroundings, context.cancel()?)
}

fn build_from_lxc(call: &Call, context: &Context) -> Result<Value> {
    let lxc_path = context.config.lxc_path.as_path();
    let name: PlanName = call.text("name")?.parse()?;
    require_free(name.as_str(), lxc_path)?;
    let source = call.maybe_text("clone_from");
    // Held until the end: nobody replaces the container that is read.
    let _hold = match source.filter(|_| !call.test) {
        Some(source) => Some(held(source, context)?),
        None => None,
    };
    let source = source.map(|source| readable(source, lxc_path, call.boolean("live"))).transpose()?;
    let start = match &source {
        Some(source) => Start::Tree(source.rootfs.clone()),
        None => suite(
            call,
            settings::guess_template_env(name.as_str(), None, context.config.compat).release,
            &context.config,
        )?,
    };
    let mode = match &source {
        Some(source) if call.boolean("snapshot") => links::mode_inside(&source.rootfs, IMPERSONATE)?,
        _ => None,
    };
    let impersonate = mode.map(|mode| mode & 0o111 != 0);
    let order = Order { name: name.clone(), start, script: script(call)?, impersonate, output: None };
    let report = Report { call, source: source.as_ref(), impersonated: impersonate.is_some() };
    if call.test {
        let plan = order.lower()?;
        let steps = plan.steps.iter().map(Step::summary);
        return Ok(report.value(Value::Null, &lxc_path.join(name.as_str()), Value::list(steps), &plan.base_text()));
    }
    fs::sweep(lxc_path)?;
    let under_way = UnderWay::begin(name.as_str(), lxc_path)?;
    let plan = Order { output: Some(rootfs(under_way.rootfs())), ..order }.lower()?;
    let begun_with = plan.base_text();
    let built = run(vec![plan], None, context)?;
    let beside = match &source {
        Some(source) => reference::files_beside(source, name.as_str(), lxc_path)?,
        None => vec![("config", configuration(&name, lxc_path)?)],
    };
    if let Some(End::Failed(failure)) = built.plans.iter().map(|plan| &plan.end).find(|end| **end != End::Done) {
        return Err(failure.clone().into_error()).context(|| format!("cannot make the container `{name}`"));
    }
    let place = under_way.finish(&beside)?;
    let steps = built.to_value().get("images").cloned().unwrap_or_default();
    Ok(report.value(true.into(), &place, steps, &begun_with))
}

/// The container is not replaced as long as this lives.
pub(super) fn held(source: &str, context: &Context) -> Result<Lock> {
    // The name becomes part of a path.
    LxcContainer::find(source, &context.config.lxc_path)?;
    reference::hold(&context.config.state_dir, source)
}

/// What becomes of a container, under the names that the original gave its steps.
struct Report<'a> {
    call: &'a Call,
    source: Option<&'a LxcContainer>,
    impersonated: bool,
}

impl Report<'_> {
    fn value(&self, result: Value, place: &Path, steps: Value, begun_with: &str) -> Value {
        let accepted = ["profile", "network_profile", "data"];
        let given = |name: &&str| *self.call.value(name) != Value::Null;
        let more = self.call.more.keys().filter_map(crate::vocab::Key::as_str);
        let ignored: Vec<&str> = accepted.into_iter().filter(given).chain(more).collect();
        let or = |done: bool, text: &str, else_text: &str| Value::from(if done { text } else { else_text });
        let has_script = self.call.maybe_text("script").is_some();
        Value::map([
            ("result", result),
            ("lxc_parent", self.source.map(|source| source.name.clone()).into()),
            ("lxc", place.display().to_string().into()),
            ("begun_with", begun_with.into()),
            ("bs_copy", or(has_script, "the script is in the container only while it runs", "no script was given")),
            ("bootstrap", or(has_script, "the script runs in a sandbox, never in a container", "no script was given")),
            ("lxc_stop", "no container is started".into()),
            ("cleanup", or(self.impersonated, "made impersonal by its own script", "not made impersonal")),
            ("acls", "kept as they are".into()),
            ("tar", "`release.archive` makes one".into()),
            ("umount", "nothing is mounted on this host".into()),
            ("ignored", Value::list(ignored)),
            ("steps", steps),
        ])
    }
}
