//! `mc_cloud_images.snapshot|save_acls|archive` with their `_lxc` and `_standalone` forms, and `release.archive`: the
//! steps of a release on this host, one at a time.

use std::path::{Path, PathBuf};

use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::engine::lxc::LxcContainer;
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::release::archive::{self, Order, Report};
use crate::release::hygiene::{Allowed, Hygiene};
use crate::release::snapshot::{self, Method, Snapshot};
use crate::release::{self, Chosen, Flavours, Recipe, Roots, acls};
use crate::rootfs::Limits;
use crate::settings;
use crate::vocab::{Flavour, Key, Map, OsImage, ReleaseNumber, Value};

const CONTAINER: Argument =
    Argument::required("container", Accepts::Text, "Name of the LXC container, which is the name of the image");
const FLAVOR: Argument =
    Argument::required("flavor", Accepts::Text, "`lxc`, `standalone`, or another one of `release.flavors`");
const OWN_FLAVOR: Argument = Argument::optional(
    "flavor",
    Accepts::Text,
    Default::Null,
    "Accepted for the callers of the original, who name the flavour twice",
);
pub(super) const METHOD: Argument = Argument::optional(
    "method",
    Accepts::Text,
    Default::Null,
    "How the tree is held still: reflink, overlay or copy; null: the first of them that works, said in the report",
);
pub(super) const LIVE: Argument = Argument::optional(
    "live",
    Accepts::Bool,
    Default::Bool(false),
    "Accept a container that is running: its files are copied in the middle of what its programs do",
);
pub(super) const TMPDIR: Argument =
    Argument::optional("tmpdir", Accepts::Path, Default::Null, "Folder for the snapshot; null: below the state folder");
pub(super) const ALLOW: Argument = Argument::optional(
    "allow",
    Accepts::List,
    Default::Null,
    "What may be released although it is of one machine: host-keys, machine-id, authorized-keys, salt-keys, new-privileged, left-out, each alone or as KIND:PATTERN of paths in the archive",
);
pub(super) const FORCE: Argument = Argument::optional(
    "force",
    Accepts::Bool,
    Default::Bool(false),
    "Replace a file under the archive's name that castoff does not know",
);
pub(super) const SCRIPT: Argument = Argument::optional(
    "snapshot",
    Accepts::Bool,
    Default::Bool(true),
    "Run the image's /sbin/makinastates-snapshot.sh in the snapshot first, where it has one",
);

const SNAPSHOT_DOC: &str =
    "Try the snapshot that a release takes: hold the container still, make it impersonal, say what comes of it.

The image's /sbin/makinastates-snapshot.sh runs sandboxed in the snapshot, never in the container, and nothing of the
snapshot stays: `archive` takes its own. Returns what the script said in the form of cmd.run_all, how the tree was held
still, and what would fail the release (`hygiene`).

    castoff call mc_cloud_images.snapshot makina-states-trusty lxc";

const SAVE_ACLS_DOC: &str =
    "Write down the ACLs of a container as getfacl does: acls.txt in its root filesystem and in its folder.

The first lists etc, home, opt, root, srv and var, the second everything; both with numeric ids as they are on this
host, for `setfacl --restore`. Each appears whole or not at all. The archive of a container gets texts of its own.
Returns the paths of both.

    castoff call mc_cloud_images.save_acls makina-states-trusty lxc";

const ARCHIVE_DOC: &str = "Cast a container into its archive, IMAGE-FLAVOR-N.tar.xz, and return where that is.

A snapshot is taken and made impersonal, looked through for what must not be released, and written as a tar that equal
trees make equal: sorted, numeric owners, whole seconds no later than SOURCE_DATE_EPOCH or else the newest file, ACLs
for container engines and for GNU tar. An archive that is there already is kept if castoff made it of the same tree, and
never trusted otherwise. Further variables of get_vars may be given.

    castoff call mc_cloud_images.archive makina-states-trusty lxc";

const RELEASE_ARCHIVE_DOC: &str =
    "Cast a container into its archive, as mc_cloud_images.archive, and return everything about it.

