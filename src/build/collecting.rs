//! Garbage collection and verification of trees, by whoever may touch them: an ordinary user's trees belong to ids that only
//! a user namespace gives.

use super::order::{Collect, Order, Verify};
use crate::engine::Surroundings;
use crate::error::Result;
use crate::host::fs;
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
    let report = worker.finish(surroundings.progress, &Cancel::new(), |_| Ok(()))?;
    if !dry_run && let Some(age) = max_age {
        old_packages(&config.state_dir.join("archives/pool"), age)?;
    }
    Ok(Some(report))
}

/// Packages that no build took for so long.
fn old_packages(pool: &std::path::Path, age: u64) -> Result<()> {
    if !fs::exists(pool)? {
        return Ok(());
    }
    let oldest = i64::try_from(crate::host::clock::now().as_secs().saturating_sub(age)).unwrap_or(i64::MAX);
    for name in fs::list(pool)? {
        let path = pool.join(name);
        // Every build that links a package changes its inode.
        if let Some(metadata) = fs::link_metadata(&path)?
            && std::os::unix::fs::MetadataExt::ctime(&metadata) < oldest
        {
            fs::remove_file(&path)?;
        }
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
    trees.collect(order.max_size, order.max_age, order.dry_run)
}

pub(super) fn verify_inside(order: &Verify, port: &Port) -> Result<TreesVerified> {
    let limits = Limits { entries: order.entries, ..Limits::default() };
    Trees::open(&order.trees)?.verify(limits, &port.progress())
}
