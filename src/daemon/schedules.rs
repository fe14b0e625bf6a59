//! The clockwork: one tick in UTC, on which the timetable is looked at; what is due goes into the queue.
//!
//! The tick is the only job of the scheduler's: that one computes zones with a fixed offset, forgets what falls into a
//! restart, and after a clock was set back waits until its old time comes again. So it says no more than "now", and when
//! it says nothing for three ticks we look all the same, and wind it up anew.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_cron_scheduler::{Job, JobScheduler};

use super::images::Images;
use super::shared::Daemon;
use super::timetable::Found;
use crate::error::{Error, Kind, Result};
use crate::function::{self, Timetable};

/// How often what is on the disk is counted for metrics.
const COUNTING: Duration = Duration::from_secs(30);

/// Looks at the timetable once. Touches files.
fn look(daemon: &Daemon) {
    let state = daemon.state();
    let table = Arc::new(Timetable::new(&state.config, &state.settings));
    let found = match start_due(daemon, &table) {
        Ok((shortcomings, failures)) => Found { shortcomings, trouble: failures.first().map(Error::render) },
        Err(error) => Found { shortcomings: Vec::new(), trouble: Some(error.render()) },
    };
    let counted = daemon.schedules.counted();
    let images = counted.is_none_or(|counted| counted.elapsed() >= COUNTING).then(|| Images::count(&state.config));
    daemon.schedules.found(table, found, images);
}

/// What cannot be done as it should, and which starts failed.
fn start_due(daemon: &Daemon, table: &Timetable) -> Result<(Vec<String>, Vec<Error>)> {
    let open = daemon.jobs.open(&daemon.state().config)?;
    let now = function::now()?;
    let failures = function::start_due(&open.queue, table, now)?;
    Ok((function::shortcomings(&open.queue, table, now)?, failures))
}

/// Looks at every tick until it is told to stop; a look under way is finished.
pub(super) async fn run(daemon: Arc<Daemon>, mut stop: watch::Receiver<bool>) {
    let mut clockwork = Clockwork::default();
    while !*stop.borrow() {
        let tick = daemon.state().config.schedules.tick;
        clockwork.wind(tick).await;
        let looking = Arc::clone(&daemon);
        if let Err(error) = tokio::task::spawn_blocking(move || look(&looking)).await {
            tracing::error!(%error, "looking at the schedules broke off");
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = daemon.schedules.wake.notified() => {}
            () = clockwork.ticked(tick) => {}
        }
    }
    clockwork.stop().await;
}

/// The one job of the scheduler.
#[derive(Default)]
struct Clockwork {
    running: Option<(JobScheduler, mpsc::Receiver<()>, Duration)>,
    trouble: Option<String>,
}

impl Clockwork {
    /// Lets it tick this often, if it does not.
    async fn wind(&mut self, tick: Duration) {
        if self.running.as_ref().is_some_and(|(_, _, before)| *before == tick) {
            return;
        }
        self.stop().await;
        let told = match started(tick).await {
            Ok((scheduler, ticks)) => {
                self.running = Some((scheduler, ticks, tick));
                None
            }
            // Then every look comes from the time that runs out.
            Err(error) => Some(error.render()),
        };
        if let Some(error) = told.as_ref().filter(|told| self.trouble.as_ref() != Some(told)) {
            tracing::error!("{error}");
        }
        self.trouble = told;
    }

    /// Waits for a tick, or for as long as three of them take.
    async fn ticked(&mut self, tick: Duration) {
        let Some((_, ticks, _)) = &mut self.running else { return tokio::time::sleep(tick).await };
        if let Ok(Some(())) = tokio::time::timeout(tick * 3, ticks.recv()).await {
            return;
        }
        tracing::warn!(seconds = tick.as_secs() * 3, "no tick came (was the clock set back?): it is wound up again");
        self.stop().await;
    }

    async fn stop(&mut self) {
        if let Some((mut scheduler, _, _)) = self.running.take()
            && let Err(error) = scheduler.shutdown().await
        {
            tracing::warn!(%error, "the scheduler does not stop");
        }
    }
}

async fn started(tick: Duration) -> Result<(JobScheduler, mpsc::Receiver<()>)> {
    let failed = |error| Error::new(Kind::Failed, "the scheduler does not tick").caused_by(error);
    // A tick that nobody has taken yet says all that another one could.
    let (tell, ticks) = mpsc::channel(1);
    let job = Job::new(format!("*/{} * * * * *", tick.as_secs()), move |_, _| {
        let _taken_or_waiting = tell.try_send(());
    })
    .map_err(failed)?;
    let scheduler = JobScheduler::new().await.map_err(failed)?;
    scheduler.add(job).await.map_err(failed)?;
    scheduler.start().await.map_err(failed)?;
    Ok((scheduler, ticks))
}
