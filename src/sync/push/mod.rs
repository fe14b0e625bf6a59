//! Images pushed to hosts that cannot pull: rsync over ssh into a new folder beside, made current in one step.
//!
//! ```text
//! STATE/sync/push.lock                       flock: one push at a time from here
//! on the host: see `remote.sh`
//! ```
//!
//! Hosts need rsync, a shell and coreutils; castoff is not asked for. Each has its own deadline and its own report, and a
//! few are worked on at once: one that hangs costs the others a place in the row and no more. What a killed run has sent
//! stays there, and the next one goes on with it.

mod delivery;
mod freight;
mod line;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use super::Surroundings;
use crate::error::{Error, Kind, Result};
use crate::host;
use crate::vocab::{Map, MinionId, OsImage, Value};
use delivery::{Delivered, Manner, deliver};
use freight::Freight;
use line::Line;

pub use freight::Source;

/// What is to be pushed, where to, and what is accepted.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// The containers.
    pub sources: &'a [Source],
    /// The hosts.
    pub targets: &'a [MinionId],
    /// An older version than what is there, and a container that runs, are accepted.
    pub force: bool,
    /// Only look.
    pub test: bool,
}

/// The right to push from this state folder; nobody else pushes as long as it lives.
#[derive(Debug)]
pub struct Pusher {
    _lock: host::fs::Lock,
    mark: String,
}

impl Pusher {
    /// Takes the right, and ends what a killed owner left running.
    pub fn new(state: &Path) -> Result<Self> {
        let folder = host::fs::canonical(state)?.unwrap_or_else(|| state.to_owned()).join("sync");
        host::fs::create_dir_all(&folder, 0o700)?;
        let path = folder.join("push.lock");
        let Some(lock) = host::fs::Lock::try_exclusive(&path)? else {
            return Err(Error::new(Kind::Conflict, "busy: images are being pushed from here already")
                .hint("wait for the other run to end; it holds the lock as long as it lives"));
        };
        let mark = path.display().to_string();
        host::session::end_marked(&format!("{}={mark}", line::MARK))?;
        Ok(Self { _lock: lock, mark })
    }

