//! Tests with real parts (Docker Engine, Salt, container tools, root); one binary, one module a subject.
#![allow(
    missing_docs,
    clippy::pedantic,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "real/acl.rs"]
mod acl;
#[path = "real/ansible.rs"]
mod ansible;
#[path = "real/archive/mod.rs"]
mod archive;
#[path = "real/boot.rs"]
mod boot;
#[path = "real/build/mod.rs"]
mod build;
#[path = "real/contract.rs"]
mod contract;
#[path = "real/daemon.rs"]
mod daemon;
#[path = "real/demo.rs"]
mod demo;
#[path = "real/disk.rs"]
mod disk;
#[path = "real/docker.rs"]
mod docker;
#[path = "real/faults.rs"]
mod faults;
#[path = "real/forest.rs"]
mod forest;
#[path = "real/forest_pull.rs"]
mod forest_pull;
#[path = "real/functions.rs"]
mod functions;
#[path = "real/functions_images.rs"]
mod functions_images;
#[path = "real/functions_refresh.rs"]
mod functions_refresh;
#[path = "real/git.rs"]
mod git;
#[path = "real/git_faults.rs"]
mod git_faults;
#[path = "real/git_server.rs"]
mod git_server;
#[allow(dead_code, reason = "each subject uses what it needs")]
#[path = "real/harness.rs"]
mod harness;
#[path = "real/hostile.rs"]
mod hostile;
#[path = "real/images.rs"]
mod images;
#[path = "real/jobs.rs"]
mod jobs;
#[path = "real/layers.rs"]
mod layers;
#[path = "real/lxc.rs"]
mod lxc;
#[path = "real/migration.rs"]
mod migration;
#[cfg(feature = "sftp")]
#[path = "real/notify.rs"]
mod notify;
#[path = "shared/ports.rs"]
mod ports;
#[path = "real/publish/mod.rs"]
mod publish;
#[cfg(feature = "sftp")]
#[path = "real/push/mod.rs"]
mod push;
#[path = "real/races.rs"]
mod races;
#[path = "real/readme.rs"]
mod readme;
#[path = "real/registry.rs"]
mod registry;
#[path = "real/registry_server.rs"]
mod registry_server;
#[cfg(all(feature = "sftp", feature = "git"))]
#[path = "real/release/mod.rs"]
mod release;
#[path = "real/salt.rs"]
mod salt;
#[path = "real/salt_glue.rs"]
mod salt_glue;
#[path = "real/salt_master.rs"]
mod salt_master;
#[path = "real/salt_minion.rs"]
mod salt_minion;
#[path = "real/salt_pillar.rs"]
mod salt_pillar;
#[path = "real/salt_values.rs"]
mod salt_values;
#[path = "real/sandbox.rs"]
mod sandbox;
#[path = "real/sign.rs"]
mod sign;
#[path = "real/space.rs"]
mod space;
#[path = "real/states.rs"]
mod states;
#[path = "real/store.rs"]
mod store;
#[cfg(feature = "sftp")]
#[path = "real/sync/mod.rs"]
mod sync;
#[path = "real/tar.rs"]
mod tar;
#[path = "real/walk.rs"]
mod walk;
#[path = "real/walk_limits.rs"]
mod walk_limits;
#[path = "real/worker.rs"]
mod worker;
