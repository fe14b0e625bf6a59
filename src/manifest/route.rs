//! The cheapest way from what a host holds to the bare tar it wants: over patches, or the full file.

use std::collections::{BTreeMap, BTreeSet};

use super::Patch;
use crate::vocab::DiffId;

/// The most patches that are applied one after another.
pub const MOST_HOPS: usize = 3;

/// What a way may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteLimits {
    /// The most patches, never more than [`MOST_HOPS`].
    pub hops: usize,
    /// The largest bare tar that a patch may make: its base has to be held in memory.
    pub tar: u64,
}

impl Default for RouteLimits {
    fn default() -> Self {
        Self { hops: MOST_HOPS, tar: 1 << 30 }
    }
}

/// How to come by a bare tar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// It is held already.
    Held,
    /// By these patches in this order, the first applied to something that is held.
    Patches(Vec<&'a Patch>),
    /// By the full file: nothing cheaper leads there.
    Full,
}

impl Route<'_> {
    /// The bytes to fetch, where the full file has `full`.
    pub fn bytes(&self, full: u64) -> u64 {
        match self {
            Self::Held => 0,
            Self::Patches(patches) => patches.iter().fold(0, |sum: u64, patch| sum.saturating_add(patch.size)),
            Self::Full => full,
        }
    }
}

/// A way so far: its bytes, then its patches; so ordered that equal costs have one winner.
type Way<'a> = (u64, Vec<&'a Patch>);

/// The way with the fewest bytes, then the fewest patches, then the smallest patches in their own order.
///
/// The full file wins when no way has fewer bytes than it.
pub fn route<'a>(
    held: &BTreeSet<DiffId>,
    wanted: DiffId,
    patches: &'a [Patch],
    full: u64,
    limits: RouteLimits,
) -> Route<'a> {
    if held.contains(&wanted) {
        return Route::Held;
    }
    // After round N: the cheapest way of exactly N patches to each tar (Bellman and Ford, cut at the hops).
    let mut reached: BTreeMap<DiffId, Way<'a>> = held.iter().map(|diff_id| (*diff_id, (0, Vec::new()))).collect();
    let mut best: Option<Way<'a>> = None;
    for _ in 0..limits.hops.min(MOST_HOPS) {
        let mut next: BTreeMap<DiffId, Way<'a>> = BTreeMap::new();
        for patch in patches.iter().filter(|patch| patch.to_size <= limits.tar) {
            let Some((bytes, way)) = reached.get(&patch.from) else { continue };
            let bytes = bytes.saturating_add(patch.size);
            if bytes >= full {
                continue;
            }
            let candidate = (bytes, way.iter().copied().chain([patch]).collect::<Vec<_>>());
            match next.get(&patch.to) {
                Some(known) if *known <= candidate => {}
                _ => {
                    next.insert(patch.to, candidate);
                }
            }
        }
        // A longer way must have fewer bytes.
        if let Some(way) = next.get(&wanted)
            && best.as_ref().is_none_or(|best| way.0 < best.0)
        {
            best = Some(way.clone());
        }
        reached = next;
    }
    best.map_or(Route::Full, |(_, way)| Route::Patches(way))
}
