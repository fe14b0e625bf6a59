//! Files and folders: durable writes, locks, free space. Every error names the path.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Context as _, Error, Kind, Result};

/// The bytes of a file.
#[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).context(|| format!("cannot read `{}`", path.display()))
}

/// The bytes of a file of at most `limit` bytes.
pub fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    open(path)?.take(limit + 1).read_to_end(&mut bytes).context(|| format!("cannot read `{}`", path.display()))?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(Kind::Limit, format!("`{}` is larger than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// The text of a UTF-8 file.
pub fn read_text(path: &Path) -> Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|error| Error::new(Kind::Usage, format!("`{}` is not UTF-8", path.display())).caused_by(error))
}

/// A file opened for reading.
#[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub fn open(path: &Path) -> Result<File> {
    File::open(path).context(|| format!("cannot open `{}`", path.display()))
}

/// A file opened for writing where it stands, emptied unless it is appended to; mode and owner stay.
pub fn create_in_place(path: &Path, append: bool) -> Result<File> {
    std::fs::OpenOptions::new()
        .write(true)
        .append(append)
        .create(true)
        .truncate(!append)
        .open(path)
        .context(|| format!("cannot open `{}` for writing", path.display()))
}

/// Makes an empty file with `mode` where nothing is; whether it was made. What is there is not even opened.
pub fn create_if_absent(path: &Path, mode: u32) -> Result<bool> {
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        file => file.context(|| format!("cannot create `{}`", path.display())).map(|_| true),
    }
}

/// What is at the path, following links; none where nothing is.
#[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub fn metadata(path: &Path) -> Result<Option<Metadata>> {
    absent_is_none(std::fs::metadata(path)).context(|| format!("cannot look at `{}`", path.display()))
}

/// What is at the path itself, links not followed; none where nothing is.
#[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub fn link_metadata(path: &Path) -> Result<Option<Metadata>> {
    absent_is_none(std::fs::symlink_metadata(path)).context(|| format!("cannot look at `{}`", path.display()))
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether anything is at the path.
pub fn exists(path: &Path) -> Result<bool> {
    Ok(link_metadata(path)?.is_some())
}

/// Fails unless the file belongs to root or this user, who alone may write it, and nobody but its group may read it.
pub fn require_private(path: &Path) -> Result<()> {
    let found =
        metadata(path)?.ok_or_else(|| Error::new(Kind::NotFound, format!("there is no file `{}`", path.display())))?;
    let owned = found.uid() == 0 || found.uid() == rustix::process::geteuid().as_raw();
    if owned && found.mode() & 0o027 == 0 {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("others may read or change `{}`", path.display()))
        .hint(format!("it must be root's or your own: `chmod 0600 {}`", path.display())))
}

/// Fails if the file is this user's and anybody else may read it: what ssh asks of a private key.
pub fn require_unread(path: &Path) -> Result<()> {
    let is_read = |found: Metadata| found.mode() & 0o077 != 0 && found.uid() == rustix::process::geteuid().as_raw();
    if !metadata(path)?.is_some_and(is_read) {
        return Ok(());
    }
    Err(Error::new(Kind::Refused, format!("others may read the key file `{}`", path.display()))
        .hint(format!("`chmod 600 {}`; if others have read it, make a new key", path.display())))
}

/// The names in a folder, sorted by bytes.
#[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub fn list(path: &Path) -> Result<Vec<std::ffi::OsString>> {
    let wrong = || format!("cannot list `{}`", path.display());
    let mut names = Vec::new();
    for item in std::fs::read_dir(path).context(wrong)? {
        names.push(item.context(wrong)?.file_name());
    }
    names.sort();
    Ok(names)
}

/// The folder with all its parents, made with `mode` where they are missing.
pub fn create_dir_all(path: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .context(|| format!("cannot create the folder `{}`", path.display()))
}

/// Removes a file or link; whether there was one.
#[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub fn remove_file(path: &Path) -> Result<bool> {
    Ok(absent_is_none(std::fs::remove_file(path)).context(|| format!("cannot remove `{}`", path.display()))?.is_some())
}

/// Removes a folder and all that is in it, links not followed; whether there was one.
#[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub fn remove_dir_all(path: &Path) -> Result<bool> {
    Ok(absent_is_none(std::fs::remove_dir_all(path))
        .context(|| format!("cannot remove the folder `{}`", path.display()))?
        .is_some())
}

/// Removes an empty folder; whether there was one.
#[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub fn remove_dir(path: &Path) -> Result<bool> {
    Ok(absent_is_none(std::fs::remove_dir(path))
        .context(|| format!("cannot remove the folder `{}`", path.display()))?
        .is_some())
}

/// Moves `from` over `to` and makes the move durable.
#[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    std::fs::rename(from, to).context(|| format!("cannot rename `{}` to `{}`", from.display(), to.display()))?;
    sync_dir(parent(to))
}

/// Gives `from` the name `to` if nothing has that name, and makes it durable; an error if something has.
pub fn rename_noreplace(from: &Path, to: &Path) -> Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let wrong = || format!("cannot rename `{}` to `{}`", from.display(), to.display());
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // NFS and others know no such flag; a link refuses to overwrite everywhere.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
            rustix::fs::link(from, to).context(wrong)?;
            remove_file(from)?;
        }
        other => other.context(wrong)?,
    }
    sync_dir(parent(to))
}

