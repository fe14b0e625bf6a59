//! What a plan begins with.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{PackageName, PlanName};
use crate::vocab::Digest;

/// What the tree of a plan is before its first step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[serde(deny_unknown_fields)]
pub enum Base {
    /// Nothing at all.
    Empty,
    /// A suite of Debian or Ubuntu, bootstrapped.
    Bootstrap(Bootstrap),
    /// A root filesystem in a folder of the host.
    Directory(PathBuf),
    /// A root filesystem in a tar, compressed or not.
    Tar(PathBuf),
    /// The flattened layers of an image; the text of a reference with its transport.
    Image(String),
    /// The root file system of a disk image of castoff's or of somebody else's.
    Disk(PathBuf),
    /// The tree that another plan ends with.
    Plan(PlanName),
}

/// A suite that is bootstrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bootstrap {
    /// The suite: `bookworm`, `sid`, `noble`.
    pub suite: String,
    /// Where packages come from, as lines of `sources.list`.
    pub sources: Sources,
    /// The architecture in Debian's words.
    pub architecture: String,
    /// Which packages come unasked.
    pub variant: Variant,
    /// The packages besides, with what they depend on.
    pub packages: Vec<PackageName>,
}

/// Where packages come from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// `sources.list` and its content: `deb` lines.
    pub files: Vec<(String, String)>,
}

/// Which packages a bootstrapped suite has besides those that were asked for; mmdebstrap's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Essential packages only.
    Essential,
    /// Essential packages and apt.
    Apt,
    /// Packages of priority `required`, and apt: what debootstrap calls `minbase`.
    Minbase,
    /// Those and packages of priority `important`.
    #[default]
    Important,
    /// Those and packages of priority `standard`.
    Standard,
}

impl Variant {
    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::Essential => "essential",
            Self::Apt => "apt",
            Self::Minbase => "minbase",
            Self::Important => "important",
            Self::Standard => "standard",
        }
    }

    /// The variant of this name.
    pub fn of_word(word: &str) -> Option<Self> {
        [Self::Essential, Self::Apt, Self::Minbase, Self::Important, Self::Standard]
            .into_iter()
            .find(|variant| variant.word() == word)
    }
}

impl Sources {
    /// What these sources are known by, wherever they are written.
    pub fn digest(&self) -> Digest {
        let text: String = self.files.iter().flat_map(|(name, content)| [name.as_str(), "\0", content, "\0"]).collect();
        Digest::of(text.as_bytes())
    }
}

impl Bootstrap {
    /// What the archive of these sources and this architecture is known by.
    pub fn archive(&self) -> Digest {
        Digest::of(format!("{}\n{}", self.architecture, self.sources.digest()).as_bytes())
    }

    /// What in it cannot be handed to other programs, if anything cannot.
    pub fn problem(&self) -> Option<String> {
        let is_word = |text: &str| {
            text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte))
        };
        if !is_word(&self.suite) {
            return Some(format!("`{}` is not the name of a suite", self.suite.escape_debug()));
        }
        if !is_word(&self.architecture) {
            return Some(format!("`{}` is no architecture", self.architecture.escape_debug()));
        }
        let lines = self.sources.files.iter().flat_map(|(_, content)| content.split('\n'));
        let is_source = |line: &str| line.is_empty() || line.starts_with("deb ") && !line.chars().any(char::is_control);
        lines.into_iter().find(|line| !is_source(line)).map(|line| {
            format!("`{}` is no source: a line is `deb [OPTIONS] URI SUITE COMPONENT…`", line.escape_debug())
        })
    }
}

impl Base {
    /// The host's files this base is made of.
    pub fn files(&self) -> Option<&PathBuf> {
        match self {
            Self::Directory(path) | Self::Tar(path) | Self::Disk(path) => Some(path),
            Self::Empty | Self::Bootstrap(_) | Self::Image(_) | Self::Plan(_) => None,
        }
    }

    /// The kind, as a person calls it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Bootstrap(_) => "bootstrap",
            Self::Directory(_) => "directory",
            Self::Tar(_) => "tar",
            Self::Image(_) => "image",
            Self::Disk(_) => "disk",
            Self::Plan(_) => "plan",
        }
    }
}
