//! The executor: runs plans, and keeps what they gave so that nothing is done twice.
//!
//! ```text
//! castoff ── looks at files, images and archives; explains; returns at once where nothing is to be done
//!    └─ worker (a mount and a pid namespace of its own; for ordinary users a user namespace too)
//!         ├─ trees upon trees, one layer a step        overlayfs, else copies that share blocks, else copies
//!         ├─ a sandbox for each command of a step
//!         └─ outputs: written beside their places, synced, renamed
//! ```
//!
//! Knows neither which front-end made a plan nor who publishes what it gives.

mod action;
mod archives;
mod base;
mod bring;
mod clean;
mod collecting;
mod compress;
mod disks;
mod facts;
mod inside;
mod order;
mod outputs;
mod packages;
mod report;
mod run;
mod shell;
mod tree;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use collecting::{collect, verify};
pub use report::{BuildReport, End, Failure, OutputReport, PlanReport, Request, StepReport};
pub use shell::{ShellRequest, failed, shell};
pub use worker::work;

use crate::config::Config;
use crate::engine::pack::pack;
use crate::engine::{PackRequest, Surroundings, adopt, open};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{clock, fs};
use crate::plan::{
    Answers, Base, Explained, Form, Inputs, Known, Missing, Output, Plan, PlanName, Status, Why,
    explain as explain_plans, identity,
};
use crate::progress::Cancel;
use crate::sandbox::worker::{Ids, Worker};
use crate::store::trees::Trees;
use crate::vocab::{Digest, Reference};
use facts::{Look, World, gather};
use order::{Bounds, Order, Work};
use outputs::Verdict;

/// Says what of the plans is there already, and why the rest is not; runs nothing.
pub fn explain(request: &Request, surroundings: &Surroundings<'_>) -> Result<Vec<Explained>> {
    let cancel = Cancel::new();
    let (wanted, plans) = chosen(request)?;
    let look = if request.refresh { Look::Now } else { Look::Known };
    let world = gather(request, &plans, look, surroundings, &cancel)?;
    let trees = Trees::existing(&surroundings.config.state_dir.join("trees"))?;
    let explained = explain_plans(
        &request.plans,
        &request.space,
        &world.facts,
        &Store { trees: trees.as_ref(), request, surroundings },
    );
    Ok(explained.into_iter().filter(|one| wanted.contains(&one.name)).collect())
}

/// Builds the plans. What failed is in the report; an error means that nothing could be begun.
pub fn run(request: &Request, surroundings: &Surroundings<'_>, cancel: &Cancel) -> Result<BuildReport> {
    let began = clock::now();
    let (wanted, plans) = chosen(request)?;
    let targets = targets(request, &wanted);
    let config = surroundings.config;
    fs::create_dir_all(&config.state_dir, 0o700)?;
    let trees = Trees::open(&config.state_dir.join("trees"))?;
    let _space = alone(&trees, &request.space, surroundings, cancel)?;
    if let Err(error) = trees.sweep() {
        // An ordinary user's trees belong to ids that only the worker has; it sweeps as well.
        tracing::debug!("what an earlier build left stays for now: {error}");
    }
    refuse_bad_places(&plans, &targets)?;
    let look = if request.refresh { Look::Now } else { Look::Young };
    let world = gather(request, &plans, look, surroundings, cancel)?;
    let answers = Store { trees: Some(&trees), request, surroundings };
    let explained: Vec<Explained> = explain_plans(&request.plans, &request.space, &world.facts, &answers)
        .into_iter()
        .filter(|one| wanted.contains(&one.name))
        .collect();
    missing(&explained)?;
    if !request.force && explained.iter().all(|one| is_there(one, targets.contains(&one.name))) {
        return nothing_to_do(&trees, &explained, &targets, clock::now().saturating_sub(began).as_secs_f64());
    }
    // What is judged to be there stays until the worker stands on it itself.
    let mut footing = trees.footing()?;
    for line in explained.iter().flat_map(|one| &one.lines) {
        if let (Status::Hit(_), Some(identity)) = (&line.status, line.identity) {
            trees.stand_on(&mut footing, identity)?;
        }
    }
    let place = trees.workplace()?;
    let tars = bring_bases(&plans, &explained, (request.force, &world), place.path(), surroundings)?;
    let images = wanted_images(&plans, &explained, &targets, request.force, place.path());
    let work = Work {
        trees: trees.root().to_owned(),
        plans: request.plans.iter().cloned().collect(),
        space: request.space.clone(),
        wanted,
        targets,
        force: request.force,
        facts: world.facts.clone(),
        surveys: world.surveys.clone(),
        tars,
        images: images.clone(),
        archives: world.archives.clone(),
        bounds: bounds_of(config, request.jobs),
    };
    let worker = Worker::start("build", &Order::Build(Box::new(work)), &Ids::of_this_process()?)?;
    let mut report: BuildReport = worker.finish(surroundings.progress, cancel, |_| Ok(()))?;
    hand_images_on(&mut report, request, &images, &world, surroundings)?;
    Ok(report)
}