Sizes, hashes, the digests of tar and tree, how the tree was held still, what was left out, what was found and allowed.

    castoff call release.archive makina-states-trusty standalone";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    snapshot_row("mc_cloud_images.snapshot", SNAPSHOT_DOC, &[CONTAINER, FLAVOR, METHOD, LIVE, TMPDIR, ALLOW]),
    snapshot_row(
        "mc_cloud_images.snapshot_lxc",
        "Try the snapshot that a release of the flavour lxc takes; see snapshot.\n\n    castoff call mc_cloud_images.snapshot_lxc makina-states-trusty",
        &[CONTAINER, OWN_FLAVOR, METHOD, LIVE, TMPDIR, ALLOW],
    ),
    snapshot_row(
        "mc_cloud_images.snapshot_standalone",
        "Try the snapshot that a release of the flavour standalone takes; see snapshot.\n\n    castoff call mc_cloud_images.snapshot_standalone makina-states-trusty",
        &[CONTAINER, OWN_FLAVOR, METHOD, LIVE, TMPDIR, ALLOW],
    ),
    save_acls_row("mc_cloud_images.save_acls", SAVE_ACLS_DOC, &[CONTAINER, FLAVOR]),
    save_acls_row(
        "mc_cloud_images.save_acls_lxc",
        "Write down the ACLs of a container; see save_acls.\n\n    castoff call mc_cloud_images.save_acls_lxc makina-states-trusty",
        &[CONTAINER, OWN_FLAVOR],
    ),
    save_acls_row(
        "mc_cloud_images.save_acls_standalone",
        "Write down the ACLs of a container; see save_acls.\n\n    castoff call mc_cloud_images.save_acls_standalone makina-states-trusty",
        &[CONTAINER, OWN_FLAVOR],
    ),
    archive_row(
        "mc_cloud_images.archive",
        ARCHIVE_DOC,
        &[CONTAINER, FLAVOR, FORCE, ALLOW, SCRIPT, METHOD, LIVE, TMPDIR],
        archive_path,
    ),
    archive_row(
        "mc_cloud_images.archive_lxc",
        "Cast a container into its archive of the flavour lxc, all of its folder; see archive.\n\n    castoff call mc_cloud_images.archive_lxc makina-states-trusty",
        &[CONTAINER, OWN_FLAVOR, FORCE, ALLOW, SCRIPT, METHOD, LIVE, TMPDIR],
        archive_path,
    ),
    archive_row(
        "mc_cloud_images.archive_standalone",
        "Cast a container into its archive of the flavour standalone, Salt and makina-states alone; see archive.\n\n    castoff call mc_cloud_images.archive_standalone makina-states-trusty",
        &[CONTAINER, OWN_FLAVOR, FORCE, ALLOW, SCRIPT, METHOD, LIVE, TMPDIR],
        archive_path,
    ),
    archive_row(
        "release.archive",
        RELEASE_ARCHIVE_DOC,
        &[CONTAINER, FLAVOR, FORCE, ALLOW, SCRIPT, METHOD, LIVE, TMPDIR],
        archive_report,
    ),
];

const fn snapshot_row(name: &'static str, doc: &'static str, arguments: &'static [Argument]) -> Function {
    Function::changes(name, doc, arguments, take_snapshot).with_extra().with_more().long()
}

const fn save_acls_row(name: &'static str, doc: &'static str, arguments: &'static [Argument]) -> Function {
    Function::changes(name, doc, arguments, save_acls).with_extra().with_more().long()
}

const fn archive_row(
    name: &'static str,
    doc: &'static str,
    arguments: &'static [Argument],
    run: fn(&Call, &Context) -> Result<Value>,
) -> Function {
    Function::changes(name, doc, arguments, run).with_extra().with_more().long()
}

/// What a call is about: the container as the variables of a release name it.
struct Subject {
    image: OsImage,
    recipe: Recipe,
    container: LxcContainer,
    number: ReleaseNumber,
    /// The archive of this release, and that of the one before.
    path: PathBuf,
    previous: Option<(ReleaseNumber, PathBuf)>,
}

