//! HTTP as a client, for whoever sends and whoever fetches: one server, a connection a request, TLS with the machine's
//! authorities or named ones, a password that no message shows, time limits on silence.
//!
//! Knows no WebDAV, no files on the far side and no images; what a status means is its caller's to say.

mod body;
mod client;
mod login;
mod url;

pub use body::{Outgoing, Reader};
pub use client::{Answer, Client, Head};
pub use hyper::header;
pub use hyper::{Method, StatusCode};
pub use login::Login;
pub use url::{Server, Url, in_brackets, percent_decoded};
