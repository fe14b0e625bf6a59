//! Releases announced in a git repository: the branch's tip is the one point at which a release becomes true.
//!
//! A commit is built in the object database of a bare clone, on the tip that was just fetched, with exactly the given
//! paths replaced: no index and no worktree, so nothing of another image rides along and no lock is left by a crash. It
//! is pushed without force, the server's answer for the branch is read, and the push counts only once a fresh fetch
//! shows it. Below the state folder, a cache that may be removed at any time:
//!
//! ```text
//! git/
//!   HEX.git           bare clone of one branch of one address; HEX begins the SHA-256 of both
//!   HEX.lock          flock: one process at a time
//!   .castoff-*.tmp    the home folder of a running child, swept when its owner is dead
//! ```
//!
//! libgit2 runs in a child, which is this program again ([`entry`]), with a deadline: its own time-outs are process-wide
//! unsafe calls. The request goes over standard input, so no secret is in an argument or in the environment. It reads
//! no one's ssh or git configuration, but that of a checkout it brings forward: whatever holds is in the request.

mod address;
mod ask;
#[cfg(feature = "git")]
mod child;
mod forward;
mod release;
mod wire;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::host;
use crate::progress::{Cancel, Progress};
use crate::ssh::{Route, Trusted};
use crate::vocab::{Digest, Flavour, OsImage, ReleaseNumber, Secret};
use wire::{Answer, Operation};

pub use address::GitAddress;
pub use release::Release;

/// The first argument of the child.
const CHILD: &str = "castoff-git";

/// How long an operation may take, waiting for others included.
const DEADLINE: Duration = Duration::from_mins(10);

/// A way to show the server who castoff is; each is offered once.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A private key file, and its passphrase.
    File(PathBuf, Option<Secret<String>>),
    /// A private key from wherever secrets are kept, and its passphrase.
    Memory(Secret<String>, Option<Secret<String>>),
    /// The keys in the agent at this socket.
    Agent(PathBuf),
}

/// Who commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Author {
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
}

/// One branch of one repository, and how to reach it.
#[derive(Clone, Debug)]
pub struct Git {
    address: GitAddress,
    branch: String,
    state: PathBuf,
    credentials: Vec<Credential>,
    trusted: Option<Trusted>,
    jumps: Option<Route>,
    author: Author,
    deadline: Duration,
    program: PathBuf,
    cancel: Cancel,
    progress: Progress,
}

/// What stands at the freshly fetched tip of the branch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tip {
    /// The commit; none in a repository without any.
    pub commit: Option<String>,
    /// The asked paths, with their bytes where they exist.
    pub files: BTreeMap<String, Option<Vec<u8>>>,
}

/// One content that a file has had in the history of the branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The newest commit that has it.
    pub commit: String,
    /// When that was committed, in seconds since 1970.
    pub at: i64,
    /// What it held.
    pub text: String,
}

/// How publishing ended, short of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is at the tip, seen by a fresh fetch.
    New {
        /// Our commit.
        commit: String,
        /// How many pushes it took.
        tries: u32,
    },
    /// The same content was already there under the same number.
    Already {
        /// The tip it was seen at.
        commit: String,
    },
    /// Other content has this number or a higher one: begin again with a number above.
    Conflict {
        /// The highest number there.
        highest: ReleaseNumber,
    },
}

/// Files to be replaced or removed in one commit, whatever they are.
#[derive(Clone, Debug)]
pub struct Replacement {
    /// The commit's subject.
    pub subject: String,
    /// New bytes for these paths; none removes the file.
    pub changes: BTreeMap<String, Option<Vec<u8>>>,
    /// The digests these paths must have at the tip (none: must not exist); else nothing happens but an error of
    /// [`Kind::Conflict`].
    pub expected: BTreeMap<String, Option<Digest>>,
}

/// A number that a publisher keeps others from using: `refs/claims/IMG/FLAVOR/N`.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The image.
    pub image: OsImage,
    /// The flavour.
    pub flavour: Flavour,
    /// The number.
    pub number: ReleaseNumber,
    /// Who claims, the same text in every run of the same release.
    pub claimant: String,
    /// When it was first claimed, the same in every run: seconds since 1970.
    pub at: u64,
}

/// Whose a number is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Ours, now or already.
    Ours,
    /// Somebody else's, who says so.
    Theirs(String),
}

impl Git {
    /// The branch of the repository at this address; `state` is castoff's state folder.
    pub fn new(address: GitAddress, branch: impl Into<String>, state: &Path) -> Self {
        Self {
            address,
            branch: branch.into(),
            state: state.join("git"),
            credentials: Vec::new(),
            trusted: None,
            jumps: None,
            author: Author { name: "castoff".to_owned(), email: "castoff@localhost".to_owned() },
            deadline: DEADLINE,
            program: "/proc/self/exe".into(),
            cancel: Cancel::new(),
            progress: Progress::silent(),
        }
    }

