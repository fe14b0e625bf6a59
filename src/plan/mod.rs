//! Plans: what an image is made of, said before anything is done.
//!
//! A [`Plan`] is a base, steps and outputs. Every front-end lowers its users' files to plans, one executor runs them.
//! [`identity`] names a result by all that can change it; [`explain()`] says what is there already and why the rest is
//! not. Pure: what the world is like comes in as [`Facts`], what was made before as [`Answers`].

mod base;
mod explain;
mod facts;
mod graph;
pub mod identity;
mod names;
mod output;
mod step;

use serde::{Deserialize, Serialize};

pub use base::{Base, Bootstrap, Sources, Variant};
pub use explain::{Answers, Explained, Known, Line, Status, Why, explain, slot};
pub use facts::{ArchiveFact, Facts, FileFact};
pub use graph::{Plans, Problem, refuse};
pub use identity::{Inputs, Missing};
pub use names::{PackageName, PlanName, TreePath};
pub use output::{Compression, Disk, Form, Format, Layout, Output, Size};
pub use step::{Action, Command, Mount, MountSource, ROOT, Step};

/// How one image is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// What it is called.
    pub name: PlanName,
    /// What it begins with.
    pub base: Base,
    /// What is done then, in this order.
    pub steps: Vec<Step>,
    /// What it leaves behind.
    pub outputs: Vec<Output>,
    /// Where in its users' files it comes from.
    #[serde(default)]
    pub place: String,
}

impl Plan {
    /// What it begins with, in words.
    pub fn base_text(&self) -> String {
        match &self.base {
            Base::Empty => "nothing".to_owned(),
            Base::Bootstrap(bootstrap) => {
                let packages: Vec<&str> = bootstrap.packages.iter().map(PackageName::as_str).collect();
                let more = if packages.is_empty() { String::new() } else { format!(" and {}", packages.join(" ")) };
                format!("{} ({}, {}){more}", bootstrap.suite, bootstrap.variant.word(), bootstrap.architecture)
            }
            Base::Directory(path) => format!("the folder {}", path.display()),
            Base::Tar(path) => format!("the tar {}", path.display()),
            Base::Image(reference) => format!("the image {reference}"),
            Base::Disk(path) => format!("the disk {}", path.display()),
            Base::Plan(name) => format!("the image {name}"),
        }
    }
}

impl Output {
    /// What it is, in words.
    pub fn summary(&self) -> String {
        let to = self.path.as_ref().map(|path| format!(" {}", path.display())).unwrap_or_default();
        match &self.form {
            Form::Tar { .. } => format!("tar{to}"),
            Form::Directory => format!("folder{to}"),
            Form::Image { reference } => format!("image {reference}"),
            Form::Squashfs => format!("squashfs{to}"),
            Form::Disk(_) => format!("disk{to}"),
            Form::Kernel => format!("kernel and initrd{to}"),
        }
    }
}
