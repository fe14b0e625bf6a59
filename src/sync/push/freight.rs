//! An image's container as it is pushed: walked once, named by release and content.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::engine::lxc::LxcContainer;
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::progress::{Progress, Unit};
use crate::rootfs::Limits;
use crate::rootfs::walk::{DirectoryLayer, WalkOptions};
use crate::sync::Surroundings;
use crate::vocab::OsImage;

/// What is in a container's folder and not the image's: temporaries, and archives that the original left there.
pub(super) const LEFT_OUT: [&str; 2] = ["--exclude=/.castoff-*", "--exclude=/makina-states-lxc-*xz"];

/// A container that is to be pushed.
#[derive(Clone, Debug)]
pub struct Source {
    /// The image, which is the container's name.
    pub image: OsImage,
    /// The release it is; 0 where none was made.
    pub version: u32,
}

/// A source that was walked.
pub(super) struct Freight {
    pub(super) image: OsImage,
    pub(super) version: u32,
    /// `VERSION-DIGEST`: the name of the tree on hosts.
    pub(super) name: String,
    pub(super) folder: PathBuf,
    layer: DirectoryLayer,
    limits: Limits,
}

impl Freight {
    /// Walks the container and reads it once.
    pub(super) fn load(source: &Source, surroundings: &Surroundings<'_>) -> Result<Self> {
        let config = surroundings.config;
        let container = LxcContainer::find(source.image.as_str(), &config.lxc_path)?;
        let folder = container.directory.clone();
        if container.existing_rootfs()? != folder.join("rootfs") {
            return Err(Error::new(
                Kind::Unsupported,
                format!("the root filesystem of `{}` is not in its folder", source.image),
            )
            .hint("copy the container to a directory with `lxc-copy -B dir`"));
        }
        let limits = Limits { entries: config.limit_entries, ..Limits::default() };
        let (layer, bytes) = walk(&folder, limits, surroundings.progress)?;
        let mut stage = surroundings.progress.stage(format!("reading {}", source.image), Some(bytes), Unit::Bytes);
        let digest = layer.tree_digest(&mut |count| {
            stage.advance(count);
            surroundings.cancel.check()
        })?;
        let hex = digest.hex();
        let name = format!("{}-{}", source.version, hex.get(..16).unwrap_or(&hex));
        Ok(Self { image: source.image.clone(), version: source.version, name, folder, layer, limits })
    }

    /// Fails if the container is not what it was.
    pub(super) fn confirm(&self) -> Result<()> {
        let (now, _) = walk(&self.folder, self.limits, &Progress::silent())?;
        if self.layer.entries().eq(now.entries()) {
            return Ok(());
        }
        Err(Error::new(Kind::Conflict, format!("the container `{}` changed while it was sent", self.image))
            .hint("stop what writes into it, and run the same again"))
    }
}

fn walk(folder: &Path, limits: Limits, progress: &Progress) -> Result<(DirectoryLayer, u64)> {
    let names = host::fs::list(folder)?;
    let is_left_out =
        |name: &str| name.starts_with(".castoff-") || (name.starts_with("makina-states-lxc-") && name.ends_with("xz"));
    let leave_out: BTreeSet<Vec<u8>> = names
        .iter()
        .filter(|name| is_left_out(&name.to_string_lossy()))
        .map(|name| name.as_encoded_bytes().to_vec())
        .collect();
    let options = WalkOptions { leave_out, ..WalkOptions::default() };
    let (layer, report) = DirectoryLayer::open(folder, &options, limits, progress)?;
    for (findings, kind, why) in [
        (&report.unreadable, Kind::Refused, "cannot be read"),
        (&report.vanished, Kind::Conflict, "vanished while it was read"),
    ] {
        if let Some(first) = findings.lines().first() {
            return Err(Error::new(kind, format!("`{first}` {why}"))
                .hint("run castoff as root, and stop what writes into the container"));
        }
    }
    Ok((layer, report.content_bytes))
}
