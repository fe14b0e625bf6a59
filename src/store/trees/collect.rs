//! Garbage collection and verification of trees.
//!
//! Records go first, then the layers that no record and no living build needs: killed in between, the next run finds
//! layers nothing points to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::record::now;
use super::{Layer, Record, Trees};
use crate::error::Result;
use crate::host::{fault, fs};
use crate::progress::{Progress, Unit};
use crate::rootfs::Limits;
use crate::vocab::{Digest, Value};

/// What a collection of trees removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreesReport {
    /// How many results of steps.
    pub records: usize,
    /// How many layers.
    pub layers: usize,
    /// The bytes of layers and failed trees.
    pub bytes: u64,
    /// How many trees of failed steps.
    pub failed: usize,
    /// The bytes of the layers and failed trees that stay.
    pub size: u64,
}

/// What a check of the trees found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TreesVerified {
    /// How many layers were read.
    pub layers: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong: a layer or a record, and how.
    pub mismatches: Vec<(String, String)>,
}

impl TreesReport {
    /// The report as a function gives it back.
    pub fn to_value(&self) -> Value {
        Value::map([
            ("records", Value::from(self.records)),
            ("layers", self.layers.into()),
            ("bytes", self.bytes.into()),
            ("failed", self.failed.into()),
            ("size", self.size.into()),
        ])
    }
}

/// The longest path of a folder whose entries can be named (PATH_MAX without a name, limits.h).
const DEEPEST: usize = 4096 - 258;

/// A tree of a failed step and its bytes.
type FailedTree = (PathBuf, u64);

fn sum<'a>(trees: impl IntoIterator<Item = &'a FailedTree>) -> u64 {
    trees.into_iter().map(|(_, bytes)| bytes).sum()
}

/// What the files below a folder take on the disk; what is deeper than a path may be long counts nothing.
fn bytes_in(folder: &Path) -> Result<u64> {
    let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        if folder.as_os_str().len() > DEEPEST {
            continue;
        }
        for name in fs::list(&folder)? {
            let path = folder.join(name);
            let Some(metadata) = fs::link_metadata(&path)? else { continue };
            bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    Ok(bytes)
}

impl Trees {
    /// Removes results that nobody used and failed trees that nobody touched for `max_age` seconds; then, while all takes
    /// more than `max_size`, the oldest failed trees and the results used longest ago; then the layers that nothing needs.
    pub fn collect(&self, max_size: Option<u64>, max_age: Option<u64>, dry_run: bool) -> Result<TreesReport> {
        let _lock = self.exclusive()?;
        let leased = super::super::lease::living(&self.path("leases"))?;
        let there = self.layers_there()?;
        let mut records = self.records()?;
        // What lies upon others goes before them: of one use, the tree of most layers first.
        let layers = |record: &Option<Record>| {
            record.iter().flat_map(|record| record.layers.values()).map(Vec::len).sum::<usize>()
        };
        records.sort_by_key(|(_, record, used)| (std::cmp::Reverse(*used), layers(record)));
        let oldest = max_age.map(|age| now().saturating_sub(i64::try_from(age).unwrap_or(i64::MAX)));
        let mut gone: Vec<Digest> = Vec::new();
        let mut kept: Vec<(Digest, BTreeSet<Digest>)> = Vec::new();
        for (identity, record, used) in records {
            match record {
                Some(record) if oldest.is_none_or(|oldest| used >= oldest) => {
                    kept.push((identity, record.layers.into_values().flatten().collect()));
                }
                _ => gone.push(identity),
            }
        }
        let size = |needed: &BTreeSet<Digest>| needed.iter().filter_map(|layer| there.get(layer)).sum::<u64>();
        let needed = |kept: &[(Digest, BTreeSet<Digest>)]| -> BTreeSet<Digest> {
            kept.iter().flat_map(|(_, layers)| layers).chain(&leased).copied().collect()
        };
        let mut stay = needed(&kept);
        let (mut failed, mut shown) = self.failed_trees(oldest)?;
        while max_size.is_some_and(|limit| size(&stay) + sum(&shown) > limit) {
            if let Some(tree) = shown.pop_front() {
                failed.push(tree);
                continue;
            }
            let Some((identity, _)) = kept.pop() else { break };
            gone.push(identity);
            stay = needed(&kept);
        }
        let garbage: BTreeMap<Digest, u64> =
            there.iter().filter(|(layer, _)| !stay.contains(layer)).map(|(layer, bytes)| (*layer, *bytes)).collect();
        let report = TreesReport {
            records: gone.len(),
            layers: garbage.len(),
            bytes: garbage.values().sum::<u64>() + sum(&failed),
            failed: failed.len(),
            size: size(&stay) + sum(&shown),
        };
        if !dry_run {
            for identity in gone {
                fs::remove_file(&self.record_path(identity))?;
            }
            fault::point("trees.gc.after-records");
            for layer in garbage.keys() {
                // Out of sight first, so that half a layer is never taken for one.
                let place = fs::TempDir::inside(&self.path("run"))?;
                fs::rename(&self.layer_folder(*layer), &place.path().join("layer"))?;
            }
            if let Some(oldest) = oldest {
                self.forget_places(oldest)?;
            }
            for (tree, _) in failed {
                fs::remove_dir_all(&tree)?;
            }
        }
        Ok(report)
    }

    /// Forgets places of plans that were not built for long, and files that are gone.
    fn forget_places(&self, oldest: i64) -> Result<()> {
        for folder in ["slots", "spaces"] {
            let folder = self.path(folder);
            if !fs::exists(&folder)? {
                continue;
            }
            for name in fs::list(&folder)? {
                let path = folder.join(name);
                let Some(metadata) = fs::link_metadata(&path)? else { continue };
                if metadata.mtime() < oldest {
                    fs::remove_file(&path)?;
                }
            }
        }
        self.forget_gone_outputs()
    }

    /// Failed trees and their bytes, oldest first: those that nobody touched since, and the others.
    fn failed_trees(&self, oldest: Option<i64>) -> Result<(Vec<FailedTree>, VecDeque<FailedTree>)> {
        let (mut old, mut young) = (Vec::new(), VecDeque::new());
        for tree in self.failed()? {
            let Some(metadata) = fs::link_metadata(&tree)? else { continue };
            let is_old = oldest.is_some_and(|oldest| metadata.ctime() < oldest);
            let bytes = bytes_in(&tree)?;
            if is_old { old.push((tree, bytes)) } else { young.push_back((tree, bytes)) }
        }
        Ok((old, young))
    }

    /// Reads every layer and compares it with its name; others may build meanwhile.
    pub fn verify(&self, limits: Limits, progress: &Progress) -> Result<TreesVerified> {
        let there = {
            let _lock = self.shared()?;
            self.layers_there()?
        };
        let mut report = TreesVerified::default();
        let mut stage = progress.stage("verifying trees", Some(there.values().sum()), Unit::Bytes);
        for digest in there.keys() {
            let read = Layer::read(&self.layer(*digest), limits, &mut |count| {
                stage.advance(count);
                Ok(())
            });
            match read {
                Ok(found) => {
                    report.layers += 1;
                    report.bytes += found.bytes;
                    if found.digest != *digest {
                        report.mismatches.push((
                            digest.to_string(),
                            format!(
                                "its content has the digest `{}`: `force=True` makes what was built with it anew",
                                found.digest
                            ),
                        ));
                    }
                }
                // Collected meanwhile.
                Err(_) if !fs::exists(&self.layer(*digest))? => {}
                Err(error) => report.mismatches.push((digest.to_string(), error.message().to_owned())),
            }
        }
        Ok(report)
    }
}
