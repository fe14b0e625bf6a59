//! OCI registries: what an image's parts are called there, fetching them, sending them.
//!
//! A client of the OCI distribution specification 1.1: tokens and passwords from the auth files that users have, mirrors,
//! ranges, redirects that take no secret along, a pause where a server asks for one. Whatever arrives is compared with its
//! digest and its size before anybody relies on it. Own code over `http` and no ready-made client: the ones there are
//! bring a second HTTP stack and cannot go on in the middle of a blob. Knows no store: blobs go to a [`Receiver`].

mod authorize;
mod challenge;
mod credentials;
mod endpoint;
mod fetch;
mod manifest;
mod name;
mod retry;
mod send;
mod session;

pub use fetch::{Receiver, Registry};
pub use manifest::{Fetched, choose};
pub use name::RegistryName;
pub use send::Sent;
