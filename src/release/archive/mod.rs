//! Casting a container into its archive: one pass over the tree, and every hash of it.
//!
//! ```text
//! PATH/.castoff-PID-N.tmp           under way, locked by its owner; a sweep removes what a killed one left
//! PATH/IMAGE-FLAVOUR-N.tar.xz       appears by rename, after file and record are on the disk
//! PATH/IMAGE-FLAVOUR-N.tar.zst      where the flavour asks for it; before the `.tar.xz`
//! ```
//!
//! A file that has the name already is believed only if castoff's own record of it says its bytes, and the tree is the
//! one it was made of; then nothing is done. One that castoff did not make is never overwritten unasked.

mod output;
mod record;
mod tarball;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub use super::compression::Compression;
pub use output::Sums;

use output::Outputs;
use tarball::{Extra, Tarball};

use super::acls::{self, Texts};
use super::chosen::Chosen;
use super::flavour::{Recipe, Root};
use super::hygiene::{Allowed, Hygiene};
use super::snapshot::Frozen;
use super::tree::Tree;
use crate::error::{Error, Kind, Result};
use crate::host::{clock, fault, fs};
use crate::progress::{Progress, Unit};
use crate::vocab::{DiffId, Digest, Flavour, OsImage, ReleaseNumber, Value};

/// What part of the tar's length must be free before anything begins: a root filesystem shrinks to about a fifth. What
/// turns out larger is told when it does not fit.
const LEAST_SHARE: u64 = 8;

/// An archive to be made.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The image.
    pub image: &'a OsImage,
    /// Its flavour.
    pub recipe: &'a Recipe,
    /// The number of the release.
    pub number: ReleaseNumber,
    /// Where the `.tar.xz` goes; others go beside it.
    pub path: &'a Path,
    /// castoff's state folder.
    pub state: &'a Path,
    /// The privileged files of the last release, if there was one.
    pub last_privileged: Option<&'a BTreeSet<Vec<u8>>>,
    /// What of the findings is allowed.
    pub allowed: &'a Allowed,
    /// Replace a file under the archive's name that castoff does not know.
    pub force: bool,
}

/// A file of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artefact {
    /// Where it is.
    pub path: PathBuf,
    /// How it is compressed.
    pub compression: Compression,
    /// What its bytes are.
    pub sums: Sums,
}

/// An archive that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// The image.
    pub image: OsImage,
    /// Its flavour.
    pub flavour: Flavour,
    /// The number of the release.
    pub number: ReleaseNumber,
    /// The digest of the bare tar.
    pub diff_id: DiffId,
    /// The bytes of the bare tar.
    pub tar_size: u64,
    /// The canonical digest of the tree, whatever archive it is in.
    pub tree: Digest,
    /// The second that no time in it is later than.
    pub source_date: i64,
    /// Its files; the `.tar.xz` is the first.
    pub artefacts: Vec<Artefact>,
    /// Files in it with setuid, setgid or capabilities.
    pub privileged: BTreeSet<Vec<u8>>,
    /// Whether it was there already, and is what would have been made.
    pub reused: bool,
}

impl Archived {
    /// What there is to say of it.
    pub fn to_value(&self) -> Value {
        let file = |artefact: &Artefact| {
            Value::map([
                ("path", Value::from(artefact.path.display().to_string())),
                ("size", artefact.sums.size.into()),
                ("sha256", artefact.sums.sha256.hex().into()),
                ("md5", artefact.sums.md5.clone().into()),
            ])
        };
        Value::map([
            ("image", Value::from(self.image.to_string())),
            ("flavor", self.flavour.to_string().into()),
            ("version", u64::from(self.number.get()).into()),
            ("diff_id", self.diff_id.to_string().into()),
            ("tar_size", self.tar_size.into()),
            ("tree", self.tree.to_string().into()),
            ("source_date", self.source_date.into()),
            ("files", Value::list(self.artefacts.iter().map(file))),
            ("reused", self.reused.into()),
        ])
    }

