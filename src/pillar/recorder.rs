//! What was looked at, and whether it is still the same: files read once a [`Sweep`], remembered in a [`Watch`].
//!
//! A watch holds while every path it names has the identity it had: device, inode, type, mode, owner, size, and the times
//! of its last change to the nanosecond; a path where nothing was must still be empty. A file that was only touched is
//! read again and compared by its hash. So is one that was read within the tick of the clock that stamps files, since a
//! second change within the same tick would look alike.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::Files;
use crate::error::{Error, Kind, Result};
use crate::host::trusted::{self, Identity};
use crate::host::{clock, fs};

/// The most bytes of one source file; 5,000 machines take less than one MiB.
pub const MOST_BYTES: u64 = 32 << 20;

type Hash = [u8; 32];

/// One look at the file system, shared by all that is answered from it: each path is looked at once, each file read once.
#[derive(Debug)]
pub struct Sweep {
    started: Instant,
    seen: Mutex<HashMap<OsString, Option<Identity>>>,
    read: Mutex<HashMap<OsString, Seen>>,
    verdicts: Mutex<HashMap<u64, bool>>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { started: Instant::now(), seen: Mutex::default(), read: Mutex::default(), verdicts: Mutex::default() }
    }
}

/// A file or folder as it was read.
#[derive(Clone, Debug)]
struct Seen {
    path: Arc<OsStr>,
    note: Note,
    text: Option<Arc<str>>,
    names: Arc<[OsString]>,
}

/// What was found at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Note {
    /// Nothing.
    Absent,
    /// Whether it is a folder; what is in it does not matter.
    Folder(bool),
    /// Whether it is anything.
    Something(bool),
    /// Content with this hash. The identity is missing while it cannot be relied on.
    Content { identity: Option<Identity>, hash: Hash, listed: bool },
}

impl Note {
    /// Whether the path has nothing, or a folder, or whatever this note is about.
    fn fits(&self, found: Option<&Identity>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Folder(is_dir) => found.is_some_and(Identity::is_dir) == *is_dir,
            Self::Something(is_there) => found.is_some() == *is_there,
            Self::Content { identity, .. } => identity.is_some() && found == identity.as_ref(),
        }
    }

    /// How much it tells: of two notes on one path the one that tells more is kept.
    fn weight(&self) -> u8 {
        match self {
            Self::Something(_) => 0,
            Self::Folder(_) => 1,
            Self::Absent => 2,
            Self::Content { .. } => 3,
        }
    }
}

impl Sweep {
    /// When the look began: whatever was read later is at least as new.
    pub fn started(&self) -> Instant {
        self.started
    }

    fn identity(&self, path: &Path) -> Result<Option<Identity>> {
        if let Some(known) = lock(&self.seen).get(path.as_os_str()) {
            return Ok(*known);
        }
        let found = trusted::identity(path)?;
        lock(&self.seen).insert(path.into(), found);
        Ok(found)
    }

    /// The file, read now or earlier in this sweep.
    fn text(&self, path: &Path) -> Result<Seen> {
        self.once(path, |path| {
            let now = clock::now();
            Ok(match trusted::read(path, MOST_BYTES)? {
                None => Seen { path: path.as_os_str().into(), note: Note::Absent, text: None, names: Arc::default() },
                Some((text, identity)) => Seen {
                    path: path.as_os_str().into(),
                    note: Note::Content {
                        identity: identity.is_settled(now).then_some(identity),
                        hash: Sha256::digest(&text).into(),
                        listed: false,
                    },
                    text: Some(Arc::from(text)),
                    names: Arc::default(),
                },
            })
        })
    }

    /// The names in a folder, listed now or earlier in this sweep.
    fn names(&self, path: &Path) -> Result<Seen> {
        self.once(path, |path| {
            let now = clock::now();
            Ok(match trusted::list(path)? {
                None => Seen { path: path.as_os_str().into(), note: Note::Absent, text: None, names: Arc::default() },
                Some((names, identity)) => {
                    let mut hash = Sha256::new();
                    for name in &names {
                        hash.update(name.as_encoded_bytes());
                        hash.update([0]);
                    }
                    Seen {
                        path: path.as_os_str().into(),
                        note: Note::Content {
                            identity: identity.is_settled(now).then_some(identity),
                            hash: hash.finalize().into(),
                            listed: true,
                        },
                        text: None,
                        names: Arc::from(names),
                    }
                }
            })
        })
    }

    fn once(&self, path: &Path, look: impl FnOnce(&Path) -> Result<Seen>) -> Result<Seen> {
        if let Some(known) = lock(&self.read).get(path.as_os_str()) {
            return Ok(known.clone());
        }
        let seen = look(path)?;
        lock(&self.read).insert(path.into(), seen.clone());
        Ok(seen)
    }
}

