//! `sf_release`: images and flavours, from their containers to what hosts see, in one call.

use std::path::Path;

use super::mc_lxc::{copy, reference};
use super::release::{ALLOW, LIVE, METHOD, SCRIPT, TMPDIR, Variables, wanted};
use super::releases::{settings_of, setup, url_of, with_patches};
use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::engine::lxc::LxcContainer;
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::manifest::{Compression, archive_name};
use crate::release::archive::{self, Order};
use crate::release::hygiene::Allowed;
use crate::release::reference::hold;
use crate::release::{self, Archived, Begun, Flavours, Options, Outcome, Roots, Setup, acls, snapshot};
use crate::rootfs::Limits;
use crate::settings;
use crate::vocab::{Flavour, Key, Map, OsImage, ReleaseNumber, Value, nearest};

const IMAGES: Argument = Argument::optional(
    "images",
    Accepts::List,
    Default::Null,
    "Names of images, a list or separated by commas; null: all of the settings",
);
const FLAVORS: Argument = Argument::optional(
    "flavors",
    Accepts::List,
    Default::Null,
    "Flavours, of which an image is released in those that its settings list; null: all that they list",
);
const SYNC: Argument = Argument::optional(
    "sync",
    Accepts::Bool,
    Default::Bool(true),
    "Bring each image's container to the state of its `builder_ref` first",
);
const FLAVOR: Argument =
    Argument::optional("flavor", Accepts::List, Default::Null, "The same as `flavors`, as older calls write it");
const FORCE: Argument = Argument::optional(
    "force",
    Accepts::Bool,
    Default::Bool(false),
    "Release an image although the same tree is announced already",
);

const DOC: &str = "Release images: hold each container still, archive, upload, announce.

Every image of the settings in every flavour it has, or those that are named. One that fails keeps no other from its
release; the report tells every step of each. An image whose tree is announced already is `unchanged`. A call that was
cut off is finished by the same call, and whoever looks meanwhile sees the release before, whole. An image that nobody
has configured and that has no container here is skipped.

    castoff call mc_cloud_images.sf_release makina-states-trusty flavor=lxc
    castoff call mc_cloud_images.sf_release images=makina-states-trusty,makina-states-precise test=True";

const ARGUMENTS: &[Argument] = &[IMAGES, FLAVORS, SYNC, FLAVOR, FORCE, ALLOW, SCRIPT, METHOD, LIVE, TMPDIR];

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::changes("mc_cloud_images.sf_release", DOC, ARGUMENTS, sf_release).long(),
    Function::changes(
        "mc_lxc.sf_release",
        "Release images; see mc_cloud_images.sf_release.\n\n    castoff call mc_lxc.sf_release makina-states-trusty flavor=lxc",
        ARGUMENTS,
        sf_release,
    )
    .long(),
];

/// An image to be released.
struct Image {
    name: OsImage,
    /// The container it is made from, if the settings name one.
    builder: Option<String>,
    /// Whether that is the name which castoff makes up where nobody says one.
    generated: bool,
    /// Whether it was asked for by its name.
    named: bool,
    flavours: Vec<Flavour>,
}

impl Image {
    /// Whether nobody would miss it: not configured, and not asked for.
    fn is_optional(&self) -> bool {
        self.generated && !self.named
    }
}

/// What one call works with.
struct Run<'a> {
    call: &'a Call,
    context: &'a Context,
    setup: &'a Setup,
    recipes: Flavours,
    allowed: Allowed,
}

fn sf_release(call: &Call, context: &Context) -> Result<Value> {
    let settings = settings_of(context)?;
    let recipes = Flavours::configured(&context.config.release_flavors)?;
    let images = asked(call, &settings, &recipes)?;
    let setup = setup(context)?;
    setup.signing()?;
    let allowed = Allowed::parse(&call.texts("allow")?)?;
    let run = Run { call, context, setup: &setup, recipes, allowed };
    let (mut all_well, mut rets) = (true, Map::new());
    for image in &images {
        let (well, report) = run.image(image)?;
        all_well &= well;
        rets.insert(Key::from(image.name.as_str()), report);
    }
    let result = if call.test && all_well { Value::Null } else { Value::from(all_well) };
    Ok(Value::map([("rets", Value::Map(rets)), ("result", result)]))
}