    /// Reads its files again and fails if any is not what was written.
    pub fn verify(&self, progress: &Progress) -> Result<()> {
        for artefact in &self.artefacts {
            let mut stage = progress.stage(
                format!("reading {} again", artefact.path.display()),
                Some(artefact.sums.size),
                Unit::Bytes,
            );
            let found = output::sums_of(&artefact.path, &mut stage)?;
            if found.as_ref() != Some(&artefact.sums) {
                let kind = if found.is_none() { Kind::NotFound } else { Kind::Corrupt };
                return Err(Error::new(kind, format!("`{}` is not what was written", artefact.path.display()))
                    .hint("run the same again: it is made anew"));
            }
        }
        Ok(())
    }
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Report {
    /// The archive.
    pub archived: Archived,
    /// What was found in it that must not be released, and was allowed.
    pub hygiene: Hygiene,
    /// What the flavour took of the tree, in words.
    pub chosen: Value,
    /// What the walk found by the way.
    pub walk: Value,
}

impl Report {
    /// The report of everything.
    pub fn to_value(&self) -> Value {
        let mut value = self.archived.to_value();
        if let Value::Map(members) = &mut value {
            members.insert("hygiene".into(), self.hygiene.to_value());
            members.insert("chosen".into(), self.chosen.clone());
            members.insert("walk".into(), self.walk.clone());
        }
        value
    }
}

/// The file of another compression beside the `.tar.xz`.
pub(super) fn beside(path: &Path, compression: Compression) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = name.strip_suffix(Compression::Xz.suffix()).unwrap_or(&name);
    path.with_file_name(format!("{stem}{}", compression.suffix()))
}

/// The archive that castoff recorded for this path, if its files still are what was recorded.
pub fn recorded(order: &Order<'_>, progress: &Progress) -> Result<Option<Archived>> {
    recorded_at(order.state, (order.image, &order.recipe.name, order.number), order.path, progress)
}