impl Subject {
    fn of(call: &Call, context: &Context) -> Result<Self> {
        let flavour = flavour(call)?;
        let recipe = Flavours::configured(&context.config.release_flavors)?.get(&flavour)?.clone();
        let vars = Variables::of(call, context, &flavour)?;
        let image: OsImage = vars.text("container")?.parse()?;
        let folder = PathBuf::from(vars.text("container_path")?);
        let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut container = LxcContainer::find(name, fs::parent(&folder))?;
        if call.more.contains_key(&Key::from("rootfs")) {
            container.rootfs = PathBuf::from(vars.text("rootfs")?);
        }
        let path = PathBuf::from(vars.text("absolute_tarball")?);
        if !path.is_absolute() {
            return Err(Error::new(Kind::Usage, format!("`{}` is not an absolute path", path.display()))
                .hint("it comes from `root` and `tarball`, or from `absolute_tarball`"));
        }
        let previous = match vars.number("cur_ver")? {
            0 => None,
            number => {
                let number = ReleaseNumber::new(number)?;
                Some((number, path.with_file_name(format!("{image}-{flavour}-{number}.tar.xz"))))
            }
        };
        let number = ReleaseNumber::new(vars.number("next_ver")?)?;
        Ok(Self { image, recipe, container, number, path, previous })
    }
}

/// The flavour that is asked for, or that the function is of.
fn flavour(call: &Call) -> Result<Flavour> {
    let own = [("_lxc", "lxc"), ("_standalone", "standalone")];
    match own.iter().find(|(suffix, _)| call.function.ends_with(suffix)) {
        None => call.text("flavor")?.parse(),
        Some((_, name)) => match call.maybe_text("flavor") {
            Some(other) if other != *name => {
                Err(Error::new(Kind::Usage, format!("{} is of the flavour `{name}`, not `{other}`", call.function)))
            }
            _ => name.parse(),
        },
    }
}

/// The variables of a release, see `get_vars`.
pub(super) struct Variables(Map);

impl Variables {
    fn of(call: &Call, context: &Context, flavour: &Flavour) -> Result<Self> {
        Self::with(call.more.clone(), call.text("container")?, context, flavour)
    }

