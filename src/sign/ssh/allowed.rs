//! The file of allowed signers (ssh-keygen(1), ALLOWED SIGNERS): which key may sign as whom, for what, and when.
//!
//! Read as OpenSSH reads it, with three things refused instead of guessed: certificate authorities, times without `Z` (they
//! would depend on this host's time zone), and a line that is not understood, which OpenSSH skips.

use ssh_key::{HashAlg, PublicKey};

use super::NAMESPACE;
use super::pattern::matches_list;
use crate::error::{Error, Kind, Result};
use crate::vocab::{parse_timestamp, timestamp};

/// The keys that may sign, as one file lists them.
#[derive(Clone, Debug)]
pub struct AllowedSigners {
    name: String,
    lines: Vec<Line>,
}

#[derive(Clone, Debug)]
struct Line {
    principals: String,
    options: Options,
    key: PublicKey,
}

#[derive(Clone, Debug, Default)]
struct Options {
    namespaces: Option<String>,
    after: Option<u64>,
    before: Option<u64>,
}

impl AllowedSigners {
    /// The lines of a file; `name` names it in errors.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            lines.push(Line::parse(line).map_err(|problem| {
                Error::new(problem.kind, format!("`{name}` line {}: {}", at + 1, problem.what)).hint(problem.hint)
            })?);
        }
        Ok(Self { name: name.to_owned(), lines })
    }

    /// Fails with the reason unless the key may sign as the principal, for castoff's releases, at that moment.
    pub(super) fn check(&self, key: &PublicKey, principal: &str, at: u64) -> Result<()> {
        let mut reason = None;
        for line in self.lines.iter().filter(|line| line.key.key_data() == key.key_data()) {
            match line.objection(principal, at) {
                None => return Ok(()),
                // The objection that comes last in the order of the checks is the nearest to a yes.
                Some(objection) => reason = reason.max(Some(objection)),
            }
        }
        let fingerprint = key.fingerprint(HashAlg::Sha256);
        let why = match reason {
            None => "does not list it".to_owned(),
            Some(Objection::Principal) => format!("does not list it for `{}`", principal.escape_debug()),
            Some(Objection::Namespace) => format!("does not list it for the namespace `{NAMESPACE}`"),
            Some(Objection::NotYet(after)) => format!("lists it from {} on", shown(after)),
            Some(Objection::Expired(before)) => format!("lists it until {}", shown(before)),
        };
        Err(Error::new(Kind::Refused, format!("the signature is by the key {fingerprint}: `{}` {why}", self.name))
            .hint("add or correct the key's line there if you trust it, or have it signed by another"))
    }
}

fn shown(seconds: u64) -> String {
    timestamp(seconds.try_into().unwrap_or(i64::MAX), 0)
}

/// Why a line does not allow a signature, in the order of the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Objection {
    Principal,
    Namespace,
    NotYet(u64),
    Expired(u64),
}

struct Problem {
    kind: Kind,
    what: String,
    hint: &'static str,
}

impl Problem {
    fn new(what: impl Into<String>) -> Self {
        Self {
            kind: Kind::Usage,
            what: what.into(),
            hint: "a line is `PRINCIPALS [OPTIONS] KEYTYPE BASE64`, see ALLOWED SIGNERS in ssh-keygen(1)",
        }
    }
}

impl Line {
    fn objection(&self, principal: &str, at: u64) -> Option<Objection> {
        let Options { namespaces, after, before } = &self.options;
        if !matches_list(principal, &self.principals) {
            return Some(Objection::Principal);
        }
        if namespaces.as_ref().is_some_and(|namespaces| !matches_list(NAMESPACE, namespaces)) {
            return Some(Objection::Namespace);
        }
        match (after, before) {
            (Some(after), _) if at < *after => Some(Objection::NotYet(*after)),
            (_, Some(before)) if at > *before => Some(Objection::Expired(*before)),
            _ => None,
        }
    }

    fn parse(line: &str) -> Result<Self, Problem> {
        let (principals, rest) = word(line)?;
        let rest = rest.trim_start();
        // A key's algorithm has neither `=` nor `"`; what it is not is an option.
        if let Ok(key) = PublicKey::from_openssh(rest) {
            return Ok(Self { principals, options: Options::default(), key });
        }
        let (options, key) = split_options(rest)?;
        let options = Options::parse(options)?;
        let key = PublicKey::from_openssh(key.trim())
            .map_err(|error| Problem::new(format!("there is no public key ({error})")))?;
        Ok(Self { principals, options, key })
    }
}

