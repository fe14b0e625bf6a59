//! Removing files that nobody is told of any more.
//!
//! Kept: whatever one of the last K releases in the branch's history names, the announced one first among them, and the
//! files of releases under way. A manifest that cannot be read keeps everything from being removed, and so does a file
//! that is not what castoff put there.

use std::collections::{BTreeMap, BTreeSet};

use super::journal::Subject;
use super::state::{Phase, State};
use super::{Freight, ReleaseTarget, Setup, Standing, Story, lock, places};
use crate::error::{Context as _, Result};
use crate::manifest::{Listed, Manifest, Paths};
use crate::publish::{RemoteName, RemoteStore, Tier, open};
use crate::vocab::{Digest, FileName, Flavour, OsImage, ReleaseNumber};

/// What was, or would be, removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files that stay, by name.
    pub kept: BTreeSet<String>,
    /// Files that were there and went, by target.
    pub removed: BTreeMap<String, Vec<String>>,
    /// Files that are not what castoff put there, and were left alone, by target.
    pub foreign: BTreeMap<String, Vec<String>>,
}

/// What is known of the files of an image and flavour.
struct Sorted {
    kept: BTreeSet<String>,
    /// Files of old releases, with their size.
    old: BTreeMap<String, u64>,
    /// Files that were given a name at a target and never announced.
    never_announced: Vec<(Subject, (FileName, u64, Digest))>,
}

/// Removes the files of all but the last `keep` releases from every target; with `dry` only says which.
pub fn prune(setup: &Setup, image: &OsImage, flavour: &Flavour, keep: u32, dry: bool) -> Result<Pruned> {
    // No release of this host begins while it is decided what nobody needs.
    let _lock = lock::lock(setup.state(), image, flavour)?;
    let sorted = Sorted::read(setup, image, flavour, keep)?;
    let mut pruned = Pruned { kept: sorted.kept.clone(), ..Pruned::default() };
    for target in &setup.targets {
        let doing = || format!("cannot prune the target `{}`", target.name);
        let mut store = open(&target.target, &target.access, &setup.operator, &setup.cancel).context(doing)?;
        let (mut removed, mut foreign) = (Vec::new(), Vec::new());
        for (file, verdict) in sorted.judged(setup, target, store.as_mut()).context(doing)? {
            setup.cancel.check()?;
            let name: RemoteName = file.parse()?;
            match verdict {
                Verdict::Foreign => foreign.push(file),
                Verdict::Old if dry || store.remove(&name).context(doing)? => removed.push(file),
                Verdict::Old => {}
            }
        }
        for file in &foreign {
            let told = format!("`{file}` at {} is not what castoff put there: it is left alone", store.place());
            setup.progress.warn(told);
        }
        pruned.removed.insert(target.name.clone(), removed);
        if !foreign.is_empty() {
            pruned.foreign.insert(target.name.clone(), foreign);
        }
    }
    if !dry {
        // What was announced meanwhile must not have named any of it.
        let kept = Sorted::read(setup, image, flavour, keep)?.kept;
        for lost in pruned.removed.values().flatten().filter(|file| kept.contains(*file)) {
            setup.progress.warn(format!("`{lost}` was removed and announced again at the same moment"));
        }
    }
    Ok(pruned)
}

/// What is to become of a file at a target.
enum Verdict {
    Old,
    Foreign,
}

