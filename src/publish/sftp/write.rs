//! The write itself: one window sliding over the file.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::time::{Duration, Instant};

use ssh2::File;

use super::super::content::Content;
use super::super::remote::Written;
use super::window::{Window, ahead};
use crate::error::{Context as _, Error, Result};
use crate::ssh::{Connection, Stop};

/// Who is to blame.
pub(super) enum Failure {
    /// The file could not be read, or whoever listens wants no more.
    Own(Error),
    /// The server or the line.
    Remote(Stop),
}

/// Writes the content from this offset on; `too_long`: what is behind its end is cut off first.
pub(super) fn write(
    connection: &Connection,
    file: &mut File,
    content: &Content,
    from: u64,
    too_long: bool,
    told: &mut dyn FnMut(Written) -> Result<()>,
) -> Result<(), Failure> {
    if too_long {
        let cut =
            ssh2::FileStat { size: Some(content.size()), uid: None, gid: None, perm: None, atime: None, mtime: None };
        connection.drive(|_| file.setstat(cut.clone())).map_err(Failure::Remote)?;
    }
    file.seek(SeekFrom::Start(from)).context(|| "cannot seek").map_err(Failure::Own)?;
    let mut window = Window::at(from);
    let mut pace = Pace { since: Instant::now(), bytes: 0 };
    let mut done = from;
    loop {
        window.fill(content).map_err(Failure::Own)?;
        if window.bytes().is_empty() {
            return Ok(());
        }
        // The first call sends the whole window before it hears of any byte: on a slow line that takes minutes.
        let count = connection.drive_long(|_| file.write(window.bytes())).map_err(Failure::Remote)?;
        window.acknowledge(count);
        done += count as u64;
        if count > 0 {
            told(Written::Safe(done)).map_err(Failure::Own)?;
        }
        if let Some(speed) = pace.of(count) {
            window.set_ahead(ahead(speed, connection.round_trip()));
        }
    }
}

/// Bytes a second, told twice a second.
struct Pace {
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn of(&mut self, count: usize) -> Option<u64> {
        self.bytes += count as u64;
        let elapsed = self.since.elapsed();
        if elapsed < Duration::from_millis(500) {
            return None;
        }
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let speed = self.bytes.saturating_mul(1000) / millis;
        *self = Self { since: Instant::now(), bytes: 0 };
        Some(speed)
    }
}
