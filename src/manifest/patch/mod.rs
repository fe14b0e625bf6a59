//! Patches between bare tars: zstd frames whose window begins with the base, as `zstd --patch-from` makes and takes them.
//!
//! Made only where it pays, applied only within what the manifest says: a patch that would unfold to anything but the
//! announced size is refused before a byte of it is written. Base and window have to be in memory; [`PatchLimits`] says
//! how much of that there may be.

mod apply;
mod make;

use crate::error::{Error, Kind, Result};

pub use apply::apply;
pub use make::make;

/// A patch is kept while it has at most this many per cent of the full file's bytes.
pub const PATCH_PERCENT: u64 = 60;

/// Whether a patch of this size is worth publishing beside a full file of that size.
pub fn worth_keeping(patch: u64, full: u64) -> bool {
    patch <= most_worth(full)
}

/// The most bytes of a patch that is worth publishing beside a full file of that size.
pub fn most_worth(full: u64) -> u64 {
    u64::try_from(u128::from(full) * u128::from(PATCH_PERCENT) / 100).unwrap_or(u64::MAX)
}

/// What making or applying a patch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchLimits {
    /// The largest tar, before or after. Both may be in memory at once, and the encoder's tables: the window is as large as
    /// the larger one, rounded up to a power of two at most.
    pub tar: u64,
}

impl Default for PatchLimits {
    fn default() -> Self {
        Self { tar: 1 << 30 }
    }
}

/// The window that covers base and target, as `zstd --patch-from` chooses it: the logarithm of its bytes.
fn window_log(base: u64, target: u64, limits: PatchLimits) -> Result<u32> {
    let larger = base.max(target);
    if larger > limits.tar.min(1 << 31) {
        let most = limits.tar.min(1 << 31);
        return Err(Error::new(Kind::Limit, format!("a tar of {larger} bytes is too large to patch"))
            .caused_by(format!("the limit is {most} bytes"))
            .hint("raise `sync.patch_limit` if this host has the memory: base and result are held in it"));
    }
    Ok((larger.max(1).ilog2() + 1).clamp(10, 31))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_over_sixty_per_cent_is_dropped() {
        for (patch, full, expected) in
            [(60, 100, true), (61, 100, false), (0, 0, true), (1, 1, false), (u64::MAX, u64::MAX, false)]
        {
            assert_eq!(worth_keeping(patch, full), expected, "{patch} of {full}");
        }
    }

    #[test]
    fn the_window_covers_both_tars_and_the_limit_holds() {
        let limits = PatchLimits::default();
        assert_eq!(window_log(170_393_600, 172_800_000, limits).unwrap(), 28);
        assert_eq!(window_log(0, 0, limits).unwrap(), 10);
        assert_eq!(window_log(1 << 30, 1, limits).unwrap(), 31);
        assert_eq!(window_log((1 << 30) + 1, 1, limits).unwrap_err().kind(), Kind::Limit);
        assert_eq!(window_log(1, u64::MAX, PatchLimits { tar: u64::MAX }).unwrap_err().kind(), Kind::Limit);
    }
}
