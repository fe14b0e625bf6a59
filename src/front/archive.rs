//! Where the packages of a suite come from: told by the user, else as this host's own apt has it.
//!
//! What is made of a bare suite is what mmdebstrap makes of it: component `main`, with updates and security for suites
//! that have them. The mirror is the host's own, so that a machine that fetches from near by goes on doing so.

use crate::error::{Error, Kind, Result};
use crate::plan::{PackageName, Sources};

/// A suite and where its packages come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// The suite.
    pub suite: String,
    /// Where packages come from.
    pub sources: Sources,
    /// Whose suite it is.
    pub family: Family,
}

/// A distribution with the formats of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Debian.
    Debian,
    /// Ubuntu.
    Ubuntu,
}

/// Suites that have neither updates nor security beside them.
const ROLLING: &[&str] = &["experimental", "rc-buggy", "sid", "testing", "unstable"];
const DEBIAN: &[&str] = &["bookworm", "bullseye", "duke", "forky", "oldoldstable", "oldstable", "stable", "trixie"];
const UBUNTU: &[&str] = &[
    "bionic", "devel", "focal", "jammy", "noble", "oracular", "plucky", "questing", "resolute", "trusty", "vivid",
    "xenial",
];

impl Archive {
    /// The package of the kernel for this architecture; none where there is none under one name.
    pub fn kernel(&self, architecture: &str) -> Option<PackageName> {
        match self.family {
            Family::Debian => format!("linux-image-{architecture}").parse().ok(),
            Family::Ubuntu => "linux-image-generic".parse().ok(),
        }
    }
}

/// The archive that `SUITE`, `SUITE MIRROR..` or `SUITE deb LINE` means. `host` are the texts of this host's own
/// `sources.list` and of the files beside it, by name.
pub fn archive(wanted: &str, host: &[(String, String)]) -> Result<Archive> {
    let mut words = wanted.split_ascii_whitespace();
    let suite = words.next().unwrap_or_default();
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if suite.is_empty() || !suite.bytes().all(is_fine) || !suite.as_bytes()[0].is_ascii_alphanumeric() {
        return Err(wrong(wanted, "it does not begin with the name of a suite"));
    }
    let told: Vec<&str> = words.collect();
    let family = if UBUNTU.contains(&suite) { Family::Ubuntu } else { Family::Debian };
    let lines = match told.as_slice() {
        [] => of_host(suite, family, host)?,
        ["deb", ..] => vec![line(wanted, &told)?],
        mirrors => mirrors.iter().map(|mirror| of_mirror(wanted, mirror, suite)).collect::<Result<_>>()?,
    };
    let content = lines.join("\n") + "\n";
    let sources = Sources { files: vec![("sources.list".to_owned(), content)] };
    Ok(Archive { suite: suite.to_owned(), sources, family })
}

/// The archive of a suite that the operator has written down, as lines of `sources.list`.
pub fn of_lines(suite: &str, lines: &[&str]) -> Result<Archive> {
    let family = if UBUNTU.contains(&suite) { Family::Ubuntu } else { Family::Debian };
    let mut content = String::new();
    for told in lines.iter().map(|line| line.trim()).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = told.split_ascii_whitespace().collect();
        if words.first() != Some(&"deb") {
            return Err(wrong(told, "it does not begin with `deb`"));
        }
        content.push_str(&line(told, &words)?);
        content.push('\n');
    }
    if content.is_empty() {
        return Err(wrong(suite, "no line is given for it"));
    }
    let sources = Sources { files: vec![("sources.list".to_owned(), content)] };
    Ok(Archive { suite: suite.to_owned(), sources, family })
}

fn wrong(wanted: &str, why: &str) -> Error {
    Error::new(Kind::Usage, format!("`{}` says no archive of packages: {why}", wanted.escape_debug()))
        .hint("write `SUITE`, `SUITE MIRROR`, or `SUITE deb MIRROR SUITE COMPONENT..`")
}

fn of_mirror(wanted: &str, mirror: &str, suite: &str) -> Result<String> {
    check_address(wanted, mirror)?;
    Ok(format!("deb {mirror} {suite} main"))
}

