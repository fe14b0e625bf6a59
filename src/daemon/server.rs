//! The life of the daemon: listen, serve, reload, drain, end.
//!
//! ```text
//! SIGHUP            configuration, access rules and TLS are read again; if anything is wrong the old ones stay
//! SIGTERM, SIGINT   no schedule starts any more, no new connections; every answer says `Connection: close`; idle connections are closed after a
//!                   moment in which their owners may notice; what is under way may finish within `daemon.drain`
//! ```
//!
//! systemd's sockets stay open across a restart: who connects meanwhile waits in the kernel for the next daemon. The
//! daemon's own socket is removed first, and who is in its queue by then is still answered.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc, watch};

use super::activation::{self, Notifier};
use super::caller::{Peer, Users};
use super::calls::Calls;
use super::connection::Accepted;
use super::connections::Connections;
use super::metrics::Metrics;
use super::notify;
use super::openapi::Tables;
use super::pillars::Pillars;
use super::queue::Jobs;
use super::schedules;
use super::shared::{Daemon, Phase};
use super::socket::{self, OwnSocket};
use super::state::State;
use super::timetable::Schedules;
use super::{logs, routes, tls};
use crate::config::Overrides;
use crate::error::{Context as _, Error, Kind, Result};

/// How long idle connections stay open when the end has come: time to notice `Connection: close` or a closed socket.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long a webhook that is being sent is waited for at the end.
const NOTICES: Duration = Duration::from_secs(2);

impl Daemon {
    /// Reads everything again; keeps what was if that fails.
    fn reload(&self) {
        use std::sync::atomic::Ordering::Relaxed;
        let problem = match State::load(&self.overrides, Some(&self.state())).and_then(|state| self.replace(state)) {
            Ok(()) => {
                self.metrics.reloads.fetch_add(1, Relaxed);
                tracing::info!("configuration reloaded");
                None
            }
            Err(error) => {
                self.metrics.reloads_failed.fetch_add(1, Relaxed);
                tracing::error!(error = error.render(), "configuration not reloaded: the old one stays in force");
                Some(error.to_string())
            }
        };
        *self.reload_problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn replace(&self, state: State) -> Result<()> {
        let old = self.state();
        let (before, after) = (&old.config.daemon, &state.config.daemon);
        if (&before.socket, before.socket_mode, &before.socket_group, before.listen)
            != (&after.socket, after.socket_mode, &after.socket_group, after.listen)
        {
            tracing::warn!("`socket`, `socket_mode`, `socket_group` and `listen` change with a restart only");
        }
        if before.log != after.log {
            self.logs.set_level(after.log.as_deref().unwrap_or(logs::DEFAULT_LEVEL))?;
        }
        self.jobs.reconfigure(&old.config, &state.config)?;
        if before.calls != after.calls {
            self.calls.resize(after.calls);
        }
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(state);
        self.users.forget();
        Ok(())
    }
}

/// Runs the daemon until it is told to stop; its exit code.
pub fn run(overrides: &Overrides) -> Result<u8> {
    let state = State::load(overrides, None)?;
    let daemon = &state.config.daemon;
    let logs = logs::start(daemon.log.as_deref().unwrap_or(logs::DEFAULT_LEVEL), daemon.log_format)?;
    let notifier = Notifier::from_environment()?;
    let listeners = Listeners::open(&state)?;
    raise_descriptor_limit(daemon.connections);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("castoff")
        .build()
        .context(|| "cannot start the daemon's runtime")?;
    let pillars = Pillars::start()?;
    let daemon = Arc::new_cyclic(|daemon| Daemon {
        jobs: Arc::new(Jobs::new()),
        schedules: Schedules::default(),
        pillars,
        probes: Arc::new(Semaphore::new(2)),
        calls: Calls::new(state.config.daemon.calls),
        state: RwLock::new(Arc::new(state)),
        overrides: overrides.clone(),
        phase: watch::Sender::new(Phase::Serving),
        reload_problem: Mutex::new(None),
        logs,
        metrics: Metrics::default(),
        connections: Connections::new(),
        users: Users::new(),
        tables: Tables::new(),
        router: routes::router(daemon.clone()),
    });
    let result = runtime.block_on(live(daemon, listeners, notifier));
    // Whatever still hangs in a system call must not keep the process.
    runtime.shutdown_background();
    result.map(|()| 0)
}

/// Where the daemon listens.
struct Listeners {
    unix: Vec<std::os::unix::net::UnixListener>,
    tcp: Vec<std::net::TcpListener>,
    own: Option<OwnSocket>,
}

impl Listeners {
    /// systemd's sockets; of the kinds it did not hand over, those that are configured.
    fn open(state: &State) -> Result<Self> {
        let activation::Inherited { mut unix, mut tcp } = activation::sockets()?;
        for listener in &tcp {
            state.may_listen(listener.local_addr().context(|| "cannot ask for the address of a socket")?)?;
        }
        let mut own = None;
        if unix.is_empty() {
            let (listener, made) = socket::open(&state.config)?;
            unix.push(listener);
            own = Some(made);
        }
        if let (true, Some(address)) = (tcp.is_empty(), state.config.daemon.listen) {
            let listener = std::net::TcpListener::bind(address).context(|| format!("cannot listen at {address}"))?;
            rustix::net::listen(&listener, socket::BACKLOG).context(|| format!("cannot listen at {address}"))?;
            tcp.push(listener);
        }
        for blocking in unix.iter().map(|listener| listener.set_nonblocking(true)) {
            blocking.context(|| "cannot prepare a socket")?;
        }
        for blocking in tcp.iter().map(|listener| listener.set_nonblocking(true)) {
            blocking.context(|| "cannot prepare a socket")?;
        }
        Ok(Self { unix, tcp, own })
    }
}

/// Lets the process have a descriptor for every connection, and some for its work.
fn raise_descriptor_limit(connections: usize) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let wanted = connections as u64 + 1024;
    if limit.current.is_some_and(|current| current < wanted) {
        let current = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
        if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: Some(current), maximum: limit.maximum }) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        } else if current < wanted {
            tracing::warn!(limit = current, "fewer files may be open than `daemon.connections` asks for");
        }
    }
}

