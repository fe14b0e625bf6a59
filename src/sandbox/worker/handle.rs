//! Castoff's end of a worker: starts it, gives it its ids and its order, hears it out.

use std::io::Read as _;
use std::marker::PhantomData;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::ids::{Ids, Range};
use super::lines::{Down, LONGEST, Up, send};
use super::{OUTER, died, refusal};
use crate::error::{Context as _, Error, Kind, Result};
use crate::host::{fault, fs, process};
use crate::progress::{Cancel, Event, Lines, Progress, Sink};

/// How often it is asked whether to go on.
const GLANCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How long a worker that was told to end may take; then it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// How long the kernel may take to end the processes of a killed worker.
const LAST_WAIT: Duration = Duration::from_secs(10);

/// Lines kept of what a worker prints, for the case that it dies.
const TAIL: usize = 40;

/// A worker under way; dropping it kills it and all that it started.
///
/// It dies with the *thread* that started it (`PR_SET_PDEATHSIG`), so it cannot be sent to another one.
#[derive(Debug)]
pub struct Worker {
    name: String,
    child: Child,
    ids: Ids,
    /// Bytes that came up and are not a whole line yet.
    pending: Vec<u8>,
    printed: Lines,
    open: [bool; 2],
    _of_one_thread: PhantomData<*const ()>,
}

impl Worker {
    /// Starts the task `name` of the table given to [`crate::sandbox::entry`] with this order.
    pub fn start(name: &str, order: &impl Serialize, ids: &Ids) -> Result<Self> {
        Self::start_program(Path::new("/proc/self/exe"), name, order, ids)
    }