    /// Those of this container, with values that are given.
    pub(super) fn with(mut given: Map, container: &str, context: &Context, flavour: &Flavour) -> Result<Self> {
        given.insert("container".into(), container.into());
        given.insert("flavor".into(), flavour.to_string().into());
        given.entry("root".into()).or_insert_with(|| context.config.lxc_path.display().to_string().into());
        let found = context.settings.fresh(|service, base, files| {
            let facts = service.facts_of(context.facts.as_ref(), base, files)?;
            settings::get_vars(&service.inputs(base, &facts, files), &given)
        })?;
        match found.into_value() {
            Value::Map(map) => Ok(Self(map)),
            other => Err(Error::new(Kind::Failed, format!("the variables are a {}", other.type_name()))),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<&str> {
        self.0.get(&Key::from(name)).and_then(Value::as_str).ok_or_else(|| {
            Error::new(Kind::Usage, format!("the variable `{name}` is not a text"))
                .hint("`castoff call mc_cloud_images.get_vars` shows all variables")
        })
    }

    pub(super) fn number(&self, name: &str) -> Result<u32> {
        match self.0.get(&Key::from(name)) {
            Some(Value::Int(number)) => u32::try_from(*number).map_err(|error| {
                Error::new(Kind::Usage, format!("the variable `{name}` is {number}")).caused_by(error)
            }),
            _ => Err(Error::new(Kind::Usage, format!("the variable `{name}` is not a number"))),
        }
    }
}

fn limits(context: &Context) -> Limits {
    Limits { entries: context.config.limit_entries, ..Limits::default() }
}

pub(super) fn wanted<'a>(call: &Call, context: &'a Context, container: &'a LxcContainer) -> Result<Snapshot<'a>> {
    Ok(Snapshot {
        container,
        state: &context.config.state_dir,
        tmpdir: call.maybe_path("tmpdir"),
        method: call.maybe_text("method").map(Method::of_word).transpose()?,
        script: call.maybe_boolean("snapshot").unwrap_or(true),
        live: call.boolean("live"),
        limits: limits(context),
    })
}

/// What a call with `test=True` returns.
fn would(comment: String, changes: Value) -> Value {
    Value::map([("result", Value::Null), ("comment", comment.into()), ("changes", changes)])
}

fn take_snapshot(call: &Call, context: &Context) -> Result<Value> {
    let subject = Subject::of(call, context)?;
    let allowed = Allowed::parse(&call.texts("allow")?)?;
    let snapshot = wanted(call, context, &subject.container)?;
    if call.test {
        let (method, passed_over) = snapshot::preview(&snapshot, &context.progress)?;
        let comment = format!("a snapshot of `{}` would be tried by {}", subject.image, method.word());
        return Ok(would(comment, Value::map([("passed_over", Value::list(passed_over))])));
    }
    snapshot::with(&snapshot, &context.progress, |frozen| {
        let tree = frozen.walk(subject.recipe.root)?;
        let chosen = Chosen::of(&subject.recipe, &tree)?;
        let last = last_privileged(&subject, &context.config.state_dir)?;
        let hygiene = Hygiene::check(&tree, &chosen, last.as_ref(), &allowed)?;
        frozen.confirm()?;
        let mut value = frozen.script.to_value();
        if let Value::Map(members) = &mut value {
            members.insert("snapshot".into(), frozen.to_value());
            members.insert("hygiene".into(), hygiene.to_value());
            members.insert("chosen".into(), chosen.to_value());
        }
        Ok(value)
    })
}

fn last_privileged(subject: &Subject, state: &Path) -> Result<Option<std::collections::BTreeSet<Vec<u8>>>> {
    match &subject.previous {
        None => Ok(None),
        Some((number, path)) => archive::privileged_of(state, (&subject.image, &subject.recipe.name, *number), path),
    }
}

fn save_acls(call: &Call, context: &Context) -> Result<Value> {
    let subject = Subject::of(call, context)?;
    let roots = Roots::of(&subject.container)?;
    let files = acls::save(&roots, limits(context), call.test, &context.progress)?;
    let files = Value::list(files.iter().map(|file| file.display().to_string()));
    if call.test {
        return Ok(would(
            format!("the ACLs of `{}` would be written down", subject.image),
            Value::map([("files", files)]),
        ));
    }
    Ok(files)
}

/// The archive, and how its tree was held still; or what would be done.
fn make(call: &Call, context: &Context) -> Result<std::result::Result<(Report, Value), Value>> {
    let subject = Subject::of(call, context)?;
    let allowed = Allowed::parse(&call.texts("allow")?)?;
    let state = &context.config.state_dir;
    let last = last_privileged(&subject, state)?;
    let order = Order {
        image: &subject.image,
        recipe: &subject.recipe,
        number: subject.number,
        path: &subject.path,
        state,
        last_privileged: last.as_ref(),
        allowed: &allowed,
        force: call.boolean("force"),
    };
    let snapshot = wanted(call, context, &subject.container)?;
    if call.test {
        return preview(&order, snapshot, context).map(Err);
    }
    let _lock = release::lock(state, &subject.image, &subject.recipe.name)?;
    snapshot::with(&snapshot, &context.progress, |frozen| {
        let report = archive::archive(&order, frozen, &context.progress)?;
        Ok(Ok((report, frozen.to_value())))
    })
}

/// What would be archived, judged by the container as it is: the script does not run.
fn preview(order: &Order<'_>, snapshot: Snapshot<'_>, context: &Context) -> Result<Value> {
    let (method, _) = snapshot::preview(&snapshot, &context.progress)?;
    if let Some(archived) = archive::recorded(order, &context.progress)? {
        let comment = format!("`{}` is there, and would be kept if the tree is still the same", order.path.display());
        return Ok(would(comment, archived.to_value()));
    }
    let looked = Snapshot { method: Some(Method::InPlace), script: false, ..snapshot };
    let mut changes = snapshot::with(&looked, &context.progress, |frozen| archive::preview(order, frozen))?;
    if let Value::Map(members) = &mut changes {
        members.insert("method".into(), method.word().into());
    }
    Ok(would(format!("`{}` would be made", order.path.display()), changes))
}

fn archive_path(call: &Call, context: &Context) -> Result<Value> {
    Ok(match make(call, context)? {
        Ok((report, _)) => {
            let path = report.archived.artefacts.first().map(|artefact| artefact.path.display().to_string());
            Value::from(path)
        }
        Err(preview) => preview,
    })
}

fn archive_report(call: &Call, context: &Context) -> Result<Value> {
    Ok(match make(call, context)? {
        Ok((report, snapshot)) => {
            let mut value = report.to_value();
            if let Value::Map(members) = &mut value {
                members.insert("snapshot".into(), snapshot);
                members.insert("result".into(), true.into());
            }
            value
        }
        Err(preview) => preview,
    })
}
