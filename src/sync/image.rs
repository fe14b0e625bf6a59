//! One image brought to what is served.

use std::path::Path;
use std::sync::Arc;

use super::cache::Cache;
use super::decide::{Decision, decide};
use super::followed::Followed;
use super::home::Home;
use super::obtain::Way;
use super::options::Options;
use super::record::{Kept, Last, Record};
use super::report::Report;
use super::source::Manifests;
use super::trust::{self, Trusted};
use crate::engine::merge::merge;
use crate::engine::open::{Content, Opened};
use crate::engine::tree_sink::to_directory;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::host::fs::TempFile;
use crate::progress::Unit;
use crate::rootfs::flatten::FlattenOptions;
use crate::rootfs::unpack;
use crate::rootfs::walk::{DirectoryLayer, WalkOptions};
use crate::rootfs::{FileRegion, Limits};
use crate::vocab::{Map, Reference, ReleaseNumber, timestamp};

/// Brings the image to what is served, or says in the report why nothing was done.
pub(super) fn synchronise(
    options: &Options<'_>,
    followed: &Followed,
    manifests: &mut Manifests,
    report: &mut Report,
) -> Result<()> {
    let home = Home::of(followed, &options.surroundings);
    if report.test() {
        let record = Record::read(&home.record())?;
        let trusted = trust::read(options, followed, manifests, &record, report.moved())?;
        return Image { options, home: &home, record, trusted }.preview(report);
    }
    let _lock = home.enter(followed)?;
    let before = Record::read(&home.record())?;
    let result = work(options, followed, manifests, (&home, &before), report);
    let mut record = Record::read(&home.record())?;
    let known = record.clone();
    record.last = Some(Last {
        at: host::clock::now().as_secs(),
        result: result.is_ok(),
        why: match &result {
            Ok(()) => report.reason().to_owned(),
            Err(error) => error.message().to_owned(),
        },
    });
    // How the run ended is no reason for it to fail: a full disk has its own error already.
    if let Err(error) = record.write(&home.record(), &known) {
        report.warn(&error, "how this run ended is not remembered");
    }
    result
}

fn work(
    options: &Options<'_>,
    followed: &Followed,
    manifests: &Manifests,
    (home, before): (&Home, &Record),
    report: &mut Report,
) -> Result<()> {
    report.from(home.current()?);
    let trusted = trust::read(options, followed, manifests, before, report.moved())?;
    host::fault::point("sync.trusted");
    let mut record = before.clone();
    // Remembered before anything else: what is older is refused from now on, however this run ends.
    record.highest = Some(trusted.verdict.highest.into());
    record.write(&home.record(), before)?;
    host::fault::point("sync.highest-recorded");
    Image { options, home, record, trusted }.advance(report)
}

struct Image<'a> {
    options: &'a Options<'a>,
    home: &'a Home,
    record: Record,
    trusted: Trusted,
}

