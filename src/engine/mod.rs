//! Images wherever they live, and the one pipeline that moves them: the Docker engine, the embedded store, archives,
//! layouts, registries, directories, tars, LXC containers.
//!
//! A source is opened ([`open`]), its layers are scanned and merged ([`merge`]), the result streams once into a sink
//! ([`sink`]). Packing never unpacks, never starts a container and needs no root. Knows no plans, settings, publishers.

pub mod acls;
pub mod adopt;
pub mod bundle;
pub mod configuration;
pub mod copy;
pub mod docker;
pub mod extract;
mod extracted;
mod fetch;
pub mod inspect;
pub mod inventory;
pub mod lxc;
pub mod merge;
pub mod open;
pub mod pack;
pub mod rebuild;
pub mod report;
pub mod request;
pub mod send;
pub mod sink;
mod staging;
pub mod surroundings;
pub mod tree_sink;
pub mod verify;

pub use pack::pack;
pub use request::{LayerCount, PackRequest};
pub use surroundings::Surroundings;
