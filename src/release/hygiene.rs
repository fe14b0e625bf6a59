//! What must not be released: keys and identities of one machine, and files that newly gain privileges.
//!
//! Looks at what goes into the archive, after the impersonation script. Every finding has a kind and a path; it is
//! allowed by the kind's name (`host-keys`), by kind and pattern (`authorized-keys:root/.ssh/*`), or fails the release.

use std::collections::{BTreeMap, BTreeSet};

use super::chosen::Chosen;
use super::pattern::Pattern;
use super::tree::{Item, Tree};
use crate::error::{Error, Kind, Result};
use crate::rootfs::{Entry, EntryKind, XATTR_CAPABILITY, shown};
use crate::vocab::{Value, nearest};

/// The most findings that an error names.
const NAMED: usize = 20;

/// What kind of thing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// A host key of an SSH server.
    HostKey,
    /// A machine id that is set.
    MachineId,
    /// Keys that let somebody in.
    AuthorizedKeys,
    /// Keys of a Salt minion or master.
    SaltKey,
    /// A file with setuid, setgid or capabilities that the last release did not have.
    NewPrivilege,
    /// A file that goes in although another name of it is left out.
    LeftOut,
}

const KINDS: [What; 6] =
    [What::HostKey, What::MachineId, What::AuthorizedKeys, What::SaltKey, What::NewPrivilege, What::LeftOut];

impl What {
    /// The name by which it is allowed.
    pub fn word(self) -> &'static str {
        match self {
            Self::HostKey => "host-keys",
            Self::MachineId => "machine-id",
            Self::AuthorizedKeys => "authorized-keys",
            Self::SaltKey => "salt-keys",
            Self::NewPrivilege => "new-privileged",
            Self::LeftOut => "left-out",
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::HostKey => "a key of an SSH server",
            Self::MachineId => "the id of one machine",
            Self::AuthorizedKeys => "keys that let somebody in",
            Self::SaltKey => "a key of Salt",
            Self::NewPrivilege => "gains privileges, and was not in the last release",
            Self::LeftOut => "another name of a file that is left out",
        }
    }
}

/// Where each kind is looked for, from the root filesystem on, through the tree's own links.
const PLACES: &[(What, &[&str])] = &[
    (
        What::HostKey,
        &["**/ssh_host_*_key", "etc/ssh/ssh_host_*_key", "etc/dropbear/*_host_key", "**/dropbear_*_host_key"],
    ),
    (What::MachineId, &["etc/machine-id", "var/lib/dbus/machine-id"]),
    (
        What::AuthorizedKeys,
        &[
            "**/.ssh/authorized_keys*",
            "root/.ssh/authorized_keys*",
            "home/*/.ssh/authorized_keys*",
            "etc/ssh/authorized_keys*/**",
        ],
    ),
    (What::SaltKey, &["etc/*salt*/pki/**", "**/salt/pki/**", "**/minion.pem", "**/master.pem", "**/syndic_master.pem"]),
];

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What it is.
    pub what: What,
    /// Its path in the archive.
    pub path: Vec<u8>,
    /// More about it.
    pub more: String,
    /// Whether it was allowed by name.
    pub allowed: bool,
}

impl Finding {
    /// One line: `host-keys: rootfs/etc/ssh/ssh_host_rsa_key: a key of an SSH server`.
    pub fn line(&self) -> String {
        let more = if self.more.is_empty() { String::new() } else { format!(" ({})", self.more) };
        format!("{}: {}: {}{more}", self.what.word(), shown(&self.path), self.what.about())
    }
}

/// What is allowed by name.
#[derive(Clone, Debug, Default)]
pub struct Allowed(Vec<(What, Option<Pattern>)>);

impl Allowed {
    /// `KIND` or `KIND:PATTERN` each; patterns are of paths in the archive.
    pub fn parse(words: &[String]) -> Result<Self> {
        let mut allowed = Vec::new();
        for word in words {
            let (kind, pattern) = match word.split_once(':') {
                Some((kind, pattern)) => (kind, Some(Pattern::parse(pattern)?)),
                None => (word.as_str(), None),
            };
            let what = KINDS.into_iter().find(|what| what.word() == kind).ok_or_else(|| {
                let known = KINDS.map(What::word);
                let near = nearest(kind, known.iter().copied());
                let hint = match near.as_slice() {
                    [] => format!("it may be `{}`, or one of these with `:PATTERN`", known.join("`, `")),
                    near => format!("did you mean `{}`?", near.join("` or `")),
                };
                Error::new(Kind::Usage, format!("`{}` is nothing that could be allowed", kind.escape_debug()))
                    .hint(hint)
            })?;
            allowed.push((what, pattern));
        }
        Ok(Self(allowed))
    }
}

/// What the check found.
#[derive(Clone, Debug, Default)]
pub struct Hygiene {
    /// Everything found, allowed or not, by kind and path.
    pub findings: Vec<Finding>,
    /// Every file with setuid, setgid or capabilities: what the next release is compared with.
    pub privileged: BTreeSet<Vec<u8>>,
    /// Whether there was a list of an earlier release to compare with.
    pub compared: bool,
}