/// The archive that castoff recorded for a path, if its files still are what was recorded.
pub fn recorded_at(
    state: &Path,
    name: (&OsImage, &Flavour, ReleaseNumber),
    path: &Path,
    progress: &Progress,
) -> Result<Option<Archived>> {
    let Some(archived) = record::read(state, name, path)? else { return Ok(None) };
    match archived.verify(progress) {
        Ok(()) => Ok(Some(archived)),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Corrupt) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The privileged files of an archive that castoff made at this path, to compare the next one with.
pub fn privileged_of(
    state: &Path,
    (image, flavour, number): (&OsImage, &Flavour, ReleaseNumber),
    path: &Path,
) -> Result<Option<BTreeSet<Vec<u8>>>> {
    Ok(record::read(state, (image, flavour, number), path)?.map(|archived| archived.privileged))
}

/// A tree of which everything is decided, to be looked at or written.
struct Prepared {
    tree: Tree,
    chosen: Chosen,
    hygiene: Hygiene,
    extras: Vec<Extra>,
    limit: i64,
}

fn prepare(order: &Order<'_>, frozen: &Frozen<'_>) -> Result<Prepared> {
    let tree = frozen.walk(order.recipe.root)?;
    let chosen = Chosen::of(order.recipe, &tree)?;
    let hygiene = Hygiene::check(&tree, &chosen, order.last_privileged, order.allowed)?;
    let limit = match clock::source_date_epoch()? {
        Some(epoch) => i64::try_from(epoch.as_secs()).unwrap_or(i64::MAX),
        None => frozen.newest(order.recipe)?,
    };
    let mut extras = Vec::new();
    if order.recipe.root == Root::Container {
        let Texts { rootfs, container } = Texts::of_picks(&tree, chosen.picks.iter().copied())?;
        for (path, text) in [("acls.txt", container), ("rootfs/acls.txt", rootfs)] {
            extras.push(Extra { entry: acls::entry(path.as_bytes(), &text, limit), text });
        }
    }
    Ok(Prepared { tree, chosen, hygiene, extras, limit })
}

/// What a look at the archive to be made shows, without writing anything.
pub fn preview(order: &Order<'_>, frozen: &Frozen<'_>) -> Result<Value> {
    let prepared = prepare(order, frozen)?;
    let tarball = Tarball::new(&prepared.tree, &prepared.chosen, &prepared.extras, prepared.limit);
    Ok(Value::map([
        ("files", Value::list(targets(order).into_iter().map(|(_, path)| path.display().to_string()))),
        ("tar_size", tarball.size().into()),
        ("source_date", prepared.limit.into()),
        ("hygiene", prepared.hygiene.to_value()),
        ("chosen", prepared.chosen.to_value()),
    ]))
}

fn targets(order: &Order<'_>) -> Vec<(Compression, PathBuf)> {
    order.recipe.compressions.iter().map(|compression| (*compression, beside(order.path, *compression))).collect()
}

/// The canonical digest of what would be archived, which says whether it is what was released; nothing is written.
pub fn digest(order: &Order<'_>, frozen: &Frozen<'_>, progress: &Progress) -> Result<Digest> {
    let prepared = prepare(order, frozen)?;
    prepared.hygiene.refuse()?;
    let tarball = Tarball::new(&prepared.tree, &prepared.chosen, &prepared.extras, prepared.limit);
    let mut stage = progress.stage("comparing the tree with what is announced", Some(tarball.size()), Unit::Bytes);
    let digest = tarball.digest(&mut |count| stage.advance(count))?;
    frozen.confirm()?;
    Ok(digest)
}

/// Makes the archive of a tree that holds still, or finds that it is there already.
pub fn archive(order: &Order<'_>, frozen: &Frozen<'_>, progress: &Progress) -> Result<Report> {
    if order.path.file_name().is_none_or(|name| !name.to_string_lossy().ends_with(Compression::Xz.suffix())) {
        return Err(Error::new(Kind::Usage, format!("`{}` is no name of an archive", order.path.display()))
            .hint("it ends with `.tar.xz`"));
    }
    let prepared = prepare(order, frozen)?;
    prepared.hygiene.refuse()?;
    for finding in &prepared.hygiene.findings {
        progress.warn(format!("allowed: {}", finding.line()));
    }
    let tarball = Tarball::new(&prepared.tree, &prepared.chosen, &prepared.extras, prepared.limit);
    let size = tarball.size();
    let archived = match found_again(order, &tarball, size, progress)? {
        Some(archived) => archived,
        None => cast(order, frozen, (&tarball, size, &prepared), progress)?,
    };
    Ok(Report { archived, chosen: prepared.chosen.to_value(), walk: prepared.tree.report(), hygiene: prepared.hygiene })
}

/// The archive that is there already, if it is castoff's, whole, and of this very tree.
fn found_again(order: &Order<'_>, tarball: &Tarball<'_>, size: u64, progress: &Progress) -> Result<Option<Archived>> {
    let targets = targets(order);
    let mut there = Vec::new();
    for (_, path) in &targets {
        if fs::exists(path)? {
            there.push(path);
        }
    }
    let Some(first) = there.first() else { return Ok(None) };
    let name = (order.image, &order.recipe.name, order.number);
    let recorded_files = record::read(order.state, name, order.path)?;
    if recorded_files.is_none() && !order.force {
        return Err(Error::new(
            Kind::Conflict,
            format!("`{}` is there, and castoff has no record of it", first.display()),
        )
        .hint("move it away, or replace it with force=True"));
    }
    let wanted: Vec<Compression> = targets.iter().map(|(compression, _)| *compression).collect();
    if let Some(archived) = recorded(order, progress)?
        && archived.artefacts.iter().map(|artefact| artefact.compression).eq(wanted)
    {
        let mut stage = progress.stage("comparing the tree with the archive", Some(size), Unit::Bytes);
        if archived.tar_size == size && tarball.digest(&mut |count| stage.advance(count))? == archived.tree {
            return Ok(Some(archived));
        }
    }
    progress.warn(format!("`{}` is not the archive of this tree, or not whole: it is made anew", first.display()));
    Ok(None)
}

/// Writes all files of the archive in one pass.
fn cast(
    order: &Order<'_>,
    frozen: &Frozen<'_>,
    (tarball, size, prepared): (&Tarball<'_>, u64, &Prepared),
    progress: &Progress,
) -> Result<Archived> {
    let targets = targets(order);
    fs::require_space(fs::parent(order.path), size / LEAST_SHARE * targets.len() as u64)?;
    let stage = RefCell::new(progress.stage(format!("archiving {}", order.path.display()), Some(size), Unit::Bytes));
    let mut outputs = Outputs::open(&targets, size, &stage)?;
    fault::point("release.archive.opened");
    let tree = tarball.write(&mut |bytes| outputs.write(bytes))?;
    let (made, diff_id, written) = outputs.finish()?;
    if written != size {
        return Err(Error::new(Kind::Corrupt, format!("the archive came out as {written} bytes instead of {size}"))
            .hint("the container changed while it was read"));
    }
    for file in &made {
        file.sync()?;
    }
    frozen.confirm()?;
    let artefact = |file: &output::Made| Artefact {
        path: file.target.clone(),
        compression: file.compression,
        sums: file.sums.clone(),
    };
    let archived = Archived {
        image: order.image.clone(),
        flavour: order.recipe.name.clone(),
        number: order.number,
        diff_id,
        tar_size: size,
        tree,
        source_date: prepared.limit,
        artefacts: made.iter().map(artefact).collect(),
        privileged: prepared.hygiene.privileged.clone(),
        reused: false,
    };
    fault::point("release.archive.synced");
    record::write(order.state, &archived, order.path)?;
    fault::point("release.archive.recorded");
    // The `.tar.xz` comes first in the list, and last onto the disk: where it is, everything is.
    for file in made.into_iter().rev() {
        file.persist()?;
    }
    fault::point("release.archive.named");
    Ok(archived)
}
