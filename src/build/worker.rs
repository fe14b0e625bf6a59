//! The worker's side of a build: plans in an order that their parents allow, several at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::order::{Order, Work};
use super::report::{BuildReport, End, Failure, PlanReport};
use super::run::{Builder, Run, State};
use super::tree::Snapshots;
use super::{collecting, shell};
use crate::error::{Context as _, Error, Kind, Result};
use crate::plan::{PlanName, Plans};
use crate::progress::{Event, Progress, Sink};
use crate::rootfs::Limits;
use crate::sandbox::worker::Port;
use crate::store::trees::Trees;

/// Carries out an order in a namespace of its own.
pub fn work(port: &mut Port) -> Result<serde_json::Value> {
    // Whoever calls decides neither the modes of what is made here, nor how deep its folders may be.
    rustix::process::umask(rustix::fs::Mode::WGRP | rustix::fs::Mode::WOTH);
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let most = files.maximum.map_or(65_536, |most| most.min(65_536));
    let wanted = rustix::process::Rlimit { current: Some(most), maximum: files.maximum };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted)
        .context(|| "cannot set its limit of open files")?;
    let value = match port.order::<Order>()? {
        Order::Build(work) => to_json(&Builder::new(*work, port)?.run()?)?,
        Order::Shell(order) => to_json(&shell::inside(&order, port)?)?,
        Order::Collect(order) => to_json(&collecting::collect_inside(&order)?)?,
        Order::Verify(order) => to_json(&collecting::verify_inside(&order, port)?)?,
    };
    Ok(value)
}

fn to_json(value: &impl serde::Serialize) -> Result<serde_json::Value> {
    serde_json::to_value(value).map_err(|error| Error::new(Kind::Failed, "cannot tell a result").caused_by(error))
}

/// What is still to be done, and what is done.
#[derive(Default)]
struct Board {
    waiting: Vec<PlanName>,
    running: BTreeSet<PlanName>,
    ended: BTreeMap<PlanName, Option<State>>,
    reports: Vec<PlanReport>,
}

impl<'a> Builder<'a> {
    fn new(work: Work, port: &'a Port) -> Result<Self> {
        let trees = Trees::open(&work.trees)?.distrusting(work.force);
        // What cannot be removed may be somebody's riddle; it stands in nobody's way.
        let swept = trees.sweep().err().map(|error| format!("what an earlier build left stays: {error}"));
        let plans = Plans::new(work.plans.clone()).map_err(|problems| crate::plan::refuse("the plan", problems))?;
        let (snapshots, why) = Snapshots::of(&trees)?;
        let footing = Mutex::new(trees.footing()?);
        let limits = Limits { entries: work.bounds.entries, ..Limits::default() };
        let warnings = Mutex::new(why.into_iter().chain(swept).collect());
        let cancel = port.cancel();
        Ok(Self { work, plans, trees, snapshots, warnings, footing, limits, port, cancel })
    }

    fn run(&self) -> Result<BuildReport> {
        let waiting: Vec<PlanName> = self
            .plans
            .ordered()
            .into_iter()
            .filter(|plan| self.work.wanted.contains(&plan.name))
            .map(|plan| plan.name.clone())
            .collect();
        let order = waiting.clone();
        let board = Mutex::new(Board { waiting, ..Board::default() });
        let changed = Condvar::new();
        let jobs = usize::try_from(self.work.bounds.jobs).unwrap_or(1).clamp(1, order.len().max(1));
        std::thread::scope(|scope| {
            for _ in 1..jobs {
                scope.spawn(|| self.follow(&board, &changed, jobs > 1));
            }
            self.follow(&board, &changed, jobs > 1);
        });
        self.cancel.check()?;
        let board = board.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut reports = board.reports;
        reports.sort_by_key(|report| order.iter().position(|name| *name == report.name));
        let warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Ok(BuildReport { plans: reports, snapshots: Some(self.snapshots.word().to_owned()), warnings })
    }

    /// Takes one plan after the other whose parent has ended, until none is left.
    fn follow(&self, board: &Mutex<Board>, changed: &Condvar, several: bool) {
        let lock = || board.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = lock();
        loop {
            if self.cancel.check().is_err() || (now.waiting.is_empty() && now.running.is_empty()) {
                changed.notify_all();
                return;
            }
            let Some(at) = now.waiting.iter().position(|name| self.may_begin(name, &now)) else {
                if now.waiting.is_empty() {
                    return;
                }
                now = changed
                    .wait_timeout(now, std::time::Duration::from_millis(200))
                    .map_or_else(|error| error.into_inner().0, |waited| waited.0);
                continue;
            };
            let name = now.waiting.remove(at);
            now.running.insert(name.clone());
            let parent =
                self.plans.get(&name).and_then(|plan| self.plans.parent(plan)).map(|parent| parent.name.clone());
            let before = parent.as_ref().map(|parent| now.ended.get(parent).cloned().flatten());
            drop(now);
            let (report, state) = match (parent, before) {
                (Some(parent), Some(None)) => (skipped(&name, parent), None),
                (_, before) => self.plan(&name, before.flatten(), several),
            };
            now = lock();
            now.running.remove(&name);
            now.ended.insert(name, state);
            now.reports.push(report);
            changed.notify_all();
        }
    }

    fn may_begin(&self, name: &PlanName, board: &MutexGuard<'_, Board>) -> bool {
        let parent = self.plans.get(name).and_then(|plan| self.plans.parent(plan));
        parent.is_none_or(|parent| board.ended.contains_key(&parent.name))
    }

    fn plan(&self, name: &PlanName, before: Option<State>, several: bool) -> (PlanReport, Option<State>) {
        let began = Instant::now();
        let mut report =
            PlanReport { name: name.clone(), end: End::Done, steps: Vec::new(), outputs: Vec::new(), seconds: 0.0 };
        let progress = if several { named(&self.port.progress(), name) } else { self.port.progress() };
        let outcome = match self.plans.get(name) {
            Some(plan) => {
                Run { builder: self, plan, progress: &progress, identities: Vec::new() }.run(before, &mut report)
            }
            None => Err(Error::new(Kind::NotFound, format!("there is no plan `{name}`")).into()),
        };
        report.seconds = began.elapsed().as_secs_f64();
        match outcome {
            Ok(state) => (report, Some(state)),
            Err(failed) => {
                let mut failure = Failure::of(&failed.error);
                failure.kept = failed.kept;
                report.end = End::Failed(failure);
                (report, None)
            }
        }
    }
}

fn skipped(name: &PlanName, parent: PlanName) -> PlanReport {
    PlanReport { name: name.clone(), end: End::Skipped(parent), steps: Vec::new(), outputs: Vec::new(), seconds: 0.0 }
}

/// Progress whose lines begin with a plan's name; stages of several plans at once would not be told apart.
fn named(progress: &Progress, name: &PlanName) -> Progress {
    struct Named(Progress, String);
    impl Sink for Named {
        fn event(&self, event: &Event) {
            match event {
                Event::Line(text) => self.0.line(format!("{}: {text}", self.1)),
                Event::Warning(text) => self.0.warn(format!("{}: {text}", self.1)),
                Event::Started { .. } | Event::Advanced { .. } | Event::Finished => {}
            }
        }
    }
    Progress::new(Arc::new(Named(progress.clone(), name.to_string())))
}
