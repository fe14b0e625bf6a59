//! The host programs that make and open disks: found before work starts, run to their end, ended with castoff.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{fs, process};
use crate::progress::Cancel;

/// How often a waiting castoff looks whether somebody asked to stop.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// How much of what a program said is told.
const TOLD: u64 = 4096;

/// A command that is killed when the thread that starts it ends, however that happens.
///
/// The kernel's parent-death signal survives the execution of the program that `setpriv` (util-linux) becomes.
pub(super) fn tied(program: &Path) -> Result<Command> {
    let mut command = process::command(needed("setpriv", "util-linux")?);
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    // What programs say is read, and what they sort is sorted, alike everywhere.
    command.env("LC_ALL", "C").env("TZ", "UTC");
    Ok(command)
}

/// The same for a program that would not end by itself, started in this process's working folder.
///
/// A castoff that is killed before `setpriv` has asked for the signal would leave it behind: so `nsenter` looks for
/// castoff's working folder in `/proc` then, and where there is none any more ends instead of becoming the program.
pub(super) fn tied_for_long(program: &Path) -> Result<Command> {
    let gate = needed("nsenter", "util-linux")?;
    let mut command = tied(&gate)?;
    command.args(["--target", &std::process::id().to_string(), "--wd", "--"]).arg(program);
    Ok(command)
}

/// Where the program is, or an error that says how to get it.
pub(super) fn needed(program: &str, package: &str) -> Result<PathBuf> {
    process::find(program).ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("there is no program `{program}` on this host"))
            .hint(format!("as root: `apt-get install {package}`"))
    })
}

/// The file, or an error that says which package has it.
pub(super) fn needed_file(path: &str, package: &str) -> Result<PathBuf> {
    if fs::exists(Path::new(path))? {
        return Ok(path.into());
    }
    Err(Error::new(Kind::Unsupported, format!("there is no `{path}` on this host"))
        .hint(format!("as root: `apt-get install {package}`")))
}

/// What a program that ended well wrote.
#[derive(Debug)]
pub(super) struct Said {
    /// On its standard output.
    pub(super) output: PathBuf,
    /// On its standard error.
    pub(super) errors: PathBuf,
}

/// Runs the command to its end; what it says goes into files in `scratch`. It is killed when somebody asks to stop.
pub(super) fn run(command: &mut Command, scratch: &Path, cancel: &Cancel) -> Result<Said> {
    let status = run_any(command, scratch, cancel)?;
    let (said, status) = status;
    if status.success() {
        return Ok(said);
    }
    let mut told = tail(&said.errors)?;
    if told.trim().is_empty() {
        told = tail(&said.output)?;
    }
    Err(Error::new(Kind::Failed, format!("`{}` failed: {status}", name_of(command))).caused_by(told))
}

/// The same, for a program whose exit status has more to say than success.
pub(super) fn run_any(command: &mut Command, scratch: &Path, cancel: &Cancel) -> Result<(Said, ExitStatus)> {
    cancel.check()?;
    let said = Said { output: scratch.join("output"), errors: scratch.join("errors") };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(fs::create_in_place(&said.output, false)?)
        .stderr(fs::create_in_place(&said.errors, false)?)
        .spawn()
        .context(|| format!("cannot start `{}`", name_of(command)))?;
    match wait(&mut child, cancel) {
        Ok(()) => {}
        Err(error) => {
            end(&mut child)?;
            return Err(error);
        }
    }
    let status = child.wait().context(|| format!("cannot wait for `{}`", name_of(command)))?;
    Ok((said, status))
}

/// The last part of a text file of a program.
pub(super) fn tail(path: &Path) -> Result<String> {
    use std::os::unix::fs::FileExt as _;
    let wrong = || format!("cannot read `{}`", path.display());
    let file = fs::open(path)?;
    let size = file.metadata().context(wrong)?.len();
    let start = size.saturating_sub(TOLD);
    let mut bytes = vec![0; usize::try_from(size - start).unwrap_or_default()];
    file.read_exact_at(&mut bytes, start).context(wrong)?;
    let text = String::from_utf8_lossy(&bytes);
    let text: String = text.chars().filter(|letter| *letter == '\n' || !letter.is_control()).collect();
    Ok(text.trim_end().to_owned())
}

/// Kills a child and takes its status; it is gone when this returns.
pub(super) fn end(child: &mut Child) -> Result<()> {
    child.kill().and_then(|()| child.wait()).context(|| "cannot end a program").map(drop)
}

fn wait(child: &mut Child, cancel: &Cancel) -> Result<()> {
    let pid = rustix::process::Pid::from_child(child);
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .context(|| "cannot wait for a program")?;
    loop {
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&LOOK)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error).context(|| "cannot wait for a program"),
        }
        cancel.check()?;
    }
}

/// The program's own name: commands are started by `setpriv`.
fn name_of(command: &Command) -> String {
    let program = command.get_args().nth(3).unwrap_or_else(|| command.get_program());
    Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned()
}

/// How long a quick question to a program may take.
pub(super) const QUICK: Duration = Duration::from_mins(1);

/// The most bytes of an answer to a quick question.
pub(super) const ANSWER: u64 = 4 << 20;

/// Asks a program that answers at once; its standard output.
pub(super) fn ask(command: &mut Command, request: &[u8], cancel: &Cancel) -> Result<Vec<u8>> {
    use crate::host::exchange::{Bounds, exchange};
    let program = name_of(command);
    let stop = || cancel.check().is_err();
    let mut lines: Vec<String> = Vec::new();
    let bounds = Bounds { deadline: QUICK, stop: &stop, answer: ANSWER };
    let answer = exchange(command, request, &bounds, &mut |line| {
        if lines.len() < 20 {
            lines.push(line.to_owned());
        }
    })?;
    if answer.status.success() {
        return Ok(answer.output);
    }
    Err(Error::new(Kind::Failed, format!("`{program}` failed: {}", answer.status)).caused_by(lines.join("\n")))
}

/// A file as this process's own open file, for programs that shall not look its name up again.
pub(super) fn size_of(file: &File, path: &Path) -> Result<u64> {
    Ok(file.metadata().context(|| format!("cannot look at `{}`", path.display()))?.len())
}
