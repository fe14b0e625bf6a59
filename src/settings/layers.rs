//! Which settings a machine has: the layers, in the order in which they win.

use super::defaults::defaults;
use super::images::{self, DEFAULT_ROOT, bare_defaults, complete_images};
use super::lookup::get;
use super::resolve::{format_resolve, resolve_member};
use super::{Cloud, Inputs, PREFIX};
use crate::error::{Error, Kind, Result};
use crate::pillar::traced::{Origin, Traced, TracedMap, TracedNode};
use crate::vocab::{Key, MinionId, Value};

/// The settings that castoff has without an operator: defaults, and what is released below the default root.
pub fn default_settings(inputs: &Inputs<'_>) -> Result<Traced> {
    complete_images(bare(inputs), inputs.files)
}

fn bare(inputs: &Inputs<'_>) -> Traced {
    bare_defaults(get(inputs.facts, "makina-states.sf_user"))
}

/// Whether the database says something about this machine's images alone; those for whom it does not share settings.
pub fn has_own_settings(inputs: &Inputs<'_>, id: &MinionId) -> bool {
    inputs.database.is_some_and(|database| database.cloud_settings(&format!("images_{id}")).is_some())
}

/// The settings that the controller computes for a machine, or for nobody in particular: defaults, then
/// `cloud_settings.images`, then `images_<controller>`, then `images_<id>`; the cloud's root; `lxc.cron_sync` unless
/// the controller is an LXC container or a developer's machine.
pub fn extpillar_settings(inputs: &Inputs<'_>, id: Option<&MinionId>) -> Result<Traced> {
    let Some(database) = inputs.database else { return Err(no_database()) };
    let mut data = images::with_images(bare(inputs))?;
    let entries = ["images".to_owned(), format!("images_{}", inputs.controller)];
    for entry in entries.into_iter().chain(id.map(|id| format!("images_{id}"))) {
        if let Some(layer) = database.cloud_settings(&entry) {
            if layer.as_map().is_none() {
                return Err(layer.wrong(&format!("cloud_settings.{entry}"), "a map"));
            }
            data = data.merge(layer.clone());
        }
    }
    let syncs = !(inputs.host.lxc || inputs.host.devhost);
    let why = match (inputs.host.lxc, inputs.host.devhost) {
        (true, _) => "the controller being an LXC container",
        (false, true) => "the controller being a developer's machine",
        (false, false) => "the controller being neither an LXC container nor a developer's machine",
    };
    set(&mut data, "root", cloud_root(inputs)?)?;
    set_cron_sync(&mut data, syncs, why)?;
    format_resolve(&complete_images(data, inputs.files)?, None, inputs.compat)
}

/// What a machine gets as pillar: its settings if it belongs to the cloud, else nothing; below [`PREFIX`] if so asked.
pub fn ext_pillar(inputs: &Inputs<'_>, cloud: &Cloud, id: &MinionId, prefixed: bool) -> Result<Traced> {
    let data = if cloud.is_member(id, inputs.controller) {
        extpillar_settings(inputs, Some(id))?
    } else {
        Traced::empty_map(&Origin::derived("the machine not belonging to the cloud"))
    };
    if !prefixed {
        return Ok(data);
    }
    let origin = data.origin.clone();
    Ok(Traced { origin, node: TracedNode::Map([(Key::from(PREFIX), data)].into_iter().collect()) })
}

/// The settings that a machine has for itself, from what it was told: defaults under its options, pillar and grains.
pub fn settings(inputs: &Inputs<'_>) -> Result<Traced> {
    // Versions are read once, below the root that counts.
    let mut data = defaults(PREFIX, images::with_images(bare(inputs))?, inputs.facts, inputs.compat)?;
    set(&mut data, "root", own_root(inputs)?)?;
    let mut data = complete_images(data, inputs.files)?;
    let is_vm = get(inputs.facts, "makina-states.cloud.is.vm").is_some_and(Traced::is_truthy);
    let why = match (inputs.host.devhost, inputs.host.lxc, is_vm) {
        (true, _, _) => "this being a developer's machine",
        (false, true, _) => "this being an LXC container",
        (false, false, true) => "`makina-states.cloud.is.vm`",
        (false, false, false) => return Ok(data),
    };
    set_cron_sync(&mut data, false, why)?;
    Ok(data)
}

/// The error where settings need a database and there is none.
fn no_database() -> Error {
    Error::new(Kind::NotFound, "there is no database of images and machines")
        .hint("set `pillar_root` to the folder of `database.sls`, `database.yaml` or `database.json`")
}

/// The controller's root of images: `cloud_settings.cloud.root`.
fn cloud_root(inputs: &Inputs<'_>) -> Result<Traced> {
    let cloud = inputs.database.and_then(|database| database.cloud_settings("cloud"));
    if let Some(cloud) = cloud
        && cloud.as_map().is_none()
    {
        return Err(cloud.wrong("cloud_settings.cloud", "a map"));
    }
    root_of(cloud, inputs.compat)
}

/// A machine's own root of images: what it was told, else the database's, else the default one.
fn own_root(inputs: &Inputs<'_>) -> Result<Traced> {
    if let Some(root) = get(inputs.facts, "makina-states.cloud.root") {
        let scope =
            get(inputs.facts, "makina-states.cloud").cloned().unwrap_or_else(|| Traced::empty_map(&root.origin));
        let told = Traced { origin: root.origin.clone(), node: map([("root", root.clone())]) };
        return root_of(Some(&scope.merge(told)), inputs.compat);
    }
    cloud_root(inputs)
}

/// The root in the cloud's settings, its placeholders resolved among them.
fn root_of(cloud: Option<&Traced>, compat: bool) -> Result<Traced> {
    let text = |value: String| Traced::scalar(value, &Origin::Default);
    let defaults = Traced {
        origin: Origin::Default,
        node: map([("root", text(DEFAULT_ROOT.to_owned())), ("prefix", text(format!("{DEFAULT_ROOT}/etc")))]),
    };
    let whole = match cloud {
        Some(cloud) => defaults.merge(cloud.clone()),
        None => defaults,
    };
    let members = whole.as_map().cloned().unwrap_or_default();
    let root = resolve_member(&members, "root", compat)?;
    Ok(root.unwrap_or_else(|| Traced::scalar(Value::Null, &Origin::Default)))
}

fn map<const N: usize>(members: [(&str, Traced); N]) -> TracedNode {
    TracedNode::Map(members.into_iter().map(|(key, value)| (Key::from(key), value)).collect::<TracedMap>())
}

fn set(data: &mut Traced, key: &str, value: Traced) -> Result<()> {
    let TracedNode::Map(members) = &mut data.node else { return Err(data.wrong("(image settings)", "a map")) };
    members.insert(Key::from(key), value);
    Ok(())
}

fn set_cron_sync(data: &mut Traced, syncs: bool, why: &str) -> Result<()> {
    let TracedNode::Map(members) = &mut data.node else { return Err(data.wrong("(image settings)", "a map")) };
    let Some(lxc) = members.get_mut(&Key::from("lxc")) else {
        return Err(Error::new(Kind::Usage, "image settings without `lxc`"));
    };
    let TracedNode::Map(inside) = &mut lxc.node else { return Err(lxc.wrong("lxc", "a map")) };
    inside.insert(Key::from("cron_sync"), Traced::scalar(syncs, &Origin::derived(why)));
    Ok(())
}
