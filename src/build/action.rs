//! What each action does to a tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::bring::{self, Bringing, Survey};
use super::inside::{self, Inside};
use super::order::{ArchiveHome, Work};
use super::packages;
use crate::error::{Context as _, Error, Kind, Result};
use crate::plan::{Action, Command, Step};
use crate::progress::{Cancel, Progress};
use crate::rootfs::Limits;
use crate::sandbox::{Sandbox, SandboxReport};

/// The most bytes of a step's whole output that are kept.
const LOG: u64 = 64 << 20;

/// A step that is carried out.
pub(super) struct Doing<'a> {
    pub(super) work: &'a Work,
    pub(super) step: &'a Step,
    /// The tree it works on.
    pub(super) tree: &'a Path,
    /// The folder of everything that belongs to it.
    pub(super) place: &'a Path,
    /// Its mounts: what, where, and whether it may not be changed.
    pub(super) mounts: &'a [(PathBuf, String, bool)],
    /// Where packages come from, where that is known.
    pub(super) archive: Option<&'a ArchiveHome>,
    pub(super) epoch: i64,
    pub(super) limits: Limits,
    pub(super) progress: &'a Progress,
    pub(super) cancel: &'a Cancel,
}

impl Doing<'_> {
    /// Carries the step out; whether its packages came from archives that nobody knows.
    pub(super) fn run(&self) -> Result<bool> {
        let done = match &self.step.action {
            Action::Packages { install, recommends } => packages::install(self, install, *recommends),
            _ => self.act().map(|()| false),
        };
        done.map_err(|error| self.named(error))
    }

    /// The error with what failed; a command's own says it already, and whoever interrupts knows.
    fn named(&self, error: Error) -> Error {
        let what = failed(&self.step.summary());
        if error.kind() == Kind::Interrupted || error.message() == what {
            return error;
        }
        Error::new(error.kind(), what).caused_by(error)
    }

    fn act(&self) -> Result<()> {
        let inside = Inside::open(self.tree)?;
        match &self.step.action {
            Action::Run { command, environment } => self.command(command, environment),
            Action::Packages { .. } => Ok(()),
            Action::CopyIn { source, into } => {
                let survey = self.survey(source)?;
                let folder = inside.folder(into.as_str())?;
                self.bringing(source, Some(survey)).into_folder(&folder, survey.name.as_bytes())
            }
            Action::Upload { source, to } => {
                let survey = self.survey(source)?;
                if crate::host::fs::metadata(source)?.is_some_and(|metadata| metadata.is_dir()) {
                    return Err(Error::new(
                        Kind::Usage,
                        format!("`{}` is a folder, and an upload is one file", source.display()),
                    )
                    .hint("a folder is copied in"));
                }
                bring::upload(&self.bringing(source, Some(survey)), &inside, to.as_str(), &survey.name)
            }
            Action::TarIn { source, into } => self.tar_in(source, &inside, into.as_str()),
            Action::MakeDirectory { path } => inside.make_folders(path.as_str()),
            Action::WriteFile { path, content, mode } => inside.write(path.as_str(), Some(*mode), content.as_bytes()),
            Action::AppendLine { path, line } => append_line(&inside, path.as_str(), line),
            Action::ChangeMode { path, mode } => inside.change_mode(path.as_str(), *mode),
            Action::Link { target, links } => {
                links.iter().try_for_each(|link| make_link(&inside, target, link.as_str()))
            }
            Action::SetHostname { name } => set_hostname(&inside, name),
            Action::Remove { path } => inside.remove(path.as_str()).map(|_| ()),
        }
    }

    fn survey(&self, source: &Path) -> Result<&Survey> {
        self.work
            .surveys
            .get(source)
            .ok_or_else(|| Error::new(Kind::NotFound, format!("there is no `{}`", source.display())))
    }

    fn bringing<'a>(&'a self, source: &'a Path, survey: Option<&'a Survey>) -> Bringing<'a> {
        Bringing { source, survey, limits: self.limits, cancel: self.cancel }
    }

    /// A sandbox in the tree, within what the operator allows.
    pub(super) fn sandbox(&self) -> Sandbox {
        let bounds = &self.work.bounds;
        let mut sandbox = Sandbox::new(self.tree)
            .cancel(self.cancel)
            .log(self.place.join("log"), LOG)
            .keep_machine_id(true)
            .processes(bounds.processes)
            .floor(self.place, bounds.disk_floor)
            .variable("SOURCE_DATE_EPOCH", self.epoch.to_string());
        if let Some(bytes) = bounds.memory {
            sandbox = sandbox.memory(bytes);
        }
        if let Some(limit) = bounds.timeout {
            sandbox = sandbox.limit(limit);
        }
        for (source, at, read_only) in self.mounts {
            sandbox = sandbox.bind(source, at, *read_only);
        }
        sandbox
    }

    fn command(&self, command: &Command, environment: &BTreeMap<String, String>) -> Result<()> {
        let mut sandbox = self.sandbox().network(self.step.network);
        for (name, value) in environment {
            sandbox = sandbox.variable(name, value);
        }
        let report = match command {
            Command::Arguments(words) => sandbox.run(words, self.progress),
            Command::Shell(line) => sandbox.run(&["/bin/sh".to_owned(), "-c".to_owned(), line.clone()], self.progress),
            Command::Script(text) => sandbox.run_script(text.as_bytes(), &[], self.progress),
        };
        succeeded(&report?, || self.step.summary())
    }

    fn tar_in(&self, source: &Path, inside: &Inside, into: &str) -> Result<()> {
        let survey = self.survey(source)?;
        let folder = inside.folder(into)?;
        // What is unpacked are the bytes that were surveyed.
        let copy = self.place.join("tar-in");
        crate::host::fs::create_dir_all(&copy, 0o700)?;
        let own = rustix::fs::open(
            &copy,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
            rustix::fs::Mode::empty(),
        )
        .context(|| "cannot open a folder of castoff's")?;
        self.bringing(source, Some(survey)).into_folder(&own, b"tar")?;
        let unpacked = copy.join("tree");
        super::base::unpack_tar(&copy.join("tar"), &unpacked, self.limits, self.progress)
            .context(|| format!("cannot unpack `{}`", source.display()))?;
        let outcome = self.bringing(&unpacked, None).into_folder(&folder, b"");
        crate::host::fs::remove_dir_all(&copy)?;
        outcome
    }
}