async fn live(daemon: Arc<Daemon>, listeners: Listeners, notifier: Notifier) -> Result<()> {
    let failed = || "cannot wait for signals";
    let mut terminate = signal(SignalKind::terminate()).context(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).context(failed)?;
    let mut hang_up = signal(SignalKind::hangup()).context(failed)?;
    let (alive, mut all_gone) = mpsc::channel::<()>(1);
    let own = listeners.own;
    for listener in listeners.unix {
        let listener = UnixListener::from_std(listener).context(|| "cannot listen at the socket")?;
        tokio::spawn(accept(Arc::clone(&daemon), Door::Unix(listener), own.is_some(), alive.clone()));
    }
    for listener in listeners.tcp {
        let listener = TcpListener::from_std(listener).context(|| "cannot listen at the address")?;
        tokio::spawn(accept(Arc::clone(&daemon), Door::Tcp(listener), own.is_some(), alive.clone()));
    }
    drop(alive);
    tokio::task::spawn_blocking({
        let daemon = Arc::clone(&daemon);
        move || daemon.jobs.resume(&daemon.state().config)
    });
    let (stop, told) = watch::channel(false);
    let telling = tokio::spawn(notify::run(Arc::clone(&daemon), told.clone()));
    let scheduling = tokio::spawn(schedules::run(Arc::clone(&daemon), told));
    notifier.tell("READY=1");
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "castoff serves");
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => {
                notifier.reloading();
                let reloading = Arc::clone(&daemon);
                if let Err(error) = tokio::task::spawn_blocking(move || reloading.reload()).await {
                    tracing::error!(%error, "reload broke off");
                }
                daemon.schedules.wake.notify_one();
                notifier.tell("READY=1");
            }
        }
    }
    notifier.tell("STOPPING=1");
    tracing::info!("draining");
    // A look under way is waited for: what it starts is in the queue, whole, for the next daemon.
    stop.send_replace(true);
    match tokio::time::timeout(daemon.state().config.daemon.drain, scheduling).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "the schedules broke off"),
        Err(_) => tracing::warn!("the schedules' files do not answer: not waited for any longer"),
    }
    // What was not heard yet is kept.
    if tokio::time::timeout(NOTICES, telling).await.is_err() {
        tracing::warn!("a webhook does not end: not waited for any longer");
    }
    // Jobs that run go on in their processes; the next daemon finds them.
    let stopping = Arc::clone(&daemon);
    if let Err(error) = tokio::task::spawn_blocking(move || stopping.jobs.stop()).await {
        tracing::error!(%error, "stopping the supervisor of jobs broke off");
    }
    if let Some(own) = own {
        let removed = tokio::task::spawn_blocking(move || own.remove().map(|()| own)).await;
        match removed.map_err(|error| Error::new(Kind::Failed, "cannot remove the socket").caused_by(error))? {
            // The lock goes with the process, not before.
            Ok(own) => std::mem::forget(own),
            Err(error) => tracing::warn!(error = error.render(), "the socket stays behind"),
        }
    }
    daemon.phase.send_replace(Phase::Closing);
    let limit = daemon.state().config.daemon.drain;
    let gone = async {
        if tokio::time::timeout(FAREWELL, all_gone.recv()).await.is_err() {
            daemon.phase.send_replace(Phase::Ending);
            all_gone.recv().await;
        }
        daemon.calls.finished().await;
    };
    tokio::select! {
        () = gone => tracing::info!("every request is answered"),
        () = tokio::time::sleep(limit) => {
            tracing::warn!(seconds = limit.as_secs(), "requests were still under way after `daemon.drain`");
        }
        _ = terminate.recv() => tracing::warn!("told twice to stop: requests under way are dropped"),
        _ = interrupt.recv() => tracing::warn!("told twice to stop: requests under way are dropped"),
    }
    Ok(())
}