impl Sorted {
    fn read(setup: &Setup, image: &OsImage, flavour: &Flavour, keep: u32) -> Result<Self> {
        let path = Paths::new(image, flavour).manifest;
        let mut manifests = Vec::new();
        for version in setup.git.history(&path, usize::MAX)? {
            let doing = || format!("cannot tell what the manifest in {} names", version.commit);
            manifests.push(Manifest::parse(version.text.as_bytes()).context(doing)?);
        }
        manifests.extend(Standing::read(setup, image, flavour)?.manifest);
        // One number may have had several manifests: each of them counts, and together they are one release.
        let numbers: BTreeSet<ReleaseNumber> = manifests.iter().map(|manifest| manifest.version).collect();
        let recent: BTreeSet<ReleaseNumber> = numbers.into_iter().rev().take(keep.max(1) as usize).collect();
        let mut sorted = Self { kept: BTreeSet::new(), old: BTreeMap::new(), never_announced: Vec::new() };
        for manifest in &manifests {
            let names = files(manifest);
            if recent.contains(&manifest.version) {
                sorted.kept.extend(names.into_iter().map(|(name, _)| name));
            } else {
                sorted.old.extend(names);
            }
        }
        sorted.add_journals(setup, image, flavour)?;
        let Self { kept, old, .. } = &mut sorted;
        old.retain(|name, _| !kept.contains(name));
        let Self { kept, never_announced, .. } = &mut sorted;
        never_announced.retain(|(Subject { file, .. }, _)| !kept.contains(file));
        Ok(sorted)
    }

    /// What is under way stays; what was given up after it had its name was never announced.
    fn add_journals(&mut self, setup: &Setup, image: &OsImage, flavour: &Flavour) -> Result<()> {
        for number in setup.journals.numbers(image, flavour)? {
            let records = setup.journals.read(image, flavour, number)?;
            let story = Story(&records);
            let Some(freight) = story.freight()? else { continue };
            let manifest = freight.manifest(image, flavour, number)?;
            if story.ended().is_none() {
                self.kept.extend(manifest.files().map(|file| file.name.to_string()));
                continue;
            }
            if matches!(freight, Freight::Again(_)) {
                continue;
            }
            for target in &setup.targets {
                for file in manifest.files() {
                    let subject = Subject { target: target.name.clone(), file: file.name.to_string() };
                    if story.last_about(&subject, State::Named, Phase::Intent).is_some() {
                        self.never_announced.push((subject, (file.name.clone(), file.size, file.sha256)));
                    }
                }
            }
        }
        Ok(())
    }

    fn is_of_ours(&self, target: &ReleaseTarget, file: &str) -> bool {
        self.never_announced.iter().any(|(subject, _)| subject.target == target.name && subject.file == file)
    }

    /// The files at this target that nobody needs.
    fn judged(
        &self,
        setup: &Setup,
        target: &ReleaseTarget,
        store: &mut dyn RemoteStore,
    ) -> Result<Vec<(String, Verdict)>> {
        let mut judged = Vec::new();
        for (file, size) in &self.old {
            let name: RemoteName = file.parse()?;
            match store.size_of((&name).into())? {
                None => {}
                Some(found) if found == *size => judged.push((file.clone(), Verdict::Old)),
                // Two publishers may have had one number: ours was given up then.
                Some(_) if self.is_of_ours(target, file) => {}
                Some(_) => judged.push((file.clone(), Verdict::Foreign)),
            }
        }
        for (subject, (name, size, sha256)) in
            self.never_announced.iter().filter(|(subject, _)| subject.target == target.name)
        {
            let listed = Listed { name, size: *size, sha256: *sha256 };
            let name: RemoteName = subject.file.parse()?;
            if judged.iter().any(|(file, _)| *file == subject.file) {
                continue;
            }
            if store.size_of((&name).into())?.is_none() {
                continue;
            }
            // Somebody may have been faster to the name: only our own bytes are ours to remove.
            let verdict = match places::confirm(store, listed, Tier::ReadBack, &setup.progress) {
                Ok(_) => Verdict::Old,
                Err(error) if error.kind() == crate::error::Kind::Corrupt => Verdict::Foreign,
                Err(error) => return Err(error),
            };
            judged.push((subject.file.clone(), verdict));
        }
        Ok(judged)
    }
}

fn files(manifest: &Manifest) -> Vec<(String, u64)> {
    manifest.files().map(|file| (file.name.to_string(), file.size)).collect()
}
