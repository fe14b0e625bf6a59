//! One plan under way: its base, its steps, its outputs, each taken from the store or made.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::clean::{Extent, clean};
use super::order::Work;
use super::outputs::Making;
use super::report::{OutputReport, PlanReport, StepReport};
use super::tree::{Ground, Snapshots, WorkTree};
use super::{action, base, bring};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{clock, fault, fs};
use crate::plan::{Action, Base, Inputs, MountSource, Plan, Plans, ROOT, Step, identity, slot};
use crate::progress::{Cancel, Progress};
use crate::rootfs::Limits;
use crate::sandbox::worker::Port;
use crate::store::trees::{Footing, Record, Trees};
use crate::vocab::Digest;

/// A build: what is wanted, and what all its plans share.
pub(super) struct Builder<'a> {
    pub(super) work: Work,
    pub(super) plans: Plans,
    pub(super) trees: Trees,
    pub(super) snapshots: Snapshots,
    pub(super) warnings: Mutex<Vec<String>>,
    pub(super) footing: Mutex<Footing>,
    pub(super) limits: Limits,
    pub(super) port: &'a Port,
    pub(super) cancel: Cancel,
}

impl Builder<'_> {
    fn ground(&self) -> Ground<'_> {
        Ground { trees: &self.trees, snapshots: self.snapshots, limits: self.limits, cancel: &self.cancel }
    }
}

/// What a plan's tree is at some point.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// What the next identity is made of.
    after: Digest,
    layers: BTreeMap<String, Vec<Digest>>,
    epoch: i64,
}

/// A failure, and the tree that was kept.
pub(super) struct Failed {
    pub(super) error: Error,
    pub(super) kept: Option<PathBuf>,
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self { error, kept: None }
    }
}

/// One plan under way.
pub(super) struct Run<'a> {
    pub(super) builder: &'a Builder<'a>,
    pub(super) plan: &'a Plan,
    pub(super) progress: &'a Progress,
    /// What it gave or took so far.
    pub(super) identities: Vec<Digest>,
}

