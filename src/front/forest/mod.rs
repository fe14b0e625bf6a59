//! The images of little-vm-helper: `images.json` becomes plans.
//!
//! ```text
//! DIR/images.json     a list of images, or {"Dir": .., "Images": [..]}
//! DIR/images/NAME     what is built: a disk, its format told by its name
//! ```
//!
//! The document is read as Go's decoder reads it: keys in any case, `null` for what is absent, unknown keys passed over
//! (with a note). Everything wrong with it is told at once. Knows neither files nor the cache: what the caller saw of
//! the machine comes in as [`Sights`].

mod action;
mod document;
mod example;
mod lower;
mod size;
mod stub;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::document::parse_json_spanned;
use crate::error::Result;
use crate::plan::{Base, Plan, PlanName, Plans, Problem, refuse};
use document::{At, Image};

pub use example::EXAMPLE;
pub use lower::ForestOptions;
pub use stub::{DryRun, Outcome, Standing};

/// The file of a forest, in its folder.
pub const FILE: &str = "images.json";

/// The folder of the images, in the folder of the forest.
pub const IMAGES: &str = "images";

/// The most images that a forest may have.
const MOST_IMAGES: usize = 10_000;

/// A forest as it was written: whatever is wrong with it is kept, to be told with all the rest.
#[derive(Clone, Debug)]
pub struct Forest {
    file: String,
    images: Vec<Image>,
    problems: Vec<Problem>,
    notes: Vec<String>,
}

/// What has to be looked at before a forest can be lowered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Parents that the forest does not declare: disks that should be there.
    pub disks: BTreeSet<PlanName>,
    /// Folders whose `boot` should hold one kernel.
    pub kernels: BTreeSet<PathBuf>,
}

/// What the caller saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sights {
    /// What stands in the places of disks, or why it is none.
    pub disks: BTreeMap<PlanName, std::result::Result<SeenDisk, String>>,
    /// The names of the regular files in the `boot` of each folder that has one.
    pub kernels: BTreeMap<PathBuf, Vec<String>>,
}

/// A disk that the forest does not declare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenDisk {
    /// Where it is, links followed.
    pub path: PathBuf,
    /// Whether it has a boot loader, as far as that could be told.
    pub boots: Option<bool>,
}

impl Forest {
    /// The forest in a text; `file` is what problems call it. Only a text that is no JSON is an error here.
    pub fn read(text: &str, file: &str) -> Result<Self> {
        let whole = parse_json_spanned(text, file)?;
        let mut reader = document::Reader::new(file);
        let images = reader.forest(&whole);
        let document::Reader { mut problems, notes, .. } = reader;
        if images.len() > MOST_IMAGES {
            let what = format!("{} images, where {MOST_IMAGES} are the most", images.len());
            problems = vec![Problem { place: file.to_owned(), what }];
        }
        Ok(Self { file: file.to_owned(), images, problems, notes })
    }

    /// What is odd about the document and changes nothing: keys that nobody knows, for instance.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether an image begins with packages, so that an archive has to be known.
    pub fn needs_archive(&self) -> bool {
        self.images.iter().any(|image| image.parent.is_none())
    }

    /// What has to be looked at, for a forest in this folder.
    pub fn wants(&self, dir: &Path) -> Wants {
        let declared = self.declared();
        let parents = self.images.iter().filter_map(|image| image.parent.as_ref());
        let undeclared = parents.filter(|parent| !declared.contains(parent.value.as_str()));
        let actions = self.images.iter().flat_map(|image| &image.actions);
        Wants {
            disks: undeclared.filter_map(|parent| parent.value.parse().ok()).collect(),
            kernels: actions.filter_map(|action| action.kernel_folder(dir)).collect(),
        }
    }

    /// The images and what they build on, without what is done in them; parents that are not declared count as none.
    pub fn tree(&self) -> Result<Plans> {
        let mut problems = self.problems.clone();
        let declared = self.declared();
        let bare = |image: &Image| {
            let name = image.name.as_ref().and_then(|name| name.parsed(&mut problems));
            let parent = image.parent.as_ref().and_then(|parent| parent.parsed::<PlanName>(&mut problems));
            let parent = parent.filter(|parent| declared.contains(parent.as_str()));
            let base = parent.map_or(Base::Empty, Base::Plan);
            let place = image.whole.place.clone();
            Some(Plan { name: name?, base, steps: Vec::new(), outputs: Vec::new(), place })
        };
        let plans: Vec<Plan> = self.images.iter().filter_map(bare).collect();
        self.whole(plans, problems)
    }

    /// The names of the images.
    fn declared(&self) -> BTreeSet<&str> {
        self.images.iter().filter_map(|image| image.name.as_ref()).map(|name| name.value.as_str()).collect()
    }

    /// The plans checked as a whole, or all problems.
    fn whole(&self, plans: Vec<Plan>, mut problems: Vec<Problem>) -> Result<Plans> {
        let plans = Plans::new(plans).unwrap_or_else(|more| {
            problems.extend(more);
            Plans::default()
        });
        if problems.is_empty() { Ok(plans) } else { Err(refuse(&format!("`{}`", self.file), problems)) }
    }
}

/// The images that build on no other of the forest, in the order of the document.
pub fn roots(plans: &Plans) -> impl Iterator<Item = &Plan> {
    plans.iter().filter(|plan| plans.parent(plan).is_none())
}

/// The images that no other builds on, in the order of the document.
pub fn leaves(plans: &Plans) -> impl Iterator<Item = &Plan> {
    let parents: BTreeSet<&PlanName> = plans.iter().filter_map(parent_of).collect();
    plans.iter().filter(move |plan| !parents.contains(&plan.name))
}

fn parent_of(plan: &Plan) -> Option<&PlanName> {
    match &plan.base {
        Base::Plan(parent) => Some(parent),
        _ => None,
    }
}

/// These images and all that build on them, parents first.
pub fn with_descendants(plans: &Plans, names: &[PlanName]) -> Vec<PlanName> {
    let mut found: BTreeSet<&PlanName> = BTreeSet::new();
    let mut order = Vec::new();
    for plan in plans.ordered() {
        if names.contains(&plan.name) || parent_of(plan).is_some_and(|parent| found.contains(parent)) {
            found.insert(&plan.name);
            order.push(plan.name.clone());
        }
    }
    order
}

/// These images and all that they build on, parents first.
pub fn with_ancestors(plans: &Plans, names: &[PlanName]) -> Vec<PlanName> {
    let wanted = names.iter().filter_map(|name| plans.get(name));
    let kept: BTreeSet<&PlanName> =
        wanted.flat_map(|plan| plans.ancestors(plan).into_iter().chain([plan])).map(|plan| &plan.name).collect();
    plans.ordered().into_iter().map(|plan| &plan.name).filter(|name| kept.contains(name)).cloned().collect()
}

impl<T> At<T> {
    fn problem(&self, what: impl std::fmt::Display) -> Problem {
        Problem { place: self.place.clone(), what: format!("`{}`: {what}", self.field) }
    }
}

impl At<String> {
    /// The text as what it stands for, or a problem with what is wrong and what would be right.
    fn parsed<T: std::str::FromStr<Err = crate::error::Error>>(&self, problems: &mut Vec<Problem>) -> Option<T> {
        match self.value.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                problems.push(self.problem(error.message()));
                None
            }
        }
    }
}