/// The first word, with or without quotes, and the rest.
fn word(line: &str) -> Result<(String, &str), Problem> {
    let (word, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or_else(|| Problem::new("a quote is not closed"))?,
        None => line.split_once([' ', '\t']).ok_or_else(|| Problem::new("there is no public key"))?,
    };
    if word.is_empty() {
        return Err(Problem::new("there is no principal"));
    }
    Ok((word.to_owned(), rest))
}

/// The options up to the first white space outside of quotes, and the rest.
fn split_options(text: &str) -> Result<(&str, &str), Problem> {
    let mut quoted = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => return Ok(text.split_at(at)),
            _ => {}
        }
    }
    Err(Problem::new(if quoted { "a quote is not closed" } else { "there is no public key" }))
}

impl Options {
    fn parse(text: &str) -> Result<Self, Problem> {
        let mut options = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (name, value, after) = option(rest)?;
            rest = after;
            let moment = || value.as_deref().ok_or(()).and_then(moment).map_err(|()| bad_moment(&name));
            let is_new = match (name.as_str(), &value) {
                ("cert-authority", None) => return Err(certificate_authority()),
                ("namespaces", Some(value)) => options.namespaces.replace(value.clone()).is_none(),
                ("valid-after", _) => options.after.replace(moment()?).is_none(),
                ("valid-before", _) => options.before.replace(moment()?).is_none(),
                _ => return Err(Problem::new(format!("the option `{}` is not known", name.escape_debug()))),
            };
            if !is_new {
                return Err(Problem::new(format!("the option `{name}` stands twice")));
            }
        }
        match (options.after, options.before) {
            (Some(after), Some(before)) if before <= after => {
                Err(Problem::new("the key becomes invalid before it becomes valid"))
            }
            _ => Ok(options),
        }
    }
}

/// The first option in lower case, its value without quotes, and what follows the comma.
fn option(text: &str) -> Result<(String, Option<String>, &str), Problem> {
    let end = text.find([',', '=']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let (value, rest) = match rest.strip_prefix("=\"") {
        Some(quoted) => {
            let (value, rest) = quoted.split_once('"').ok_or_else(|| Problem::new("a quote is not closed"))?;
            (Some(value.to_owned()), rest)
        }
        None if rest.starts_with('=') => return Err(Problem::new(format!("the value of `{name}` is not quoted"))),
        None => (None, rest),
    };
    let rest = match rest.strip_prefix(',') {
        Some(rest) if !rest.is_empty() => rest,
        None if rest.is_empty() => rest,
        _ => return Err(Problem::new("the options do not end where the key begins")),
    };
    Ok((name.to_ascii_lowercase(), value, rest))
}

/// `YYYYMMDDZ`, `YYYYMMDDHHMMZ` or `YYYYMMDDHHMMSSZ`.
fn moment(text: &str) -> Result<u64, ()> {
    let digits = text.strip_suffix(['Z', 'z']).ok_or(())?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) || !matches!(digits.len(), 8 | 12 | 14) {
        return Err(());
    }
    let full = format!("{digits:0<14}");
    let written =
        format!("{}-{}-{}T{}:{}:{}Z", &full[..4], &full[4..6], &full[6..8], &full[8..10], &full[10..12], &full[12..]);
    parse_timestamp(&written).and_then(|seconds| u64::try_from(seconds).ok()).ok_or(())
}

fn bad_moment(name: &str) -> Problem {
    Problem {
        hint: "write it in UTC with a `Z` at its end: `20261121Z`, `202611210136Z` or `20261121013600Z`; without the \
               `Z` it would mean another moment on a host in another time zone",
        ..Problem::new(format!("the value of `{name}` is not a moment in UTC"))
    }
}

fn certificate_authority() -> Problem {
    Problem {
        kind: Kind::Unsupported,
        what: "`cert-authority` is not supported".to_owned(),
        hint: "list the signing keys themselves",
    }
}

#[cfg(test)]
mod tests {
    use super::moment;

    /// Expected values from `date -u -d TEXT +%s`.
    #[test]
    fn moments_are_in_utc() {
        for (text, expected) in [
            ("19700102Z", Some(86_400)),
            ("20261121Z", Some(1_795_219_200)),
            ("202611210136Z", Some(1_795_224_960)),
            ("20261121013607Z", Some(1_795_224_967)),
            ("20261121", None),
            ("20261321Z", None),
            ("2026112101Z", None),
            ("20261121 136Z", None),
            ("Z", None),
        ] {
            assert_eq!(moment(text).ok(), expected, "{text}");
        }
    }
}
