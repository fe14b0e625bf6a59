//! What castoff knows of an archive it made: without it, a file of the right name is not believed.
//!
//! ```text
//! STATE/release/archives/IMAGE-FLAVOUR-N-PATH.json    PATH: the first 12 hex digits of the SHA-256 of the archive's path
//! ```
//!
//! Written before the archive gets its name: an archive of castoff's own always has a record, and one whose record
//! says something else is not what castoff made.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::output::Sums;
use super::{Archived, Artefact};
use crate::error::{Error, Kind, Result};
use crate::host::fs;
use crate::release::compression::Compression;
use crate::vocab::{DiffId, Digest, Flavour, OsImage, ReleaseNumber};

/// The most bytes of a record.
const LIMIT: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    format: u32,
    path: Vec<u8>,
    image: OsImage,
    flavor: Flavour,
    version: ReleaseNumber,
    diff_id: DiffId,
    tar_size: u64,
    tree: Digest,
    source_date: i64,
    files: Vec<File>,
    privileged: Vec<Vec<u8>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct File {
    compression: String,
    size: u64,
    sha256: Digest,
    md5: String,
}

fn place(state: &Path, name: (&OsImage, &Flavour, ReleaseNumber), path: &Path) -> PathBuf {
    let (image, flavour, number) = name;
    let of_path = Digest::of(path.as_os_str().as_bytes()).short();
    state.join(format!("release/archives/{image}-{flavour}-{number}-{of_path}.json"))
}

fn word(compression: Compression) -> String {
    match compression {
        Compression::Xz => "xz".to_owned(),
        Compression::Zstd { level } => format!("zstd:{level}"),
    }
}

/// Writes down what is about to get its name.
pub(super) fn write(state: &Path, archived: &Archived, path: &Path) -> Result<()> {
    let file = |artefact: &Artefact| File {
        compression: word(artefact.compression),
        size: artefact.sums.size,
        sha256: artefact.sums.sha256,
        md5: artefact.sums.md5.clone(),
    };
    let record = Record {
        format: 1,
        path: path.as_os_str().as_bytes().to_vec(),
        image: archived.image.clone(),
        flavor: archived.flavour.clone(),
        version: archived.number,
        diff_id: archived.diff_id,
        tar_size: archived.tar_size,
        tree: archived.tree,
        source_date: archived.source_date,
        files: archived.artefacts.iter().map(file).collect(),
        privileged: archived.privileged.iter().cloned().collect(),
    };
    let bytes = serde_json::to_vec(&record)
        .map_err(|error| Error::new(Kind::Failed, "cannot write the record of an archive").caused_by(error))?;
    let place = place(state, (&archived.image, &archived.flavour, archived.number), path);
    fs::create_dir_all(fs::parent(&place), 0o700)?;
    fs::sweep(fs::parent(&place))?;
    fs::write_atomic(&place, 0o600, &bytes)
}

/// What was written down of the archive at this path; none where nothing was.
pub(super) fn read(state: &Path, name: (&OsImage, &Flavour, ReleaseNumber), path: &Path) -> Result<Option<Archived>> {
    let place = place(state, name, path);
    if !fs::exists(&place)? {
        return Ok(None);
    }
    let wrong = || {
        Error::new(Kind::Corrupt, format!("the record `{}` cannot be understood", place.display()))
            .hint("remove it together with the archive it is about")
    };
    let record: Record =
        serde_json::from_slice(&fs::read_at_most(&place, LIMIT)?).map_err(|error| wrong().caused_by(error))?;
    if record.format != 1 || (&record.image, &record.flavor, record.version) != name {
        return Err(wrong());
    }
    if record.path != path.as_os_str().as_bytes() {
        return Ok(None);
    }
    let mut artefacts = Vec::new();
    for file in record.files {
        let compression: Compression = file.compression.parse()?;
        artefacts.push(Artefact {
            path: super::beside(path, compression),
            compression,
            sums: Sums { size: file.size, sha256: file.sha256, md5: file.md5 },
        });
    }
    Ok(Some(Archived {
        image: record.image,
        flavour: record.flavor,
        number: record.version,
        diff_id: record.diff_id,
        tar_size: record.tar_size,
        tree: record.tree,
        source_date: record.source_date,
        artefacts,
        privileged: record.privileged.into_iter().collect(),
        reused: true,
    }))
}
