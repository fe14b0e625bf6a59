//! Which configuration a new image gets: the source's own, byte for byte but for layers and history, or a default one.

use super::merge::Merged;
use super::open::Opened;
use super::request::PackRequest;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::oci::{HistoryEntry, ImageConfig, Platform};
use crate::rootfs::EntryKind;
use crate::rootfs::tar;
use crate::vocab::{DiffId, timestamp};

/// Everything that decides a configuration, but for the digests of layers that are not written yet.
pub struct Plan {
    base: ImageConfig,
    changes: Vec<String>,
    kept_history: Vec<HistoryEntry>,
    created: String,
    comment: String,
    /// What had to be assumed.
    pub notes: Vec<String>,
}

impl Plan {
    /// Decides everything that can be known before the layers are written; wrong `changes` fail here.
    pub fn new(request: &PackRequest, opened: &Opened, merged: &Merged, kept_layers: usize) -> Result<Self> {
        let mut notes = Vec::new();
        let (base, comment) = match (opened.image(), &request.config) {
            (_, Some(config)) => (config.clone(), format!("packed from what became of {}", config.digest())),
            (Some(image), None) => (image.config.clone(), format!("packed from {}", image.config_digest)),
            (None, None) => (default_config(merged, &mut notes)?, "packed from a root filesystem".to_owned()),
        };
        base.with_changes(&request.changes)?;
        let created = match host::clock::source_date_epoch()? {
            Some(time) => timestamp(i64::try_from(time.as_secs()).unwrap_or(i64::MAX), 0),
            None => base.created().unwrap_or("1970-01-01T00:00:00Z").to_owned(),
        };
        let kept_history = history_of(&base, kept_layers);
        Ok(Self { base, changes: request.changes.clone(), kept_history, created, comment, notes })
    }

    /// The configuration of an image with these layers. An image that already had just these keeps its own, so that
    /// packing a packed image gives that image.
    pub fn config(&self, diff_ids: &[DiffId]) -> Result<ImageConfig> {
        if self.changes.is_empty() && self.base.diff_ids() == diff_ids {
            return Ok(self.base.clone());
        }
        let mut history = self.kept_history.clone();
        let kept = history.iter().filter(|entry| !entry.is_empty_layer()).count();
        for _ in kept..diff_ids.len() {
            history.push(HistoryEntry::new(Some(&self.created), "castoff image.pack", &self.comment)?);
        }
        self.base.with_layers(diff_ids, &history)?.with_changes(&self.changes)
    }
}

/// The steps of the history that belong to the lowest layers; none where the history does not say.
pub(super) fn history_of(config: &ImageConfig, layers: usize) -> Vec<HistoryEntry> {
    if layers == 0 {
        return Vec::new();
    }
    let mut seen = 0;
    let kept: Vec<HistoryEntry> = config
        .history()
        .iter()
        .take_while(|entry| {
            if !entry.is_empty_layer() {
                seen += 1;
            }
            seen <= layers
        })
        .cloned()
        .collect();
    if kept.iter().filter(|entry| !entry.is_empty_layer()).count() == layers { kept } else { Vec::new() }
}

/// A tree's configuration: its own architecture, its newest modification time, `/sbin/init` if it has one.
fn default_config(merged: &Merged, notes: &mut Vec<String>) -> Result<ImageConfig> {
    let platform = platform(merged)?.unwrap_or_else(|| {
        let host = Platform::host();
        notes.push(format!(
            "no program in the tree tells its architecture: the image says {}, as this host",
            host.architecture
        ));
        host
    });
    let has_init = look_up(merged, b"sbin/init")?.is_some();
    let newest = merged.flat.report.newest;
    let newest = host::clock::source_date_epoch()?.map_or_else(
        || timestamp(newest.seconds, newest.nanoseconds),
        |time| timestamp(i64::try_from(time.as_secs()).unwrap_or(i64::MAX), 0),
    );
    ImageConfig::default_for(&platform, &newest, has_init)
}

