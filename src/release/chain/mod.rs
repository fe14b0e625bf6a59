//! The chain: one image and flavour from whole files to `done`.
//!
//! Every step begins by looking: what is there already is not done again. A number that turns out to be somebody else's
//! is given up, and the same files go up under the next one.

mod announce;
mod begin;
mod carry;
mod claims;
mod parts;
mod plan;
mod upload;

pub use plan::preview;

use super::freight::Freight;
use super::journal::Journal;
use super::{Setup, Standing};
use crate::host::fs::Lock;
use crate::manifest::Manifest;
use crate::publish::{Sent, Tier};
use crate::vocab::{Flavour, OsImage, ReleaseNumber, Value};

/// How often the next number is taken before somebody else has to look.
const MOST_NUMBERS: u32 = 8;

/// A release that has begun: its image and flavour are locked, its number is chosen.
pub struct Begun<'a> {
    setup: &'a Setup,
    image: OsImage,
    flavour: Flavour,
    standing: Standing,
    journal: Journal,
    number: ReleaseNumber,
    _lock: Lock,
}

/// How a release is carried out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Release what is what is announced already.
    pub force: bool,
    /// End when all files have their names; what is announced stays as it is.
    pub only_upload: bool,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is announced.
    Released {
        /// The commit that says so.
        commit: String,
        /// What is left to be done by the next run, in words.
        left: Vec<String>,
    },
    /// Its tree is the one that is announced already.
    Unchanged,
    /// Its files are in place, and not announced.
    Uploaded,
}

/// What became of a file at a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The target's name.
    pub target: String,
    /// The place, in words.
    pub place: String,
    /// The file's name.
    pub file: String,
    /// How sure its bytes are.
    pub tier: Tier,
    /// What was sent; none where it was there already.
    pub sent: Option<Sent>,
    /// Whether it was sent twice since what had arrived first was wrong.
    pub repeated: bool,
}

/// What became of a release.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The image.
    pub image: OsImage,
    /// The flavour.
    pub flavour: Flavour,
    /// Its number.
    pub number: ReleaseNumber,
    /// How it ended.
    pub ending: Ending,
    /// Its files at the targets.
    pub placed: Vec<Placed>,
    /// What is signed, or what is announced already.
    pub manifest: Option<Manifest>,
}

/// How one try with one number ended.
enum Attempt {
    Ended(Box<Outcome>),
    /// The number is somebody else's, and so are all up to this one.
    Taken(ReleaseNumber, String),
}

impl Begun<'_> {
    /// The number that this release will have, unless somebody else is faster.
    pub fn number(&self) -> ReleaseNumber {
        self.number
    }

    /// What is being released.
    pub fn subject(&self) -> (&OsImage, &Flavour, ReleaseNumber) {
        (&self.image, &self.flavour, self.number)
    }

    /// What is announced.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// What an earlier run of this release was to publish, if one was cut off.
    pub fn freight(&self) -> crate::error::Result<Option<Freight>> {
        super::Story(self.journal.records()).freight()
    }

    /// Whether an earlier run was to put everything in place and not to announce it.
    pub fn is_held(&self) -> bool {
        super::Story(self.journal.records()).is_held()
    }

    /// Whether an earlier run has put everything in place, and it waits to be announced.
    pub fn waits(&self) -> bool {
        super::Story(self.journal.records()).waits()
    }

    fn what(&self) -> String {
        format!("release {} of `{}/{}`", self.number, self.image, self.flavour)
    }

    fn outcome(&self, ending: Ending, placed: Vec<Placed>, manifest: Option<Manifest>) -> Outcome {
        let (image, flavour, number) = (self.image.clone(), self.flavour.clone(), self.number);
        Outcome { image, flavour, number, ending, placed, manifest }
    }
}

impl Placed {
    fn to_value(&self) -> Value {
        Value::map([
            ("place", Value::from(self.place.as_str())),
            ("file", self.file.as_str().into()),
            ("verified", self.tier.to_string().into()),
            ("already_there", self.sent.is_none().into()),
            ("sent", self.sent.map_or(0, |sent| sent.sent).into()),
            ("resumed_at", self.sent.map(|sent| sent.from).into()),
            ("reconnected", self.sent.map_or(0, |sent| sent.reconnected).into()),
            ("sent_again", self.repeated.into()),
        ])
    }
}

impl Outcome {
    /// The report.
    pub fn to_value(&self) -> Value {
        let (ending, commit, left) = match &self.ending {
            Ending::Released { commit, left } => ("released", Some(commit), left.clone()),
            Ending::Unchanged => ("unchanged", None, Vec::new()),
            Ending::Uploaded => ("uploaded", None, Vec::new()),
        };
        let mut targets = crate::vocab::Map::new();
        for placed in &self.placed {
            let files = targets.entry(placed.target.as_str().into()).or_insert_with(|| Value::List(Vec::new()));
            if let Value::List(files) = files {
                files.push(placed.to_value());
            }
        }
        let archive = self.manifest.as_ref().and_then(|manifest| manifest.archive().ok());
        Value::map([
            ("result", Value::from(true)),
            ("outcome", ending.into()),
            ("image", self.image.to_string().into()),
            ("flavor", self.flavour.to_string().into()),
            ("version", self.number.get().into()),
            ("commit", commit.into()),
            ("file", archive.map(|archive| archive.name.to_string()).into()),
            ("size", archive.map(|archive| archive.size).into()),
            ("sha256", archive.map(|archive| archive.sha256.hex()).into()),
            ("md5", archive.map(|archive| archive.md5.to_string()).into()),
            ("targets", Value::Map(targets)),
            ("left", Value::list(left)),
        ])
    }
}
