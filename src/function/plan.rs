//! `plan.*`: what is to be done for images, and what of it is there already.

use super::forest::{IMAGES, PKG_REPO, REFRESH};
use super::forest_build::request;
use super::forest_open::{Lowered, Opened};
use super::{Accepts, Argument, Call, Context, Function};
use crate::build;
use crate::engine::Surroundings;
use crate::error::{Error, Kind, Result};
use crate::front::forest::{with_ancestors, with_descendants};
use crate::host::fs;
use crate::plan::{PlanName, Plans};
use crate::vocab::Value;

const SOURCE: Argument = Argument::required(
    "source",
    Accepts::Path,
    "Folder with what images are made of, such as `images.json`, or such a file, or a document of plans",
);

const EXPLAIN: &str = "Say for every step of every image whether its result is there already, and if not, why.

Nothing is built. A miss names what changed: a package, a file that is copied in, an archive of packages, or a step
before it.

    castoff call plan.explain /srv/vm
    castoff call plan.explain /srv/vm images=k8s.qcow2";

const SHOW: &str = "Show the plans that images are built by: what each begins with, its steps, what it becomes.

Plans are values: the same whoever asks, and however often.

    castoff call plan.show /srv/vm --out=json";

/// The group's rows.
pub(super) const FUNCTIONS: &[Function] = &[
    Function::reads("plan.explain", EXPLAIN, &[SOURCE, IMAGES, PKG_REPO, REFRESH], explain),
    Function::reads("plan.show", SHOW, &[SOURCE, IMAGES, PKG_REPO], show),
];

/// The plans of a source, and which of them are asked for, parents first.
fn wanted(call: &Call, context: &Context) -> Result<(Opened, Lowered, Vec<PlanName>)> {
    let opened = Opened::find(call.text("source")?.as_ref())?;
    let lowered = opened.lower(call.text("pkg_repo")?, &context.config)?;
    for note in &lowered.notes {
        context.progress.warn(note.clone());
    }
    let plans = &lowered.plans;
    let named = if call.value("images").as_list().is_some() {
        let named = call.texts("images")?;
        let named = named.iter().map(|image| plans.find(image).map(|plan| plan.name.clone()));
        with_descendants(plans, &named.collect::<Result<Vec<_>>>()?)
    } else {
        plans.iter().map(|plan| plan.name.clone()).collect()
    };
    let wanted = with_ancestors(plans, &named);
    Ok((opened, lowered, wanted))
}

/// The plans that a document of plans holds, if the source is one, and which of them are asked for.
fn document(call: &Call) -> Result<Option<(Plans, Vec<PlanName>)>> {
    let path = call.path("source")?;
    if !super::build::is_document(&path)? {
        return Ok(None);
    }
    let plans = super::build::read(&path)?;
    let named = call.texts("images")?;
    let wanted = if named.is_empty() {
        plans.iter().map(|plan| plan.name.clone()).collect()
    } else {
        let named = named.iter().map(|image| plans.find(image).map(|plan| plan.name.clone()));
        with_ancestors(&plans, &named.collect::<Result<Vec<_>>>()?)
    };
    Ok(Some((plans, wanted)))
}

fn explain(call: &Call, context: &Context) -> Result<Value> {
    let (request, wanted) = if let Some((plans, wanted)) = document(call)? {
        let path = call.path("source")?;
        (request(call, fs::parent(&fs::absolute(&path)?), plans, Some(wanted.clone())), wanted)
    } else {
        let (opened, lowered, wanted) = wanted(call, context)?;
        (request(call, &opened.dir, lowered.plans, Some(wanted.clone())), wanted)
    };
    let surroundings = Surroundings::new(&context.config, &context.progress);
    let explained = build::explain(&request, &surroundings)?;
    let explained = explained.iter().filter(|one| wanted.contains(&one.name));
    Ok(Value::map(explained.map(|one| (one.name.as_str(), one.to_value()))))
}

fn show(call: &Call, context: &Context) -> Result<Value> {
    let (plans, wanted) = match document(call)? {
        Some(found) => found,
        None => wanted(call, context).map(|(_, lowered, wanted)| (lowered.plans, wanted))?,
    };
    let shown = wanted.iter().filter_map(|name| plans.get(name)).map(|plan| {
        let json = serde_json::to_value(plan);
        let json = json.map_err(|error| Error::new(Kind::Failed, "cannot show a plan").caused_by(error))?;
        Ok((plan.name.as_str(), Value::from(json)))
    });
    Ok(Value::map(shown.collect::<Result<Vec<_>>>()?))
}
