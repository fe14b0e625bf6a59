//! GRUB on a disk that is only a file: images made by grub-mkimage, put where they belong by what the file system says.
//!
//! No disk is mounted and grub-install not run. On a whole disk ext4 leaves 1024 bytes free, so the core image is a
//! file of the file system, and the boot sector holds where its blocks are, as `grub-install --force` has it; whoever
//! moves that file unmakes the disk's boot. On GPT the core fills the BIOS boot partition.
//!
//! ```text
//! boot.img      512 bytes; at 0x5c u64: the sector of the core's first one; 0x64 the drive, 0xff: the BIOS's
//! core.img      sector 0 (diskboot.img) ends in a list that grows downwards from 0x1f4:
//!               first sector u64, number of sectors u16, segment u16; one of no sectors ends it
//! ```

use std::path::PathBuf;

use super::ext4::{Added, Place, Tools, Work};
use super::kernel::Kernel;
use super::program::{self, needed, needed_file, tied};
use super::tree::{BLOCK, Tree};
use super::write::{Layout, Request, put};
use super::{esp, gpt};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::rootfs::EntryKind;

const SECTOR: u64 = 512;

/// The most bytes a core image may have: the BIOS boot partition.
const LARGEST: u64 = gpt::BIOS_SIZE;

/// The segment that diskboot.img loads the rest of the core to (`GRUB_BOOT_I386_PC_KERNEL_SEG` + one sector).
const SEGMENT: u16 = 0x820;

/// Where the core and its configuration are in the root file system.
const CORE: &str = "boot/grub/castoff-core.img";
const CONFIGURATION: &str = "boot/grub/grub.cfg";

/// What both cores hold: enough to read the root, show a menu and start a kernel, without a module from the disk.
const MODULES: [&str; 18] = [
    "normal",
    "configfile",
    "linux",
    "ext2",
    "part_gpt",
    "part_msdos",
    "search",
    "search_fs_uuid",
    "search_label",
    "serial",
    "terminal",
    "echo",
    "test",
    "ls",
    "cat",
    "gzio",
    "reboot",
    "halt",
];

/// Boot sector, core maker and modules, found before work starts.
#[derive(Debug)]
pub(super) struct Loaders {
    mkimage: PathBuf,
    boot: PathBuf,
    efi: bool,
}

impl Loaders {
    pub(super) fn find(efi: bool) -> Result<Self> {
        let mkimage = needed("grub-mkimage", "grub-common")?;
        let boot = needed_file("/usr/lib/grub/i386-pc/boot.img", "grub-pc-bin")?;
        if efi {
            needed_file("/usr/lib/grub/x86_64-efi/normal.mod", "grub-efi-amd64-bin")?;
        }
        Ok(Self { mkimage, boot, efi })
    }

    /// Makes the images; what of them the root file system holds.
    pub(super) fn prepare(
        &self,
        tree: &Tree,
        kernel: &Kernel,
        request: &Request,
        place: &Place<'_>,
        work: Work<'_>,
    ) -> Result<Vec<Added>> {
        for folder in ["boot", "boot/grub"] {
            if tree.find(folder.as_bytes()).is_some_and(|entry| entry.kind != EntryKind::Directory) {
                return Err(Error::new(Kind::Unsupported, format!("`/{folder}` is not a folder in the tree"))
                    .hint("the boot loader's configuration goes there"));
            }
        }
        let first = work.scratch.join("grub-first.cfg");
        let search = format!("search.fs_uuid {} root\nset prefix=($root)/boot/grub\n", place.uuid());
        fs::write_atomic(&first, 0o600, search.as_bytes())?;
        self.core(&first, "i386-pc", "core.img", &["biosdisk"], work)?;
        if self.efi {
            self.core(&first, "x86_64-efi", esp::LOADER, &["efi_gop", "fat"], work)?;
        }
        let mut added = Vec::new();
        if request.layout != Layout::Gpt {
            if tree.find(CORE.as_bytes()).is_some() {
                return Err(Error::new(Kind::Conflict, format!("the tree has a file `/{CORE}` already")));
            }
            added.push(Added { path: CORE.to_owned(), source: work.scratch.join("core.img") });
        }
        if tree.find(CONFIGURATION.as_bytes()).is_some() {
            work.progress.line(format!("the boot loader reads the tree's own /{CONFIGURATION}"));
        } else {
            let source = work.scratch.join("grub.cfg");
            fs::write_atomic(&source, 0o600, configuration(kernel, request, place).as_bytes())?;
            added.push(Added { path: CONFIGURATION.to_owned(), source });
        }
        Ok(added)
    }

