//! What of a plan is there already, and why the rest is not.

use std::path::PathBuf;

use super::{Facts, Inputs, Missing, Output, Plan, PlanName, Plans, Step, identity};
use crate::vocab::{Digest, Value};

/// A result that is there: what it was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its inputs.
    pub inputs: Inputs,
    /// What the tree is, by content.
    pub tree: Digest,
    /// What the next step builds on.
    pub after: Digest,
    /// Whether its packages came from archives that nobody knows, so that it grows old.
    pub ages: bool,
    /// When it was made, in seconds since 1970.
    pub made: i64,
}

/// What whoever keeps results answers; a value per question, so that planning looks at nothing itself.
pub trait Answers {
    /// The whole result of this identity.
    fn known(&self, identity: Digest) -> Option<Known>;
    /// The inputs of what was made last in this place of this plan.
    fn last(&self, slot: &str) -> Option<Inputs>;
    /// Whether an output is where it goes, whole, and made of these inputs.
    fn output(&self, output: &Output, inputs: &Inputs) -> Status;
    /// Now, in seconds since 1970, and for how long packages of archives that nobody knows stay good.
    fn now_and_ttl(&self) -> (i64, i64);
}

/// Why a step has to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Something with these inputs was never made here.
    NeverMade,
    /// It was made, from other inputs: these changed.
    Changed(Vec<String>),
    /// What it builds on has to be made first.
    Before,
    /// It is one that is never reused.
    Volatile,
    /// It took packages from the tree's own archives, this many seconds ago, which is too long.
    Old(i64),
    /// Something it needs is not known.
    Unknown(Missing),
    /// It was made, and is not in the store any more.
    Gone,
    /// Something else, in words.
    Other(String),
}

/// Whether a step's result is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is: what the tree is after it.
    Hit(Digest),
    /// It is not.
    Miss(Why),
}

/// One line of a plan: its base, a step or an output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it does.
    pub what: String,
    /// Its identity, where everything before it is known.
    pub identity: Option<Digest>,
    /// What the identity is made of.
    pub inputs: Option<Inputs>,
    /// Whether its result is there.
    pub status: Status,
    /// Its place in its plan, by which the one made last is found.
    pub slot: String,
    /// Of an output: the file or folder it becomes.
    pub path: Option<PathBuf>,
}

/// A plan and what of it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// The plan's name.
    pub name: PlanName,
    /// The plan it builds on.
    pub parent: Option<PlanName>,
    /// The base, if it is no other plan, and the steps.
    pub lines: Vec<Line>,
    /// What the next one builds on: the identity of the whole tree.
    pub after: Option<Digest>,
    /// The outputs.
    pub outputs: Vec<Line>,
}

/// Stands for a tree of which nothing is known, so that all that is missing is told and not the first of it alone.
const NOTHING: Digest = Digest::from_bytes([0; 32]);

/// Explains every plan, parents first. `space` tells apart plans of one name in different places.
pub fn explain(plans: &Plans, space: &str, facts: &Facts, answers: &dyn Answers) -> Vec<Explained> {
    let mut done: Vec<Explained> = Vec::new();
    for plan in plans.ordered() {
        let parent = plans.parent(plan).map(|parent| parent.name.clone());
        let before = parent.as_ref().and_then(|name| done.iter().find(|one| one.name == *name));
        let mut walk = Walk { facts, answers, space, plan, plans, lines: Vec::new(), after: None, whole: true };
        match (before, parent.is_some()) {
            (Some(before), _) => {
                walk.after = before.after;
                walk.whole = before.lines.iter().all(|line| matches!(line.status, Status::Hit(_)));
            }
            (None, true) => walk.whole = false,
            (None, false) => walk.base(),
        }
        plan.steps.iter().for_each(|step| walk.step(step));
        let outputs = plan.outputs.iter().map(|output| walk.output(output)).collect();
        done.push(Explained { name: plan.name.clone(), parent, lines: walk.lines, after: walk.after, outputs });
    }
    done
}

/// The place of a line in its plan.
pub fn slot(space: &str, plan: &PlanName, part: &str) -> String {
    format!("{space}\0{plan}\0{part}")
}

struct Walk<'a> {
    facts: &'a Facts,
    answers: &'a dyn Answers,
    space: &'a str,
    plan: &'a Plan,
    plans: &'a Plans,
    lines: Vec<Line>,
    after: Option<Digest>,
    whole: bool,
}

