//! Whether a disk image boots: a machine of its own, its serial console followed, a command run in it.
//!
//! The image is opened for reading only; what the guest writes goes into a file without a name that qemu makes
//! (`snapshot=on`), so that nothing is left of it however the machine ends. The machine ends with the check, and with
//! the thread that started it. The guest reaches no network; with ssh one port of 127.0.0.1 leads to its port 22.

mod accelerator;
mod console;
mod login;
mod machine;
mod ssh;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use regex::Regex;

use super::open::{self, Inspected};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::progress::{Cancel, Progress, Unit};

pub use accelerator::{Accelerator, Wanted};
use console::{Console, Seen};
use machine::Machine;

/// What a login prompt looks like.
pub const LOGIN: &str = r"(?m)^\S* ?login: ";

/// What is to be booted, and what shows that it did.
#[derive(Clone, Debug)]
pub struct Check {
    /// The image file, raw or qcow2.
    pub image: PathBuf,
    /// The pattern of the console's text that is waited for, without colours; none is [`LOGIN`].
    pub pattern: Option<String>,
    /// A shell command to run once the pattern has come: as root over the console, which must ask for no password, or
    /// over ssh.
    pub command: Option<String>,
    /// How long all of it may take.
    pub timeout: Duration,
    /// The machine's memory in MiB.
    pub memory: u64,
    /// Its processors.
    pub cpus: u64,
    /// The kernel, where the disk's own boot loader is not to be tried.
    pub kernel: Option<PathBuf>,
    /// The initial RAM disk that goes with it.
    pub initrd: Option<PathBuf>,
    /// What that kernel is told; none is `root=/dev/vda rw console=ttyS0`.
    pub append: Option<String>,
    /// Boot by UEFI, not by BIOS.
    pub uefi: bool,
    /// How ssh gets in, where the command is to go over it.
    pub ssh: Option<Ssh>,
    /// How the machine is to run.
    pub accelerator: Wanted,
    /// The folder for what the guest writes meanwhile.
    pub scratch: PathBuf,
}

/// How ssh gets into a machine under test. It is a machine of this check's own at a port that only it has, so its host
/// key is not looked at.
#[derive(Clone, Debug)]
pub struct Ssh {
    /// The private key's file.
    pub identity: PathBuf,
    /// The user.
    pub user: String,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Booted {
    /// How long it took, command and all.
    pub seconds: f64,
    /// How the machine ran.
    pub accelerator: Accelerator,
    /// What the pattern matched.
    pub matched: String,
    /// The last lines of the console.
    pub console: Vec<String>,
    /// What the command did, where there was one.
    pub command: Option<Ran>,
}

/// How a command in the machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub exit: i64,
    /// What it printed on both outputs, without carriage returns.
    pub output: String,
}

/// What the parts of a check share.
struct Run<'a> {
    machine: Machine,
    console: Console,
    until: Instant,
    timeout: Duration,
    cancel: &'a Cancel,
}

/// Boots the image and says what was seen; an error, with the console's last lines, where it was not what was wanted.
pub fn boot(check: &Check, progress: &Progress, cancel: &Cancel) -> Result<Booted> {
    let started = Instant::now();
    let pattern = check.pattern.as_deref().unwrap_or(LOGIN);
    let pattern = Regex::new(pattern)
        .map_err(|error| Error::new(Kind::Usage, format!("`{pattern}` is no pattern")).caused_by(error))?;
    if let Some(command) = &check.command {
        login::check(command)?;
    } else if check.ssh.is_some() {
        return Err(Error::new(Kind::Usage, "ssh is given and no command to run over it"));
    }
    let image: Inspected = open::inspect(&check.image, None)?;
    fs::create_dir_all(&check.scratch, 0o700)?;
    fs::sweep(&check.scratch)?;
    let scratch = fs::TempDir::inside(&fs::absolute(&check.scratch)?)?;
    let accelerator = accelerator::choose(check.accelerator, scratch.path(), progress)?;
    let port = if check.ssh.is_some() { Some(ssh::free_port()?) } else { None };
    let _stage = progress.stage(format!("booting {}", check.image.display()), None, Unit::Items);
    let (machine, output) = Machine::start(check, &image, (accelerator, port), scratch.path())?;
    let console = Console::new(output, progress)?;
    let mut run = Run { machine, console, until: started + check.timeout, timeout: check.timeout, cancel };
    let seen = follow(&mut run, check, &pattern, (port, scratch.path()));
    let ended = run.machine.end();
    let console = run.console.tail();
    let (matched, command) = seen.map_err(|error| with_console(&error, &console, &check.image))?;
    ended?;
    Ok(Booted { seconds: started.elapsed().as_secs_f64(), accelerator, matched, console, command })
}

fn follow(
    run: &mut Run<'_>,
    check: &Check,
    pattern: &Regex,
    (port, scratch): (Option<u16>, &Path),
) -> Result<(String, Option<Ran>)> {
    let matched = run.expect(pattern, &format!("`{pattern}`"))?;
    let Some(command) = &check.command else { return Ok((matched, None)) };
    let ran = match (&check.ssh, port) {
        (Some(access), Some(port)) => ssh::run(run, access, port, (command, scratch))?,
        _ => login::run(run, command)?,
    };
    Ok((matched, Some(ran)))
}

impl Run<'_> {
    /// Waits until the console shows the pattern, behind what was matched before.
    fn expect(&mut self, pattern: &Regex, what: &str) -> Result<String> {
        let until = self.until;
        match self.expect_until(pattern, until)? {
            Some(found) => Ok(found),
            None => Err(self.late(&format!("its console did not show {what}"))),
        }
    }

    /// The same; none when it has not come at that time, which is no later than the end of the check.
    fn expect_until(&mut self, pattern: &Regex, until: Instant) -> Result<Option<String>> {
        let until = until.min(self.until);
        loop {
            if let Some(found) = self.console.take(pattern) {
                return Ok(Some(found));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.pump(left)?;
        }
    }

    /// Reads what the console says within a short while.
    fn pump(&mut self, left: Duration) -> Result<()> {
        self.cancel.check()?;
        match self.console.read(left.min(Duration::from_millis(100)))? {
            Seen::Something | Seen::Nothing => Ok(()),
            Seen::End => Err(self.machine.why_ended()),
        }
    }

    fn late(&self, what: &str) -> Error {
        Error::new(Kind::Failed, format!("{what} within {} s", self.timeout.as_secs()))
            .hint("its last lines say how far it came; a machine without KVM is some ten times slower")
    }
}

/// The failure with the console's last lines below it.
fn with_console(error: &Error, console: &[String], image: &Path) -> Error {
    let kind = error.kind();
    let hint = error.next_step().map(str::to_owned);
    let lines = if console.is_empty() { "(the console is empty)".to_owned() } else { console.join("\n") };
    let causes = error.render();
    let causes = causes.split("\n\nhint: ").next().unwrap_or_default().trim_start_matches("error: ").to_owned();
    let told = Error::new(kind, format!("`{}` did not boot as asked", image.display()))
        .caused_by(format!("{causes}\nits console at the end:\n{lines}"));
    match hint {
        Some(hint) => told.hint(hint),
        None => told,
    }
}

/// The program, and the package that has it.
fn emulator() -> Result<PathBuf> {
    super::program::needed("qemu-system-x86_64", "qemu-system-x86").context(|| "cannot boot an image")
}