/// An address apt fetches from; what it could take for anything else is refused.
fn check_address(wanted: &str, address: &str) -> Result<()> {
    let scheme = address.split_once(':').map_or("", |(scheme, _)| scheme);
    let is_known = ["copy", "file", "ftp", "http", "https"].contains(&scheme);
    if !is_known || address.contains(['[', ']', '#', '"', '\\']) || address.chars().any(char::is_control) {
        return Err(wrong(wanted, &format!("`{}` is no mirror", address.escape_debug())));
    }
    Ok(())
}

/// A whole line of `sources.list`.
fn line(wanted: &str, words: &[&str]) -> Result<String> {
    let rest = match words.get(1) {
        // Options may hold blanks: they end with the word that ends with `]`.
        Some(word) if word.starts_with('[') => {
            let end = words.iter().position(|word| word.ends_with(']'));
            &words[end.ok_or_else(|| wrong(wanted, "its options have no end"))? + 1..]
        }
        _ => &words[1..],
    };
    let [address, _, _, ..] = rest else {
        return Err(wrong(wanted, "a line has a mirror, a suite and components"));
    };
    check_address(wanted, address)?;
    Ok(words.join(" "))
}

/// One source of the host: an address and a suite of it.
struct Source {
    address: String,
    suite: String,
}

fn of_host(suite: &str, family: Family, host: &[(String, String)]) -> Result<Vec<String>> {
    let sources: Vec<Source> = host.iter().flat_map(|(name, text)| sources_of(name, text)).collect();
    let own = match family {
        Family::Debian => [DEBIAN, ROLLING].concat(),
        Family::Ubuntu => UBUNTU.to_vec(),
    };
    let is_own = |suite: &str| own.contains(&suite);
    let find = |is_suite: &dyn Fn(&str) -> bool| {
        sources.iter().find(|source| is_suite(&source.suite)).map(|source| source.address.as_str())
    };
    let unknown = || {
        Error::new(Kind::NotFound, format!("nobody says where the archive of `{suite}` is: this host's apt has none"))
            .hint(format!("name its mirror behind it: `{suite} MIRROR`"))
    };
    if !is_own(suite) {
        return Err(unknown());
    }
    let main = find(&is_own).ok_or_else(unknown)?;
    let mut lines = vec![format!("deb {main} {suite} main")];
    if !ROLLING.contains(&suite) {
        lines.push(format!("deb {main} {suite}-updates main"));
        let security = |suite: &str| suite.strip_suffix("-security").is_some_and(is_own);
        if let Some(security) = find(&security) {
            lines.push(format!("deb {security} {suite}-security main"));
        }
    }
    Ok(lines)
}

/// The sources in a file of apt, in one-line style or in deb822 style; what is no source is passed over, as apt itself
/// would have told.
fn sources_of(name: &str, text: &str) -> Vec<Source> {
    if name.ends_with(".sources") { stanzas(text) } else { text.lines().filter_map(one_line).collect() }
}

fn one_line(line: &str) -> Option<Source> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let rest = if rest.starts_with('[') { rest.split_once(']')?.1 } else { rest };
    let mut words = rest.split_ascii_whitespace();
    let (address, suite) = (words.next()?, words.next()?);
    words.any(|word| word == "main").then(|| Source { address: address.to_owned(), suite: suite.to_owned() })
}

fn stanzas(text: &str) -> Vec<Source> {
    let text: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let mut sources = Vec::new();
    for stanza in text.split(|line| line.trim().is_empty()) {
        let values = |field: &str| values(stanza, field);
        let disabled = values("Enabled").iter().any(|word| ["no", "false", "off", "0"].contains(word));
        if disabled || !values("Types").contains(&"deb") || !values("Components").contains(&"main") {
            continue;
        }
        for address in values("URIs").into_iter().take(1) {
            let suites = values("Suites").into_iter();
            sources.extend(suites.map(|suite| Source { address: address.to_owned(), suite: suite.to_owned() }));
        }
    }
    sources
}

/// The words of a field, continuation lines included.
fn values<'a>(stanza: &[&'a str], field: &str) -> Vec<&'a str> {
    let is_field = |line: &&str| {
        line.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case(field) && !name.starts_with([' ', '\t']))
    };
    let Some(at) = stanza.iter().position(is_field) else { return Vec::new() };
    let first = stanza[at].split_once(':').map_or("", |(_, value)| value);
    let more = stanza[at + 1..].iter().take_while(|line| line.starts_with([' ', '\t']));
    [first].into_iter().chain(more.copied()).flat_map(str::split_ascii_whitespace).collect()
}
