//! Images inside one tar: archives of `docker save` in all its forms, and OCI layouts in a tar.
//!
//! Members are found by one pass over the headers and read where they lie. Names inside an archive are looked up in
//! that archive only: whatever they say, nothing of the host is opened.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::compression::Compression;
use super::config::ImageConfig;
use super::json;
use super::layout::{self, Choice, Files};
use super::manifest::Platform;
use super::source::{ImageSource, LayerSource};
use super::spool::{self, SpoolLimits};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Progress, Unit};
use crate::rootfs::tar::{Positioned, Scanner};
use crate::rootfs::{EntryKind, FileRegion, Limits, normal_path};
use crate::vocab::{DiffId, Digest, ImageName};

/// An image archive has a few members a layer; one with more than this is something else.
const MEMBER_LIMIT: u64 = 250_000;
/// The most bytes all names of an archive may have together.
const NAME_LIMIT: usize = 32 << 20;
/// How many links may lead to one another.
const LINK_LIMIT: usize = 8;

/// What a name in an archive is.
enum Member {
    File {
        start: u64,
        size: u64,
    },
    Link(Vec<u8>),
    /// A file with holes cut out, which cannot be read in place.
    Sparse,
}

/// The members of an open tar.
struct ArchiveFiles {
    file: Arc<std::fs::File>,
    members: BTreeMap<Vec<u8>, Member>,
    place: String,
}

impl ArchiveFiles {
    fn open(path: &Path, scratch: &Path, limits: &SpoolLimits, progress: &Progress) -> Result<Self> {
        let place = format!("`{}`", path.display());
        if fs::metadata(path)?.is_some_and(|there| there.is_dir()) {
            return Err(Error::new(Kind::Usage, format!("{place} is a folder, not an archive"))
                .hint(format!("an OCI layout in a folder is `oci:{}`", path.display())));
        }
        let whole = spool::open_file(path, scratch, limits, progress)?;
        let region = match Compression::detect(&whole).context(|| format!("cannot read {place}"))? {
            Compression::None => whole,
            compression => {
                let stage = progress.stage(format!("unfolding {place}"), Some(whole.size), Unit::Bytes);
                spool::unfold(&whole, compression, None, scratch, limits, stage)
                    .context(|| format!("cannot unfold {place}"))?
                    .0
            }
        };
        let members = index(&region).context(|| format!("{place} is not an image archive"))?;
        Ok(Self { file: region.file, members, place })
    }

    /// The member a path leads to, links followed inside the archive.
    fn find(&self, path: &str) -> Result<Option<&Member>> {
        let leads_out = || {
            Error::new(Kind::Refused, format!("`{path}` of {} leads out of the archive", self.place))
                .hint("the archive is damaged or was made to do harm")
        };
        let mut name = normal_path(path.as_bytes()).ok_or_else(leads_out)?;
        for _ in 0..LINK_LIMIT {
            match self.members.get(&name) {
                Some(Member::Link(target)) => name = resolve(&name, target).ok_or_else(leads_out)?,
                found => return Ok(found),
            }
        }
        Err(Error::new(Kind::Corrupt, format!("`{path}` of {} leads through too many links", self.place)))
    }
}

impl Files for ArchiveFiles {
    fn open(&self, path: &str) -> Result<Option<FileRegion>> {
        match self.find(path)? {
            None => Ok(None),
            Some(Member::File { start, size }) => {
                Ok(Some(FileRegion { file: Arc::clone(&self.file), start: *start, size: *size }))
            }
            Some(Member::Sparse | Member::Link(_)) => {
                Err(Error::new(Kind::Unsupported, format!("`{path}` of {} is stored as a sparse file", self.place))
                    .hint("write the archive again without `--sparse`"))
            }
        }
    }

    fn place(&self) -> String {
        self.place.clone()
    }
}

