//! The executor: runs plans, and keeps what they gave so that nothing is done twice.
//!
//! Knows neither which front-end made a plan nor who publishes what it gives.

mod report;

pub use report::{BuildReport, End, Failure, OutputReport, PlanReport, Request, StepReport};

use crate::engine::Surroundings;
use crate::error::{Error, Kind, Result};
use crate::plan::Explained;
use crate::progress::Cancel;

/// Says what of the plans is there already, and why the rest is not; changes nothing.
pub fn explain(request: &Request, surroundings: &Surroundings<'_>) -> Result<Vec<Explained>> {
    let _ = (request, surroundings);
    Err(Error::new(Kind::Unsupported, "not there yet"))
}

/// Builds the plans.
pub fn run(request: &Request, surroundings: &Surroundings<'_>, cancel: &Cancel) -> Result<BuildReport> {
    let _ = (request, surroundings, cancel);
    Err(Error::new(Kind::Unsupported, "not there yet"))
}
