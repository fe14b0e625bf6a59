//! The database: where it is, its schema, how durable a commit is, and what SQLite's errors mean.
//!
//! WAL, so that readers never wait for the writer. `synchronous = FULL`: a commit that was answered survives a power
//! cut; only progress events are written with less. `secure_delete`: what is forgotten is overwritten, since calls may
//! hold secrets. `user_version` is the schema's version: an older one is migrated, a newer one refused.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior};

use super::schema;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::fs;

/// How long a commit waits for another process's.
const PATIENCE: Duration = Duration::from_secs(20);

/// `PRAGMA application_id`: tells the file from any other SQLite database ("cast").
const APPLICATION: i32 = 0x6361_7374;

/// The version of the schema.
const VERSION: i32 = 2;

/// How much a commit is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Durability {
    /// It survives a power cut.
    Full,
    /// It survives the process; a power cut may take the last ones.
    Process,
}

/// An open database and what errors call it.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
}

impl Database {
    /// Opens the database in the folder, made where nothing is.
    pub(super) fn open(folder: &Path, durability: Durability) -> Result<Self> {
        fs::create_dir_all(&folder.join("leases"), 0o700)?;
        // SQLite, too, shall follow no links below here; above it may be what the administrator likes.
        let folder = fs::canonical(folder)?.unwrap_or_else(|| folder.to_owned());
        require_own(&folder, 0o022)?;
        let path = folder.join("jobs.sqlite");
        // SQLite gives -wal and -shm the mode of the database, but would make that one with the umask's. The file must
        // not be opened here once it is one: closing it would let go of SQLite's own locks (fcntl(2), F_SETLK).
        fs::create_if_absent(&path, 0o600)?;
        require_own(&path, 0o077)?;
        let flags =
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let connection =
            Connection::open_with_flags(&path, flags).map_err(|error| meaning(&path, "cannot open", error))?;
        let mut database = Self { connection, path };
        database.set_up(durability)?;
        Ok(database)
    }

    fn set_up(&mut self, durability: Durability) -> Result<()> {
        self.read(|connection| {
            connection.busy_timeout(PATIENCE)?;
            let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            if version == 0 {
                // Only before the first table is made.
                connection.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
            }
            connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
            let synchronous = if durability == Durability::Full { "FULL" } else { "NORMAL" };
            connection.execute_batch(&format!(
                "PRAGMA synchronous = {synchronous}; PRAGMA foreign_keys = ON; PRAGMA trusted_schema = OFF;
                 PRAGMA cell_size_check = ON;"
            ))?;
            connection.query_row("PRAGMA secure_delete = ON", [], |_| Ok(()))?;
            connection.query_row("PRAGMA journal_size_limit = 4194304", [], |_| Ok(()))
        })?;
        self.migrate()
    }

    fn migrate(&mut self) -> Result<()> {
        if self.version()? == VERSION {
            return Ok(());
        }
        self.write(|transaction| {
            let version: i32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
            // Another process may have been first.
            if version == 0 {
                transaction.execute_batch(schema::JOBS)?;
            }
            if version < VERSION {
                transaction.execute_batch(schema::SCHEDULES)?;
                transaction.execute_batch(schema::NOTICES)?;
                transaction.execute_batch(&format!(
                    "PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};"
                ))?;
            }
            Ok(())
        })?;
        match self.version()? {
            VERSION => fs::sync_dir(fs::parent(&self.path)),
            newer => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "the job database `{}` has schema version {newer}; this castoff knows {VERSION}",
                    self.path.display()
                ),
            )
            .hint("use the castoff that made it, or a newer one")),
        }
    }

    fn version(&mut self) -> Result<i32> {
        let (application, version): (i32, i32) = self.read(|connection| {
            let one = |pragma| connection.query_row(pragma, [], |row| row.get(0));
            Ok((one("PRAGMA application_id")?, one("PRAGMA user_version")?))
        })?;
        if version != 0 && application != APPLICATION {
            return Err(Error::new(
                Kind::Corrupt,
                format!("`{}` is not a job database of castoff", self.path.display()),
            ));
        }
        Ok(version)
    }

    /// Looks something up.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T> {
        work(&self.connection).map_err(|error| meaning(&self.path, "cannot read", error))
    }

    /// Changes something, all of it or nothing. The write lock is taken first, so what the work reads stays true.
    pub(super) fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T> {
        self.write_around(work, "", "")
    }

    /// The same, with points where tests kill the process just before and just after the commit.
    pub(super) fn write_around<T>(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
        before: &str,
        after: &str,
    ) -> Result<T> {
        let outcome = (|| {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            crate::host::fault::point(before);
            transaction.commit()?;
            Ok(value)
        })();
        if outcome.is_ok() {
            crate::host::fault::point(after);
        }
        outcome.map_err(|error| meaning(&self.path, "cannot write", error))
    }
}

