//! From images as they are written to plans.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::action::Setting;
use super::document::Image;
use super::size::{self, Written};
use super::{Forest, IMAGES, Sights};
use crate::disk;
use crate::error::Result;
use crate::front::archive::Archive;
use crate::plan::{
    Action, Base, Bootstrap, Disk, Form, Format, Layout, Output, PackageName, Plan, PlanName, Plans, Problem, Size,
    Step, Variant,
};

/// The size of an image that begins with packages and does not say its own.
const DEFAULT_SIZE: u64 = 8 << 30;

/// What a forest does not say itself.
#[derive(Clone, Debug)]
pub struct ForestOptions {
    /// Its folder.
    pub dir: PathBuf,
    /// The suite that images begin with, and where its packages come from; none where nothing begins with packages.
    pub archive: Option<Archive>,
    /// The architecture in Debian's words.
    pub architecture: String,
}

impl Forest {
    /// The plans, or all that is wrong; and what is odd about them, in words.
    pub fn lower(&self, options: &ForestOptions, sights: &Sights) -> Result<(Plans, Vec<String>)> {
        let mut problems = self.problems.clone();
        let by_name: BTreeMap<&str, &Image> =
            self.images.iter().rev().filter_map(|image| Some((image.name.as_ref()?.value.as_str(), image))).collect();
        let mut lowering = Lowering {
            options,
            sights,
            by_name,
            problems: &mut problems,
            notes: self.notes.clone(),
            chains: BTreeMap::new(),
        };
        let plans: Vec<Plan> = self.images.iter().filter_map(|image| lowering.image(image)).collect();
        let notes = lowering.notes;
        self.whole(plans, problems).map(|plans| (plans, notes))
    }
}

/// What an image has of those it builds on.
#[derive(Clone, Copy)]
struct Inherited {
    size: Size,
    bootable: bool,
}

struct Lowering<'a> {
    options: &'a ForestOptions,
    sights: &'a Sights,
    by_name: BTreeMap<&'a str, &'a Image>,
    problems: &'a mut Vec<Problem>,
    notes: Vec<String>,
    /// What is known already, by name.
    chains: BTreeMap<&'a str, Inherited>,
}

impl<'a> Lowering<'a> {
    fn image(&mut self, image: &'a Image) -> Option<Plan> {
        let name = image.name.as_ref().and_then(|name| name.parsed::<PlanName>(self.problems));
        let packages: Vec<PackageName> =
            image.packages.iter().filter_map(|package| package.parsed(self.problems)).collect();
        let setting = Setting { dir: &self.options.dir, kernels: &self.sights.kernels };
        let actions: Vec<Step> =
            image.actions.iter().flat_map(|action| action.steps(&setting, self.problems)).collect();
        let written = self.size(image);
        self.told(image);
        let (base, own) = match &image.parent {
            None => (self.bootstrap(image, &packages), None),
            Some(_) => (self.parent(image), Some(packages)),
        };
        let inherited = self.inherited(image, written);
        if let (Some(size), Some(_)) = (&image.size, written) {
            self.problems.extend(outside(inherited.size).map(|what| size.problem(format!("`{}` {what}", size.value))));
        }
        let install = own.filter(|packages| !packages.is_empty());
        let install = install.map(|install| Step::new(Action::Packages { install, recommends: None }));
        let name = name?;
        let disk = Disk { layout: layout(inherited.bootable), format: format(name.as_str()), size: inherited.size };
        let path = self.options.dir.join(IMAGES).join(name.as_str());
        Some(Plan {
            name,
            // What is wrong is told: what builds on it need not be.
            base: base.unwrap_or(Base::Empty),
            steps: install.into_iter().chain(actions).collect(),
            outputs: vec![Output { form: Form::Disk(disk), path: Some(path) }],
            place: image.whole.place.clone(),
        })
    }

    fn size(&mut self, image: &Image) -> Option<Written> {
        let written = image.size.as_ref()?;
        match size::parse(&written.value) {
            Ok(size) => Some(size),
            Err(why) => {
                self.problems.push(written.problem(why));
                None
            }
        }
    }

    /// Tells what is written and means nothing, or not what it seems to.
    fn told(&mut self, image: &Image) {
        if let (Some(parent), Some(own)) = (&image.parent, &image.bootable)
            && self.by_name.contains_key(parent.value.as_str())
            && self.chain(image).is_some_and(|inherited| inherited.bootable != own.value)
        {
            let what = format!("means nothing where an image has a parent: it boots as `{}` does", parent.value);
            self.notes.push(format!("{}: `{}` {what}", own.place, own.field));
        }
        for action in &image.actions {
            self.notes.extend(action.note());
        }
    }

    /// A suite with its packages.
    fn bootstrap(&mut self, image: &Image, packages: &[PackageName]) -> Option<Base> {
        let Some(archive) = &self.options.archive else {
            self.problems.push(image.whole.problem("begins with packages, and no archive of packages is known"));
            return None;
        };
        let bootable = self.bootable(image);
        if let Some(wish) = &image.bootable
            && wish.value
            && !self.is_bios()
        {
            let what =
                format!("the boot loader of such disks is for BIOS, which {} has not", self.options.architecture);
            self.problems.push(wish.problem(what));
        }
        let kernel = archive.kernel(&self.options.architecture).filter(|_| bootable);
        Some(Base::Bootstrap(Bootstrap {
            suite: archive.suite.clone(),
            sources: archive.sources.clone(),
            architecture: self.options.architecture.clone(),
            variant: Variant::Important,
            packages: kernel.into_iter().chain(packages.iter().cloned()).collect(),
        }))
    }

