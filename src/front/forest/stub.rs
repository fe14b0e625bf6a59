//! A dry run: what would become of each image, decided from what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::IMAGES;
use crate::plan::{Explained, Plan, PlanName, Plans, Status};

/// What stands in the place of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    Nothing,
    /// An empty file.
    Empty,
    /// A file that holds something.
    File,
    /// Something that is no file.
    Other,
}

/// What becomes of an image, in the words of lvh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The image.
    pub name: PlanName,
    /// Whether what was there is the result.
    pub used: bool,
    /// Why something that was there is not the result; empty where nothing was there or where it is.
    pub deleted: String,
    /// Why there is no result.
    pub error: Option<String>,
}

/// What a dry run looks at.
pub struct DryRun<'a> {
    /// The plans.
    pub plans: &'a Plans,
    /// The folder of the forest.
    pub dir: &'a Path,
    /// What stands in the places of the images.
    pub standing: &'a BTreeMap<PlanName, Standing>,
    /// What is known of the results; nothing where no file could be one.
    pub explained: &'a [Explained],
    /// Whether everything is to be made anew.
    pub force: bool,
}

impl DryRun<'_> {
    /// What would become of these images, which are in order; nothing of one whose parent would fail.
    pub fn outcomes(&self, wanted: &[PlanName]) -> Vec<Outcome> {
        let mut used: BTreeSet<&PlanName> = BTreeSet::new();
        let mut failed: BTreeSet<&PlanName> = BTreeSet::new();
        let mut outcomes = Vec::new();
        for plan in wanted.iter().filter_map(|name| self.plans.get(name)) {
            let parent = self.plans.parent(plan).map(|parent| &parent.name);
            if parent.is_some_and(|parent| failed.contains(parent)) {
                failed.insert(&plan.name);
                continue;
            }
            let rebuilt = parent.filter(|parent| !used.contains(parent));
            let outcome = self.outcome(plan, rebuilt);
            if outcome.used {
                used.insert(&plan.name);
            }
            if outcome.error.is_some() {
                failed.insert(&plan.name);
            }
            outcomes.push(outcome);
        }
        outcomes
    }

    fn outcome(&self, plan: &Plan, rebuilt: Option<&PlanName>) -> Outcome {
        let path = self.dir.join(IMAGES).join(plan.name.as_str());
        let image = path.display();
        let standing = self.standing.get(&plan.name).copied().unwrap_or(Standing::Nothing);
        let mut outcome = Outcome { name: plan.name.clone(), used: false, deleted: String::new(), error: None };
        match (standing, rebuilt) {
            (Standing::Nothing, _) => {}
            (Standing::Other, _) => outcome.error = Some(format!("`{image}` is not a regular file")),
            _ if self.force => outcome.deleted = format!("image '{image}' is replaced because a rebuild was forced"),
            (_, Some(parent)) => {
                outcome.deleted = format!("image '{image}' exists, but parent '{parent}' did not use the cache");
            }
            (Standing::Empty, None) => outcome.deleted = format!("image '{image}' is an empty file"),
            (Standing::File, None) => match self.missed(plan) {
                None => outcome.used = true,
                Some(why) => outcome.deleted = format!("image '{image}' is replaced: {why}"),
            },
        }
        outcome
    }

    /// Why the file of an image is not its result; none if it is.
    fn missed(&self, plan: &Plan) -> Option<String> {
        let Some(explained) = self.explained.iter().find(|explained| explained.name == plan.name) else {
            return Some("nothing is known of it".to_owned());
        };
        let mut lines = explained.lines.iter().chain(&explained.outputs);
        lines.find_map(|line| match &line.status {
            Status::Hit(_) => None,
            Status::Miss(why) => Some(format!("{}: {}", line.what, why.text())),
        })
    }
}
