//! Removing files that nobody is told of any more.
//!
//! Kept: whatever one of the last K manifests in the branch's history names, the announced one first among them, and the
//! files of releases under way. A manifest that cannot be read keeps everything from being removed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Setup, Standing, Story, lock};
use crate::error::{Context as _, Result};
use crate::manifest::{Compression, Manifest, Paths, archive_name};
use crate::publish::{RemoteName, open};
use crate::vocab::{Flavour, OsImage};

/// What was, or would be, removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files that stay, by name.
    pub kept: BTreeSet<String>,
    /// Files that were there and went, by target.
    pub removed: BTreeMap<String, Vec<String>>,
}

/// Removes the files of all but the last `keep` releases from every target; with `dry` only says which.
pub fn prune(setup: &Setup, image: &OsImage, flavour: &Flavour, keep: u32, dry: bool) -> Result<Pruned> {
    // No release of this host begins while it is decided what nobody needs.
    let _lock = lock::lock(setup.state(), image, flavour)?;
    let (kept, old) = sorted(setup, image, flavour, keep)?;
    let mut pruned = Pruned { kept, removed: BTreeMap::new() };
    for target in &setup.targets {
        let doing = || format!("cannot prune the target `{}`", target.name);
        let mut store = open(&target.target, &target.access, &setup.operator, &setup.cancel).context(doing)?;
        let removed = pruned.removed.entry(target.name.clone()).or_default();
        for file in &old {
            setup.cancel.check()?;
            let name: RemoteName = file.parse()?;
            let there = store.size_of((&name).into()).context(doing)?.is_some();
            if there && (dry || store.remove(&name).context(doing)?) {
                removed.push(file.clone());
            }
        }
    }
    if !dry {
        // What was announced meanwhile must not have named any of it.
        let (kept, _) = sorted(setup, image, flavour, keep)?;
        for lost in pruned.removed.values().flatten().filter(|file| kept.contains(*file)) {
            setup.progress.warn(format!("`{lost}` was removed and announced again at the same moment"));
        }
    }
    Ok(pruned)
}

/// The files to keep, and those that may go.
fn sorted(
    setup: &Setup,
    image: &OsImage,
    flavour: &Flavour,
    keep: u32,
) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let path = Paths::new(image, flavour).manifest;
    let mut manifests = Vec::new();
    for version in setup.git.history(&path, usize::MAX)? {
        let doing = || format!("cannot tell what the manifest in {} names", version.commit);
        manifests.push(Manifest::parse(version.text.as_bytes()).context(doing)?);
    }
    let announced = Standing::read(setup, image, flavour)?.manifest;
    manifests.sort_by_key(|manifest| std::cmp::Reverse(manifest.version));
    let recent = manifests.iter().take(keep.max(1) as usize);
    let mut kept: BTreeSet<String> = recent.chain(announced.iter()).flat_map(files).collect();
    let mut all: BTreeSet<String> = manifests.iter().flat_map(files).collect();
    let open = setup.journals.open_numbers(image, flavour)?;
    for number in setup.journals.numbers(image, flavour)? {
        let records = setup.journals.read(image, flavour, number)?;
        let mut own = Vec::new();
        for kind in [Compression::Xz, Compression::Zstd] {
            own.push(archive_name(image, flavour, number, kind)?.to_string());
        }
        if let Some(freight) = Story(&records).freight()? {
            own.extend(files(&freight.manifest(image, flavour, number)?));
        }
        for name in own {
            if open.contains(&number) {
                kept.insert(name);
            } else if Story(&records).may_be_named() {
                all.insert(name);
            }
        }
    }
    let old = all.difference(&kept).cloned().collect();
    Ok((kept, old))
}

fn files(manifest: &Manifest) -> Vec<String> {
    manifest.files().map(|file| file.name.to_string()).collect()
}
