//! `castoff daemon`: the functions and the pillar over HTTP, on a unix socket and, if configured, on TCP.
//!
//! Translates and calls; no rules of the domain. What it owns: sockets, connections and their limits, who a caller is
//! and what that caller may do, request ids, the log of changing calls, metrics, the orderly end.
//!
//! ```text
//! socket, activation   listeners: our own, or systemd's         stream, connection   one connection, its limits
//! server, state, tls   accept, drain; reload                    caller, access       who asks; what who may do
//! routes, request      path to handler, from head to answer     call, pillar, …      the handlers
//! schedules, images    what is due, tick by tick; what the disk tells
//! shared               what every handler has at hand           calls, pillars, queue  limits, threads, jobs behind it
//! ```
//!
//! Threads: the async ones never touch files, name services or functions; all of that runs on blocking threads behind
//! limits, so that a hung file system takes neither `/healthz` nor another caller with it.

mod access;
mod activation;
mod answer;
mod body;
mod call;
mod caller;
mod calls;
mod connection;
mod connections;
mod functions;
mod health;
mod images;
mod job_events;
mod jobs;
mod logs;
mod metrics;
mod notify;
mod openapi;
mod pillar;
mod pillars;
mod queue;
mod request;
mod routes;
mod schedules;
mod scopes;
mod server;
mod shared;
mod socket;
mod state;
mod stream;
mod timetable;
mod tls;
mod webhook;

pub use server::run;