/// Every file and link of the tar; of several members with one name the last counts, as when a tar is unpacked.
fn index(tar: &FileRegion) -> Result<BTreeMap<Vec<u8>, Member>> {
    let limits = Limits { entries: MEMBER_LIMIT, ..Limits::default() };
    let mut scanner = Scanner::new(Positioned::new(tar, 0), limits);
    let mut members = BTreeMap::new();
    let mut name_bytes = 0;
    while let Some(member) = scanner.next_member()? {
        let found = match member.entry.kind {
            _ if member.sparse.is_some() => Member::Sparse,
            EntryKind::File { size } => Member::File { start: tar.start + member.span.data, size },
            EntryKind::Symlink { target } => Member::Link(target),
            // Relative to the archive's root, unlike a symbolic link.
            EntryKind::Hardlink { target } => Member::Link([b"/", target.as_slice()].concat()),
            EntryKind::Directory | EntryKind::CharDevice { .. } | EntryKind::BlockDevice { .. } | EntryKind::Fifo => {
                continue;
            }
        };
        name_bytes += member.entry.path.len();
        if name_bytes > NAME_LIMIT {
            return Err(Error::new(Kind::Limit, format!("the names of its members have more than {NAME_LIMIT} bytes")));
        }
        members.insert(member.entry.path, found);
    }
    Ok(members)
}

/// Where a link leads; none out of the archive. Absolute targets start at the archive's root.
fn resolve(link: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = link.split(|byte| *byte == b'/').collect();
    parts.pop();
    if target.starts_with(b"/") {
        parts.clear();
    }
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

/// One image of `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
    /// Descriptors of layers that are kept elsewhere, by diff ID.
    #[serde(default)]
    layer_sources: Option<BTreeMap<String, ForeignLayer>>,
}

#[derive(Deserialize)]
struct ForeignLayer {
    #[serde(default)]
    urls: Option<Vec<String>>,
}

impl Saved {
    fn carries(&self, name: &ImageName) -> bool {
        self.names().any(|(_, parsed)| parsed.as_ref() == Some(name))
    }

    fn names(&self) -> impl Iterator<Item = (&str, Option<ImageName>)> {
        self.repo_tags.iter().flatten().map(|text| (text.as_str(), text.parse().ok()))
    }
}

/// Opens an image of an archive as `docker save` writes it; without a name the archive must hold one image only.
/// A compressed archive is unfolded into `scratch` first.
pub fn open_docker_archive(
    path: &Path,
    name: Option<&ImageName>,
    scratch: &Path,
    limits: &SpoolLimits,
    progress: &Progress,
) -> Result<ImageSource> {
    let files = ArchiveFiles::open(path, scratch, limits, progress)?;
    let place = &files.place;
    let Some(bytes) = layout::small(&files, "manifest.json")? else {
        let error = Error::new(Kind::Corrupt, format!("{place} is not a docker archive: it has no `manifest.json`"));
        return Err(if files.members.contains_key(b"index.json".as_slice()) {
            error.hint(format!("it is an OCI archive: `oci-archive:{}`", path.display()))
        } else if files.members.contains_key(b"repositories".as_slice()) {
            error.hint("it was saved before Docker 1.10: load it and save it again")
        } else {
            error.hint(format!("a root filesystem in a tar is `tar:{}`", path.display()))
        });
    };
    let images: Vec<Saved> = json::parse(&format!("`manifest.json` of {place}"), &bytes)?;
    image(&files, &choose(images, name, place)?)
}

fn choose(images: Vec<Saved>, name: Option<&ImageName>, place: &str) -> Result<Saved> {
    let all: Vec<String> = images.iter().flat_map(Saved::names).take(20).map(|(text, _)| format!("`{text}`")).collect();
    let holds =
        || if all.is_empty() { "its images have no names".to_owned() } else { format!("it holds {}", all.join(", ")) };
    let count = images.len();
    let mut found = images.into_iter().filter(|image| name.is_none_or(|name| image.carries(name)));
    match (found.next(), name) {
        (None, Some(name)) => Err(Error::new(Kind::NotFound, format!("{place} holds no image `{name}`")).hint(holds())),
        (None, None) => Err(Error::new(Kind::NotFound, format!("{place} holds no image"))),
        (Some(_), None) if count > 1 => {
            Err(Error::new(Kind::Usage, format!("{place} holds {count} images and none is named: {}", holds()))
                .hint("name one behind a colon: `docker-archive:FILE:NAME`"))
        }
        (Some(image), _) => Ok(image),
    }
}