/// Refuses what belongs to somebody else, or gives others these rights: whoever writes to the database has calls made in
/// this user's name, and whoever reads it may read secrets.
fn require_own(path: &Path, forbidden: u32) -> Result<()> {
    let Some(found) = fs::link_metadata(path)? else { return Ok(()) };
    let (owner, own) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner != own {
        return Err(Error::new(Kind::Refused, format!("`{}` belongs to user {owner}, not to {own}", path.display()))
            .hint("jobs run as the user who owns them; give each user a state folder of their own"));
    }
    let mode = found.mode() & 0o7777;
    if mode & forbidden != 0 {
        let wanted = if found.is_dir() { "0700" } else { "0600" };
        return Err(Error::new(Kind::Refused, format!("others have rights on `{}` (mode {mode:04o})", path.display()))
            .hint(format!("jobs can hold secrets: chmod {wanted} {}", path.display())));
    }
    Ok(())
}

/// SQLite's error in castoff's words.
fn meaning(path: &Path, what: &str, error: rusqlite::Error) -> Error {
    let shown = path.display();
    let code = error.sqlite_error_code();
    let is_full = || fs::free_space(path).is_ok_and(|free| free < 1 << 20);
    match code {
        Some(ErrorCode::DiskFull) => no_space(path),
        // The shared memory and the log of WAL are extended with other calls, which fail otherwise.
        Some(ErrorCode::SystemIoFailure | ErrorCode::CannotOpen) if is_full() => no_space(path),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            Error::new(Kind::Corrupt, format!("the job database `{shown}` is damaged")).hint(
                "stop castoff's daemon and move the file (with its -wal and -shm) away: a new one is made, the jobs in \
                 this one are lost to castoff; `sqlite3 FILE .recover` may still read them",
            )
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::new(
            Kind::Unavailable,
            format!("{what} the job database `{shown}`: another process has kept it for {} s", PATIENCE.as_secs()),
        ),
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
            Error::new(Kind::Refused, format!("{what} the job database `{shown}`"))
        }
        _ => Error::new(Kind::Failed, format!("{what} the job database `{shown}`")),
    }
    .caused_by(error)
}

fn no_space(path: &Path) -> Error {
    Error::new(Kind::NoSpace, format!("not enough space for the job database `{}`", path.display()))
        .hint("free some space there; `castoff call image.gc` does if castoff's store is on the same file system")
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    i64::try_from(crate::host::clock::now().as_millis()).unwrap_or(i64::MAX)
}

/// An `fs::Lock` on a job's lease, if nobody holds it.
pub(super) fn try_lease(folder: &Path, id: crate::vocab::JobId) -> Result<Option<fs::Lock>> {
    let path = lease_path(folder, id);
    fs::Lock::try_exclusive(&path).context(|| format!("cannot look at the lease of job {id}"))
}

/// Where a job's lease is.
pub(super) fn lease_path(folder: &Path, id: crate::vocab::JobId) -> PathBuf {
    folder.join("leases").join(id.to_string())
}
