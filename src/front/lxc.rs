//! LXC containers as plans: what `build_from_lxc` and `build` of `mc_cloud_images` make.
//!
//! ```text
//! LXC_PATH/CLONE_FROM/rootfs     what a container begins with; only read
//! LXC_PATH/NAME/rootfs           what it becomes; never in the place of one that is there
//! ```

use std::path::PathBuf;

use super::archive::Archive;
use crate::error::Result;
use crate::plan::{Action, Base, Bootstrap, Command, Form, Output, Plan, PlanName, Step, TreePath, Variant};

/// What an image carries when it can be made impersonal.
pub const IMPERSONATE: &str = "/sbin/makinastates-snapshot.sh";

/// Where the bootstrap script lies while it runs.
const SCRIPT: &str = "/root/.castoff-bootstrap";

/// What a container, or an image of one, begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The root filesystem of a container that is there.
    Tree(PathBuf),
    /// Another plan.
    Plan(PlanName),
    /// A suite, of this architecture.
    Suite(Archive, String),
}

/// A container, or an image of one, that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What it is called.
    pub name: PlanName,
    /// What it begins with.
    pub start: Start,
    /// The bootstrap script: its text and its arguments.
    pub script: Option<(String, Vec<String>)>,
    /// Whether [`IMPERSONATE`] is run, and whether that may be executed by itself.
    pub impersonate: Option<bool>,
    /// What it becomes; nothing where others only build on it.
    pub output: Option<Output>,
}

impl Order {
    /// The order as a plan.
    pub fn lower(self) -> Result<Plan> {
        let mut steps = Vec::new();
        if let Some((text, arguments)) = self.script {
            let path: TreePath = SCRIPT.parse()?;
            let words = [SCRIPT.to_owned()].into_iter().chain(arguments).collect();
            steps.push(Step::new(Action::WriteFile { path: path.clone(), content: text, mode: 0o700 }));
            steps.push(run(words).with_network().labelled("bootstrap"));
            steps.push(Step::new(Action::Remove { path }));
        }
        if let Some(may_be_executed) = self.impersonate {
            let shell = (!may_be_executed).then(|| "/bin/sh".to_owned());
            steps.push(run(shell.into_iter().chain([IMPERSONATE.to_owned()]).collect()).labelled("impersonate"));
        }
        let place = format!("the container {}", self.name);
        Ok(Plan { base: base(self.start), steps, outputs: self.output.into_iter().collect(), place, name: self.name })
    }
}

fn run(words: Vec<String>) -> Step {
    Step::new(Action::Run { command: Command::Arguments(words), environment: std::collections::BTreeMap::new() })
}

fn base(start: Start) -> Base {
    match start {
        Start::Tree(path) => Base::Directory(path),
        Start::Plan(name) => Base::Plan(name),
        Start::Suite(archive, architecture) => Base::Bootstrap(Bootstrap {
            suite: archive.suite,
            sources: archive.sources,
            architecture,
            variant: Variant::Important,
            // A container is started by its init.
            packages: ["systemd-sysv", "openssh-server"].iter().filter_map(|name| name.parse().ok()).collect(),
        }),
    }
}

/// The root filesystem of a container as an output.
pub fn rootfs(path: PathBuf) -> Output {
    Output { form: Form::Directory, path: Some(path) }
}

/// An image of a container as an output.
pub fn image(reference: String) -> Output {
    Output { form: Form::Image { reference }, path: None }
}

/// The configuration of a container that begins with a suite; `defaults` is what the host gives every new one.
pub fn fresh_configuration(name: &PlanName, rootfs: &std::path::Path, defaults: &str, architecture: &str) -> String {
    let machine = match architecture {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        "i386" => "i686",
        other => other,
    };
    let own = format!(
        "lxc.include = /usr/share/lxc/config/common.conf\nlxc.arch = {machine}\nlxc.uts.name = {name}\nlxc.rootfs.path = dir:{}\n",
        rootfs.display()
    );
    let end = if defaults.is_empty() || defaults.ends_with('\n') { "" } else { "\n" };
    format!("{defaults}{end}{own}")
}

/// What kind of thing an entry of the catalogue makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A container.
    Lxc,
    /// An image.
    Docker,
}

impl Kind {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Lxc => "lxc",
            Self::Docker => "docker",
        }
    }
}

/// What an entry of the catalogue begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A suite.
    Suite(&'static str),
    /// A container of the catalogue.
    Container(&'static str),
    /// A container of the catalogue, in which makina-states' bootstrap script is run.
    Bootstrapped(&'static str),
}

/// An image that makina-states knows how to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub name: &'static str,
    /// What it begins with.
    pub from: From,
}

/// The images of makina-states, those that others build on first.
pub const CATALOGUE: &[Entry] = &[
    Entry { kind: Kind::Lxc, name: "ubuntu-bionic", from: From::Suite("bionic") },
    Entry { kind: Kind::Lxc, name: "ubuntu-xenial", from: From::Suite("xenial") },
    Entry { kind: Kind::Lxc, name: "ubuntu-vivid", from: From::Suite("vivid") },
    Entry { kind: Kind::Lxc, name: "makina-states-vivid", from: From::Bootstrapped("ubuntu-vivid") },
    Entry { kind: Kind::Docker, name: "makina-states/ubuntu-bionic-raw", from: From::Container("ubuntu-bionic") },
    Entry { kind: Kind::Docker, name: "makina-states/ubuntu-xenial-raw", from: From::Container("ubuntu-xenial") },
    Entry { kind: Kind::Docker, name: "makina-states/ubuntu-vivid-raw", from: From::Container("ubuntu-vivid") },
];

impl Entry {
    /// The name of its plan.
    pub fn plan_name(&self) -> Result<PlanName> {
        self.name.replace('/', "_").parse()
    }
}
