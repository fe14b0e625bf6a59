//! Garbage collection and verification of trees, by whoever may touch them: an ordinary user's trees belong to ids that only
//! a user namespace gives.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::order::{Collect, Order, Verify};
use crate::engine::Surroundings;
use crate::error::Result;
use crate::host::{clock, fs};
use crate::progress::Cancel;
use crate::rootfs::Limits;
use crate::sandbox::worker::{Ids, Port, Worker};
use crate::store::trees::{Trees, TreesReport, TreesVerified};

/// Removes results of steps that nobody needs; none where nothing was ever built.
pub fn collect(surroundings: &Surroundings<'_>, dry_run: bool) -> Result<Option<TreesReport>> {
    let config = surroundings.config;
    let root = config.state_dir.join("trees");
    if Trees::existing(&root)?.is_none() {
        return Ok(None);
    }
    let max_age = config.build.keep_days.map(|days| u64::from(days) * 86_400);
    let order = Collect { trees: root, max_size: config.build.max_size, max_age, dry_run };
    let worker = Worker::start("build", &Order::Collect(order), &Ids::of_this_process()?)?;
    worker.finish(surroundings.progress, &Cancel::new(), |_| Ok(())).map(Some)
}

/// Removes what builds keep beside trees and have not used for so many seconds: archives with their lists and packages,
/// caches of steps, digests of files.
fn forget_unused(state: &Path, age: u64) -> Result<()> {
    let oldest = i64::try_from(clock::now().as_secs().saturating_sub(age)).unwrap_or(i64::MAX);
    // By the times of an entry itself, or of a file in it.
    let unused = |folder: &str, witness: Option<&str>| -> Result<Vec<PathBuf>> {
        let folder = state.join(folder);
        if !fs::exists(&folder)? {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for name in fs::list(&folder)? {
            let path = folder.join(name);
            if let Some(metadata) =
                fs::link_metadata(&witness.map_or_else(|| path.clone(), |witness| path.join(witness)))?
                && metadata.mtime() < oldest
            {
                found.push(path);
            }
        }
        Ok(found)
    };
    {
        let lock = state.join("archives/lock");
        let _nobody_looks = if fs::exists(&lock)? { Some(fs::Lock::exclusive(&lock)?) } else { None };
        // It is written at every look.
        for archive in unused("archives", Some("fetched"))? {
            fs::remove_dir_all(&archive)?;
        }
    }
    for cache in unused("caches", None)? {
        fs::remove_dir_all(&cache)?;
    }
    for digest in unused("digests", None)? {
        fs::remove_file(&digest)?;
    }
    Ok(())
}

/// Reads every tree and compares it with its name; none where nothing was ever built.
pub fn verify(surroundings: &Surroundings<'_>) -> Result<Option<TreesVerified>> {
    let root = surroundings.config.state_dir.join("trees");
    if Trees::existing(&root)?.is_none() {
        return Ok(None);
    }
    let order = Order::Verify(Verify { trees: root, entries: surroundings.config.limit_entries });
    let worker = Worker::start("build", &order, &Ids::of_this_process()?)?;
    worker.finish(surroundings.progress, &Cancel::new(), |_| Ok(())).map(Some)
}

pub(super) fn collect_inside(order: &Collect) -> Result<TreesReport> {
    let trees = Trees::open(&order.trees)?;
    if !order.dry_run {
        trees.sweep()?;
    }
    let report = trees.collect(order.max_size, order.max_age, order.dry_run)?;
    if !order.dry_run
        && let Some(age) = order.max_age
    {
        forget_unused(fs::parent(&order.trees), age)?;
    }
    Ok(report)
}

pub(super) fn verify_inside(order: &Verify, port: &Port) -> Result<TreesVerified> {
    let limits = Limits { entries: order.entries, ..Limits::default() };
    Trees::open(&order.trees)?.verify(limits, &port.progress())
}
