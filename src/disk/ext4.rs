//! An ext4 file system from a tree, the same bytes from equal trees.
//!
//! `mke2fs -d` stores a folder in the order its file system lists it, with the times of reading it; so mke2fs makes an
//! empty one, and debugfs fills it with a script ([`super::fill`]) in the order of names.

use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::fill::Fill;
use super::program::{self, Said, needed, tied};
use super::seed::Seed;
use super::tree::{BLOCK, Need, Tree};
use super::{names, size};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress, Unit};
use crate::rootfs::shown;

/// What every ext4 made here has, whatever this host's mke2fs.conf says; nothing that GRUB 2.06 cannot read.
const FEATURES: &str = "[defaults]
\tbase_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
\tdefault_mntopts = acl,user_xattr
\tenable_periodic_fsck = 0
\tblocksize = 4096
\tinode_size = 256
\tinode_ratio = 16384
[fs_types]
\text4 = {
\t\tfeatures = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
\t}
";

/// Entries between two looks at the clock: debugfs reads and writes all bitmaps each time it is started.
const AT_ONCE: u64 = 16384;

/// Where a file system goes, and as what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The file; it may hold more than this file system.
    pub(super) file: &'a Path,
    /// Where in the file it begins.
    pub(super) offset: u64,
    /// How large it is.
    pub(super) size: u64,
    /// Its label, at most 16 bytes.
    pub(super) label: &'a str,
    /// What its UUID and the seed of its directory hashes are drawn from.
    pub(super) seed: Seed<'a>,
    /// The time of whatever has none of its own, in seconds since 1970.
    pub(super) epoch: i64,
}

/// A file that the disk has and the tree has not.
#[derive(Clone, Debug)]
pub(super) struct Added {
    /// Its normalised path.
    pub(super) path: String,
    /// Where its bytes are.
    pub(super) source: PathBuf,
}

/// What work under way needs: a folder beside the disk, a listener, and the wish to stop.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work<'a> {
    pub(super) scratch: &'a Path,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
}

/// The programs, found before work starts.
#[derive(Debug)]
pub(super) struct Tools {
    mke2fs: PathBuf,
    debugfs: PathBuf,
}

impl Place<'_> {
    /// The UUID of the file system.
    pub(super) fn uuid(&self) -> String {
        self.seed.uuid("root").to_string()
    }

    /// The file's name in its folder, which is where programs run: a `?` in the path would start options.
    fn name(&self) -> OsString {
        self.file.file_name().unwrap_or_default().to_owned()
    }
}

impl Tools {
    pub(super) fn find() -> Result<Self> {
        Ok(Self { mke2fs: needed("mke2fs", "e2fsprogs")?, debugfs: needed("debugfs", "e2fsprogs")? })
    }

    /// Makes the file system with the tree and what is added to it.
    pub(super) fn make(
        &self,
        place: &Place<'_>,
        tree: &Tree,
        (need, added): (Need, &[Added]),
        work: Work<'_>,
    ) -> Result<()> {
        self.make_empty(place, need, work)?;
        let mut fill = Fill::new(tree, work.scratch)?;
        let mut stage = work.progress.stage("writing the file system", Some(tree.entries.len() as u64), Unit::Items);
        for entry in &tree.entries {
            fill.entry(entry).context(|| format!("cannot put `{}` on the disk", shown(&entry.path)))?;
            if fill.pending >= AT_ONCE {
                stage.advance(fill.pending);
                self.flush(&mut fill, place, work)?;
            }
        }
        for file in added {
            fill.add(&file.path, &file.source).context(|| format!("cannot put `/{}` on the disk", file.path))?;
        }
        stage.advance(fill.pending);
        self.flush(&mut fill, place, work)?;
        for (inode, renames) in &fill.renames {
            let blocks = self.blocks(place, &format!("<{inode}>"), work)?;
            names::rename(place, *inode, &blocks, renames)?;
        }
        Ok(())
    }

