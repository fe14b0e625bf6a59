//! `mc_cloud_images.build`: the images of makina-states' catalogue as plans, and what became of each.

use std::collections::BTreeMap;

use super::lxc_build::{UnderWay, configuration, held, readable, require_free, run, script, suite};
use super::{Call, Context};
use crate::build::{BuildReport, End};
use crate::engine::Surroundings;
use crate::error::{Error, Kind, Result};
use crate::front::lxc::{self, CATALOGUE, Entry, From, Order, Start};
use crate::host::fs::{self, Lock};
use crate::plan::{Plan, PlanName};
use crate::vocab::{Map, Value, nearest};

/// What of the catalogue is wanted; none: all.
pub(super) struct Wanted {
    pub(super) kinds: Option<Vec<String>>,
    pub(super) images: Option<Vec<String>>,
}

impl Wanted {
    fn entries(&self) -> Result<Vec<&'static Entry>> {
        let known = |what: &str, given: &Option<Vec<String>>, known: &[&str]| -> Result<()> {
            let unknown = given.iter().flatten().find(|name| !known.contains(&name.as_str()));
            unknown.map_or(Ok(()), |name| {
                let near = nearest(name, known.iter().copied());
                let known = if near.is_empty() { known } else { near.as_slice() };
                Err(Error::new(Kind::Usage, format!("the catalogue has no {what} `{}`", name.escape_debug()))
                    .hint(format!("it has `{}`", known.join("`, `"))))
            })
        };
        known("kind", &self.kinds, &[lxc::Kind::Lxc.word(), lxc::Kind::Docker.word()])?;
        known("image", &self.images, &CATALOGUE.iter().map(|entry| entry.name).collect::<Vec<_>>())?;
        let is_in = |list: &Option<Vec<String>>, name: &str| {
            list.as_ref().is_none_or(|list| list.iter().any(|one| one == name))
        };
        let wanted = |entry: &&Entry| is_in(&self.kinds, entry.kind.word()) && is_in(&self.images, entry.name);
        Ok(CATALOGUE.iter().filter(wanted).collect())
    }
}

/// Makes what is wanted, or says what would be made.
pub(super) fn build(call: &Call, context: &Context, wanted: &Wanted) -> Result<Value> {
    let mut work = Work {
        call,
        context,
        plans: BTreeMap::new(),
        order: Vec::new(),
        under_way: BTreeMap::new(),
        holds: Vec::new(),
    };
    let mut told = Told::default();
    let mut asked = Vec::new();
    if !call.test {
        fs::sweep(&context.config.lxc_path)?;
    }
    for entry in wanted.entries()? {
        match work.add(entry, true) {
            Ok(Added::There(place)) => {
                told.returns
                    .insert(entry.name.into(), Value::map([("result", Value::from(true)), ("there", place.into())]));
            }
            Ok(Added::Planned(name)) => asked.push((entry, name)),
            Err(error) => told.failed(entry.name, &error),
        }
    }
    if call.test {
        for (entry, name) in asked {
            let begun_with = work.plans.get(&name).map(Plan::base_text);
            let value = Value::map([("result", Value::Null), ("begun_with", begun_with.into())]);
            told.returns.insert(entry.name.into(), value);
        }
        return Ok(told.value());
    }
    if !asked.is_empty() {
        let only = asked.iter().map(|(_, name)| name.clone()).collect();
        let plans = work.order.iter().filter_map(|name| work.plans.remove(name)).collect();
        let built = run(plans, Some(only), context)?;
        for (entry, name) in asked {
            match work.end(&name, &built) {
                Ok(value) => {
                    told.returns.insert(entry.name.into(), value);
                }
                Err(error) => told.failed(entry.name, &error),
            }
        }
    }
    Ok(told.value())
}

/// What became of the images.
#[derive(Default)]
struct Told {
    returns: Map,
    errors: Map,
}

impl Told {
    fn failed(&mut self, name: &str, error: &Error) {
        let value = Value::map([("exc", Value::from(error.message())), ("trace", error.render().into())]);
        self.errors.insert(name.into(), value);
    }

    fn value(self) -> Value {
        let null = Value::Null;
        let is_open = self.returns.values().any(|value| value.get("result") == Some(&null));
        let result = match (self.errors.is_empty(), is_open) {
            (false, _) => Value::from(false),
            (true, true) => null,
            (true, false) => Value::from(true),
        };
        Value::map([("result", result), ("returns", self.returns.into()), ("errors", self.errors.into())])
    }
}

