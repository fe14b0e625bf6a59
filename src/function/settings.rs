//! `mc_cloud_images.*`, the settings side, and `settings.explain`: which images there are, and who says so.

use std::path::Path;
use std::time::Duration;

use super::{Accepts, Argument, Call, Context, Default, Function};
use crate::error::{Error, Kind, Result};
use crate::pillar::traced::{Origin, Traced};
use crate::pillar::{Recorder, Sweep};
use crate::settings::{self, Fingerprint, PREFIX, Wanted};
use crate::vocab::{MinionId, Value};

const ID: Argument = Argument::required("id_", Accepts::Text, "Minion id: letters, digits, `.`, `_`, `-`");
const MAYBE_ID: Argument =
    Argument::optional("id_", Accepts::Text, Default::Null, "Minion id; null: for no machine in particular");
const PILLAR_TTL: Argument = Argument::optional(
    "ttl",
    Accepts::Int,
    Default::Int(32_140_800),
    "Seconds for which an answer may be kept; an edited file is seen at once whatever it is",
);
const SETTINGS_TTL: Argument = Argument::optional("ttl", Accepts::Int, Default::Int(60), PILLAR_TTL.doc);
const LIMITED: Argument = Argument::optional(
    "limited",
    Accepts::Bool,
    Default::Bool(false),
    "Accepted for the callers of the original; it changes nothing there either",
);
const IMAGE_NAME: Argument =
    Argument::required("name", Accepts::Text, "Name of an image or container, such as `makina-states-trusty`");
const CLONE_FROM: Argument = Argument::optional(
    "clone_from",
    Accepts::Text,
    Default::Null,
    "Name of what it is cloned from; asked where the name itself tells nothing",
);
const FILTERED: Argument = Argument::optional(
    "filtered",
    Accepts::Items,
    Default::Text(".*-standalone.*"),
    "Regular expressions; an image whose file name one of them finds is left out",
);
const IMAGES_PATH: Argument =
    Argument::optional("images_path", Accepts::Path, Default::Text("/var/lib/lxc"), "Folder of the images");
const TEMPLATE: Argument = Argument::optional(
    "template",
    Accepts::Text,
    Default::Null,
    "What the file names begin with; null: `makina-states-RELEASE` with the release that the name tells",
);

const EXTPILLAR: &str = "Return the image settings that the controller computes for a machine.

Weakest first: defaults, then `images`, `images_CONTROLLER` and `images_ID` of the database's `cloud_settings`; root and
lxc.cron_sync are computed, and every released image has its version, URL and checksum.

    castoff call mc_cloud_images.extpillar_settings vm1.example.net";

const EXT_PILLAR: &str = "Return the pillar of a machine: its image settings if it belongs to the cloud, else nothing.

Virtual machines, compute nodes and controllers of the database belong to the cloud.

    castoff call mc_cloud_images.ext_pillar vm1.example.net
    castoff pillar vm1.example.net";

const SETTINGS: &str = "Return the image settings that hold on this machine: defaults, configured over them.

Options, pillar and grains are looked up under `makina-states.cloud.images`, as one map, as flat keys or nested.

    castoff call mc_cloud_images.settings";

const GET_VARS: &str = "Return the variables that a release's steps are written with: names, paths, versions.

Any of them may be given and wins, further ones too; `{name}` in a value stands for another variable.

    castoff call mc_cloud_images.get_vars container=makina-states-trusty flavor=lxc";

const LOCAL: &str = "Return the released images in a folder by ascending version: `IMAGE-FLAVOR-VERSION.tar.xz`.

    castoff call mc_cloud_images.get_last_local_lxc_images makina-states-trusty";

const EXPLAIN: &str = "Return where every image setting under a key came from: its value, layer, file and line.

The key is dotted (`lxc.images`), with or without `makina-states.cloud.images` in front; without one everything is told.
With `id_` it is about the pillar of that minion, else about the settings of this machine.

    castoff call settings.explain lxc.cron_sync
    castoff call settings.explain lxc.images id_=vm1.example.net";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::reads(
        "mc_cloud_images.default_settings",
        "Return the image settings that there are without anybody configuring any.\n\n    castoff call mc_cloud_images.default_settings",
        &[],
        default_settings,
    ),
    Function::reads(
        "mc_cloud_images.complete_images",
        "Return settings with every default image and what is derived from the version files below their `root`.\n\n    castoff call mc_cloud_images.complete_images '{root: /srv/makina-states, lxc: {images: {}}}'",
        &[Argument::required("data", Accepts::Map, "Settings with `root` and `lxc`")],
        complete_images,
    ),
    Function::reads(
        "mc_cloud_images.extpillar_settings",
        EXTPILLAR,
        &[MAYBE_ID, LIMITED, PILLAR_TTL],
        extpillar_settings,
    ),
    Function::reads(
        "mc_cloud_images.ext_pillar",
        EXT_PILLAR,
        &[
            ID,
            Argument::optional(
                "prefixed",
                Accepts::Bool,
                Default::Bool(true),
                "Whether the settings stand below `makina-states.cloud.images`",
            ),
            PILLAR_TTL,
        ],
        ext_pillar,
    )
    .with_extra()
    .with_more(),
    Function::reads("mc_cloud_images.settings", SETTINGS, &[SETTINGS_TTL], own_settings),
    Function::reads("mc_cloud_images.get_vars", GET_VARS, &[], get_vars).with_more(),
    Function::reads(
        "mc_cloud_images.guess_template_env",
        "Return operating system and release that an image's name tells, else the default ones.\n\n    castoff call mc_cloud_images.guess_template_env makina-states-trusty",
        &[IMAGE_NAME, CLONE_FROM],
        guess_template_env,
    ),
    Function::reads(
        "mc_cloud_images.get_last_local_lxc_images",
        LOCAL,
        &[IMAGE_NAME, FILTERED, CLONE_FROM, IMAGES_PATH, TEMPLATE],
        |call, context| local_images(call, context).map(Value::from),
    ),
    Function::reads(
        "mc_cloud_images.get_last_local_lxc_image",
        "Return the newest released image in a folder; see get_last_local_lxc_images.\n\n    castoff call mc_cloud_images.get_last_local_lxc_image makina-states-trusty",
        &[IMAGE_NAME, CLONE_FROM, TEMPLATE, FILTERED, IMAGES_PATH],
        last_local_image,
    ),
    Function::reads(
        "settings.explain",
        EXPLAIN,
        &[
            Argument::optional("key", Accepts::Text, Default::Null, "Dotted key; null: every setting"),
            Argument::optional("id_", Accepts::Text, Default::Null, "Minion id; null: this machine"),
        ],
        explain,
    ),
];