impl Walk<'_> {
    fn base(&mut self) {
        let what = format!("begin with {}", self.plan.base_text());
        let slot = slot(self.space, &self.plan.name, "base");
        let (line, after) = self.judge(what, identity::of_base(&self.plan.base, self.facts), slot);
        self.push(line, after, None);
    }

    fn step(&mut self, step: &Step) {
        let what = step.summary();
        let number = self.lines.iter().filter(|line| !line.slot.ends_with("\0base")).count();
        let slot = slot(self.space, &self.plan.name, &format!("step {number}"));
        let bootstrap = self.plans.bootstrap(self.plan);
        let inputs = identity::of_step(self.after.unwrap_or(NOTHING), step, bootstrap, self.facts);
        if self.after.is_none() {
            let why = inputs.err().map_or(Why::Before, Why::Unknown);
            self.lines.push(Line { what, identity: None, inputs: None, status: Status::Miss(why), slot, path: None });
            self.whole = false;
            return;
        }
        let (line, after) = self.judge(what, inputs, slot);
        self.push(line, after, Some(step));
    }

    fn push(&mut self, mut line: Line, after: Option<Digest>, step: Option<&Step>) {
        self.after = after;
        let unknown = matches!(step.map(|step| &step.action), Some(super::Action::Packages { .. }))
            && self.plans.bootstrap(self.plan).is_none();
        if unknown && !matches!(line.status, Status::Hit(_)) {
            self.after = None;
        }
        if step.is_some_and(|step| step.volatile) {
            // What comes after it is known only once it has run.
            line.status = Status::Miss(Why::Volatile);
            self.after = None;
        }
        self.whole &= matches!(line.status, Status::Hit(_));
        self.lines.push(line);
    }

    fn output(&self, output: &Output) -> Line {
        let what = output.summary();
        let slot = slot(self.space, &self.plan.name, &format!("output {what}"));
        let path = output.path.clone();
        let unknown = |status| Line {
            what: what.clone(),
            identity: None,
            inputs: None,
            status,
            slot: slot.clone(),
            path: path.clone(),
        };
        match identity::of_output(self.after.unwrap_or(NOTHING), output, self.facts) {
            Err(missing) => unknown(Status::Miss(Why::Unknown(missing))),
            Ok(_) if self.after.is_none() => unknown(Status::Miss(Why::Before)),
            Ok(inputs) => Line {
                identity: Some(inputs.identity()),
                status: self.answers.output(output, &inputs),
                inputs: Some(inputs),
                ..unknown(Status::Miss(Why::Before))
            },
        }
    }

    /// A line, and what the next one builds on.
    fn judge(&self, what: String, inputs: Result<Inputs, Missing>, slot: String) -> (Line, Option<Digest>) {
        let inputs = match inputs {
            Ok(inputs) => inputs,
            Err(missing) => {
                let status = Status::Miss(Why::Unknown(missing));
                return (Line { what, identity: None, inputs: None, status, slot, path: None }, None);
            }
        };
        let identity = inputs.identity();
        let (now, ttl) = self.answers.now_and_ttl();
        let (status, after) = match self.answers.known(identity) {
            Some(known) if known.ages && now - known.made > ttl => (Status::Miss(Why::Old(now - known.made)), None),
            Some(known) => (Status::Hit(known.tree), Some(known.after)),
            None => (Status::Miss(self.why(&inputs, &slot)), Some(identity)),
        };
        (Line { what, identity: Some(identity), inputs: Some(inputs), status, slot, path: None }, after)
    }

    fn why(&self, inputs: &Inputs, slot: &str) -> Why {
        let Some(last) = self.answers.last(slot) else {
            return if self.whole { Why::NeverMade } else { Why::Before };
        };
        let changed = inputs.changed(&last);
        if changed.is_empty() {
            return Why::Gone;
        }
        if changed == ["before"] { Why::Before } else { Why::Changed(changed) }
    }
}

impl Why {
    /// The reason in words.
    pub fn text(&self) -> String {
        match self {
            Self::NeverMade => "never made before".to_owned(),
            Self::Changed(names) => {
                let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| *name != "before").collect();
                format!("changed: {}", names.join(", "))
            }
            Self::Before => "what it builds on is made anew".to_owned(),
            Self::Volatile => "it is volatile: never reused".to_owned(),
            Self::Old(seconds) => format!("its packages are {seconds} s old, and their archives are the tree's own"),
            Self::Unknown(Missing::File(path)) => format!("`{}` is not there", path.display()),
            Self::Unknown(Missing::Archive(_)) => "its archives were never looked at".to_owned(),
            Self::Unknown(Missing::Image(reference)) => format!("the image `{reference}` was not looked up"),
            Self::Unknown(Missing::Tool(tool)) => format!("there is no `{tool}` here"),
            Self::Other(text) => text.clone(),
            Self::Gone => "its result is not in the store any more".to_owned(),
        }
    }
}

impl Explained {
    /// Whether nothing has to be run for its tree.
    pub fn is_whole(&self) -> bool {
        self.lines.iter().all(|line| matches!(line.status, Status::Hit(_)))
    }

    /// The explanation as a function gives it back.
    pub fn to_value(&self) -> Value {
        let lines = |lines: &[Line]| Value::List(lines.iter().map(Line::to_value).collect());
        Value::map([
            ("name", Value::from(self.name.as_str())),
            ("parent", self.parent.as_ref().map_or(Value::Null, |name| name.as_str().into())),
            ("steps", lines(&self.lines)),
            ("outputs", lines(&self.outputs)),
        ])
    }
}

impl Line {
    fn to_value(&self) -> Value {
        let (hit, reason) = match &self.status {
            Status::Hit(_) => (true, Value::Null),
            Status::Miss(why) => (false, why.text().into()),
        };
        Value::map([
            ("step", Value::from(self.what.as_str())),
            ("hit", hit.into()),
            ("reason", reason),
            ("identity", self.identity.map_or(Value::Null, |identity| identity.to_string().into())),
        ])
    }
}
