//! The ten actions: what is written for virt-customize, as steps.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::document::{At, Part, Reader};
use crate::plan::{self, Command, Problem, Step, TreePath};

/// An action as it is written.
#[derive(Clone, Debug)]
pub(super) struct Action {
    kind: Kind,
    comment: String,
    /// Those of its kind, in their order; none where it is no text.
    fields: Vec<Option<At<String>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    RunCommand,
    CopyIn,
    SetHostname,
    MakeDirectory,
    Upload,
    ChangeMode,
    AppendLine,
    Link,
    InstallKernel,
    TarIn,
}

/// `type`, and the fields of `op`.
const KINDS: &[(Kind, &str, &[&str])] = &[
    (Kind::RunCommand, "run-command", &["Cmd"]),
    (Kind::CopyIn, "copy-in", &["LocalPath", "RemoteDir"]),
    (Kind::SetHostname, "set-hostname", &["Hostname"]),
    (Kind::MakeDirectory, "mkdir", &["Dir"]),
    (Kind::Upload, "upload", &["File", "Dest"]),
    (Kind::ChangeMode, "chmod", &["Permissions", "File"]),
    (Kind::AppendLine, "append-line", &["File", "Line"]),
    (Kind::Link, "link", &["Target", "Link"]),
    (Kind::InstallKernel, "install-kernel", &["KernelInstallDir"]),
    (Kind::TarIn, "tar-in", &["TarFile", "RemoteDir"]),
];

const ACTION: &[&str] = &["comment", "type", "op"];

/// What actions are lowered with.
pub(super) struct Setting<'a> {
    /// The folder that paths of the host begin in.
    pub(super) dir: &'a Path,
    /// What the folders of kernels hold.
    pub(super) kernels: &'a BTreeMap<PathBuf, Vec<String>>,
}

impl Action {
    /// The action that this part of the document is; what is wrong with it is told to the reader.
    pub(super) fn read(reader: &mut Reader<'_>, part: &Part<'_>) -> Option<Self> {
        if reader.is_no_map(part) {
            return None;
        }
        let members = reader.members(part, ACTION);
        let comment = members.get("comment").and_then(|part| reader.text(part)).map(|text| text.value);
        let word = match members.get("type") {
            Some(part) => reader.text(part)?.value,
            None => String::new(),
        };
        let Some(op) = members.get("op") else {
            reader.problem(part, "has no `op`");
            return None;
        };
        let row = if word.is_empty() { op.told_by_fields() } else { KINDS.iter().find(|(_, name, _)| *name == word) };
        let Some((kind, _, names)) = row else {
            let names: Vec<&str> = KINDS.iter().map(|(_, name, _)| *name).collect();
            let like = crate::vocab::nearest(&word, names.iter().copied());
            let like = like.first().map_or_else(|| names.join(", "), |like| format!("did you mean `{like}`?"));
            reader.problem(part, &format!("unknown op type `{}` ({like})", word.escape_debug()));
            return None;
        };
        if !Reader::is_null(op) && reader.is_no_map(op) {
            return None;
        }
        let found = reader.members(op, names);
        let mut field = |name: &&str| match found.get(name) {
            Some(part) => reader.text(part),
            None => Some(reader.at_absent(op, name)),
        };
        let fields = names.iter().map(&mut field).collect();
        Some(Self { kind: *kind, comment: comment.unwrap_or_default(), fields })
    }

    /// The folder whose kernel it installs.
    pub(super) fn kernel_folder(&self, dir: &Path) -> Option<PathBuf> {
        let folder = self.fields.first().filter(|_| self.kind == Kind::InstallKernel)?.as_ref()?;
        (!folder.value.is_empty()).then(|| dir.join(&folder.value))
    }

    /// What about it is not what it seems to be.
    pub(super) fn note(&self) -> Option<String> {
        let mode = self.fields.first().filter(|_| self.kind == Kind::ChangeMode)?.as_ref()?;
        let number: u32 = mode.value.parse().ok()?;
        let is_decimal = !mode.value.starts_with('0') && number <= 0o7777;
        let (place, field, text) = (&mode.place, &mode.field, &mode.value);
        // Who wrote digits that can be octal meant octal most likely; else the number was computed.
        let meant = if text.bytes().all(|digit| digit < b'8') {
            format!("octal is written 0{text}")
        } else {
            format!("write 0{number:o}")
        };
        is_decimal.then(|| format!("{place}: `{field}` is decimal: mode {number:04o}; {meant}"))
    }

