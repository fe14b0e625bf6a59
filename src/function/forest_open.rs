//! Forests on this host: the file is read, and what it speaks of is looked at.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::archives;
use crate::config::Config;
use crate::error::{Context as _, Error, Kind, Result};
use crate::front::FRONT_ENDS;
use crate::front::forest::{FILE, Forest, ForestOptions, IMAGES, SeenDisk, Sights, Standing};
use crate::host::fs;
use crate::plan::{PlanName, Plans};

/// The most bytes that an `images.json` may have.
const MOST_BYTES: u64 = 16 << 20;

/// A forest and its folder.
pub(super) struct Opened {
    pub(super) dir: PathBuf,
    pub(super) forest: Forest,
}

/// What a forest became.
pub(super) struct Lowered {
    pub(super) plans: Plans,
    /// What is odd about the document.
    pub(super) notes: Vec<String>,
}

impl Opened {
    /// The forest in this folder, or in this file.
    pub(super) fn find(source: &Path) -> Result<Self> {
        let file = match fs::metadata(source)? {
            Some(found) if found.is_dir() => source.join(FILE),
            Some(_) => source.to_owned(),
            None => {
                return Err(Error::new(Kind::NotFound, format!("there is no folder `{}`", source.display())));
            }
        };
        if fs::metadata(&file)?.is_none() {
            let files: Vec<String> =
                FRONT_ENDS.iter().map(|front| format!("`{}` ({})", front.file, front.doc)).collect();
            return Err(Error::new(Kind::NotFound, format!("there is no file `{}`", file.display())).hint(format!(
                "what is read there is {}; `castoff lvh images example-config` writes an example",
                files.join(", ")
            )));
        }
        let shown = file.display().to_string();
        if !fs::metadata(&file)?.is_some_and(|found| found.is_file()) {
            return Err(Error::new(Kind::Usage, format!("`{shown}` is not a file")));
        }
        let text = String::from_utf8(fs::read_at_most(&file, MOST_BYTES)?)
            .map_err(|error| Error::new(Kind::Usage, format!("`{shown}` is not UTF-8")).caused_by(error))?;
        let forest = Forest::read(&text, &shown)?;
        let folder = fs::parent(&file);
        let dir = fs::canonical(folder)?
            .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no folder `{}`", folder.display())))?;
        Ok(Self { dir, forest })
    }

    /// Where an image is built.
    pub(super) fn path_of(&self, name: &PlanName) -> PathBuf {
        self.dir.join(IMAGES).join(name.as_str())
    }

    /// The plans, every check done.
    pub(super) fn lower(&self, pkg_repo: &str, config: &Config) -> Result<Lowered> {
        let archive = if self.forest.needs_archive() { Some(archives::archive(pkg_repo, config)?) } else { None };
        let architecture = archives::architecture()?.to_owned();
        let options = ForestOptions { dir: self.dir.clone(), archive, architecture };
        let (plans, notes) = self.forest.lower(&options, &self.sights()?)?;
        Ok(Lowered { plans, notes })
    }

    /// What stands in the place of an image; a link there is no file, as for the build.
    pub(super) fn standing(&self, name: &PlanName) -> Result<Standing> {
        Ok(match fs::link_metadata(&self.path_of(name))? {
            None => Standing::Nothing,
            Some(found) if !found.is_file() => Standing::Other,
            Some(found) if found.len() == 0 => Standing::Empty,
            Some(_) => Standing::File,
        })
    }

    /// What the forest wants to have looked at.
    fn sights(&self) -> Result<Sights> {
        let wants = self.forest.wants(&self.dir);
        let mut sights = Sights::default();
        for name in wants.disks {
            let path = self.path_of(&name);
            if fs::link_metadata(&path)?.is_some() {
                sights.disks.insert(name, seen(&path));
            }
        }
        for folder in wants.kernels {
            let boot = folder.join("boot");
            if fs::metadata(&boot)?.is_some_and(|found| found.is_dir()) {
                sights.kernels.insert(folder, regular_files(&boot)?);
            }
        }
        Ok(sights)
    }
}

/// The names of the regular files in a folder; a link is none, as for lvh.
fn regular_files(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in fs::list(folder)? {
        if fs::link_metadata(&folder.join(&name))?.is_some_and(|found| found.is_file())
            && let Ok(name) = name.into_string()
        {
            names.push(name);
        }
    }
    Ok(names)
}

/// The disk at a path, links followed since only its bytes count; or why there is none.
fn seen(path: &Path) -> std::result::Result<SeenDisk, String> {
    let no_disk = |what: &str| Err(format!("`{}` {what}", path.display()));
    let told = |error: Error| match std::error::Error::source(&error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let Some(real) = fs::canonical(path).map_err(told)? else { return no_disk("is a link that leads nowhere") };
    match fs::metadata(&real).map_err(told)? {
        None => no_disk("is not there any more"),
        Some(found) if !found.is_file() => no_disk("is not a regular file"),
        Some(found) if found.len() == 0 => no_disk("is an empty file, which is no disk"),
        Some(_) => Ok(SeenDisk { boots: has_boot_sector(&real).map_err(told)?, path: real }),
    }
}

/// Whether a disk begins with a boot sector; none of one in a format that hides it.
fn has_boot_sector(path: &Path) -> Result<Option<bool>> {
    const QCOW: &[u8] = b"QFI\xfb";
    // The type of the first partition says that the table is a GPT: UEFI wants 55aa there, boot loader or not.
    const PROTECTIVE: u8 = 0xee;
    let mut sector = Vec::new();
    let file = fs::open(path)?;
    file.take(512).read_to_end(&mut sector).context(|| format!("cannot read `{}`", path.display()))?;
    let boots = sector.get(510..512) == Some(&[0x55, 0xaa]) && sector.get(450) != Some(&PROTECTIVE);
    Ok((!sector.starts_with(QCOW)).then_some(boots))
}
