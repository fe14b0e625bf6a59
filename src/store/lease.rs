//! Leases: the digests a living process is about to point to, which nobody may remove.
//!
//! A lease is a file its owner holds an exclusive `flock` on; the kernel takes the lock away when the owner dies, and
//! with it the lease is void. Files are made, extended and read under the store's lock.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;
use crate::vocab::Digest;

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A lease of this process; dropped, it is over.
pub(super) struct Lease {
    file: File,
    path: PathBuf,
}

impl Lease {
    /// A new lease on nothing; the shared lock must be held.
    pub(super) fn begin(folder: &Path) -> Result<Self> {
        loop {
            // Processes of several containers may share a store and have one number: try until a name is free.
            let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{}-{serial}", std::process::id()));
            let wrong = || format!("cannot begin the lease `{}`", path.display());
            let made = File::options().append(true).create_new(true).mode(super::FILE_MODE).open(&path);
            if made.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::AlreadyExists) {
                continue;
            }
            let file = made.context(wrong)?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).context(wrong)?;
            return Ok(Self { file, path });
        }
    }

    /// Adds a digest; the shared lock must be held, and be held on until the blob was looked for or put there.
    pub(super) fn add(&mut self, digest: Digest) -> Result<()> {
        let line = format!("{digest}\n");
        self.file.write_all(line.as_bytes()).context(|| format!("cannot extend the lease `{}`", self.path.display()))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A lease that stays is void: its lock goes with the open file.
        let _swept_later = fs::remove_file(&self.path);
    }
}

/// Every digest that a living process has leased; leases of dead ones are removed. The exclusive lock must be held.
pub(super) fn living(folder: &Path) -> Result<BTreeSet<Digest>> {
    let mut leased = BTreeSet::new();
    for name in fs::list(folder)? {
        let path = folder.join(&name);
        // It may be over by now: leases end without a lock.
        if !fs::exists(&path)? {
            continue;
        }
        let Some(text) = read_living(&path)? else { continue };
        for line in text.lines() {
            let digest: Digest = line.parse().map_err(|error: Error| {
                Error::new(Kind::Corrupt, format!("the lease `{}` is damaged", path.display())).caused_by(error)
            })?;
            leased.insert(digest);
        }
    }
    Ok(leased)
}

/// What a living owner's lease says; a dead owner's is removed.
fn read_living(path: &Path) -> Result<Option<String>> {
    let file = match fs::open(path) {
        Err(error) if error.kind() == Kind::NotFound => return Ok(None),
        other => other?,
    };
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            fs::remove_file(path)?;
            Ok(None)
        }
        Err(rustix::io::Errno::WOULDBLOCK) => match fs::read_text(path) {
            Err(error) if error.kind() == Kind::NotFound => Ok(None),
            other => other.map(Some),
        },
        Err(error) => Err(error).context(|| format!("cannot look at the lease `{}`", path.display())),
    }
}