/// [`Files`] that remembers what it was asked.
#[derive(Debug)]
pub struct Recorder<'sweep> {
    sweep: &'sweep Sweep,
    /// By path; not sorted, since comparing paths takes longer than looking at them.
    notes: Mutex<HashMap<Arc<OsStr>, Note>>,
}

impl<'sweep> Recorder<'sweep> {
    /// A recorder that reads through this sweep.
    pub fn new(sweep: &'sweep Sweep) -> Self {
        Self { sweep, notes: Mutex::default() }
    }

    /// What was looked at.
    pub fn finish(self) -> Watch {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let notes = self.notes.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut notes: Vec<(Arc<OsStr>, Note)> = notes.into_iter().collect();
        notes.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Watch { number: NUMBER.fetch_add(1, Ordering::Relaxed), notes: RwLock::new(notes) }
    }

    fn remember(&self, path: Arc<OsStr>, note: Note) {
        let mut notes = lock(&self.notes);
        if notes.get(&path).is_none_or(|known| known.weight() <= note.weight()) {
            notes.insert(path, note);
        }
    }
}

impl Files for Recorder<'_> {
    fn text(&self, path: &Path) -> Result<Option<Arc<str>>> {
        let path = absolute(path)?;
        match self.sweep.text(&path) {
            Ok(seen) => {
                self.remember(seen.path, seen.note);
                Ok(seen.text)
            }
            Err(error) => {
                // What cannot be read is looked at again each time.
                self.remember(
                    path.as_os_str().into(),
                    Note::Content { identity: None, hash: Hash::default(), listed: false },
                );
                Err(error)
            }
        }
    }

    fn is_dir(&self, path: &Path) -> Result<bool> {
        let path = absolute(path)?;
        let found = self.sweep.identity(&path)?;
        let is_dir = found.is_some_and(|identity| identity.is_dir());
        self.remember(path.as_os_str().into(), Note::Folder(is_dir));
        Ok(is_dir)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        let path = absolute(path)?;
        let is_there = self.sweep.identity(&path)?.is_some();
        self.remember(path.as_os_str().into(), Note::Something(is_there));
        Ok(is_there)
    }

    fn list(&self, path: &Path) -> Result<Vec<OsString>> {
        let path = absolute(path)?;
        let seen = self.sweep.names(&path)?;
        let is_absent = seen.note == Note::Absent;
        self.remember(seen.path, seen.note);
        if is_absent {
            return Err(Error::new(Kind::NotFound, format!("there is no folder `{}`", path.display())));
        }
        Ok(seen.names.to_vec())
    }
}

/// What an answer was made from.
#[derive(Debug)]
pub struct Watch {
    number: u64,
    notes: RwLock<Vec<(Arc<OsStr>, Note)>>,
}

impl Watch {
    /// Whether everything is as it was; each sweep finds out once.
    pub fn holds(&self, sweep: &Sweep) -> bool {
        if let Some(verdict) = lock(&sweep.verdicts).get(&self.number) {
            return *verdict;
        }
        let verdict = self.is_untouched() || self.is_equal(sweep);
        lock(&sweep.verdicts).insert(self.number, verdict);
        verdict
    }

    /// The paths that were looked at.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.notes().iter().map(|(path, _)| PathBuf::from(path)).collect()
    }

    /// Whether both were made from the same content of the same paths.
    pub fn is_same(&self, other: &Self) -> bool {
        self.number == other.number || *self.notes() == *other.notes()
    }

    fn notes(&self) -> RwLockReadGuard<'_, Vec<(Arc<OsStr>, Note)>> {
        self.notes.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether every identity is the one it was: what nearly always is so, and needs nothing but the looks.
    fn is_untouched(&self) -> bool {
        self.notes()
            .iter()
            .all(|(path, note)| trusted::identity(Path::new(path)).is_ok_and(|found| note.fits(found.as_ref())))
    }

    /// Whether the content is what it was; other identities of the same content are taken over.
    fn is_equal(&self, sweep: &Sweep) -> bool {
        let mut notes = self.notes.write().unwrap_or_else(PoisonError::into_inner);
        notes.iter_mut().all(|(path, note)| {
            let path = Path::new(path);
            let now = match note {
                Note::Absent | Note::Folder(_) | Note::Something(_) => {
                    return trusted::identity(path).is_ok_and(|found| note.fits(found.as_ref()));
                }
                Note::Content { listed: true, .. } => sweep.names(path),
                Note::Content { .. } => sweep.text(path),
            };
            match (now.map(|seen| seen.note), &*note) {
                (Ok(now @ Note::Content { hash, .. }), Note::Content { hash: known, .. }) if hash == *known => {
                    *note = now;
                    true
                }
                _ => false,
            }
        })
    }
}

/// The path as it is looked at; one that is absolute is taken as it is.
fn absolute(path: &Path) -> Result<Cow<'_, Path>> {
    if path.is_absolute() { Ok(Cow::Borrowed(path)) } else { fs::absolute(path).map(Cow::Owned) }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is inside is whole at any time: no lock is held while anything can panic.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