/// Waits until nobody else builds in this space.
fn alone(trees: &Trees, space: &str, surroundings: &Surroundings<'_>, cancel: &Cancel) -> Result<fs::Lock> {
    let mut told = false;
    loop {
        if let Some(lock) = trees.lock_space(space)? {
            return Ok(lock);
        }
        if !told {
            surroundings.progress.line(format!("waiting: another castoff builds in {space}"));
            told = true;
        }
        cancel.sleep(std::time::Duration::from_millis(200))?;
    }
}

/// The wanted plans and what they build on, parents first.
fn chosen(request: &Request) -> Result<(BTreeSet<PlanName>, Vec<&Plan>)> {
    let mut wanted = BTreeSet::new();
    match &request.only {
        None => wanted.extend(request.plans.iter().map(|plan| plan.name.clone())),
        Some(names) => {
            for name in names {
                let plan = request.plans.find(name.as_str())?;
                wanted.extend(request.plans.ancestors(plan).iter().map(|one| one.name.clone()));
                wanted.insert(name.clone());
            }
        }
    }
    let plans = request.plans.ordered().into_iter().filter(|plan| wanted.contains(&plan.name)).collect();
    Ok((wanted, plans))
}

/// Those whose outputs are made: of ancestors that nobody named too, since their users look for their files.
fn targets(_: &Request, wanted: &BTreeSet<PlanName>) -> BTreeSet<PlanName> {
    wanted.clone()
}

/// What steps may use.
fn bounds_of(config: &Config, jobs: Option<usize>) -> Bounds {
    let build = &config.build;
    Bounds {
        jobs: jobs.map_or(build.jobs, |jobs| u32::try_from(jobs).unwrap_or(build.jobs)),
        processes: build.processes,
        memory: build.memory,
        disk_floor: build.disk_floor,
        timeout: build.timeout,
        entries: config.limit_entries,
        archive_ttl: build.archive_ttl,
    }
}

/// The host's programs whose versions are part of identities.
fn identity_tools(plans: &[&Plan]) -> BTreeSet<&'static str> {
    let of_plan = |plan: &&Plan| {
        let bases = identity::tools_of_base(&plan.base).iter().copied();
        bases
            .chain(plan.outputs.iter().flat_map(|output| identity::tools_of_output(&output.form)).copied())
            .collect::<Vec<_>>()
    };
    plans.iter().flat_map(of_plan).collect()
}

/// Places of outputs that cannot be written, before anything runs.
fn refuse_bad_places(plans: &[&Plan], targets: &BTreeSet<PlanName>) -> Result<()> {
    let mut seen: Vec<(PathBuf, bool, &PlanName)> = Vec::new();
    for plan in plans.iter().filter(|plan| targets.contains(&plan.name)) {
        for output in &plan.outputs {
            let Some(path) = &output.path else { continue };
            let (real, is_folder) = (plain(path)?, matches!(output.form, Form::Directory | Form::Kernel));
            let collides = |(other, other_is_folder, _): &&(PathBuf, bool, &PlanName)| {
                *other == real
                    || output.form == Form::Directory && other.starts_with(&real)
                    || *other_is_folder && real.starts_with(other)
            };
            if let Some((_, _, other)) = seen.iter().find(collides) {
                return Err(Error::new(
                    Kind::Usage,
                    format!("`{other}` and `{}` both make `{}`", plan.name, path.display()),
                ));
            }
            seen.push((real, output.form == Form::Directory, &plan.name));
            if is_folder {
                continue;
            }
            if fs::link_metadata(path)?.is_some_and(|metadata| !metadata.is_file()) {
                return Err(Error::new(Kind::Conflict, format!("`{}` is not a regular file", path.display()))
                    .hint("nothing was removed: move it away, and run the same again"));
            }
        }
    }
    Ok(())
}