    /// Its steps; none where something is wrong with it.
    pub(super) fn steps(&self, setting: &Setting<'_>, problems: &mut Vec<Problem>) -> Vec<Step> {
        let [Some(first), rest @ ..] = self.fields.as_slice() else { return Vec::new() };
        let second = match rest {
            [None, ..] => return Vec::new(),
            [Some(second), ..] => Some(second),
            [] => None,
        };
        let before = problems.len();
        let mut work = Work { setting, problems };
        let steps = match (self.kind, second) {
            (Kind::InstallKernel, _) => work.kernel(first),
            (kind, second) => work.action(kind, first, second).into_iter().map(Step::new).collect(),
        };
        if work.problems.len() > before {
            return Vec::new();
        }
        steps.into_iter().map(|step| self.finished(step)).collect()
    }

    fn finished(&self, step: Step) -> Step {
        let step = if self.kind == Kind::RunCommand { step.with_network() } else { step };
        let label = match (self.comment.as_str(), self.kind) {
            ("", _) => return step,
            // Three steps of one action are told apart by what they do.
            (comment, Kind::InstallKernel) => format!("{comment}: {}", step.summary()),
            (comment, _) => comment.to_owned(),
        };
        step.labelled(label)
    }
}

impl Part<'_> {
    /// The kind whose fields these are: the Go package's other serializer loses the type.
    fn told_by_fields(&self) -> Option<&'static (Kind, &'static str, &'static [&'static str])> {
        let keys = self.keys();
        if keys.is_empty() {
            return None;
        }
        KINDS.iter().find(|(_, _, names)| names.len() == keys.len() && keys.iter().all(|key| names.contains(key)))
    }
}

/// One action on its way to a step.
struct Work<'a, 'b> {
    setting: &'a Setting<'b>,
    problems: &'a mut Vec<Problem>,
}

impl Work<'_, '_> {
    fn action(&mut self, kind: Kind, first: &At<String>, second: Option<&At<String>>) -> Option<plan::Action> {
        let Some(second) = second else {
            return match kind {
                Kind::RunCommand => self.command(first),
                Kind::SetHostname => self.host_name(first),
                _ => Some(plan::Action::MakeDirectory { path: first.parsed(self.problems)? }),
            };
        };
        self.refuse_colon(first);
        match kind {
            Kind::CopyIn => {
                let (source, into) = (self.source(first), second.parsed(self.problems));
                Some(plan::Action::CopyIn { source: source?, into: into? })
            }
            Kind::Upload => {
                let (source, to) = (self.source(first), second.parsed(self.problems));
                Some(plan::Action::Upload { source: source?, to: to? })
            }
            Kind::TarIn => {
                let (source, into) = (self.source(first), second.parsed(self.problems));
                Some(plan::Action::TarIn { source: source?, into: into? })
            }
            Kind::ChangeMode => {
                let (mode, path) = (self.mode(first), second.parsed(self.problems));
                Some(plan::Action::ChangeMode { path: path?, mode: mode? })
            }
            Kind::AppendLine => {
                let path = first.parsed(self.problems);
                self.refuse_zero(second);
                Some(plan::Action::AppendLine { path: path?, line: second.value.clone() })
            }
            Kind::Link => self.link(first, second),
            Kind::RunCommand | Kind::SetHostname | Kind::MakeDirectory | Kind::InstallKernel => None,
        }
    }

    fn refuse(&mut self, at: &At<String>, what: impl std::fmt::Display) {
        let problem = at.problem(what);
        self.problems.push(problem);
    }

    fn refuse_zero(&mut self, at: &At<String>) {
        if at.value.contains('\0') {
            self.refuse(at, "holds a zero byte");
        }
    }

    /// virt-customize takes `FIRST:SECOND` apart at the first colon.
    fn refuse_colon(&mut self, at: &At<String>) {
        if at.value.contains(':') {
            self.refuse(at, format!("`{}` holds `:`, where virt-customize takes it apart", at.value.escape_debug()));
        }
    }

