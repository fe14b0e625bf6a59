//! What castoff and a worker tell each other: one JSON document a line, down its standard input, up its output.
//!
//! ```text
//! down  Begin { user_namespace }   read by the outer stage
//!       Mapped                     read by the outer stage when it is in a user namespace
//!       Order { name, order }      read by the worker
//!       Cancel                     read by the worker, any time later
//! up    Unshared                   the outer stage waits for its ids
//!       Event, Value               any number of them
//!       Done | Failed              the end, told by the worker
//!       Broke                      the end, told by a stage: the worker could not be started, or died
//! ```

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Kind};
use crate::progress::{Event, Unit};

/// The longest line that is read.
pub(super) const LONGEST: usize = 64 << 20;

#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Down {
    Begin { user_namespace: bool },
    Mapped,
    Order { name: String, order: Value },
    Cancel,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) enum Up {
    Unshared,
    Event(EventLine),
    Value(Value),
    Done(Value),
    Failed(ErrorLine),
    Broke { doing: String, cause: String, code: Option<i32> },
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) enum EventLine {
    Started { stage: String, total: Option<u64>, items: bool },
    Advanced(u64),
    Finished,
    Warning(String),
    Line(String),
}

impl From<&Event> for EventLine {
    fn from(event: &Event) -> Self {
        match event {
            Event::Started { stage, total, unit } => {
                Self::Started { stage: stage.clone(), total: *total, items: *unit == Unit::Items }
            }
            Event::Advanced { done } => Self::Advanced(*done),
            Event::Finished => Self::Finished,
            Event::Warning(text) => Self::Warning(text.clone()),
            Event::Line(text) => Self::Line(text.clone()),
        }
    }
}

impl From<EventLine> for Event {
    fn from(line: EventLine) -> Self {
        match line {
            EventLine::Started { stage, total, items } => {
                Self::Started { stage, total, unit: if items { Unit::Items } else { Unit::Bytes } }
            }
            EventLine::Advanced(done) => Self::Advanced { done },
            EventLine::Finished => Self::Finished,
            EventLine::Warning(text) => Self::Warning(text),
            EventLine::Line(text) => Self::Line(text),
        }
    }
}

/// An error with everything a caller reads of it.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ErrorLine {
    /// None: a cause that is not castoff's own.
    kind: Option<String>,
    message: String,
    hint: Option<String>,
    cause: Option<Box<ErrorLine>>,
}

/// A cause that was not castoff's own, as it is told.
#[derive(Debug)]
struct Foreign {
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl std::fmt::Display for Foreign {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Foreign {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl ErrorLine {
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let own = error.downcast_ref::<Error>();
        Self {
            kind: own.map(|own| own.kind().word().to_owned()),
            message: error.to_string(),
            hint: own.and_then(Error::next_step).map(str::to_owned),
            cause: error.source().map(|cause| Box::new(Self::of(cause))),
        }
    }

    pub(super) fn into_error(self) -> Error {
        let kind = self.kind.as_deref().and_then(Kind::of_word).unwrap_or(Kind::Failed);
        let mut error = Error::new(kind, self.message);
        if let Some(hint) = self.hint {
            error = error.hint(hint);
        }
        match self.cause {
            Some(cause) => error.caused_by(cause.into_cause()),
            None => error,
        }
    }

    fn into_cause(self) -> Box<dyn std::error::Error + Send + Sync> {
        if self.kind.is_some() {
            return Box::new(self.into_error());
        }
        Box::new(Foreign { message: self.message, source: self.cause.map(|cause| cause.into_cause()) })
    }
}

pub(super) fn send(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    out.write_all(&bytes)?;
    out.flush()
}

/// One line, and not a byte of what follows: that is for whoever reads next.
pub(super) fn receive_exactly(input: &mut impl Read) -> io::Result<Down> {
    let (mut line, mut byte) = (Vec::new(), [0]);
    loop {
        input.read_exact(&mut byte)?;
        if byte == *b"\n" {
            return Ok(serde_json::from_slice(&line)?);
        }
        if line.len() == 1 << 16 {
            return Err(io::ErrorKind::InvalidData.into());
        }
        line.push(byte[0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Context as _;

    #[test]
    fn an_error_is_told_with_kind_hint_and_causes() {
        let foreign = std::io::Error::other("the disk is on fire");
        let error = Err::<(), _>(Error::new(Kind::NoSpace, "inner").hint("buy one").caused_by(foreign))
            .context(|| "outer")
            .unwrap_err();
        let line = serde_json::to_string(&ErrorLine::of(&error)).unwrap();
        let told = serde_json::from_str::<ErrorLine>(&line).unwrap().into_error();
        assert_eq!((told.kind(), told.render()), (error.kind(), error.render()));
        let cause = std::error::Error::source(&told).unwrap();
        assert_eq!(cause.downcast_ref::<Error>().unwrap().kind(), Kind::NoSpace);
    }
}
