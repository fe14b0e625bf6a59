//! castoff casts OS images in a mould and casts them off from the quay: it builds, packs, releases and publishes
//! images, and tells configuration management which images there are.
//!
//! The rooms, and the arrows between them. A room may use only rooms of a lower rank; `tests/hermetic/layering.rs`
//! reads every path in the source and fails with the chain when one points up or sideways.
//!
//! ```text
//! 11 cli  daemon                               translate and call; no domain rules; terminal sink of the event stream · HTTP
//! 10 function                                  the table; arguments; dispatch
//!  9 release  sync                             from a container to whole files, and on to what consumers see; the journal of it · hosts that follow releases
//!  8 build  publish                             the executor of plans · publishers: a folder, SFTP, WebDAV in one order for all; releases in a git repository
//!  7 engine  remote  front                     pack pipeline over docker engine, embedded store, archives, lxc directories · fetch and verify from anywhere · users' files become plans (pure)
//!  6 settings  plan                            image settings: defaults, layers, membership, derived keys (pure bar its cached front) · plans, identities, explained (pure)
//!  5 store  pillar  job  disk  registry        content store, trees, leases, garbage collection · layered sources of configuration, cache · queue and job states · disk images: write, open, boot · OCI registries
//!  4 oci  sandbox  sign  config  ssh  http     formats and archives · namespaces, mounts, run · signatures · castoff's own configuration · ssh as the operator set it up · HTTP client
//!  3 rootfs  manifest  schedule                entries, ACLs, tar, flatten, walk/unpack · release manifest + patch graph · due times (all pure bar rootfs::walk, rootfs::unpack)
//!  2 host  document  outputter  progress       files, processes, clock behind one door · YAML/JSON · value to text · events
//!  1 vocab                                     Digest, Reference, ImageName, Value
//!  0 error                                     Error, Kind, hint
//! ```

pub mod build;
pub mod cli;
pub mod config;
pub mod daemon;
pub mod disk;
pub mod document;
pub mod engine;
pub mod error;
pub mod front;
pub mod function;
pub mod host;
pub mod http;
pub mod job;
pub mod manifest;
pub mod oci;
pub mod outputter;
pub mod pillar;
pub mod plan;
pub mod progress;
pub mod publish;
pub mod registry;
pub mod release;
pub mod remote;
pub mod rootfs;
pub mod sandbox;
pub mod schedule;
pub mod settings;
pub mod sign;
pub mod ssh;
pub mod store;
pub mod sync;
pub mod vocab;
