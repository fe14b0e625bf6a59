//! Follows a sandbox from its start to its end: passes its output on, watches its limits, kills it when it must.

use std::error::Error as _;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::process::{Child, Stdio};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::cgroup::Groups;
use super::output::Output;
use super::watch::{SLACK, Watch};
use super::wire::{Order, Word};
use super::{OUTER, Sandbox, SandboxReport};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{fault, process};
use crate::progress::Progress;

/// The most that the stages may say.
const LONGEST_TELLING: usize = 1 << 20;

/// What the stages have besides the command's own: the limit is the command's.
const STAGES_MEMORY: u64 = 64 << 20;

impl Sandbox {
    pub(super) fn supervise(&self, order: &Order, progress: &Progress) -> Result<SandboxReport> {
        let wrong = || format!("cannot start a sandbox in `{}`", self.shown());
        let began = Instant::now();
        let mut output = Output::new(progress, self.log.as_ref())?;
        let mut groups = self.groups();
        let mut child = process::command(&self.program)
            .arg(OUTER)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(wrong)?;
        // Before it reads its order and starts anything.
        let grouped = groups.enter(child.id());
        let sent = child.stdin.as_mut().map_or(Ok(()), |input| order.send(input));
        fault::point("sandbox.run.started");
        let named = named(order);
        let mut watch = Watch::new(&self.limits, &named, child.id(), &groups);
        // What came and went between two looks counts as well.
        let followed = self.follow(&mut child, &mut output, &mut watch).and_then(|told| watch.peak().map(|()| told));
        if followed.is_err() {
            // Its first process dies with it, and every other one with that.
            child.kill().context(|| "cannot kill the sandbox")?;
        }
        // All ends of the output are closed once the last process is gone.
        let drained = drain(&mut child, &mut output);
        let status = child.wait().context(wrong)?;
        if let Some(what) = groups.hit()
            && followed.is_ok()
        {
            return Err(watch.killed(&format!("its control group has no {what} left to give")));
        }
        let tail = output.finish();
        let told = followed.map_err(|error| with_last_lines(error, &tail))?;
        drained?;
        let mut means = self.means(&grouped);
        for word in told.lines().filter_map(|line| serde_json::from_str::<Word>(line).ok()) {
            if let Word::Means(text) = &word {
                let what = text.split(':').next().unwrap_or_default();
                // Where there is no group, the stage inside may have better ones.
                if !grouped.contains(&what) {
                    means.retain(|other| other.split(':').next() != Some(what));
                    means.push(text.clone());
                }
            }
            if let Some(end) = word.exit() {
                return Ok(SandboxReport { exit: end?, tail, seconds: began.elapsed().as_secs_f64(), means });
            }
        }
        let cause = sent.err().map_or_else(|| format!("it ended with {status}"), |error| error.to_string());
        Err(Error::new(Kind::Failed, format!("the sandbox did not say how {named} ended"))
            .caused_by([tail.join("\n"), cause].join("\n").trim().to_owned()))
    }

    fn groups(&self) -> Groups {
        let processes = self.limits.processes.map(|most| u64::from(most) + u64::from(SLACK));
        Groups::make(processes, self.limits.memory.map(|bytes| bytes.saturating_add(STAGES_MEMORY)))
    }

    /// How each limit is kept, as far as castoff itself does.
    fn means(&self, grouped: &[&str]) -> Vec<String> {
        let of = |what: &str| {
            let how = if grouped.contains(&what) { "a control group" } else { "no control group, only looks" };
            format!("{what}: {how}")
        };
        let limits = &self.limits;
        let wanted = [("processes", limits.processes.is_some()), ("memory", limits.memory.is_some())];
        let mut means: Vec<String> =
            wanted.into_iter().filter(|(_, wanted)| *wanted).map(|(what, _)| of(what)).collect();
        if limits.floor.is_some() {
            means.push("disk: a look every 100 ms".to_owned());
        }
        means
    }

    /// Passes output on until both pipes are closed; what was told on standard output.
    fn follow(&self, child: &mut Child, output: &mut Output, watch: &mut Watch<'_>) -> Result<String> {
        let wrong = || "cannot read from the sandbox";
        let (mut told, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
        let (Some(words), Some(printed)) = (child.stdout.as_mut(), child.stderr.as_mut()) else {
            return Err(Error::new(Kind::Failed, "the sandbox has no pipes"));
        };
        let (mut words_open, mut printed_open) = (true, true);
        let pause = Timespec { tv_sec: 0, tv_nsec: watch.pause().subsec_nanos().into() };
        while words_open || printed_open {
            if self.cancel.check().is_err() {
                return Err(Error::new(Kind::Interrupted, "the command in the sandbox was cancelled"));
            }
            watch.look()?;
            let mut watched = Vec::with_capacity(2);
            if words_open {
                watched.push(PollFd::from_borrowed_fd(words.as_fd(), PollFlags::IN));
            }
            if printed_open {
                watched.push(PollFd::from_borrowed_fd(printed.as_fd(), PollFlags::IN));
            }
            match poll(&mut watched, Some(&pause)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => continue,
                Ok(_) => {}
                Err(error) => return Err(error).context(wrong),
            }
            let ready: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
            drop(watched);
            if words_open && ready[0] {
                let count = words.read(&mut buffer).context(wrong)?;
                told.extend_from_slice(&buffer[..count]);
                words_open = count > 0 && told.len() < LONGEST_TELLING;
            }
            if printed_open && ready.last() == Some(&true) && (ready.len() == 2 || !words_open) {
                let count = printed.read(&mut buffer).context(wrong)?;
                output.push(&buffer[..count])?;
                printed_open = count > 0;
            }
        }
        Ok(String::from_utf8_lossy(&told).into_owned())
    }
}

/// Takes the output that is left in the pipe.
fn drain(child: &mut Child, output: &mut Output) -> Result<()> {
    let Some(printed) = child.stderr.as_mut() else { return Ok(()) };
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = printed.read(&mut buffer).context(|| "cannot read from the sandbox")?;
        if count == 0 {
            return Ok(());
        }
        output.push(&buffer[..count])?;
    }
}

/// The failure of a command that was killed, with what it printed last.
fn with_last_lines(error: Error, tail: &[String]) -> Error {
    const SHOWN: usize = 10;
    if tail.is_empty() || error.source().is_some() {
        return error;
    }
    error.caused_by(tail[tail.len().saturating_sub(SHOWN)..].join("\n"))
}

/// The command as errors name it: the beginning of it.
fn named(order: &Order) -> String {
    const LONGEST: usize = 80;
    let words = if order.script.is_some() { "the script".to_owned() } else { order.command.join(" ") };
    let clean: String = words.chars().map(|one| if one.is_control() { ' ' } else { one }).take(LONGEST + 1).collect();
    if order.script.is_some() {
        return clean;
    }
    match clean.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("`{}…`", &clean[..at]),
        None => format!("`{clean}`"),
    }
}
