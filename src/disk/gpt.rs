//! The partition table of a disk that boots by BIOS and by UEFI, written by sfdisk into the plain file.

use std::path::PathBuf;

use super::ext4::Work;
use super::program::{self, needed, tied};
use super::seed::{Seed, Uuid};
use crate::error::Result;
use crate::host::fs;

const MIB: u64 = 1 << 20;
const SECTOR: u64 = 512;

/// The BIOS boot partition.
pub(super) const BIOS_START: u64 = MIB;
pub(super) const BIOS_SIZE: u64 = MIB;

/// The EFI system partition.
pub(super) const ESP_START: u64 = 2 * MIB;
pub(super) const ESP_SIZE: u64 = 64 * MIB;

/// The root file system.
pub(super) const ROOT_START: u64 = ESP_START + ESP_SIZE;

/// What of a disk is not the root file system: all before it, and the copy of the table behind.
pub(super) const EDGES: u64 = ROOT_START + MIB;

/// sfdisk, found before work starts.
#[derive(Debug)]
pub(super) struct Tools {
    sfdisk: PathBuf,
}

impl Tools {
    pub(super) fn find() -> Result<Self> {
        Ok(Self { sfdisk: needed("sfdisk", "fdisk")? })
    }

    /// Writes the table.
    pub(super) fn partition(
        &self,
        disk: &fs::TempFile,
        total: u64,
        root: u64,
        seed: Seed<'_>,
        work: Work<'_>,
    ) -> Result<()> {
        let row = |name: &str, start: u64, size: u64, kind: &str| {
            format!(
                "start={}, size={}, type={kind}, uuid={}, name={name}\n",
                start / SECTOR,
                size / SECTOR,
                seed.uuid(&format!("partition {name}"))
            )
        };
        // The kinds are the UEFI specification's, GRUB's and the Discoverable Partitions Specification's.
        let table = [
            format!("label: gpt\nlabel-id: {}\nfirst-lba: 34\nlast-lba: {}\n", seed.uuid("disk"), total / SECTOR - 34),
            row("bios", BIOS_START, BIOS_SIZE, "21686148-6449-6E6F-744E-656564454649"),
            row("esp", ESP_START, ESP_SIZE, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"),
            row("root", ROOT_START, root, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"),
        ];
        let mut command = tied(&self.sfdisk)?;
        command.args([
            "--quiet",
            "--no-reread",
            "--no-tell-kernel",
            "--wipe",
            "never",
            "--wipe-partitions",
            "never",
            "--",
        ]);
        program::ask(command.arg(disk.path()), table.concat().as_bytes(), work.cancel).map(drop)
    }
}

/// The UUID of the root's partition.
pub(super) fn root_partition(seed: Seed<'_>) -> Uuid {
    seed.uuid("partition root")
}
