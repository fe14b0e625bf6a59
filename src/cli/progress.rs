//! The terminal sink of the event stream: bars on a terminal, now and then a line elsewhere; always on stderr.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};

use super::logs::Verbosity;
use super::output::complain;
use crate::progress::{Event, Sink, Unit};

/// How often a long stage is told about where there is no terminal.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// A stage that is shorter than this gets no line where there is no terminal.
const WORTH_A_LINE: Duration = Duration::from_millis(300);

/// The sink for this process's stderr.
pub(super) fn on_stderr(verbosity: Verbosity) -> OnStderr {
    let terminal = rustix::termios::isatty(std::io::stderr());
    OnStderr { terminal, show_lines: terminal || verbosity >= Verbosity::Info, stage: Mutex::new(None) }
}

pub(super) struct OnStderr {
    terminal: bool,
    show_lines: bool,
    stage: Mutex<Option<Stage>>,
}

/// The stage under way.
struct Stage {
    name: String,
    total: Option<u64>,
    unit: Unit,
    done: u64,
    began: Instant,
    told: Instant,
    bar: Option<ProgressBar>,
}

impl Sink for OnStderr {
    fn event(&self, event: &Event) {
        let mut current = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Started { stage, total, unit } => {
                if let Some(earlier) = current.take() {
                    earlier.end();
                }
                *current = Some(Stage::begin(stage, *total, *unit, self.terminal));
            }
            Event::Advanced { done } => {
                if let Some(stage) = current.as_mut() {
                    stage.advance(*done);
                }
            }
            Event::Finished => {
                if let Some(stage) = current.take() {
                    stage.end();
                }
            }
            Event::Warning(text) => tell(current.as_ref(), &format!("warning: {text}")),
            Event::Line(text) if self.show_lines => tell(current.as_ref(), text),
            Event::Line(_) => {}
        }
    }
}

/// A line that does not tear a bar apart.
fn tell(stage: Option<&Stage>, line: &str) {
    match stage.and_then(|stage| stage.bar.as_ref()) {
        Some(bar) => bar.suspend(|| complain(line)),
        None => complain(line),
    }
}

impl Stage {
    fn begin(name: &str, total: Option<u64>, unit: Unit, terminal: bool) -> Self {
        let now = Instant::now();
        let bar = terminal.then(|| bar(name, total, unit));
        Self { name: name.to_owned(), total, unit, done: 0, began: now, told: now, bar }
    }

    fn advance(&mut self, done: u64) {
        self.done = done;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            if self.total.is_none() && self.unit == Unit::Items {
                bar.set_message(format!("{} {done}", self.name));
            }
        } else if self.told.elapsed() >= BETWEEN_LINES {
            self.told = Instant::now();
            complain(&self.under_way());
        }
    }

    fn end(self) {
        match &self.bar {
            Some(bar) => bar.finish_and_clear(),
            None if self.began.elapsed() >= WORTH_A_LINE => {
                let seconds = self.began.elapsed().as_secs_f64();
                complain(&match self.done {
                    // A stage that counts nothing.
                    0 => format!("{}: {seconds:.1} s", self.name),
                    done => format!("{}: {} in {seconds:.1} s", self.name, self.amount(done)),
                });
            }
            None => {}
        }
    }

    /// `packing: 512.00 MiB of 1.20 GiB, 230.10 MiB/s, 3 s left`.
    fn under_way(&self) -> String {
        let seconds = self.began.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a speed for a person")]
        let speed = self.done as f64 / seconds;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a speed for a person")]
        let shown = self.amount(speed as u64);
        match self.total {
            Some(total) => {
                #[expect(clippy::cast_precision_loss, reason = "a time for a person")]
                let left = total.saturating_sub(self.done) as f64 / speed.max(1.0);
                let (done, total) = (self.amount(self.done), self.amount(total));
                format!("{}: {done} of {total}, {shown}/s, {left:.0} s left", self.name)
            }
            None if self.done == 0 => format!("{}: {seconds:.0} s", self.name),
            None => format!("{}: {}, {shown}/s", self.name, self.amount(self.done)),
        }
    }

    fn amount(&self, count: u64) -> String {
        match self.unit {
            Unit::Bytes => HumanBytes(count).to_string(),
            Unit::Items => count.to_string(),
        }
    }
}

fn bar(name: &str, total: Option<u64>, unit: Unit) -> ProgressBar {
    let template = match (total.is_some(), unit) {
        (true, Unit::Bytes) => "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}",
        (true, Unit::Items) => "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta}",
        (false, Unit::Bytes) => "{spinner} {msg} {binary_bytes} {binary_bytes_per_sec} {elapsed}",
        (false, Unit::Items) => "{spinner} {msg} {elapsed}",
    };
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_of_a_bar_is_valid() {
        for total in [None, Some(10)] {
            for unit in [Unit::Bytes, Unit::Items] {
                let bar = bar("packing", total, unit);
                assert_eq!(bar.message(), "packing");
                assert_eq!(bar.length(), total);
            }
        }
    }

    #[test]
    fn a_line_tells_speed_and_time_left() {
        let mut stage = Stage::begin("packing", Some(3 << 20), Unit::Bytes, false);
        stage.done = 1 << 20;
        stage.began = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let line = stage.under_way();
        assert!(line.starts_with("packing: 1.00 MiB of 3.00 MiB, ") && line.ends_with(" 2 s left"), "{line}");
        let mut stage = Stage::begin("booting", None, Unit::Items, false);
        stage.began = Instant::now().checked_sub(Duration::from_secs(9)).unwrap();
        assert_eq!(stage.under_way(), "booting: 9 s");
    }
}
