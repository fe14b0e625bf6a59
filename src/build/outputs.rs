//! What is made of a finished tree, and put where it is wanted.
//!
//! Everything is written beside its place first, synced, and renamed. What is there stays until then; what castoff did
//! not write, or somebody changed since, is moved aside and never overwritten.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::order::Work;
use super::report::OutputReport;
use super::tree::{Ground, View};
use crate::config::Config;
use crate::engine::{PackRequest, Surroundings, pack};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs::{self, TempDir};
use crate::host::{clock, fault};
use crate::plan::{Compression, Form, Inputs, Output, Plan};
use crate::progress::Progress;
use crate::store::trees::{FolderOutput, OutputRecord, Standing, Trees};
use crate::vocab::{Digest, Reference};

/// An output of a finished tree.
pub(super) struct Making<'a> {
    pub(super) work: &'a Work,
    pub(super) plan: &'a Plan,
    /// Which of the plan's outputs.
    pub(super) number: usize,
    /// The tree.
    pub(super) layers: &'a [Digest],
    pub(super) epoch: i64,
    pub(super) inputs: &'a Inputs,
    pub(super) ground: Ground<'a>,
    pub(super) progress: &'a Progress,
}

/// What has to be done about what is at an output's path.
pub(super) enum Verdict {
    /// It is the result.
    Use(Box<OutputRecord>),
    /// The result is written; what is there is replaced for this reason, if anything is.
    Replace(Option<String>),
    /// The result is written, and what is there is moved aside for this reason.
    MoveAside(String),
}

/// Judges what is at a path. `force` takes nothing for a result.
pub(super) fn judge(trees: &Trees, path: &Path, inputs: Option<&Inputs>, force: bool) -> Result<Verdict> {
    if fs::link_metadata(path)?.is_some_and(|metadata| metadata.is_file() && metadata.len() == 0) {
        return Ok(Verdict::Replace(Some("empty file".to_owned())));
    }
    Ok(match trees.standing(path, &content_digest)? {
        Standing::Nothing => Verdict::Replace(None),
        Standing::NoFile => {
            return Err(Error::new(Kind::Conflict, format!("`{}` is not a regular file", path.display()))
                .hint("nothing was removed: move it away, and run the same again"));
        }
        Standing::Changed => Verdict::MoveAside("it was changed since castoff wrote it".to_owned()),
        Standing::Foreign => Verdict::MoveAside("castoff did not write it".to_owned()),
        Standing::Ours(_) if force => Verdict::Replace(Some("a rebuild was forced".to_owned())),
        Standing::Ours(record) => match inputs {
            Some(inputs) if inputs.identity() == record.identity => Verdict::Use(record),
            Some(inputs) => {
                let changed = inputs.changed(&Inputs(record.inputs.clone()));
                let changed: Vec<&str> = changed.iter().map(String::as_str).filter(|name| *name != "before").collect();
                Verdict::Replace(Some(if changed.is_empty() {
                    "what it is made of changed".to_owned()
                } else {
                    format!("changed: {}", changed.join(", "))
                }))
            }
            None => Verdict::Replace(Some("what it is made of changed".to_owned())),
        },
    })
}

/// The digest of a file's bytes; holes are counted, not read.
pub(super) fn content_digest(path: &Path) -> Result<Digest> {
    use std::os::unix::fs::FileExt as _;
    let wrong = || format!("cannot read `{}`", path.display());
    let file = fs::open_regular(path, false)?;
    let size = file.metadata().context(wrong)?.len();
    let mut hasher = <sha2::Sha256 as sha2::Digest>::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < size {
        at = match rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(at)) {
            Ok(at) => at,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error).context(wrong),
        };
        let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(at)).context(wrong)?;
        while at < end {
            let want = usize::try_from(end - at).unwrap_or(buffer.len()).min(buffer.len());
            let count = file.read_at(&mut buffer[..want], at).context(wrong)?;
            if count == 0 {
                break;
            }
            // Zeros that are stored count as holes, so that a copy of the file has its digest.
            for (number, block) in buffer[..count].chunks(4096).enumerate() {
                if block.iter().any(|byte| *byte != 0) {
                    sha2::Digest::update(&mut hasher, (at + number as u64 * 4096).to_be_bytes());
                    sha2::Digest::update(&mut hasher, (block.len() as u64).to_be_bytes());
                    sha2::Digest::update(&mut hasher, block);
                }
            }
            at += count as u64;
        }
    }
    sha2::Digest::update(&mut hasher, size.to_be_bytes());
    Ok(Digest::from_bytes(sha2::Digest::finalize(hasher).into()))
}

