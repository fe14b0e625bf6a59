//! A real Docker Engine: its images as source and sink, its containers to refresh an image in.
//!
//! A synchronous face over bollard on a private current-thread runtime; nothing runs unless a [`Docker`] is connected.
//! Owns the engine's protocol, the label that marks castoff's own containers, and how a running container's root is
//! found on this host. Must not know what an image is packed for. Without the feature `docker` every name is still
//! here and [`Docker::connect`] says what is missing.

mod address;
mod types;

#[cfg(feature = "docker")]
mod client;
#[cfg(feature = "docker")]
mod container;
#[cfg(feature = "docker")]
mod failure;
#[cfg(feature = "docker")]
mod images;
#[cfg(feature = "docker")]
mod load;
#[cfg(feature = "docker")]
mod overlay;
#[cfg(feature = "docker")]
mod owner;
#[cfg(feature = "docker")]
mod refresh;
#[cfg(feature = "docker")]
mod stubs;

#[cfg(not(feature = "docker"))]
mod absent;

#[cfg(not(feature = "docker"))]
pub use absent::{Container, Docker};
pub use address::{Address, DEFAULT_SOCKET};
#[cfg(feature = "docker")]
pub use client::Docker;
#[cfg(feature = "docker")]
pub use container::Container;
pub use types::{
    CommandReport, ContainerSpec, EngineImageInfo, EngineImageSummary, EngineVersion, Loaded, RefreshSpec, Refreshed,
    Removed,
};
