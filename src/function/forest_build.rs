//! Building a forest: what is asked for becomes a request, the report becomes lvh's results.

use std::collections::BTreeMap;
use std::path::Path;

use super::forest_open::{Lowered, Opened};
use super::{Call, Context};
use crate::build::{self, BuildReport, End, Failure, PlanReport, Request};
use crate::engine::Surroundings;
use crate::error::Result;
use crate::front::forest::{DryRun, IMAGES, Outcome, Standing, with_ancestors, with_descendants};
use crate::host::fs;
use crate::plan::{PlanName, Plans};
use crate::vocab::Value;

/// Which images are wanted.
pub(super) struct Wish {
    /// Their names; none: all.
    pub(super) images: Option<Vec<String>>,
    /// Whether what builds on them is wanted too.
    pub(super) descend: bool,
}

impl Wish {
    fn names(&self, plans: &Plans) -> Result<Option<Vec<PlanName>>> {
        let Some(images) = &self.images else { return Ok(None) };
        let named = images.iter().map(|image| plans.find(image).map(|plan| plan.name.clone()));
        let named: Vec<PlanName> = named.collect::<Result<_>>()?;
        Ok(Some(if self.descend { with_descendants(plans, &named) } else { named }))
    }
}

/// The request for these plans of a forest.
pub(super) fn request(call: &Call, dir: &Path, plans: Plans, only: Option<Vec<PlanName>>) -> Request {
    Request {
        plans,
        space: dir.display().to_string(),
        only,
        force: call.boolean("force"),
        refresh: call.boolean("refresh"),
        jobs: None,
    }
}

/// Builds what is wished, or says what would be done.
pub(super) fn build(call: &Call, context: &Context, wish: &Wish) -> Result<Value> {
    let opened = Opened::find(call.text("dir")?.as_ref())?;
    let Lowered { plans, notes } = opened.lower(call.text("pkg_repo")?, &context.config)?;
    for note in &notes {
        context.progress.warn(note.clone());
    }
    let only = wish.names(&plans)?;
    let all = only.clone().unwrap_or_else(|| plans.iter().map(|plan| plan.name.clone()).collect());
    let work = Work { call, context, opened: &opened, wanted: with_ancestors(&plans, &all), plans, only, notes };
    if call.test || call.boolean("dry_run") { work.dry_run() } else { work.run() }
}

struct Work<'a> {
    call: &'a Call,
    context: &'a Context,
    opened: &'a Opened,
    plans: Plans,
    only: Option<Vec<PlanName>>,
    /// Those and what they build on, parents first.
    wanted: Vec<PlanName>,
    notes: Vec<String>,
}