    /// Another image of the forest, or a disk that is there.
    fn parent(&mut self, image: &Image) -> Option<Base> {
        let parent = image.parent.as_ref()?;
        let name: PlanName = parent.parsed(self.problems)?;
        if self.by_name.contains_key(name.as_str()) {
            return Some(Base::Plan(name));
        }
        let path = self.options.dir.join(IMAGES).join(name.as_str());
        match self.sights.disks.get(&name) {
            Some(Ok(disk)) => {
                let images = self.options.dir.join(IMAGES);
                // It is replaced while others read it.
                if let Some(own) = self.by_name.keys().find(|own| images.join(own) == disk.path) {
                    let what = format!("`{name}` is a link to `{own}`, an image of this file: name that one");
                    self.problems.push(parent.problem(what));
                    return None;
                }
                return Some(Base::Disk(disk.path.clone()));
            }
            Some(Err(why)) => {
                self.problems.push(parent.problem(why));
                return None;
            }
            None => {}
        }
        let like = crate::vocab::nearest(name.as_str(), self.by_name.keys().copied());
        let like = like.first().map(|like| format!(", did you mean `{like}`?")).unwrap_or_default();
        let what = format!("`{name}` is neither an image of this file nor the disk `{}`{like}", path.display());
        self.problems.push(parent.problem(what));
        None
    }

    fn is_bios(&self) -> bool {
        matches!(self.options.architecture.as_str(), "amd64" | "i386")
    }

    fn bootable(&self, image: &Image) -> bool {
        image.bootable.as_ref().map_or_else(|| self.is_bios(), |bootable| bootable.value)
    }

    fn inherited(&mut self, image: &'a Image, written: Option<Written>) -> Inherited {
        let before = self.chain(image);
        let inherited = self.own(image, written, before);
        if let Some(name) = &image.name {
            self.chains.entry(name.value.as_str()).or_insert(inherited);
        }
        inherited
    }

    /// What the image has of its parent; none where it has no declared one.
    fn chain(&mut self, image: &Image) -> Option<Inherited> {
        let mut above: Vec<&'a Image> = Vec::new();
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut known = None;
        let mut at = image.parent.as_ref().and_then(|parent| self.by_name.get(parent.value.as_str())).copied();
        while let Some(parent) = at {
            let Some(name) = &parent.name else { break };
            known = self.chains.get(name.value.as_str()).copied();
            // A cycle is told elsewhere.
            if known.is_some() || !seen.insert(&name.value) {
                break;
            }
            above.push(parent);
            at = parent.parent.as_ref().and_then(|parent| self.by_name.get(parent.value.as_str())).copied();
        }
        for parent in above.into_iter().rev() {
            let written = parent.size.as_ref().and_then(|size| size::parse(&size.value).ok());
            let inherited = self.own(parent, written, known);
            if let Some(name) = &parent.name {
                self.chains.insert(name.value.as_str(), inherited);
            }
            known = Some(inherited);
        }
        known
    }

    fn own(&self, image: &Image, written: Option<Written>, parent: Option<Inherited>) -> Inherited {
        let Some(parent) = parent else {
            return match &image.parent {
                None => Inherited { size: of_root(written), bootable: self.bootable(image) },
                Some(_) => Inherited { size: after(Size::BaseAnd(0), written), bootable: self.as_the_disk(image) },
            };
        };
        Inherited { size: after(parent.size, written), bootable: parent.bootable }
    }

    /// Whether an image whose parent is a disk boots: as it says itself, else as the disk does. Where nobody can tell, it
    /// does not: a boot loader needs a kernel, which such a disk need not have.
    fn as_the_disk(&self, image: &Image) -> bool {
        if let Some(own) = &image.bootable {
            return own.value;
        }
        let disk = image.parent.as_ref().and_then(|parent| parent.value.parse::<PlanName>().ok());
        let seen = disk.and_then(|disk| self.sights.disks.get(&disk)).and_then(|seen| seen.as_ref().ok());
        seen.and_then(|seen| seen.boots).unwrap_or(false)
    }
}

/// What is wrong with a size that no disk can have; how large an existing disk is shows only when it is read.
fn outside(size: Size) -> Option<String> {
    match size {
        Size::Exactly(bytes) if bytes < disk::LEAST => {
            Some(format!("makes a disk that is too small: {} bytes are the least", disk::LEAST))
        }
        Size::Exactly(bytes) | Size::BaseAnd(bytes) if bytes > disk::MOST => {
            Some(format!("makes a disk that is too large: {} bytes are the most", disk::MOST))
        }
        _ => None,
    }
}

/// guestfish takes a `+` before a size for nothing.
fn of_root(written: Option<Written>) -> Size {
    match written {
        None => Size::Exactly(DEFAULT_SIZE),
        Some(Written::Whole(bytes) | Written::More(bytes)) => Size::Exactly(bytes),
    }
}

fn after(parent: Size, written: Option<Written>) -> Size {
    match (written, parent) {
        (None, parent) => parent,
        (Some(Written::Whole(bytes)), _) => Size::Exactly(bytes),
        (Some(Written::More(more)), Size::Exactly(bytes)) => Size::Exactly(bytes.saturating_add(more)),
        (Some(Written::More(more)), Size::BaseAnd(bytes)) => Size::BaseAnd(bytes.saturating_add(more)),
        (Some(Written::More(more)), Size::Fitting) => Size::BaseAnd(more),
    }
}

fn layout(bootable: bool) -> Layout {
    if bootable { Layout::WholeBootable } else { Layout::Whole }
}

/// The format that a file's name tells, in lower case as lvh looks at it.
#[expect(clippy::case_sensitive_file_extension_comparisons, reason = "`X.QCOW2` is raw for lvh")]
fn format(name: &str) -> Format {
    if name.ends_with(".qcow2") { Format::Qcow2 } else { Format::Raw }
}
