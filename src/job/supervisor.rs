//! The one that starts jobs: `castoff job-run ID`, each in a process and session of its own.
//!
//! A thread that looks at the database whenever it has changed. Jobs are no children to be kept: they outlive this
//! process, and the next supervisor finds them by their leases. Of several on one state folder one works, the others
//! stand by.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::MARKER;
use super::database::{Database, Durability};
use super::queue::Queue;
use super::record::State;
use crate::config::Config;
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{fault, fs, process};
use crate::vocab::JobId;

/// How often the database is asked whether somebody changed it: a look at shared memory.
const INTERVAL: Duration = Duration::from_millis(100);

/// How often dead processes are looked for although nothing changed.
const ROUND: Duration = Duration::from_secs(1);

/// How often jobs that ended long ago are forgotten.
const PRUNING: Duration = Duration::from_mins(1);

/// How a job's process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The castoff to start.
    pub program: PathBuf,
    /// What its environment holds besides this process's own.
    pub environment: Vec<(OsString, OsString)>,
}

impl Launch {
    /// This very binary, even if its file was replaced meanwhile, with this process's configuration.
    pub fn own(config: &Config) -> Self {
        let environment = config.environment().into_iter().map(|(name, value)| (name.into(), value));
        Self { program: PathBuf::from("/proc/self/exe"), environment: environment.collect() }
    }
}

/// What the configuration says of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most jobs that run at once.
    pub parallel: u32,
    /// How many processes a job may wear out.
    pub attempts: u32,
    /// Jobs that ended are forgotten after so many days.
    pub keep_days: u32,
    /// The most jobs that ended to remember.
    pub keep: u32,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            parallel: config.jobs_parallel,
            attempts: config.jobs_attempts,
            keep_days: config.jobs_keep_days,
            keep: config.jobs_keep,
        }
    }
}

/// Starts the jobs of a queue for as long as it lives. Dropped, it starts no more; those that run go on.
#[derive(Debug)]
pub struct Supervisor {
    orders: Mutex<Option<Sender<(Limits, Launch)>>>,
    changes: watch::Receiver<u64>,
    trouble: watch::Receiver<Option<String>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Supervisor {
    /// Begins: jobs whose processes died are run again, then the queued ones in order.
    pub fn start(queue: &Queue, limits: Limits, launch: Launch) -> Result<Self> {
        let watcher = Database::open(queue.folder(), Durability::Process)?;
        let (orders, taken) = channel();
        let (news, changes) = watch::channel(0);
        let (troubled, trouble) = watch::channel(None);
        let mut work = Work {
            queue: queue.clone(),
            watcher,
            limits,
            launch,
            started: BTreeMap::new(),
            watched: BTreeSet::new(),
            lock: None,
            pruned: None,
            news,
        };
        let thread = std::thread::Builder::new()
            .name("job-supervisor".to_owned())
            .spawn(move || {
                let mut rounds = Rounds::default();
                loop {
                    let told = work.round(&mut rounds).err().map(|error| error.render());
                    troubled.send_if_modified(|before| {
                        let is_news = *before != told;
                        if let (true, Some(error)) = (is_news, &told) {
                            tracing::error!("jobs: {error}");
                        }
                        *before = told;
                        is_news
                    });
                    match taken.recv_timeout(INTERVAL) {
                        Ok(orders) => (work.limits, work.launch) = orders,
                        Err(RecvTimeoutError::Timeout) => {}
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
            })
            .context(|| "cannot start the thread that supervises jobs")?;
        Ok(Self { orders: Mutex::new(Some(orders)), changes, trouble, thread: Mutex::new(Some(thread)) })
    }

    /// A number that grows whenever anything changed in the database, whoever changed it: a job's state, an event.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Why jobs cannot be started or looked at just now, if so.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.borrow().clone()
    }

    /// Other limits and another way to start jobs from now on.
    pub fn reconfigure(&self, limits: Limits, launch: Launch) -> Result<()> {
        let orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = orders.as_ref().is_some_and(|orders| orders.send((limits, launch)).is_ok());
        if sent { Ok(()) } else { Err(Error::new(Kind::Failed, "no thread supervises jobs any more")) }
    }

    /// Starts no more jobs; returns when the thread is over, which takes no longer than a look at the database.
    pub fn stop(&self) {
        drop(self.orders.lock().unwrap_or_else(PoisonError::into_inner).take());
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that supervises jobs has panicked");
        }
    }
}

/// What the thread remembers between its rounds.
#[derive(Default)]
struct Rounds {
    version: Option<i64>,
    last: Option<Instant>,
}

struct Work {
    queue: Queue,
    watcher: Database,
    limits: Limits,
    launch: Launch,
    started: BTreeMap<JobId, Child>,
    /// Jobs that were seen running, whose end is to be logged.
    watched: BTreeSet<JobId>,
    lock: Option<fs::Lock>,
    pruned: Option<Instant>,
    news: watch::Sender<u64>,
}

impl Work {
    fn round(&mut self, rounds: &mut Rounds) -> Result<()> {
        let version: i64 =
            self.watcher.read(|connection| connection.query_row("PRAGMA data_version", [], |row| row.get(0)))?;
        let has_changed = rounds.version.replace(version) != Some(version);
        if has_changed {
            self.news.send_modify(|count| *count += 1);
        }
        let is_due = rounds.last.is_none_or(|last| last.elapsed() >= ROUND);
        if !(has_changed || is_due) {
            return Ok(());
        }
        rounds.last = Some(Instant::now());
        if self.lock.is_none() {
            self.lock = fs::Lock::try_exclusive(&self.queue.folder().join("supervisor"))?;
        }
        if self.lock.is_none() {
            return Ok(());
        }
        self.bury_children()?;
        self.recover()?;
        self.start_queued()?;
        self.log_ends()?;
        if self.pruned.is_none_or(|last| last.elapsed() >= PRUNING) {
            self.queue.prune(self.limits.keep_days, self.limits.keep)?;
            self.pruned = Some(Instant::now());
        }
        Ok(())
    }