fn default_settings(_: &Call, context: &Context) -> Result<Value> {
    let found = context.settings.fresh(|service, base, files| {
        let facts = service.facts_of(context.facts.as_ref(), base, files)?;
        settings::default_settings(&service.inputs(base, &facts, files))
    })?;
    Ok(found.into_value())
}

fn complete_images(call: &Call, _: &Context) -> Result<Value> {
    let sweep = Sweep::default();
    let data = Traced::from_value(call.value("data").clone(), &Origin::derived("the argument `data`"));
    settings::complete_images(data, &Recorder::new(&sweep)).map(Traced::into_value)
}

fn extpillar_settings(call: &Call, context: &Context) -> Result<Value> {
    let id = maybe_id(call)?;
    let inputs = Fingerprint::new().with(call.value("id_"));
    let found = context.settings.computed("extpillar_settings", inputs, ttl(call), |service, base, files| {
        base.source.database()?;
        settings::extpillar_settings(&service.inputs(base, &base.facts, files), id.as_ref())
    })?;
    Ok(Value::clone(&found.value))
}

fn ext_pillar(call: &Call, context: &Context) -> Result<Value> {
    let id: MinionId = call.text("id_")?.parse()?;
    let found = context.settings.document(&id, call.boolean("prefixed"), ttl(call))?;
    Ok(Value::clone(&found.value))
}

fn own_settings(call: &Call, context: &Context) -> Result<Value> {
    let found = context.settings.settings(context.facts.as_ref(), ttl(call))?;
    Ok(Value::clone(&found.value))
}

fn get_vars(call: &Call, context: &Context) -> Result<Value> {
    let found = context.settings.fresh(|service, base, files| {
        let facts = service.facts_of(context.facts.as_ref(), base, files)?;
        settings::get_vars(&service.inputs(base, &facts, files), &call.more)
    })?;
    Ok(found.into_value())
}

fn guess_template_env(call: &Call, context: &Context) -> Result<Value> {
    let found = settings::guess_template_env(call.text("name")?, call.maybe_text("clone_from"), context.config.compat);
    Ok(Value::map([("os", found.os), ("release", found.release)]))
}

fn local_images(call: &Call, context: &Context) -> Result<Vec<String>> {
    let filtered = match call.value("filtered") {
        Value::String(filter) => vec![filter.clone()],
        _ => call.texts("filtered")?,
    };
    let wanted = Wanted {
        name: call.text("name")?,
        filtered: &filtered,
        clone_from: call.maybe_text("clone_from"),
        template: call.maybe_text("template"),
    };
    let sweep = Sweep::default();
    let files = Recorder::new(&sweep);
    settings::last_local_lxc_images(&call.path("images_path")?, &wanted, &files, context.config.compat)
}

fn last_local_image(call: &Call, context: &Context) -> Result<Value> {
    let last = local_images(call, context)?.pop();
    last.map(Value::from).ok_or_else(|| {
        let folder =
            call.maybe_text("images_path").map_or_else(|| Path::new("").display(), |path| Path::new(path).display());
        Error::new(
            Kind::NotFound,
            format!("{folder} has no released image for `{}`", call.maybe_text("name").unwrap_or_default()),
        )
        .hint("a released image is a file `IMAGE-FLAVOR-VERSION.tar.xz`")
    })
}

fn explain(call: &Call, context: &Context) -> Result<Value> {
    let id = maybe_id(call)?;
    let found = context.settings.fresh(|service, base, files| match &id {
        None => {
            let facts = service.facts_of(context.facts.as_ref(), base, files)?;
            settings::settings(&service.inputs(base, &facts, files))
        }
        Some(id) => {
            base.source.database()?;
            settings::ext_pillar(&service.inputs(base, &base.facts, files), &base.cloud, id, false)
        }
    })?;
    let key = call.maybe_text("key").unwrap_or_default();
    let key = key.strip_prefix(PREFIX).map_or(key, |rest| rest.trim_start_matches(['.', ':'])).replace(':', ".");
    let part = if key.is_empty() { Some(&found) } else { found.find(&key) };
    match part {
        Some(part) => Ok(part.explain(&key)),
        None => Err(Error::new(Kind::NotFound, format!("there is no image setting `{key}`"))
            .hint("`castoff call settings.explain` tells every setting; a minion outside of the cloud has none")),
    }
}

fn maybe_id(call: &Call) -> Result<Option<MinionId>> {
    call.maybe_text("id_").map(str::parse).transpose()
}

/// For how long an answer may be kept: at least a second, as the original has it.
fn ttl(call: &Call) -> Duration {
    let seconds = call.maybe_integer("ttl").and_then(|ttl| u64::try_from(ttl).ok()).unwrap_or(0);
    Duration::from_secs(seconds.max(1))
}
