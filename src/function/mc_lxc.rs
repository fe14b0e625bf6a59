//! `mc_lxc.sync_images`, `mc_cloud_lxc.*` and `mc_cloud_images.sync_container`: reference containers, and their way to
//! the hosts that cannot pull.

use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::engine::lxc::LxcContainer;
use crate::error::{Error, Kind, Result};
use crate::host::process;
use crate::outputter::{Outputter, Style};
use crate::release::reference::{self, Copied, Reference};
use crate::rootfs::Limits;
use crate::settings;
use crate::sync::Surroundings;
use crate::sync::push::{Order, Pusher, Source};
use crate::vocab::{Key, Map, MinionId, OsImage, ReleaseNumber, Value, nearest};

const SNAPSHOT: Argument = Argument::optional(
    "snapshot",
    Accepts::Bool,
    Default::Bool(true),
    "Run the image's /sbin/makinastates-snapshot.sh in the copy, where it has one",
);
const FORCE: Argument = Argument::optional(
    "force",
    Accepts::Bool,
    Default::Bool(false),
    "Accept containers that run; for hosts: an older version than what is there, too",
);
const OUTPUT: Argument = Argument::optional(
    "output",
    Accepts::Bool,
    Default::Bool(true),
    "Put the whole report as YAML into `output` when something failed",
);
const RET: Argument = Argument::optional(
    "ret",
    Accepts::Map,
    Default::Null,
    "The result of an earlier step: its failure, comment and changes stay in the result",
);

const REFERENCE: &str = "Copy the root filesystem of the container an image is built in to the image's own container.

The copy is made beside, made impersonal, and changes places with the old tree in one step; `lock` files are left out, owners
stay the numbers they are. A missing image container is made, its configuration adapted. Equal trees are left alone. The
release that is announced is written to `.ms_version`, where the tree has that file.

    castoff call mc_cloud_lxc.sync_image_reference_containers builder_ref=build-1 img=makina-states-trusty";

const CONTAINER: &str =
    "Copy the root filesystem of a container to another one; see mc_cloud_lxc.sync_image_reference_containers.

    castoff call mc_cloud_images.sync_container build-1 makina-states-trusty";

const IMAGES: &str = "Push the LXC images of the settings to every host that virtual machines of the kind lxc run on.

First the container of each image is made a copy of its `builder_ref`. Then rsync sends it to each host into a new folder
beside, and the host's `LXC_PATH/IMAGE` leads to it in one step; what was there before is kept. Hosts need rsync and a shell;
who they are is the operator's ssh configuration and known_hosts. A host that hangs or refuses costs the others nothing.

    castoff call mc_lxc.sync_images
    castoff call mc_lxc.sync_images only=node-1.example.net,node-2.example.net test=True";

const ONE: &str = "Push the LXC images of the settings to one host; see mc_lxc.sync_images.

    castoff call mc_cloud_lxc.sync_images node-1.example.net";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes(
        "mc_lxc.sync_images",
        IMAGES,
        &[
            Argument::optional("only", Accepts::List, Default::Null, "Ids of the hosts; null: all"),
            FORCE,
            OUTPUT,
            Argument::optional(
                "force_output",
                Accepts::Bool,
                Default::Bool(false),
                "Put the whole report as YAML into `output` in any case",
            ),
        ],
        |call, context| {
            let only = call.texts("only")?;
            sync_images(call, context, (!only.is_empty()).then_some(&only))
        },
    )
    .long(),
    Function::changes(
        "mc_cloud_lxc.sync_images",
        ONE,
        &[Argument::required("target", Accepts::Text, "Id of the host"), OUTPUT, RET],
        |call, context| {
            let own = sync_images(call, context, Some(&[call.text("target")?.to_owned()]))?;
            Ok(after(call, own))
        },
    )
    .long(),
    Function::changes(
        "mc_cloud_lxc.sync_image_reference_containers",
        REFERENCE,
        &[
            Argument::required("builder_ref", Accepts::Text, "Name of the container that is copied"),
            Argument::required("img", Accepts::Text, "Name of the image, which is the name of its container"),
            RET,
            Argument::optional(
                "template",
                Accepts::Text,
                Default::Null,
                "Accepted for the callers of the original; a missing container is made without a template",
            ),
            SNAPSHOT,
            FORCE,
        ],
        |call, context| {
            let own = sync_container(call, context, (call.text("builder_ref")?, call.text("img")?))?;
            Ok(after(call, own))
        },
    )
    .long(),
    Function::changes(
        "mc_cloud_images.sync_container",
        CONTAINER,
        &[
            Argument::required("container", Accepts::Text, "Name of the container that is copied"),
            Argument::required("destination", Accepts::Text, "Name of the container that becomes the copy"),
            SNAPSHOT,
            Argument::optional("force", Accepts::Bool, Default::Bool(true), "Accept containers that run"),
        ],
        |call, context| sync_container(call, context, (call.text("container")?, call.text("destination")?)),
    )
    .long(),
];

