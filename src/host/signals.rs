//! The wish of whoever sits at the terminal, or of the system, that this process ends.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Context as _, Error, Kind, Result};

/// How long work that was told to end may take to do so.
const GRACE: Duration = Duration::from_secs(10);

/// Calls `wish` at the first SIGINT or SIGTERM from now on. At the second one, or some seconds later, the process is
/// killed: everything it does may be cut off anywhere.
pub fn at_end(wish: impl FnOnce() + Send + 'static) -> Result<()> {
    let (tell, told) = std::sync::mpsc::channel();
    let listen = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return drop(tell.send(Err(error))),
        };
        runtime.block_on(async {
            let signals = signal(SignalKind::interrupt()).and_then(|int| Ok((int, signal(SignalKind::terminate())?)));
            let (mut interrupt, mut terminate) = match signals {
                Ok(signals) => signals,
                Err(error) => return drop(tell.send(Err(error))),
            };
            drop(tell.send(Ok(())));
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} }
            wish();
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, () = tokio::time::sleep(GRACE) => {} }
            if let Some(own) = rustix::process::Pid::from_raw(std::process::id().cast_signed()) {
                let _never_returns = rustix::process::kill_process(own, rustix::process::Signal::KILL);
            }
        });
    };
    let wrong = || "cannot wait for signals";
    std::thread::Builder::new().name("signals".to_owned()).spawn(listen).context(wrong)?;
    told.recv().map_err(|error| Error::new(Kind::Failed, wrong()).caused_by(error))?.context(wrong)
}
