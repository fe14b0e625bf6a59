//! How large a file system must be for a tree, and how many inodes and how large a journal one of a size gets.

use super::tree::{BLOCK, Need};

const MIB: u64 = 1 << 20;

/// Blocks of a group.
const GROUP: u64 = 32768;

/// Bytes of an inode.
const INODE: u64 = 256;

/// The least size of a file system made here.
const LEAST: u64 = 16 * MIB;

/// The size, in whole MiB, that surely holds the tree and leaves a twentieth and 16 MiB free.
pub(super) fn computed(need: Need) -> u64 {
    let content = need.blocks * BLOCK;
    let wanted = content + content / 20 + 16 * MIB;
    let mut size = LEAST;
    // Each round's overhead is that of a larger file system; it grows slower than the size does.
    loop {
        let enough = (wanted + overhead(size, inodes(size, need))).next_multiple_of(MIB);
        if enough <= size {
            return size;
        }
        size = enough;
    }
}

/// Inodes: one for 16 KiB, as mke2fs makes them, but enough for the tree and some more.
pub(super) fn inodes(size: u64, need: Need) -> u64 {
    (size / 16384).max(need.inodes + need.inodes / 8 + 256)
}

/// The journal in MiB: small for what is small.
pub(super) fn journal(size: u64) -> u64 {
    match size / MIB {
        0..128 => 4,
        128..1024 => 16,
        1024..2048 => 32,
        2048..16384 => 64,
        16384..32768 => 128,
        _ => 256,
    }
}

/// Inode tables, bitmaps, group descriptors with their copies and what is reserved for growing, and the journal.
pub(super) fn overhead(size: u64, inodes: u64) -> u64 {
    let groups = (size / BLOCK).div_ceil(GROUP).max(1);
    let descriptors = groups.div_ceil(64);
    let reserved = (groups * 1000).div_ceil(64).min(1024);
    let copies = 2 + [3, 5, 7].iter().map(|base| powers(*base, groups)).sum::<u64>();
    let tables = inodes * INODE + groups * 2 * BLOCK;
    let blocks = groups * 2 + copies * (1 + descriptors + reserved) + 64;
    tables + blocks * BLOCK + journal(size) * MIB
}

/// How many groups below `groups` have a power of `base` as their number.
fn powers(base: u64, groups: u64) -> u64 {
    std::iter::successors(Some(base), |power| power.checked_mul(base)).take_while(|power| *power < groups).count()
        as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_computed_size_has_room_for_content_and_overhead_and_is_no_larger_than_needed() {
        for (inodes_needed, blocks) in [(11, 16), (25_000, 200_000), (3_000_000, 10), (10, 300_000_000)] {
            let need = Need { inodes: inodes_needed, blocks };
            let size = computed(need);
            assert_eq!(size % MIB, 0);
            assert!(size >= blocks * BLOCK + overhead(size, inodes(size, need)), "{need:?}");
            assert!(size <= blocks * BLOCK / 10 * 12 + inodes_needed * 600 + 800 * MIB, "{need:?}: {size}");
        }
    }
}
