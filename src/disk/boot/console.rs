//! The serial console: bytes of a guest, which may be anything, kept as text without control sequences.

use std::io::Read as _;
use std::process::ChildStdout;
use std::time::Duration;

use regex::Regex;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Context as _, Error, Kind, Result};
use crate::progress::{Lines, Progress};

/// The most text that is kept.
const MOST: usize = 2 << 20;

/// How far back a pattern is looked for.
const WINDOW: usize = 256 << 10;

/// The last lines that are told.
const TOLD: usize = 30;

/// What a look at the console brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Something,
    Nothing,
    End,
}

pub(super) struct Console {
    output: ChildStdout,
    progress: Lines,
    /// What came and was not matched yet.
    text: String,
    /// All that came, its last part.
    log: String,
    /// Bytes that are the beginning of a sequence or of a letter.
    pending: Vec<u8>,
    sequences: Regex,
}

impl Console {
    pub(super) fn new(output: ChildStdout, progress: &Progress) -> Result<Self> {
        // ECMA-48: control sequences, strings ended by BEL or ST, and two-byte escapes.
        let sequences =
            Regex::new("\x1b(?:\\[[0-?]*[ -/]*[@-~]|\\][^\x07\x1b]*(?:\x07|\x1b\\\\)|[()#][0-9A-Za-z]|[0-Z\\\\^-~])")
                .map_err(|error| Error::new(Kind::Failed, "cannot read control sequences").caused_by(error))?;
        Ok(Self {
            output,
            progress: Lines::new(progress, 0),
            text: String::new(),
            log: String::new(),
            pending: Vec::new(),
            sequences,
        })
    }

    /// Takes what came within this time.
    pub(super) fn read(&mut self, wait: Duration) -> Result<Seen> {
        let wait = Timespec { tv_sec: wait.as_secs().cast_signed(), tv_nsec: wait.subsec_nanos().into() };
        match poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => return Ok(Seen::Nothing),
            other => other.context(|| "cannot wait for the console")?,
        };
        let mut buffer = [0; 16384];
        let count = self.output.read(&mut buffer).context(|| "cannot read the console")?;
        if count == 0 {
            return Ok(Seen::End);
        }
        self.progress.push(&buffer[..count]);
        self.pending.extend_from_slice(&buffer[..count]);
        self.settle();
        Ok(Seen::Something)
    }

    /// What the pattern matches in what came since the last match; all up to its end is then done with.
    pub(super) fn take(&mut self, pattern: &Regex) -> Option<String> {
        let mut start = self.text.len().saturating_sub(WINDOW);
        while !self.text.is_char_boundary(start) {
            start += 1;
        }
        let found = pattern.find_at(&self.text, start)?;
        let (matched, end) = (found.as_str().trim().to_owned(), found.end());
        self.text.drain(..end);
        Some(matched)
    }

    /// What came since the last match.
    pub(super) fn rest(&self) -> &str {
        &self.text
    }

    /// Its last lines.
    pub(super) fn tail(&self) -> Vec<String> {
        let lines: Vec<&str> = self.log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(TOLD)..].iter().map(|line| line.chars().take(400).collect()).collect()
    }

    /// Moves whole letters from `pending` into the text, without sequences and carriage returns.
    fn settle(&mut self) {
        let mut bytes = std::mem::take(&mut self.pending);
        // The beginning of a sequence waits for its end; a long one is none.
        if let Some(escape) = bytes.iter().rposition(|byte| *byte == 0x1b)
            && bytes.len() - escape < 64
            && !self.sequences.is_match(&String::from_utf8_lossy(&bytes[escape..]))
        {
            self.pending = bytes.split_off(escape);
        } else if let Err(error) = std::str::from_utf8(&bytes)
            && error.error_len().is_none()
        {
            self.pending = bytes.split_off(error.valid_up_to());
        }
        let text = String::from_utf8_lossy(&bytes);
        let plain = self.sequences.replace_all(&text, "");
        let plain = plain.chars().filter(|letter| matches!(letter, '\n' | '\t') || !letter.is_control());
        for letter in plain {
            self.text.push(letter);
            self.log.push(letter);
        }
        for kept in [&mut self.text, &mut self.log] {
            if kept.len() > MOST {
                let mut cut = kept.len() - MOST / 2;
                while !kept.is_char_boundary(cut) {
                    cut += 1;
                }
                kept.drain(..cut);
            }
        }
    }
}