    /// Pushes every source to every target; a report for each target, in their order, whatever becomes of others.
    pub fn push(&self, order: &Order<'_>, surroundings: &Surroundings<'_>) -> Result<Vec<(MinionId, Value)>> {
        plain_path(&surroundings.config.lxc_path)?;
        let loaded = order
            .sources
            .iter()
            .map(|source| Freight::load(source, surroundings).map_err(|error| (&source.image, error)));
        let loaded: Vec<std::result::Result<Freight, (&OsImage, Error)>> = loaded.collect();
        surroundings.cancel.check()?;
        let (next, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        let (sender, receiver) = channel();
        let workers = usize::try_from(surroundings.config.push.parallel).unwrap_or(1).min(order.targets.len());
        let mut reports: BTreeMap<usize, Value> = BTreeMap::new();
        std::thread::scope(|scope| {
            // Whatever ends this block, a panic of whoever hears of progress among it, ends the workers' children.
            let _ends = SetAtEnd(&over);
            for _ in 0..workers {
                let (sender, over, next, loaded) = (sender.clone(), &over, &next, &loaded);
                scope.spawn(move || self.work(order, surroundings, loaded, (next, over), &sender));
            }
            drop(sender);
            for (number, said) in &receiver {
                match said {
                    Said::Word(text) => surroundings.progress.line(format!("{}: {text}", order.targets[number])),
                    Said::Done(report) => {
                        reports.insert(number, report);
                    }
                }
            }
        });
        Ok(order.targets.iter().cloned().zip(reports.into_values()).collect())
    }

    fn work(
        &self,
        order: &Order<'_>,
        surroundings: &Surroundings<'_>,
        loaded: &[std::result::Result<Freight, (&OsImage, Error)>],
        (next, over): (&AtomicUsize, &AtomicBool),
        sender: &Sender<(usize, Said)>,
    ) {
        loop {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let Some(host) = order.targets.get(number) else { return };
            let config = surroundings.config;
            let line = Line::to(host, &config.push, &self.mark, (surroundings.cancel, over));
            let manner = Manner { config, force: order.force, test: order.test };
            let mut report = HostReport::new(order.test);
            for source in loaded {
                let mut done = Delivered::default();
                let (image, result) = match source {
                    Ok(freight) => {
                        // Nobody may hear it any more: then this is about to end.
                        let _unheard = sender.send((number, Said::Word(format!("`{}`", freight.image))));
                        (&freight.image, deliver(freight, &line, manner, &mut done))
                    }
                    Err((image, error)) => (*image, Err(again(error))),
                };
                let lost =
                    result.as_ref().is_err_and(|error| matches!(error.kind(), Kind::Unavailable | Kind::Interrupted));
                report.add(image, &done, result);
                if lost {
                    break;
                }
            }
            let _unheard = sender.send((number, Said::Done(report.close())));
        }
    }
}

/// What a worker says.
enum Said {
    Word(String),
    Done(Value),
}

struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// The same failure for one host more.
fn again(error: &Error) -> Error {
    let same = Error::new(error.kind(), error.message());
    match error.next_step() {
        Some(hint) => same.hint(hint),
        None => same,
    }
}

/// What is told about one host.
struct HostReport {
    begun: Instant,
    result: Value,
    comments: Vec<String>,
    traces: Vec<String>,
    changes: Map,
    images: Map,
    sent: u64,
    test: bool,
}

impl HostReport {
    fn new(test: bool) -> Self {
        Self {
            begun: Instant::now(),
            result: Value::from(true),
            comments: Vec::new(),
            traces: Vec::new(),
            changes: Map::new(),
            images: Map::new(),
            sent: 0,
            test,
        }
    }

    fn add(&mut self, image: &OsImage, done: &Delivered, result: Result<()>) {
        let mut members = done.to_value();
        self.sent += done.sent;
        if done.changed && result.is_ok() {
            let change = Value::map([("old", Value::from(done.before)), ("new", done.after.into())]);
            self.changes.insert(image.as_str().into(), change);
            if self.test && self.result == Value::from(true) {
                self.result = Value::Null;
            }
        }
        match result {
            Ok(()) => {
                members.push(("result", Value::from(true)));
                self.comments.push(format!("{image}: {}", done.comment));
            }
            Err(error) => {
                self.result = Value::from(false);
                members.push(("result", Value::from(false)));
                members.push(("error", error.message().into()));
                members.push(("kind", error.kind().word().into()));
                members.push(("hint", Value::from(error.next_step())));
                self.comments.push(format!("{image}: {}", error.message()));
                self.traces.push(error.render());
            }
        }
        self.images.insert(image.as_str().into(), Value::map(members));
    }

    fn close(self) -> Value {
        Value::map([
            ("result", self.result),
            ("comment", self.comments.join("\n").into()),
            ("changes", Value::Map(self.changes)),
            ("output", Value::from("")),
            ("trace", self.traces.join("\n").into()),
            ("bytes_sent", self.sent.into()),
            ("seconds", self.begun.elapsed().as_secs_f64().into()),
            ("images", Value::Map(self.images)),
        ])
    }
}

/// Fails unless the path is the same text to every shell.
fn plain_path(path: &Path) -> Result<()> {
    let text = path.to_str().unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if text.starts_with('/')
        && text.bytes().all(plain)
        && !text.split('/').any(|part| part == ".." || part.starts_with('-'))
    {
        return Ok(());
    }
    Err(Error::new(
        Kind::Usage,
        format!("`{}` cannot be named to other hosts", path.display().to_string().escape_debug()),
    )
    .hint("`lxc.path` is an absolute path of letters, digits, `.`, `_` and `-`"))
}
