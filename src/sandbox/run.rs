//! castoff's side of a sandbox: starts it, passes its output on, kills it when asked, says how it ended.

use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::stand_ins::{self, StandIns};
use super::wire::{Order, Word};
use super::{OUTER, Sandbox, SandboxReport};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{fault, fs, process};
use crate::progress::{Lines, Progress};

/// Lines of output kept for the report.
const TAIL: usize = 40;

/// How often it is asked whether to go on.
const GLANCE: Duration = Duration::from_millis(100);

impl Sandbox {
    /// Runs a command to its end and passes its output to `progress`. Everything it started ends with it.
    pub fn run(&self, command: &[String], progress: &Progress) -> Result<SandboxReport> {
        self.carry_out(command, None, progress)
    }

    /// Runs a script, which the tree does not get to keep; with a `command`, that is run with the script's path as
    /// its last argument.
    pub fn run_script(&self, script: &[u8], command: &[String], progress: &Progress) -> Result<SandboxReport> {
        self.carry_out(command, Some(script.to_vec()), progress)
    }

    fn carry_out(&self, command: &[String], script: Option<Vec<u8>>, progress: &Progress) -> Result<SandboxReport> {
        if command.is_empty() && script.is_none() {
            return Err(Error::new(Kind::Usage, "there is no command to run in the sandbox"));
        }
        let tree = self.checked_tree()?;
        let resolver = if self.network { stand_ins::host_resolver()? } else { None };
        let stand_ins = StandIns::make(&tree, resolver.is_some())?;
        let order = Order {
            tree: tree.as_os_str().as_bytes().to_vec(),
            command: command.to_vec(),
            environment: self.environment.clone(),
            network: self.network,
            resolver,
            script,
        };
        let report = self.supervise(&order, progress)?;
        stand_ins.take_away()?;
        Ok(report)
    }

    /// The tree as an absolute path, if a sandbox can be made of it.
    fn checked_tree(&self) -> Result<PathBuf> {
        let shown = self.tree.display();
        if !rustix::process::geteuid().is_root() {
            return Err(Error::new(Kind::Unsupported, format!("cannot run a command in `{shown}`: only root can"))
                .hint("run castoff as root, or do without this step"));
        }
        let tree = fs::absolute(&self.tree)?;
        match directory(&tree)? {
            None => Err(Error::new(Kind::NotFound, format!("`{shown}` is not a directory"))),
            own if own == directory(Path::new("/"))? => {
                Err(Error::new(Kind::Refused, format!("`{shown}` is this host's own root filesystem")))
            }
            Some(_) => Ok(tree),
        }
    }

    fn supervise(&self, order: &Order, progress: &Progress) -> Result<SandboxReport> {
        let wrong = || format!("cannot start a sandbox in `{}`", self.tree.display());
        let began = Instant::now();
        let mut child = process::command(&self.program)
            .arg(OUTER)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(wrong)?;
        let sent = child.stdin.as_mut().map_or(Ok(()), |input| order.send(input));
        fault::point("sandbox.run.started");
        let mut lines = Lines::new(progress, TAIL);
        let followed = self.follow(&mut child, &mut lines, began);
        if followed.is_err() {
            // Its first process dies with it, and every other one with that.
            child.kill().context(|| "cannot kill the sandbox")?;
        }
        // All ends of the output are closed once the last process is gone.
        let drained = drain(&mut child, &mut lines);
        let status = child.wait().context(wrong)?;
        drained?;
        let told = followed?;
        let tail = lines.finish();
        if let Some(word) = told.lines().next().and_then(|line| serde_json::from_str::<Word>(line).ok()) {
            return Ok(SandboxReport { exit: word.exit()?, tail, seconds: began.elapsed().as_secs_f64() });
        }
        let cause = sent.err().map_or_else(|| format!("it ended with {status}"), |error| error.to_string());
        Err(Error::new(Kind::Failed, "the sandbox did not say how it ended")
            .caused_by([tail.join("\n"), cause].join("\n").trim().to_owned()))
    }

    /// Passes output on until both pipes are closed; what was told on standard output.
    fn follow(&self, child: &mut Child, lines: &mut Lines, began: Instant) -> Result<String> {
        let wrong = || "cannot read from the sandbox";
        let (mut told, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        let (Some(words), Some(output)) = (child.stdout.as_mut(), child.stderr.as_mut()) else {
            return Err(Error::new(Kind::Failed, "the sandbox has no pipes"));
        };
        let (mut words_open, mut output_open) = (true, true);
        let glance = Timespec::try_from(GLANCE).map_err(|error| Error::new(Kind::Failed, wrong()).caused_by(error))?;
        while words_open || output_open {
            self.check(began)?;
            let mut watched = Vec::with_capacity(2);
            if words_open {
                watched.push(PollFd::from_borrowed_fd(words.as_fd(), PollFlags::IN));
            }
            if output_open {
                watched.push(PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN));
            }
            match poll(&mut watched, Some(&glance)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error).context(wrong),
            }
            let ready: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
            drop(watched);
            if words_open && ready[0] {
                let count = words.read(&mut buffer).context(wrong)?;
                words_open = count > 0;
                told.extend_from_slice(&buffer[..count]);
            }
            if output_open && ready.last() == Some(&true) && (ready.len() == 2 || !words_open) {
                let count = output.read(&mut buffer).context(wrong)?;
                output_open = count > 0;
                lines.push(&buffer[..count]);
            }
        }
        Ok(String::from_utf8_lossy(&told).into_owned())
    }

    fn check(&self, began: Instant) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::new(Kind::Interrupted, "the command in the sandbox was cancelled"));
        }
        match self.limit {
            Some(limit) if began.elapsed() > limit => Err(Error::new(
                Kind::Limit,
                format!("the command in the sandbox was killed: it ran longer than {} s", limit.as_secs()),
            )),
            _ => Ok(()),
        }
    }
}

/// Which directory this is, if it is one.
fn directory(path: &Path) -> Result<Option<(u64, u64)>> {
    Ok(fs::metadata(path)?.filter(std::fs::Metadata::is_dir).map(|metadata| (metadata.dev(), metadata.ino())))
}

/// Takes the output that is left in the pipe.
fn drain(child: &mut Child, lines: &mut Lines) -> Result<()> {
    let mut rest = Vec::new();
    if let Some(output) = child.stderr.as_mut() {
        output.read_to_end(&mut rest).context(|| "cannot read from the sandbox")?;
    }
    lines.push(&rest);
    Ok(())
}
