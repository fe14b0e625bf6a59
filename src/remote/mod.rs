//! Files fetched from anywhere by their address: from a folder, over SFTP, over HTTP; in bounds, resumed, verified.
//!
//! What is fetched has a size and a SHA-256 that somebody vouches for: never is a byte more written than that, and nothing
//! gets its name before it hashes right. A lost line costs what was on it. Below the folder that the caller names, which
//! one process uses at a time:
//!
//! ```text
//! HEX.part      what has arrived so far of the file with this SHA-256; the next run goes on behind it
//! HEX           the whole file, verified and synced
//! ```
//!
//! Knows no manifests and no images. Connections are those of rooms `http` and `ssh`.

mod file;
mod location;
mod open;
mod origin;
mod part;
#[cfg(feature = "sftp")]
mod sftp;
mod web;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Context as _, Error, Kind, Result};
use crate::host;
use crate::http::Server;
use crate::progress::{Cancel, Progress, Unit};
use crate::ssh::{Files, Wishes};
use crate::vocab::Digest;
use origin::{Origin, Taker};
use part::Part;

pub use location::Location;

/// What a configuration says about the far sides.
#[derive(Clone, Debug, Default)]
pub struct Access {
    /// Key files, known_hosts files and pins for SFTP.
    pub wishes: Wishes,
    /// The ssh configuration that is read.
    pub ssh_configuration: Files,
    /// Passwords and tokens for HTTP; each is told to its own server and to no other, whoever names that one.
    pub credentials: Vec<Credential>,
    /// A file with the certificate authorities to trust instead of the machine's, for HTTP.
    pub authorities: Option<PathBuf>,
}

/// What one HTTP server is told about who asks.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The server.
    pub server: Server,
    /// The user; without one the secret is a bearer token.
    pub user: Option<String>,
    /// The file with the secret.
    pub secret_file: PathBuf,
}

/// A file that somebody vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its bytes.
    pub size: u64,
    /// Their digest.
    pub sha256: Digest,
}

/// Fetches files.
#[derive(Clone, Debug)]
pub struct Remote {
    /// How the far sides are reached.
    pub access: Access,
    /// How often a place is asked again that does not answer, or breaks off, before the next one is.
    pub retries: u32,
    /// Who hears how far it is.
    pub progress: Progress,
    /// Who may stop it.
    pub cancel: Cancel,
}

impl Remote {
    /// A fetcher that asks a place five times more.
    pub fn new(access: Access, progress: &Progress, cancel: &Cancel) -> Self {
        Self { access, retries: 5, progress: progress.clone(), cancel: cancel.clone() }
    }

    /// The whole file, verified, in `folder`, from the first of these places that has it; `moved` counts what went over
    /// lines, failures included.
    pub fn fetch(&self, wanted: Wanted, places: &[Location], folder: &Path, moved: &mut u64) -> Result<PathBuf> {
        let whole = folder.join(wanted.sha256.hex());
        if self.is_whole(&whole, wanted)? {
            return Ok(whole);
        }
        let mut part = Part::open(&folder.join(format!("{}.part", wanted.sha256.hex())), wanted.size)?;
        let need = wanted.size.saturating_sub(part.length());
        host::fs::require_space(folder, need)?;
        let filled = self.fill(wanted, places, &mut part);
        *moved += part.moved();
        filled?;
        part.sync()?;
        host::fault::point("remote.part.whole");
        host::fs::rename(part.path(), &whole)?;
        host::fault::point("remote.part.named");
        Ok(whole)
    }

    /// Brings the part to its end from the first place that has what is wanted.
    fn fill(&self, wanted: Wanted, places: &[Location], part: &mut Part) -> Result<()> {
        let mut last = None;
        for place in places {
            match self.fill_from(place, wanted, part) {
                Ok(()) => return Ok(()),
                // Another place would not help.
                Err(error) if matches!(error.kind(), Kind::Interrupted | Kind::NoSpace) => return Err(error),
                Err(error) => {
                    if let Some(earlier) = last.replace(error) {
                        self.progress.warn(one_line(&earlier));
                    }
                }
            }
        }
        Err(last.unwrap_or_else(|| {
            Error::new(Kind::Usage, format!("nobody says where the file with {} is", wanted.sha256))
                .hint("the manifest needs an address in `urls`, or this host one in `sync.mirror`")
        }))
    }

