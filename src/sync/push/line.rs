//! The line to a host: ssh and rsync as children, argument by argument, bounded in time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::config::Push;
use crate::error::{Error, Kind, Result};
use crate::host::exchange::{Answer, Bounds, exchange};
use crate::host::process;
use crate::progress::Cancel;
use crate::vocab::MinionId;

/// What a host is told to do; it comes over standard input, so that no shell pastes it together.
const SCRIPT: &str = include_str!("remote.sh");

/// The most bytes of an answer.
const ANSWER: u64 = 1 << 20;

/// rsync's exit code for a file that could not be read or written on either side.
const FILE_ERROR: i32 = 11;

/// The last lines of standard error that are kept.
const LINES: usize = 30;

/// The environment variable that marks children; whoever holds the lock may end those of dead owners.
pub(super) const MARK: &str = "CASTOFF_PUSH";

/// A line to one host, with a deadline for all that is said over it.
pub(super) struct Line<'a> {
    config: &'a Push,
    host: &'a MinionId,
    mark: &'a str,
    until: Instant,
    stop: (&'a Cancel, &'a AtomicBool),
}

/// What a program said, and how it ended.
pub(super) struct Said {
    pub(super) output: String,
    pub(super) errors: Vec<String>,
    pub(super) code: Option<i32>,
}

impl<'a> Line<'a> {
    pub(super) fn to(host: &'a MinionId, config: &'a Push, mark: &'a str, stop: (&'a Cancel, &'a AtomicBool)) -> Self {
        Self { config, host, mark, until: Instant::now() + config.timeout, stop }
    }

    /// The ssh program and its options; nobody is asked anything, no key is taken on trust.
    fn ssh(&self) -> Result<Vec<String>> {
        let silence = self.config.silence.as_secs();
        let mut words: Vec<String> = ["ssh", "-a", "-x", "-T"].map(str::to_owned).to_vec();
        let mut option = |text: String| words.extend(["-o".to_owned(), text]);
        for text in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "UpdateHostKeys=no",
            "ClearAllForwardings=yes",
            "ControlMaster=no",
            "ControlPath=none",
        ] {
            option(text.to_owned());
        }
        option(format!("ConnectTimeout={silence}"));
        option(format!("ServerAliveInterval={}", silence.div_ceil(3)));
        option("ServerAliveCountMax=3".to_owned());
        if let Some(file) = &self.config.known_hosts {
            option(format!("UserKnownHostsFile={}", file.display()));
            option("GlobalKnownHostsFile=none".to_owned());
        }
        if self.config.identity_file.is_some() {
            option("IdentitiesOnly=yes".to_owned());
        }
        for (flag, file) in [("-i", &self.config.identity_file), ("-F", &self.config.ssh_configuration)] {
            words.extend(file.iter().flat_map(|file| [flag.to_owned(), file.display().to_string()]));
        }
        // rsync takes the program as one text and splits it at blanks; ssh splits some values itself.
        if let Some(odd) = words.iter().find(|word| word.contains([' ', '\t', '\n', '"', '\'', '%'])) {
            return Err(Error::new(Kind::Usage, format!("`{odd}` cannot be passed to ssh"))
                .hint("the paths of `push.*` hold neither blanks, quotes nor `%`"));
        }
        Ok(words)
    }

    fn login(&self) -> String {
        self.config.user.as_ref().map_or_else(|| self.host.to_string(), |user| format!("{user}@{}", self.host))
    }

    /// Runs a verb of the script on the host.
    pub(super) fn tell(&self, arguments: &[&str]) -> Result<Said> {
        let words = self.ssh()?;
        let mut command = process::command(&words[0]);
        command.args(&words[1..]).arg("--").arg(self.login()).args(["sh", "-s", "--"]).args(arguments);
        let said = self.run(&mut command, SCRIPT.as_bytes())?;
        let whole = said.output.lines().last() == Some("end");
        if said.code == Some(0) && whole {
            return Ok(said);
        }
        Err(failure(&format!("`{}` did not do what it was told", self.host), &said))
    }

    /// Sends a folder's content into another one on the host; the bytes that went there.
    pub(super) fn send(&self, options: &[String], from: &str, to: &str) -> Result<u64> {
        let Some(rsync) = process::find("rsync") else {
            return Err(Error::new(Kind::Unsupported, "there is no rsync here").hint("install rsync"));
        };
        let silence = self.config.silence.as_secs();
        let mut command = process::command(rsync);
        command
            .args(["-aHAX", "--numeric-ids", "--sparse", "--delete", "--stats", "--no-human-readable"])
            .arg(format!("--timeout={silence}"))
            .arg(format!("--bwlimit={}", self.config.bandwidth))
            .args(["-e", &self.ssh()?.join(" ")])
            .args(options)
            .arg("--")
            .arg(from)
            .arg(format!("{}:{to}", self.login()));
        let mut said = self.run(&mut command, b"")?;
        if said.code == Some(FILE_ERROR) && said.errors.is_empty() {
            // rsync's two sides end each other, and the one that knows why (mostly a full disk) may not get to say it.
            said = self.run(&mut command, b"")?;
        }
        if said.code == Some(0) {
            let sent = said.output.lines().find_map(|line| line.strip_prefix("Total bytes sent: "));
            let digits: String = sent.unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
            return Ok(digits.parse().unwrap_or_default());
        }
        Err(failure(&format!("cannot send to `{}`", self.host), &said))
    }

    fn run(&self, command: &mut std::process::Command, input: &[u8]) -> Result<Said> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(late(self.config.timeout));
        }
        command.env(MARK, self.mark).env("LC_ALL", "C");
        let (cancel, over) = self.stop;
        let stop = || cancel.check().is_err() || over.load(Ordering::SeqCst);
        let mut errors: Vec<String> = Vec::new();
        let bounds = Bounds { deadline: left, stop: &stop, answer: ANSWER };
        let Answer { status, output } = exchange(command, input, &bounds, &mut |line| {
            if errors.len() == LINES {
                errors.remove(0);
            }
            errors.push(line.to_owned());
        })
        .map_err(|error| match error.kind() {
            Kind::Unavailable => late(self.config.timeout).caused_by(error),
            _ => error,
        })?;
        Ok(Said { output: String::from_utf8_lossy(&output).into_owned(), errors, code: status.code() })
    }
}

