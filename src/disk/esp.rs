//! The EFI system partition: a FAT file system with one boot loader, made in a file and copied into the disk.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use super::ext4::Work;
use super::gpt;
use super::program::{self, needed, tied};
use super::seed::Seed;
use super::write::put;
use crate::error::{Context as _, Result};
use crate::host::fs;

/// The loader's name in scratch, before it is in the partition.
pub(super) const LOADER: &str = "BOOTX64.EFI";

/// The programs, found before work starts.
#[derive(Debug)]
pub(super) struct Tools {
    mkfs: PathBuf,
    mmd: PathBuf,
    mcopy: PathBuf,
}

impl Tools {
    pub(super) fn find() -> Result<Self> {
        Ok(Self {
            mkfs: needed("mkfs.fat", "dosfstools")?,
            mmd: needed("mmd", "mtools")?,
            mcopy: needed("mcopy", "mtools")?,
        })
    }

    /// Makes the file system with the loader that is in scratch, and puts it into its partition.
    pub(super) fn make(&self, disk: &fs::TempFile, seed: Seed<'_>, epoch: i64, work: Work<'_>) -> Result<()> {
        let image = work.scratch.join("esp");
        let wrong = || format!("cannot make `{}`", image.display());
        fs::create_in_place(&image, false)?.set_len(gpt::ESP_SIZE).context(wrong)?;
        // FAT begins in 1980, and without daylight saving nothing is between two days.
        let time = epoch.max(315_532_800).to_string();
        let volume = format!("{:08x}", seed.number("esp"));
        let mut command = tied(&self.mkfs)?;
        command.env("SOURCE_DATE_EPOCH", &time).args([
            "-F",
            "32",
            "-s",
            "1",
            "-S",
            "512",
            "-n",
            "ESP",
            "-i",
            &volume,
            "--invariant",
        ]);
        program::run(command.arg(&image), work.scratch, work.cancel)?;
        let mut command = tied(&self.mmd)?;
        command.env("SOURCE_DATE_EPOCH", &time).env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(&image);
        program::run(command.args(["::/EFI", "::/EFI/BOOT"]), work.scratch, work.cancel)?;
        let mut command = tied(&self.mcopy)?;
        command.env("SOURCE_DATE_EPOCH", &time).env("MTOOLS_SKIP_CHECK", "1").arg("-i").arg(&image);
        let loader = work.scratch.join(LOADER);
        program::run(command.arg(&loader).arg(format!("::/EFI/BOOT/{LOADER}")), work.scratch, work.cancel)?;
        copy(disk, &image)
    }
}

/// Copies what is not zeros.
fn copy(disk: &fs::TempFile, image: &std::path::Path) -> Result<()> {
    let file = fs::open_regular(image, false)?;
    let mut buffer = vec![0; 1 << 16];
    for offset in (0..gpt::ESP_SIZE).step_by(buffer.len()) {
        file.read_exact_at(&mut buffer, offset).context(|| format!("cannot read `{}`", image.display()))?;
        if buffer.iter().any(|byte| *byte != 0) {
            put(disk, gpt::ESP_START + offset, &buffer)?;
        }
    }
    Ok(())
}
