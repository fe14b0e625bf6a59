//! Plans that build on one another: checked as a whole, put in order.

use std::collections::{BTreeMap, BTreeSet};

use super::{Base, Bootstrap, MountSource, Plan, PlanName, ROOT};
use crate::error::{Error, Kind, Result};
use crate::vocab::nearest;

/// Plans in the order they were given, checked: names are unique, parents are there, nothing is its own ancestor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plans {
    plans: Vec<Plan>,
    by_name: BTreeMap<PlanName, usize>,
}

/// Something wrong with a document that becomes plans, and where in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// `FILE:LINE:COLUMN`, as far as it is known.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

/// All problems of a document as one error.
pub fn refuse(what: &str, mut problems: Vec<Problem>) -> Error {
    problems.sort_by(|left, right| order(left).cmp(&order(right)));
    problems.dedup();
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| {
            if problem.place.is_empty() { problem.what.clone() } else { format!("{}: {}", problem.place, problem.what) }
        })
        .collect();
    let count = if lines.len() == 1 { "is wrong".to_owned() } else { format!("is wrong in {} places", lines.len()) };
    Error::new(Kind::Usage, format!("{what} {count}")).caused_by(lines.join("\n"))
}

/// Where a problem stands among others: by file, then by line and column as numbers.
fn order(problem: &Problem) -> (&str, u64, u64, &str) {
    let mut parts = problem.place.rsplitn(3, ':');
    let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    let (column, line) = (number(), number());
    (parts.next().unwrap_or_default(), line, column, &problem.what)
}

impl Plans {
    /// Checks plans as a whole; all problems at once.
    pub fn new(plans: Vec<Plan>) -> std::result::Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut by_name: BTreeMap<PlanName, usize> = BTreeMap::new();
        for (at, plan) in plans.iter().enumerate() {
            if let Some(first) = by_name.get(&plan.name) {
                problems.push(Problem {
                    place: plan.place.clone(),
                    what: format!("duplicate image name: {} (the first is at {})", plan.name, plans[*first].place),
                });
                continue;
            }
            by_name.insert(plan.name.clone(), at);
        }
        let this = Self { plans, by_name };
        for plan in &this.plans {
            if let Base::Plan(parent) = &plan.base
                && !this.by_name.contains_key(parent)
            {
                let names = this.by_name.keys().map(PlanName::as_str);
                let like = nearest(parent.as_str(), names).first().map(|name| format!(", did you mean `{name}`?"));
                problems.push(Problem {
                    place: plan.place.clone(),
                    what: format!("`{}` has no parent `{parent}`{}", plan.name, like.unwrap_or_default()),
                });
            }
            problems.extend(trees_of(plan));
            problems.extend(plan.steps.iter().enumerate().filter_map(|(number, step)| {
                let what = step.action.problem()?;
                Some(Problem {
                    place: plan.place.clone(),
                    what: format!("`{}`, step {}: {what}", plan.name, number + 1),
                })
            }));
            if let Base::Bootstrap(bootstrap) = &plan.base
                && let Some(what) = bootstrap.problem()
            {
                problems.push(Problem { place: plan.place.clone(), what: format!("`{}`: {what}", plan.name) });
            }
        }
        problems.extend(this.cycles());
        if problems.is_empty() { Ok(this) } else { Err(problems) }
    }

    /// The plans, as they were given.
    pub fn iter(&self) -> impl Iterator<Item = &Plan> {
        self.plans.iter()
    }

    /// The plan of this name.
    pub fn get(&self, name: &PlanName) -> Option<&Plan> {
        self.by_name.get(name).map(|at| &self.plans[*at])
    }

    /// The plan of this name, or an error with the nearest one.
    pub fn find(&self, name: &str) -> Result<&Plan> {
        let found = self.plans.iter().find(|plan| plan.name.as_str() == name);
        found.ok_or_else(|| {
            let like = nearest(name, self.by_name.keys().map(PlanName::as_str));
            let error = Error::new(Kind::NotFound, format!("there is no image `{}`", name.escape_debug()));
            match like.first() {
                Some(like) => error.hint(format!("did you mean `{like}`?")),
                None => error.hint(format!(
                    "there are: {}",
                    self.plans.iter().map(|plan| plan.name.as_str()).collect::<Vec<_>>().join(", ")
                )),
            }
        })
    }

    /// The plan this one builds on.
    pub fn parent(&self, plan: &Plan) -> Option<&Plan> {
        match &plan.base {
            Base::Plan(parent) => self.get(parent),
            _ => None,
        }
    }

    /// The plans that build on this one directly.
    pub fn children<'a>(&'a self, name: &'a PlanName) -> impl Iterator<Item = &'a Plan> {
        self.plans.iter().filter(move |plan| plan.base == Base::Plan(name.clone()))
    }

    /// What this one builds on, the oldest first, itself left out.
    pub fn ancestors(&self, plan: &Plan) -> Vec<&Plan> {
        let mut found = Vec::new();
        let mut at = self.parent(plan);
        while let Some(parent) = at {
            found.push(parent);
            at = self.parent(parent);
        }
        found.reverse();
        found
    }

    /// What the tree of this plan was bootstrapped from in the end, if it was.
    pub fn bootstrap<'a>(&'a self, plan: &'a Plan) -> Option<&'a Bootstrap> {
        let oldest = self.ancestors(plan).first().map_or(&plan.base, |oldest| &oldest.base);
        match oldest {
            Base::Bootstrap(bootstrap) => Some(bootstrap),
            // A parent's own base is what `ancestors` ends with.
            Base::Empty | Base::Directory(_) | Base::Tar(_) | Base::Image(_) | Base::Disk(_) | Base::Plan(_) => None,
        }
    }

    /// All plans, parents before children, else as they were given.
    pub fn ordered(&self) -> Vec<&Plan> {
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        for plan in &self.plans {
            for one in self.ancestors(plan).into_iter().chain([plan]) {
                if seen.insert(&one.name) {
                    order.push(one);
                }
            }
        }
        order
    }

    /// Each cycle once, named in full.
    fn cycles(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let mut settled: BTreeSet<&PlanName> = BTreeSet::new();
        for plan in &self.plans {
            let mut path: Vec<&Plan> = Vec::new();
            let mut at = Some(plan);
            while let Some(here) = at.filter(|here| !settled.contains(&here.name)) {
                if let Some(begin) = path.iter().position(|one| one.name == here.name) {
                    let names: Vec<&str> = path[begin..].iter().map(|one| one.name.as_str()).collect();
                    problems.push(Problem {
                        place: here.place.clone(),
                        what: format!("images are their own ancestors: {} -> {}", names.join(" -> "), names[0]),
                    });
                    break;
                }
                path.push(here);
                at = self.parent(here);
            }
            settled.extend(path.iter().map(|one| &one.name));
        }
        problems
    }
}

/// What is wrong with the trees that a plan's steps name.
fn trees_of(plan: &Plan) -> Vec<Problem> {
    let is_name = |name: &str| {
        !name.is_empty() && name.len() < 64 && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
    };
    let mounted = plan.steps.iter().flat_map(|step| &step.mounts).filter_map(|mount| match &mount.source {
        MountSource::Tree(name) | MountSource::Cache(name) => Some(name.as_str()),
        MountSource::Files(_) => None,
    });
    plan.steps
        .iter()
        .map(|step| step.tree.as_str())
        .chain(mounted)
        .filter(|name| *name != ROOT && !is_name(name))
        .map(|name| Problem {
            place: plan.place.clone(),
            what: format!("`{}` of `{}` cannot be the name of a tree", name.escape_debug(), plan.name),
        })
        .collect()
}