    /// Offers these credentials, in this order.
    #[must_use]
    pub fn credentials(mut self, credentials: Vec<Credential>) -> Self {
        self.credentials = credentials;
        self
    }

    /// Trusts a server that shows one of these host keys, and no other.
    #[must_use]
    pub fn trusted(mut self, trusted: Trusted) -> Self {
        self.trusted = Some(trusted);
        self
    }

    /// Goes the way, is the user, offers the keys and trusts the host keys that the operator's ssh configuration says.
    pub fn along(mut self, route: &Route) -> Result<Self> {
        let hop = route.target().ok_or_else(|| Error::new(Kind::Usage, "a route without a host"))?;
        self.address = self.address.through(&hop.user, &hop.host, hop.port);
        self.credentials = ask::offers(hop)?;
        self.trusted = Some(hop.trusted.clone());
        self.jumps = (route.hops.len() > 1).then(|| route.clone());
        Ok(self)
    }

    /// Commits as this author.
    #[must_use]
    pub fn author(mut self, author: Author) -> Self {
        self.author = author;
        self
    }

    /// Gives up an operation that takes longer than this.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Kills an operation under way when somebody asks.
    #[must_use]
    pub fn cancelled_by(mut self, cancel: Cancel) -> Self {
        self.cancel = cancel;
        self
    }

    /// Tells how far an operation is.
    #[must_use]
    pub fn progress(mut self, progress: Progress) -> Self {
        self.progress = progress;
        self
    }

    /// The program whose `main` calls [`entry`], when it is not the running one (a test's).
    #[must_use]
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// The files at these paths, at the tip as it is now.
    pub fn read(&self, paths: &[&str]) -> Result<Tip> {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        match self.ask(Operation::Read { paths })? {
            Answer::Tip { commit, files } => Ok(Tip { commit, files }),
            other => Err(unexpected(&other)),
        }
    }

    /// What a text file has held in the history of the branch as it is now, the newest first, at most so many of them.
    pub fn history(&self, path: &str, most: usize) -> Result<Vec<Version>> {
        match self.ask(Operation::History { path: path.to_owned(), most })? {
            Answer::Versions(versions) => Ok(versions),
            other => Err(unexpected(&other)),
        }
    }

    /// Announces the release: returns once a fresh fetch shows it, or says why it must not be announced.
    pub fn publish(&self, release: &Release) -> Result<Published> {
        match self.ask(Operation::Publish(release.clone()))? {
            Answer::New { commit, tries } => Ok(Published::New { commit, tries }),
            Answer::Already { commit } => Ok(Published::Already { commit }),
            Answer::Conflict { highest } => Ok(Published::Conflict { highest }),
            other => Err(unexpected(&other)),
        }
    }

    /// Replaces files in one commit; `Already` when they stand so at the tip.
    pub fn replace(&self, replacement: &Replacement) -> Result<Published> {
        let Replacement { subject, changes, expected } = replacement.clone();
        match self.ask(Operation::Replace { subject, changes, expected })? {
            Answer::New { commit, tries } => Ok(Published::New { commit, tries }),
            Answer::Already { commit } => Ok(Published::Already { commit }),
            other => Err(unexpected(&other)),
        }
    }

    /// Claims a number, or says whose it is.
    pub fn claim(&self, claim: &Claim) -> Result<Claimed> {
        match self.ask(Operation::Claim(claim.into()))? {
            Answer::Ours => Ok(Claimed::Ours),
            Answer::Theirs { claimant } => Ok(Claimed::Theirs(claimant)),
            other => Err(unexpected(&other)),
        }
    }

    /// Gives a claimed number back; somebody else's stays, and is an error.
    pub fn drop_claim(&self, claim: &Claim) -> Result<()> {
        match self.ask(Operation::DropClaim(claim.into()))? {
            Answer::Ours => Ok(()),
            Answer::Theirs { claimant } => {
                Err(Error::new(Kind::Conflict, format!("release {} is claimed by somebody else", claim.number))
                    .caused_by(claimant))
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Brings a plain checkout of the branch to the tip, for those who read files there: whatever else changed first, then
    /// each MD5, each version file last, each replaced in one step.
    pub fn fast_forward(&self, checkout: &Path) -> Result<String> {
        match self.ask(Operation::FastForward { checkout: host::fs::absolute(checkout)? })? {
            Answer::Already { commit } => Ok(commit),
            other => Err(unexpected(&other)),
        }
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::new(Kind::Failed, format!("the child of castoff answered another question: {answer:?}"))
}

/// Runs the child, when that is what this process was started for; `main` calls it before anything else.
pub fn entry(arguments: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    (arguments.into_iter().nth(1)?.to_str()? == CHILD).then(child_main)
}

#[cfg(feature = "git")]
fn child_main() -> ExitCode {
    child::run()
}

#[cfg(not(feature = "git"))]
fn child_main() -> ExitCode {
    let error =
        Error::new(Kind::Unsupported, "this castoff was built without git").hint("build it with the feature `git`");
    wire::close(Err(error))
}