/// An error with the command's last lines, unless it ended well.
pub(super) fn succeeded(report: &SandboxReport, what: impl FnOnce() -> String) -> Result<()> {
    if report.exit == 0 {
        return Ok(());
    }
    let ended = if report.exit > 128 && report.exit < 160 {
        format!("ended by signal {}", report.exit - 128)
    } else {
        format!("exit code {}", report.exit)
    };
    let cause =
        if report.tail.is_empty() { ended } else { format!("{ended}; its last lines:\n{}", report.tail.join("\n")) };
    Err(Error::new(Kind::Failed, failed(&what())).caused_by(cause))
}

fn failed(what: &str) -> String {
    format!("`{what}` failed")
}

fn append_line(inside: &Inside, path: &str, line: &str) -> Result<()> {
    let mut content = inside.read(path)?.unwrap_or_default();
    if content.last().is_some_and(|last| *last != b'\n') {
        content.push(b'\n');
    }
    content.extend_from_slice(line.as_bytes());
    content.push(b'\n');
    inside.write(path, None, &content)
}

/// As `ln -sf` does: a folder that is there gets the link inside it, anything else gives way.
fn make_link(inside: &Inside, target: &str, link: &str) -> Result<()> {
    let into = inside.find(link, rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY)?;
    let place = match into {
        Some(folder) => {
            let name = target.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
            inside::Place { folder, name: name.as_bytes().to_vec() }
        }
        None => inside.place(link)?,
    };
    match rustix::fs::unlinkat(&place.folder, place.name.as_slice(), rustix::fs::AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => {}
        Err(error) => return Err(error).context(|| format!("the image's `{link}` stands in the way of a link")),
    }
    rustix::fs::symlinkat(target, &place.folder, place.name.as_slice())
        .context(|| format!("cannot make the image's link `{link}`"))
}

/// Writes the name, and puts it in the place of the old one where that is a word of `/etc/hosts`.
fn set_hostname(inside: &Inside, name: &str) -> Result<()> {
    let before = inside.read("/etc/hostname")?.unwrap_or_default();
    inside.make_folders("/etc")?;
    inside.write("/etc/hostname", Some(0o644), format!("{name}\n").as_bytes())?;
    let before = String::from_utf8_lossy(&before).trim().to_owned();
    let Some(hosts) = inside.read("/etc/hosts")? else { return Ok(()) };
    if before.is_empty() || before == "localhost" || before == name {
        return Ok(());
    }
    let hosts = String::from_utf8_lossy(&hosts);
    let renamed: String = hosts.split_inclusive('\n').map(|line| renamed_in(line, &before, name)).collect();
    inside.write("/etc/hosts", None, renamed.as_bytes())
}

fn renamed_in(line: &str, before: &str, after: &str) -> String {
    let (text, comment) = line.split_at(line.find('#').unwrap_or(line.len()));
    let mut renamed = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(|character: char| !character.is_whitespace()) {
        let (blank, more) = rest.split_at(at);
        let end = more.find(char::is_whitespace).unwrap_or(more.len());
        let (word, more) = more.split_at(end);
        renamed.push_str(blank);
        renamed.push_str(if word == before { after } else { word });
        rest = more;
    }
    renamed + rest + comment
}

#[cfg(test)]
mod tests {
    use super::renamed_in;

    #[test]
    fn only_whole_words_are_renamed() {
        assert_eq!(
            renamed_in("127.0.1.1\tdebian debian.lan # debian\n", "debian", "vm"),
            "127.0.1.1\tvm debian.lan # debian\n"
        );
        assert_eq!(renamed_in("::1 debian2\n", "debian", "vm"), "::1 debian2\n");
    }
}