fn late(limit: Duration) -> Error {
    Error::new(Kind::Unavailable, format!("not done after {} s", limit.as_secs()))
        .hint("what was sent stays there, and the next run goes on; `push.timeout` gives it longer")
}

/// What standard error and exit code say, as a kind and what to do next.
fn failure(message: &str, said: &Said) -> Error {
    const KNOWN: [(&str, Kind, &str); 9] = [
        (
            "Host key verification failed",
            Kind::Refused,
            "compare the host's key with known_hosts; castoff never takes a new one on trust",
        ),
        ("No route to host", Kind::Unavailable, "is the host up?"),
        (
            "Permission denied (",
            Kind::Refused,
            "authorize the key of `push.identity_file` or the ssh configuration on the host",
        ),
        ("No space left on device", Kind::NoSpace, "free some space on the host; what was sent stays there"),
        ("Disk quota exceeded", Kind::NoSpace, "free some space on the host; what was sent stays there"),
        ("rsync: command not found", Kind::Unsupported, "install rsync on the host"),
        ("rsync: not found", Kind::Unsupported, "install rsync on the host"),
        ("file has vanished", Kind::Conflict, "stop what writes into the container, and run the same again"),
        ("castoff: there is no folder", Kind::NotFound, "is LXC installed on the host?"),
    ];
    let text = said.errors.join("\n");
    let known = KNOWN.iter().find(|(words, ..)| text.contains(words)).map(|(_, kind, hint)| (*kind, *hint));
    let (kind, hint) = known.unwrap_or(match said.code {
        // 255 is ssh's own, 10, 12, 30 and 35 are rsync's for lines that broke or stood still.
        Some(255 | 10 | 12 | 30 | 35) => (Kind::Unavailable, "is the host up, and its ssh server well?"),
        Some(FILE_ERROR) if text.is_empty() => (Kind::Failed, "is the host's disk full? the next run goes on"),
        _ => (Kind::Failed, "what the host said is above; the next run goes on"),
    });
    let ended = said.code.map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit code {code}"));
    let told = if text.is_empty() { ended } else { text };
    Error::new(kind, message).caused_by(told).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'a>(config: &'a Push, host: &'a MinionId, stop: (&'a Cancel, &'a AtomicBool)) -> Line<'a> {
        Line::to(host, config, "x", stop)
    }

    #[test]
    fn ssh_asks_nobody_and_trusts_no_new_key() {
        let host: MinionId = "node-1.example.net".parse().unwrap();
        let (cancel, over) = (Cancel::new(), AtomicBool::new(false));
        let mut config = Push { user: Some("root".to_owned()), ..Push::default() };
        let words = line(&config, &host, (&cancel, &over)).ssh().unwrap();
        for wanted in ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=30"] {
            assert!(words.iter().any(|word| word == wanted), "{words:?}");
        }
        assert!(!words.iter().any(|word| word.contains("UserKnownHostsFile")));
        assert_eq!(line(&config, &host, (&cancel, &over)).login(), "root@node-1.example.net");
        for odd in ["/a b", "/a\"b", "/a%h"] {
            config.identity_file = Some(odd.into());
            assert_eq!(line(&config, &host, (&cancel, &over)).ssh().unwrap_err().kind(), Kind::Usage);
        }
    }

    #[test]
    fn a_failure_says_what_to_do() {
        let said = |text: &str, code| Said { output: String::new(), errors: vec![text.to_owned()], code: Some(code) };
        let kinds = [
            ("Host key verification failed.", 255, Kind::Refused),
            ("ssh: connect to host x port 22: Connection refused", 255, Kind::Unavailable),
            ("rsync: write failed on \"/x\": No space left on device (28)", 11, Kind::NoSpace),
            ("io timeout after 5 seconds", 30, Kind::Unavailable),
            ("sh: 1: rsync: not found", 127, Kind::Unsupported),
            ("castoff: there is no folder /var/lib/lxc", 3, Kind::NotFound),
            ("surprise", 1, Kind::Failed),
        ];
        for (text, code, kind) in kinds {
            let error = failure("x", &said(text, code));
            assert_eq!(error.kind(), kind, "{text}");
            assert!(error.next_step().is_some());
        }
    }
}