    /// The same with the program whose `main` calls [`crate::sandbox::entry`], when it is not the running one.
    pub fn start_program(program: &Path, name: &str, order: &impl Serialize, ids: &Ids) -> Result<Self> {
        let wrong = || format!("cannot start a worker for `{name}`");
        let order = serde_json::to_value(order).map_err(std::io::Error::from).context(wrong)?;
        let child = process::command(program)
            .arg(OUTER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(wrong)?;
        let mut worker = Self {
            name: name.to_owned(),
            child,
            ids: ids.clone(),
            pending: Vec::new(),
            printed: Lines::new(&Progress::new(std::sync::Arc::new(Logged)), TAIL),
            open: [true; 2],
            _of_one_thread: PhantomData,
        };
        worker.down(&Down::Begin { user_namespace: ids.need_user_namespace() });
        if ids.need_user_namespace() {
            match worker.next(&mut |_| Ok(()))? {
                Some(Up::Unshared) => {}
                other => return Err(worker.end(other)),
            }
            worker.map()?;
            worker.down(&Down::Mapped);
        }
        fault::point("sandbox.worker.started");
        worker.down(&Down::Order { name: name.to_owned(), order });
        Ok(worker)
    }

    /// Passes its events on and hands its values to `heard` until it has ended; its result.
    ///
    /// Once `cancel` is set it is told so, and killed when it takes long to end.
    pub fn finish<T: DeserializeOwned>(
        mut self,
        progress: &Progress,
        cancel: &Cancel,
        mut heard: impl FnMut(Value) -> Result<()>,
    ) -> Result<T> {
        let mut cancelled_at: Option<Instant> = None;
        let mut watch = |worker: &mut Self| {
            if cancel.check().is_err() {
                let since = *cancelled_at.get_or_insert_with(|| {
                    worker.down(&Down::Cancel);
                    Instant::now()
                });
                if since.elapsed() > GRACE {
                    return cancel.check();
                }
            }
            Ok(())
        };
        loop {
            match self.next(&mut watch)? {
                Some(Up::Event(event)) => progress.tell(&event.into()),
                Some(Up::Value(value)) => heard(value)?,
                Some(Up::Done(value)) => {
                    self.wait()?;
                    return serde_json::from_value(value).map_err(|error| {
                        Error::new(Kind::Corrupt, "castoff does not understand the worker's result").caused_by(error)
                    });
                }
                Some(Up::Failed(line)) => {
                    self.wait()?;
                    return Err(line.into_error());
                }
                other => return Err(self.end(other)),
            }
        }
    }

    /// Sends a line down. That it cannot be sent is no failure of its own: the worker has said why it ended, or will
    /// be found dead.
    fn down(&mut self, line: &Down) {
        if let Some(input) = self.child.stdin.as_mut() {
            let _told_by_its_end = send(input, line);
        }
    }

    /// The next line from the worker; none once it has closed its pipes.
    fn next(&mut self, watch: &mut dyn FnMut(&mut Self) -> Result<()>) -> Result<Option<Up>> {
        let mut searched = 0;
        loop {
            while let Some(at) = self.pending[searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.pending.drain(..=searched + at).collect();
                searched = 0;
                // A worker that was killed may have begun a line.
                if let Ok(up) = serde_json::from_slice(&line) {
                    return Ok(Some(up));
                }
            }
            searched = self.pending.len();
            if searched > LONGEST {
                return Err(Error::new(Kind::Limit, format!("the worker for `{}` told too much at once", self.name)));
            }
            if self.open == [false; 2] {
                return Ok(None);
            }
            watch(self)?;
            self.read()?;
        }
    }

    /// Takes what there is, waiting a moment for it.
    fn read(&mut self) -> Result<()> {
        let wrong = || "cannot read from the worker";
        let (Some(up), Some(printed)) = (self.child.stdout.as_mut(), self.child.stderr.as_mut()) else {
            return Err(Error::new(Kind::Failed, "the worker has no pipes"));
        };
        let wanted = |open| if open { PollFlags::IN } else { PollFlags::empty() };
        let mut watched = [
            PollFd::from_borrowed_fd(up.as_fd(), wanted(self.open[0])),
            PollFd::from_borrowed_fd(printed.as_fd(), wanted(self.open[1])),
        ];
        // The kernel tells of a closed end whether it is wanted or not.
        let watched = match self.open {
            [true, true] => &mut watched[..],
            [true, false] => &mut watched[..1],
            [false, _] => &mut watched[1..],
        };
        match poll(watched, Some(&GLANCE)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(wrong),
        }
        let ready: Vec<bool> = watched.iter().map(|one| !one.revents().is_empty()).collect();
        let mut buffer = vec![0; 64 * 1024];
        if self.open[0] && ready.first() == Some(&true) {
            let count = up.read(&mut buffer).context(wrong)?;
            self.pending.extend_from_slice(&buffer[..count]);
            self.open[0] = count > 0;
            return Ok(());
        }
        if self.open[1] && ready.last() == Some(&true) {
            let count = printed.read(&mut buffer).context(wrong)?;
            self.printed.push(&buffer[..count]);
            self.open[1] = count > 0;
        }
        Ok(())
    }

    /// Waits for the stages, so that every mount and process is gone.
    fn wait(&mut self) -> Result<()> {
        self.child.stdin.take();
        // It has told its end: nothing more is heard, and it need not wait for that.
        drop((self.child.stdout.take(), self.child.stderr.take()));
        self.child.wait().context(|| format!("cannot wait for the worker for `{}`", self.name)).map(|_| ())
    }

    /// The failure of a worker that ended without a result.
    fn end(&mut self, last: Option<Up>) -> Error {
        self.child.stdin.take();
        let reason = match last {
            // What was kept alive died: that has no error number.
            Some(Up::Broke { doing, cause, code: None }) if doing.starts_with("keep ") => Some(cause),
            Some(Up::Broke { doing, cause, code }) => return refusal::explain(&doing, &cause, code, &self.ids),
            Some(_) => Some("it spoke out of turn".to_owned()),
            None => None,
        };
        let status = self.kill();
        let printed = std::mem::replace(&mut self.printed, Lines::new(&Progress::silent(), 0)).finish();
        died::error(&self.name, status, reason, &printed)
    }

    /// Ends it with everything below it, unless it has ended, and waits until the last process is gone.
    fn kill(&mut self) -> Option<ExitStatus> {
        self.child.stdin.take();
        // One that has ended cannot be killed.
        let _ended_already = self.child.kill();
        let status = self.child.wait().ok();
        let since = Instant::now();
        // Each of them holds the way by which it prints.
        while self.open != [false; 2] && since.elapsed() < LAST_WAIT && self.read().is_ok() {
            self.pending.clear();
        }
        status
    }

    /// Gives the stage in its new user namespace its ids.
    fn map(&self) -> Result<()> {
        let pid = self.child.id();
        match &self.ids {
            Ids::Root => Ok(()),
            Ids::Same => {
                for kind in ["uid", "gid"] {
                    write_same(pid, kind)?;
                }
                Ok(())
            }
            Ids::Subordinate { users, groups } => {
                let own = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
                by_program("newuidmap", pid, own.0, *users)?;
                by_program("newgidmap", pid, own.1, *groups)
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _waited_for_already = self.kill();
    }
}

/// What a worker prints goes to castoff's log.
struct Logged;

impl Sink for Logged {
    fn event(&self, event: &Event) {
        if let Event::Line(line) = event {
            tracing::debug!("worker: {line}");
        }
    }
}

/// 0 is the user itself, 1 and up are the subordinate ids.
fn by_program(program: &str, pid: u32, own: u32, range: Range) -> Result<()> {
    let path = process::find(program).ok_or_else(|| {
        Error::new(Kind::Unsupported, format!("there is no `{program}`")).hint("install the package `uidmap`")
    })?;
    let words = [pid, 0, own, 1, 1, range.start, range.count].map(|number| number.to_string());
    process::run(process::command(&path).args(words))
        .map(|_| ())
        .map_err(|error| refusal::of_ids(&path, &program[3..6]).caused_by(error))
}

/// Inside as outside: every id that this process has itself.
fn write_same(pid: u32, kind: &str) -> Result<()> {
    let own = fs::read_text(Path::new(&format!("/proc/self/{kind}_map")))?;
    let mut map = String::new();
    for line in own.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [inside, _, count] = fields[..] {
            map = format!("{map}{inside} {inside} {count}\n");
        }
    }
    let path = format!("/proc/{pid}/{kind}_map");
    let file = fs::create_in_place(Path::new(&path), true)?;
    // One write: the kernel takes the whole map or nothing.
    rustix::io::write(&file, map.as_bytes())
        .context(|| format!("cannot give the worker its ids through `{path}`"))
        .map(|_| ())
        .map_err(|error| {
            Error::new(Kind::Unsupported, "root of this container may not make user namespaces with its ids")
                .hint("it needs the capabilities SETUID, SETGID and SETFCAP, or SYS_ADMIN")
                .caused_by(error)
        })
}