/// The images that are asked for, each with its flavours; a name that the settings do not have is an error.
fn asked(call: &Call, settings: &Value, recipes: &Flavours) -> Result<Vec<Image>> {
    let known = settings.get("lxc").and_then(|lxc| lxc.get("images")).and_then(Value::as_map);
    let known = known.ok_or_else(|| Error::new(Kind::Usage, "the settings have no `lxc.images`"))?;
    let names = call.texts("images")?;
    let mut wanted = call.texts("flavors")?;
    wanted.extend(call.texts("flavor")?);
    let wanted: Vec<Flavour> = wanted.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    for flavour in &wanted {
        recipes.get(flavour)?;
    }
    let mut images = Vec::new();
    let all = || known.keys().filter_map(Key::as_str).map(str::to_owned).collect();
    let is_named = !matches!(call.value("images"), Value::Null);
    for name in if is_named { names } else { all() } {
        let Some(image) = known.get(&Key::from(name.as_str())) else {
            return Err(no_such_image(&name, known));
        };
        let flavours = flavours_of(image, &name, &wanted)?;
        if let Some(unknown) = flavours.iter().find(|flavour| recipes.get(flavour).is_err()) {
            recipes.get(unknown).map(drop)?;
        }
        let builder = image.get("builder_ref").and_then(Value::as_str).map(str::to_owned);
        let generated = builder.as_deref().is_some_and(|builder| settings::is_generated_builder(&name, builder));
        images.push(Image { name: name.parse()?, builder, generated, named: is_named, flavours });
    }
    if !wanted.is_empty() && images.iter().all(|image| image.flavours.is_empty()) {
        let words: Vec<&str> = wanted.iter().map(Flavour::as_str).collect();
        return Err(Error::new(Kind::Usage, format!("no image is released in the flavour `{}`", words.join("`, `")))
            .hint("`lxc.images.IMAGE.flavors` of the settings lists the flavours of an image"));
    }
    Ok(images)
}

fn no_such_image(name: &str, known: &Map) -> Error {
    let names: Vec<&str> = known.keys().filter_map(Key::as_str).collect();
    let shown = name.escape_debug();
    let error = Error::new(Kind::NotFound, format!("the settings have no image `{shown}`"));
    match nearest(name, names.iter().copied()).as_slice() {
        [] => error.hint(format!("there are `{}`", names.join("`, `"))),
        near => error.hint(format!("did you mean `{}`?", near.join("` or `"))),
    }
}

/// The flavours that the image's settings list, of those that are wanted.
fn flavours_of(image: &Value, name: &str, wanted: &[Flavour]) -> Result<Vec<Flavour>> {
    let mut flavours = Vec::new();
    for listed in image.get("flavors").and_then(Value::as_list).unwrap_or_default() {
        let flavour: Flavour = match listed {
            Value::String(text) => text.parse()?,
            Value::Int(number) => number.to_string().parse()?,
            other => {
                let what = format!("`lxc.images.{name}.flavors` holds a {}", other.type_name());
                return Err(Error::new(Kind::Usage, what).hint("flavours are texts"));
            }
        };
        if (wanted.is_empty() || wanted.contains(&flavour)) && !flavours.contains(&flavour) {
            flavours.push(flavour);
        }
    }
    Ok(flavours)
}

