//! Names that debugfs cannot be told, put into the blocks of their folders.
//!
//! A name in which a line ends was written as another of the same length; here that one is replaced. Folders written by
//! debugfs have no index, so that the order of their entries says nothing about their names; only the checksum at the
//! end of each block has to be made anew.
//!
//! ```text
//! entry: inode u32, record length u16, name length u8, type u8, name      (all little-endian)
//! last one: inode 0, length 12, name length 0, type 0xde, checksum u32    (ext4_dir_entry_tail)
//! checksum: CRC-32C over UUID, inode, generation, block up to that entry; begun with ~0, not inverted
//! ```

use std::os::unix::fs::FileExt as _;

use super::ext4::Place;
use super::fill::Renames;
use super::tree::BLOCK;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// Gives entries of a folder, whose blocks these are, their own names.
pub(super) fn rename(place: &Place<'_>, inode: u32, blocks: &[u64], renames: &Renames) -> Result<()> {
    let wrong = || format!("cannot change `{}`", place.file.display());
    let file = fs::open_regular(place.file, true)?;
    let mut uuid = [0; 16];
    file.read_exact_at(&mut uuid, place.offset + 1024 + 0x68).context(wrong)?;
    let seed = crc32c(crc32c(crc32c(!0, &uuid), &inode.to_le_bytes()), &[0; 4]);
    let mut missing = renames.len();
    for block in blocks {
        let mut bytes = [0; 4096];
        let offset = place.offset + block * BLOCK;
        file.read_exact_at(&mut bytes, offset).context(wrong)?;
        let found = rename_in(&mut bytes, renames);
        if found > 0 {
            let tail = bytes.len() - 12;
            if bytes[tail..tail + 8] != [0, 0, 0, 0, 12, 0, 0, 0xde] {
                return Err(Error::new(Kind::Failed, format!("folder {inode} is not written as is known of debugfs")));
            }
            let sum = crc32c(seed, &bytes[..tail]);
            bytes[tail + 8..].copy_from_slice(&sum.to_le_bytes());
            file.write_all_at(&bytes, offset).context(wrong)?;
            missing -= found.min(missing);
        }
    }
    if missing > 0 {
        return Err(Error::new(
            Kind::Failed,
            format!("{missing} names of folder {inode} are not where debugfs wrote them"),
        ));
    }
    Ok(())
}

fn rename_in(block: &mut [u8], renames: &Renames) -> usize {
    let (mut at, mut found) = (0, 0);
    while at + 8 <= block.len() {
        let record = usize::from(u16::from_le_bytes([block[at + 4], block[at + 5]]));
        let name = at + 8..at + 8 + usize::from(block[at + 6]);
        let is_used = block[at..at + 4] != [0; 4];
        if record < 8 || name.end > block.len() {
            break;
        }
        if is_used && let Some((_, own)) = renames.iter().find(|(stand_in, _)| *stand_in == block[name.clone()]) {
            block[name].copy_from_slice(own);
            found += 1;
        }
        at += record;
    }
    found
}

/// CRC-32C (Castagnoli), bit by bit: a few blocks a disk.
fn crc32c(start: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(start, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| sum >> 1 ^ (if sum & 1 == 1 { 0x82f6_3b78 } else { 0 }))
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_checksum_is_the_one_of_rfc_3720() {
        assert_eq!(!super::crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!super::crc32c(!0, b"123456789"), 0xe306_9283);
    }
}
