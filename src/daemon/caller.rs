//! Who asks: the kernel's word on a unix socket, a token or a certificate on TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::scopes::Scopes;
use crate::config::Config;
use crate::error::{Context as _, Error, Kind, Result};

/// The group whose members may call what changes nothing.
const READERS: &str = "castoff";

/// The group whose members may call everything.
const ADMINS: &str = "castoff-admin";

/// The other end of a connection.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// A process of this host, by its effective ids when it connected.
    Process {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A machine, by address; `names` are the DNS names of the client certificate it proved to hold.
    Machine {
        /// Its address.
        address: SocketAddr,
        /// The names.
        names: Vec<String>,
    },
}

impl Peer {
    /// What connections are counted by, so that one peer's do not crowd out another's.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Process { uid, .. } => format!("uid {uid}"),
            Self::Machine { address, .. } => address.ip().to_string(),
        }
    }
}

/// Who makes a request.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    /// Nobody known: TCP without token or certificate.
    Anonymous,
    /// A user of this host.
    User(User),
    /// The holder of a token.
    Token {
        /// The token's name.
        name: String,
        /// What it allows.
        scopes: Scopes,
    },
    /// The holder of a client certificate.
    Certificate {
        /// The name in it.
        name: String,
        /// What it allows.
        scopes: Scopes,
    },
}

/// A user of this host.
#[derive(Clone, Debug)]
pub(super) struct User {
    /// The number.
    pub(super) uid: u32,
    /// The name, if the number has one.
    pub(super) name: Option<String>,
    /// What groups this user is in, as far as it matters here.
    pub(super) rank: Rank,
}

/// What a user may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rank {
    /// Everything.
    Admin,
    /// What changes nothing.
    Member,
    /// Nothing.
    Stranger,
}

impl Caller {
    /// The caller in the words of the log and of job records.
    pub(super) fn who(&self) -> String {
        match self {
            Self::Anonymous => "nobody".to_owned(),
            Self::User(User { uid, name: Some(name), .. }) => format!("user {name} (uid {uid})"),
            Self::User(User { uid, name: None, .. }) => format!("uid {uid}"),
            Self::Token { name, .. } => format!("token {name}"),
            Self::Certificate { name, .. } => format!("certificate {name}"),
        }
    }
}

/// How long an answer of the name services is believed; who is thrown out of a group is so after this long.
const BELIEVED: Duration = Duration::from_secs(10);

/// How long the name services may think.
const PATIENCE: Duration = Duration::from_secs(5);

/// Users that asked lately, with their ranks.
#[derive(Debug)]
pub(super) struct Users {
    known: moka::sync::Cache<(u32, u32), Arc<Caller>>,
    lookups: Arc<Semaphore>,
}

impl Users {
    /// Nobody known yet.
    pub(super) fn new() -> Self {
        let known = moka::sync::Cache::builder().max_capacity(4096).time_to_live(BELIEVED).build();
        Self { known, lookups: Arc::new(Semaphore::new(4)) }
    }

    /// The user behind these ids. Name services may hang, so they are asked on a blocking thread and not for ever.
    pub(super) async fn caller(&self, uid: u32, gid: u32, config: &Arc<Config>) -> Result<Arc<Caller>> {
        if let Some(caller) = self.known.get(&(uid, gid)) {
            return Ok(caller);
        }
        let slow = || Error::new(Kind::Unavailable, format!("the name services do not say who uid {uid} is"));
        let config = Arc::clone(config);
        let lookup = async {
            let permit = Arc::clone(&self.lookups).acquire_owned().await.map_err(|error| slow().caused_by(error))?;
            let found = tokio::task::spawn_blocking(move || {
                let _permit = permit;
                user(uid, gid, config.daemon.salt_group.as_deref())
            });
            found.await.map_err(|error| slow().caused_by(error))?
        };
        let user = tokio::time::timeout(PATIENCE, lookup).await.map_err(|_| slow())??;
        let caller = Arc::new(Caller::User(user));
        self.known.insert((uid, gid), Arc::clone(&caller));
        Ok(caller)
    }

    /// Forgets everybody, for a configuration that may judge differently.
    pub(super) fn forget(&self) {
        self.known.invalidate_all();
    }
}

/// The user's name and rank.
fn user(uid: u32, gid: u32, salt_group: Option<&str>) -> Result<User> {
    if uid == 0 {
        return Ok(User { uid, name: Some("root".to_owned()), rank: Rank::Admin });
    }
    let account = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid))
        .map_err(std::io::Error::from)
        .context(|| format!("cannot look up uid {uid}"))?;
    let mut groups = vec![gid];
    if let Some(account) = &account {
        let name = std::ffi::CString::new(account.name.as_bytes())
            .map_err(|error| Error::new(Kind::Corrupt, format!("uid {uid} has an odd name")).caused_by(error))?;
        let found = nix::unistd::getgrouplist(&name, account.gid)
            .map_err(std::io::Error::from)
            .context(|| format!("cannot look up the groups of `{}`", account.name))?;
        groups.extend(found.into_iter().map(nix::unistd::Gid::as_raw));
    }
    let is_in = |name: &str| -> Result<bool> {
        let group = nix::unistd::Group::from_name(name)
            .map_err(std::io::Error::from)
            .context(|| format!("cannot look up group `{name}`"))?;
        Ok(group.is_some_and(|group| groups.contains(&group.gid.as_raw())))
    };
    let rank = if uid == rustix::process::geteuid().as_raw() || is_in(ADMINS)? {
        Rank::Admin
    } else if is_in(READERS)? || salt_group.map_or(Ok(false), is_in)? {
        Rank::Member
    } else {
        Rank::Stranger
    };
    Ok(User { uid, name: account.map(|account| account.name), rank })
}
