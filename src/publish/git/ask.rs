//! Asking a child: its home, its request, its words and its answer.

use std::path::Path;

use super::wire::{self, Answer, Heard, Operation, Request};
use super::{CHILD, Credential, Git, GitAddress, forward};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::host::exchange::{Bounds, exchange};
use crate::progress::{Progress, Unit};
use crate::ssh::{Hop, Trusted};
use crate::vocab::Digest;

/// The most bytes a child may answer with.
const ANSWER_LIMIT: u64 = 64 << 20;

impl Git {
    /// Asks a child.
    pub(super) fn ask(&self, operation: Operation) -> Result<Answer> {
        let context = format!("cannot {} `{}` of `{}`", operation.verb(), self.branch, self.address);
        let trusted = self.trust().context(|| context.clone())?;
        host::fs::create_dir_all(&self.state, 0o700)?;
        host::fs::sweep(&self.state)?;
        let home = host::fs::TempDir::inside(&self.state)?;
        let forward = self.jumps.as_ref().map(|route| forward::Forward::start(route, &self.cancel)).transpose()?;
        let address = match &forward {
            Some(forward) => forward.address(&self.address),
            None => self.address.clone(),
        };
        // libgit2 trusts the kernel with what it wrote, unless it is told not to.
        host::fs::write_atomic(&home.path().join(".gitconfig"), 0o600, b"[core]\n\tfsyncObjectFiles = true\n")?;
        steer(home.path(), &address, trusted.as_ref())?;
        let request = Request::new(self, &address, trusted, operation)?;
        let answer = self.run(home.path(), &request);
        // Where the way there failed, that is the reason.
        let answer = match (answer, forward.and_then(forward::Forward::failure)) {
            (Err(_), Some(error)) => Err(error),
            (answer, _) => answer,
        };
        answer.context(|| context)
    }

    /// What the server is recognised by; an error for one that nobody can vouch for.
    fn trust(&self) -> Result<Option<Trusted>> {
        let GitAddress::Ssh { host, port, .. } = &self.address else { return Ok(None) };
        let trusted = self.trusted.clone().unwrap_or_else(|| Trusted::pinned(host, *port, Vec::new()));
        trusted.algorithms()?;
        Ok(Some(trusted))
    }

    /// A child with this home and this request; its answer.
    fn run(&self, home: &Path, request: &[u8]) -> Result<Answer> {
        let mut command = host::process::command(&self.program);
        command.arg(CHILD).env_clear().env("HOME", home).env("GIT_CONFIG_NOSYSTEM", "1");
        for name in ["CASTOFF_FAULT", "CASTOFF_FAULT_LOG"] {
            if let Some(value) = host::environment::raw(name) {
                command.env(name, value);
            }
        }
        if let Some(socket) = self.agent() {
            command.env("SSH_AUTH_SOCK", socket);
        }
        let stop = || self.cancel.check().is_err();
        let bounds = Bounds { deadline: self.deadline, stop: &stop, answer: ANSWER_LIMIT };
        let mut listener = Listener { progress: &self.progress, stage: None, done: 0, last: None };
        let answer = exchange(&mut command, request, &bounds, &mut |line| listener.hear(line))?;
        if answer.output.is_empty() {
            let error = Error::new(Kind::Failed, format!("the child of castoff ended early: {}", answer.status));
            return Err(listener.last.take().into_iter().fold(error, Error::caused_by));
        }
        wire::open(&answer.output)
    }

    fn agent(&self) -> Option<&Path> {
        self.credentials.iter().find_map(|credential| match credential {
            Credential::Agent(socket) => Some(socket.as_path()),
            Credential::File(..) | Credential::Memory(..) => None,
        })
    }

    /// What the names of this branch's files in the state folder begin with.
    pub(super) fn cache_name(&self) -> String {
        Digest::of(format!("{}\n{}", self.address, self.branch).as_bytes()).hex()[..16].to_owned()
    }
}

/// The credentials of a hop, as ssh would offer them: the agent's keys, then files.
pub(super) fn offers(hop: &Hop) -> Result<Vec<Credential>> {
    let mut offers = Vec::new();
    if let Some(socket) = hop.agent.as_ref().filter(|_| !hop.identities_only) {
        offers.push(Credential::Agent(socket.clone()));
    }
    for file in &hop.identity_files {
        if hop.identities_named || host::fs::exists(file)? {
            // Of a key in the agent the public half may be named, which everybody may read.
            if file.extension().is_none_or(|extension| extension != "pub") {
                host::fs::require_unread(file)?;
            }
            offers.push(Credential::File(file.clone(), None));
        }
    }
    Ok(offers)
}

/// Makes a server with several host keys show one of a trusted type, through a known_hosts file in the child's home:
/// libgit2 asks for the types it finds there. The key itself is judged by [`Trusted`].
fn steer(home: &Path, address: &GitAddress, trusted: Option<&Trusted>) -> Result<()> {
    // A key that no server has.
    const NO_KEY: &str = "AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let (GitAddress::Ssh { host, port, .. }, Some(trusted)) = (address, trusted) else { return Ok(()) };
    let Some(algorithms) = trusted.algorithms()? else { return Ok(()) };
    let mut kinds: Vec<&str> =
        algorithms.into_iter().map(|name| if name.starts_with("rsa-") { "ssh-rsa" } else { name }).collect();
    kinds.dedup();
    let place = if *port == 22 { host.clone() } else { format!("[{host}]:{port}") };
    let lines: Vec<String> = kinds.iter().map(|kind| format!("{place} {kind} {NO_KEY}\n")).collect();
    let folder = home.join(".ssh");
    host::fs::create_dir_all(&folder, 0o700)?;
    host::fs::write_atomic(&folder.join("known_hosts"), 0o600, lines.concat().as_bytes())
}

/// What becomes of the lines a child says while it works.
struct Listener<'a> {
    progress: &'a Progress,
    stage: Option<crate::progress::Stage>,
    done: u64,
    last: Option<String>,
}

impl Listener<'_> {
    fn hear(&mut self, line: &str) {
        match serde_json::from_str(line) {
            Ok(Heard::Stage { stage, total }) => {
                self.stage = None;
                self.done = 0;
                self.stage = Some(self.progress.stage(stage, total, Unit::Items));
            }
            Ok(Heard::Done { done }) => {
                if let Some(stage) = &mut self.stage {
                    stage.advance(done.saturating_sub(self.done));
                    self.done = self.done.max(done);
                }
            }
            Ok(Heard::Warning { text }) => self.progress.warn(text),
            // Not one of ours: a library or the loader has something to say.
            Err(_) => self.last = Some(line.escape_debug().to_string()),
        }
    }
}
