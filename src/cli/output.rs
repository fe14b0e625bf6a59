//! Where text goes: stdout or a file for data, stderr for everything else.

use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use crate::error::{Context as _, Result};
use crate::host;

/// Prints to stdout; a reader that went away has had enough, which is no failure.
pub(super) fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context(|| "cannot write to stdout"),
    }
}

/// Prints a line or more to stderr; there is nobody left to tell if that fails.
pub(super) fn complain(text: &str) {
    let _nobody_to_tell = writeln!(std::io::stderr().lock(), "{text}");
}

/// Where a result goes.
pub(super) enum Target<'path> {
    Stdout,
    File(File, &'path Path),
}

impl<'path> Target<'path> {
    /// The file, emptied now as `salt-call` does, so that an old result is never taken for a new one.
    pub(super) fn open(path: Option<&'path Path>, append: bool) -> Result<Self> {
        match path {
            None => Ok(Self::Stdout),
            Some(path) => Ok(Self::File(host::fs::create_in_place(path, append)?, path)),
        }
    }

    /// Writes the text and a line end; nothing for no text.
    pub(super) fn write(self, text: &str) -> Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        match self {
            Self::Stdout => print(&format!("{text}\n")),
            Self::File(mut file, path) => {
                writeln!(file, "{text}").context(|| format!("cannot write `{}`", path.display()))
            }
        }
    }
}
