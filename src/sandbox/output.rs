//! Where the output of a command goes: lines to who listens, the last ones into the report, all of it into a file.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;

use crate::error::{Context as _, Result};
use crate::host::fs;
use crate::progress::{Lines, Progress};

/// Lines of output kept for the report.
const TAIL: usize = 40;

/// What the file ends with when there was more.
const CUT: &[u8] = b"\n[castoff: the log is full; the rest is not here]\n";

#[derive(Debug)]
pub(super) struct Output {
    lines: Lines,
    log: Option<Log>,
}

#[derive(Debug)]
struct Log {
    file: File,
    path: PathBuf,
    left: u64,
}

impl Output {
    pub(super) fn new(progress: &Progress, log: Option<&(PathBuf, u64)>) -> Result<Self> {
        let open = |(path, most): &(PathBuf, u64)| {
            Ok::<_, crate::error::Error>(Log {
                file: fs::create_in_place(path, false)?,
                path: path.clone(),
                left: *most,
            })
        };
        Ok(Self { lines: Lines::new(progress, TAIL), log: log.map(open).transpose()? })
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.lines.push(bytes);
        let Some(log) = &mut self.log else { return Ok(()) };
        if log.left == 0 {
            return Ok(());
        }
        let fits = usize::try_from(log.left).unwrap_or(usize::MAX).min(bytes.len());
        log.left -= fits as u64;
        let cut: &[u8] = if log.left == 0 { CUT } else { b"" };
        log.file
            .write_all(&bytes[..fits])
            .and_then(|()| log.file.write_all(cut))
            .context(|| format!("cannot write the log `{}`", log.path.display()))
    }

    /// The last lines.
    pub(super) fn finish(self) -> Vec<String> {
        self.lines.finish()
    }
}
