//! Tests that need no network, no root and no daemon; one binary, one module a subject.
#![allow(
    missing_docs,
    clippy::pedantic,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "hermetic/acl.rs"]
mod acl;
#[path = "hermetic/aclfile.rs"]
mod aclfile;
#[path = "hermetic/call.rs"]
mod call;
#[path = "hermetic/compare.rs"]
mod compare;
#[path = "hermetic/config.rs"]
mod config;
#[path = "hermetic/daemon/mod.rs"]
mod daemon;
#[cfg(feature = "docker")]
#[path = "hermetic/docker_client.rs"]
mod docker_client;
#[path = "hermetic/doctor.rs"]
mod doctor;
#[path = "hermetic/document.rs"]
mod document;
#[path = "hermetic/forest.rs"]
mod forest;
#[path = "hermetic/forest_doors.rs"]
mod forest_doors;
#[path = "hermetic/idmap.rs"]
mod idmap;
#[path = "hermetic/image_archives.rs"]
mod image_archives;
#[path = "hermetic/image_config.rs"]
mod image_config;
#[path = "hermetic/image_writers.rs"]
mod image_writers;
#[path = "hermetic/images.rs"]
mod images;
#[path = "hermetic/job_faults.rs"]
mod job_faults;
#[path = "hermetic/job_http.rs"]
mod job_http;
#[path = "hermetic/job_laws.rs"]
mod job_laws;
#[path = "hermetic/jobs.rs"]
mod jobs;
#[path = "hermetic/layering.rs"]
mod layering;
#[path = "hermetic/manifest.rs"]
mod manifest;
#[path = "hermetic/merge_model.rs"]
mod merge_model;
#[path = "hermetic/merge_size.rs"]
mod merge_size;
#[path = "hermetic/migration.rs"]
mod migration;
#[path = "hermetic/pillar.rs"]
mod pillar;
#[path = "hermetic/pillar_cache.rs"]
mod pillar_cache;
#[path = "hermetic/pillar_scale.rs"]
mod pillar_scale;
#[path = "hermetic/pillar_sources.rs"]
mod pillar_sources;
#[path = "hermetic/plan.rs"]
mod plan;
#[path = "shared/ports.rs"]
mod ports;
#[path = "hermetic/readme.rs"]
mod readme;
#[path = "hermetic/schedule.rs"]
mod schedule;
#[path = "hermetic/settings/mod.rs"]
mod settings;
#[path = "hermetic/ssh.rs"]
mod ssh;
#[path = "hermetic/store.rs"]
mod store;
#[path = "hermetic/tar/mod.rs"]
mod tar;
#[path = "hermetic/unpack.rs"]
mod unpack;
#[path = "hermetic/vectors.rs"]
mod vectors;