impl Run<'_> {
    /// Takes or makes everything; what its tree is then.
    pub(super) fn run(mut self, before: Option<State>, report: &mut PlanReport) -> Result<State, Failed> {
        let mut state = match before {
            Some(state) => state,
            None => self.base(report)?,
        };
        let count = self.plan.steps.len();
        for (number, step) in self.plan.steps.iter().enumerate() {
            self.builder.cancel.check()?;
            state = self.step(&state, step, (number, count), report)?;
        }
        if self.builder.work.targets.contains(&self.plan.name) {
            for number in 0..self.plan.outputs.len() {
                self.builder.cancel.check()?;
                let output = self.output(&state, number)?;
                report.outputs.push(output);
            }
        }
        self.builder.trees.settle(&self.identities)?;
        Ok(state)
    }

    /// The result of these inputs, if it is there and may be taken.
    fn known(&self, identity: Digest) -> Result<Option<Record>> {
        if self.builder.work.force {
            return Ok(None);
        }
        let mut footing = self.builder.footing.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.builder.trees.stand_on(&mut footing, identity)?;
        let ttl = i64::try_from(self.builder.work.bounds.archive_ttl.as_secs()).unwrap_or(i64::MAX);
        // A tree of several layers can be read only through an overlay.
        let is_readable = |record: &Record| {
            self.builder.snapshots == Snapshots::Overlay || record.layers.values().all(|layers| layers.len() <= 1)
        };
        Ok(found.filter(|record| is_readable(record) && (!record.ages || now() - record.made <= ttl)))
    }

    fn base(&mut self, report: &mut PlanReport) -> Result<State, Failed> {
        if let Base::Plan(parent) = &self.plan.base {
            return Err(
                Error::new(Kind::Failed, format!("`{parent}` was not built before `{}`", self.plan.name)).into()
            );
        }
        let inputs =
            identity::of_base(&self.plan.base, &self.builder.work.facts).map_err(|missing| unknown(&missing))?;
        let what = format!("begin with {}", self.plan.base_text());
        let slot = slot(&self.builder.work.space, &self.plan.name, "base");
        let key = inputs.identity();
        self.identities.push(key);
        if let Some(record) = self.known(key)? {
            report.steps.push(StepReport { what, hit: true, reason: None, seconds: 0.0 });
            self.builder.trees.note_last(&slot, &inputs.0)?;
            return Ok(State { after: record.after, layers: record.layers, epoch: record.epoch });
        }
        let began = Instant::now();
        self.progress.line(what.clone());
        let reason = self.reason(&slot, &inputs)?;
        let ground = self.builder.ground();
        let made = base::make(&self.builder.work, self.plan, ground, self.progress)
            .context(|| format!("`{}` cannot {what}", self.plan.name))?;
        let epoch = made.epoch;
        let layers = made.tree.keep(ground, &self.builder.footing, base::Made::clean(made.extent, epoch))?;
        let layers = BTreeMap::from([(ROOT.to_owned(), layers)]);
        let state = State { after: key, layers, epoch };
        self.record(key, &inputs, &slot, &state, &what)?;
        report.steps.push(StepReport { what, hit: false, reason, seconds: began.elapsed().as_secs_f64() });
        Ok(state)
    }

    fn step(
        &mut self,
        state: &State,
        step: &Step,
        (number, count): (usize, usize),
        report: &mut PlanReport,
    ) -> Result<State, Failed> {
        let builder = self.builder;
        let bootstrap = builder.plans.bootstrap(self.plan);
        let inputs = identity::of_step(state.after, step, bootstrap, &builder.work.facts)
            .map_err(|missing| unknown(&missing))?;
        let what = step.summary();
        let slot = slot(&builder.work.space, &self.plan.name, &format!("step {number}"));
        let key = inputs.identity();
        if !step.volatile {
            self.identities.push(key);
            if let Some(record) = self.known(key)? {
                report.steps.push(StepReport { what, hit: true, reason: None, seconds: 0.0 });
                builder.trees.note_last(&slot, &inputs.0)?;
                return Ok(State { after: record.after, layers: record.layers, epoch: record.epoch });
            }
        }
        let began = Instant::now();
        self.progress.line(format!("{}: step {} of {count}: {what}", self.plan.name, number + 1));
        let reason =
            if step.volatile { Some("it is volatile: never reused".to_owned()) } else { self.reason(&slot, &inputs)? };
        let (layers, ages) = self.carry_out(state, step, number)?;
        let mut next = State { after: key, layers, epoch: state.epoch };
        let record = Record {
            inputs: inputs.0.clone(),
            layers: next.layers.clone(),
            after: key,
            epoch: next.epoch,
            made: now(),
            what: what.clone(),
            ages,
            boot: None,
        };
        if step.volatile || ages {
            // What the same inputs give next time may be something else.
            next.after = identity::after_volatile(key, record.trees());
        }
        if step.volatile {
            builder.trees.note_last(&slot, &inputs.0)?;
        } else {
            builder.trees.keep(key, &Record { after: next.after, ..record })?;
            builder.trees.note_last(&slot, &inputs.0)?;
        }
        report.steps.push(StepReport { what, hit: false, reason, seconds: began.elapsed().as_secs_f64() });
        Ok(next)
    }

    /// Runs a step on trees of its own; the layers of all trees after it, and whether they grow old.
    fn carry_out(
        &self,
        state: &State,
        step: &Step,
        number: usize,
    ) -> Result<(BTreeMap<String, Vec<Digest>>, bool), Failed> {
        let ground = self.builder.ground();
        let mut open: BTreeMap<String, WorkTree> = BTreeMap::new();
        let others = step.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Tree(name) => Some(name.as_str()),
            MountSource::Files(_) | MountSource::Cache(_) => None,
        });
        for name in std::iter::once(step.tree.as_str()).chain(others) {
            let layers = state.layers.get(name).map(Vec::as_slice).unwrap_or_default();
            if !open.contains_key(name) {
                open.insert(name.to_owned(), WorkTree::on(layers, ground)?);
            }
        }
        let ages = match self.act(&open, step, state.epoch) {
            Ok(ages) => ages,
            Err(error) => {
                // What filled the disk goes, so that there is room again.
                let gone = matches!(error.kind(), Kind::Interrupted | Kind::NoSpace);
                let kept = if gone { None } else { self.give_up(open, step, number) };
                return Err(Failed { error, kept });
            }
        };
        fault::point("build.step.done");
        let extent = match step.action {
            Action::Packages { .. } => Extent::Downloads,
            Action::Run { .. } => Extent::Traces,
            _ => Extent::Times,
        };
        let mut layers = state.layers.clone();
        for (name, tree) in open {
            let kept = tree.keep(ground, &self.builder.footing, |changes, below| {
                clean(changes, below, extent, Some(state.epoch))
            })?;
            layers.insert(name, kept);
        }
        Ok((layers, ages))
    }

    fn act(&self, open: &BTreeMap<String, WorkTree>, step: &Step, epoch: i64) -> Result<bool> {
        let builder = self.builder;
        let tree = &open[&step.tree];
        let mut mounts = Vec::new();
        for mount in &step.mounts {
            let at = mount.at.as_str().to_owned();
            match &mount.source {
                MountSource::Files(path) => mounts.push((self.brought(path, tree)?, at, true)),
                MountSource::Tree(name) => mounts.push((open[name].path(), at, false)),
                MountSource::Cache(name) => {
                    let folder = fs::parent(builder.trees.root()).join("caches").join(name);
                    fs::create_dir_all(&folder, 0o755)?;
                    // What is not used for long is collected.
                    fs::touch(&folder)?;
                    mounts.push((folder, at, false));
                }
            }
        }
        let archive =
            builder.plans.bootstrap(self.plan).and_then(|bootstrap| builder.work.archives.get(&bootstrap.archive()));
        let doing = action::Doing {
            work: &builder.work,
            step,
            tree: &tree.path(),
            place: tree.place(),
            mounts: &mounts,
            archive,
            epoch,
            limits: builder.limits,
            progress: self.progress,
            cancel: &builder.cancel,
        };
        doing.run()
    }

    /// Files of the host as they were surveyed, in a copy that nobody else writes to.
    fn brought(&self, source: &std::path::Path, tree: &WorkTree) -> Result<PathBuf> {
        let builder = self.builder;
        let survey = builder.work.surveys.get(source);
        let Some(survey) = survey else {
            return Err(Error::new(Kind::NotFound, format!("there is no `{}`", source.display())));
        };
        let folder = tree.place().join(format!("mount-{}", survey.digest.short()));
        fs::create_dir_all(&folder, 0o755)?;
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
        let own = rustix::fs::open(&folder, flags, rustix::fs::Mode::empty())
            .context(|| "cannot open a folder of castoff's")?;
        let bringing =
            bring::Bringing { source, survey: Some(survey), limits: builder.limits, cancel: &builder.cancel };
        bringing.into_folder(&own, b"files")?;
        Ok(folder.join("files"))
    }

    /// Keeps the tree of a failed step.
    fn give_up(&self, open: BTreeMap<String, WorkTree>, step: &Step, number: usize) -> Option<PathBuf> {
        let name = format!("{}-step-{}", self.plan.name, number + 1);
        let story = BTreeMap::from([("image", self.plan.name.to_string()), ("step", step.summary())]);
        let mut kept = None;
        for (tree_name, tree) in open {
            if tree_name == step.tree {
                match tree.give_up(&name, self.builder.ground(), &story) {
                    Ok(path) => kept = Some(path),
                    // The failure itself matters more.
                    Err(error) => self.progress.warn(format!("the tree of the failed step could not be kept: {error}")),
                }
            }
        }
        kept
    }

    fn output(&self, state: &State, number: usize) -> Result<OutputReport> {
        let output = &self.plan.outputs[number];
        let inputs =
            identity::of_output(state.after, output, &self.builder.work.facts).map_err(|missing| unknown(&missing))?;
        let layers = state.layers.get(ROOT).map(Vec::as_slice).unwrap_or_default();
        let making = Making {
            work: &self.builder.work,
            plan: self.plan,
            number,
            layers,
            epoch: state.epoch,
            inputs: &inputs,
            ground: self.builder.ground(),
            progress: self.progress,
        };
        making.run().context(|| format!("cannot make the {} of `{}`", output.summary(), self.plan.name))
    }

    fn record(&self, key: Digest, inputs: &Inputs, slot: &str, state: &State, what: &str) -> Result<()> {
        let record = Record {
            inputs: inputs.0.clone(),
            layers: state.layers.clone(),
            after: state.after,
            epoch: state.epoch,
            made: now(),
            what: what.to_owned(),
            ages: false,
            boot: None,
        };
        self.builder.trees.keep(key, &record)?;
        self.builder.trees.note_last(slot, &inputs.0)
    }

    /// Why something is made although it was made before.
    fn reason(&self, slot: &str, inputs: &Inputs) -> Result<Option<String>> {
        if self.builder.work.force {
            return Ok(Some("a rebuild was forced".to_owned()));
        }
        let Some(last) = self.builder.trees.last(slot)? else { return Ok(None) };
        let changed = inputs.changed(&Inputs(last));
        let changed: Vec<&str> = changed.iter().map(String::as_str).filter(|name| *name != "before").collect();
        Ok(Some(if changed.is_empty() {
            "what it builds on is made anew, or its result was removed".to_owned()
        } else {
            format!("changed: {}", changed.join(", "))
        }))
    }
}

fn unknown(missing: &identity::Missing) -> Error {
    let text = match missing {
        identity::Missing::File(path) => format!("there is no `{}`", path.display()),
        identity::Missing::Archive(_) => "nobody looked at the archive of the packages".to_owned(),
        identity::Missing::Image(reference) => format!("the image `{reference}` was not looked up"),
        identity::Missing::Tool(tool) => format!("there is no `{tool}` here"),
    };
    Error::new(Kind::NotFound, text)
}

fn now() -> i64 {
    i64::try_from(clock::now().as_secs()).unwrap_or(i64::MAX)
}
