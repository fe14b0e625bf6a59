//! The operator's ssh configuration: what it says about one host, or an error for what castoff cannot do as it says.
//!
//! Read as ssh reads it: the user's file, then the system's, the first value wins, `Include` in place, `Host` with
//! patterns and negation. A `Match` block that could apply is an error: most criteria depend on what only ssh knows.
//! Which other directives are honoured, passed over or refused stands in [`words`] with the rule behind it.

mod file;
mod lines;
mod tokens;
pub(super) use tokens::usual_known_hosts;
mod words;

use std::path::{Path, PathBuf};

use file::{Item, Owner, Reader};
use lines::{Line, Place};
use words::{Key, Rule};

use super::{Jump, Operator, pattern};
use crate::error::{Error, Kind, Result};

/// Which files are read.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Files {
    /// `~/.ssh/config`, then `/etc/ssh/ssh_config`, as ssh does.
    #[default]
    Usual,
    /// This file alone, as `ssh -F` does.
    Only(PathBuf),
    /// None.
    Nothing,
}

/// What the configuration files hold, read once, asked for any host.
#[derive(Debug)]
pub struct Configuration {
    operator: Operator,
    files: Vec<Vec<Item>>,
}

/// What the configuration says about one host; nothing is filled in that it does not say, bar the host's own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSettings {
    /// The name or address to connect to.
    pub host_name: String,
    /// The port.
    pub port: Option<u16>,
    /// The remote user.
    pub user: Option<String>,
    /// Key files, in the order they are tried.
    pub identity_files: Vec<PathBuf>,
    /// Whether only these keys are offered, not all that the agent holds.
    pub identities_only: bool,
    /// The files with the host keys that are trusted, the user's then the system's; none if it does not say.
    pub known_hosts: Option<Vec<PathBuf>>,
    /// The hosts to go through, nearest first.
    pub jumps: Vec<Jump>,
}

/// Raw values while files are read: the first one wins.
#[derive(Default)]
struct Found {
    host_name: Option<Line>,
    port: Option<Line>,
    user: Option<Line>,
    identity_files: Vec<Line>,
    identities_only: Option<Line>,
    user_known_hosts: Option<Line>,
    global_known_hosts: Option<Line>,
    proxy_jump: Option<Line>,
}

impl Configuration {
    /// Reads the files and all they include.
    pub fn read(operator: &Operator, files: &Files) -> Result<Self> {
        let reader = |owner| Reader { operator, owner };
        let files = match files {
            Files::Nothing => Vec::new(),
            Files::Only(path) => vec![reader(Owner::Named).read(path)?.ok_or_else(|| {
                Error::new(Kind::NotFound, format!("the ssh configuration `{}` does not exist", path.display()))
            })?],
            Files::Usual => {
                let user = reader(Owner::User).read(&operator.home.join(".ssh/config"))?;
                let system = reader(Owner::System).read(Path::new("/etc/ssh/ssh_config"))?;
                user.into_iter().chain(system).collect()
            }
        };
        Ok(Self { operator: operator.clone(), files })
    }

    /// Who asks.
    pub fn operator(&self) -> &Operator {
        &self.operator
    }

    /// What the files say about `host`, named as the operator names it, for a user and port that were given already.
    pub fn of(&self, host: &str, user: Option<&str>, port: Option<u16>) -> Result<HostSettings> {
        let mut found = Found::default();
        for items in &self.files {
            walk(items, host, &mut found)?;
        }
        tokens::settings(&self.operator, host, user, port, &found)
    }
}

fn walk(items: &[Item], host: &str, found: &mut Found) -> Result<()> {
    let mut applies = true;
    for item in items {
        match item {
            Item::Host(patterns) => applies = pattern::fits_list(patterns.iter().map(String::as_str), host),
            Item::Match(line) => applies = match_block(line, host, found)?,
            Item::Include(files) if applies => {
                for items in files {
                    walk(items, host, found)?;
                }
            }
            Item::Directive(line) if applies => directive(line, host, found)?,
            Item::Include(_) | Item::Directive(_) => {}
        }
    }
    Ok(())
}

/// False for a `Match` block that surely does not apply; an error for every other.
fn match_block(line: &Line, host: &str, found: &Found) -> Result<bool> {
    let current = found.host_name.as_ref().map_or(host, |line| line.words[0].as_str());
    let mut words = line.words.iter();
    while let Some(word) = words.next() {
        let (name, given) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word.as_str(), None),
        };
        let text = match name.to_ascii_lowercase().as_str() {
            "all" | "canonical" | "final" | "!canonical" | "!final" => continue,
            "originalhost" => host,
            // Tokens in HostName are not worked out yet: such a name may fit anything.
            "host" if !current.contains('%') => current,
            _ => {
                let _value = given.or_else(|| words.next().map(String::as_str));
                continue;
            }
        };
        let Some(patterns) = given.or_else(|| words.next().map(String::as_str)) else { continue };
        if !pattern::fits_list(patterns.split(','), text) {
            return Ok(false);
        }
    }
    Err(line
        .place
        .wrong(format_args!("a `Match` block that may apply to `{host}` is not something castoff can judge"))
        .hint("say it with `Host`, or name another ssh configuration for this target"))
}

fn directive(line: &Line, host: &str, found: &mut Found) -> Result<()> {
    let first = |slot: &mut Option<Line>| {
        if slot.is_none() {
            *slot = Some(line.clone());
        }
    };
    match words::rule(&line.keyword) {
        Rule::Honoured(key) => match key {
            Key::HostName => first(&mut found.host_name),
            Key::Port => first(&mut found.port),
            Key::User => first(&mut found.user),
            Key::IdentityFile => found.identity_files.push(line.clone()),
            Key::IdentitiesOnly => first(&mut found.identities_only),
            Key::UserKnownHostsFile => first(&mut found.user_known_hosts),
            Key::GlobalKnownHostsFile => first(&mut found.global_known_hosts),
            Key::ProxyJump => first(&mut found.proxy_jump),
        },
        Rule::PassedOver => tracing::debug!(host, "{}: `{}` changes nothing here", line.place, line.written),
        Rule::AsAlways(values) if values.contains(&line.words[0].to_ascii_lowercase().as_str()) => {}
        Rule::AsAlways(values) => {
            return Err(refused(line, host, &format!("only `{}` can be had", values.join("` or `"))));
        }
        Rule::Refused => return Err(refused(line, host, "it is not ignored, since it may matter")),
    }
    Ok(())
}

fn refused(line: &Line, host: &str, why: &str) -> Error {
    line.place
        .wrong(format_args!(
            "castoff cannot do `{} {}`, which applies to `{host}`: {why}",
            line.written,
            line.words.join(" ")
        ))
        .hint("limit the directive to other hosts with `Host`, or name another ssh configuration for this target")
}

fn one_word<'a>(line: &'a Line, what: &str) -> Result<&'a str> {
    match line.words.as_slice() {
        [word] => Ok(word),
        _ => Err(line.place.wrong(format_args!("`{}` takes {what}", line.written))),
    }
}

fn port_number(text: &str, place: &Place) -> Result<u16> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| place.wrong(format_args!("`{text}` is not a port")))
}