    /// Puts the boot sector and, on GPT, the core in place, and writes down where the core is.
    pub(super) fn install(
        &self,
        disk: &fs::TempFile,
        place: &Place<'_>,
        tools: &Tools,
        layout: Layout,
        work: Work<'_>,
    ) -> Result<()> {
        let mut core = fs::read_at_most(&work.scratch.join("core.img"), LARGEST)?;
        core.resize(core.len().next_multiple_of(512), 0);
        let sectors = core.len() as u64 / SECTOR;
        let runs = if layout == Layout::Gpt {
            vec![(gpt::BIOS_START / SECTOR, sectors)]
        } else {
            runs(&tools.blocks(place, &format!("/{CORE}"), work)?, sectors)?
        };
        write_list(&mut core, &runs)?;
        let mut at = 0;
        for (start, count) in &runs {
            let length = usize::try_from(count * SECTOR).unwrap_or_default();
            put(disk, start * SECTOR, &core[at..at + length])?;
            at += length;
        }
        let mut boot = fs::read_at_most(&self.boot, SECTOR)?;
        boot.resize(512, 0);
        boot[0x5c..0x64].copy_from_slice(&runs[0].0.to_le_bytes());
        // As grub-install does for what is no floppy: trust the drive number that the BIOS gives.
        boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
        put(disk, 0, &boot[..0x1b8])?;
        put(disk, 0x1fe, &[0x55, 0xaa])
    }

    fn core(&self, first: &std::path::Path, platform: &str, name: &str, more: &[&str], work: Work<'_>) -> Result<()> {
        let mut command = tied(&self.mkimage)?;
        command.args(["-O", platform, "-p", "/boot/grub", "-c"]).arg(first);
        command.arg("-o").arg(work.scratch.join(name)).args(MODULES).args(more);
        program::run(&mut command, work.scratch, work.cancel)
            .context(|| format!("cannot make GRUB's image for {platform}"))
            .map(drop)
    }
}

/// A menu of one system, over the screen and the first serial line.
fn configuration(kernel: &Kernel, request: &Request, place: &Place<'_>) -> String {
    let (root, console) = match request.layout {
        Layout::WholeDisk { .. } => ("/dev/vda".to_owned(), "console=ttyS0"),
        Layout::Gpt => (format!("PARTUUID={}", gpt::root_partition(place.seed)), "console=tty0 console=ttyS0"),
    };
    let append = request.append.as_deref().unwrap_or(console);
    let initrd = kernel.initrd.as_ref().map(|path| format!("  initrd {path}\n")).unwrap_or_default();
    format!(
        "serial --unit=0 --speed=115200\nterminal_input serial console\nterminal_output serial console\n\
         set default=0\nset timeout=0\n\nmenuentry linux {{\n  linux {} root={root} rw {append}\n{initrd}}}\n",
        kernel.kernel
    )
}

/// The runs of sectors that blocks of the whole disk are.
fn runs(blocks: &[u64], sectors: u64) -> Result<Vec<(u64, u64)>> {
    let per_block = BLOCK / SECTOR;
    let mut runs: Vec<(u64, u64)> = Vec::new();
    let mut left = sectors;
    for block in blocks {
        let (start, count) = (block * per_block, per_block.min(left));
        match runs.last_mut() {
            Some((first, length)) if *first + *length == start => *length += count,
            _ if count > 0 => runs.push((start, count)),
            _ => {}
        }
        left -= count;
    }
    if left > 0 || runs.is_empty() {
        return Err(Error::new(Kind::Failed, format!("`/{CORE}` has holes on the disk")));
    }
    Ok(runs)
}

/// Writes where the sectors after the first one are into the first one.
fn write_list(core: &mut [u8], runs: &[(u64, u64)]) -> Result<()> {
    let mut at = 0x1f4;
    let mut segment = SEGMENT;
    let after_first = runs.iter().enumerate().map(|(index, (start, count))| {
        let skipped = u64::from(index == 0);
        (start + skipped, count - skipped)
    });
    for (start, count) in after_first.filter(|(_, count)| *count > 0) {
        let wrong = || Error::new(Kind::Failed, format!("`/{CORE}` is in too many pieces on the disk"));
        let count = u16::try_from(count).map_err(|_| wrong())?;
        // The list must not reach the code before it; the one of no sectors has to fit too.
        if at < 0x1a0 {
            return Err(wrong());
        }
        core[at..at + 8].copy_from_slice(&start.to_le_bytes());
        core[at + 8..at + 10].copy_from_slice(&count.to_le_bytes());
        core[at + 10..at + 12].copy_from_slice(&segment.to_le_bytes());
        segment = segment.wrapping_add(count << 5);
        at -= 12;
    }
    core[at..at + 12].fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_runs_of_sectors_and_a_list_that_grows_downwards() {
        assert_eq!(runs(&[10, 11, 20], 20).unwrap(), [(80, 16), (160, 4)]);
        assert!(runs(&[10], 20).is_err());
        let mut core = vec![7; 20 * 512];
        write_list(&mut core, &[(80, 16), (160, 4)]).unwrap();
        assert_eq!(core[0x1f4..0x200], [81, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0x20, 0x08]);
        assert_eq!(core[0x1e8..0x1f4], [160, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0x0a]);
        assert_eq!(core[0x1dc..0x1e8], [0; 12]);
        assert_eq!(core[0x1db], 7);
    }
}