    /// The bytes of a small file of at most `limit` bytes; none where there is none.
    pub fn read(&self, place: &Location, limit: u64, moved: &mut u64) -> Result<Option<Vec<u8>>> {
        let mut failures = 0;
        loop {
            let mut small = Small { bytes: Vec::new(), limit, place };
            let result = self.open(place).and_then(|mut origin| origin.stream(0, &mut small));
            *moved += small.bytes.len() as u64;
            match result {
                Ok(()) => return Ok(Some(small.bytes)),
                Err(error) if error.kind() == Kind::NotFound => return Ok(None),
                Err(error) if error.kind() == Kind::Unavailable && failures < self.retries => {
                    self.pause(&mut failures)?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn open(&self, place: &Location) -> Result<Box<dyn Origin>> {
        open::open(place, &self.access, &self.cancel)
    }

    fn pause(&self, failures: &mut u32) -> Result<()> {
        *failures += 1;
        self.cancel.sleep(Duration::from_millis(100 << (*failures).min(7)))
    }

    /// Whether an earlier run has left the whole file; one that is not what its name says goes away.
    fn is_whole(&self, path: &Path, wanted: Wanted) -> Result<bool> {
        let Some(found) = host::fs::link_metadata(path)? else { return Ok(false) };
        let file = host::fs::open_regular(path, false)?;
        if found.len() == wanted.size && self.hash(&file, path, wanted.size)? == wanted.sha256 {
            return Ok(true);
        }
        host::fs::remove_file(path)?;
        Ok(false)
    }

    /// Brings the part to its end from this place, and looks whether it hashes right.
    fn fill_from(&self, place: &Location, wanted: Wanted, part: &mut Part) -> Result<()> {
        let mut kept = part.length();
        loop {
            self.complete(place, part).context(|| format!("cannot fetch {place}"))?;
            let found = self.hash(part.file(), part.path(), wanted.size)?;
            if found == wanted.sha256 {
                return Ok(());
            }
            // What was there before may be what is wrong: an earlier place lied, a disk lost power.
            part.restart()?;
            if kept == 0 {
                return Err(Error::new(Kind::Corrupt, format!("{place} has other bytes than it should"))
                    .caused_by(format!("should be {}, is {found}", wanted.sha256)));
            }
            self.progress.warn(format!("what was there of {place} was damaged: fetching it from the start"));
            kept = 0;
        }
    }

    /// Goes on behind what is there until all is.
    fn complete(&self, place: &Location, part: &mut Part) -> Result<()> {
        let mut failures = 0;
        let mut stage = self.progress.stage(format!("fetching {place}"), Some(part.size()), Unit::Bytes);
        stage.advance(part.length());
        while !part.is_complete() {
            let before = part.length();
            let mut told = part::Told { part, stage: &mut stage, cancel: &self.cancel };
            let result = self.open(place).and_then(|mut origin| origin.stream(before, &mut told));
            if part.length() > before {
                failures = 0;
            }
            match result {
                Ok(()) if part.is_complete() => {}
                Err(error) if error.kind() != Kind::Unavailable || failures == self.retries => return Err(error),
                Ok(()) if failures == self.retries => {
                    let (length, size) = (part.length(), part.size());
                    return Err(Error::new(Kind::Unavailable, format!("it ended after {length} of {size} bytes")));
                }
                Ok(()) | Err(_) => self.pause(&mut failures)?,
            }
        }
        Ok(())
    }

    fn hash(&self, file: &std::fs::File, path: &Path, size: u64) -> Result<Digest> {
        use sha2::Digest as _;
        use std::os::unix::fs::FileExt as _;
        let mut stage = self.progress.stage(format!("verifying {}", path.display()), Some(size), Unit::Bytes);
        let mut hash = sha2::Sha256::new();
        let (mut buffer, mut done) = (vec![0; 1 << 20], 0);
        loop {
            self.cancel.check()?;
            let count = file.read_at(&mut buffer, done).context(|| format!("cannot read `{}`", path.display()))?;
            if count == 0 {
                return Ok(Digest::from_bytes(hash.finalize().into()));
            }
            hash.update(&buffer[..count]);
            done += count as u64;
            stage.advance(count as u64);
        }
    }
}

/// An error that is not the last word, for those who read along.
fn one_line(error: &Error) -> String {
    error.render().lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
}

/// A small file in memory.
struct Small<'a> {
    bytes: Vec<u8>,
    limit: u64,
    place: &'a Location,
}

impl Taker for Small<'_> {
    fn begin(&mut self, _: u64, total: Option<u64>) -> Result<()> {
        match total {
            Some(total) if total > self.limit => Err(self.too_large()),
            _ => Ok(()),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<bool> {
        if (self.bytes.len() + bytes.len()) as u64 > self.limit {
            return Err(self.too_large());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(true)
    }
}

impl Small<'_> {
    fn too_large(&self) -> Error {
        Error::new(Kind::Limit, format!("{} is larger than {} bytes", self.place, self.limit))
    }
}
