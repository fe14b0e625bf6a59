//! Layered sources of configuration: the pillar root's database, what a minion passes in, and where each value stood.
//!
//! Knows no images, plans, engines, HTTP, or who asks.

mod cache;
mod database;
mod facts;
mod files;
pub mod grains;
mod recorder;
mod sections;
pub mod sls;
mod source;
pub mod traced;
pub mod wire;

pub use cache::{Answer, Cache, Metrics, Wanted};
pub use database::Database;
pub use facts::Facts;
pub use files::Files;
pub use recorder::{MOST_BYTES, Recorder, Sweep, Watch};
pub use source::{DATABASES, Source, USUAL_ROOTS};
