//! What a plan does to its trees, one step after the other.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{PackageName, TreePath};

/// One step: an action on a tree, and what it may reach meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// What it does.
    pub action: Action,
    /// The tree it works on.
    #[serde(default = "root")]
    pub tree: String,
    /// Whether it reaches the network.
    #[serde(default)]
    pub network: bool,
    /// Whether its result is never taken for the result of another run.
    #[serde(default)]
    pub volatile: bool,
    /// What it sees besides its tree, as long as it runs.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// What a person calls it; changes nothing.
    #[serde(default)]
    pub label: String,
}

/// The name of the tree that a plan's base fills.
pub const ROOT: &str = "root";

fn root() -> String {
    ROOT.to_owned()
}

/// Something a step sees in its tree as long as it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// What.
    pub source: MountSource,
    /// Where in the step's tree.
    pub at: TreePath,
}

/// What a step sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(deny_unknown_fields)]
pub enum MountSource {
    /// Files of the host, read-only; their bytes are part of the step.
    Files(PathBuf),
    /// Another tree of the plan, which the step may change too.
    Tree(String),
    /// A folder that outlives builds, for downloads; what is in it is no part of the step.
    Cache(String),
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(deny_unknown_fields)]
pub enum Action {
    /// Runs a command in the tree, as root of the tree.
    Run {
        /// What is run.
        command: Command,
        /// Its environment, besides the fixed one.
        environment: BTreeMap<String, String>,
    },
    /// Installs packages with what they depend on.
    Packages {
        /// The packages.
        install: Vec<PackageName>,
        /// Whether recommended packages come along; none: as the tree's apt is set up.
        recommends: Option<bool>,
    },
    /// Puts a file or a folder of the host, with all that is in it, into a folder of the tree.
    CopyIn {
        /// The file or the folder.
        source: PathBuf,
        /// The folder of the tree; it must be there.
        into: TreePath,
    },
    /// Puts one file of the host into the tree.
    Upload {
        /// The file.
        source: PathBuf,
        /// Its place in the tree, or a folder of the tree that it goes into under its own name.
        to: TreePath,
    },
    /// Unpacks a tar into a folder of the tree.
    TarIn {
        /// The tar.
        source: PathBuf,
        /// The folder of the tree; it must be there.
        into: TreePath,
    },
    /// Makes a folder and those above it; one that is there is left alone.
    MakeDirectory {
        /// The folder.
        path: TreePath,
    },
    /// Writes a file, instead of what was there.
    WriteFile {
        /// The file.
        path: TreePath,
        /// Its content.
        content: String,
        /// Its mode.
        mode: u32,
    },
    /// Adds a line to a file's end; the file is made if it is missing.
    AppendLine {
        /// The file.
        path: TreePath,
        /// The line, without its end.
        line: String,
    },
    /// Sets the mode of an entry.
    ChangeMode {
        /// The entry.
        path: TreePath,
        /// The mode.
        mode: u32,
    },
    /// Makes symbolic links, in the place of links and files that are there.
    Link {
        /// What they point to, as it is written into them.
        target: String,
        /// The links.
        links: Vec<TreePath>,
    },
    /// Sets the name the machine will have.
    SetHostname {
        /// The name.
        name: String,
    },
    /// Removes an entry and what is in it; one that is not there is no error.
    Remove {
        /// The entry.
        path: TreePath,
    },
}

/// A command to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(deny_unknown_fields)]
pub enum Command {
    /// A program and its arguments.
    Arguments(Vec<String>),
    /// A line for the tree's `/bin/sh`.
    Shell(String),
    /// A script, whose first line says what runs it.
    Script(String),
}

impl Action {
    /// Why nobody can carry it out, if that is seen by looking at it.
    pub fn problem(&self) -> Option<String> {
        const MODES: u32 = 0o7777;
        match self {
            Self::WriteFile { mode, .. } | Self::ChangeMode { mode, .. } if *mode > MODES => {
                Some(format!("{mode} is no mode: {MODES} (octal 7777) is the largest"))
            }
            Self::SetHostname { name } if !is_host_name(name) => Some(format!(
                "`{}` is no host name: letters, digits, `-` and `.`, 64 at most (hostname(7))",
                name.escape_debug()
            )),
            Self::Link { links, .. } if links.is_empty() => Some("a link has no place".to_owned()),
            Self::Packages { install, .. } if install.is_empty() => Some("no package is named".to_owned()),
            _ => None,
        }
    }
}

/// As hostname(7) has it, and underscores, which are in use.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|one| one.is_ascii_alphanumeric() || one == '-' || one == '_')
    };
    name.len() <= 64 && name.split('.').all(is_label)
}

impl Step {
    /// A step on the root tree, without network.
    pub fn new(action: Action) -> Self {
        Self { action, tree: root(), network: false, volatile: false, mounts: Vec::new(), label: String::new() }
    }

    /// The same step with the network in reach.
    #[must_use]
    pub fn with_network(mut self) -> Self {
        self.network = true;
        self
    }

    /// The same step under the name a person gave it.
    #[must_use]
    pub fn labelled(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The files of the host whose bytes it brings in.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let own = match &self.action {
            Action::CopyIn { source, .. } | Action::Upload { source, .. } | Action::TarIn { source, .. } => {
                Some(source)
            }
            Action::Run { .. }
            | Action::Packages { .. }
            | Action::MakeDirectory { .. }
            | Action::WriteFile { .. }
            | Action::AppendLine { .. }
            | Action::ChangeMode { .. }
            | Action::Link { .. }
            | Action::SetHostname { .. }
            | Action::Remove { .. } => None,
        };
        let mounted = self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Files(path) => Some(path),
            MountSource::Tree(_) | MountSource::Cache(_) => None,
        });
        own.into_iter().chain(mounted)
    }

    /// What it does, in a few words.
    pub fn summary(&self) -> String {
        if !self.label.is_empty() {
            return self.label.clone();
        }
        match &self.action {
            Action::Run { command: Command::Arguments(words), .. } => format!("run {}", words.join(" ")),
            Action::Run { command: Command::Shell(line), .. } => format!("run {}", first_line(line)),
            Action::Run { command: Command::Script(text), .. } => format!("run a script ({})", first_line(text)),
            Action::Packages { install, .. } => {
                let names: Vec<&str> = install.iter().map(PackageName::as_str).collect();
                format!("install {}", names.join(" "))
            }
            Action::CopyIn { source, into } => format!("copy {} into {into}", source.display()),
            Action::Upload { source, to } => format!("upload {} to {to}", source.display()),
            Action::TarIn { source, into } => format!("unpack {} into {into}", source.display()),
            Action::MakeDirectory { path } => format!("make the folder {path}"),
            Action::WriteFile { path, .. } => format!("write {path}"),
            Action::AppendLine { path, .. } => format!("append a line to {path}"),
            Action::ChangeMode { path, mode } => format!("set the mode of {path} to {mode:04o}"),
            Action::Link { target, links } => {
                let links: Vec<&str> = links.iter().map(TreePath::as_str).collect();
                format!("link {} to {target}", links.join(", "))
            }
            Action::SetHostname { name } => format!("set the host name {name}"),
            Action::Remove { path } => format!("remove {path}"),
        }
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