impl Making<'_> {
    fn output(&self) -> &Output {
        &self.plan.outputs[self.number]
    }

    /// Makes the output, unless it is there.
    pub(super) fn run(&self) -> Result<OutputReport> {
        let began = clock::now();
        let output = self.output();
        let mut report = OutputReport {
            what: output.summary(),
            path: output.path.clone(),
            hit: false,
            replaced: None,
            moved_to: None,
            bytes: 0,
            seconds: 0.0,
        };
        match (&output.form, &output.path) {
            (Form::Image { .. }, _) => {
                let images = self.work.images.get(&self.plan.name).and_then(|images| images.get(&self.number));
                // Whoever gave the order takes it from there.
                match images {
                    Some(tar) => self.tar(tar)?,
                    None => report.hit = true,
                }
            }
            (Form::Directory | Form::Kernel, Some(path)) => self.folder(path, &mut report)?,
            (_, Some(path)) => self.file(path, &mut report)?,
            (_, None) => {
                return Err(Error::new(Kind::Usage, format!("an output of `{}` has no place", self.plan.name)));
            }
        }
        report.seconds = clock::now().saturating_sub(began).as_secs_f64();
        Ok(report)
    }

    fn file(&self, path: &Path, report: &mut OutputReport) -> Result<()> {
        let trees = self.ground.trees;
        let verdict = judge(trees, path, Some(self.inputs), self.work.force)?;
        if let Verdict::Use(_) = verdict {
            report.hit = true;
            report.bytes = bytes_of(path)?;
            return Ok(());
        }
        fs::create_dir_all(fs::parent(path), 0o755)?;
        fs::sweep(fs::parent(path))?;
        let place = TempDir::inside(fs::parent(path))?;
        let temporary = place.path().join("output");
        self.progress.line(format!("writing {}", path.display()));
        self.fill(&temporary, path)?;
        rustix::fs::chmod(&temporary, rustix::fs::Mode::from_raw_mode(0o644))
            .context(|| format!("cannot set the mode of `{}`", temporary.display()))?;
        let content = content_digest(&temporary)?;
        fs::open(&temporary)?.sync_all().context(|| format!("cannot sync `{}`", temporary.display()))?;
        // Somebody may have put something there meanwhile.
        let verdict = judge(trees, path, Some(self.inputs), self.work.force)?;
        let expects_nothing = matches!(verdict, Verdict::Replace(None) | Verdict::MoveAside(_));
        trees.announce_output(path, &temporary, (self.inputs.identity(), &self.inputs.0, content))?;
        fault::point("build.output.announced");
        self.put_in_place(path, verdict, report)?;
        fault::point("build.output.before-rename");
        if expects_nothing {
            fs::rename_noreplace(&temporary, path)?;
        } else {
            fs::rename(&temporary, path)?;
        }
        fault::point("build.output.after-rename");
        trees.note_output(path, self.inputs.identity(), &self.inputs.0, content)?;
        report.bytes = bytes_of(path)?;
        Ok(())
    }

    /// Makes way for the result.
    fn put_in_place(&self, path: &Path, verdict: Verdict, report: &mut OutputReport) -> Result<()> {
        match verdict {
            Verdict::Use(_) => {}
            Verdict::Replace(reason) => report.replaced = reason,
            Verdict::MoveAside(reason) => {
                let aside = aside(path)?;
                self.progress.warn(format!("`{}` is moved to `{}`: {reason}", path.display(), aside.display()));
                report.replaced = Some(reason);
                report.moved_to = Some(aside);
            }
        }
        Ok(())
    }

    fn fill(&self, file: &Path, path: &Path) -> Result<()> {
        match &self.output().form {
            Form::Tar { compression } => self.compressed(file, *compression),
            Form::Squashfs => {
                let tree = View::of(self.layers, self.ground)?;
                super::disks::squashfs(tree.path(), file, self.epoch, self.progress, self.ground.cancel)
            }
            Form::Disk(disk) => {
                let tree = View::of(self.layers, self.ground)?;
                let seed = self.inputs.identity();
                let telling = (self.progress, self.ground.cancel);
                super::disks::write(disk, self.base_size(), (tree.path(), file), (seed, self.epoch), telling)
            }
            Form::Directory | Form::Image { .. } | Form::Kernel => {
                Err(Error::new(Kind::Failed, format!("`{}` is no file", path.display())))
            }
        }
    }

    /// How large the disk is that the plan, or the oldest it builds on, began with.
    fn base_size(&self) -> Option<u64> {
        let mut plan = self.plan;
        loop {
            match &plan.base {
                crate::plan::Base::Plan(parent) => plan = self.work.plans.iter().find(|one| one.name == *parent)?,
                crate::plan::Base::Disk(path) => return self.work.facts.files.get(path)?.disk_size,
                _ => return None,
            }
        }
    }

    fn tar(&self, file: &Path) -> Result<()> {
        let tree = View::of(self.layers, self.ground)?;
        let scratch = fs::parent(file).to_owned();
        let mut config = Config::defaults(scratch.clone());
        config.limit_entries = self.ground.limits.entries;
        let request = PackRequest {
            source: Reference::Dir(tree.path().to_owned()),
            destination: Reference::Tar(file.to_owned()),
            tmpdir: Some(scratch),
            ..PackRequest::default()
        };
        pack(&request, &Surroundings::new(&config, self.progress)).map(|_| ())
    }

    fn compressed(&self, file: &Path, compression: Compression) -> Result<()> {
        let place = self.ground.trees.workplace()?;
        let bare = place.path().join("tree.tar");
        self.tar(&bare)?;
        let mut source = fs::open(&bare)?;
        let out = fs::create_in_place(file, false)?;
        super::compress::compress(&mut source, out, compression, self.ground.cancel)
            .context(|| format!("cannot write `{}`", file.display()))
    }

    fn folder(&self, path: &Path, report: &mut OutputReport) -> Result<()> {
        let trees = self.ground.trees;
        let identity = self.inputs.identity();
        let there = fs::link_metadata(path)?;
        let known = trees.folder_outputs(path)?;
        let mut verdict = Verdict::Replace(None);
        if let Some(metadata) = &there {
            if !metadata.is_dir() || known.is_empty() {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("`{}` is there, and castoff did not make it", path.display()),
                )
                .hint("name a folder that does not exist yet, or move this one away"));
            }
            let content = folder_digest(path, self.ground)?;
            verdict = match known.iter().find(|known| known.content == content) {
                Some(known) if known.identity == identity && !self.work.force => {
                    report.hit = true;
                    return trees.note_folder_outputs(path, &[*known]);
                }
                Some(_) => Verdict::Replace(Some("what it is made of changed".to_owned())),
                None => Verdict::MoveAside("it was changed since castoff wrote it".to_owned()),
            };
        }
        fs::create_dir_all(fs::parent(path), 0o755)?;
        fs::sweep(fs::parent(path))?;
        let place = TempDir::inside(fs::parent(path))?;
        let staged = place.path().join("output");
        let tree = View::of(self.layers, self.ground)?;
        match &self.output().form {
            Form::Kernel => super::disks::kernel(tree.path(), &staged, self.progress, self.ground.cancel)?,
            _ => super::tree::copy(tree.path(), &staged, self.ground)?,
        }
        let made = FolderOutput { identity, content: folder_digest(&staged, self.ground)? };
        // Killed between here and the end, both are known for castoff's own.
        trees.note_folder_outputs(path, &[&[made], known.as_slice()].concat())?;
        fault::point("build.folder.announced");
        if let Verdict::Replace(Some(reason)) = verdict {
            report.replaced = Some(reason);
            crate::host::links::exchange(&staged, path)?;
        } else {
            self.put_in_place(path, verdict, report)?;
            fs::rename_noreplace(&staged, path)?;
            fs::sync_dir(fs::parent(path))?;
        }
        fault::point("build.folder.there");
        trees.note_folder_outputs(path, &[made])
    }
}