fn image(files: &ArchiveFiles, saved: &Saved) -> Result<ImageSource> {
    let place = &files.place;
    let bytes = layout::small(files, &saved.config)?.ok_or_else(|| {
        Error::new(Kind::Corrupt, format!("{place} lacks the image configuration `{}`", saved.config))
    })?;
    let id = Digest::of(&bytes);
    if let Some(said) = digest_in(&saved.config).filter(|said| *said != id) {
        return Err(Error::new(
            Kind::Corrupt,
            format!("the image configuration `{said}` of {place} is damaged: its digest is `{id}`"),
        ));
    }
    let config = ImageConfig::parse(&bytes).context(|| format!("cannot read the image `{id}` of {place}"))?;
    let paths = saved.layers.as_deref().unwrap_or_default();
    if paths.len() != config.diff_ids().len() {
        return Err(Error::new(
            Kind::Corrupt,
            format!(
                "`manifest.json` of {place} lists {} layers, the image {} diff IDs",
                paths.len(),
                config.diff_ids().len()
            ),
        ));
    }
    let mut layers = Vec::with_capacity(paths.len());
    for (diff_id, path) in config.diff_ids().iter().zip(paths) {
        let region = files.open(path)?.ok_or_else(|| missing(saved, path, *diff_id, place))?;
        let compression = Compression::detect(&region).context(|| format!("cannot read layer `{path}` of {place}"))?;
        layers.push(LayerSource {
            diff_id: *diff_id,
            blob: None,
            content: Arc::new(region),
            compression,
            verified: false,
        });
    }
    let mut notes = Vec::new();
    let mut names = Vec::new();
    for (text, name) in saved.names() {
        match name {
            Some(name) => names.push(name),
            None => notes.push(format!("left out the name `{text}`, which is no image name")),
        }
    }
    let platform = config.platform().clone();
    Ok(ImageSource { platform, config, config_digest: id, names, layers, manifest: None, notes })
}

fn missing(saved: &Saved, path: &str, diff_id: DiffId, place: &str) -> Error {
    let error = Error::new(Kind::Corrupt, format!("{place} lacks layer `{path}`"));
    let foreign = saved.layer_sources.as_ref().and_then(|sources| sources.get(&diff_id.to_string()));
    match foreign {
        None => error.hint("the archive is incomplete: save the image again"),
        Some(layer) => match layer.urls.as_deref() {
            Some([url, ..]) => error.hint(format!("the layer is foreign, its maker offers it at {url}")),
            _ => error.hint("the layer is foreign: it is kept outside the image"),
        },
    }
}

/// The digest a configuration's file name promises: `blobs/sha256/HEX`, `HEX.json` or `sha256:HEX`.
fn digest_in(path: &str) -> Option<Digest> {
    let name = path.rsplit('/').next()?;
    let hex = name.strip_suffix(".json").unwrap_or(name);
    format!("sha256:{}", hex.strip_prefix("sha256:").unwrap_or(hex)).parse().ok()
}

/// Opens an image of an OCI layout in a tar, for this host's platform where it has several. A compressed archive is
/// unfolded into `scratch` first.
pub fn open_oci_archive(
    path: &Path,
    tag: Option<&str>,
    scratch: &Path,
    limits: &SpoolLimits,
    progress: &Progress,
) -> Result<ImageSource> {
    let files = ArchiveFiles::open(path, scratch, limits, progress)?;
    layout::read(&files, &Choice { tag, platform: &Platform::host() })
}
