//! Where the root file system is: on the whole disk, or in one of its partitions.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::super::ext4::Work;
use super::super::program::{self, needed, tied};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// The most partitions of a disk that are looked at; GPT has 128 by custom.
const MOST: usize = 128;

/// Partition types that say root, of the Discoverable Partitions Specification: x86-64, 64-bit ARM, 32-bit x86, 32-bit
/// ARM, 64-bit RISC-V.
const ROOTS: [&str; 5] = [
    "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
    "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
    "44479540-F297-41B2-9AF7-D131D5F0458A",
    "69DAD710-2CE4-4E3C-B16C-21A1D49ABED3",
    "72EC70A6-CF74-40E6-BD49-4BDA08E8F224",
];

/// A file system that can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
}

/// A part of a disk with a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where it begins, in bytes.
    pub offset: u64,
    /// How long it is.
    pub size: u64,
    /// What is there.
    pub file_system: FileSystem,
}

struct Partition {
    number: usize,
    kind: String,
    region: Region,
}

/// The root file system of a raw disk.
pub(super) fn root(raw: &Path, size: u64, work: Work<'_>) -> Result<Region> {
    let file = fs::open_regular(raw, false)?;
    let length = file.metadata().context(|| format!("cannot look at `{}`", raw.display()))?.len();
    if let Some(file_system) = file_system_at(&file, 0, size)? {
        return Ok(Region { offset: 0, size: size.min(length), file_system });
    }
    let partitions = partitions(raw, &file, size.min(length), work)?;
    let roots: Vec<&Partition> =
        partitions.iter().filter(|partition| ROOTS.contains(&partition.kind.to_ascii_uppercase().as_str())).collect();
    match (roots.as_slice(), partitions.as_slice()) {
        ([only], _) => return Ok(only.region),
        (_, [only]) => return Ok(only.region),
        ([], []) => {}
        _ => {
            if let Some(region) = system_among(raw, &partitions, work)? {
                return Ok(region);
            }
            let numbers: Vec<String> = partitions.iter().map(|partition| partition.number.to_string()).collect();
            return Err(Error::new(
                Kind::Conflict,
                format!("several partitions may be the root: {}", numbers.join(", ")),
            )
            .hint("one of them should have the partition type of a root, or be the only one with `/etc/os-release`"));
        }
    }
    Err(Error::new(Kind::NotFound, "no file system that can be read is on the disk")
        .hint("ext2, ext3, ext4 and XFS are looked for, on the whole disk and in GPT and MBR partitions"))
}

fn partitions(raw: &Path, file: &File, size: u64, work: Work<'_>) -> Result<Vec<Partition>> {
    let mut command = tied(&needed("sfdisk", "fdisk")?)?;
    let answer = program::ask(command.args(["--json", "--"]).arg(raw), b"", work.cancel)?;
    let wrong = || Error::new(Kind::Corrupt, "the partition table cannot be understood");
    let table: serde_json::Value = serde_json::from_slice(&answer).map_err(|error| wrong().caused_by(error))?;
    let table = &table["partitiontable"];
    let sector = match &table["sectorsize"] {
        serde_json::Value::Null => 512,
        size => size.as_u64().ok_or_else(wrong)?,
    };
    let rows = table["partitions"].as_array().map(Vec::as_slice).unwrap_or_default();
    if rows.len() > MOST {
        return Err(Error::new(
            Kind::Limit,
            format!("the disk has {} partitions, and {MOST} are the most", rows.len()),
        ));
    }
    let mut found = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let bytes = |name: &str| row[name].as_u64().and_then(|sectors| sectors.checked_mul(sector)).ok_or_else(wrong);
        let (offset, length) = (bytes("start")?, bytes("size")?);
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(Error::new(Kind::Corrupt, format!("partition {} ends behind the disk", index + 1)));
        }
        if let Some(file_system) = file_system_at(file, offset, length)? {
            let kind = row["type"].as_str().unwrap_or_default().to_owned();
            found.push(Partition { number: index + 1, kind, region: Region { offset, size: length, file_system } });
        }
    }
    Ok(found)
}

/// What is there, by the magic number of its superblock.
fn file_system_at(file: &File, offset: u64, size: u64) -> Result<Option<FileSystem>> {
    let mut block = [0; 2048];
    if size < 65536 {
        return Ok(None);
    }
    file.read_exact_at(&mut block, offset).context(|| "cannot read the disk")?;
    Ok(if block[1024 + 0x38..][..2] == [0x53, 0xef] {
        Some(FileSystem::Ext)
    } else if block.starts_with(b"XFSB") {
        Some(FileSystem::Xfs)
    } else {
        None
    })
}

/// The only ext file system of these that holds an operating system.
fn system_among(raw: &Path, partitions: &[Partition], work: Work<'_>) -> Result<Option<Region>> {
    let debugfs = needed("debugfs", "e2fsprogs")?;
    let mut systems = Vec::new();
    for partition in partitions.iter().filter(|partition| partition.region.file_system == FileSystem::Ext) {
        let mut image = raw.file_name().unwrap_or_default().to_owned();
        image.push(format!("?offset={}", partition.region.offset));
        let mut command = tied(&debugfs)?;
        command.current_dir(fs::parent(raw)).args(["-R", "ls -p /etc"]).arg(image);
        let (said, _) = program::run_any(&mut command, work.scratch, work.cancel)?;
        let names = String::from_utf8_lossy(&fs::read_at_most(&said.output, program::ANSWER)?).into_owned();
        // `/INODE/MODE/UID/GID/NAME/SIZE/` a line.
        if names.lines().any(|line| line.split('/').nth(5) == Some("os-release")) {
            systems.push(partition.region);
        }
    }
    Ok(if let [only] = systems.as_slice() { Some(*only) } else { None })
}