    /// Takes note of processes that ended.
    fn bury_children(&mut self) -> Result<()> {
        let mut ended = Vec::new();
        for (id, child) in &mut self.started {
            if let Some(status) = child.try_wait().context(|| format!("cannot wait for the process of job {id}"))? {
                ended.push((*id, status));
            }
        }
        for (id, status) in ended {
            self.started.remove(&id);
            // One that gave its job back did so on purpose.
            let gave_back = status.code() == Some(i32::from(Kind::Interrupted.exit_code()));
            if !status.success() && !gave_back {
                tracing::warn!("the process of job {id} ended: {status}");
                self.queue.note_failed_start(id, &status.to_string(), self.limits.attempts)?;
            }
        }
        Ok(())
    }

    /// Looks after running jobs whose processes are dead, whoever started them.
    fn recover(&mut self) -> Result<()> {
        for job in self.queue.in_order(State::Running)? {
            self.watched.insert(job.id);
            if let Some(state) = self.queue.recover(&job, self.limits.attempts)? {
                tracing::warn!("the process of job {} is dead; the job is {} now", job.id, state.word());
            }
        }
        Ok(())
    }

    fn start_queued(&mut self) -> Result<()> {
        let running = self.queue.in_order(State::Running)?;
        let starting = self.started.keys().filter(|id| !running.iter().any(|job| job.id == **id)).count();
        let parallel = usize::try_from(self.limits.parallel).unwrap_or(usize::MAX);
        let free = parallel.saturating_sub(running.len() + starting);
        if free == 0 {
            return Ok(());
        }
        let queued = self.queue.in_order(State::Queued)?;
        for job in queued.into_iter().filter(|job| !self.started.contains_key(&job.id)).take(free).collect::<Vec<_>>() {
            fault::point("job.start.before-spawn");
            match self.spawn(job.id) {
                Ok(child) => {
                    fault::point("job.start.after-spawn");
                    self.started.insert(job.id, child);
                    self.watched.insert(job.id);
                }
                Err(error) => {
                    self.queue.note_failed_start(job.id, &error.render(), self.limits.attempts)?;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Tells the log how jobs have ended.
    fn log_ends(&mut self) -> Result<()> {
        let mut still = BTreeSet::new();
        for id in std::mem::take(&mut self.watched) {
            match self.queue.find(id)? {
                Some(job) if job.state.is_final() => {
                    let error = job.error.as_ref().map(|error| error.message.as_str());
                    let arguments = super::failure::written(&job.shown);
                    tracing::info!(
                        job = %id, function = job.function, who = job.who, door = job.door, request_id = job.request,
                        arguments, state = job.state.word(), retcode = job.retcode, error, "job ended"
                    );
                }
                Some(_) => drop(still.insert(id)),
                None => {}
            }
        }
        self.watched = still;
        Ok(())
    }

    /// The arguments hold nothing but the id: everybody may read them in `/proc`.
    fn spawn(&self, id: JobId) -> Result<Child> {
        let mut command = process::command(&self.launch.program);
        std::os::unix::process::CommandExt::arg0(&mut command, "castoff");
        command
            .arg("job-run")
            .arg(id.to_string())
            .envs(self.launch.environment.iter().map(|(name, value)| (name, value)))
            .env(MARKER, id.to_string())
            // Handed by systemd to its service, not to what that starts.
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES")
            .env_remove("NOTIFY_SOCKET")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command.spawn().context(|| format!("cannot start `{}` for job {id}", self.launch.program.display()))
    }
}