impl Image<'_> {
    fn cache(&self) -> Cache {
        let sync = &self.options.surroundings.config.sync;
        Cache::new(&self.home.tars, sync.cache_size, sync.patch_limit)
    }

    fn decision(&self, report: &mut Report) -> Result<Decision> {
        let manifest = &self.trusted.manifest;
        let current = self.home.current()?;
        report.from(current);
        report.served(manifest.version, &self.trusted.key);
        let decision = decide(manifest, &self.record, current, &self.home.kept(&self.record)?)?;
        if let Some(late) = self.trusted.verdict.expired {
            let when = timestamp(manifest.expires.0.try_into().unwrap_or(i64::MAX), 0);
            let expired =
                Error::new(Kind::Refused, format!("the manifest of release {} expired {when}", manifest.version))
                    .hint("somebody may be holding newer releases back; `sync.allow_expired` follows it all the same");
            if decision == Decision::Install && !self.options.surroundings.config.sync.allow_expired {
                return Err(expired);
            }
            report.warn(&expired, &format!("{late} s ago: no newer one is served"));
        }
        Ok(decision)
    }

    /// Says what would be done.
    fn preview(&self, report: &mut Report) -> Result<()> {
        match self.decision(report)? {
            Decision::Nothing(why) => report.nothing(why),
            Decision::Switch(number, why) => {
                report.route("none");
                report.to(number, why);
            }
            Decision::Install => {
                let cache = self.cache();
                let way = Way::choose(&self.trusted.manifest, self.options, self.home, &cache)?;
                report.route(&way.name());
                report.would_move(way.bytes());
                report.to(self.trusted.manifest.version, "it is served".to_owned());
            }
        }
        Ok(())
    }

    /// Does it.
    fn advance(&mut self, report: &mut Report) -> Result<()> {
        let saved = self.record.clone();
        match self.decision(report)? {
            Decision::Nothing(why) => report.nothing(why),
            Decision::Switch(number, why) => {
                report.route("none");
                self.home.point(number)?;
                report.to(number, why);
            }
            Decision::Install => self.install(report)?,
        }
        self.tidy(&saved, report)
    }

    fn install(&mut self, report: &mut Report) -> Result<()> {
        let number = self.trusted.manifest.version;
        let manifest = &self.trusted.manifest;
        let cache = self.cache();
        let way = Way::choose(manifest, self.options, self.home, &cache)?;
        way.require_room()?;
        report.route(&way.name());
        let tar = way.go(report)?;
        host::fault::point("sync.tar-verified");
        let saved = self.record.clone();
        let kept =
            Kept { diff_id: manifest.diff_id, sha256: manifest.archive()?.sha256, at: host::clock::now().as_secs() };
        self.record.releases.insert(number, kept);
        self.record.write(&self.home.record(), &saved)?;
        host::fault::point("sync.release-recorded");
        self.unpack(number, &tar, report)?;
        host::fault::point("sync.unpacked");
        self.home.point(number)?;
        report.to(number, "it is served".to_owned());
        let cancel = self.options.surroundings.cancel;
        match cache.keep(manifest.diff_id, tar.file(), manifest.tar_size, cancel) {
            Ok(kept) => report.kept_tar(kept),
            // The release is in place; the next one costs more.
            Err(error) => report.warn(&error, "the next patch has nothing to be applied to"),
        }
        host::fault::point("sync.tar-kept");
        Ok(())
    }

    /// Unpacks the tar into a new folder, which gets its name when all is synced.
    fn unpack(&self, number: ReleaseNumber, tar: &TempFile, report: &mut Report) -> Result<()> {
        let surroundings = &self.options.surroundings;
        let engine = crate::engine::Surroundings::new(surroundings.config, surroundings.progress);
        let file = tar.file().try_clone().context(|| format!("cannot share `{}`", tar.path().display()))?;
        let region = FileRegion { file: Arc::new(file), start: 0, size: self.trusted.manifest.tar_size };
        let opened = Opened {
            reference: Reference::Tar(tar.path().to_owned()),
            served_by: None,
            content: Content::Tree(Arc::new(region)),
            left_out: Vec::new(),
            warnings: Vec::new(),
            notes: Map::new(),
        };
        let merged = merge(&opened, FlattenOptions::default(), Path::new(""), &engine)?;
        surroundings.cancel.check()?;
        let beside = self.home.unverified(number);
        let unpacked = to_directory(&beside, &merged, &engine)?;
        host::fault::point("sync.unverified");
        if let Err(error) = self.verify(&beside) {
            unpack::discard(&beside)?;
            return Err(error);
        }
        host::fs::rename(&beside, &self.home.tree(number))?;
        report.unpacked(unpacked.to_value());
        Ok(())
    }

    /// Fails unless the tree is the one that the manifest names, whatever became of it on the way through the tar.
    fn verify(&self, tree: &Path) -> Result<()> {
        let surroundings = &self.options.surroundings;
        let limits = Limits { entries: surroundings.config.limit_entries, ..Limits::default() };
        let options = WalkOptions::default();
        let (layer, found) = DirectoryLayer::open(tree, &options, limits, surroundings.progress)?;
        let mut stage = surroundings.progress.stage("verifying the tree", Some(found.content_bytes), Unit::Bytes);
        let digest = layer.tree_digest(&mut |count| {
            stage.advance(count);
            surroundings.cancel.check()
        })?;
        let wanted = self.trusted.manifest.tree;
        if digest == wanted {
            return Ok(());
        }
        Err(Error::new(Kind::Corrupt, "the unpacked tree is not the one that was announced")
            .caused_by(format!("{digest}, not {wanted}"))
            .hint("does the file system of `sync.folder` hold owners, ACLs and xattrs?"))
    }

    /// Removes what nobody needs any more; what is current stays of use as a base.
    fn tidy(&mut self, saved: &Record, report: &mut Report) -> Result<()> {
        let config = &self.options.surroundings.config.sync;
        let removed = self.home.prune(&mut self.record, config.keep)?;
        report.removed(&removed);
        if let Some(current) = self.home.current()?.and_then(|current| self.record.releases.get(&current)) {
            self.cache().touch(current.diff_id)?;
        }
        for name in host::fs::list(&self.home.parts())? {
            host::fs::remove_file(&self.home.parts().join(name))?;
        }
        self.record.write(&self.home.record(), saved)?;
        report.kept(&self.home.kept(&self.record)?, self.record.pin);
        host::fault::point("sync.tidied");
        Ok(())
    }
}
