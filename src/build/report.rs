//! What a build did, and what it is asked for.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind};
use crate::plan::{PlanName, Plans};
use crate::vocab::Value;

/// What is to be built.
#[derive(Clone, Debug)]
pub struct Request {
    /// The plans.
    pub plans: Plans,
    /// What tells these plans from others of the same names: the folder of their users' files.
    pub space: String,
    /// The plans that are wanted, with what they build on; none: all of them.
    pub only: Option<Vec<PlanName>>,
    /// Whether everything is made anew.
    pub force: bool,
    /// Whether the archives of packages are looked at now, however young what is known of them is.
    pub refresh: bool,
    /// How many plans may be built at once; none: as many as the configuration says.
    pub jobs: Option<usize>,
}

/// What a build did.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct BuildReport {
    /// Every wanted plan and what it builds on, parents first.
    pub plans: Vec<PlanReport>,
    /// How trees were kept apart: `overlay`, `reflink` or `copy`; nothing where nothing was run.
    pub snapshots: Option<String>,
    /// Fallbacks and substitutions.
    pub warnings: Vec<String>,
}

/// What became of one plan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlanReport {
    /// Its name.
    pub name: PlanName,
    /// How it ended.
    pub end: End,
    /// Its steps.
    pub steps: Vec<StepReport>,
    /// Its outputs.
    pub outputs: Vec<OutputReport>,
    /// How long it took.
    pub seconds: f64,
}

/// How a plan ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// All of it is there.
    Done,
    /// It failed.
    Failed(Failure),
    /// It was not begun: the plan of this name, which it builds on, failed.
    Skipped(PlanName),
}

/// A failure that crossed from one process to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The word of its kind.
    pub kind: String,
    /// What happened to what.
    pub message: String,
    /// Why.
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// The tree that was kept for inspection.
    pub kept: Option<PathBuf>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// What it does.
    pub what: String,
    /// Whether its result was there already.
    pub hit: bool,
    /// Why it was not.
    pub reason: Option<String>,
    /// How long it took.
    pub seconds: f64,
}

/// What became of an output.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputReport {
    /// What it is.
    pub what: String,
    /// The file or folder; none of an image.
    pub path: Option<PathBuf>,
    /// Whether what was there is the result.
    pub hit: bool,
    /// Why something that was there is not the result and was replaced or moved aside; nothing where nothing was.
    pub replaced: Option<String>,
    /// Where something that castoff did not write was moved to.
    pub moved_to: Option<PathBuf>,
    /// The bytes it takes on disk.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
}

impl PlanReport {
    /// Whether nothing of it had to be made.
    pub fn is_used(&self) -> bool {
        self.end == End::Done && self.outputs.iter().all(|output| output.hit)
    }
}

impl Failure {
    /// The failure as it is told elsewhere.
    pub fn of(error: &Error) -> Self {
        let mut causes = Vec::new();
        let mut at = std::error::Error::source(error);
        while let Some(cause) = at {
            causes.push(cause.to_string());
            at = cause.source();
        }
        Self {
            kind: error.kind().word().to_owned(),
            message: error.message().to_owned(),
            causes,
            hint: error.next_step().map(str::to_owned),
            kept: None,
        }
    }

    /// The failure as an error again.
    pub fn into_error(self) -> Error {
        let error = Error::new(Kind::of_word(&self.kind).unwrap_or(Kind::Failed), self.message);
        let error = if self.causes.is_empty() { error } else { error.caused_by(self.causes.join("\n")) };
        match (self.hint, self.kept) {
            (Some(hint), _) => error.hint(hint),
            (None, Some(kept)) => error
                .hint(format!("the tree is kept for you at `{}`; `build.shell` opens a shell in it", kept.display())),
            (None, None) => error,
        }
    }
}

impl BuildReport {
    /// Whether every plan is there.
    pub fn is_whole(&self) -> bool {
        self.plans.iter().all(|plan| plan.end == End::Done)
    }

    /// The report as a function gives it back.
    pub fn to_value(&self) -> Value {
        let plans = self.plans.iter().map(|plan| (plan.name.as_str(), plan.to_value()));
        Value::map([
            ("result", Value::from(self.is_whole())),
            ("snapshots", self.snapshots.as_deref().map_or(Value::Null, Value::from)),
            ("images", Value::map(plans)),
            ("warnings", Value::list(self.warnings.iter())),
        ])
    }
}

impl PlanReport {
    fn to_value(&self) -> Value {
        let steps = self.steps.iter().map(|step| {
            Value::map([
                ("step", Value::from(&step.what)),
                ("hit", step.hit.into()),
                ("reason", step.reason.as_deref().map_or(Value::Null, Value::from)),
                ("seconds", step.seconds.into()),
            ])
        });
        let outputs = self.outputs.iter().map(|output| {
            let path =
                |path: &Option<PathBuf>| path.as_ref().map_or(Value::Null, |path| path.display().to_string().into());
            Value::map([
                ("output", Value::from(&output.what)),
                ("path", path(&output.path)),
                ("hit", output.hit.into()),
                ("replaced", output.replaced.as_deref().map_or(Value::Null, Value::from)),
                ("moved_to", path(&output.moved_to)),
                ("bytes", output.bytes.into()),
                ("seconds", output.seconds.into()),
            ])
        });
        let (result, comment) = match &self.end {
            End::Done => (true, Value::Null),
            End::Failed(failure) => (false, failure.clone().into_error().render().into()),
            End::Skipped(parent) => (false, format!("not begun: `{parent}`, which it builds on, failed").into()),
        };
        Value::map([
            ("result", Value::from(result)),
            ("comment", comment),
            ("steps", Value::List(steps.collect())),
            ("outputs", Value::List(outputs.collect())),
            ("seconds", self.seconds.into()),
        ])
    }
}