/// The result with that of an earlier step before it.
fn after(call: &Call, own: Value) -> Value {
    let (Some(earlier), Value::Map(mut members)) = (call.mapping("ret"), own.clone()) else { return own };
    let text = |map: &Map, name: &str| map.get(&Key::from(name)).and_then(Value::as_str).unwrap_or_default().to_owned();
    for name in ["comment", "output", "trace"] {
        let both = [text(earlier, name), text(&members, name)];
        let both: Vec<String> = both.into_iter().filter(|text| !text.is_empty()).collect();
        members.insert(name.into(), both.join("\n").into());
    }
    if let Some(Value::Map(changes)) = earlier.get(&Key::from("changes")) {
        let own = members.get(&Key::from("changes")).and_then(Value::as_map).cloned().unwrap_or_default();
        members.insert("changes".into(), Value::Map(changes.clone().into_iter().chain(own).collect()));
    }
    if earlier.get(&Key::from("result")) == Some(&Value::Bool(false)) {
        members.insert("result".into(), false.into());
    }
    for (name, value) in earlier {
        members.entry(name.clone()).or_insert_with(|| value.clone());
    }
    Value::Map(members)
}

fn sync_container(call: &Call, context: &Context, (source, destination): (&str, &str)) -> Result<Value> {
    let images = Images::of(context)?;
    let version = images.version(destination)?;
    let reference = reference(context, (source, destination), call.boolean("snapshot"), version, call.boolean("force"));
    let copied = copy(&reference, call.test, context)?;
    let changes = Value::map(copied.changed.then(|| (destination.to_owned(), copied.to_value())));
    let result = if call.test && copied.changed { Value::Null } else { Value::from(true) };
    let mut members = copied.to_value();
    if let Value::Map(members) = &mut members {
        members.insert("result".into(), result);
        members.insert("changes".into(), changes);
        members.insert("output".into(), "".into());
        members.insert("trace".into(), "".into());
    }
    Ok(members)
}

/// A copy of a container with what the configuration says of copies.
pub(super) fn reference<'a>(
    context: &'a Context,
    (source, destination): (&'a str, &'a str),
    snapshot: bool,
    version: Option<ReleaseNumber>,
    force: bool,
) -> Reference<'a> {
    let config = &context.config;
    let limits = Limits { entries: config.limit_entries, ..Limits::default() };
    Reference {
        source,
        destination,
        lxc_path: &config.lxc_path,
        state: &config.state_dir,
        snapshot,
        force,
        version,
        limits,
    }
}

/// Copies the container, or with `test` says what would be done.
pub(super) fn copy(reference: &Reference<'_>, test: bool, context: &Context) -> Result<Copied> {
    if test {
        return reference::preview(reference, &context.progress, context.cancel()?);
    }
    reference::copy(reference, &context.progress, context.cancel()?)
}

/// The LXC images of the settings.
struct Images(Map);

impl Images {
    fn of(context: &Context) -> Result<Self> {
        let settings = super::releases::settings_of(context)?;
        let images = settings.get("lxc").and_then(|lxc| lxc.get("images")).and_then(Value::as_map);
        Ok(Self(images.cloned().unwrap_or_default()))
    }

    /// The release that the version file tells.
    fn version(&self, image: &str) -> Result<Option<ReleaseNumber>> {
        let image = self.0.get(&Key::from(image));
        match image.and_then(|image| image.get("lxc_tarball_ver")).and_then(Value::as_str) {
            None | Some("0") => Ok(None),
            Some(number) => number.parse().map(Some),
        }
    }
}

/// What became of the reference containers.
#[derive(Default)]
struct References {
    reports: Map,
    failures: Vec<String>,
    changes: Map,
    sources: Vec<Source>,
    /// What nobody may replace while it is read.
    holds: Vec<crate::host::fs::Lock>,
}

impl References {
    fn failed(&mut self, image: &str, error: &Error) {
        self.failures.push(error.render());
        let report = Value::map([
            ("result", Value::from(false)),
            ("comment", error.message().into()),
            ("hint", Value::from(error.next_step())),
        ]);
        self.reports.insert(image.into(), report);
    }

