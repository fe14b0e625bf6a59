//! The output of a command as lines a person may see: split, cleaned of control characters, the last ones kept.

use std::collections::VecDeque;

use super::Progress;

/// The most bytes of one line; what is longer is broken there.
const LONGEST_LINE: usize = 4096;

/// Takes output in pieces, tells each whole line to a [`Progress`] and keeps the last ones.
#[derive(Debug)]
pub struct Lines {
    progress: Progress,
    pending: Vec<u8>,
    tail: VecDeque<String>,
    keep: usize,
    after_return: bool,
}

impl Lines {
    /// Lines told to `progress`, the last `keep` of them kept.
    pub fn new(progress: &Progress, keep: usize) -> Self {
        Self { progress: progress.clone(), pending: Vec::new(), tail: VecDeque::new(), keep, after_return: false }
    }

    /// Takes some output; a carriage return ends a line too, so that a foreign progress bar does not grow for ever.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let ended_already = std::mem::replace(&mut self.after_return, *byte == b'\r');
            match byte {
                b'\n' if ended_already => {}
                b'\n' | b'\r' => self.line(),
                byte => {
                    self.pending.push(*byte);
                    if self.pending.len() == LONGEST_LINE {
                        self.line();
                    }
                }
            }
        }
    }

    /// The last lines, once there is no more output.
    pub fn finish(mut self) -> Vec<String> {
        if !self.pending.is_empty() {
            self.line();
        }
        self.tail.into()
    }

    fn line(&mut self) {
        let text: String = String::from_utf8_lossy(&self.pending)
            .chars()
            // A terminal must not be steered by what an image prints.
            .filter(|character| *character == '\t' || !character.is_control())
            .collect();
        self.pending.clear();
        self.progress.line(text.clone());
        if self.tail.len() == self.keep {
            self.tail.pop_front();
        }
        self.tail.push_back(text);
    }
}
