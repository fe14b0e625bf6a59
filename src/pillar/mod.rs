//! Layered sources of configuration: the pillar root's database, what a minion passes in, and where each value stood.
//!
//! Knows no images, plans, engines, HTTP, or who asks.

mod database;
mod facts;
mod files;
pub mod traced;

pub use database::Database;
pub use facts::Facts;
pub use files::Files;