/// A listening socket.
enum Door {
    Unix(UnixListener),
    Tcp(TcpListener),
}

/// What came in through it.
enum Guest {
    Unix(tokio::net::UnixStream),
    Tcp(tokio::net::TcpStream, std::net::SocketAddr),
}

impl Door {
    async fn accept(&self) -> std::io::Result<Guest> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Guest::Unix(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, address)| Guest::Tcp(stream, address)),
        }
    }
}

/// Accepts until the daemon closes; if nobody takes the socket over, also who waits in its queue by then.
async fn accept(daemon: Arc<Daemon>, door: Door, own: bool, alive: mpsc::Sender<()>) {
    let mut phases = daemon.phases();
    loop {
        let accepted = tokio::select! {
            accepted = door.accept() => accepted,
            _ = phases.changed() => break,
        };
        match accepted {
            Ok(guest) => receive(&daemon, guest, &alive),
            Err(error) => {
                // Out of descriptors, most likely: others must end before another can come in.
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    if own {
        while let Ok(Ok(guest)) = tokio::time::timeout(Duration::from_millis(20), door.accept()).await {
            receive(&daemon, guest, &alive);
        }
    }
}

fn receive(daemon: &Arc<Daemon>, guest: Guest, alive: &mpsc::Sender<()>) {
    let alive = alive.clone();
    match guest {
        Guest::Unix(stream) => match stream.peer_cred() {
            Ok(credentials) => {
                let peer = Peer::Process { uid: credentials.uid(), gid: credentials.gid() };
                let accepted = Accepted::new(daemon, peer.key());
                tokio::spawn(async move {
                    accepted.converse(stream, peer).await;
                    drop(alive);
                });
            }
            Err(error) => tracing::warn!(%error, "the kernel does not say who connects"),
        },
        Guest::Tcp(stream, address) => {
            let peer = Peer::Machine { address, names: Vec::new() };
            let accepted = Accepted::new(daemon, peer.key());
            let daemon = Arc::clone(daemon);
            tokio::spawn(async move {
                welcome(&daemon, accepted, stream, address).await;
                drop(alive);
            });
        }
    }
}

/// Shakes hands where TLS is configured, then speaks HTTP.
async fn welcome(daemon: &Daemon, accepted: Accepted, stream: tokio::net::TcpStream, address: std::net::SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let Some(acceptor) = daemon.state().tls.clone() else {
        return accepted.converse(stream, Peer::Machine { address, names: Vec::new() }).await;
    };
    match accepted.unless_evicted(tls::handshake(&acceptor, stream)).await {
        None => {}
        Some(Ok((stream, names))) => accepted.converse(stream, Peer::Machine { address, names }).await,
        Some(Err(error)) => {
            daemon.metrics.handshakes_failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tracing::debug!(%address, %error, "TLS handshake failed");
        }
    }
}