impl Run<'_> {
    /// One image in its flavours: whether all went well, and the report.
    fn image(&self, image: &Image) -> Result<(bool, Value)> {
        let mut report = Map::new();
        let synced = match self.synced(image) {
            Ok(synced) => synced,
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => {
                report.insert("flavors".into(), Value::Map(Map::new()));
                report.insert("trace".into(), error.render().into());
                report.insert("result".into(), false.into());
                return Ok((false, Value::Map(report)));
            }
        };
        if let Some(why) = self.skipped(image)? {
            self.context.progress.line(format!("{} is skipped: {why}", image.name));
            report.insert("flavors".into(), Value::Map(Map::new()));
            report.insert("skipped".into(), why.into());
            return Ok((true, Value::Map(report)));
        }
        let (mut well, mut flavours) = (true, Map::new());
        for flavour in &image.flavours {
            let (released, told) = self.flavour(&image.name, flavour)?;
            well &= released;
            flavours.insert(Key::from(flavour.as_str()), told);
        }
        report.insert("flavors".into(), Value::Map(flavours));
        if let Some(synced) = synced {
            report.insert("sync_container".into(), synced);
        }
        if !well {
            report.insert("result".into(), false.into());
        }
        Ok((well, Value::Map(report)))
    }

    fn lxc_path(&self) -> &Path {
        &self.context.config.lxc_path
    }

    /// Whether there is a container of this name.
    fn has_container(&self, name: &str) -> Result<bool> {
        match LxcContainer::find(name, self.lxc_path()) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Why the image is left out, if it is.
    fn skipped(&self, image: &Image) -> Result<Option<String>> {
        if image.flavours.is_empty() {
            return Ok(Some("it has none of the flavours".to_owned()));
        }
        if image.is_optional() && !self.has_container(image.name.as_str())? {
            return Ok(Some(format!("there is no container of its name below `{}`", self.lxc_path().display())));
        }
        Ok(None)
    }

    /// Brings the image's container to the state of its builder; the report of that, if there was anything to do.
    fn synced(&self, image: &Image) -> Result<Option<Value>> {
        let Some(builder) = image.builder.as_deref().filter(|_| self.call.boolean("sync")) else { return Ok(None) };
        if image.generated && !self.has_container(builder)? {
            let why = format!("there is no container `{builder}`, and nobody configured it as `builder_ref`");
            return Ok(Some(Value::map([("result", Value::Null), ("skipped", why.into())])));
        }
        let snapshot = self.call.maybe_boolean("snapshot").unwrap_or(true);
        let names = (builder, image.name.as_str());
        // The number of a release is no part of what is released.
        let reference = reference(self.context, names, snapshot, None, self.call.boolean("live"));
        let copied = copy(&reference, self.call.test, self.context)?;
        let mut report = copied.to_value();
        if let Value::Map(members) = &mut report {
            let result = if self.call.test && copied.changed { Value::Null } else { Value::from(true) };
            members.insert("result".into(), result);
        }
        Ok(Some(report))
    }

    /// One image in one flavour: whether it went well, and every step of it.
    fn flavour(&self, image: &OsImage, flavour: &Flavour) -> Result<(bool, Value)> {
        let mut steps = Vec::new();
        let ended = self.release(image, flavour, &mut steps);
        let (result, trace) = match ended {
            Ok(()) if self.call.test => (Value::Null, String::new()),
            Ok(()) => (true.into(), String::new()),
            Err(error) if error.kind() == Kind::Interrupted => return Err(error),
            Err(error) => {
                let shown = format!("release of `{image}/{flavour}` failed: {}", error.render());
                self.context.progress.warn(shown);
                (false.into(), error.render())
            }
        };
        let well = !matches!(result, Value::Bool(false));
        let mut report: Map = Map::new();
        report.insert("trace".into(), trace.into());
        report.insert("result".into(), result);
        report.extend(steps.into_iter().map(|(name, value)| (Key::from(name), value)));
        Ok((well, Value::Map(report)))
    }

    fn release(&self, image: &OsImage, flavour: &Flavour, steps: &mut Vec<(&'static str, Value)>) -> Result<()> {
        let vars = Variables::with(Map::new(), image.as_str(), self.context, flavour)?;
        let local = match vars.number("cur_ver")? {
            0 => None,
            number => Some(ReleaseNumber::new(number)?),
        };
        let _held = if self.call.test { None } else { Some(hold(self.setup.state(), image.as_str())?) };
        let container = LxcContainer::find(image.as_str(), self.lxc_path())?;
        let snapshot = wanted(self.call, self.context, &container)?;
        if self.call.test {
            let (method, _) = snapshot::preview(&snapshot, &self.context.progress)?;
            steps.push(("snapshot", Value::map([("method", method.word())])));
            steps.push(("plan", release::preview(self.setup, image, flavour, None, local)?));
            return Ok(());
        }
        let begun = Begun::begin(self.setup, image, flavour, local)?;
        let recipe = self.recipes.get(flavour)?;
        let announced = begun.standing().manifest.as_ref();
        let last = announced.map(|manifest| manifest.setuid.iter().map(|path| path.0.clone()).collect());
        let name = archive_name(image, flavour, begun.number(), Compression::Xz)?;
        let folder = fs::parent(Path::new(vars.text("absolute_tarball")?)).to_owned();
        let order = Order {
            image,
            recipe,
            number: begun.number(),
            path: &folder.join(name.as_str()),
            state: self.setup.state(),
            last_privileged: last.as_ref(),
            allowed: &self.allowed,
            force: false,
        };
        let current = announced.map(|manifest| manifest.tree).filter(|_| !self.call.boolean("force"));
        let limits = Limits { entries: self.context.config.limit_entries, ..Limits::default() };
        let saved = acls::save(&Roots::of(&container)?, limits, false, &self.context.progress)?;
        let (script, made) = snapshot::with(&snapshot, &self.context.progress, |frozen| {
            if current.is_some() && current == Some(archive::digest(&order, frozen, &self.context.progress)?) {
                return Ok((frozen.script.to_value(), None));
            }
            let report = archive::archive(&order, frozen, &self.context.progress)?;
            Ok((frozen.script.to_value(), Some(report)))
        })?;
        steps.push(("snapshot", script));
        steps.push(("save_acls", Value::list(saved.iter().map(|file| file.display().to_string()))));
        let outcome = match made {
            None => begun.unchanged()?,
            Some(report) => {
                steps.push(("archive", order.path.display().to_string().into()));
                let options = Options { force: self.call.boolean("force"), only_upload: false };
                with_patches(self.setup, begun, Archived::try_from(&report.archived)?, options)?
            }
        };
        self.told(&outcome, &folder, vars.text("sftp_url")?, steps)
    }

    /// The steps behind the archive, and what they came to.
    fn told(
        &self,
        outcome: &Outcome,
        folder: &Path,
        sftp_url: &str,
        steps: &mut Vec<(&'static str, Value)>,
    ) -> Result<()> {
        if !steps.iter().any(|(name, _)| *name == "archive") {
            let there = match outcome.manifest.as_ref() {
                Some(manifest) => Some(folder.join(manifest.archive()?.name.as_str())),
                None => None,
            };
            let there = there.map(|path| fs::exists(&path).map(|exists| exists.then_some(path))).transpose()?.flatten();
            steps.push(("archive", there.map(|path| path.display().to_string()).into()));
        }
        steps.push(("upload", url_of(self.context, outcome, sftp_url)?.into()));
        steps.push(("publish_release", Value::Null));
        if let Value::Map(mut report) = outcome.to_value() {
            for name in ["version", "outcome", "commit", "targets", "left"] {
                let value = report.shift_remove(&Key::from(name)).unwrap_or(Value::Null);
                steps.push((name, value));
            }
        }
        Ok(())
    }
}
