//! Other programs: always an argument vector, never a shell string.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::error::{Context as _, Error, Kind, Result};

/// A command to be built up; the only place where one is made.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
    Command::new(program)
}

/// Runs the command to its end; its output when it exits with 0, else an error with the last lines of its stderr.
pub fn run(command: &mut Command) -> Result<Output> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().context(|| format!("cannot start `{program}`"))?;
    if output.status.success() {
        return Ok(output);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = stderr.trim_end().lines().collect();
    let tail = lines[lines.len().saturating_sub(10)..].join("\n");
    Err(Error::new(Kind::Failed, format!("`{program}` failed: {}", output.status)).caused_by(tail))
}

/// Where a program is, looked up in `PATH` and in the administrator's folders that an ordinary `PATH` lacks.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = super::environment::raw("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok() && is_file(candidate))
}

fn is_file(path: &Path) -> bool {
    matches!(super::fs::metadata(path), Ok(Some(metadata)) if metadata.is_file())
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The name of this host.
pub fn host_name() -> Result<String> {
    let name = nix::unistd::gethostname().map_err(std::io::Error::from).context(|| "cannot ask for the host's name")?;
    Ok(name.to_string_lossy().into_owned())
}