    /// Copies an image's builder, and notes its container as one to be pushed.
    fn bring(&mut self, images: &Images, image: &str, call: &Call, context: &Context) -> Result<()> {
        let name: OsImage = image.parse()?;
        let builder = images.0.get(&Key::from(image)).and_then(|image| image.get("builder_ref"));
        let version = images.version(image)?;
        let lxc_path = &context.config.lxc_path;
        let mut report = vec![("result", Value::from(true))];
        if let Some(builder) = builder.and_then(Value::as_str) {
            match LxcContainer::find(builder, lxc_path) {
                Err(error) if error.kind() == Kind::NotFound && settings::is_generated_builder(image, builder) => {
                    report.push(("comment", format!("skipped: there is no container `{builder}`").into()));
                }
                _ => {
                    let reference = reference(context, (builder, image), true, version, call.boolean("force"));
                    let copied = copy(&reference, call.test, context)?;
                    report.push(("comment", copied.comment.as_str().into()));
                    if copied.changed {
                        self.changes.insert(image.into(), copied.to_value());
                    }
                }
            }
        }
        match LxcContainer::find(image, lxc_path) {
            Ok(_) => {
                if !call.test {
                    self.holds.push(reference::hold(&context.config.state_dir, image)?);
                }
                self.sources.push(Source { image: name, version: version.map_or(0, ReleaseNumber::get) });
            }
            Err(error) if error.kind() == Kind::NotFound => report.push(("pushed", false.into())),
            Err(error) => return Err(error),
        }
        self.reports.insert(image.into(), Value::map(report));
        Ok(())
    }
}

fn sync_images(call: &Call, context: &Context, only: Option<&[String]>) -> Result<Value> {
    let cancel = context.cancel()?.clone();
    let hosts = Hosts::choose(context, only)?;
    let images = Images::of(context)?;
    let pusher = Pusher::new(&context.config.state_dir)?;
    let mut references = References::default();
    for image in images.0.keys().filter_map(Key::as_str) {
        if let Err(error) = references.bring(&images, image, call, context) {
            if error.kind() == Kind::Interrupted {
                return Err(error);
            }
            references.failed(image, &error);
        }
    }
    let order =
        Order { sources: &references.sources, targets: &hosts.targets, force: call.boolean("force"), test: call.test };
    let surroundings = Surroundings { config: &context.config, progress: &context.progress, cancel: &cancel };
    let mut targets = hosts.refused.clone();
    for (host, report) in pusher.push(&order, &surroundings)? {
        targets.insert(host.as_str().into(), report);
    }
    Ok(result(call, references, hosts, targets))
}

/// The whole report, in the shape and with the two comments of the original.
fn result(call: &Call, references: References, hosts: Hosts, targets: Map) -> Value {
    let results: Vec<Option<&Value>> = targets.values().map(|report| report.get("result")).collect();
    let failed = !references.failures.is_empty() || results.contains(&Some(&Value::Bool(false)));
    let pending = call.test && (!references.changes.is_empty() || results.contains(&Some(&Value::Null)));
    let comment = if failed { "We have missed some target, see logs" } else { "We have successfully sync all targets" };
    let mut members = vec![
        ("result", if !failed && pending { Value::Null } else { Value::from(!failed) }),
        ("comment", comment.into()),
        ("changes", Value::Map(references.changes)),
        ("output", "".into()),
        ("trace", references.failures.join("\n").into()),
        ("images", Value::Map(references.reports)),
        ("skipped", Value::list(hosts.skipped)),
        ("targets", Value::Map(targets)),
    ];
    if call.boolean("force_output") || (call.boolean("output") && failed) {
        let yaml = Outputter::Yaml.write(&Value::map(members.clone()), &Style::default());
        members[3].1 = yaml.into();
    }
    Value::map(members)
}

/// The hosts that are to be served.
struct Hosts {
    targets: Vec<MinionId>,
    /// Reports for names that no host has.
    refused: Map,
    /// This host, which has the images already.
    skipped: Vec<String>,
}

impl Hosts {
    /// The hosts of the database, or those among them that are asked for.
    fn choose(context: &Context, only: Option<&[String]>) -> Result<Self> {
        let base = context.settings.base()?;
        let known = settings::lxc_hosts(base.source.database()?)?;
        for name in only.into_iter().flatten() {
            if known.contains(name) {
                continue;
            }
            let error =
                Error::new(Kind::NotFound, format!("no machines of the kind lxc run on `{}`", name.escape_debug()));
            let near = nearest(name, known.iter().map(String::as_str));
            return Err(match near.first() {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("`vms.lxc` of the image database lists the hosts"),
            });
        }
        let local = [base.host.id.as_str().to_owned(), process::host_name()?];
        let mut hosts = Self { targets: Vec::new(), refused: Map::new(), skipped: Vec::new() };
        for name in known {
            if only.as_ref().is_some_and(|only| !only.contains(&name)) {
                continue;
            }
            if local.contains(&name) {
                hosts.skipped.push(name);
                continue;
            }
            match name.parse::<MinionId>() {
                Ok(id) => hosts.targets.push(id),
                Err(error) => {
                    let report = Value::map([
                        ("result", Value::from(false)),
                        ("comment", error.message().into()),
                        ("changes", Value::Map(Map::new())),
                        ("output", "".into()),
                        ("trace", error.render().into()),
                    ]);
                    hosts.refused.insert(name.into(), report);
                }
            }
        }
        Ok(hosts)
    }
}