    /// The blocks of a file of the file system, in the order of its content.
    pub(super) fn blocks(&self, place: &Place<'_>, file: &str, work: Work<'_>) -> Result<Vec<u64>> {
        let said = self.debugfs(place, work, &[b"-R", format!("blocks {file}").as_bytes()])?;
        let text = fs::read_text(&said.output)?;
        let blocks: Option<Vec<u64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
        let blocks = blocks.filter(|blocks| blocks.iter().all(|block| (1..place.size / BLOCK).contains(block)));
        blocks.ok_or_else(|| Error::new(Kind::Failed, format!("debugfs does not tell the blocks of `{file}`")))
    }

    fn make_empty(&self, place: &Place<'_>, need: Need, work: Work<'_>) -> Result<()> {
        let configuration = work.scratch.join("mke2fs.conf");
        fs::create_in_place(&configuration, false)?
            .write_all(FEATURES.as_bytes())
            .context(|| format!("cannot write `{}`", configuration.display()))?;
        let mut command = tied(&self.mke2fs)?;
        prepare(&mut command, place);
        // Relative to the working folder.
        let folder = Path::new(work.scratch.file_name().unwrap_or_default());
        command.env("MKE2FS_CONFIG", folder.join("mke2fs.conf"));
        let extended = format!(
            "offset={},hash_seed={},nodiscard,root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1,\
             assume_storage_prezeroed=1",
            place.offset,
            place.seed.uuid("directory hashes")
        );
        command.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "1", "-o", "Linux", "-E", &extended]);
        command.args(["-U", &place.uuid(), "-L", place.label]);
        command.args(["-N", &size::inodes(place.size, need).to_string()]);
        command.args(["-J", &format!("size={}", size::journal(place.size))]);
        command.arg(place.name()).arg(format!("{}k", place.size / 1024));
        program::run(&mut command, work.scratch, work.cancel).map(drop)
    }

    /// Lets debugfs do what the script says so far.
    fn flush(&self, fill: &mut Fill<'_>, place: &Place<'_>, work: Work<'_>) -> Result<()> {
        let script = fill.end()?;
        let said = self.debugfs(place, work, &[b"-w", b"-f", script.as_os_str().as_bytes()])?;
        complaint(&said)?;
        fill.compare(&said.output)?;
        fill.begin()
    }

    fn debugfs(&self, place: &Place<'_>, work: Work<'_>, arguments: &[&[u8]]) -> Result<Said> {
        let mut command = tied(&self.debugfs)?;
        prepare(&mut command, place);
        command.env("DEBUGFS_PAGER", "cat").args(arguments.iter().map(|word| std::ffi::OsStr::from_bytes(word)));
        let mut image = place.name();
        image.push(format!("?offset={}", place.offset));
        program::run(command.arg(image), work.scratch, work.cancel)
    }
}

/// Lets a program of e2fsprogs work in the folder of the disk, at the disk's own time.
fn prepare(command: &mut Command, place: &Place<'_>) {
    // 0 would mean the present.
    let time = place.epoch.clamp(1, i64::from(i32::MAX));
    command.env("E2FSPROGS_FAKE_TIME", time.to_string()).current_dir(fs::parent(place.file));
}

/// debugfs goes on after a command that failed and ends well; what it says on standard error, its name aside, is an
/// error.
fn complaint(said: &Said) -> Result<()> {
    let errors = String::from_utf8_lossy(&fs::read_at_most(&said.errors, 64 << 20)?).into_owned();
    let mut lines = errors.lines().filter(|line| !line.trim().is_empty());
    if !lines.next().is_some_and(|line| line.starts_with("debugfs ")) {
        return Err(
            Error::new(Kind::Failed, "debugfs did not start as it should").caused_by(program::tail(&said.errors)?)
        );
    }
    let lines: Vec<&str> = lines.take(5).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let told = lines.join("\n");
    let is_full = told.contains("Could not allocate") || told.contains("No free space");
    if is_full {
        return Err(Error::new(Kind::NoSpace, "the tree does not fit into a disk of this size")
            .caused_by(told)
            .hint("ask for a larger size; in images.json that is `image_size`"));
    }
    Err(Error::new(Kind::Failed, "debugfs could not write the file system").caused_by(told))
}