/// Whether a folder is, byte for byte, what was made of this identity; one that cannot be read is not known to be.
pub(super) fn is_folder(path: &Path, known: &[FolderOutput], identity: Digest, limits: crate::rootfs::Limits) -> bool {
    let options = crate::rootfs::walk::WalkOptions::default();
    let walked = crate::rootfs::walk::DirectoryLayer::open(path, &options, limits, &Progress::silent());
    let Ok((walked, report)) = walked else { return false };
    let digest = walked.tree_digest(&mut |_| Ok(()));
    report.unreadable.is_empty() && digest.is_ok_and(|content| known.contains(&FolderOutput { identity, content }))
}

/// The digest of a folder that is an output.
pub(super) fn folder_digest(path: &Path, ground: Ground<'_>) -> Result<Digest> {
    let options = crate::rootfs::walk::WalkOptions::default();
    let silent = Progress::silent();
    let (walked, report) = crate::rootfs::walk::DirectoryLayer::open(path, &options, ground.limits, &silent)?;
    if let Some(first) = report.unreadable.lines().first() {
        return Err(Error::new(Kind::Refused, format!("`{}` cannot be read", path.display())).caused_by(first.clone()));
    }
    walked.tree_digest(&mut |_| ground.cancel.check())
}

/// The bytes a file takes; of one that is gone meanwhile none.
pub(super) fn bytes_on_disk(path: &Path) -> u64 {
    bytes_of(path).unwrap_or_default()
}

fn bytes_of(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path)?.map_or(0, |metadata| std::os::unix::fs::MetadataExt::blocks(&metadata) * 512))
}

/// Moves something out of a result's place, without ever covering anything.
fn aside(path: &Path) -> Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    for number in 1..10_000 {
        let aside = path.with_file_name(format!("{name}.aside-{number}"));
        match fs::rename_noreplace(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == Kind::Conflict => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::new(Kind::Conflict, format!("`{}` cannot be moved aside: too many were before", path.display())))
}

/// The outputs of plans, by plan and number, that are images of an engine.
pub(super) fn images_of(plans: &[&Plan]) -> BTreeMap<crate::plan::PlanName, Vec<(usize, String)>> {
    plans
        .iter()
        .map(|plan| {
            let images = plan.outputs.iter().enumerate().filter_map(|(number, output)| match &output.form {
                Form::Image { reference } => Some((number, reference.clone())),
                _ => None,
            });
            (plan.name.clone(), images.collect())
        })
        .collect()
}
