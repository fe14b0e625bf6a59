//! The bare tar of a release, by the cheapest way there is.

use std::io::{BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::cache::Cache;
use super::home::Home;
use super::options::Options;
use super::report::Report;
use super::unfold::{Bare, unfold};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::host::fs::TempFile;
use crate::manifest::{Artefact, Manifest, Patch, PatchLimits, Route, RouteLimits, apply, route};
use crate::progress::Unit;
use crate::remote::{Location, Wanted};
use crate::vocab::{DiffId, Digest, FileName};

/// The way to a release's tar that was chosen.
pub(super) struct Way<'a> {
    manifest: &'a Manifest,
    options: &'a Options<'a>,
    home: &'a Home,
    cache: &'a Cache,
    route: Route<'a>,
    full: &'a Artefact,
}

impl<'a> Way<'a> {
    /// The cheapest way, given what the cache holds.
    pub(super) fn choose(
        manifest: &'a Manifest,
        options: &'a Options<'a>,
        home: &'a Home,
        cache: &'a Cache,
    ) -> Result<Self> {
        let smallest = manifest.artefacts.iter().min_by_key(|artefact| artefact.size);
        let full = match smallest {
            Some(full) => full,
            None => manifest.archive()?,
        };
        let limits = RouteLimits { tar: options.surroundings.config.sync.patch_limit, ..RouteLimits::default() };
        let route = route(&cache.held()?, manifest.diff_id, &manifest.patches, full.size, limits);
        Ok(Self { manifest, options, home, cache, route, full })
    }

    /// The bytes that are to be fetched.
    pub(super) fn bytes(&self) -> u64 {
        self.route.bytes(self.full.size)
    }

    /// The way in words.
    pub(super) fn name(&self) -> String {
        match &self.route {
            Route::Held => "held".to_owned(),
            Route::Full => "full".to_owned(),
            Route::Patches(patches) if patches.len() == 1 => "1 patch".to_owned(),
            Route::Patches(patches) => format!("{} patches", patches.len()),
        }
    }

    /// Fails unless there is room for the files under way, the tar and the tree.
    pub(super) fn require_room(&self) -> Result<()> {
        let tar = self.manifest.tar_size;
        let state = self.bytes().saturating_add(tar);
        let device = |path: &Path| host::fs::metadata(path).map(|found| found.map(|found| found.dev()));
        if device(&self.home.state)? == device(&self.home.trees)? {
            return host::fs::require_space(&self.home.state, state.saturating_add(tar));
        }
        host::fs::require_space(&self.home.state, state)?;
        host::fs::require_space(&self.home.trees, tar)
    }

    /// Goes the way; the tar is verified. Where patches do not lead to it, the full file does.
    pub(super) fn go(&self, report: &mut Report) -> Result<TempFile> {
        let tar = TempFile::beside(&self.home.state.join("tar"), 0o600)?;
        let shortcut = match &self.route {
            Route::Full => None,
            Route::Held => Some(self.take_held(&tar)),
            Route::Patches(patches) => Some(self.apply_patches(patches, &tar, report)),
        };
        match shortcut {
            Some(Ok(())) => return Ok(tar),
            Some(Err(error)) if matches!(error.kind(), Kind::Interrupted | Kind::NoSpace) => return Err(error),
            Some(Err(error)) => report.warn(&error, "fetching the whole file instead"),
            None => {}
        }
        report.route("full");
        let path = self.fetch(&self.full.name, Wanted { size: self.full.size, sha256: self.full.sha256 }, report)?;
        let tar_size = self.manifest.tar_size;
        let (progress, cancel) = (self.options.surroundings.progress, self.options.surroundings.cancel);
        self.bare().into_file(&tar, |out| {
            let mut stage = progress.stage(format!("unfolding {}", self.full.name), Some(tar_size), Unit::Bytes);
            unfold(&path, self.full.compression, tar_size, out, (&mut stage, cancel))
        })?;
        Ok(tar)
    }

    fn bare(&self) -> Bare {
        Bare { diff_id: self.manifest.diff_id, size: self.manifest.tar_size }
    }

    fn held(&self, diff_id: DiffId) -> Result<Vec<u8>> {
        let (progress, cancel) = (self.options.surroundings.progress, self.options.surroundings.cancel);
        self.cache.read(diff_id, progress, cancel)?.ok_or_else(gone)
    }

    fn take_held(&self, tar: &TempFile) -> Result<()> {
        let bytes = self.held(self.manifest.diff_id)?;
        self.bare().into_file(tar, |out| out.write_all(&bytes).context(|| "cannot write the tar"))
    }

    /// Applies one patch after the other; each result is verified before the next one is applied to it.
    fn apply_patches(&self, patches: &[&Patch], tar: &TempFile, report: &mut Report) -> Result<()> {
        let (Some(first), Some(last)) = (patches.first(), patches.last()) else { return Err(gone()) };
        let mut files = Vec::new();
        for patch in patches {
            files.push(self.fetch(&patch.name, Wanted { size: patch.size, sha256: patch.sha256 }, report)?);
        }
        host::fault::point("sync.patches-fetched");
        let surroundings = &self.options.surroundings;
        let limits = PatchLimits { tar: surroundings.config.sync.patch_limit };
        let mut known = self.held(first.from)?;
        let mut stage = surroundings.progress.stage("applying patches", Some(patches.len() as u64), Unit::Items);
        for (patch, file) in patches.iter().zip(&files) {
            surroundings.cancel.check()?;
            let source = BufReader::new(host::fs::open_regular(file, false)?);
            let result = Bare { diff_id: patch.to, size: patch.to_size };
            let wrong = || format!("cannot apply the patch `{}`", patch.name);
            if patch.name == last.name {
                result.into_file(tar, |out| apply(&known, source, result.size, limits, out)).context(wrong)?;
            } else {
                let mut made = Vec::new();
                apply(&known, source, result.size, limits, &mut made).context(wrong)?;
                result.check(Digest::of(&made), made.len() as u64).context(wrong)?;
                known = made;
            }
            stage.advance(1);
        }
        Ok(())
    }

    /// The verified file of this name, from the first place that has it.
    fn fetch(&self, name: &FileName, wanted: Wanted, report: &mut Report) -> Result<PathBuf> {
        let own = self.options.mirror.iter().map(|mirror| mirror.of(name));
        let places = own.chain(self.manifest.places(name)).map(|place| place.parse::<Location>());
        let places = places.collect::<Result<Vec<_>>>()?;
        self.options
            .remote
            .fetch(wanted, &places, &self.home.parts(), report.moved())
            .context(|| format!("cannot fetch `{name}`"))
    }
}

fn gone() -> Error {
    Error::new(Kind::NotFound, "the kept tar is gone or damaged")
}
