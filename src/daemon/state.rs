//! What a reload replaces as a whole: configuration, access rules, TLS. A request keeps the state it began with.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;

use super::access::Access;
use super::webhook::Receiver;
use crate::config::{Config, Overrides};
use crate::error::{Context as _, Error, Kind, Result};
use crate::function::check_schedules;
use crate::host;
use crate::settings::Service;

/// An access file is small.
const MOST_BYTES: u64 = 4 << 20;

/// Configuration and what was made of it.
pub(super) struct State {
    pub(super) config: Arc<Config>,
    pub(super) access: Access,
    pub(super) tls: Option<TlsAcceptor>,
    pub(super) settings: Arc<Service>,
}

impl State {
    /// The state that files, environment and flags ask for now.
    ///
    /// Settings outlive a reload that does not concern them, and with them the last good answers.
    pub(super) fn load(overrides: &Overrides, before: Option<&Self>) -> Result<Self> {
        let config = Arc::new(Config::load(overrides)?);
        check_schedules(&config)?;
        Receiver::of(&config)?;
        let same = |before: &&Self| before.config.has_settings_of(&config);
        let settings =
            before.filter(same).map_or_else(|| Service::open(&config), |before| Arc::clone(&before.settings));
        let access = match &config.daemon.access_file {
            None => Access::default(),
            Some(path) => access(path)?,
        };
        let tls = super::tls::acceptor(&config.daemon)?;
        let state = Self { config, access, tls, settings };
        if let Some(address) = state.config.daemon.listen {
            state.may_listen(address)?;
        }
        Ok(state)
    }

    /// Refuses an address where strangers could come in, or could listen in.
    pub(super) fn may_listen(&self, address: SocketAddr) -> Result<()> {
        let safe = self.tls.is_some() && self.access.knows_anybody();
        if safe || address.ip().to_canonical().is_loopback() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Refused,
            format!("the daemon does not listen at {address} without TLS and authentication"),
        )
        .hint("set `tls_cert` and `tls_key`, and `access_file` with tokens or client names; or listen at 127.0.0.1"))
    }
}

/// The access file, which is nobody's business but its owner's.
fn access(path: &Path) -> Result<Access> {
    let shown = path.display();
    host::fs::require_private(path)?;
    let text = String::from_utf8(host::fs::read_at_most(path, MOST_BYTES)?)
        .map_err(|error| Error::new(Kind::Usage, format!("access file `{shown}` is not UTF-8")).caused_by(error))?;
    Access::parse(&text, &shown.to_string()).context(|| "cannot use `access_file`")
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("State")
    }
}