/// A new file opened for reading and writing; none if something has the name already.
pub fn create_exclusive(path: &Path, mode: u32) -> Result<Option<File>> {
    let created = std::fs::OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path);
    match created {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        other => other.map(Some).context(|| format!("cannot create `{}`", path.display())),
    }
}

/// A regular file opened where it stands; a link or anything else under the name is refused.
pub fn open_regular(path: &Path, write: bool) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    let wrong = || format!("cannot open `{}`", path.display());
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).context(wrong)?);
    if !file.metadata().context(wrong)?.is_file() {
        return Err(Error::new(Kind::Conflict, format!("`{}` is not a regular file", path.display())));
    }
    Ok(file)
}

/// Makes the names in a folder durable.
pub fn sync_dir(path: &Path) -> Result<()> {
    open(path)?.sync_all().context(|| format!("cannot sync the folder `{}`", path.display()))
}

/// The folder a path is in; `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// The one true path of what is there, every link followed; none where nothing is.
pub fn canonical(path: &Path) -> Result<Option<PathBuf>> {
    absent_is_none(std::fs::canonicalize(path)).context(|| format!("cannot follow `{}`", path.display()))
}

/// Marks what is at the path as used now, by its times.
pub fn touch(path: &Path) -> Result<()> {
    let now = rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW };
    let times = rustix::fs::Timestamps { last_access: now, last_modification: now };
    rustix::fs::utimensat(rustix::fs::CWD, path, &times, rustix::fs::AtFlags::empty())
        .context(|| format!("cannot mark `{}` as used", path.display()))
}

/// The path made absolute against the working directory, links and `..` untouched.
pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context(|| format!("cannot make `{}` absolute", path.display()))
}

/// Bytes that an unprivileged writer may still put on the file system of the nearest existing parent of `path`.
pub fn free_space(path: &Path) -> Result<u64> {
    let mut place = absolute(path)?;
    while !exists(&place)? && place.pop() {}
    Ok(space(&place)?.0)
}

/// The bytes that an unprivileged writer may still put on the file system of a path, and all that it has.
pub fn space(path: &Path) -> Result<(u64, u64)> {
    let state = rustix::fs::statvfs(path).context(|| format!("cannot ask for free space at `{}`", path.display()))?;
    Ok((state.f_bavail.saturating_mul(state.f_frsize), state.f_blocks.saturating_mul(state.f_frsize)))
}

/// Lets the next reader of a synced file read from the disk, not from memory; `path` is for the message.
pub fn forget_pages(file: &File, path: &Path) -> Result<()> {
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed)
        .context(|| format!("cannot prepare to read `{}`", path.display()))
}

/// Fails with the exact need when `path`'s file system has less than `need` bytes free.
pub fn require_space(path: &Path, need: u64) -> Result<()> {
    let have = free_space(path)?;
    if have < need {
        return Err(Error::new(
            Kind::NoSpace,
            format!("not enough space: need {need} bytes, have {have} on `{}`", path.display()),
        )
        .hint("free some space there, or `castoff call image.gc` if it is castoff's store"));
    }
    Ok(())
}

/// Replaces the file durably: a temporary beside it, fsync, rename, fsync of the folder.
pub fn write_atomic(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut file = TempFile::beside(path, mode)?;
    file.write_all(bytes).context(|| format!("cannot write `{}`", path.display()))?;
    file.persist()
}

/// Replaces the file so that nobody sees half of it; after a power cut it may be the old one, or empty. For what can be
/// made again, or is synced later with much else.
pub fn write_unsynced(path: &Path, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut file = TempFile::beside(path, mode)?;
    file.write_all(bytes).context(|| format!("cannot write `{}`", path.display()))?;
    file.replace()
}

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A file that becomes `target` when [`TempFile::persist`] says so and is removed when it is dropped before.
///
/// Its name is `.castoff-PID-N.tmp` in the target's folder; an exclusive lock on it lives as long as its owner, so
/// that [`sweep`] can tell a killed owner's file from a living one's.
#[derive(Debug)]
pub struct TempFile {
    file: File,
    path: PathBuf,
    target: PathBuf,
    kept: bool,
}