impl Work<'_> {
    fn standing(&self) -> Result<BTreeMap<PlanName, Standing>> {
        self.wanted.iter().map(|name| Ok((name.clone(), self.opened.standing(name)?))).collect()
    }

    fn make_folder(&self) -> Result<()> {
        fs::create_dir_all(&self.opened.dir.join(IMAGES), 0o755)
    }

    fn dry_run(&self) -> Result<Value> {
        let standing = self.standing()?;
        let surroundings = Surroundings::new(&self.context.config, &self.context.progress);
        // Where no file holds anything, none can be a result.
        let explained = if standing.values().any(|standing| *standing == Standing::File) {
            let request = request(self.call, &self.opened.dir, self.plans.clone(), Some(self.wanted.clone()));
            build::explain(&request, &surroundings)?
        } else {
            Vec::new()
        };
        let force = self.call.boolean("force");
        let dry_run =
            DryRun { plans: &self.plans, dir: &self.opened.dir, standing: &standing, explained: &explained, force };
        let outcomes = dry_run.outcomes(&self.wanted);
        if !self.call.test {
            self.make_folder()?;
            let missing = |outcome: &&Outcome| standing.get(&outcome.name) == Some(&Standing::Nothing);
            for outcome in outcomes.iter().filter(missing) {
                fs::create_if_absent(&self.opened.path_of(&outcome.name), 0o644)?;
            }
        }
        Ok(self.report(outcomes, None))
    }

    fn run(&self) -> Result<Value> {
        self.make_folder()?;
        let standing = self.standing()?;
        let refused: Vec<PlanName> =
            standing.into_iter().filter(|(_, standing)| *standing == Standing::Other).map(|(name, _)| name).collect();
        let left_out = with_descendants(&self.plans, &refused);
        let only = match (&self.only, left_out.is_empty()) {
            (only, true) => only.clone(),
            (_, false) => Some(self.wanted.iter().filter(|name| !left_out.contains(name)).cloned().collect()),
        };
        let report = if only.as_ref().is_some_and(Vec::is_empty) {
            BuildReport::default()
        } else {
            let surroundings = Surroundings::new(&self.context.config, &self.context.progress);
            let request = request(self.call, &self.opened.dir, self.plans.clone(), only);
            build::run(&request, &surroundings, self.context.cancel()?)?
        };
        let refused = refused.into_iter().map(|name| {
            let error = Some(format!("`{}` is not a regular file", self.opened.path_of(&name).display()));
            Outcome { name, used: false, deleted: String::new(), error }
        });
        let outcomes = refused.chain(report.plans.iter().filter_map(outcome)).collect();
        Ok(self.report(outcomes, Some(&report)))
    }

    /// The results in the order of building.
    fn report(&self, mut outcomes: Vec<Outcome>, built: Option<&BuildReport>) -> Value {
        outcomes.sort_by_key(|outcome| self.wanted.iter().position(|name| *name == outcome.name));
        let failed: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.error.is_some()).collect();
        let is_changed = outcomes.iter().any(|outcome| !outcome.used);
        let result = match (failed.is_empty(), self.call.test && is_changed) {
            (false, _) => Value::from(false),
            (true, true) => Value::Null,
            (true, false) => Value::from(true),
        };
        let images = outcomes.iter().map(|outcome| (outcome.name.as_str(), self.shown(outcome)));
        let mut warnings = self.notes.clone();
        warnings.extend(built.iter().flat_map(|built| built.warnings.iter().cloned()));
        let plans = built.and_then(|built| built.to_value().get("images").cloned());
        Value::map([
            ("result", result),
            ("comment", errors(&failed).into()),
            ("images", Value::map(images)),
            ("snapshots", built.and_then(|built| built.snapshots.clone()).into()),
            ("warnings", Value::list(warnings)),
            ("plans", plans.into()),
        ])
    }

    fn shown(&self, outcome: &Outcome) -> Value {
        Value::map([
            ("cachedImageUsed", Value::from(outcome.used)),
            ("cachedImageDeleted", outcome.deleted.as_str().into()),
            ("error", outcome.error.clone().into()),
            ("path", self.opened.path_of(&outcome.name).display().to_string().into()),
        ])
    }
}

/// All errors in lvh's one line; none where there is none.
fn errors(failed: &[&Outcome]) -> Option<String> {
    let line = |outcome: &&Outcome| {
        let error = outcome.error.as_deref().unwrap_or_default();
        format!("{}: {}", outcome.name, error.lines().next().unwrap_or_default())
    };
    let lines: Vec<String> = failed.iter().map(line).collect();
    (!lines.is_empty()).then(|| format!("images errors:{}", lines.join("; ")))
}

/// What became of an image; none of one that was not begun.
fn outcome(plan: &PlanReport) -> Option<Outcome> {
    let name = plan.name.clone();
    match &plan.end {
        End::Skipped(_) => None,
        End::Failed(failure) => Some(Outcome { name, used: false, deleted: String::new(), error: Some(told(failure)) }),
        End::Done => {
            // The first step that was made anew knows best why all after it was.
            let why = plan.steps.iter().filter(|step| !step.hit).find_map(|step| step.reason.as_deref());
            let replaced: Vec<String> = plan.outputs.iter().filter_map(|output| replaced(output, why)).collect();
            Some(Outcome { name, used: plan.is_used(), deleted: replaced.join("; "), error: None })
        }
    }
}

/// Why something that was there is not the result, and where it is now.
fn replaced(output: &build::OutputReport, made_anew: Option<&str>) -> Option<String> {
    let image = output.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    match (&output.replaced, &output.moved_to) {
        (None, None) => None,
        (Some(_), None) if made_anew.is_some() => {
            Some(format!("image '{image}' was replaced: {}", made_anew.unwrap_or_default()))
        }
        (Some(why), None) => Some(format!("image '{image}' was replaced: {why}")),
        (why, Some(to)) => {
            let why = why.as_deref().unwrap_or("castoff did not make it");
            Some(format!("image '{image}' was moved to '{}': {why}", to.display()))
        }
    }
}

/// What failed and why in the first line, all else after it.
fn told(failure: &Failure) -> String {
    // In one line there are no lines to announce.
    let first = |text: &str| text.lines().next().unwrap_or_default().trim_end_matches("; its last lines:").to_owned();
    let causes = failure.causes.iter().map(|cause| first(cause));
    let line: Vec<String> = [first(&failure.message)].into_iter().chain(causes).collect();
    let rendered = failure.clone().into_error().render();
    let whole = rendered.strip_prefix("error: ").unwrap_or(&rendered);
    let line = line.join(": ");
    if line == whole { line } else { format!("{line}\n{whole}") }
}