/// Whether an image has to be made.
enum Added {
    /// It is there.
    There(String),
    /// The plan of this name makes it.
    Planned(PlanName),
}

struct Work<'a> {
    call: &'a Call,
    context: &'a Context,
    plans: BTreeMap<PlanName, Plan>,
    order: Vec<PlanName>,
    under_way: BTreeMap<PlanName, UnderWay>,
    holds: Vec<Lock>,
}

impl Work<'_> {
    /// Adds the plan of an entry, and before it those that it builds on; `output` says whether the image itself is wanted.
    fn add(&mut self, entry: &'static Entry, output: bool) -> Result<Added> {
        let lxc_path = &self.context.config.lxc_path;
        let name = entry.plan_name()?;
        if entry.kind == lxc::Kind::Lxc {
            match require_free(entry.name, lxc_path) {
                Ok(()) => {}
                Err(error) if error.kind() == Kind::Conflict => {
                    return readable(entry.name, lxc_path, false)
                        .map(|container| Added::There(container.directory.display().to_string()));
                }
                Err(error) => return Err(error),
            }
        }
        if self.plans.contains_key(&name) && !output {
            return Ok(Added::Planned(name));
        }
        let (start, script) = match entry.from {
            From::Suite(name) => (suite(self.call, name, &self.context.config)?, None),
            From::Container(container) => (self.start(container)?, None),
            From::Bootstrapped(container) => {
                let script = script(self.call)?.ok_or_else(|| {
                    Error::new(Kind::Usage, format!("`{}` needs the bootstrap script of makina-states", entry.name))
                        .hint("give it as script=PATH")
                })?;
                (self.start(container)?, Some(script))
            }
        };
        let output = if output && !self.call.test { Some(self.output(entry, &name)?) } else { None };
        let plan = Order { name: name.clone(), start, script, impersonate: None, output }.lower()?;
        if self.plans.insert(name.clone(), plan).is_none() {
            self.order.push(name.clone());
        }
        Ok(Added::Planned(name))
    }

    /// A container of the catalogue, as it stands or as it will be made.
    fn start(&mut self, container: &'static str) -> Result<Start> {
        let lxc_path = &self.context.config.lxc_path;
        let entry = CATALOGUE.iter().find(|entry| entry.kind == lxc::Kind::Lxc && entry.name == container);
        let entry =
            entry.ok_or_else(|| Error::new(Kind::NotFound, format!("the catalogue has no container `{container}`")))?;
        match self.add(entry, false)? {
            Added::Planned(name) => Ok(Start::Plan(name)),
            Added::There(_) => {
                if !self.call.test {
                    self.holds.push(held(container, self.context)?);
                }
                Ok(Start::Tree(readable(container, lxc_path, false)?.rootfs))
            }
        }
    }

    fn output(&mut self, entry: &Entry, name: &PlanName) -> Result<crate::plan::Output> {
        match entry.kind {
            lxc::Kind::Docker => {
                let surroundings = Surroundings::new(&self.context.config, &self.context.progress);
                Ok(lxc::image(surroundings.resolve(&entry.name.parse()?)?.to_string()))
            }
            lxc::Kind::Lxc => {
                let under_way = UnderWay::begin(entry.name, &self.context.config.lxc_path)?;
                let rootfs = under_way.rootfs();
                self.under_way.insert(name.clone(), under_way);
                Ok(lxc::rootfs(rootfs))
            }
        }
    }

    /// What became of a plan that was asked for; a container gets its name.
    fn end(&mut self, name: &PlanName, built: &BuildReport) -> Result<Value> {
        let gone = || Error::new(Kind::Failed, format!("nothing was told of `{name}`"));
        let plan = built.plans.iter().find(|plan| plan.name == *name).ok_or_else(gone)?;
        match &plan.end {
            End::Failed(failure) => return Err(failure.clone().into_error()),
            End::Skipped(parent) => {
                return Err(Error::new(Kind::Failed, format!("not begun: `{parent}`, which it builds on, failed")));
            }
            End::Done => {}
        }
        let mut value =
            built.to_value().get("images").and_then(|images| images.get(name.as_str())).cloned().unwrap_or_default();
        if let Some(under_way) = self.under_way.remove(name) {
            let place = under_way.finish(&[("config", self.beside(name)?)])?;
            if let Value::Map(members) = &mut value {
                members.insert("lxc".into(), place.display().to_string().into());
            }
        }
        Ok(value)
    }

    fn beside(&self, name: &PlanName) -> Result<Vec<u8>> {
        configuration(name, &self.context.config.lxc_path)
    }
}
