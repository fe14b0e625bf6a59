//! Which patches a publisher keeps.

/// A patch is kept while it has at most this many per cent of the full file's bytes.
pub const PATCH_PERCENT: u64 = 60;

/// Whether a patch of this size is worth publishing beside a full file of that size.
pub fn worth_keeping(patch: u64, full: u64) -> bool {
    u128::from(patch) * 100 <= u128::from(full) * u128::from(PATCH_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::worth_keeping;

    #[test]
    fn a_patch_over_sixty_per_cent_is_dropped() {
        for (patch, full, expected) in
            [(60, 100, true), (61, 100, false), (0, 0, true), (1, 1, false), (u64::MAX, u64::MAX, false)]
        {
            assert_eq!(worth_keeping(patch, full), expected, "{patch} of {full}");
        }
    }
}