impl Hygiene {
    /// Looks through what goes in. `last` is the list of the last release's privileged files; none: there is none, and
    /// nothing counts as new.
    pub fn check(tree: &Tree, chosen: &Chosen, last: Option<&BTreeSet<Vec<u8>>>, allowed: &Allowed) -> Result<Self> {
        let mut hygiene = Self { compared: last.is_some(), ..Self::default() };
        let mut found: BTreeSet<(What, Vec<u8>, String)> = BTreeSet::new();
        let going_in: BTreeMap<Vec<u8>, Item> =
            chosen.picks.iter().map(|pick| (tree.entry(pick.item).path, pick.inode)).collect();
        let names = tree.names();
        let from = names.find(tree.root().prefix()).unwrap_or(0);
        for (what, patterns) in PLACES {
            for pattern in *patterns {
                let pattern = Pattern::parse(pattern)?;
                for path in names.expand_through_links(&pattern, from).found.into_iter().map(|node| names.path(node)) {
                    if let Some(item) = going_in.get(&path)
                        && is_one(*what, tree, *item)?
                    {
                        found.insert((*what, path, String::new()));
                    }
                }
            }
        }
        for (path, item) in &going_in {
            let entry = tree.entry(*item);
            if let Some(how) = privilege(&entry) {
                hygiene.privileged.insert(path.clone());
                if last.is_some_and(|last| !last.contains(path)) {
                    found.insert((What::NewPrivilege, path.clone(), how));
                }
            }
        }
        for (path, hidden) in &chosen.escaped {
            found.insert((What::LeftOut, path.clone(), format!("`{}`", shown(hidden))));
        }
        let allowing: Vec<(What, Option<BTreeSet<Vec<u8>>>)> = allowed
            .0
            .iter()
            .map(|(what, pattern)| {
                let paths = pattern
                    .as_ref()
                    .map(|pattern| names.expand(pattern, 0).found.into_iter().map(|node| names.path(node)).collect());
                (*what, paths)
            })
            .collect();
        hygiene.findings = found
            .into_iter()
            .map(|(what, path, more)| {
                let allows = |(kind, paths): &(What, Option<BTreeSet<Vec<u8>>>)| {
                    *kind == what && paths.as_ref().is_none_or(|paths| is_covered(paths, &path))
                };
                Finding { what, allowed: allowing.iter().any(allows), path, more }
            })
            .collect();
        Ok(hygiene)
    }

    /// Fails the release for what was not allowed.
    pub fn refuse(&self) -> Result<()> {
        let refused: Vec<&Finding> = self.findings.iter().filter(|finding| !finding.allowed).collect();
        if refused.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = refused.iter().take(NAMED).map(|finding| finding.line()).collect();
        if refused.len() > NAMED {
            lines.push(format!("and {} more", refused.len() - NAMED));
        }
        let kinds: BTreeSet<&str> = refused.iter().map(|finding| finding.what.word()).collect();
        let kinds: Vec<&str> = kinds.into_iter().collect();
        Err(Error::new(Kind::Refused, format!("the image holds what must not be released: {} findings", refused.len()))
            .caused_by(lines.join("\n"))
            .hint(format!(
                "remove them (the image's own {} is for that), or allow them by name: allow={}",
                super::snapshot::SCRIPT,
                kinds.join(",")
            )))
    }

    /// What was found, and the list of files that gain privileges.
    pub fn to_value(&self) -> Value {
        let of = |allowed: bool| {
            Value::list(self.findings.iter().filter(|finding| finding.allowed == allowed).map(Finding::line))
        };
        Value::map([
            ("refused", of(false)),
            ("allowed", of(true)),
            ("privileged", Value::list(self.privileged.iter().map(|path| shown(path)))),
            ("compared_with_last_release", Value::from(self.compared)),
        ])
    }
}

fn is_covered(paths: &BTreeSet<Vec<u8>>, path: &[u8]) -> bool {
    let ends = (0..=path.len()).filter(|end| *end == path.len() || path[*end] == b'/' || *end == 0);
    ends.into_iter().any(|end| paths.contains(&path[..end]))
}

/// Whether an entry at such a place is what must not be there.
fn is_one(what: What, tree: &Tree, item: Item) -> Result<bool> {
    let EntryKind::File { size } = tree.entry(item).kind else { return Ok(false) };
    if size == 0 {
        return Ok(false);
    }
    if what == What::MachineId {
        // machine-id(5): what an image has so that the first boot counts as one.
        return Ok(tree
            .small_file(item, 64)?
            .is_none_or(|text| text.trim_ascii() != b"uninitialized" && !text.trim_ascii().is_empty()));
    }
    Ok(true)
}

/// How a file gains privileges, if it does.
fn privilege(entry: &Entry) -> Option<String> {
    if !matches!(entry.kind, EntryKind::File { .. }) {
        return None;
    }
    let mut how = Vec::new();
    how.extend((entry.mode & 0o4000 != 0).then_some("setuid"));
    how.extend((entry.mode & 0o2000 != 0).then_some("setgid"));
    how.extend(entry.xattrs.contains_key(XATTR_CAPABILITY).then_some("capabilities"));
    (!how.is_empty()).then(|| how.join(", "))
}

#[cfg(test)]
mod tests {
    use super::Allowed;

    #[test]
    fn only_known_kinds_can_be_allowed() {
        Allowed::parse(&["host-keys".to_owned(), "authorized-keys:root/.ssh/*".to_owned()]).unwrap();
        let error = Allowed::parse(&["host-key".to_owned()]).unwrap_err();
        assert_eq!(error.next_step(), Some("did you mean `host-keys`?"));
        assert!(Allowed::parse(&["host-keys:../x".to_owned()]).is_err());
    }
}
