//! A request to another program over its standard input, its answer over standard output, within a deadline.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Context as _, Error, Kind, Result};

/// How often a waiting exchange looks whether somebody asked to stop.
const LOOK: Duration = Duration::from_millis(50);

/// The most bytes of one line of standard error.
const LONGEST_LINE: u64 = 16 << 10;

/// What an exchange may take.
pub struct Bounds<'a> {
    /// The other program is killed after this long.
    pub deadline: Duration,
    /// The other program is killed when this says so.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// The most bytes an answer may have.
    pub answer: u64,
}

/// What the other program said.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub output: Vec<u8>,
}

/// Starts the command, gives it the request and waits for its end; `heard` gets each line of standard error.
///
/// The program is killed, with whatever it started, at the deadline (an error of [`Kind::Unavailable`]) and when somebody
/// asks to stop ([`Kind::Interrupted`]); it is gone when this returns. The request is in no error.
pub fn exchange(
    command: &mut Command,
    request: &[u8],
    bounds: &Bounds<'_>,
    heard: &mut (dyn FnMut(&str) + Send),
) -> Result<Answer> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own, so that no descendant outlives a kill with the pipes in its hands.
        .process_group(0)
        .spawn()
        .context(|| format!("cannot start `{program}`"))?;
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program that ends early closes its end; what it answers says why.
            let _closed = input.map(|mut input| input.write_all(request));
        });
        let answer = scope.spawn(move || read_all(output, bounds.answer.saturating_add(1)));
        scope.spawn(move || hear(errors, heard));
        let status = wait(&mut child, bounds, &program)?;
        let output = answer.join().map_err(|_| Error::new(Kind::Failed, format!("cannot read from `{program}`")))?;
        let output = output.context(|| format!("cannot read from `{program}`"))?;
        if output.len() as u64 > bounds.answer {
            return Err(Error::new(Kind::Limit, format!("`{program}` answered more than {} bytes", bounds.answer)));
        }
        Ok(Answer { status, output })
    })
}

/// The program's end, or its death at the deadline.
fn wait(child: &mut Child, bounds: &Bounds<'_>, program: &str) -> Result<ExitStatus> {
    let until = Instant::now() + bounds.deadline;
    let awaited = watch(child, until, bounds.stop);
    let error = match awaited {
        Ok(None) => return child.wait().context(|| format!("cannot wait for `{program}`")),
        Ok(Some(Kind::Interrupted)) => Error::new(Kind::Interrupted, format!("`{program}` was stopped on request")),
        Ok(Some(kind)) => {
            Error::new(kind, format!("`{program}` did not end within {} s", bounds.deadline.as_secs_f32()))
        }
        Err(error) => Error::new(Kind::Failed, format!("cannot wait for `{program}`")).caused_by(error),
    };
    // Killing one that has just ended does nothing; its number stays its own until it is waited for.
    let group = rustix::process::Pid::from_child(child);
    rustix::process::kill_process_group(group, rustix::process::Signal::KILL)
        .map_err(std::io::Error::from)
        .and_then(|()| child.wait())
        .context(|| format!("cannot end `{program}`"))?;
    Err(error)
}

/// None when the program has ended, else why it has to.
fn watch(child: &Child, until: Instant, stop: &dyn Fn() -> bool) -> std::io::Result<Option<Kind>> {
    let pid = rustix::process::Pid::from_child(child);
    let handle = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let pause = left.min(LOOK);
        let pause = Timespec { tv_sec: 0, tv_nsec: pause.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&pause)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            Ok(_) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        if stop() {
            return Ok(Some(Kind::Interrupted));
        }
        if left.is_zero() {
            return Ok(Some(Kind::Unavailable));
        }
    }
}

fn read_all(source: Option<impl Read>, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(source) = source {
        source.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

fn hear(source: Option<impl Read>, heard: &mut (dyn FnMut(&str) + Send)) {
    let Some(mut lines) = source.map(BufReader::new) else { return };
    let mut line = Vec::new();
    // A pipe that cannot be read any more has said all it will.
    while let Ok(1..) = (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line) {
        heard(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::process::command;

    fn ask(script: &str, bounds: &Bounds<'_>) -> Result<(Answer, Vec<String>)> {
        let mut lines = Vec::new();
        let answer =
            exchange(command("sh").args(["-c", script]), b"request", bounds, &mut |line| lines.push(line.to_owned()))?;
        Ok((answer, lines))
    }

    #[test]
    fn a_program_is_given_the_request_and_heard() {
        let bounds = Bounds { deadline: Duration::from_mins(1), stop: &|| false, answer: 100 };
        let (answer, lines) = ask("cat; echo one >&2; echo two >&2; exit 3", &bounds).unwrap();
        assert_eq!((answer.output.as_slice(), answer.status.code()), (&b"request"[..], Some(3)));
        assert_eq!(lines, ["one", "two"]);
        let early = ask("exec 0<&-; exit 0", &bounds).unwrap();
        assert!(early.0.status.success());
    }

    #[test]
    fn a_program_that_says_too_much_lasts_too_long_or_is_not_wanted_any_more_is_ended() {
        let bounds = Bounds { deadline: Duration::from_mins(1), stop: &|| false, answer: 100 };
        assert_eq!(ask("head -c 101 /dev/zero", &bounds).unwrap_err().kind(), Kind::Limit);
        let short = Bounds { deadline: Duration::from_millis(80), ..bounds };
        assert_eq!(ask("exec sleep 1000", &short).unwrap_err().kind(), Kind::Unavailable);
        assert_eq!(ask("sleep 1000 & sleep 1000", &short).unwrap_err().kind(), Kind::Unavailable);
        let cancelled = Bounds { deadline: Duration::from_mins(1), stop: &|| true, answer: 100 };
        assert_eq!(ask("exec sleep 1000", &cancelled).unwrap_err().kind(), Kind::Interrupted);
        let missing = exchange(&mut command("/nonexistent/x"), b"", &cancelled, &mut |_| {});
        assert_eq!(missing.unwrap_err().kind(), Kind::NotFound);
    }
}
