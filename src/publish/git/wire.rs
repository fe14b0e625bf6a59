//! What castoff and its git child tell each other: one JSON request down standard input, one JSON answer up standard
//! output, and [`Heard`] lines on standard error meanwhile.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::{Claim, Credential, Git, GitAddress, Release, Version};
use crate::error::{Error, Kind, Result};
use crate::ssh::Trusted;
use crate::vocab::{Digest, ReleaseNumber};

#[derive(Serialize, Deserialize)]
pub(super) struct Request {
    /// The process that asks: a child whose parent is another has been left behind.
    pub(super) parent: u32,
    pub(super) url: String,
    pub(super) branch: String,
    /// The bare clone.
    pub(super) clone: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) credentials: Vec<Offer>,
    /// None for a repository on this machine.
    pub(super) trusted: Option<Trusted>,
    /// Name and mail address.
    pub(super) author: (String, String),
    pub(super) operation: Operation,
}

/// A credential with its secrets bare, to be sent through a pipe and nowhere else: no `Debug`.
#[derive(Serialize, Deserialize)]
pub(super) enum Offer {
    File(PathBuf, Option<String>),
    Memory(String, Option<String>),
    Agent,
}

#[derive(Serialize, Deserialize)]
pub(super) enum Operation {
    Read { paths: Vec<String> },
    History { path: String, most: usize },
    Publish(Release),
    Replace { subject: String, changes: BTreeMap<String, Option<Vec<u8>>>, expected: BTreeMap<String, Option<Digest>> },
    Claim(ClaimOrder),
    DropClaim(ClaimOrder),
    FastForward { checkout: PathBuf },
}

impl Operation {
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::History { .. } => "read",
            Self::Publish(_) | Self::Replace { .. } => "publish to",
            Self::Claim(_) => "claim a release beside",
            Self::DropClaim(_) => "give a claim back beside",
            Self::FastForward { .. } => "follow",
        }
    }
}

/// A claim as git holds it.
#[derive(Serialize, Deserialize)]
pub(super) struct ClaimOrder {
    pub(super) reference: String,
    pub(super) message: String,
    pub(super) at: u64,
}

impl From<&Claim> for ClaimOrder {
    fn from(claim: &Claim) -> Self {
        let Claim { image, flavour, number, claimant, at } = claim;
        Self {
            reference: format!("refs/claims/{image}/{flavour}/{number}"),
            message: format!("claim {image}/{flavour}/{number}\n\n{}\n", claimant.escape_debug()),
            at: *at,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Tip { commit: Option<String>, files: BTreeMap<String, Option<Vec<u8>>> },
    Versions(Vec<Version>),
    New { commit: String, tries: u32 },
    Already { commit: String },
    Conflict { highest: ReleaseNumber },
    Ours,
    Theirs { claimant: String },
}

/// What a child says while it works.
#[derive(Serialize, Deserialize)]
pub(super) enum Heard {
    Stage { stage: String, total: Option<u64> },
    Done { done: u64 },
    Warning { text: String },
}

/// An error on its way: what [`Error`] is made of, as text.
#[derive(Serialize, Deserialize)]
struct Failure {
    kind: String,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Request {
    /// The bytes of the request for a child.
    #[expect(clippy::new_ret_no_self, reason = "it exists only as bytes")]
    pub(super) fn new(
        git: &Git,
        address: &GitAddress,
        trusted: Option<Trusted>,
        operation: Operation,
    ) -> Result<Vec<u8>> {
        let name = git.cache_name();
        let request = Self {
            parent: std::process::id(),
            url: address.to_string(),
            branch: git.branch.clone(),
            clone: git.state.join(format!("{name}.git")),
            lock: git.state.join(format!("{name}.lock")),
            credentials: git.credentials.iter().map(Offer::from).collect(),
            trusted,
            author: (git.author.name.clone(), git.author.email.clone()),
            operation,
        };
        serde_json::to_vec(&request)
            .map_err(|error| Error::new(Kind::Failed, "cannot write a request for git").caused_by(error.to_string()))
    }
}

impl From<&Credential> for Offer {
    fn from(credential: &Credential) -> Self {
        let bare = |secret: &Option<crate::vocab::Secret<String>>| secret.as_ref().map(|own| own.reveal().clone());
        match credential {
            Credential::File(path, passphrase) => Self::File(path.clone(), bare(passphrase)),
            Credential::Memory(key, passphrase) => Self::Memory(key.reveal().clone(), bare(passphrase)),
            Credential::Agent(_) => Self::Agent,
        }
    }
}

const KINDS: [Kind; 11] = [
    Kind::Usage,
    Kind::NotFound,
    Kind::Conflict,
    Kind::Refused,
    Kind::Corrupt,
    Kind::Limit,
    Kind::NoSpace,
    Kind::Unsupported,
    Kind::Unavailable,
    Kind::Interrupted,
    Kind::Failed,
];

/// The answer in a child's standard output.
pub(super) fn open(bytes: &[u8]) -> Result<Answer> {
    let answer: Result<Answer, Failure> = serde_json::from_slice(bytes)
        .map_err(|error| Error::new(Kind::Failed, "the child of castoff gave no answer").caused_by(error))?;
    answer.map_err(|failure| {
        let kind = KINDS.into_iter().find(|kind| kind.word() == failure.kind).unwrap_or(Kind::Failed);
        let cause = failure.causes.into_iter().rev().fold(None, |below: Option<Error>, message| {
            let error = Error::new(kind, message);
            Some(match below {
                Some(below) => error.caused_by(below),
                None => error,
            })
        });
        let mut error = Error::new(kind, failure.message);
        if let Some(cause) = cause {
            error = error.caused_by(cause);
        }
        failure.hint.into_iter().fold(error, Error::hint)
    })
}

/// The end of a child: its answer is written, and a failure is its exit code too.
pub(super) fn close(answer: Result<Answer>) -> ExitCode {
    let (answer, code) = match answer {
        Ok(answer) => (Ok(answer), 0),
        Err(error) => {
            let mut causes = Vec::new();
            let mut cause = std::error::Error::source(&error);
            while let Some(own) = cause {
                causes.push(own.to_string());
                cause = own.source();
            }
            let hint = error.next_step().map(str::to_owned);
            let failure =
                Failure { kind: error.kind().word().to_owned(), message: error.message().to_owned(), causes, hint };
            (Err(failure), error.kind().exit_code())
        }
    };
    let mut out = std::io::stdout().lock();
    let told = serde_json::to_writer(&mut out, &answer).map_err(std::io::Error::from).and_then(|()| out.flush());
    // With nobody left to tell, the exit code is all there is to say.
    ExitCode::from(if told.is_ok() { code } else { 1 })
}

/// Tells castoff how far the work is; nobody has to listen.
#[cfg(feature = "git")]
pub(super) fn tell(heard: &Heard) {
    if let Ok(mut line) = serde_json::to_vec(heard) {
        line.push(b'\n');
        let _nobody_listens = std::io::stderr().lock().write_all(&line);
    }
}