impl TempFile {
    /// A new empty file in the folder of `target`, with `mode`.
    pub fn beside(target: &Path, mode: u32) -> Result<Self> {
        let wrong = || format!("cannot create a temporary file for `{}`", target.display());
        loop {
            // Processes of several containers may share a folder and have one number: try until a name is free.
            let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = parent(target).join(format!(".castoff-{}-{serial}.tmp", std::process::id()));
            let created = std::fs::OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&path);
            if created.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::AlreadyExists) {
                continue;
            }
            let file = created.context(wrong)?;
            super::fault::point("host.fs.temporary-made");
            // A sweep that came before the lock takes the file for a dead owner's.
            let is_ours = match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => file.metadata().context(wrong)?.nlink() > 0,
                Err(rustix::io::Errno::WOULDBLOCK) => false,
                Err(error) => return Err(error).context(wrong),
            };
            if is_ours {
                return Ok(Self { file, path, target: target.to_owned(), kept: false });
            }
        }
    }

    /// The open file, for positioned reads and writes.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where the file is until it is persisted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another target in the same folder, for content whose name is known only once it is written.
    pub fn retarget(&mut self, target: &Path) {
        self.target = target.to_owned();
    }

    /// Makes the content durable; the file is not its target yet.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().context(|| format!("cannot sync `{}`", self.path.display()))
    }

    /// Makes the file, which was synced, its target; that is durable once the folder is synced.
    #[expect(clippy::disallowed_methods, reason = "this is the door the rule points to")]
    pub fn replace(mut self) -> Result<()> {
        let wrong = || format!("cannot move `{}` to `{}`", self.path.display(), self.target.display());
        std::fs::rename(&self.path, &self.target).context(wrong)?;
        self.kept = true;
        Ok(())
    }

    /// Makes the content durable and the file its target, replacing what was there.
    pub fn persist(mut self) -> Result<()> {
        self.sync()?;
        super::fault::point("host.fs.before-rename");
        rename(&self.path, &self.target)?;
        super::fault::point("host.fs.after-rename");
        self.kept = true;
        Ok(())
    }
}

impl Write for TempFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        if !self.kept {
            // The owner is already failing or has changed its mind; `sweep` finds what stays.
            let _swept_later = remove_file(&self.path);
        }
    }
}

/// A folder that is removed with all that is in it when it is dropped.
///
/// Named and locked as a [`TempFile`] is, so that [`sweep`] finds what a killed owner left.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
    _lock: File,
}

impl TempDir {
    /// A new empty folder in `folder`, for this user only.
    pub fn inside(folder: &Path) -> Result<Self> {
        let wrong = || format!("cannot create a temporary folder in `{}`", folder.display());
        loop {
            let serial = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".castoff-{}-{serial}.tmp", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                created => created.context(wrong)?,
            }
            // A sweep that came before the lock takes the folder for a dead owner's.
            let lock = match open(&path) {
                Err(error) if error.kind() == Kind::NotFound => continue,
                opened => opened?,
            };
            let is_ours = match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => lock.metadata().context(wrong)?.nlink() > 0,
                Err(rustix::io::Errno::WOULDBLOCK) => false,
                Err(error) => return Err(error).context(wrong),
            };
            if is_ours {
                return Ok(Self { path, _lock: lock });
            }
        }
    }

    /// Where the folder is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // `sweep` finds what stays.
        if let Err(error) = remove_dir_all(&self.path) {
            tracing::warn!("{error}");
        }
    }
}

/// Removes the temporaries that killed processes left in a folder; returns their names.
pub fn sweep(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for name in list(folder)? {
        let text = name.to_string_lossy();
        if !(text.starts_with(".castoff-") && text.ends_with(".tmp")) {
            continue;
        }
        let path = folder.join(&name);
        let Some(file) = open_own(&path)? else { continue };
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            continue;
        }
        let is_folder = file.metadata().context(|| format!("cannot look at `{}`", path.display()))?.is_dir();
        if if is_folder { remove_dir_all(&path)? } else { remove_file(&path)? } {
            removed.push(path);
        }
    }
    Ok(removed)
}

/// A regular file or folder of this user, opened; none for whatever else has the name. The folder may be everybody's: what
/// others put there is neither followed, nor waited for, nor removed.
fn open_own(path: &Path) -> Result<Option<File>> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        // Gone by now, a link, a socket, or somebody else's.
        Err(
            rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO | rustix::io::Errno::ACCESS,
        ) => {
            return Ok(None);
        }
        Err(error) => return Err(error).context(|| format!("cannot open `{}`", path.display())),
    };
    let metadata = file.metadata().context(|| format!("cannot look at `{}`", path.display()))?;
    let is_own = (metadata.is_file() || metadata.is_dir()) && metadata.uid() == rustix::process::geteuid().as_raw();
    Ok(is_own.then_some(file))
}

/// An advisory lock on a file (`flock`), released when dropped or when its owner dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the exclusive lock.
    pub fn exclusive(path: &Path) -> Result<Self> {
        Self::take(path, rustix::fs::FlockOperation::LockExclusive)
    }

    /// Waits for a shared lock.
    pub fn shared(path: &Path) -> Result<Self> {
        Self::take(path, rustix::fs::FlockOperation::LockShared)
    }

    /// The exclusive lock if nobody holds it.
    pub fn try_exclusive(path: &Path) -> Result<Option<Self>> {
        match Self::take(path, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(lock) => Ok(Some(lock)),
            Err(error) if would_block(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn take(path: &Path, operation: rustix::fs::FlockOperation) -> Result<Self> {
        let wrong = || format!("cannot lock `{}`", path.display());
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .context(wrong)?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other.context(wrong)?,
            }
        }
        Ok(Self { _file: file })
    }
}

fn would_block(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|cause| cause.downcast_ref::<io::Error>())
        .is_some_and(|cause| cause.kind() == io::ErrorKind::WouldBlock)
}
