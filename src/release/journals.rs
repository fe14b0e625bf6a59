//! The journals of all releases: a folder for each image, in it one for each flavour, in it a file for each number.

use std::path::{Path, PathBuf};

use super::journal::{Journal, Record};
use super::story::Story;
use crate::error::Result;
use crate::host::fs;
use crate::vocab::{Flavour, OsImage, ReleaseNumber};

/// The closed journals that are kept of each image and flavour.
pub const KEPT: usize = 50;

/// Where the journals are.
#[derive(Clone, Debug)]
pub struct Journals {
    folder: PathBuf,
}

impl Journals {
    /// The journals below castoff's state folder.
    pub fn below(state: &Path) -> Self {
        Self { folder: state.join("release/journal") }
    }

    fn folder_of(&self, image: &OsImage, flavour: &Flavour) -> PathBuf {
        self.folder.join(image.as_str()).join(flavour.as_str())
    }

    fn path(&self, image: &OsImage, flavour: &Flavour, number: ReleaseNumber) -> PathBuf {
        self.folder_of(image, flavour).join(format!("{number}.jsonl"))
    }

    /// Every image and flavour that has a journal.
    pub fn all(&self) -> Result<Vec<(OsImage, Flavour)>> {
        let mut found = Vec::new();
        for image in parsed::<OsImage>(&self.folder)? {
            for flavour in parsed::<Flavour>(&self.folder.join(image.as_str()))? {
                found.push((image.clone(), flavour));
            }
        }
        Ok(found)
    }

    /// The numbers that have a journal, ascending.
    pub fn numbers(&self, image: &OsImage, flavour: &Flavour) -> Result<Vec<ReleaseNumber>> {
        let folder = self.folder_of(image, flavour);
        if !fs::exists(&folder)? {
            return Ok(Vec::new());
        }
        let name = |name: std::ffi::OsString| name.to_str()?.strip_suffix(".jsonl")?.parse().ok();
        let mut numbers: Vec<ReleaseNumber> = fs::list(&folder)?.into_iter().filter_map(name).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// The numbers of releases that have begun and not ended, ascending.
    pub fn open_numbers(&self, image: &OsImage, flavour: &Flavour) -> Result<Vec<ReleaseNumber>> {
        let mut open = Vec::new();
        for number in self.numbers(image, flavour)? {
            if Story(&self.read(image, flavour, number)?).ended().is_none() {
                open.push(number);
            }
        }
        Ok(open)
    }

    /// The records of a release.
    pub fn read(&self, image: &OsImage, flavour: &Flavour, number: ReleaseNumber) -> Result<Vec<Record>> {
        Journal::read(&self.path(image, flavour, number))
    }

    /// The journal of a release, to go on with.
    pub fn open(&self, image: &OsImage, flavour: &Flavour, number: ReleaseNumber) -> Result<Journal> {
        Journal::open(&self.path(image, flavour, number))
    }

    /// Removes closed journals but the newest.
    pub fn trim(&self, image: &OsImage, flavour: &Flavour) -> Result<()> {
        let open = self.open_numbers(image, flavour)?;
        let closed: Vec<_> =
            self.numbers(image, flavour)?.into_iter().filter(|number| !open.contains(number)).collect();
        for number in &closed[..closed.len().saturating_sub(KEPT)] {
            fs::remove_file(&self.path(image, flavour, *number))?;
        }
        Ok(())
    }
}

/// The names in a folder that are such names.
fn parsed<T: std::str::FromStr>(folder: &Path) -> Result<Vec<T>> {
    if !fs::exists(folder)? {
        return Ok(Vec::new());
    }
    Ok(fs::list(folder)?.into_iter().filter_map(|name| name.to_str()?.parse().ok()).collect())
}