    fn command(&mut self, line: &At<String>) -> Option<plan::Action> {
        if line.value.trim().is_empty() {
            self.refuse(line, "is empty");
            return None;
        }
        self.refuse_zero(line);
        Some(plan::Action::Run { command: Command::Shell(line.value.clone()), environment: BTreeMap::new() })
    }

    fn host_name(&mut self, name: &At<String>) -> Option<plan::Action> {
        /// `HOST_NAME_MAX` of Linux.
        const LONGEST: usize = 64;
        let text = name.value.as_str();
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        let fits = (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_fine);
        if !fits || !text.as_bytes()[0].is_ascii_alphanumeric() {
            self.refuse(name, format!("`{}` cannot be the name of a host", text.escape_debug()));
            return None;
        }
        Some(plan::Action::SetHostname { name: text.to_owned() })
    }

    /// A file or folder of the host, relative to the folder of the forest.
    fn source(&mut self, at: &At<String>) -> Option<PathBuf> {
        if at.value.is_empty() {
            self.refuse(at, "is empty");
            return None;
        }
        self.refuse_zero(at);
        let path = self.setting.dir.join(&at.value);
        if path.file_name().is_none() {
            self.refuse(at, format!("`{}` has no name that it could keep", at.value.escape_debug()));
            return None;
        }
        Some(path)
    }

    /// Decimal, unless it begins with 0: then octal.
    fn mode(&mut self, at: &At<String>) -> Option<u32> {
        let text = at.value.as_str();
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let radix = if text.starts_with('0') { 8 } else { 10 };
        let mode = u32::from_str_radix(text, radix).ok().filter(|mode| is_number && *mode <= 0o7777);
        if mode.is_none() {
            self.refuse(
                at,
                format!("`{}` is no mode: octal with a 0 before it, such as 0755, else decimal", text.escape_debug()),
            );
        }
        mode
    }

    /// Each `:` of the second half begins another link.
    fn link(&mut self, target: &At<String>, links: &At<String>) -> Option<plan::Action> {
        if target.value.is_empty() {
            self.refuse(target, "is empty");
        }
        self.refuse_zero(target);
        let mut paths = Vec::new();
        for link in links.value.split(':') {
            let link = At { value: link.to_owned(), place: links.place.clone(), field: links.field.clone() };
            let path: TreePath = link.parsed(self.problems)?;
            if path.file_name().is_none_or(|name| matches!(name, "." | "..")) {
                self.refuse(&link, format!("`{path}` cannot be a link"));
            }
            paths.push(path);
        }
        Some(plan::Action::Link { target: target.value.clone(), links: paths })
    }

    /// All of `boot`, all modules, and `/vmlinuz`.
    fn kernel(&mut self, folder: &At<String>) -> Vec<Step> {
        self.refuse_colon(folder);
        let Some(path) = self.source(folder) else { return Vec::new() };
        let boot = path.join("boot");
        let Some(names) = self.setting.kernels.get(&path) else {
            self.refuse(folder, format!("there is no folder `{}`", boot.display()));
            return Vec::new();
        };
        let mut kernels: Vec<&str> =
            names.iter().map(String::as_str).filter(|name| name.starts_with("vmlinuz-")).collect();
        kernels.sort_unstable();
        let [kernel] = kernels.as_slice() else {
            let what = match kernels.as_slice() {
                [] => format!("`{}` has no kernel `vmlinuz-*`", boot.display()),
                several => format!("`{}` has more than one kernel: {}", boot.display(), several.join(", ")),
            };
            self.refuse(folder, what);
            return Vec::new();
        };
        let place = |path: &str| -> Option<TreePath> { path.parse().ok() };
        let (Some(root), Some(lib), Some(link)) = (place("/"), place("/lib"), place("/vmlinuz")) else {
            return Vec::new();
        };
        vec![
            Step::new(plan::Action::CopyIn { source: boot, into: root }),
            Step::new(plan::Action::CopyIn { source: path.join("lib/modules"), into: lib }),
            Step::new(plan::Action::Link { target: format!("/boot/{kernel}"), links: vec![link] }),
        ]
    }
}