/// A path without detours: links of its folders followed as far as they are there, `.` and `..` taken out.
fn plain(path: &Path) -> Result<PathBuf> {
    let absolute = fs::absolute(path)?;
    let mut plain = PathBuf::new();
    for part in absolute.components() {
        match part {
            std::path::Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    let Some(name) = plain.file_name() else { return Ok(plain) };
    Ok(fs::canonical(fs::parent(&plain))?.map_or_else(|| plain.clone(), |folder| folder.join(name)))
}

/// What plans need and nobody has, all at once.
fn missing(explained: &[Explained]) -> Result<()> {
    let mut lines = Vec::new();
    let mut hints = BTreeSet::new();
    for one in explained {
        for line in one.lines.iter().chain(&one.outputs) {
            if let Status::Miss(why @ Why::Unknown(missing)) = &line.status {
                lines.push(format!("`{}`, {}: {}", one.name, line.what, why.text()));
                hints.extend(match missing {
                    Missing::File(_) => Some("put each file where it is looked for, or mend its path"),
                    Missing::Tool(_) => {
                        Some("`castoff doctor` shows which programs are there and how to get the others")
                    }
                    Missing::Archive(_) | Missing::Image(_) => None,
                });
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let error = Error::new(Kind::NotFound, "something the images are made of is missing").caused_by(lines.join("\n"));
    let hint: Vec<&str> = hints.into_iter().collect();
    Err(if hint.is_empty() { error } else { error.hint(hint.join("; ")) })
}

fn is_there(one: &Explained, with_outputs: bool) -> bool {
    one.is_whole() && (!with_outputs || one.outputs.iter().all(|line| matches!(line.status, Status::Hit(_))))
}

/// The report where everything is there.
fn nothing_to_do(
    trees: &Trees,
    explained: &[Explained],
    targets: &BTreeSet<PlanName>,
    seconds: f64,
) -> Result<BuildReport> {
    let mut footing = trees.footing()?;
    let mut plans = Vec::new();
    for one in explained {
        for line in &one.lines {
            if let Some(identity) = line.identity {
                trees.stand_on(&mut footing, identity)?;
            }
        }
        let step = |what: &String| StepReport { what: what.clone(), hit: true, reason: None, seconds: 0.0 };
        let output = |line: &crate::plan::Line| OutputReport {
            what: line.what.clone(),
            path: line.path.clone(),
            hit: true,
            replaced: None,
            moved_to: None,
            bytes: line.path.as_deref().map_or(0, outputs::bytes_on_disk),
            seconds: 0.0,
        };
        plans.push(PlanReport {
            name: one.name.clone(),
            end: End::Done,
            steps: one.lines.iter().map(|line| step(&line.what)).collect(),
            outputs: if targets.contains(&one.name) { one.outputs.iter().map(output).collect() } else { Vec::new() },
            seconds,
        });
    }
    Ok(BuildReport { plans, snapshots: None, warnings: Vec::new() })
}

/// Bases that only this process can read become tars: an engine is not in reach of the worker, and owners of a folder
/// cannot be seen from a user namespace.
fn bring_bases(
    plans: &[&Plan],
    explained: &[Explained],
    (force, world): (bool, &World),
    place: &std::path::Path,
    surroundings: &Surroundings<'_>,
) -> Result<BTreeMap<PlanName, PathBuf>> {
    let mut tars = BTreeMap::new();
    for plan in plans {
        let source = match &plan.base {
            Base::Directory(path) => Reference::Dir(path.clone()),
            Base::Image(text) => text.parse()?,
            Base::Empty | Base::Bootstrap(_) | Base::Tar(_) | Base::Disk(_) | Base::Plan(_) => continue,
        };
        let line = explained.iter().find(|one| one.name == plan.name).and_then(|one| one.lines.first());
        if !force && line.is_some_and(|line| matches!(line.status, Status::Hit(_))) {
            continue;
        }
        let tar = place.join(format!("base.{}.tar", plan.name));
        let mut request = PackRequest {
            source,
            destination: Reference::Tar(tar.clone()),
            tmpdir: Some(place.to_owned()),
            ..PackRequest::default()
        };
        adopt::adopt_rootfs(&mut request, false)?;
        pack(&request, surroundings).context(|| format!("cannot read what `{}` begins with", plan.name))?;
        facts::unchanged(&plan.base, world, surroundings)?;
        tars.insert(plan.name.clone(), tar);
    }
    Ok(tars)
}

/// Tars for the images of an engine that are to be made.
fn wanted_images(
    plans: &[&Plan],
    explained: &[Explained],
    targets: &BTreeSet<PlanName>,
    force: bool,
    place: &std::path::Path,
) -> BTreeMap<PlanName, BTreeMap<usize, PathBuf>> {
    let mut wanted: BTreeMap<PlanName, BTreeMap<usize, PathBuf>> = BTreeMap::new();
    for (name, images) in outputs::images_of(plans) {
        if !targets.contains(&name) {
            continue;
        }
        let known = explained.iter().find(|one| one.name == name);
        for (number, _) in images {
            let hit =
                known.and_then(|one| one.outputs.get(number)).is_some_and(|line| matches!(line.status, Status::Hit(_)));
            if force || !hit {
                wanted.entry(name.clone()).or_default().insert(number, place.join(format!("{number}.{name}.out.tar")));
            }
        }
    }
    wanted
}

/// Puts the images that came back as tars where they belong.
fn hand_images_on(
    report: &mut BuildReport,
    request: &Request,
    images: &BTreeMap<PlanName, BTreeMap<usize, PathBuf>>,
    world: &World,
    surroundings: &Surroundings<'_>,
) -> Result<()> {
    let trees = Trees::open(&surroundings.config.state_dir.join("trees"))?;
    let answers = Store { trees: Some(&trees), request, surroundings };
    let explained = explain_plans(&request.plans, &request.space, &world.facts, &answers);
    for plan_report in report.plans.iter_mut().filter(|plan| plan.end == End::Done) {
        let Some(plan) = request.plans.get(&plan_report.name) else { continue };
        for (number, tar) in images.get(&plan.name).into_iter().flatten() {
            let Some(Output { form: Form::Image { reference }, .. }) = plan.outputs.get(*number) else { continue };
            let pack_request = PackRequest {
                source: Reference::Tar(tar.clone()),
                destination: reference.parse()?,
                ..PackRequest::default()
            };
            let put =
                pack(&pack_request, surroundings).context(|| format!("cannot put `{}` to `{reference}`", plan.name));
            if let Err(error) = put {
                plan_report.end = End::Failed(Failure::of(&error));
                continue;
            }
            let line = explained.iter().find(|one| one.name == plan.name).and_then(|one| one.outputs.get(*number));
            if let Some(identity) = line.and_then(|line| line.identity)
                && let Some(id) = open::current_id(&reference.parse()?, surroundings)?
            {
                let note = BTreeMap::from([("identity".to_owned(), identity.to_string()), ("id".to_owned(), id)]);
                trees.note_last(&image_slot(reference), &note)?;
            }
            fs::remove_file(tar)?;
        }
    }
    Ok(())
}

fn image_slot(reference: &str) -> String {
    format!("image\0{reference}")
}

/// What the store of trees answers.
struct Store<'a> {
    trees: Option<&'a Trees>,
    request: &'a Request,
    surroundings: &'a Surroundings<'a>,
}

impl Store<'_> {
    /// Whether the image of an engine is the one that was made from these inputs.
    fn has_image(&self, trees: &Trees, reference: &str, identity: Digest) -> Result<bool> {
        let Some(note) = trees.last(&image_slot(reference))? else { return Ok(false) };
        if note.get("identity") != Some(&identity.to_string()) {
            return Ok(false);
        }
        Ok(open::current_id(&reference.parse()?, self.surroundings)?.as_ref() == note.get("id"))
    }

    fn output_status(&self, output: &Output, inputs: &Inputs) -> Result<Status> {
        let Some(trees) = self.trees else { return Ok(Status::Miss(Why::NeverMade)) };
        let identity = inputs.identity();
        let verdict = match (&output.form, &output.path) {
            (Form::Image { reference }, _) => {
                let there = self.has_image(trees, reference, identity)?;
                return Ok(if there { Status::Hit(identity) } else { Status::Miss(Why::NeverMade) });
            }
            (Form::Directory | Form::Kernel, Some(path)) => {
                // Whether it was changed since is looked at where everything in it can be read.
                let known = trees.folder_outputs(path)?;
                if known.iter().all(|known| known.identity != identity) || fs::link_metadata(path)?.is_none() {
                    return Ok(Status::Miss(Why::NeverMade));
                }
                let limits = self.surroundings.limits();
                let same = outputs::is_folder(path, &known, identity, limits);
                return Ok(if same {
                    Status::Hit(identity)
                } else {
                    Status::Miss(Why::Other("it was changed since castoff wrote it".to_owned()))
                });
            }
            (_, Some(path)) => outputs::judge(trees, path, Some(inputs), self.request.force)?,
            (_, None) => Verdict::Replace(None),
        };
        Ok(match verdict {
            Verdict::Use(record) => Status::Hit(record.content),
            Verdict::Replace(None) => Status::Miss(Why::NeverMade),
            Verdict::Replace(Some(reason)) | Verdict::MoveAside(reason) => Status::Miss(Why::Other(reason)),
        })
    }
}

impl Answers for Store<'_> {
    fn known(&self, identity: Digest) -> Option<Known> {
        // A record that cannot be read is none: what it stood for is made again.
        let record = self.trees.filter(|_| !self.request.force)?.record(identity).ok()??;
        Some(Known {
            tree: record.trees(),
            after: record.after,
            ages: record.ages,
            made: record.made,
            inputs: Inputs(record.inputs),
        })
    }

    fn last(&self, slot: &str) -> Option<Inputs> {
        self.trees?.last(slot).ok()?.map(Inputs)
    }

    fn now_and_ttl(&self) -> (i64, i64) {
        let seconds = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
        (seconds(clock::now().as_secs()), seconds(self.surroundings.config.build.archive_ttl.as_secs()))
    }

    fn output(&self, output: &Output, inputs: &Inputs) -> Status {
        self.output_status(output, inputs).unwrap_or_else(|error| Status::Miss(Why::Other(error.message().to_owned())))
    }
}