/// Programs one of which every usable tree has; the first that is there tells the architecture.
const PROGRAMS: [&[u8]; 7] =
    [b"bin/sh", b"usr/bin/env", b"bin/busybox", b"sbin/init", b"usr/bin/dpkg", b"usr/bin/rpm", b"usr/bin/python3"];

fn platform(merged: &Merged) -> Result<Option<Platform>> {
    for program in PROGRAMS {
        let Some(found) = look_up(merged, program)? else { continue };
        let Some(content) = found.content else { continue };
        let mut header = [0; 20];
        let mut reader = tar::content(&*merged.layers[content.layer], &content.member);
        match std::io::Read::read_exact(&mut reader, &mut header) {
            // Shorter than any header: no program.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => continue,
            read => read.context(|| format!("cannot read `/{}`", String::from_utf8_lossy(program)))?,
        }
        if let Some(platform) = platform_of_elf(&header) {
            return Ok(Some(platform));
        }
    }
    Ok(None)
}

/// The platform in Go's words (`GOARCH`, OCI image specification) that an ELF header's class, data and `e_machine`
/// say (System V ABI, figure 4-3).
fn platform_of_elf(header: &[u8; 20]) -> Option<Platform> {
    if &header[..4] != b"\x7fELF" {
        return None;
    }
    let little = header[5] == 1;
    let wide = header[4] == 2;
    let machine = if little { [header[18], header[19]] } else { [header[19], header[18]] };
    let (architecture, variant) = match (u16::from_le_bytes(machine), wide, little) {
        (62, true, _) => ("amd64", None),
        (3, ..) => ("386", None),
        (183, true, true) => ("arm64", Some("v8")),
        (40, ..) => ("arm", Some("v7")),
        (21, true, true) => ("ppc64le", None),
        (21, true, false) => ("ppc64", None),
        (22, true, _) => ("s390x", None),
        (243, true, _) => ("riscv64", None),
        (8, true, true) => ("mips64le", None),
        (8, false, true) => ("mipsle", None),
        (258, true, _) => ("loong64", None),
        _ => return None,
    };
    Some(Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.map(str::to_owned) })
}

/// What a path of the merged tree means, its symbolic links followed inside the tree; none where it leads nowhere.
pub fn look_up(merged: &Merged, path: &[u8]) -> Result<Option<crate::rootfs::flatten::FlatEntry>> {
    let mut todo: Vec<Vec<u8>> = components(path);
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    let mut found = None;
    while let Some(name) = todo.pop() {
        if name == b".." {
            done.pop();
            continue;
        }
        done.push(name);
        let Some(entry) = merged.flat.find(&done.join(&b'/'), &merged.layers)? else { return Ok(None) };
        if let EntryKind::Symlink { target } = &entry.entry.kind {
            links += 1;
            if links > 40 {
                return Err(Error::new(
                    Kind::Corrupt,
                    format!("too many links at `{}`", String::from_utf8_lossy(path)),
                ));
            }
            if target.starts_with(b"/") {
                done.clear();
            } else {
                done.pop();
            }
            todo.extend(components(target));
            found = None;
        } else {
            found = Some(entry);
        }
    }
    Ok(found)
}

/// The components of a path, the first one last.
fn components(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b".")).rev().map(<[u8]>::to_vec).collect()
}

/// The whole content of a small file of the merged tree; none where there is no such file.
pub fn small_file(merged: &Merged, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>> {
    let Some(content) = look_up(merged, path)?.and_then(|found| found.content) else { return Ok(None) };
    let shown = || format!("cannot read `/{}` of the image", String::from_utf8_lossy(path));
    let mut bytes = Vec::new();
    let reader = tar::content(&*merged.layers[content.layer], &content.member);
    std::io::Read::read_to_end(&mut std::io::Read::take(reader, limit + 1), &mut bytes).context(shown)?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(
            Kind::Limit,
            format!("`/{}` has more than {limit} bytes", String::from_utf8_lossy(path)),
        ));
    }
    Ok(Some(bytes))
}
